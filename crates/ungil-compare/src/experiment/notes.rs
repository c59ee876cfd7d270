//! What the reader should know besides the figures.

use ungil_advise::{Model, quantity};

use crate::comparison::{Note, NoteKind};
use crate::experiment::Experiment;
use crate::host::PAYLOAD_LIMIT_BYTES;
use crate::lane::Lane;
use crate::message::Agreement;

/// A later run this many times faster than the first one was remembered, or prepared by it.
const REMEMBERED: f64 = 10.0;
/// Characters shown of what the function printed.
const PRINTED_CHARACTERS: usize = 80;
/// The first run has to last this many seconds for that to be worth a note.
const WORTH_REMEMBERING_S: f64 = 0.005;

impl Experiment<'_> {
    pub(super) fn note(&mut self, kind: NoteKind, message: String) {
        self.notes.push(Note { kind, message });
    }

    /// Differences are the function's errors, unless it differs from itself already.
    pub(super) fn settle_agreement(&mut self) {
        let function = self.loaded.function.clone();
        let varies = self
            .lanes
            .first()
            .is_some_and(|serial| matches!(serial.agreement, Agreement::Different { .. }));
        if varies {
            for lane in &mut self.lanes {
                if matches!(lane.agreement, Agreement::Different { .. }) {
                    let reason = "the results vary from run to run, even serially".to_owned();
                    lane.agreement = Agreement::CannotTell { reason };
                }
            }
            let message = format!(
                "{function}() gives other results from run to run even in a serial loop (random \
                 numbers, the time, state that it keeps?), so the models' results cannot be \
                 compared. Seed it, or pass what varies as an item."
            );
            return self.note(NoteKind::ResultsVary, message);
        }
        let differing: Vec<String> = self
            .lanes
            .iter()
            .filter_map(|lane| match &lane.agreement {
                Agreement::Different { task, tasks, expected, found } => Some(format!(
                    "{}: {tasks} of {} results differ from the serial run's; task {task} gave \
                     {found} instead of {expected}",
                    lane.label, self.loaded.tasks
                )),
                _ => None,
            })
            .collect();
        for difference in differing {
            let message = format!(
                "{difference}. {function}() relies on state that tasks share or on their order; \
                 its times under this model say little until that is mended."
            );
            self.note(NoteKind::ResultsDiffer, message);
        }
        self.note_cannot_tell();
    }

    fn note_cannot_tell(&mut self) {
        let reason = self.lanes.iter().find_map(|lane| match &lane.agreement {
            Agreement::CannotTell { reason } => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = reason {
            self.note(NoteKind::Job, format!("results were not compared: {reason}."));
        } else if self.reference.is_none() && self.lanes.iter().any(Lane::is_usable) {
            let message = format!(
                "results were not compared: what {}() returns cannot be pickled, or is larger \
                 than {} in all.",
                self.loaded.function,
                quantity::bytes(PAYLOAD_LIMIT_BYTES as f64)
            );
            self.note(NoteKind::Job, message);
        }
    }

    pub(super) fn note_job(&mut self) {
        for warning in &self.loaded.warnings {
            self.notes.push(Note { kind: NoteKind::Job, message: warning.clone() });
        }
        self.note_asyncio();
        self.note_memory();
        let function = &self.loaded.function;
        let lines: usize = self.lanes.iter().map(|lane| lane.printed.lines).sum();
        let beginning = self.lanes.iter().find_map(|lane| {
            let text = String::from_utf8_lossy(&lane.printed.beginning).into_owned();
            text.lines().find(|line| !line.trim().is_empty()).map(shortened)
        });
        if let Some(first) = beginning {
            let message = format!(
                "{function}() printed {} line{}, kept off this screen; the first: \"{first}\". \
                 Printing is part of the times.",
                quantity::count(lines.max(1) as u64),
                if lines <= 1 { "" } else { "s" },
            );
            self.note(NoteKind::Printed, message);
        }
        let left = self.lanes.iter().map(|lane| lane.left_running).max().unwrap_or(0);
        if left > 0 {
            let message = format!(
                "{} left {left} process{} running after its tasks had returned; all of them were \
                 ended with the comparison.",
                self.loaded.function.clone() + "()",
                if left == 1 { "" } else { "es" },
            );
            self.note(NoteKind::LeftRunning, message);
        }
    }

    fn note_asyncio(&mut self) {
        if self.loaded.is_coroutine_function {
            return;
        }
        let is_shown = self.lanes.iter().any(|lane| lane.setup.model == Model::Asyncio);
        let function = &self.loaded.function;
        let message = if is_shown {
            format!(
                "asyncio: {function}() is an ordinary function, so its calls ran in threads \
                 (asyncio.to_thread); the row counts as threads."
            )
        } else if self.plan.models.is_none() {
            format!(
                "asyncio: {function}() is an ordinary function; under asyncio it would run in \
                 threads (asyncio.to_thread), so see threads."
            )
        } else {
            return;
        };
        self.note(NoteKind::Model, message);
    }

    /// A function that remembers its results makes every later round cheap.
    fn note_memory(&mut self) {
        let function = &self.loaded.function;
        if let Some(wrapper) = &self.loaded.memoised_by {
            let message = format!(
                "{function}() is memoised by {wrapper}: after the first run of a process its \
                 calls only look results up, so \"repeated\" measures the memory. Compare \
                 {function}.__wrapped__ to measure the work."
            );
            return self.note(NoteKind::Memoised, message);
        }
        let Some(serial) = self.lanes.first() else { return };
        let (first_s, later_s) = (serial.first_run_s.unwrap_or(0.0), serial.expected_s());
        if first_s > WORTH_REMEMBERING_S && first_s > REMEMBERED * later_s {
            let message = format!(
                "the first run of {function}() took {}, later ones {}: it remembers results, or \
                 its first call prepares something. \"Once\" includes that, \"repeated\" does \
                 not.",
                quantity::duration(first_s),
                quantity::duration(later_s)
            );
            self.note(NoteKind::Prepared, message);
        }
    }

    pub(super) fn note_disturbance(&mut self, stolen_share: f64, pressure: Option<f64>) {
        if stolen_share > 0.02 {
            let message = format!(
                "the machine was not quiet: the hypervisor gave {} of the CPU time to others.",
                quantity::percent(stolen_share)
            );
            self.note(NoteKind::Disturbed, message);
        }
        if let Some(share) = pressure.filter(|share| *share > 0.25) {
            let message = format!(
                "the machine was busy before the comparison began: tasks waited for a CPU in {} \
                 of the last 10 s.",
                quantity::percent(share)
            );
            self.note(NoteKind::Disturbed, message);
        }
        let outlying: usize =
            self.lanes.iter().map(|lane| ungil_advise::outliers(&lane.times_s).len()).sum();
        let rounds: usize = self.lanes.iter().map(|lane| lane.times_s.len()).sum();
        if outlying > 0 && outlying * 10 >= rounds {
            let message = format!(
                "{outlying} of {rounds} measured runs were outliers (kept, and flagged in the \
                 JSON): something else was running."
            );
            self.note(NoteKind::Disturbed, message);
        }
    }
}

/// The beginning of a line that the function printed.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(PRINTED_CHARACTERS) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}
