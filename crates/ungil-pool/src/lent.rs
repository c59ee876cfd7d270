//! Blocks of somebody else's arena that are in use here, and how they are given back.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use ungil_shm::{Bell, Block, View, offsets};

use crate::fork::Origin;
use crate::payload;

/// Tells an arena's owner which blocks are no longer used.
pub struct Returns {
    inner: Mutex<Waiting>,
    /// Where the owner sleeps, if it is to be woken for the sake of a large block.
    owner: Option<Bell>,
    origin: Origin,
}

/// The return of a block of so many bytes is worth waking its owner, so that it can give the memory
/// back to the system.
const LARGE_BYTES: u64 = 1 << 20;

struct Waiting {
    ring: offsets::Producer,
    /// What did not fit into the ring when it was given back.
    late: Vec<u64>,
}

impl Returns {
    /// Notices go through this ring.
    pub fn new(ring: offsets::Producer, owner: Option<Bell>) -> Returns {
        let waiting = Waiting { ring, late: Vec::new() };
        Returns { inner: Mutex::new(waiting), owner, origin: Origin::here() }
    }

    fn give_back(&self, block: Block) {
        if !self.origin.is_here() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.late.push(block.offset);
        while let Some(offset) = inner.late.last().copied() {
            if !inner.ring.push(offset) {
                break;
            }
            inner.late.pop();
        }
        drop(inner);
        if let Some(owner) = &self.owner
            && block.length >= LARGE_BYTES
            && owner.wanted() != 0
        {
            owner.ring();
        }
    }
}

/// A block of the peer's arena, held until this is dropped.
pub struct Lent {
    view: Arc<View>,
    returns: Arc<Returns>,
    block: Block,
}

impl Lent {
    /// Takes hold of a block that arrived in a message.
    pub fn new(view: Arc<View>, returns: Arc<Returns>, block: Block) -> Lent {
        Lent { view, returns, block }
    }

    /// Where its parts lie and how long they are, `None` if the block is damaged.
    ///
    /// The memory stays mapped as long as the `Lent` lives. The peer can write to it at any time, so
    /// it may only be read as bytes of which nothing is assumed.
    pub fn parts(&self) -> Option<Vec<(NonNull<u8>, usize)>> {
        payload::parts(self.view.segment(), self.block)?
            .into_iter()
            .map(|(offset, length)| {
                Some((self.view.slice(offset, length)?, usize::try_from(length).ok()?))
            })
            .collect()
    }

    /// A private copy of one part.
    pub fn copy(&self, part: usize) -> Option<Vec<u8>> {
        let (offset, length) = *payload::parts(self.view.segment(), self.block)?.get(part)?;
        self.view.segment().read(offset, length)
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.block.length
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lent").field("block", &self.block).finish_non_exhaustive()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.returns.give_back(self.block);
    }
}
