//! Payloads some of whose parts are not copied but referred to: they lie in shared memory already.
//!
//! ```text
//! block: REFERENCES | count, then for each part its length and where it lies, then the parts of its
//!        own, aligned as in every payload
//! where: 0, or BY_REFERENCE and its home, whether it is only to be read, and its offset there
//! ```
//!
//! Whoever sends such a payload keeps what it refers to ([`Holds`]) until the payload's block comes
//! back. So there is one message for both, and one way in which a dead worker's things are found.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ungil_shm::{Arena, Block, Segment};

use crate::lent::Lent;
use crate::payload::{self, PART_ALIGNMENT, PARTS_MAX, Payload};
use crate::shared::{Holds, Home, SharedBlock};

/// Set in the first word of a block whose table has references. Without it, it has lengths alone.
const REFERENCES: u64 = 1 << 63;

const BY_REFERENCE: u64 = 1 << 63;
const OF_WORKER: u64 = 1 << 62;
const READONLY: u64 = 1 << 61;
const OFFSET: u64 = READONLY - 1;

/// Bytes in shared memory, with what keeps them there.
#[derive(Debug, Clone)]
pub struct Reference {
    home: Home,
    offset: u64,
    length: u64,
    is_readonly: bool,
    hold: Hold,
}

/// What keeps shared memory in use.
#[derive(Clone)]
pub(crate) enum Hold {
    /// A block of this process's own.
    Block(Arc<SharedBlock>),
    /// What a task brought that referred to it.
    Lent(Arc<Lent>),
}

impl fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Block(block) => block.fmt(formatter),
            Hold::Lent(lent) => lent.fmt(formatter),
        }
    }
}

impl Reference {
    pub(crate) fn new(home: Home, offset: u64, length: u64, hold: Hold) -> Reference {
        Reference { home, offset, length, is_readonly: false, hold }
    }

    /// The same bytes, which the receiver shall only read.
    #[must_use]
    pub fn readonly(self) -> Reference {
        Reference { is_readonly: true, ..self }
    }
}

/// A part of a payload that is to be sent.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Bytes to copy.
    Bytes(&'a [u8]),
    /// Shared memory to refer to.
    Reference(&'a Reference),
}

impl Part<'_> {
    /// How many bytes are copied for it.
    pub fn copied_bytes(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Reference(_) => 0,
        }
    }
}

/// Stores parts for a receiver, and notes what the payload refers to.
///
/// # Errors
/// The system has no memory left for the arena.
pub fn store(arena: &Mutex<Arena>, holds: &Holds, parts: &[Part<'_>]) -> io::Result<Payload> {
    if let [Part::Bytes(only)] = parts {
        return payload::store(arena, &[only]);
    }
    let references = parts.iter().filter_map(|part| match part {
        Part::Bytes(_) => None,
        Part::Reference(reference) => Some(reference.hold.clone()),
    });
    let references: Vec<Hold> = references.collect();
    let bytes: Vec<&[u8]> = parts
        .iter()
        .map(|part| match part {
            Part::Bytes(bytes) => *bytes,
            Part::Reference(_) => &[],
        })
        .collect();
    if references.is_empty() {
        return payload::store(arena, &bytes);
    }
    let lengths = bytes.iter().map(|part| part.len() as u64);
    let (places, total) = payload::layout(table_bytes(parts.len() as u64), lengths)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let (block, segment) = {
        let mut arena = arena.lock().unwrap_or_else(PoisonError::into_inner);
        (arena.allocate(total)?, arena.segment().clone())
    };
    let mut table = Vec::with_capacity(1 + 2 * parts.len());
    table.push(REFERENCES | parts.len() as u64);
    for part in parts {
        table.extend(match part {
            Part::Bytes(bytes) => [bytes.len() as u64, 0],
            Part::Reference(reference) => [reference.length, reference.whereabouts()],
        });
    }
    let table: Vec<u8> = table.into_iter().flat_map(u64::to_ne_bytes).collect();
    let mut is_written = segment.write(block.offset, &table);
    for ((start, _), part) in places.iter().zip(&bytes) {
        is_written &= segment.write(block.offset + start, part);
    }
    if !is_written {
        return Err(io::Error::other("a block of shared memory lies outside of its arena"));
    }
    holds.keep(block.offset, references);
    Ok(Payload::Block(block))
}

impl Reference {
    fn whereabouts(&self) -> u64 {
        let home = if self.home == Home::Worker { OF_WORKER } else { 0 };
        let readonly = if self.is_readonly { READONLY } else { 0 };
        BY_REFERENCE | home | readonly | self.offset
    }
}

fn table_bytes(count: u64) -> u64 {
    8 + 16 * count
}

/// Whether the table of a block that somebody else wrote says that it has references.
pub(crate) fn is_in(segment: &Segment, block: Block) -> bool {
    segment.word(block.offset).is_some_and(|first| first & REFERENCES != 0)
}

/// Where a part lies, as its sender says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whose memory it refers to; `None` if it came along, in the payload's own segment.
    pub(crate) home: Option<Home>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) is_readonly: bool,
}

