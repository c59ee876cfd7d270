//! Many calls of one function, one for each item: what is sent for them, and what has come back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ungil_shm::Block;

use crate::cell::{Outcome, Received};
use crate::fork::Origin;
use crate::ledger::Key;
use crate::pace::Pace;
use crate::payload::Inline;
use crate::task::{Function, StoredBlock};
use crate::waiter::Waiter;

pub use ungil_shm::span::ITEMS_MAX;

/// Bytes from which items can follow, and which every message about them carries.
pub const DESCRIPTION_BYTES: usize = ungil_shm::span::SPAN_INLINE_BYTES - 8;

/// What items are.
#[derive(Debug)]
pub enum Source {
    /// They follow from these bytes and their numbers: up to [`DESCRIPTION_BYTES`] bytes.
    Described(Inline),
    /// They lie one behind the other in a block.
    Stored {
        /// The block.
        block: StoredBlock,
        /// Where each item ends, from the beginning of the block. Items may yet be added.
        ends: Mutex<Vec<u32>>,
    },
}

/// Items that one function is called with.
#[derive(Debug)]
pub struct Items {
    pub(crate) function: Arc<Function>,
    pub(crate) source: Source,
    pub(crate) pace: Arc<Pace>,
}

impl Items {
    /// Items of a call of `map`, at whose pace they are sent.
    pub fn new(function: Arc<Function>, source: Source, pace: Arc<Pace>) -> Items {
        Items { function, source, pace }
    }

    /// The bytes of some of the items, and the description.
    pub(crate) fn part(&self, first: u32, count: u32) -> Option<(Block, &[u8])> {
        match &self.source {
            Source::Described(bytes) => Some((Block { offset: 0, length: 0 }, bytes.bytes())),
            Source::Stored { block, ends } => {
                let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                let end = |items: u32| match items {
                    0 => Some(0),
                    _ => ends.get(items as usize - 1).copied().map(u64::from),
                };
                let (start, end) = (end(first)?, end(first.checked_add(count)?)?);
                let offset = block.block().offset + start;
                Some((Block { offset, length: end.checked_sub(start)? }, &[]))
            }
        }
    }
}

/// A batch to which items are added while others of it are run.
#[derive(Debug)]
pub struct Growing {
    pub(crate) items: Arc<Items>,
    pub(crate) results: Arc<Results>,
    /// How many items it has.
    pub(crate) count: u32,
    /// The last of its tasks that waited; 0 if there was none.
    pub(crate) key: Key,
    /// How many bytes of its block are written.
    pub(crate) bytes: u32,
}

impl Growing {
    /// Where outcomes arrive.
    pub fn results(&self) -> &Arc<Results> {
        &self.results
    }

    /// How many items it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether so many more items of so many bytes together have room in it.
    pub fn has_room(&self, items: usize, bytes: usize) -> bool {
        let Source::Stored { block, .. } = &self.items.source else { return false };
        u64::from(self.bytes) + bytes as u64 <= block.block().length.min(u32::MAX.into())
            && u64::from(self.count) + items as u64 <= ITEMS_MAX.into()
    }
}

/// Outcomes of items that follow one another.
#[derive(Debug)]
pub struct Run {
    /// The first item's number in the batch.
    pub first: u32,
    /// How many items there are.
    pub count: u32,
    /// What became of them.
    pub outcome: RunOutcome,
}

/// What became of items.
#[derive(Debug)]
pub enum RunOutcome {
    /// The results, encoded one behind the other.
    Values {
        /// The bytes.
        received: Logged,
        /// So many results at the beginning have come before.
        skip: u32,
    },
    /// The one item ended so, or all of them did.
    Ended(Outcome),
    /// They were cancelled.
    Cancelled,
}

/// Bytes of a worker's log of results.
#[derive(Debug)]
pub enum Logged {
    /// As the worker sent them.
    Received(Received),
    /// Copied while the worker went on, or after its end.
    Copied(Vec<u8>),
}

impl Logged {
    /// A private copy; `None` if there is none where the worker said.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Logged::Received(Received::Inline(inline)) => Some(inline.bytes().to_vec()),
            Logged::Received(Received::Lent(lent)) => lent.bytes(),
            Logged::Copied(bytes) => Some(bytes),
        }
    }
}

/// Where the outcomes of a batch's items arrive.
#[derive(Debug)]
pub struct Results {
    origin: Origin,
    /// The item that somebody waits for, and one more; 0 is none.
    watched: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: BTreeMap<u32, Run>,
    waiters: Vec<Arc<Waiter>>,
}

impl Default for Results {
    fn default() -> Results {
        Results {
            origin: Origin::here(),
            watched: AtomicU64::new(0),
            inner: Mutex::new(Inner::default()),
        }
    }
}

