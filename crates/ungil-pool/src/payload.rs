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
pub(crate) const PARTS_MAX: u64 = 1 << 24;

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

/// Where the parts of a block lie behind its table, from the block's beginning.
pub(crate) fn layout(
    table_bytes: u64,
    lengths: impl ExactSizeIterator<Item = u64>,
) -> Option<(Vec<(u64, u64)>, u64)> {
    let mut end = table_bytes;
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let start = end.checked_next_multiple_of(PART_ALIGNMENT)?;
        end = start.checked_add(length)?;
        parts.push((start, length));
    }
    Some((parts, end))
}

fn table_bytes(count: usize) -> u64 {
    8 + 8 * count as u64
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
    let (places, total) =
        layout(table_bytes(parts.len()), parts.iter().map(|part| part.len() as u64))
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
    let (mut places, total) = layout(table_bytes(lengths.len()), lengths)?;
    if block.offset.checked_add(total)? > block_end {
        return None;
    }
    for (start, _) in &mut places {
        *start += block.offset;
    }
    Some(places)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;
    use ungil_shm::{Arena, Block};

    use super::{INLINE_BYTES, Inline, PART_ALIGNMENT, PARTS_MAX, Payload, parts, store};

    fn arena() -> Mutex<Arena> {
        Mutex::new(Arena::create(1 << 26, 0).expect("address space"))
    }

    fn block(payload: &Payload) -> Block {
        match payload {
            Payload::Block(block) => *block,
            Payload::Inline(_) => panic!("it should not fit into a slot"),
        }
    }

    #[test]
    fn one_small_part_needs_no_block() {
        let arena = arena();
        for length in [0, 1, INLINE_BYTES] {
            let part = vec![3; length];
            match store(&arena, &[&part]) {
                Ok(Payload::Inline(inline)) => assert_eq!(inline.bytes(), part),
                other => panic!("{other:?}"),
            }
        }
        assert!(Inline::new(&[0; INLINE_BYTES + 1]).is_none());
        assert!(Inline::new(&[0; 300]).is_none());
        assert!(Inline::empty().bytes().is_empty());
        assert_eq!(arena.lock().expect("no panic").in_use_bytes(), 0);
        block(&store(&arena, &[&[0; INLINE_BYTES + 1]]).expect("memory"));
        block(&store(&arena, &[b"a", b"b"]).expect("memory"));
        block(&store(&arena, &[]).expect("memory"));
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_takes_nothing() {
        let arena = Mutex::new(Arena::create(1 << 20, 0).expect("address space"));
        let reserve = arena.lock().expect("no panic").segment().reserve();
        let part = vec![0; reserve as usize];
        assert!(store(&arena, &[&part, &part]).is_err());
        assert_eq!(arena.lock().expect("no panic").in_use_bytes(), 0);
    }

    /// A block with these words at its beginning.
    fn damaged(arena: &Mutex<Arena>, words: &[u64]) -> Option<Vec<(u64, u64)>> {
        let mut arena = arena.lock().expect("no panic");
        let block = arena.allocate(256).expect("memory");
        for (index, word) in words.iter().enumerate() {
            assert!(arena.segment().write(block.offset + 8 * index as u64, &word.to_ne_bytes()));
        }
        parts(arena.segment(), block)
    }

    #[test]
    fn damaged_tables_are_told_from_sound_ones() {
        let arena = arena();
        assert_eq!(damaged(&arena, &[0]).map(|it| it.len()), Some(0));
        assert_eq!(damaged(&arena, &[2, 64, 128]).map(|it| it.len()), Some(2));
        for words in [
            // More parts than the table has room for, or than there are numbers.
            &[32, 0][..],
            &[PARTS_MAX + 1],
            &[u64::MAX],
            &[u64::MAX / 8],
            // Parts that reach beyond the block, or around the end of all numbers.
            &[1, 193],
            &[2, 64, 129],
            &[1, u64::MAX],
            &[1, u64::MAX - 63],
            &[2, u64::MAX - 127, 64],
            &[3, 64, u64::MAX - 127, 64],
        ] {
            assert_eq!(damaged(&arena, words), None, "{words:?}");
        }
    }

    #[test]
    fn blocks_that_lie_nowhere_have_no_parts() {
        let arena = arena();
        let sound = block(&store(&arena, &[b"a", b"b"]).expect("memory"));
        let arena = arena.lock().expect("no panic");
        let size = arena.segment().size();
        for (offset, length) in [
            (size, 64),
            (size - 4, 64),
            (u64::MAX, 1),
            (u64::MAX - 7, 8),
            (sound.offset, 8),
            (sound.offset, 23),
        ] {
            assert_eq!(parts(arena.segment(), Block { offset, length }), None, "{offset} {length}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_found_aligned_where_they_were_stored(
            lengths in prop::collection::vec(0usize..5000, 0..12),
        ) {
            let arena = arena();
            let stored: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(index, length)| vec![index as u8 + 1; *length])
                .collect();
            let slices: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
            let Payload::Block(block) = store(&arena, &slices).expect("memory") else {
                prop_assert!(lengths.len() == 1 && lengths[0] <= INLINE_BYTES);
                return Ok(());
            };
            let arena = arena.lock().expect("no panic");
            let places = parts(arena.segment(), block).expect("a sound block");
            prop_assert_eq!(places.len(), stored.len());
            for ((offset, length), part) in places.iter().zip(&stored) {
                prop_assert_eq!(offset % PART_ALIGNMENT, 0);
                prop_assert_eq!(&arena.segment().read(*offset, *length), &Some(part.clone()));
            }
        }

        #[test]
        fn whatever_a_table_says_no_part_lies_outside_of_its_block(
            words in prop::collection::vec(
                prop_oneof![0u64..300, any::<u64>(), (u64::MAX - 300)..=u64::MAX], 1..32),
            length in 0u64..600,
        ) {
            let arena = arena();
            let mut arena = arena.lock().expect("no panic");
            let mut block = arena.allocate(256).expect("memory");
            for (index, word) in words.iter().enumerate() {
                let bytes = word.to_ne_bytes();
                prop_assert!(arena.segment().write(block.offset + 8 * index as u64, &bytes));
            }
            block.length = length;
            for (offset, part) in parts(arena.segment(), block).unwrap_or_default() {
                prop_assert!(offset >= block.offset);
                prop_assert!(part <= length && offset - block.offset <= length - part);
            }
        }
    }
}
