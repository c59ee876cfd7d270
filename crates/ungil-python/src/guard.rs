//! What must still be so for something that was written down to be what it was.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

/// One thing that must not have changed; `_pickling` says what the kinds mean.
struct Guard {
    kind: u8,
    holder: Py<PyAny>,
    key: Py<PyAny>,
    value: Py<PyAny>,
}

/// Things that must not have changed.
#[pyclass(frozen, module = "ungil._core")]
pub struct Guards {
    guards: Vec<Guard>,
}

/// Kind, holder, key and value of a guard.
pub type Described = (u8, Py<PyAny>, Py<PyAny>, Py<PyAny>);

#[pymethods]
impl Guards {
    /// The guards that these describe.
    #[new]
    pub fn new(described: Vec<Described>) -> Guards {
        let guard = |(kind, holder, key, value)| Guard { kind, holder, key, value };
        Guards { guards: described.into_iter().map(guard).collect() }
    }

    /// Whether nothing has changed.
    pub fn hold(&self, py: Python<'_>) -> bool {
        self.guards.iter().all(|guard| guard.holds(py))
    }
}

impl Guard {
    fn holds(&self, py: Python<'_>) -> bool {
        match self.kind {
            0 => self.found(py) == Some(self.value.as_ptr()),
            1 => {
                // SAFETY: holder and key are kept alive, and the key is a string.
                let found =
                    unsafe { ffi::PyObject_GetAttr(self.holder.as_ptr(), self.key.as_ptr()) };
                // SAFETY: an attribute is owned, or null with an error set.
                let found = unsafe { Bound::from_owned_ptr_or_err(py, found) };
                found.is_ok_and(|found| found.is(self.value.bind(py)))
            }
            2 => self.has_length(py, self.holder.bind(py).getattr("__dict__")),
            3 => self.has_length(py, Ok(self.holder.bind(py).clone())),
            _ => self.found(py) == Some(ptr::null_mut()),
        }
    }

    /// What the holder, a dict, has under the key; null if nothing, and `None` if that cannot be said.
    fn found(&self, py: Python<'_>) -> Option<*mut ffi::PyObject> {
        // SAFETY: the holder is a dict, kept alive; the result is borrowed and compared.
        let found =
            unsafe { ffi::PyDict_GetItemWithError(self.holder.as_ptr(), self.key.as_ptr()) };
        (!found.is_null() || PyErr::take(py).is_none()).then_some(found)
    }

    fn has_length(&self, py: Python<'_>, container: PyResult<Bound<'_, PyAny>>) -> bool {
        let length = container.and_then(|it| it.len());
        let wanted = self.value.bind(py).extract::<usize>();
        matches!((length, wanted), (Ok(length), Ok(wanted)) if length == wanted)
    }
}
