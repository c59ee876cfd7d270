//! The caller's ticker, as engines written in Python use it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use ungil_compare::ticker;

/// Ticks every 5 ms in the calling thread and remembers how late each tick was.
#[pyclass(frozen, module = "ungil._core")]
pub struct Ticker {
    ticks: Mutex<ticker::Ticker>,
}

impl Ticker {
    /// Wraps a running ticker.
    pub fn new(ticks: ticker::Ticker) -> Ticker {
        Ticker { ticks: Mutex::new(ticks) }
    }

    /// The ticks so far; the ticker goes on from here with none.
    pub fn take(&self) -> ticker::Ticker {
        let mut ticks = self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut ticks, ticker::Ticker::starting_at(Instant::now()))
    }

    fn with<R>(&self, act: impl FnOnce(&mut ticker::Ticker) -> R) -> R {
        act(&mut self.ticks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Ticker {
    /// Sleeps without the GIL until the next tick is due, and takes its turn.
    fn wait(&self, py: Python<'_>) {
        let pause: Duration = self.with(|ticks| ticks.until_due(Instant::now()));
        py.detach(|| std::thread::sleep(pause));
        // Only now does the calling thread run Python again.
        self.turn();
    }

    /// Takes the calling thread's turn now.
    fn turn(&self) {
        self.with(|ticks| ticks.turn(Instant::now()));
    }

    /// Seconds until the next tick is due.
    fn until_due_s(&self) -> f64 {
        self.with(|ticks| ticks.until_due(Instant::now()).as_secs_f64())
    }
}

/// Nanoseconds on the clock that all processes of the machine share.
#[pyfunction]
pub fn monotonic_ns() -> u64 {
    ungil_compare::host::monotonic_ns()
}
