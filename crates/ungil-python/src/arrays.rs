//! Memory for arrays that a program and its workers share.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use ungil_pool::{PerProcess, Reference, SharedArena, WorkerShares};

use crate::codec::SharedBuffer;

/// What this process shares with its program, if it is a worker. A child that it forks is none.
static SHARES: PerProcess<OnceLock<Arc<WorkerShares>>> = PerProcess::new();

/// Notes that this process is a worker.
pub fn become_worker(shares: Arc<WorkerShares>) {
    // A process becomes a worker once.
    let _ = SHARES.get(OnceLock::new).set(shares);
}

fn shares() -> Option<&'static Arc<WorkerShares>> {
    SHARES.get(OnceLock::new).get()
}

/// Finds the shared memory to which a receiver can be referred.
pub enum Finder {
    /// The receiver is a worker of this process.
    ToWorker(Arc<SharedArena>),
    /// The receiver is the program whose worker this process is.
    ToProgram,
}

impl Finder {
    /// A reference to these bytes, if the receiver shares them.
    pub fn find(&self, start: *const u8, length: usize) -> Option<Reference> {
        match self {
            Finder::ToWorker(arena) => arena.find(start, length),
            Finder::ToProgram => shares()?.find(start, length),
        }
    }
}

/// Memory that this process shares with its workers, or a worker with its program.
///
/// Args:
///     length: How many bytes. What they are is undefined.
///
/// Returns:
///     A buffer that can be written to.
///
/// Raises:
///     MemoryError: The system gives no shared memory of this length.
#[pyfunction]
pub fn allocate_shared<'py>(length: &Bound<'py, PyAny>) -> PyResult<Bound<'py, SharedBuffer>> {
    let py = length.py();
    let allocated = match length.extract::<usize>() {
        Ok(length) => py.detach(|| match shares() {
            Some(shares) => shares.own().allocate(length),
            None => SharedArena::of_this_process()?.allocate(length),
        }),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory)),
    };
    let block = allocated.map_err(|error| {
        let length = length.str().unwrap_or_else(|_| PyString::new(py, "so many"));
        PyMemoryError::new_err(format!(
            "the system gives no shared memory for an array of {length} bytes: {error}"
        ))
    })?;
    Bound::new(py, SharedBuffer::of_block(block))
}

/// Bytes of shared memory that are in use: this process's own, with what its workers hold of it, or a
/// worker's results.
#[pyfunction]
pub fn shared_bytes() -> PyResult<u64> {
    match shares() {
        Some(shares) => Ok(shares.own().in_use_bytes()),
        None => Ok(SharedArena::of_this_process()?.in_use_bytes()),
    }
}
