//! What travels with a task or a result: bytes in the ring's slot, or a block of an arena.
//!
//! A block begins with a table of its parts, so that buffers lie aligned and can be used where they
//! are. The reader checks the table: who wrote it may be dying.

use std::io;
use std::sync::Mutex;

use ungil_shm::ring::INLINE_BYTES;
use ungil_shm::{Arena, Block, Segment};

/// Every part of a block begins at a multiple of this, in bytes: a cache line, and enough for any
/// element type of an array.
pub const PART_ALIGNMENT: u64 = 64;

/// More parts than any value has buffers; a greater number in a block is damage.
const PARTS_MAX: u64 = 1 << 24;

/// Encoded data on its way.
#[derive(Debug)]
pub enum Payload {
    /// It fits into a slot.
    Inline(Inline),
    /// It lies in an arena of the sender's.
    Block(Block),
}

/// Up to [`INLINE_BYTES`] bytes.
#[derive(Debug, Clone, Copy)]
pub struct Inline {
    length: u8,
    bytes: [u8; INLINE_BYTES],
}

impl Inline {
    /// A copy of these bytes, if they fit.
    pub fn new(bytes: &[u8]) -> Option<Inline> {
        let mut inline = Inline { length: bytes.len().try_into().ok()?, bytes: [0; INLINE_BYTES] };
        inline.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(inline)
    }

    /// No bytes.
    pub fn empty() -> Inline {
        Inline { length: 0, bytes: [0; INLINE_BYTES] }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Where the parts of a block lie, from the block's beginning.
fn layout(lengths: impl ExactSizeIterator<Item = u64>) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut end = 8 + 8 * lengths.len() as u64;
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let start = end.checked_next_multiple_of(PART_ALIGNMENT)?;
        end = start.checked_add(length)?;
        parts.push((start, length));
    }
    Some((parts, end))
}

/// Stores parts for a receiver: in the payload itself if there is one small part, else in a block
/// of the arena, each part copied once.
///
/// # Errors
/// The system has no memory left for the arena.
pub fn store(arena: &Mutex<Arena>, parts: &[&[u8]]) -> io::Result<Payload> {
    if let [only] = parts
        && let Some(inline) = Inline::new(only)
    {
        return Ok(Payload::Inline(inline));
    }
    let (places, total) = layout(parts.iter().map(|part| part.len() as u64))
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let (block, segment) = {
        let mut arena = arena.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (arena.allocate(total)?, arena.segment().clone())
    };
    let mut table = Vec::with_capacity(8 + 8 * parts.len());
    table.extend_from_slice(&(parts.len() as u64).to_ne_bytes());
    for part in parts {
        table.extend_from_slice(&(part.len() as u64).to_ne_bytes());
    }
    // Copied without the lock: nobody else has this block.
    let mut written = segment.write(block.offset, &table);
    for ((start, _), part) in places.iter().zip(parts) {
        written &= segment.write(block.offset + start, part);
    }
    if !written {
        return Err(io::Error::other("a block of shared memory lies outside of its arena"));
    }
    Ok(Payload::Block(block))
}

/// Reads the table of a block that somebody else wrote.
///
/// # Returns
/// For each part its offset in the segment and its length; `None` if the block is damaged.
pub fn parts(segment: &Segment, block: Block) -> Option<Vec<(u64, u64)>> {
    let word = |offset: u64| -> Option<u64> {
        let bytes = segment.read(offset, 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let block_end = block.offset.checked_add(block.length)?;
    let count = word(block.offset)?;
    if count > PARTS_MAX || 8 + 8 * count > block.length {
        return None;
    }
    let table = segment.read(block.offset.checked_add(8)?, 8 * count)?;
    let lengths =
        table.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default()));
    let (mut places, total) = layout(lengths)?;
    if block.offset.checked_add(total)? > block_end {
        return None;
    }
    for (start, _) in &mut places {
        *start += block.offset;
    }
    Some(places)
}
