//! Lets one sleeper wait until one of several publishers has something for it.
//!
//! The sleeper takes a ticket, says what it wants, looks once more whether it is there, and
//! sleeps on the ticket. A publisher publishes, asks what is wanted, and rings if it is its
//! own kind of news. Only the sleeper takes its wishes back; a publisher never does, because
//! one that is stopped between taking the wish and ringing would leave the sleeper asleep
//! while another publisher's news lies ready. A few needless wake calls are the price.

use std::fmt;
use std::ops::Deref;
use std::time::Instant;

use crate::primitive::{AtomicU32, Futex, Ordering, fence};
use crate::shared::Shared;

pub use crate::primitive::Wake;

/// The bits of a wish; above them a sleeper counts how often it has wished.
const BITS: u32 = 0xff;
const ANEW: u32 = BITS + 1;

/// One sleeper's bell. It works in shared memory and, as a parker of threads, in private memory.
#[derive(Debug)]
#[repr(C)]
pub struct Doorbell {
    /// How often it has rung; the sleeper sleeps on this word.
    sequence: Futex,
    /// What the sleeper wants to be woken for; only the sleeper writes it.
    wanted: AtomicU32,
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell::new()
    }
}

impl Doorbell {
    /// A bell that nobody waits at.
    pub fn new() -> Doorbell {
        Doorbell { sequence: Futex::new(0), wanted: AtomicU32::new(0) }
    }

    /// Sleeper: asks to be woken for these bits. It must look for what it waits for *after*
    /// this, and only then wait.
    #[inline]
    pub fn arm(&self, bits: u32) {
        self.wanted.fetch_or(bits, Ordering::Relaxed);
        // Of this fence and the one in `wanted` one comes first: either the publisher sees the
        // wish, or the sleeper's second look sees what was published.
        fence(Ordering::SeqCst);
    }

    /// Sleeper: as [`arm`](Doorbell::arm), with one bit that is not set, and told from the last
    /// time: a publisher that is the only one need not ring twice for the same wish.
    #[inline]
    pub fn arm_anew(&self, bit: u32) {
        self.wanted.fetch_add(ANEW | bit, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeper: no longer asks to be woken for these bits.
    #[inline]
    pub fn disarm(&self, bits: u32) {
        self.wanted.fetch_and(!bits, Ordering::Relaxed);
    }

    /// Sleeper: what to wait with, taken before [`arm`](Doorbell::arm). One that is still armed
    /// from the last time may take a ticket, look and wait without arming again.
    #[inline]
    pub fn ticket(&self) -> u32 {
        // Acquire, for a sleeper that is armed already and passes no fence before it looks again:
        // if the ticket is newer than a ring, the look sees what was published before that ring.
        self.sequence.load(Ordering::Acquire)
    }

    /// Sleeper: sleeps until the bell has rung since the ticket was taken, or the deadline.
    pub fn wait(&self, ticket: u32, deadline: Option<Instant>) -> Wake {
        self.sequence.wait(ticket, deadline)
    }

    /// Publisher: what the sleeper wants, asked *after* publishing. Many things published
    /// one after the other need to ask only once, after the last.
    #[inline]
    pub fn wanted(&self) -> u32 {
        self.wish().bits()
    }

    /// Publisher: as [`wanted`](Doorbell::wanted), with which time it is wanted.
    #[inline]
    pub fn wish(&self) -> Wish {
        fence(Ordering::SeqCst);
        Wish(self.wanted.load(Ordering::Relaxed))
    }

    /// Publisher: whether the sleeper seems to be asleep, or about to be. A guess, good for
    /// choosing between sleepers.
    #[inline]
    pub fn seems_armed(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) & BITS != 0
    }

    /// Publisher: wakes the sleeper, or keeps it from falling asleep on an older ticket.
    pub fn ring(&self) {
        self.sequence.fetch_add(1, Ordering::Release);
        self.sequence.wake(1);
    }

    /// Like [`ring`](Doorbell::ring), for a bell at which more than one thread may wait.
    pub fn ring_all(&self) {
        self.sequence.fetch_add(1, Ordering::Release);
        self.sequence.wake(u32::MAX);
    }
}

/// What a sleeper wants, and which time. A publisher that has rung for a wish, and is the only one
/// who rings, has nothing more to do until it finds another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish(u32);

impl Wish {
    /// What is wanted; 0 is nothing.
    #[inline]
    pub fn bits(self) -> u32 {
        self.0 & BITS
    }
}

/// A handle to a [`Doorbell`], which keeps the memory that the bell lies in.
#[derive(Clone)]
pub struct Bell(Shared<Doorbell>);

impl Bell {
    /// A bell in private memory, between threads of one process.
    pub fn private() -> Bell {
        Bell(Shared::private(Doorbell::new()))
    }

    #[cfg(not(loom))]
    pub(crate) fn at(doorbell: Shared<Doorbell>) -> Bell {
        Bell(doorbell)
    }
}

impl Deref for Bell {
    type Target = Doorbell;

    #[inline]
    fn deref(&self) -> &Doorbell {
        &self.0
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}
