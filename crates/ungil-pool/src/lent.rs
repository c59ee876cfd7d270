//! Blocks of somebody else's arena that are in use here, and how they are given back.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use ungil_shm::{Bell, Block, View, offsets};

use crate::fork::Origin;
use crate::inheritance::InUse;
use crate::payload;
use crate::reference::{self, Place};
use crate::shared::{Home, SharedArena, SharedBlock, WorkerShares};

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
    /// What only forks of this process may still use.
    inherited: Vec<(u64, InUse)>,
}

impl Returns {
    /// Notices go through this ring.
    pub fn new(ring: offsets::Producer, owner: Option<Bell>) -> Returns {
        let waiting = Waiting { ring, late: Vec::new(), inherited: Vec::new() };
        Returns { inner: Mutex::new(waiting), owner, origin: Origin::here() }
    }

    /// Gives a block back, and wakes the owner if that is worth while.
    fn give_back(&self, block: Block, is_large: bool, in_use: &InUse) {
        if !self.origin.is_here() {
            return;
        }
        self.notify(block.offset, in_use);
        if let Some(owner) = &self.owner
            && is_large
            && owner.wanted() != 0
        {
            owner.ring();
        }
    }

    fn notify(&self, offset: u64, in_use: &InUse) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { ring, late, inherited } = &mut *inner;
        if in_use.is_inherited() {
            inherited.push((offset, in_use.clone()));
        } else {
            late.push(offset);
        }
        inherited.retain(|(offset, in_use)| {
            let is_inherited = in_use.is_inherited();
            if !is_inherited {
                late.push(*offset);
            }
            is_inherited
        });
        while let Some(offset) = late.last().copied() {
            if !ring.push(offset) {
                break;
            }
            late.pop();
        }
    }
}

/// A block of the peer's arena, held until this is dropped, with whatever it refers to.
pub struct Lent {
    view: Arc<View>,
    returns: Arc<Returns>,
    block: Block,
    in_use: InUse,
    references: Option<Box<References>>,
}

/// A table with references. It was read once: what the peer writes there from now on changes nothing.
struct References {
    places: Vec<Place>,
    program: Program,
}

/// What of the program's own memory is referred to.
enum Program {
    /// In the program: its blocks, for each place.
    Here(Vec<Option<Arc<SharedBlock>>>),
    /// In a worker: its view of them.
    There(Arc<WorkerShares>),
}

/// A part of what was lent.
#[derive(Debug, Clone)]
pub struct LentPart {
    /// Where it begins.
    pub start: NonNull<u8>,
    /// Its length in bytes.
    pub length: usize,
    /// Whether the sender wants it to be read only.
    pub is_readonly: bool,
    /// The block of this process's own in which it lies. Any other part is there as long as the
    /// `Lent` is held.
    pub block: Option<Arc<SharedBlock>>,
}

impl Lent {
    /// Takes hold of a block that arrived in a message and refers to nothing.
    pub fn new(view: Arc<View>, returns: Arc<Returns>, block: Block) -> Lent {
        Lent { view, returns, block, in_use: InUse::new(), references: None }
    }

    /// Takes hold of a block that a worker sent to its program.
    ///
    /// # Returns
    /// `None` if it refers to what is none of the worker's: no block of the program's that is in use,
    /// and none of its own arena.
    pub(crate) fn from_worker(
        view: Arc<View>,
        returns: Arc<Returns>,
        block: Block,
        shared: &SharedArena,
    ) -> Option<Lent> {
        let mut lent = Lent::new(view, returns, block);
        if reference::is_in(lent.view.segment(), block) {
            let places = reference::places(lent.view.segment(), block)?;
            let mut blocks = Vec::with_capacity(places.len());
            for place in &places {
                blocks.push(match place.home {
                    Some(Home::Program) => Some(shared.block(place.offset, place.length)?),
                    Some(Home::Worker) => {
                        lent.view.slice(place.offset, place.length)?;
                        None
                    }
                    None => None,
                });
            }
            let program = Program::Here(blocks);
            lent.references = Some(Box::new(References { places, program }));
        }
        Some(lent)
    }

    /// Takes hold of a block that the program sent to this worker.
    pub(crate) fn from_program(
        view: Arc<View>,
        returns: Arc<Returns>,
        block: Block,
        shares: &Arc<WorkerShares>,
    ) -> Arc<Lent> {
        let mut lent = Lent::new(view, returns, block);
        if reference::is_in(lent.view.segment(), block)
            && let Some(places) = reference::places(lent.view.segment(), block)
        {
            let program = Program::There(shares.clone());
            lent.references = Some(Box::new(References { places, program }));
        }
        let lent = Arc::new(lent);
        for place in lent.places_in_program() {
            shares.lent.add(place.offset, place.offset.saturating_add(place.length), &lent);
        }
        lent
    }

    fn places_in_program(&self) -> impl Iterator<Item = &Place> {
        let places = self.references.iter().flat_map(|references| &references.places);
        places.filter(|place| place.home == Some(Home::Program))
    }

