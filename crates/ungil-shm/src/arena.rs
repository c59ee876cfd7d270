//! Blocks in a growing segment, accounted for in the owner's private memory.
//!
//! Only the owner allocates and frees; the others read and write blocks whose places they
//! were told, and give them back by telling the owner. So nothing that a peer can write to
//! decides where a block lies.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::doorbell::{Bell, Doorbell};
use crate::error::Corrupted;
use crate::extents::{Extent, Extents, Warmth};
use crate::primitive::{AtomicU64, Ordering};
use crate::runs::{self, NOWHERE, Run};
use crate::segment::{PAGE_BYTES, Segment, Shareable, round_up};

/// When more memory than this lies free, some of it goes back to the system.
pub const TRIM_ABOVE_BYTES: u64 = 128 << 20;

/// So much free memory is kept when the rest goes back: less than what makes it go back, so
/// that not every block freed from then on costs a call to the kernel.
pub const TRIM_TO_BYTES: u64 = 96 << 20;

/// So much more is kept at most where memory that had gone back was soon asked for again.
pub const MOST_KEPT_MORE_BYTES: u64 = 384 << 20;

/// An arena grows by at least this much.
const LEAST_GROWTH_BYTES: u64 = 256 << 10;

/// An arena grows by at most this much more than is asked for.
const MOST_GROWTH_BYTES: u64 = 8 << 20;

/// "ungilpl" and the layout's version.
const MAGIC: u64 = u64::from_le_bytes(*b"ungilpl\x01");

/// What lies at the beginning of the pool's arena: the parent's doorbell, which every worker
/// rings.
#[repr(C, align(128))]
pub struct PoolHeader {
    magic: AtomicU64,
    bell: BellLine,
}

#[repr(C, align(128))]
struct BellLine(Doorbell);

const _: () = {
    assert!(size_of::<PoolHeader>() == 256);
    assert!(std::mem::offset_of!(PoolHeader, bell) == 128);
};

// SAFETY: Two atomic words.
unsafe impl Shareable for Doorbell {}
// SAFETY: Atomics, and padding that nobody looks at.
unsafe impl Shareable for PoolHeader {}

/// A range of an arena that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Where it begins, a multiple of 64 bytes.
    pub offset: u64,
    /// How many bytes it holds: at least as many as were asked for.
    pub length: u64,
}

/// The owner's side of a segment: gives blocks out and takes them back.
#[derive(Debug)]
pub struct Arena {
    segment: Arc<Segment>,
    /// Everything from here on is not the arena's yet.
    end: u64,
    extents: Extents,
    /// Long blocks, by where they begin.
    large: HashMap<u64, u64>,
    runs: Vec<Option<Run>>,
    /// Places in `runs` that are free again.
    vacant: Vec<u32>,
    /// For each page the number of the run that it belongs to, or [`NOWHERE`].
    pages: Vec<u32>,
    /// For each class the runs that have room.
    roomy: [Vec<u32>; runs::CLASSES],
    in_use_bytes: u64,
    /// Free blocks in runs.
    idle_bytes: u64,
    trim_above_bytes: u64,
    trim_to_bytes: u64,
    /// How much more than that is kept for now.
    kept_more_bytes: u64,
    /// Whether memory that had gone back was asked for again since some last went back.
    has_regretted: bool,
}

impl Arena {
    /// A new arena whose first so many bytes are left alone.
    pub fn create(reserve_bytes: u64, header_bytes: u64) -> io::Result<Arena> {
        Arena::own(Arc::new(Segment::create_growing(reserve_bytes)?), header_bytes)
    }

    /// A new arena with a [`PoolHeader`] at its beginning.
    pub fn create_pool(reserve_bytes: u64) -> io::Result<Arena> {
        let arena = Arena::create(reserve_bytes, size_of::<PoolHeader>() as u64)?;
        let header = arena.segment.shared::<PoolHeader>(0).ok_or_else(no_header)?;
        header.magic.store(MAGIC, Ordering::Release);
        Ok(arena)
    }

