//! Which forks of this process may still use the memory that it had when they were made.
//!
//! Shared memory stays shared in a child that the program forks: what it had inherited would change
//! under it if its parent gave the memory to somebody else. So memory that was in use at a fork is
//! kept until that child, and whatever it has forked, has ended or has executed another program.
//!
//! The kernel tells: at every fork there is a pipe, whose one end the child keeps and whose other
//! end hangs up when nobody has that any more.

use std::cell::Cell;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::fork::{Origin, PerProcess};

/// Pieces of memory that a fork would have to be asked about. While there are none, forks cost
/// nothing.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// How many forks have been noted, in this process and in those it was forked from.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// How many of this process's children are in [`CHILDREN`].
static WATCHED: AtomicUsize = AtomicUsize::new(0);
static CHILDREN: PerProcess<Mutex<Vec<Child>>> = PerProcess::new();
static WATCH: Once = Once::new();

thread_local! {
    /// The pipe of the fork that this thread is about to make: the parent's end, and the child's.
    static PIPE: Cell<Option<(RawFd, RawFd)>> = const { Cell::new(None) };
}

struct Child {
    /// How many forks had been noted with it.
    fork: u64,
    /// Hangs up when it has ended.
    alive: OwnedFd,
}

/// Something in shared memory that is in use, for as long as this or a clone of it lives.
#[derive(Debug)]
pub struct InUse {
    /// How many forks had been noted when it came into use.
    since: u64,
}

impl InUse {
    /// From now on.
    pub fn new() -> InUse {
        // It has handlers of its own, which must not be set by one of these.
        let _ = Origin::here();
        WATCH.call_once(|| {
            // SAFETY: the handlers live as long as the program, and the child's takes no lock.
            unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
        });
        IN_USE.fetch_add(1, Ordering::SeqCst);
        InUse { since: FORKS.load(Ordering::SeqCst) }
    }

    /// Whether a process lives that was forked since then, and so may use it still.
    pub fn is_inherited(&self) -> bool {
        if WATCHED.load(Ordering::SeqCst) == 0 || FORKS.load(Ordering::SeqCst) == self.since {
            return false;
        }
        let mut children = children();
        forget_ended(&mut children);
        children.iter().any(|child| child.fork > self.since)
    }
}

impl Clone for InUse {
    fn clone(&self) -> InUse {
        IN_USE.fetch_add(1, Ordering::SeqCst);
        InUse { since: self.since }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if IN_USE.fetch_sub(1, Ordering::SeqCst) > 1 || WATCHED.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut children = children();
        // Nobody need be asked any more, unless something has come into use meanwhile.
        if IN_USE.load(Ordering::SeqCst) == 0 {
            children.clear();
            WATCHED.store(0, Ordering::SeqCst);
        }
    }
}

fn children() -> MutexGuard<'static, Vec<Child>> {
    CHILDREN.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn forget_ended(children: &mut Vec<Child>) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut asked: Vec<PollFd<'_>> =
        children.iter().map(|child| PollFd::new(&child.alive, PollFlags::empty())).collect();
    // While the system does not say that a child has ended, it counts as alive.
    let have_ended: Vec<bool> = match poll(&mut asked, Some(&now)) {
        Ok(1..) => asked.iter().map(|one| !one.revents().is_empty()).collect(),
        _ => return,
    };
    let mut have_ended = have_ended.into_iter();
    children.retain(|_| !have_ended.next().unwrap_or(false));
    WATCHED.store(children.len(), Ordering::SeqCst);
}

extern "C" fn before_fork() {
    #[cfg(test)]
    if IS_UNWATCHED.get() {
        return;
    }
    if IN_USE.load(Ordering::SeqCst) == 0 {
        return;
    }
    let mut children = children();
    forget_ended(&mut children);
    let fork = FORKS.fetch_add(1, Ordering::SeqCst) + 1;
    // Without a descriptor nobody can be asked about this child. Never to use the memory again
    // would harm more programs than it would help.
    if let Ok((alive, kept)) = pipe_with(PipeFlags::CLOEXEC) {
        PIPE.set(Some((alive.as_raw_fd(), kept.into_raw_fd())));
        // Noted before the fork: from then on another thread may free something.
        children.push(Child { fork, alive });
        WATCHED.store(children.len(), Ordering::SeqCst);
    }
}

extern "C" fn in_parent() {
    if let Some((_, kept)) = PIPE.take() {
        // SAFETY: it was made for this fork, and in this process nobody else has it.
        drop(unsafe { OwnedFd::from_raw_fd(kept) });
    }
}

extern "C" fn in_child() {
    WATCHED.store(0, Ordering::SeqCst);
    if let Some((alive, _)) = PIPE.take() {
        // The other end stays open for as long as this process, or one that it forks, may live.
        // SAFETY: the list that has it is the parent's, of which this process forgets its copy.
        drop(unsafe { OwnedFd::from_raw_fd(alive) });
    }
}

#[cfg(test)]
thread_local! {
    static IS_UNWATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Forks, and takes no note of it: what other tests of this process let go of is free at once.
#[cfg(test)]
pub(crate) fn fork_unwatched() -> i32 {
    IS_UNWATCHED.set(true);
    // SAFETY: the caller sees to it that the child does what a child of a threaded process may do.
    let pid = unsafe { libc::fork() };
    IS_UNWATCHED.set(false);
    pid
}