    /// Where its parts lie and how long they are, `None` if the block is damaged.
    ///
    /// The memory stays mapped as long as the `Lent` lives. The peer can write to it at any time, so
    /// it may only be read as bytes of which nothing is assumed.
    pub fn parts(&self) -> Option<Vec<LentPart>> {
        if !self.returns.origin.is_here() {
            // The process from which this one was forked may have given it back.
            return None;
        }
        let own = |offset: u64, length: u64| {
            let start = self.view.slice(offset, length)?;
            let length = usize::try_from(length).ok()?;
            Some(LentPart { start, length, is_readonly: false, block: None })
        };
        let Some(references) = &self.references else {
            let places = payload::parts(self.view.segment(), self.block)?;
            return places.into_iter().map(|(offset, length)| own(offset, length)).collect();
        };
        let places = references.places.iter().enumerate();
        places
            .map(|(index, place)| {
                let part = match (place.home, &references.program) {
                    (Some(Home::Program), Program::Here(blocks)) => {
                        let block = blocks.get(index)?.clone()?;
                        let start = block.slice(place.offset, place.length)?;
                        let length = usize::try_from(place.length).ok()?;
                        LentPart { start, length, is_readonly: false, block: Some(block) }
                    }
                    (Some(Home::Program), Program::There(shares)) => {
                        let start = shares.program.slice(place.offset, place.length)?;
                        let length = usize::try_from(place.length).ok()?;
                        LentPart { start, length, is_readonly: false, block: None }
                    }
                    // A program never refers to what is a worker's.
                    (Some(Home::Worker), Program::There(_)) => return None,
                    (Some(Home::Worker), Program::Here(_)) | (None, _) => {
                        own(place.offset, place.length)?
                    }
                };
                Some(LentPart { is_readonly: place.is_readonly, ..part })
            })
            .collect()
    }

    /// A private copy of one part that came along.
    pub fn copy(&self, part: usize) -> Option<Vec<u8>> {
        if !self.returns.origin.is_here() {
            return None;
        }
        let (offset, length) = match &self.references {
            None => *payload::parts(self.view.segment(), self.block)?.get(part)?,
            Some(references) => match references.places.get(part)? {
                Place { home: None, offset, length, .. } => (*offset, *length),
                _ => return None,
            },
        };
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
        if !self.returns.origin.is_here() {
            return;
        }
        if let Some(References { program: Program::There(shares), .. }) = self.references.as_deref()
        {
            self.places_in_program().for_each(|place| shares.lent.forget(place.offset));
        }
        // What is referred to is mostly larger, and may be the owner's of this end.
        let is_large = self.block.length >= LARGE_BYTES || self.references.is_some();
        self.returns.give_back(self.block, is_large, &self.in_use);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ungil_shm::{Arena, Bell, Block, View, offsets};

    use super::{LARGE_BYTES, Lent, Returns};
    use crate::payload::{self, Payload};
    use crate::reference::{self, Part};
    use crate::shared::{Holds, Home, SharedArena, WorkerShares};

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
            lent.parts().expect("sound").into_iter().map(|part| part.length).collect();
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
        let peer = peer(8);
        let returns = Arc::new(Returns::new(ring, Some(bell.clone())));
        let lend = |length| {
            let block = Block { offset: 64, length };
            Lent::new(peer.view.clone(), returns.clone(), block)
        };
        let ticket = bell.ticket();
        drop(lend(LARGE_BYTES));
        assert_eq!(bell.ticket(), ticket, "nobody sleeps");
        bell.arm(1);
        drop(lend(LARGE_BYTES - 1));
        assert_eq!(bell.ticket(), ticket, "it is not worth it");
        drop(lend(LARGE_BYTES));
        assert_ne!(bell.ticket(), ticket);
    }

    #[test]
    fn a_block_outlives_its_owner() {
        let peer = peer(8);
        let (lent, _) = peer.lend(&[b"still", b"here"]);
        drop(peer);
        assert_eq!(lent.copy(1).as_deref(), Some(&b"here"[..]));
    }

    #[test]
    fn a_worker_can_refer_to_what_it_was_lent_as_long_as_it_has_it() {
        let program = Arc::new(Mutex::new(Arena::create(1 << 26, 0).expect("address space")));
        let program = SharedArena::new(program, Home::Program);
        let array = program.allocate(100_000).expect("memory");
        let reference = program.find(array.start().as_ptr(), 100_000).expect("it is in use");
        let mut peer = peer(8);
        let holds = Holds::default();
        let parts = [Part::Bytes(b"head"), Part::Reference(&reference)];
        let payload = reference::store(&peer.arena, &holds, &parts).expect("memory");
        let Payload::Block(block) = payload else { panic!("it has a reference") };

        let own = Arc::new(Mutex::new(Arena::create(1 << 26, 0).expect("address space")));
        let descriptor = program.descriptor().expect("a descriptor");
        let view = View::open(descriptor, 1 << 26).expect("address space");
        let shares = Arc::new(WorkerShares::new(own, view));
        let lend = || Lent::from_program(peer.view.clone(), peer.returns.clone(), block, &shares);
        let lent = lend();
        assert_eq!(lent.copy(0).as_deref(), Some(&b"head"[..]));
        assert_eq!(lent.copy(1), None, "it did not come along");
        let part = lent.parts().expect("it is sound").remove(1);
        assert_eq!((part.length, part.is_readonly), (100_000, false));
        assert_ne!(part.start, array.start(), "it is another mapping");
        let start = part.start.as_ptr().cast_const();
        let referred = shares.find(start.wrapping_add(99_999), 1).expect("it was lent");
        assert!(shares.find(start.wrapping_add(99_999), 2).is_none());
        assert!(shares.find(array.start().as_ptr(), 1).is_none());

        drop(lent);
        assert!(shares.find(start, 100_000).is_some(), "what refers to it keeps it");
        drop(referred);
        assert_eq!(peer.returned.pop(), Some(block.offset));
        assert!(shares.find(start, 1).is_none());
    }
}