/// Reads the table of a block with references.
///
/// # Returns
/// Where its parts lie; `None` if the block is damaged. What is referred to may lie anywhere.
pub(crate) fn places(segment: &Segment, block: Block) -> Option<Vec<Place>> {
    let count = segment.word(block.offset)?.checked_sub(REFERENCES)?;
    if count > PARTS_MAX || table_bytes(count) > block.length {
        return None;
    }
    let table = segment.read(block.offset.checked_add(8)?, 16 * count)?;
    let words: Vec<u64> = table
        .chunks_exact(8)
        .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap_or_default()))
        .collect();
    let entries = words.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let own =
        entries.clone().map(|(length, whereabouts)| if whereabouts == 0 { length } else { 0 });
    let (layout, total) = payload::layout(table_bytes(count), own)?;
    if total > block.length {
        return None;
    }
    entries
        .zip(layout)
        .map(|((length, whereabouts), (start, _))| match whereabouts {
            0 => Some(Place {
                home: None,
                offset: block.offset.checked_add(start)?,
                length,
                is_readonly: false,
            }),
            _ if whereabouts & BY_REFERENCE == 0 => None,
            _ => Some(Place {
                home: Some(if whereabouts & OF_WORKER != 0 { Home::Worker } else { Home::Program }),
                offset: whereabouts & OFFSET,
                length,
                is_readonly: whereabouts & READONLY != 0,
            }),
        })
        .collect()
}

