//! Whether this process is still the one that made a thing.
//!
//! A program may call `fork` while it has pools. The child has copies of their handles, of locks that
//! may be held, and maps the same memory; it must touch none of it. So whatever is bound to a
//! process remembers the generation in which it was made.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// The process in which a thing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// This process.
    pub fn here() -> Origin {
        if WATCH.is_completed() {
            return Origin(GENERATION.load(Ordering::Relaxed));
        }
        WATCH.call_once(|| {
            extern "C" fn in_child() {
                // Only an atomic: the child of a threaded process may take no lock.
                GENERATION.fetch_add(1, Ordering::Relaxed);
            }
            // SAFETY: the handler is async-signal-safe and lives as long as the program.
            unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
        Origin(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether this still is that process, not one forked from it since.
    pub fn is_here(self) -> bool {
        self.0 == GENERATION.load(Ordering::Relaxed)
    }

    /// Locks something of that process's; `None` in one that was forked since, if a thread held the
    /// lock then: it does not exist there, and will never give it back.
    pub(crate) fn lock<T>(self, mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        if self.is_here() {
            Some(mutex.lock().unwrap_or_else(PoisonError::into_inner))
        } else {
            mutex.try_lock().ok()
        }
    }
}

/// Something of which each process has its own. A process that was forked does not touch what it
/// has of its parent's: locks may be held in there by threads that it does not have.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<(Origin, T)>,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Nothing yet.
    pub const fn new() -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// This process's own; made if there is none. It is never freed.
    pub fn get(&'static self, make: impl FnOnce() -> T) -> &'static T {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: what was stored is never freed.
        if let Some((origin, thing)) = unsafe { current.as_ref() }
            && origin.is_here()
        {
            return thing;
        }
        let made = Box::into_raw(Box::new((Origin::here(), make())));
        match self.current.compare_exchange(current, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it was made just now and is never freed.
            Ok(_) => &unsafe { &*made }.1,
            Err(other) => {
                // SAFETY: it was made just now, and nobody has seen it.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: another thread's is never freed.
                &unsafe { &*other }.1
            }
        }
    }
}

impl<T: Send + Sync> Default for PerProcess<T> {
    fn default() -> PerProcess<T> {
        PerProcess::new()
    }
}
