//! Memory that a program and its workers use at the same time: what a task or a result refers to
//! instead of carrying a copy.
//!
//! There are two homes of it. The program has one arena, which every worker of every pool maps. A
//! worker has the arena of its results, which the program maps. Nobody else maps either.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ungil_shm::{Arena, Block, Segment, View, reserve_bytes};

use crate::fork::{Origin, PerProcess};
use crate::inheritance::InUse;
use crate::lent::Lent;
use crate::reference::{Hold, Reference};

/// Whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The program's, in the arena that all its workers map.
    Program,
    /// A worker's, in the arena of its results.
    Worker,
}

/// An arena of blocks that two sides use at once.
pub struct SharedArena {
    home: Home,
    arena: Arc<Mutex<Arena>>,
    segment: Arc<Segment>,
    blocks: Holders<SharedBlock>,
    /// Blocks that nobody here uses any more, but forks of this process may.
    inherited: Mutex<Vec<(u64, InUse)>>,
    origin: Origin,
}

/// A block of shared memory. It is given back when the last holder lets go: this process's objects,
/// the tasks that refer to it, and the workers that have those.
pub struct SharedBlock {
    arena: Arc<SharedArena>,
    block: Block,
    start: NonNull<u8>,
    length: usize,
    in_use: InUse,
}

// SAFETY: the memory is mapped as long as the arena lives, wherever its holders are.
unsafe impl Send for SharedBlock {}
// SAFETY: as above; nothing in here reads or writes the memory.
unsafe impl Sync for SharedBlock {}

static CURRENT: PerProcess<Mutex<Weak<SharedArena>>> = PerProcess::new();

impl SharedArena {
    /// This process's arena, for its own workers. It is there as long as somebody uses it: a pool,
    /// or a block.
    ///
    /// # Errors
    /// The system has no descriptors or no address space left.
    pub fn of_this_process() -> io::Result<Arc<SharedArena>> {
        let mut current = lock(CURRENT.get(Mutex::default));
        if let Some(arena) = current.upgrade() {
            return Ok(arena);
        }
        let arena = Arc::new(Mutex::new(Arena::create(reserve_bytes(), 0)?));
        let made = SharedArena::new(arena, Home::Program);
        *current = Arc::downgrade(&made);
        Ok(made)
    }

    /// Shares blocks out of this arena.
    pub(crate) fn new(arena: Arc<Mutex<Arena>>, home: Home) -> Arc<SharedArena> {
        let segment = lock(&arena).segment().clone();
        Arc::new(SharedArena {
            home,
            arena,
            segment,
            blocks: Holders::default(),
            inherited: Mutex::default(),
            origin: Origin::here(),
        })
    }

    /// A block of so many bytes, which begins at a multiple of 64. What it holds is undefined.
    ///
    /// # Errors
    /// The system has no memory left, or this is a fork of the process that made the arena.
    pub fn allocate(self: &Arc<SharedArena>, length: usize) -> io::Result<Arc<SharedBlock>> {
        if !self.origin.is_here() {
            return Err(io::Error::other("the memory belongs to the process that made this one"));
        }
        self.free_inherited();
        let block = lock(&self.arena).allocate(length as u64)?;
        let start = self.segment.bytes(block.offset, block.length);
        let start = start.ok_or_else(|| io::Error::other("a block lies outside of its arena"))?;
        let made = Arc::new(SharedBlock {
            arena: self.clone(),
            block,
            start,
            length,
            in_use: InUse::new(),
        });
        self.blocks.add(block.offset, block.offset + length as u64, &made);
        Ok(made)
    }

    /// A reference to these bytes of the process's memory, if they lie in one of the blocks.
    pub fn find(&self, start: *const u8, length: usize) -> Option<Reference> {
        if !self.origin.is_here() {
            return None;
        }
        let offset = self.segment.offset_of(start, length)?;
        let block = self.block(offset, length as u64)?;
        Some(Reference::new(self.home, offset, length as u64, Hold::Block(block)))
    }

    /// The block that has all these bytes of the segment, if it is in use.
    pub(crate) fn block(&self, offset: u64, length: u64) -> Option<Arc<SharedBlock>> {
        self.blocks.find(offset, offset.checked_add(length)?)
    }

