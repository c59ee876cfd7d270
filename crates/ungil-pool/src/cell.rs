//! The place where a task's outcome arrives.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fork::Origin;
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

/// What is called when a task is over.
pub(crate) type Subscriber = Box<dyn FnOnce() + Send>;

/// A task's place for its outcome, shared by its future and the pool.
#[derive(Debug)]
pub struct Cell {
    state: AtomicU32,
    origin: Origin,
    key: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    outcome: Option<Outcome>,
    waiters: Vec<Arc<Waiter>>,
    subscriber: Option<Subscriber>,
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
            origin: Origin::here(),
            key: AtomicU64::new(key),
            inner: Mutex::new(Inner::default()),
        }
    }

    /// A cell of a task that ended before it reached any worker.
    pub fn failed(failure: Failure) -> Cell {
        let cell = Cell::new(u64::MAX);
        // Nobody can have subscribed to a cell that nobody has seen.
        drop(cell.deliver(Outcome::Failed(failure)));
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
        self.lock()?.outcome.take()
    }

    /// Calls `subscriber` when the task is over, from whichever thread finds that out.
    ///
    /// # Returns
    /// `false`, and the subscriber is dropped, if the task is over already.
    pub(crate) fn subscribe(&self, subscriber: Subscriber) -> bool {
        let Some(mut inner) = self.lock() else { return true };
        if self.is_over() {
            return false;
        }
        inner.subscriber = Some(subscriber);
        true
    }

    /// Ends the task. Whoever had subscribed is for the caller to call, without the pool's lock.
    #[must_use]
    pub(crate) fn deliver(&self, outcome: Outcome) -> Option<Subscriber> {
        self.end(DONE, Some(outcome))
    }

    /// As with [`deliver`](Cell::deliver).
    #[must_use]
    pub(crate) fn cancel(&self) -> Option<Subscriber> {
        self.end(CANCELLED, None)
    }

    /// Adds a thread to wake at the end; `false` if that has come.
    pub(crate) fn add_waiter(&self, waiter: &Arc<Waiter>) -> bool {
        let Some(mut inner) = self.lock() else { return true };
        if self.is_over() {
            return false;
        }
        inner.waiters.push(waiter.clone());
        true
    }

    pub(crate) fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        if let Some(mut inner) = self.lock() {
            inner.waiters.retain(|other| !Arc::ptr_eq(other, waiter));
        }
    }

    fn end(&self, state: u32, outcome: Option<Outcome>) -> Option<Subscriber> {
        let mut inner = self.lock()?;
        if self.is_over() {
            return None;
        }
        inner.outcome = outcome;
        self.state.store(state, Ordering::Release);
        let waiters = std::mem::take(&mut inner.waiters);
        let subscriber = inner.subscriber.take();
        drop(inner);
        for waiter in waiters {
            waiter.notify();
        }
        subscriber
    }

    /// `None` only in a forked child, where the thread that held the lock does not exist.
    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        self.origin.lock(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use ungil_shm::Wake;

    use super::{Cell, Crash, Ending, Failure, Outcome};
    use crate::inheritance::fork_unwatched;
    use crate::waiter::Waiter;

    fn crashed() -> Outcome {
        Outcome::Crashed(Crash { pid: 7, ending: Some(Ending::Killed(9)) })
    }

    #[test]
    fn the_first_end_counts() {
        let cell = Cell::new(1);
        assert!(!cell.is_over());
        assert!(cell.take().is_none());
        assert!(cell.deliver(crashed()).is_none());
        assert!(cell.is_over() && !cell.is_cancelled());
        assert!(cell.cancel().is_none());
        assert!(!cell.is_cancelled());
        drop(cell.deliver(Outcome::Failed(Failure::Corrupted { pid: 1 })));
        assert!(matches!(cell.take(), Some(Outcome::Crashed(Crash { pid: 7, .. }))));
        assert!(cell.take().is_none());
    }

    #[test]
    fn a_cancelled_task_has_no_outcome() {
        let cell = Cell::new(1);
        drop(cell.cancel());
        drop(cell.deliver(crashed()));
        assert!(cell.is_over() && cell.is_cancelled());
        assert!(cell.take().is_none());
    }

    #[test]
    fn the_subscriber_is_handed_out_once_and_not_called_under_any_lock() {
        let cell = Arc::new(Cell::new(1));
        let (inner, (heard, hears)) = (cell.clone(), std::sync::mpsc::channel());
        assert!(cell.subscribe(Box::new(move || heard.send(inner.take().is_some()).unwrap())));
        let subscriber = cell.deliver(crashed()).expect("somebody has subscribed");
        assert!(hears.try_recv().is_err());
        subscriber();
        assert_eq!(hears.recv(), Ok(true));
        assert!(!cell.subscribe(Box::new(|| panic!("it is over"))));
    }

    #[test]
    fn waiters_are_told_unless_they_have_left() {
        let cell = Cell::new(1);
        let (stays, leaves) = (Arc::new(Waiter::default()), Arc::new(Waiter::default()));
        assert!(cell.add_waiter(&stays));
        assert!(cell.add_waiter(&leaves));
        cell.remove_waiter(&leaves);
        drop(cell.cancel());
        assert_eq!(stays.wait(None), Wake::Rung);
        assert_eq!(leaves.wait(Some(Instant::now())), Wake::TimedOut);
        assert!(!cell.add_waiter(&leaves));
    }

    #[test]
    fn a_forked_child_does_not_wait_for_a_lock_that_nobody_there_holds() {
        let cell = Arc::new(Cell::new(1));
        let waiter = Arc::new(Waiter::default());
        let held = cell.lock();
        // The child makes calls that are made for this, and ends.
        let pid = fork_unwatched();
        if pid == 0 {
            // SAFETY: if it waits after all, it is ended.
            unsafe { libc::alarm(5) };
            let is_fine = cell.take().is_none()
                && cell.subscribe(Box::new(|| {}))
                && cell.add_waiter(&waiter)
                && cell.cancel().is_none();
            cell.remove_waiter(&waiter);
            // SAFETY: it does not return.
            unsafe { libc::_exit(i32::from(!is_fine)) };
        }
        drop(held);
        let pid = rustix::process::Pid::from_raw(pid).expect("a child was made");
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        let status = ended.expect("it is our child").expect("it was waited for").1;
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
    }

    #[test]
    fn endings_read_well() {
        assert_eq!(Ending::Exited(3).to_string(), "exited with code 3");
        assert_eq!(Ending::Killed(9).to_string(), "was ended by signal 9");
        assert!(Cell::failed(Failure::Corrupted { pid: 1 }).is_over());
    }
}