    /// Becomes the owner of a segment that another process created for this one.
    ///
    /// There must be no other owner, and no block of an earlier one may be in use: everything
    /// behind the header counts as free.
    pub fn open_as_owner(
        descriptor: OwnedFd,
        reserve_bytes: u64,
        header_bytes: u64,
    ) -> io::Result<Arena> {
        Arena::own(Arc::new(Segment::open(descriptor, reserve_bytes)?), header_bytes)
    }

    fn own(segment: Arc<Segment>, header_bytes: u64) -> io::Result<Arena> {
        let header = round_up(header_bytes)?;
        segment.grow_to(header)?;
        let end = segment.size().min(segment.reserve()) / PAGE_BYTES * PAGE_BYTES;
        let mut extents = Extents::default();
        // Whether memory backs what lies behind the header is not known, so it counts as cold.
        let length = end.saturating_sub(header);
        extents.insert(Extent { offset: header, length, warmth: Warmth::Cold });
        Ok(Arena {
            segment,
            end: end.max(header),
            extents,
            large: HashMap::new(),
            runs: Vec::new(),
            vacant: Vec::new(),
            pages: Vec::new(),
            roomy: std::array::from_fn(|_| Vec::new()),
            in_use_bytes: 0,
            idle_bytes: 0,
            trim_above_bytes: TRIM_ABOVE_BYTES,
            trim_to_bytes: TRIM_TO_BYTES,
            kept_more_bytes: 0,
            has_regretted: false,
        })
    }

    /// Gives a block out that holds at least so many bytes. What it holds is undefined: what
    /// the last user left, or zeros.
    ///
    /// Memory that the system has already granted is used first. A system that grants no more
    /// makes this an error, and the arena stays as it was.
    #[inline]
    pub fn allocate(&mut self, length: u64) -> io::Result<Block> {
        if length <= runs::LONGEST_SMALL_BYTES {
            self.allocate_small(runs::class_of(length))
        } else {
            let length = round_up(length)?;
            let offset = self.allocate_pages(length)?;
            self.large.insert(offset, length);
            self.in_use_bytes += length;
            Ok(Block { offset, length })
        }
    }

    /// Takes a block back. An offset at which no block in use begins, such as one that has been
    /// freed already, is an error and changes nothing.
    #[inline]
    pub fn free(&mut self, offset: u64) -> Result<(), Corrupted> {
        if let Some((number, index)) = self.small_block(offset) {
            self.free_small(number, index);
            return Ok(());
        }
        let Some(length) = self.large.remove(&offset) else {
            return Err(Corrupted::new("no block in use begins at this offset", offset));
        };
        self.in_use_bytes -= length;
        self.free_pages(offset, length);
        Ok(())
    }

    /// How many bytes the block holds that begins here, if one in use does.
    pub fn length_of(&self, offset: u64) -> Option<u64> {
        match self.small_block(offset) {
            Some((number, _)) => {
                Some(runs::block_bytes(self.runs[number as usize].as_ref()?.class))
            }
            None => self.large.get(&offset).copied(),
        }
    }

    /// Bytes in blocks that were given out.
    pub fn in_use_bytes(&self) -> u64 {
        self.in_use_bytes
    }

    /// Bytes that memory backs and that no block uses.
    pub fn free_bytes(&self) -> u64 {
        self.extents.warm_bytes() + self.idle_bytes
    }

    /// Bytes that went back to the system, or were never asked for, below the arena's end.
    pub fn punched_bytes(&self) -> u64 {
        self.extents.cold_bytes()
    }

    /// The segment in which the blocks lie.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The descriptor to pass on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }

    /// Where a block's bytes are; for the owner's own reading and writing.
    pub fn slice(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        self.segment.bytes(offset, length)
    }

    /// The parent's doorbell, if this is the pool's arena.
    pub fn pool_bell(&self) -> io::Result<Bell> {
        pool_bell(&self.segment)
    }