    /// The descriptor to pass on to a worker.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.segment.descriptor().try_clone_to_owned()
    }

    /// Bytes in blocks that are in use here or in forks.
    pub fn in_use_bytes(&self) -> u64 {
        self.free_inherited();
        lock(&self.arena).in_use_bytes()
    }

    fn free(&self, block: Block, in_use: &InUse) {
        if in_use.is_inherited() {
            lock(&self.inherited).push((block.offset, in_use.clone()));
        } else {
            // It was allocated there, and nobody else frees it.
            let _ = lock(&self.arena).free(block.offset);
        }
        self.free_inherited();
    }

    /// Frees what forks had that have ended.
    fn free_inherited(&self) {
        let mut inherited = lock(&self.inherited);
        if inherited.is_empty() {
            return;
        }
        inherited.retain(|(offset, in_use)| {
            let is_inherited = in_use.is_inherited();
            if !is_inherited {
                let _ = lock(&self.arena).free(*offset);
            }
            is_inherited
        });
    }
}

impl fmt::Debug for SharedArena {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedArena").field("home", &self.home).finish_non_exhaustive()
    }
}

impl SharedBlock {
    /// Where it begins. The memory stays mapped as long as the block lives; others may write to it at
    /// any time.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes, as it was asked for.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where these bytes of its arena are.
    pub(crate) fn slice(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        self.arena.segment.bytes(offset, length)
    }
}

impl fmt::Debug for SharedBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedBlock").field("block", &self.block).finish_non_exhaustive()
    }
}

impl Drop for SharedBlock {
    fn drop(&mut self) {
        if self.arena.origin.is_here() {
            // First: where nobody finds it, another block may lie.
            self.arena.blocks.forget(self.block.offset);
            self.arena.free(self.block, &self.in_use);
        }
    }
}

/// What a worker shares with its program.
pub struct WorkerShares {
    /// The worker's own blocks.
    pub(crate) own: Arc<SharedArena>,
    /// The program's arena.
    pub(crate) program: Arc<View>,
    /// What the worker has of it, for its tasks.
    pub(crate) lent: Holders<Lent>,
}

impl WorkerShares {
    pub(crate) fn new(arena: Arc<Mutex<Arena>>, program: View) -> WorkerShares {
        WorkerShares {
            own: SharedArena::new(arena, Home::Worker),
            program: Arc::new(program),
            lent: Holders::default(),
        }
    }

    /// The worker's own blocks: what it allocates there, it can return.
    pub fn own(&self) -> &Arc<SharedArena> {
        &self.own
    }

    /// A reference to these bytes of the process's memory, if the program can follow it.
    pub fn find(&self, start: *const u8, length: usize) -> Option<Reference> {
        if !self.own.origin.is_here() {
            return None;
        }
        if let Some(reference) = self.own.find(start, length) {
            return Some(reference);
        }
        let length = length as u64;
        let offset = self.program.segment().offset_of(start, length as usize)?;
        let lent = self.lent.find(offset, offset.checked_add(length)?)?;
        Some(Reference::new(Home::Program, offset, length, Hold::Lent(lent)))
    }
}

impl fmt::Debug for WorkerShares {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WorkerShares").field("own", &self.own).finish_non_exhaustive()
    }
}

/// Who holds which bytes of a segment.
pub(crate) struct Holders<H> {
    /// By where the bytes begin.
    ranges: Mutex<BTreeMap<u64, Ends<H>>>,
}

/// Where the bytes end, and who holds them.
type Ends<H> = Vec<(u64, Weak<H>)>;

impl<H> Default for Holders<H> {
    fn default() -> Holders<H> {
        Holders { ranges: Mutex::default() }
    }
}

impl<H> Holders<H> {
    pub(crate) fn add(&self, start: u64, end: u64, holder: &Arc<H>) {
        lock(&self.ranges).entry(start).or_default().push((end, Arc::downgrade(holder)));
    }

    /// A holder of all these bytes.
    pub(crate) fn find(&self, start: u64, end: u64) -> Option<Arc<H>> {
        let ranges = lock(&self.ranges);
        // The nearest beginning is nearly always the one: blocks do not overlap, and what tasks
        // refer to are mostly whole blocks.
        let before = ranges.range(..=start).rev();
        before.flat_map(|(_, held)| held).find_map(|(held_end, holder)| {
            // One that has let go meanwhile holds nothing.
            if *held_end >= end { holder.upgrade() } else { None }
        })
    }

    /// Takes out those who have let go of what begins here.
    pub(crate) fn forget(&self, start: u64) {
        let mut ranges = lock(&self.ranges);
        if let Some(held) = ranges.get_mut(&start) {
            held.retain(|(_, holder)| holder.strong_count() > 0);
            if held.is_empty() {
                ranges.remove(&start);
            }
        }
    }
}

