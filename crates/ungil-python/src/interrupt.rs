//! Ctrl-C, and whatever else a signal handler of Python's raises, while the core works detached.

use pyo3::prelude::*;

/// Remembers the first exception that a signal handler raised.
#[derive(Default)]
pub struct Interrupt {
    raised: Option<PyErr>,
}

impl Interrupt {
    /// Runs pending signal handlers; `true` once one of them has raised.
    ///
    /// Python runs handlers in its main thread only, so from any other thread this stays `false`.
    pub fn is_raised(&mut self) -> bool {
        if self.raised.is_none() {
            self.raised = Python::attach(|py| py.check_signals().err());
        }
        self.raised.is_some()
    }

    /// The exception, for the caller to raise.
    pub fn into_error(self) -> Option<PyErr> {
        self.raised
    }
}
