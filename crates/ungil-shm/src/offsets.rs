//! Numbers from one producer to one consumer: offsets of blocks that are given back.
//!
//! A place holds zero while it is empty, else the number plus one, so that one store both
//! writes and publishes. Each side keeps its own position in private memory.

use crate::primitive::{AtomicU64, Ordering};
use crate::shared::Shared;

const EMPTY: u64 = 0;

/// The side that gives numbers.
pub struct Producer {
    places: Shared<[AtomicU64]>,
    head: usize,
}

/// The side that receives numbers.
pub struct Consumer {
    places: Shared<[AtomicU64]>,
    tail: usize,
}

/// A ring in private memory, between threads of one process.
pub fn private(capacity: u32) -> (Producer, Consumer) {
    let places = (0..capacity.max(1)).map(|_| AtomicU64::new(EMPTY)).collect();
    let places = Shared::private_slice(places);
    (Producer::new(places.clone()), Consumer::new(places))
}

impl Producer {
    pub(crate) fn new(places: Shared<[AtomicU64]>) -> Producer {
        Producer { places, head: 0 }
    }

    /// Gives a number, or says that the ring is full.
    ///
    /// The highest number of all is no block's offset and cannot be told from an empty place;
    /// it is dropped as if it had been given, since trying again would not help.
    #[inline]
    pub fn push(&mut self, value: u64) -> bool {
        let Some(filled) = value.checked_add(1) else { return true };
        let place = &self.places[self.head];
        if place.load(Ordering::Acquire) != EMPTY {
            return false;
        }
        // Release: whatever was done with the block comes before it is given back.
        place.store(filled, Ordering::Release);
        self.head = following(self.head, self.places.len());
        true
    }

    /// How many numbers fit.
    pub fn capacity(&self) -> u32 {
        self.places.len() as u32
    }
}

impl Consumer {
    pub(crate) fn new(places: Shared<[AtomicU64]>) -> Consumer {
        Consumer { places, tail: 0 }
    }

    /// The next number, whatever the peer wrote: whether a block begins there is for
    /// [`Arena::free`](../arena/struct.Arena.html#method.free) to say.
    #[inline]
    pub fn pop(&mut self) -> Option<u64> {
        let place = &self.places[self.tail];
        let filled = place.load(Ordering::Acquire);
        let value = filled.checked_sub(1)?;
        place.store(EMPTY, Ordering::Release);
        self.tail = following(self.tail, self.places.len());
        Some(value)
    }

    /// Whether [`pop`](Consumer::pop) would find a number; for a second look before sleeping.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.places[self.tail].load(Ordering::Relaxed) != EMPTY
    }

    /// How many numbers fit.
    pub fn capacity(&self) -> u32 {
        self.places.len() as u32
    }
}

#[inline]
fn following(position: usize, capacity: usize) -> usize {
    if position + 1 == capacity { 0 } else { position + 1 }
}