/// What the payloads of tasks or results refer to, by where each payload lies. It is kept until the
/// receiver has given the payload back, or has died.
#[derive(Default)]
pub struct Holds {
    by_payload: Mutex<HashMap<u64, Vec<Hold>>>,
}

impl Holds {
    pub(crate) fn keep(&self, payload: u64, holds: Vec<Hold>) {
        lock(&self.by_payload).insert(payload, holds);
    }

    /// What is kept for a payload; to be called before its block can become another's.
    #[must_use]
    pub(crate) fn take(&self, payload: u64) -> Vec<Hold> {
        lock(&self.by_payload).remove(&payload).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arc<SharedArena> {
        let arena = Arena::create(1 << 26, 0).expect("address space");
        SharedArena::new(Arc::new(Mutex::new(arena)), Home::Program)
    }

    fn start(block: &SharedBlock) -> *const u8 {
        block.start().as_ptr()
    }

    #[test]
    fn whatever_lies_in_a_block_is_found_and_nothing_else() {
        let arena = arena();
        let blocks: Vec<_> =
            [1000, 1, 0, 200_000].map(|length| arena.allocate(length).expect("memory")).into();
        for block in &blocks {
            assert!(start(block).addr().is_multiple_of(64));
            assert!(arena.find(start(block), block.length()).is_some());
            assert!(arena.find(start(block), block.length() + 1).is_none());
            assert!(arena.find(start(block).wrapping_sub(1), 2).is_none());
        }
        let (first, last) = (&blocks[0], &blocks[3]);
        assert!(arena.find(start(first).wrapping_add(999), 1).is_some());
        assert!(arena.find(start(last).wrapping_add(70_000), 130_000).is_some());
        assert!(arena.find(start(last).wrapping_add(70_000), 130_001).is_none());
        assert!(arena.find(std::ptr::from_ref(&arena).cast(), 1).is_none());
        assert!(arena.find(start(first), usize::MAX).is_none());
        assert!(arena.block(u64::MAX, 1).is_none());
        assert!(arena.block(0, u64::MAX).is_none());
    }

    #[test]
    fn a_block_is_freed_when_the_last_holder_lets_go() {
        let arena = arena();
        let block = arena.allocate(100_000).expect("memory");
        let place = start(&block);
        let reference = arena.find(place, 10).expect("it is in use");
        drop(block);
        let again = arena.find(place, 100_000).expect("it is held still");
        drop(reference);
        assert_ne!(arena.in_use_bytes(), 0);
        drop(again);
        assert_eq!(arena.in_use_bytes(), 0);
        assert!(arena.find(place, 10).is_none());
        assert_eq!(start(&arena.allocate(100_000).expect("memory")), place, "it is used again");
    }

    #[test]
    fn what_the_system_does_not_give_is_an_error() {
        let arena = arena();
        assert!(arena.allocate(usize::MAX).is_err());
        assert!(arena.allocate(1 << 40).is_err());
        assert_eq!(arena.in_use_bytes(), 0);
        arena.allocate(1 << 20).expect("so much is there");
    }

    #[test]
    fn a_process_has_one_arena_as_long_as_somebody_uses_it() {
        let first = SharedArena::of_this_process().expect("address space");
        let block = first.allocate(1).expect("memory");
        drop(first);
        let second = SharedArena::of_this_process().expect("address space");
        assert!(second.find(start(&block), 1).is_some());
        assert!(Arc::ptr_eq(&second, &block.arena));
    }

    #[test]
    fn any_holder_of_the_bytes_will_do() {
        let holders = Holders::default();
        let held: Vec<Arc<u8>> = (0..4).map(Arc::new).collect();
        holders.add(0, 100, &held[0]);
        holders.add(50, 60, &held[1]);
        holders.add(50, 80, &held[2]);
        holders.add(70, 75, &held[3]);
        let find = |start, end| holders.find(start, end).map(|held| *held);
        assert_eq!(find(50, 60), Some(1));
        assert_eq!(find(50, 61), Some(2));
        assert_eq!(find(70, 80), Some(2));
        assert_eq!(find(70, 81), Some(0));
        assert_eq!(find(99, 101), None);
        drop(held);
        assert_eq!(find(50, 60), None);
        [0, 50, 70, 90].into_iter().for_each(|start| holders.forget(start));
        assert!(lock(&holders.ranges).is_empty());
    }
}
