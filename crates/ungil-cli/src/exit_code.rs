//! Every exit code, named. `ungil compare --help` lists them, and scripts may rely on them.

use ungil_compare::comparison::{Comparison, Ended, NoteKind};
use ungil_compare::message::Agreement;
use ungil_compare::{Failure, FailureKind};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Every model ran.
    Success = 0,
    /// Some model failed; the others' results are shown.
    ModelFailed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The function cannot be found, imported or called.
    Target = 3,
    /// The items or the arguments are wrong, or do not fit the function.
    Items = 4,
    /// Models gave different results.
    ResultsDiffer = 5,
    /// No model finished.
    NothingFinished = 6,
    /// The function remembers earlier calls, so that repeated runs do not measure its work.
    Memoised = 7,
    /// The result could not be written.
    Unwritten = 8,
    /// ungil itself failed.
    Internal = 70,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The list for `--help`.
pub const HELP: &str = "\
Exit codes:
  0    every model ran
  1    some model failed; the others' results are shown
  2    the command line is wrong
  3    the function cannot be found, imported or called
  4    the items or the arguments are wrong, or do not fit the function
  5    models gave different results
  6    no model finished
  7    the function is memoised (functools.lru_cache and the like)
  8    the result could not be written
  70   ungil itself failed
  130  interrupted by Ctrl-C";

/// The exit code of a comparison that has results.
pub fn of_comparison(comparison: &Comparison) -> ExitCode {
    let measurements = &comparison.measurements;
    let has_internal = measurements.iter().any(|measurement| {
        measurement.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::Internal)
    });
    let differs = measurements
        .iter()
        .any(|measurement| matches!(measurement.agreement, Agreement::Different { .. }));
    let is_memoised = comparison.notes.iter().any(|note| note.kind == NoteKind::Memoised);
    if comparison.course.ended == Ended::Interrupted {
        ExitCode::Interrupted
    } else if has_internal {
        ExitCode::Internal
    } else if measurements.iter().all(|measurement| measurement.failure.is_some()) {
        ExitCode::NothingFinished
    } else if differs {
        ExitCode::ResultsDiffer
    } else if measurements.iter().any(|measurement| measurement.failure.is_some()) {
        ExitCode::ModelFailed
    } else if is_memoised {
        ExitCode::Memoised
    } else {
        ExitCode::Success
    }
}

/// The exit code of a comparison that could not begin.
pub fn of_failure(failure: &Failure) -> ExitCode {
    match failure.kind {
        FailureKind::Items => ExitCode::Items,
        FailureKind::Interrupted => ExitCode::Interrupted,
        FailureKind::Internal => ExitCode::Internal,
        FailureKind::TimedOut => ExitCode::NothingFinished,
        // Only a name on the command line can be unavailable before anything has run.
        FailureKind::Unavailable => ExitCode::Usage,
        FailureKind::Target
        | FailureKind::Raised
        | FailureKind::Exited
        | FailureKind::Unpicklable
        | FailureKind::Forked
        | FailureKind::Died => ExitCode::Target,
    }
}
