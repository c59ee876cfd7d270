//! Whether it pays to look again and again before going to sleep.
//!
//! Sleeping and being woken costs two context switches and about 5 us of the waker's time. Looking
//! again costs the CPU to somebody else, if there is somebody. So spinning must earn its keep: it is
//! paid from a credit that successes raise and failures lower. (With a fixed spin and one core kept
//! busy, round trips took 50 to 200 us instead of 4 to 7.)

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const CREDIT_MAX: u32 = 16;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 4;
/// At zero credit one wait in this many spins, to notice when it would pay again.
const PROBE: u32 = 32;
/// How long one spin lasts at most.
const BUDGET: Duration = Duration::from_micros(20);
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;

/// The credit of one waiting place.
#[derive(Debug)]
pub struct Spin {
    credit: AtomicU32,
    waits: AtomicU32,
    is_allowed: bool,
}

impl Spin {
    /// Full of credit; `is_allowed` is false where there is one CPU only.
    pub fn new(is_allowed: bool) -> Spin {
        Spin { credit: AtomicU32::new(CREDIT_MAX), waits: AtomicU32::new(0), is_allowed }
    }

    /// Looks until `is_there` or the budget is spent; says whether it came.
    pub fn until(&self, mut is_there: impl FnMut() -> bool) -> bool {
        // The counters are hints: threads that update them at once may lose an update.
        let credit = self.credit.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        if !self.is_allowed || (credit == 0 && !waits.is_multiple_of(PROBE)) {
            return is_there();
        }
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if is_there() {
                    self.credit.store((credit + SUCCESS).min(CREDIT_MAX), Ordering::Relaxed);
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > BUDGET {
                self.credit.store(credit.saturating_sub(FAILURE), Ordering::Relaxed);
                return false;
            }
        }
    }
}
