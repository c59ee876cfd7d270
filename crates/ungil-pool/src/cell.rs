//! The place where a task's outcome arrives.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lent::Lent;
use crate::payload::Inline;
use crate::waiter::Waiter;

const PENDING: u32 = 0;
const DONE: u32 = 1;
const CANCELLED: u32 = 2;

/// How a task ended. There is no fourth way: a result, an exception, or an error of ungil's own.
#[derive(Debug)]
pub enum Outcome {
    /// The function returned this.
    Returned(Received),
    /// The function raised this, or its result could not be sent.
    Raised(Received),
    /// The worker that ran it died.
    Crashed(Crash),
    /// The pool could not run it.
    Failed(Failure),
}

/// Data from a worker.
#[derive(Debug)]
pub enum Received {
    /// It came in a slot.
    Inline(Inline),
    /// It lies in the worker's arena.
    Lent(Lent),
}

/// The end of a worker while it ran a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Process number of the worker.
    pub pid: u32,
    /// How it ended, where that is known.
    pub ending: Option<Ending>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Exited(code) => write!(formatter, "exited with code {code}"),
            Ending::Killed(signal) => write!(formatter, "was ended by signal {signal}"),
        }
    }
}

/// Why a pool did not run a task to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The pool is broken, for this reason: no worker can be started, or its initializer failed.
    Broken(Arc<str>),
    /// A worker wrote what no worker writes; it was ended.
    Corrupted {
        /// Process number of the worker.
        pid: u32,
    },
}

/// A task's place for its outcome, shared by its future and the pool.
#[derive(Debug)]
pub struct Cell {
    state: AtomicU32,
    key: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    outcome: Option<Outcome>,
    waiters: Vec<Arc<Waiter>>,
    subscriber: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inner").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl Cell {
    pub(crate) fn new(key: u64) -> Cell {
        Cell {
            state: AtomicU32::new(PENDING),
            key: AtomicU64::new(key),
            inner: Mutex::new(Inner::default()),
        }
    }

    /// A cell of a task that ended before it reached any worker.
    pub fn failed(failure: Failure) -> Cell {
        let cell = Cell::new(u64::MAX);
        cell.deliver(Outcome::Failed(failure));
        cell
    }

    /// The task's number in its pool.
    pub(crate) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    /// Whether the task has ended or was cancelled.
    pub fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) != PENDING
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Acquire) == CANCELLED
    }

    /// Takes the outcome; it is there once.
    pub fn take(&self) -> Option<Outcome> {
        self.lock().outcome.take()
    }

    /// Calls `subscriber` when the task is over, from whichever thread finds that out.
    ///
    /// # Returns
    /// `false`, and the subscriber is dropped, if the task is over already.
    pub fn subscribe(&self, subscriber: Box<dyn FnOnce() + Send>) -> bool {
        let mut inner = self.lock();
        if self.is_over() {
            return false;
        }
        inner.subscriber = Some(subscriber);
        true
    }

    pub(crate) fn deliver(&self, outcome: Outcome) {
        self.end(DONE, Some(outcome));
    }

    pub(crate) fn cancel(&self) {
        self.end(CANCELLED, None);
    }

    /// Adds a thread to wake at the end; `false` if that has come.
    pub(crate) fn add_waiter(&self, waiter: &Arc<Waiter>) -> bool {
        let mut inner = self.lock();
        if self.is_over() {
            return false;
        }
        inner.waiters.push(waiter.clone());
        true
    }

    pub(crate) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        self.lock().waiters.retain(|other| !Arc::ptr_eq(other, waiter));
    }

    fn end(&self, state: u32, outcome: Option<Outcome>) {
        let mut inner = self.lock();
        if self.is_over() {
            return;
        }
        inner.outcome = outcome;
        self.state.store(state, Ordering::Release);
        let waiters = std::mem::take(&mut inner.waiters);
        let subscriber = inner.subscriber.take();
        drop(inner);
        for waiter in waiters {
            waiter.notify();
        }
        if let Some(subscriber) = subscriber {
            subscriber();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