const _: () = assert!(PART_ALIGNMENT >= 8);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use ungil_shm::{Arena, Block};

    use super::{BY_REFERENCE, OFFSET, Part, Place, REFERENCES, is_in, places, store};
    use crate::payload::{self, Payload};
    use crate::shared::{Holds, Home, SharedArena};

    fn arena() -> Arc<Mutex<Arena>> {
        Arc::new(Mutex::new(Arena::create(1 << 26, 0).expect("address space")))
    }

    fn block(payload: &Payload) -> Block {
        match payload {
            Payload::Block(block) => *block,
            Payload::Inline(_) => panic!("what has references has a block"),
        }
    }

    #[test]
    fn a_payload_keeps_what_it_refers_to() {
        for home in [Home::Program, Home::Worker] {
            let shared = SharedArena::new(arena(), home);
            let (arena, holds) = (arena(), Holds::default());
            let array = shared.allocate(5000).expect("memory");
            let reference = shared.find(array.start().as_ptr(), 5000).expect("it is in use");
            let readonly = reference.clone().readonly();
            let parts =
                [Part::Bytes(b"head"), Part::Reference(&reference), Part::Reference(&readonly)];
            assert_eq!(parts.iter().map(Part::copied_bytes).sum::<usize>(), 4);
            let block = block(&store(&arena, &holds, &parts).expect("memory"));
            let segment = arena.lock().expect("no panic").segment().clone();
            assert!(is_in(&segment, block));
            assert!(payload::parts(&segment, block).is_none(), "it is another kind of table");
            let found = places(&segment, block).expect("a sound block");
            assert_eq!(segment.read(found[0].offset, 4).as_deref(), Some(&b"head"[..]));
            assert_eq!(found[0].home, None);
            let place = Place {
                home: Some(home),
                offset: found[1].offset,
                length: 5000,
                is_readonly: false,
            };
            assert_eq!(found[1..], [place, Place { is_readonly: true, ..place }]);
            assert!(shared.block(place.offset, 5000).is_some());

            drop((array, reference, readonly));
            assert_ne!(shared.in_use_bytes(), 0);
            drop(holds.take(block.offset));
            assert_eq!(shared.in_use_bytes(), 0);
            assert!(holds.take(block.offset).is_empty(), "it was kept once");
        }
    }

    #[test]
    fn without_references_it_is_any_payload() {
        let (arena, holds) = (arena(), Holds::default());
        let small = store(&arena, &holds, &[Part::Bytes(b"small")]).expect("memory");
        assert!(matches!(small, Payload::Inline(_)));
        let stored = store(&arena, &holds, &[Part::Bytes(b"a"), Part::Bytes(b"b")]);
        let block = block(&stored.expect("memory"));
        let segment = arena.lock().expect("no panic").segment().clone();
        assert!(!is_in(&segment, block));
        assert_eq!(payload::parts(&segment, block).map(|parts| parts.len()), Some(2));
        assert_eq!(places(&segment, block), None);
    }

    /// A block with these words at its beginning.
    fn read(words: &[u64], length: u64) -> Option<Vec<Place>> {
        let arena = arena();
        let mut arena = arena.lock().expect("no panic");
        let block = arena.allocate(256).expect("memory");
        for (index, word) in words.iter().enumerate() {
            assert!(arena.segment().write(block.offset + 8 * index as u64, &word.to_ne_bytes()));
        }
        places(arena.segment(), Block { offset: block.offset, length })
    }

    #[test]
    fn damaged_tables_are_told_from_sound_ones() {
        assert_eq!(read(&[REFERENCES], 256), Some(Vec::new()));
        assert!(read(&[REFERENCES | 2, 64, 0, u64::MAX, BY_REFERENCE], 256).is_some());
        for words in [
            &[1, 64, 0][..],
            &[REFERENCES | 16],
            &[u64::MAX],
            // Parts of its own that reach beyond the block, or around the end of all numbers.
            &[REFERENCES | 1, 193, 0],
            &[REFERENCES | 1, u64::MAX, 0],
            &[REFERENCES | 2, u64::MAX - 63, 0, 64, 0],
            // Neither a part of its own nor a reference.
            &[REFERENCES | 1, 64, 1],
            &[REFERENCES | 1, 64, OFFSET],
        ] {
            assert_eq!(read(words, 256), None, "{words:?}");
        }
        assert_eq!(read(&[REFERENCES | 1, 0, BY_REFERENCE], 23), None);
    }

    proptest! {
        #[test]
        fn whatever_a_table_says_no_part_of_its_own_lies_outside_of_its_block(
            words in prop::collection::vec(
                prop_oneof![0u64..300, any::<u64>(), Just(0), BY_REFERENCE..=u64::MAX], 1..31),
            count in 0u64..16,
            length in 0u64..600,
        ) {
            let words: Vec<u64> = [REFERENCES | count].into_iter().chain(words).collect();
            for place in read(&words, length).unwrap_or_default() {
                if place.home.is_none() {
                    // The only block of its arena lies at its beginning.
                    prop_assert!(place.offset.checked_add(place.length).is_some_and(|end| end <= length));
                }
            }
        }
    }
}
