//! Messages from one producer to one consumer, in slots whose states tell what has begun.
//!
//! A slot goes from empty to ready (producer), to taken (consumer) and back to empty
//! (consumer); or from ready to revoked (producer) and back to empty (consumer). So after a
//! consumer's death the producer can tell what it had begun from what it had not, and what
//! is not begun can be given to another consumer. Each side keeps its position in private
//! memory: the states of the slots are all that is shared.

use crate::error::Corrupted;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::shared::Shared;
use crate::span::Span;

/// Words of a message that are always there.
pub const WORDS: usize = 6;

/// Bytes that a message can carry besides its words.
pub const INLINE_BYTES: usize = 72;

pub(crate) const INLINE_WORDS: usize = INLINE_BYTES / 8;

const EMPTY: u32 = SlotState::Empty as u32;
const READY: u32 = SlotState::Ready as u32;
const TAKEN: u32 = SlotState::Taken as u32;
const REVOKED: u32 = SlotState::Revoked as u32;

/// Where a slot is on its way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// The producer may fill it.
    Empty = 0,
    /// It holds a message that the consumer has not begun.
    Ready = 1,
    /// The consumer has begun with the message and has not released it.
    Taken = 2,
    /// The producer took the message back; the consumer passes over it.
    Revoked = 3,
}

impl SlotState {
    #[inline]
    fn check(raw: u32) -> Result<SlotState, Corrupted> {
        match raw {
            EMPTY => Ok(SlotState::Empty),
            READY => Ok(SlotState::Ready),
            TAKEN => Ok(SlotState::Taken),
            REVOKED => Ok(SlotState::Revoked),
            other => Err(Corrupted::new("a slot's state must be 0, 1, 2 or 3", other.into())),
        }
    }
}

/// One place in a ring: two cache lines, which processors like to fetch in pairs.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Slot {
    state: AtomicU32,
    length: AtomicU32,
    words: [AtomicU64; WORDS],
    pub(crate) inline: [AtomicU64; INLINE_WORDS],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Slot>() == 128);
    assert!(align_of::<Slot>() == 128);
    assert!(std::mem::offset_of!(Slot, length) == 4);
    assert!(std::mem::offset_of!(Slot, words) == 8);
    assert!(std::mem::offset_of!(Slot, inline) == 56);
};

