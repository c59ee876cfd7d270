//! The one place where Python exceptions and the core's failures become each other.

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;
use ungil_compare::{Failure, FailureKind};

/// An exception raised in the facade's own code, as a failure.
///
/// The facade raises `ungil._failures.Failure` for everything it foresees; anything else is an
/// error of ungil's, and is shown as such.
pub fn to_failure(py: Python<'_>, error: &PyErr) -> Failure {
    read_failure(error.value(py)).unwrap_or_else(|_| {
        let traceback = error.traceback(py).and_then(|traceback| traceback.format().ok());
        Failure {
            kind: FailureKind::Internal,
            message: format!("ungil failed to carry out a step of the comparison: {error}"),
            detail: traceback,
        }
    })
}

fn read_failure(value: &Bound<'_, pyo3::exceptions::PyBaseException>) -> PyResult<Failure> {
    let kind: String = value.getattr("kind")?.extract()?;
    Ok(Failure {
        kind: serde_json::from_value(serde_json::Value::String(kind))
            .unwrap_or(FailureKind::Internal),
        message: value.getattr("message")?.extract()?,
        detail: value.getattr("detail")?.extract()?,
    })
}

/// A failure, as the exception that a caller of the Python function sees.
pub fn to_exception(py: Python<'_>, failure: Failure) -> PyErr {
    if failure.kind == FailureKind::Interrupted {
        return PyKeyboardInterrupt::new_err(());
    }
    let kind = serde_json::to_value(failure.kind).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("internal");
    let raise = || {
        let class = py.import("ungil._failures")?.getattr("Failure")?;
        class.call1((kind, failure.message.as_str(), failure.detail.as_deref()))
    };
    raise().map_or_else(|error| error, PyErr::from_value)
}

/// An error of the operating system, as Python's `OSError`.
pub fn os_error(error: rustix::io::Errno) -> PyErr {
    PyOSError::new_err((error.raw_os_error(), error.to_string()))
}
