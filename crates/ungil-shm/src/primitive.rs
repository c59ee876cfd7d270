//! Atomics, the processor's pause and the shared futex, or loom's stand-ins for them.
//!
//! Everything in this crate, and every protocol built on top of it, takes its atomics from
//! here, so that a model checks the very code that runs.

#[cfg(not(loom))]
pub use std::hint::spin_loop;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(loom)]
pub use loom::sync::atomic::{Ordering, fence};

#[cfg(loom)]
pub use modelled::{AtomicU32, AtomicU64, Futex};
#[cfg(not(loom))]
pub use real::Futex;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Someone woke the sleeper, or the word had changed before it slept. It may also be a
    /// false alarm: the sleeper looks for itself.
    Rung,
    /// The deadline has passed.
    TimedOut,
    /// A signal arrived, and its handler may want to be heard.
    Interrupted,
}

#[cfg(not(loom))]
mod real {
    use std::num::NonZeroU32;
    use std::time::Instant;

    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags};
    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::{AtomicU32, Ordering, Wake};

    /// A word on which processes can sleep.
    ///
    /// The kernel finds sleepers by the memory's identity and not by its address, because the
    /// private flag is never set: the same word works in private memory, between threads, and
    /// in a mapping that several processes have at different addresses.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct Futex(AtomicU32);

    impl Futex {
        /// A word with this value and nobody asleep.
        pub fn new(value: u32) -> Futex {
            Futex(AtomicU32::new(value))
        }

        /// The value now.
        #[inline]
        pub fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        /// Adds, wrapping around, and returns the value before. Wakes nobody.
        #[inline]
        pub fn fetch_add(&self, more: u32, order: Ordering) -> u32 {
            self.0.fetch_add(more, order)
        }

        /// Sleeps while the value is the expected one, until woken or until the deadline.
        pub fn wait(&self, expected: u32, deadline: Option<Instant>) -> Wake {
            let deadline = deadline.and_then(on_the_monotonic_clock);
            let slept = futex::wait_bitset(
                &self.0,
                Flags::empty(),
                expected,
                deadline.as_ref(),
                NonZeroU32::MAX,
            );
            match slept {
                Err(Errno::TIMEDOUT) => Wake::TimedOut,
                Err(Errno::INTR) => Wake::Interrupted,
                // AGAIN says that the value had changed already, which is as good as a wake.
                _ => Wake::Rung,
            }
        }

        /// Wakes up to so many sleepers.
        #[inline]
        pub fn wake(&self, sleepers: u32) {
            // The only errors are those of a bad address, which a reference cannot have.
            let _ = futex::wake(&self.0, Flags::empty(), sleepers.min(i32::MAX as u32));
        }
    }

    /// The deadline as the kernel counts, or none where it lies beyond what it can count.
    ///
    /// A deadline and not a time to wait, so that a wait begun again does not begin anew.
    fn on_the_monotonic_clock(deadline: Instant) -> Option<Timespec> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).ok()?,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        clock_gettime(ClockId::Monotonic).checked_add(left)
    }
}

#[cfg(loom)]
mod modelled {
    use std::time::Instant;

    use loom::sync::{Condvar, Mutex, atomic};

    use super::{Ordering, Wake};

    macro_rules! observed {
        ($name:ident, $number:ty) => {
            /// An atomic of which loom sees every race.
            ///
            /// Loom remembers only the last access to a word. When a side reads a word and then
            /// writes it, its own reading hides the other side's earlier one, and loom does not
            /// try what happens if the write comes before that. So each access first touches a
            /// second word in a way that loom takes for a write. The touch is relaxed and orders
            /// nothing else.
            #[derive(Debug)]
            pub struct $name {
                value: atomic::$name,
                touched: atomic::AtomicU32,
            }

            impl $name {
                /// An atomic with this value.
                pub fn new(value: $number) -> $name {
                    $name { value: atomic::$name::new(value), touched: atomic::AtomicU32::new(0) }
                }

                fn touch(&self) -> &atomic::$name {
                    self.touched.fetch_add(0, Ordering::Relaxed);
                    &self.value
                }

                /// As the standard library's.
                pub fn load(&self, order: Ordering) -> $number {
                    self.touch().load(order)
                }

                /// As the standard library's.
                pub fn store(&self, value: $number, order: Ordering) {
                    self.touch().store(value, order);
                }

                /// As the standard library's.
                pub fn swap(&self, value: $number, order: Ordering) -> $number {
                    self.touch().swap(value, order)
                }

                /// As the standard library's.
                pub fn compare_exchange(
                    &self,
                    current: $number,
                    new: $number,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$number, $number> {
                    self.touch().compare_exchange(current, new, success, failure)
                }

                /// As the standard library's.
                pub fn fetch_add(&self, value: $number, order: Ordering) -> $number {
                    self.touch().fetch_add(value, order)
                }

                /// As the standard library's.
                pub fn fetch_sub(&self, value: $number, order: Ordering) -> $number {
                    self.touch().fetch_sub(value, order)
                }

                /// As the standard library's.
                pub fn fetch_or(&self, value: $number, order: Ordering) -> $number {
                    self.touch().fetch_or(value, order)
                }

                /// As the standard library's.
                pub fn fetch_and(&self, value: $number, order: Ordering) -> $number {
                    self.touch().fetch_and(value, order)
                }
            }
        };
    }

    observed!(AtomicU32, u32);
    observed!(AtomicU64, u64);

    /// The kernel's futex, told in a mutex and a condition: the comparison and the falling
    /// asleep are one step, and a wake touches only whoever sleeps already.
    ///
    /// There is no time in a model, so a deadline never comes: a sleeper that nobody wakes is
    /// a deadlock, which the model reports, and that is how a lost wake-up shows.
    #[derive(Debug)]
    pub struct Futex {
        value: AtomicU32,
        bucket: Mutex<()>,
        sleepers: Condvar,
    }

    impl Futex {
        /// A word with this value and nobody asleep.
        pub fn new(value: u32) -> Futex {
            Futex { value: AtomicU32::new(value), bucket: Mutex::new(()), sleepers: Condvar::new() }
        }

        /// The value now.
        pub fn load(&self, order: Ordering) -> u32 {
            self.value.load(order)
        }

        /// Adds, wrapping around, and returns the value before. Wakes nobody.
        pub fn fetch_add(&self, more: u32, order: Ordering) -> u32 {
            self.value.fetch_add(more, order)
        }

        /// Sleeps while the value is the expected one, until woken.
        pub fn wait(&self, expected: u32, _deadline: Option<Instant>) -> Wake {
            let bucket = self.bucket.lock().expect("no model panics while it holds the bucket");
            if self.value.load(Ordering::Relaxed) == expected {
                drop(self.sleepers.wait(bucket).expect("no model panics holding the bucket"));
            }
            Wake::Rung
        }

        /// Wakes up to so many sleepers.
        pub fn wake(&self, sleepers: u32) {
            let bucket = self.bucket.lock().expect("no model panics while it holds the bucket");
            match sleepers {
                0 => {}
                1 => self.sleepers.notify_one(),
                _ => self.sleepers.notify_all(),
            }
            drop(bucket);
        }
    }
}
