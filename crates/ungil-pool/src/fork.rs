//! Whether this process is still the one that made a thing.
//!
//! A program may call `fork` while it has pools. The child has copies of their handles, of locks that
//! may be held, and maps the same memory; it must touch none of it. So whatever is bound to a
//! process remembers the generation in which it was made.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// The process in which a thing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin(u64);

impl Origin {
    /// This process.
    pub fn here() -> Origin {
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
}