impl Results {
    /// Takes the outcomes that begin with an item, if they have arrived.
    pub fn take(&self, first: u32) -> Option<Run> {
        self.lock()?.runs.remove(&first)
    }

    pub(crate) fn has(&self, first: u32) -> bool {
        self.lock().is_some_and(|inner| inner.runs.contains_key(&first))
    }

    /// Notes that somebody waits for an item.
    pub(crate) fn watch(&self, item: u32) {
        self.watched.store(u64::from(item) + 1, Ordering::Relaxed);
    }

    /// Whether somebody waits, or has waited last, for one of these items.
    pub(crate) fn is_watched(&self, first: u32, count: u32) -> bool {
        let watched = self.watched.load(Ordering::Relaxed);
        let first = u64::from(first);
        watched > first && watched <= first + u64::from(count)
    }

    /// Delivers outcomes. Each item is in one run.
    pub(crate) fn deliver(&self, run: Run) {
        let Some(mut inner) = self.lock() else { return };
        inner.runs.insert(run.first, run);
        let waiters = std::mem::take(&mut inner.waiters);
        drop(inner);
        waiters.iter().for_each(|waiter| waiter.notify());
    }

    pub(crate) fn add_waiter(&self, first: u32, waiter: &Arc<Waiter>) -> bool {
        let Some(mut inner) = self.lock() else { return true };
        if inner.runs.contains_key(&first) {
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

    /// `None` only in a forked child, where the thread that held the lock does not exist.
    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        self.origin.lock(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use ungil_shm::{Arena, Block, Wake};

    use super::{DESCRIPTION_BYTES, Items, Results, Run, RunOutcome, Source};
    use crate::pace::Pace;
    use crate::payload::Inline;
    use crate::task::{Function, StoredBlock};
    use crate::waiter::Waiter;

    fn items(source: impl FnOnce(&Arc<Mutex<Arena>>) -> Source) -> Items {
        let arena = Arc::new(Mutex::new(Arena::create(1 << 26, 0).expect("address space")));
        let block = StoredBlock::allocate(&arena, 8).expect("memory");
        let source = source(&arena);
        Items::new(Arc::new(Function::new(1, block)), source, Arc::new(Pace::default()))
    }

    #[test]
    fn a_part_of_stored_items_is_where_they_lie() {
        let mut offset = 0;
        let items = items(|arena| {
            let block = StoredBlock::allocate(arena, 30).expect("memory");
            offset = block.block().offset;
            Source::Stored { block, ends: Mutex::new(vec![10, 10, 30]) }
        });
        let part = |first, count| items.part(first, count).map(|(block, _)| block);
        assert_eq!(part(0, 3), Some(Block { offset, length: 30 }));
        assert_eq!(part(1, 1), Some(Block { offset: offset + 10, length: 0 }));
        assert_eq!(part(2, 1), Some(Block { offset: offset + 10, length: 20 }));
        assert_eq!(part(3, 0), Some(Block { offset: offset + 30, length: 0 }));
        assert_eq!(part(2, 2), None);
        assert_eq!(part(u32::MAX, 2), None);
    }

    #[test]
    fn described_items_have_their_description_in_every_part() {
        let bytes = [7; DESCRIPTION_BYTES];
        let items = items(|_| Source::Described(Inline::new(&bytes).expect("it fits")));
        let (block, described) = items.part(5, 1000).expect("any part");
        assert_eq!((block.length, described), (0, &bytes[..]));
    }

    fn cancelled(first: u32, count: u32) -> Run {
        Run { first, count, outcome: RunOutcome::Cancelled }
    }

    #[test]
    fn runs_are_taken_once_and_where_they_begin() {
        let results = Results::default();
        results.deliver(cancelled(3, 2));
        assert!(results.has(3) && !results.has(4));
        assert!(results.take(4).is_none());
        assert_eq!(results.take(3).map(|run| run.count), Some(2));
        assert!(results.take(3).is_none());
    }

    #[test]
    fn who_waits_is_told_of_every_run() {
        let results = Results::default();
        let waiter = Arc::new(Waiter::default());
        assert!(results.add_waiter(0, &waiter));
        results.deliver(cancelled(1, 1));
        assert_eq!(waiter.wait(None), Wake::Rung);
        assert!(results.add_waiter(0, &waiter));
        results.remove_waiter(&waiter);
        results.deliver(cancelled(0, 1));
        assert_eq!(waiter.wait(Some(Instant::now())), Wake::TimedOut);
        assert!(!results.add_waiter(0, &waiter));
    }

    #[test]
    fn the_item_that_is_waited_for_is_watched() {
        let results = Results::default();
        assert!(!results.is_watched(0, 10));
        results.watch(4);
        assert!(results.is_watched(0, 5) && results.is_watched(4, 1));
        assert!(!results.is_watched(0, 4) && !results.is_watched(5, 100));
    }
}