    #[inline]
    fn allocate_small(&mut self, class: usize) -> io::Result<Block> {
        let number = match self.roomy[class].last() {
            Some(&number) => number,
            None => self.add_run(class)?,
        };
        let length = runs::block_bytes(class);
        let run = self.runs[number as usize].as_mut().expect("a run that is listed exists");
        let offset = run.take().expect("a run that is listed as roomy has room");
        if run.is_full() {
            run.place = NOWHERE;
            self.roomy[class].pop();
        }
        self.in_use_bytes += length;
        self.idle_bytes -= length;
        Ok(Block { offset, length })
    }

    /// The run and the number in it of the small block that begins here and is given out.
    #[inline]
    fn small_block(&self, offset: u64) -> Option<(u32, u32)> {
        let page = usize::try_from(offset / PAGE_BYTES).ok()?;
        let number = *self.pages.get(page)?;
        let run = self.runs.get(number as usize)?.as_ref()?;
        Some((number, run.live_block(offset)?))
    }

    #[inline]
    fn free_small(&mut self, number: u32, index: u32) {
        let run = self.runs[number as usize].as_mut().expect("the block was found in this run");
        let class = run.class;
        run.put(index);
        if run.place == NOWHERE {
            run.place = self.roomy[class].len() as u32;
            self.roomy[class].push(number);
        }
        let unused = run.is_unused();
        let length = runs::block_bytes(class);
        self.in_use_bytes -= length;
        self.idle_bytes += length;
        // The last run with room stays, so that a block that comes and goes does not make and
        // unmake a run each time.
        if unused && self.roomy[class].len() > 1 {
            self.drop_run(number);
        }
    }

    #[cold]
    fn add_run(&mut self, class: usize) -> io::Result<u32> {
        let length = runs::run_bytes(class);
        let offset = self.allocate_pages(length)?;
        let mut run = Run::new(offset, class);
        run.place = self.roomy[class].len() as u32;
        self.idle_bytes += run.free_bytes();
        let number = match self.vacant.pop() {
            Some(number) => number,
            None => {
                self.runs.push(None);
                self.runs.len() as u32 - 1
            }
        };
        self.runs[number as usize] = Some(run);
        self.roomy[class].push(number);
        self.label_pages(offset, length, number);
        Ok(number)
    }

    #[cold]
    fn drop_run(&mut self, number: u32) {
        let Some(run) = self.runs[number as usize].take() else { return };
        self.vacant.push(number);
        self.idle_bytes -= run.free_bytes();
        let roomy = &mut self.roomy[run.class];
        roomy.swap_remove(run.place as usize);
        if let Some(&moved) = roomy.get(run.place as usize)
            && let Some(moved) = self.runs[moved as usize].as_mut()
        {
            moved.place = run.place;
        }
        let length = runs::run_bytes(run.class);
        self.label_pages(run.offset, length, NOWHERE);
        self.free_pages(run.offset, length);
    }

    fn label_pages(&mut self, offset: u64, length: u64, number: u32) {
        let first = (offset / PAGE_BYTES) as usize;
        let behind = first + (length / PAGE_BYTES) as usize;
        if self.pages.len() < behind {
            self.pages.resize(behind, NOWHERE);
        }
        self.pages[first..behind].fill(number);
    }

    /// Finds whole pages: warm ones that fit best, else the first row of neighbours whose cold
    /// parts the system backs again, else by growing.
    fn allocate_pages(&mut self, length: u64) -> io::Result<u64> {
        let offset = match self.extents.best_fit(length) {
            Some(extent) => extent.offset,
            None => match self.extents.first_row(length) {
                Some(offset) => offset,
                None => self.grow(length)?,
            },
        };
        let pieces = self.extents.pieces(offset, length);
        let mut regretted_bytes = 0;
        for piece in &pieces {
            if piece.warmth == Warmth::Cold {
                self.segment.back(piece.offset, piece.length)?;
                regretted_bytes += piece.length;
            }
        }
        if regretted_bytes > 0 {
            self.has_regretted = true;
            let more = self.kept_more_bytes.saturating_add(regretted_bytes);
            self.kept_more_bytes = more.min(MOST_KEPT_MORE_BYTES);
        }
        for piece in pieces {
            self.extents.take(piece);
        }
        Ok(offset)
    }

