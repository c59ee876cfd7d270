//! How long items take, and so how many are worth sending together.
//!
//! An item alone costs more to send than a small function takes, so items travel in chunks. How many
//! are in one follows from what was measured: the time that nine in ten items stay below. A mean
//! would not do: one slow item makes it useless for a thousand fast ones. A chunk that turns out too
//! long is cut by whoever runs out of work, so being wrong costs little.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long a chunk should take, in ns: a thousand times what sending it costs.
const CHUNK_NS: u64 = 2_000_000;
/// Each worker should have so many chunks of what still waits.
const CHUNKS_PER_WORKER: u64 = 4;

/// Four buckets for each power of two.
const STEPS: usize = 4;
const BUCKETS: usize = 64 * STEPS;
/// With so many measurements older ones begin to count less.
const MEMORY: u32 = 64;

/// How many items took about how long.
#[derive(Debug, Clone)]
pub struct ItemTimes {
    counts: Box<[u32; BUCKETS]>,
    total: u32,
}

impl Default for ItemTimes {
    fn default() -> ItemTimes {
        ItemTimes { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl ItemTimes {
    /// Notes that so many items took about so long each, in ns.
    pub fn note(&mut self, item_ns: u64, count: u32) {
        self.counts[bucket(item_ns)] += count;
        self.total += count;
    }

    /// The time in ns that nine in ten items stay below, within a fifth; `None` if there was none.
    pub fn p90_ns(&self) -> Option<u64> {
        let wanted = (u64::from(self.total) * 9).div_ceil(10);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            *count > 0 && seen >= wanted
        });
        reached.map(upper_end_ns)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// Lets what was noted so far count half.
    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.total = self.counts.iter().sum();
    }
}

fn bucket(item_ns: u64) -> usize {
    let item_ns = item_ns.max(STEPS as u64);
    let power = item_ns.ilog2() as usize;
    // The two bits behind the first one.
    let step = (item_ns >> (power - 2)) as usize & (STEPS - 1);
    power * STEPS + step
}

fn upper_end_ns(bucket: usize) -> u64 {
    let (power, step) = (bucket / STEPS, bucket % STEPS);
    let quarter = 1u64 << power.saturating_sub(2);
    quarter.saturating_mul((STEPS + step + 1) as u64).saturating_sub(1)
}

/// The pace of one call of `map`, which may be many batches.
#[derive(Debug, Default)]
pub struct Pace {
    inner: Mutex<Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    times: ItemTimes,
    /// Items that no worker has.
    waiting: u64,
}

impl Pace {
    /// A pace of which something is known beforehand: the time in ns that nine in ten items stay
    /// below.
    pub fn measured(p90_ns: u64) -> Pace {
        let pace = Pace::default();
        pace.note(p90_ns);
        pace
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a worker has measured: that nine in ten of some items took no longer.
    pub(crate) fn note(&self, p90_ns: u64) {
        let mut inner = self.lock();
        if inner.times.total >= MEMORY {
            inner.times.halve();
        }
        inner.times.note(p90_ns, 1);
    }

    /// Notes that so many more items wait.
    pub(crate) fn add_waiting(&self, count: u32) {
        self.lock().waiting += u64::from(count);
    }

    /// Notes that so many items wait no longer.
    pub(crate) fn remove_waiting(&self, count: u32) {
        let mut inner = self.lock();
        inner.waiting = inner.waiting.saturating_sub(count.into());
    }

    /// How many items to send together, at least one.
    pub(crate) fn chunk(&self, workers: u32) -> u32 {
        let inner = self.lock();
        // The first item of all goes alone: nothing is known of it.
        let Some(p90_ns) = inner.times.p90_ns() else { return 1 };
        let share = inner.waiting / (CHUNKS_PER_WORKER * u64::from(workers.max(1)));
        (CHUNK_NS / p90_ns.max(1)).min(share).clamp(1, u64::from(u32::MAX >> 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ItemTimes, MEMORY, Pace, bucket, upper_end_ns};

    proptest! {
        #[test]
        fn a_bucket_holds_times_within_a_fourth(item_ns in 4..u64::MAX) {
            let end = upper_end_ns(bucket(item_ns));
            prop_assert!(end >= item_ns);
            prop_assert!(end as f64 <= item_ns as f64 * 1.25 + 1.0);
        }
    }

    #[test]
    fn times_too_short_to_be_told_apart_are_one() {
        assert_eq!(bucket(0), bucket(4));
        assert!(upper_end_ns(bucket(0)) <= 5);
    }

    #[test]
    fn one_slow_item_in_a_hundred_does_not_count() {
        let mut times = ItemTimes::default();
        assert_eq!(times.p90_ns(), None);
        times.note(1_000_000_000, 1);
        assert!(times.p90_ns().is_some_and(|it| it >= 1_000_000_000));
        times.note(100, 99);
        assert!(times.p90_ns().is_some_and(|it| it < 130));
    }

    /// What chunks are with so much waiting and these measurements.
    fn chunk(waiting: u32, measured: impl IntoIterator<Item = u64>) -> u32 {
        let pace = Pace::default();
        pace.add_waiting(waiting);
        measured.into_iter().for_each(|p90_ns| pace.note(p90_ns));
        pace.chunk(2)
    }

    #[test]
    fn pain_15_a_slow_first_item_is_forgotten_and_a_slow_turn_is_noticed() {
        assert_eq!(chunk(1_000_000, []), 1);
        assert_eq!(chunk(1_000_000, [1_000_000_000]), 1);
        let slow_first = std::iter::once(1_000_000_000).chain([100; 12]);
        assert!(chunk(1_000_000, slow_first) > 10_000);
        let slow_later = [100; 1000].into_iter().chain([10_000_000; 8]);
        assert_eq!(chunk(1_000_000, slow_later), 1);
    }

    #[test]
    fn each_worker_has_several_chunks_of_what_waits() {
        assert_eq!(chunk(800, [100; 5]), 100);
        assert_eq!(chunk(3, [100; 5]), 1);
        let pace = Pace::default();
        pace.add_waiting(800);
        pace.note(100);
        pace.remove_waiting(400);
        assert_eq!(pace.chunk(2), 50);
        pace.remove_waiting(1000);
        assert_eq!(pace.chunk(0), 1);
    }

    #[test]
    fn measurements_do_not_pile_up() {
        let pace = Pace::default();
        (0..100_000).for_each(|_| pace.note(7));
        assert!(pace.lock().times.total <= MEMORY);
    }
}
