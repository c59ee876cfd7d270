//! The command line, behind `python -m ungil` and the console script.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::host::launcher;
use crate::interrupt::Interrupt;

/// Runs the command line with `arguments` (without the program's name); returns the exit code.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<String>) -> PyResult<u8> {
    let mut launcher = launcher(py)?;
    let mut interrupt = Interrupt::default();
    let code =
        py.detach(|| ungil_cli::run(&arguments, &mut launcher, &mut || interrupt.is_raised()));
    // A second Ctrl-C while the first one was obeyed says nothing new.
    let impatient = py.check_signals();
    match interrupt.into_error().or(impatient.err()) {
        // The command has already said that it was interrupted.
        Some(error) if !error.is_instance_of::<PyKeyboardInterrupt>(py) => Err(error),
        _ => Ok(code),
    }
}