impl Slot {
    /// An empty slot in private memory.
    fn new() -> Slot {
        Slot {
            state: AtomicU32::new(EMPTY),
            length: AtomicU32::new(0),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            inline: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Writes the message, word by word: the peer may be writing here too if it has gone
    /// astray, and then the words are mixed up, which is not for this side to suffer from.
    #[inline]
    fn fill(&self, message: &Message) {
        self.length.store(u32::from(message.length), Ordering::Relaxed);
        for (place, word) in self.words.iter().zip(message.words) {
            place.store(word, Ordering::Relaxed);
        }
        let whole = message.inline.as_chunks::<8>().0;
        let used = usize::from(message.length).div_ceil(8);
        for (place, bytes) in self.inline.iter().zip(whole).take(used) {
            place.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// Reads the message. The length is read once and checked before it is used.
    #[inline]
    fn copy(&self) -> Result<Message, Corrupted> {
        let length = self.length.load(Ordering::Relaxed);
        if length as usize > INLINE_BYTES {
            return Err(Corrupted::new("a message's length must be at most 72", length.into()));
        }
        let mut message = Message::plain([0; WORDS]);
        for (word, place) in message.words.iter_mut().zip(&self.words) {
            *word = place.load(Ordering::Relaxed);
        }
        let whole = message.inline.as_chunks_mut::<8>().0;
        let used = (length as usize).div_ceil(8);
        for (bytes, place) in whole.iter_mut().zip(&self.inline).take(used) {
            *bytes = place.load(Ordering::Relaxed).to_ne_bytes();
        }
        message.length = length as u8;
        Ok(message)
    }
}

/// What travels through a ring: six words, and up to 72 bytes beside them.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Numbers whose meaning is the pool's.
    pub words: [u64; WORDS],
    length: u8,
    inline: [u8; INLINE_BYTES],
}

impl Message {
    /// A message with these bytes beside its words, or `None` if they are more than
    /// [`INLINE_BYTES`].
    #[inline]
    pub fn new(words: [u64; WORDS], inline: &[u8]) -> Option<Message> {
        let mut message = Message::plain(words);
        message.inline.get_mut(..inline.len())?.copy_from_slice(inline);
        message.length = inline.len() as u8;
        Some(message)
    }

    /// A message of words alone.
    #[inline]
    pub fn plain(words: [u64; WORDS]) -> Message {
        Message { words, length: 0, inline: [0; INLINE_BYTES] }
    }

    /// The bytes beside the words.
    #[inline]
    pub fn inline(&self) -> &[u8] {
        &self.inline[..usize::from(self.length)]
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.words == other.words && self.inline() == other.inline()
    }
}

impl Eq for Message {}

/// The side that fills slots.
pub struct Producer {
    slots: Shared<[Slot]>,
    head: u32,
}

/// The side that empties slots.
pub struct Consumer {
    slots: Shared<[Slot]>,
    tail: u32,
    broken: Option<Corrupted>,
}

/// A ring in private memory, between threads of one process.
pub fn private(capacity: u32) -> (Producer, Consumer) {
    let slots = Shared::private_slice((0..capacity.max(1)).map(|_| Slot::new()).collect());
    (Producer::new(slots.clone()), Consumer::new(slots))
}

impl Producer {
    pub(crate) fn new(slots: Shared<[Slot]>) -> Producer {
        Producer { slots, head: 0 }
    }

    /// Publishes a message and returns the index of its slot, or `None` if the ring is full.
    ///
    /// The ring is full as soon as the slot at the head is not empty, even if the consumer
    /// has released later ones: order is what tells both sides where the other one is.
    #[inline]
    pub fn push(&mut self, message: &Message) -> Result<Option<u32>, Corrupted> {
        let index = self.head;
        let slot = &self.slots[index as usize];
        // Acquire, with the release of whoever emptied it: the consumer has read the last
        // message to its end before this one is written over it.
        if SlotState::check(slot.state.load(Ordering::Acquire))? != SlotState::Empty {
            return Ok(None);
        }
        slot.fill(message);
        // Release: who sees that it is ready sees the whole of it.
        slot.state.store(READY, Ordering::Release);
        self.head = following(index, self.slots.len());
        Ok(Some(index))
    }

    /// Whether [`push`](Producer::push) would find no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.slots[self.head as usize].state.load(Ordering::Relaxed) != EMPTY
    }

    /// Takes a message back. If this returns true, the consumer will never see it; if not,
    /// the consumer has begun it already.
    ///
    /// The index names the last message that was pushed into that slot; whoever calls knows
    /// which one that is, because [`push`](Producer::push) said so.
    #[inline]
    pub fn revoke(&self, index: u32) -> bool {
        let Some(slot) = self.slots.get(index as usize) else { return false };
        // Relaxed: nothing is read out of the slot because of this, and the slot is not
        // written before the consumer has emptied it.
        slot.state.compare_exchange(READY, REVOKED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The state of a slot.
    #[inline]
    pub fn state(&self, index: u32) -> Result<SlotState, Corrupted> {
        match self.slots.get(index as usize) {
            Some(slot) => SlotState::check(slot.state.load(Ordering::Acquire)),
            None => Err(Corrupted::new("no slot has this index", index.into())),
        }
    }

    /// The items of the message that was pushed into a slot, if it is about items.
    pub fn span(&self, index: u32) -> Option<Span> {
        Span::new(self.slots.clone(), index)
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }
}

impl Consumer {
    pub(crate) fn new(slots: Shared<[Slot]>) -> Consumer {
        Consumer { slots, tail: 0, broken: None }
    }

    /// Begins with the next message, and returns it with the index of its slot. The slot stays
    /// taken until it is [released](Consumer::release).
    ///
    /// What a corrupted slot was is told again on every later call: nothing behind it can be
    /// trusted.
    #[inline]
    pub fn take(&mut self) -> Result<Option<(u32, Message)>, Corrupted> {
        if let Some(corrupted) = self.broken {
            return Err(corrupted);
        }
        self.look().inspect_err(|corrupted| self.broken = Some(*corrupted))
    }

    #[inline]
    fn look(&mut self) -> Result<Option<(u32, Message)>, Corrupted> {
        // One turn for every slot and one more look. If all of them were revoked since, the
        // message after them was published after them too, and rings for itself.
        for _ in 0..=self.slots.len() {
            let index = self.tail;
            let slot = &self.slots[index as usize];
            let mut state = slot.state.load(Ordering::Relaxed);
            if state == READY {
                // Acquire, with the producer's release: the whole message is seen. If the
                // producer was faster in taking it back, the slot says so.
                match slot.state.compare_exchange(
                    READY,
                    TAKEN,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        let message = slot.copy()?;
                        self.tail = following(index, self.slots.len());
                        return Ok(Some((index, message)));
                    }
                    Err(lost) => state = lost,
                }
            }
            match SlotState::check(state)? {
                // Taken is this side's own, of the lap before, and not yet released.
                SlotState::Empty | SlotState::Taken => return Ok(None),
                SlotState::Revoked => {
                    slot.state.store(EMPTY, Ordering::Release);
                    self.tail = following(index, self.slots.len());
                }
                SlotState::Ready => {
                    return Err(Corrupted::new("a slot must not fall back to ready", state.into()));
                }
            }
        }
        Ok(None)
    }

    /// Gives a taken slot back to the producer. Slots may be released in any order; an index
    /// whose slot is not taken is left as it is.
    #[inline]
    pub fn release(&self, index: u32) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        // A load and a store are enough: nobody but this side leads out of taken.
        if slot.state.load(Ordering::Relaxed) == TAKEN {
            // Release, with the acquire in `push`.
            slot.state.store(EMPTY, Ordering::Release);
        }
    }

    /// The items of the message that was taken from a slot, if it is about items.
    pub fn span(&self, index: u32) -> Option<Span> {
        Span::new(self.slots.clone(), index)
    }

    /// Whether [`take`](Consumer::take) would have something to do; for spinning, and for a
    /// second look before sleeping.
    ///
    /// A revoked slot counts, since something may lie behind it, and so does a corrupted one.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !matches!(self.slots[self.tail as usize].state.load(Ordering::Relaxed), EMPTY | TAKEN)
    }

    /// How many slots there are.
    pub fn capacity(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[inline]
fn following(index: u32, capacity: usize) -> u32 {
    if index as usize + 1 == capacity { 0 } else { index + 1 }
}
