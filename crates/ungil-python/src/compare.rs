//! `ungil.compare`, behind the facade.

use pyo3::prelude::*;
use ungil_compare::experiment::{Observer, Stage};
use ungil_compare::plan::Announcement;
use ungil_compare::{Plan, run};

use crate::error::to_exception;
use crate::host::launcher;
use crate::interrupt::Interrupt;

#[derive(Default)]
struct Quiet {
    interrupt: Interrupt,
}

impl Observer for Quiet {
    fn announce(&mut self, _: &Announcement) {}

    fn stage(&mut self, _: Stage, _: f64) {}

    fn is_interrupted(&mut self) -> bool {
        self.interrupt.is_raised()
    }
}

/// Runs the comparison that `plan` (JSON) describes; `payload` is what travels as bytes.
///
/// Returns the comparison as JSON and as plain text of `width` columns.
#[pyfunction]
pub fn compare(
    py: Python<'_>,
    plan: &str,
    payload: &[u8],
    width: usize,
) -> PyResult<(String, String)> {
    let plan: Plan = serde_json::from_str(plan)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    let plan = Plan { payload: payload.to_vec(), ..plan };
    let mut launcher = launcher(py)?;
    let mut observer = Quiet::default();
    let outcome = py.detach(|| run(&plan, &mut launcher, &mut observer));
    // The caller asked to stop, and gets what the signal's handler raised.
    if let Some(error) = observer.interrupt.into_error() {
        return Err(error);
    }
    let comparison = outcome.map_err(|failure| to_exception(py, failure))?;
    let text = ungil_report::text::render(&comparison, &ungil_report::text::Style::plain(width));
    Ok((ungil_report::json::render(&[comparison]), text))
}