    /// Grows until the free row at the end is this long, and returns where that row begins.
    fn grow(&mut self, length: u64) -> io::Result<u64> {
        let begin = self.extents.row_before(self.end);
        let needed = length - (self.end - begin);
        let room = self.segment.reserve().saturating_sub(self.end) / PAGE_BYTES * PAGE_BYTES;
        if needed > room {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the arena has reached the end of its address space",
            ));
        }
        let ahead = (self.end / 8).min(MOST_GROWTH_BYTES) / PAGE_BYTES * PAGE_BYTES;
        let step = needed.max(ahead).max(LEAST_GROWTH_BYTES).min(room);
        let grown = match self.segment.back(self.end, step) {
            Ok(()) => step,
            // What is only wanted ahead of need is no reason to fail.
            Err(_) if step > needed => {
                self.segment.back(self.end, needed)?;
                needed
            }
            Err(error) => return Err(error),
        };
        self.extents.insert(Extent { offset: self.end, length: grown, warmth: Warmth::Warm });
        self.end += grown;
        Ok(begin)
    }

    fn free_pages(&mut self, offset: u64, length: u64) {
        self.extents.insert(Extent { offset, length, warmth: Warmth::Warm });
        if self.extents.warm_bytes() > self.trim_above_bytes + self.kept_more_bytes {
            self.trim();
        }
    }

    #[cold]
    fn trim(&mut self) {
        if !std::mem::take(&mut self.has_regretted) {
            self.kept_more_bytes = 0;
        }
        let kept_bytes = self.trim_to_bytes + self.kept_more_bytes;
        while self.extents.warm_bytes() > kept_bytes {
            let Some(longest) = self.extents.longest_warm() else { return };
            let excess = self.extents.warm_bytes() - kept_bytes;
            let cut = longest.length.min(excess);
            let offset = longest.offset + longest.length - cut;
            // A system that does not take memory back leaves it usable here.
            if self.segment.punch(offset, cut).is_err() {
                return;
            }
            self.extents.cool(longest, cut);
        }
    }
}

/// The other processes' side of a segment: reads and writes where it is told.
#[derive(Clone, Debug)]
pub struct View {
    segment: Arc<Segment>,
}

impl View {
    /// A new segment without an owner yet: a worker becomes its owner with
    /// [`Arena::open_as_owner`], given the descriptor and the [`Segment::reserve`].
    pub fn create(reserve_bytes: u64) -> io::Result<View> {
        Ok(View { segment: Arc::new(Segment::create_growing(reserve_bytes)?) })
    }

    /// Maps somebody else's arena. What lies beyond `reserve_bytes` stays out of reach, so it
    /// should be the owner's [`Segment::reserve`].
    pub fn open(descriptor: OwnedFd, reserve_bytes: u64) -> io::Result<View> {
        Ok(View { segment: Arc::new(Segment::open(descriptor, reserve_bytes)?) })
    }

    /// Where these bytes are, or `None` unless the segment holds all of them.
    ///
    /// The pointer is good while any handle to the segment lives, and the bytes may change at
    /// any time under whoever reads them.
    #[inline]
    pub fn slice(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        self.segment.bytes(offset, length)
    }

    /// The segment in which the blocks lie.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The descriptor to pass on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }

    /// The parent's doorbell, if this is the pool's arena.
    pub fn pool_bell(&self) -> io::Result<Bell> {
        pool_bell(&self.segment)
    }
}

fn pool_bell(segment: &Arc<Segment>) -> io::Result<Bell> {
    let header = segment.shared::<PoolHeader>(0).ok_or_else(no_header)?;
    if header.magic.load(Ordering::Acquire) != MAGIC {
        return Err(no_header());
    }
    let offset = std::mem::offset_of!(PoolHeader, bell) as u64;
    Ok(Bell::at(segment.shared::<Doorbell>(offset).ok_or_else(no_header)?))
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the segment has no pool header of this version")
}

#[cfg(test)]
mod tests;
