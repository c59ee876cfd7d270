//! Telling those who did not wait: `wait`, `as_completed`, asyncio, and callbacks.
//!
//! A future of which somebody has touched the condition is *announced* when its task ends: the
//! stdlib's waiters are told, and then callbacks are called. Both need Python, so they have threads of
//! their own, started with the first such future. They are two, because a callback may wait for
//! another future's announcement.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use ungil_pool::{PerProcess, Waiter};

use crate::future::LazyFuture;

/// Things that one thread does one after the other.
struct Line<T> {
    queue: Mutex<VecDeque<T>>,
    waiter: Waiter,
    added: AtomicU64,
    done: AtomicU64,
    /// Threads that wait until everything is done.
    flushers: Mutex<Vec<Arc<Waiter>>>,
}

impl<T> Line<T> {
    fn new() -> Line<T> {
        Line {
            queue: Mutex::new(VecDeque::new()),
            waiter: Waiter::default(),
            added: AtomicU64::new(0),
            done: AtomicU64::new(0),
            flushers: Mutex::new(Vec::new()),
        }
    }

    fn add(&self, thing: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.added.fetch_add(1, Ordering::Release);
        queue.push_back(thing);
        drop(queue);
        self.waiter.notify();
    }

    fn take(&self) -> Option<T> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn finish_one(&self) {
        self.done.fetch_add(1, Ordering::AcqRel);
        let flushers = self.flushers.lock().unwrap_or_else(PoisonError::into_inner);
        flushers.iter().for_each(|flusher| flusher.notify());
    }

    /// Waits until everything that was added before has been done.
    fn flush(&self) {
        let until = self.added.load(Ordering::Acquire);
        let waiter = Arc::new(Waiter::default());
        self.flushers.lock().unwrap_or_else(PoisonError::into_inner).push(waiter.clone());
        while self.done.load(Ordering::Acquire) < until {
            waiter.wait(None);
        }
        self.flushers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| !Arc::ptr_eq(other, &waiter));
    }
}

/// The announcer of one process.
pub struct Announcer {
    futures: Line<Py<LazyFuture>>,
    callbacks: Line<Py<LazyFuture>>,
    /// The threads, once they were started.
    threads: Mutex<Vec<Py<PyAny>>>,
}

static ANNOUNCER: PerProcess<Announcer> = PerProcess::new();

/// The announcer of this process.
pub fn announcer() -> &'static Announcer {
    ANNOUNCER.get(|| Announcer {
        futures: Line::new(),
        callbacks: Line::new(),
        threads: Mutex::new(Vec::new()),
    })
}

impl Announcer {
    /// Announces a future, from any thread, without Python.
    pub fn announce(&self, future: Py<LazyFuture>) {
        self.futures.add(future);
    }

    /// Has the callbacks of an announced future called.
    pub fn call_back(&self, future: Py<LazyFuture>) {
        self.callbacks.add(future);
    }

    /// Starts the threads, if they were not.
    pub fn start(&self, py: Python<'_>) -> PyResult<()> {
        if !self.threads.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(());
        }
        let module = crate::call::import(py, "ungil._futures")?;
        let threads: Vec<Py<PyAny>> = module.call_method0("start_announcer")?.extract()?;
        // Another thread may have started some meanwhile: then these serve as well.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
        Ok(())
    }

    fn is_current_thread(&self, py: Python<'_>) -> PyResult<bool> {
        let current = crate::call::import(py, "threading")?.call_method0("current_thread")?;
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(threads.iter().any(|thread| thread.bind(py).is(&current)))
    }
}

/// What the announcing thread does, for ever.
#[pyfunction]
pub fn run_announcements(py: Python<'_>) {
    let announcer = announcer();
    loop {
        while let Some(future) = announcer.futures.take() {
            let future = future.into_bound(py);
            if LazyFuture::announce(&future) {
                announcer.callbacks.add(future.unbind());
            }
            announcer.futures.finish_one();
        }
        py.detach(|| announcer.futures.waiter.wait(None));
    }
}

/// What the thread of the callbacks does, for ever.
#[pyfunction]
pub fn run_callbacks(py: Python<'_>) {
    let announcer = announcer();
    loop {
        while let Some(future) = announcer.callbacks.take() {
            LazyFuture::call_back(future.bind(py));
            drop(future);
            announcer.callbacks.finish_one();
        }
        py.detach(|| announcer.callbacks.waiter.wait(None));
    }
}

/// Waits until every future that has ended is announced and its callbacks have been called; at
/// once where it is a callback that asks.
#[pyfunction]
pub fn flush_announcements(py: Python<'_>) -> PyResult<()> {
    let announcer = announcer();
    if announcer.threads.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
        || announcer.is_current_thread(py)?
    {
        return Ok(());
    }
    py.detach(|| {
        announcer.futures.flush();
        announcer.callbacks.flush();
    });
    Ok(())
}
