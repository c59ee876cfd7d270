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
        if !self.returns.origin.is_here() {
            // The process from which this one was forked may have given it back.
            return None;
        }
        payload::parts(self.view.segment(), self.block)?
            .into_iter()
            .map(|(offset, length)| {
                Some((self.view.slice(offset, length)?, usize::try_from(length).ok()?))
            })
            .collect()
    }

    /// A private copy of one part.
    pub fn copy(&self, part: usize) -> Option<Vec<u8>> {
        if !self.returns.origin.is_here() {
            return None;
        }
        let (offset, length) = *payload::parts(self.view.segment(), self.block)?.get(part)?;
        self.view.segment().read(offset, length)
    }

    /// A private copy of the whole block, which has no parts then.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        if !self.returns.origin.is_here() {
            return None;
        }
        self.view.segment().read(self.block.offset, self.block.length)
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ungil_shm::{Arena, Bell, Block, View, offsets};

    use super::{LARGE_BYTES, Lent, Returns};
    use crate::payload::{self, Payload};

    struct Peer {
        arena: Mutex<Arena>,
        view: Arc<View>,
        returned: offsets::Consumer,
        returns: Arc<Returns>,
    }

    fn peer(capacity: u32) -> Peer {
        let arena = Arena::create(1 << 26, 0).expect("address space");
        let descriptor = arena.descriptor().try_clone_to_owned().expect("a descriptor");
        let view = Arc::new(View::open(descriptor, 1 << 26).expect("address space"));
        let (ring, returned) = offsets::private(capacity);
        let returns = Arc::new(Returns::new(ring, None));
        Peer { arena: Mutex::new(arena), view, returned, returns }
    }

    impl Peer {
        fn lend(&self, parts: &[&[u8]]) -> (Lent, Block) {
            let Ok(Payload::Block(block)) = payload::store(&self.arena, parts) else {
                panic!("it should be a block")
            };
            (Lent::new(self.view.clone(), self.returns.clone(), block), block)
        }
    }

    #[test]
    fn a_block_is_read_where_it_lies_and_given_back_once() {
        let mut peer = peer(8);
        let (lent, block) = peer.lend(&[b"one", b"", b"three"]);
        assert_eq!(lent.length(), block.length);
        let lengths: Vec<usize> =
            lent.parts().expect("sound").into_iter().map(|(_, length)| length).collect();
        assert_eq!(lengths, [3, 0, 5]);
        assert_eq!(lent.copy(0).as_deref(), Some(&b"one"[..]));
        assert_eq!(lent.copy(2).as_deref(), Some(&b"three"[..]));
        assert_eq!(lent.copy(3), None);
        assert_eq!(peer.returned.pop(), None);
        drop(lent);
        assert_eq!(peer.returned.pop(), Some(block.offset));
        assert_eq!(peer.returned.pop(), None);
    }

    #[test]
    fn what_has_no_room_in_the_ring_comes_with_a_later_one() {
        let mut peer = peer(2);
        let lent: Vec<(Lent, Block)> = (0..7).map(|_| peer.lend(&[b"a", b"b"])).collect();
        let mut expected: Vec<u64> = lent.iter().map(|(_, block)| block.offset).collect();
        drop(lent);
        let mut returned = Vec::new();
        while returned.len() < 7 {
            returned.extend(std::iter::from_fn(|| peer.returned.pop()));
            let (next, block) = peer.lend(&[b"a", b"b"]);
            if returned.len() < 7 {
                expected.push(block.offset);
            }
            drop(next);
        }
        expected.sort_unstable();
        returned.sort_unstable();
        returned.iter().for_each(|offset| assert!(expected.contains(offset)));
        returned.dedup();
        assert!(returned.len() >= 7, "no block is given back twice");
    }

    #[test]
    fn the_owner_is_woken_for_a_large_block_if_it_sleeps() {
        let bell = Bell::private();
        let (ring, _returned) = offsets::private(8);
        let returns = Returns::new(ring, Some(bell.clone()));
        let large = Block { offset: 0, length: LARGE_BYTES };
        let ticket = bell.ticket();
        returns.give_back(large);
        assert_eq!(bell.ticket(), ticket, "nobody sleeps");
        bell.arm(1);
        returns.give_back(Block { offset: 64, length: LARGE_BYTES - 1 });
        assert_eq!(bell.ticket(), ticket, "it is not worth it");
        returns.give_back(large);
        assert_ne!(bell.ticket(), ticket);
    }

    #[test]
    fn a_block_outlives_its_owner() {
        let peer = peer(8);
        let (lent, _) = peer.lend(&[b"still", b"here"]);
        drop(peer);
        assert_eq!(lent.copy(1).as_deref(), Some(&b"here"[..]));
    }
}
