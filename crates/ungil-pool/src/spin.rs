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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{CREDIT_MAX, FAILURE, LOOKS, PROBE, SUCCESS, Spin};

    /// How often it looks for what never comes.
    fn looks(spin: &Spin) -> u32 {
        let mut looks = 0;
        assert!(!spin.until(|| {
            looks += 1;
            false
        }));
        looks
    }

    #[test]
    fn one_cpu_is_looked_from_once() {
        let spin = Spin::new(false);
        assert_eq!(looks(&spin), 1);
        assert!(spin.until(|| true));
        assert_eq!(spin.credit.load(Ordering::Relaxed), CREDIT_MAX);
    }

    #[test]
    fn what_comes_while_it_looks_is_found() {
        let spin = Spin::new(true);
        let mut count = 0;
        assert!(spin.until(|| {
            count += 1;
            count == 7
        }));
        assert_eq!(count, 7);
        assert_eq!(spin.credit.load(Ordering::Relaxed), CREDIT_MAX);
    }

    #[test]
    fn failures_use_the_credit_up_and_then_one_wait_in_many_probes() {
        let spin = Spin::new(true);
        for failures in 1..=CREDIT_MAX / FAILURE {
            assert!(looks(&spin) >= LOOKS);
            let credit = spin.credit.load(Ordering::Relaxed);
            assert_eq!(credit, CREDIT_MAX - failures * FAILURE);
        }
        let probes = (0..10 * PROBE).filter(|_| looks(&spin) > 1).count();
        assert_eq!(probes, 10);
        // A probe that succeeds earns credit for more.
        while spin.credit.load(Ordering::Relaxed) == 0 {
            spin.until(|| true);
        }
        assert_eq!(spin.credit.load(Ordering::Relaxed), SUCCESS);
        assert!(looks(&spin) >= LOOKS);
        assert_eq!(spin.credit.load(Ordering::Relaxed), 0);
    }
}
