//! Pickling as the standard library does between processes.
//!
//! A pickler and what it writes to are kept from one value to the next: making them takes longer than
//! most values do.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::arrays::Finder;
use crate::call::{call, call_method};
use crate::codec::BufferCollector;

/// As many picklers are kept as threads are likely to pickle at the same time.
const KEPT_MAX: usize = 4;

/// A pickler of protocol 5, large buffers out of band.
pub struct PlainPickler {
    pickler: Py<PyAny>,
    dump: Py<PyAny>,
    clear_memo: Py<PyAny>,
    /// The reducers that the pickler knows.
    reducers: Py<PyAny>,
    /// Takes buffers, and the pickle.
    pub collector: Py<BufferCollector>,
}

static KEPT: Mutex<Vec<PlainPickler>> = Mutex::new(Vec::new());

impl PlainPickler {
    /// One that nobody else uses.
    ///
    /// # Arguments
    /// * `finder` - finds memory that the receiver shares, which is referred to.
    pub fn take(py: Python<'_>, finder: Finder) -> PyResult<PlainPickler> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pickler = kept.map_or_else(|| PlainPickler::new(py), Ok)?;
        pickler.collector.get().find_with(Some(finder));
        Ok(pickler)
    }

    fn new(py: Python<'_>) -> PyResult<PlainPickler> {
        static PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = PICKLER.import(py, "_pickle", "Pickler")?;
        let collector = Bound::new(py, BufferCollector::default())?;
        let keywords = PyDict::new(py);
        keywords.set_item("buffer_callback", &collector)?;
        let pickler = call(class, &(&collector, 5).into_pyobject(py)?, Some(&keywords))?;
        Ok(PlainPickler {
            dump: pickler.getattr("dump")?.unbind(),
            clear_memo: pickler.getattr("clear_memo")?.unbind(),
            pickler: pickler.unbind(),
            reducers: py.None(),
            collector: collector.unbind(),
        })
    }

    /// Pickles a value; `None` if a read-only buffer is in it, which would be read-only at the other
    /// end, and nothing shared. After an error, the pickler is not to be used again.
    pub fn dumps<'py>(
        &mut self,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = value.py();
        static REDUCERS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let reducers = REDUCERS.import(py, "ungil._pickling.pickler", "reducers")?.call0()?;
        if !reducers.is(&self.reducers) {
            self.pickler.bind(py).setattr("dispatch_table", &reducers)?;
            self.reducers = reducers.unbind();
        }
        call(self.dump.bind(py), &(value,).into_pyobject(py)?, None)?;
        // What was pickled is not kept.
        self.clear_memo.bind(py).call0()?;
        let collector = self.collector.get();
        let written = collector.take_written();
        if collector.needs_copies() {
            collector.reset();
            return Ok(None);
        }
        let mut written = written.into_iter();
        match (written.next(), written.len()) {
            (Some(only), 0) => Ok(Some(only.into_bound(py))),
            (first, _) => {
                let parts: Vec<_> = first.into_iter().chain(written).collect();
                let joined = call_method(PyBytes::new(py, b"").as_any(), "join", (parts,))?;
                Ok(Some(joined.cast_into()?))
            }
        }
    }

    /// Keeps it for the next value.
    pub fn give_back(self) {
        self.collector.get().reset();
        self.collector.get().find_with(None);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(self);
        }
    }
}
