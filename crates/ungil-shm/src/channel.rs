//! One worker's segment: two rings of messages, two rings of returned blocks, a doorbell.
//!
//! The parent creates it and passes the descriptor on. Whatever lies in it was written by
//! either side at any time, so nothing in it says where anything else lies: both sides reckon
//! the layout from the capacity, which the worker checks against the file's size.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::doorbell::{Bell, Doorbell};
use crate::offsets;
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::{Consumer, Producer, Slot};
use crate::segment::{Segment, Shareable};
use crate::shared::Shared;

/// Slots for tasks in a channel, and as many for results.
pub const TASK_SLOTS: u32 = 512;

/// The most slots that a channel may have for tasks.
pub const MOST_TASK_SLOTS: u32 = 1 << 16;

/// Set in [`Control::flags`] when the parent asks the worker to stop.
pub const STOP: u32 = 1;

/// A message can name more than one block, so more blocks than messages may be on their way.
const RELEASES_PER_TASK: u32 = 4;

/// "ungilch" and the layout's version, which changes with every change of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"ungilch\x02");

/// What lies before the rings. Each word that is written often has a cache line pair of its own.
#[repr(C)]
struct Header {
    identity: Identity,
    flags: Line<AtomicU32>,
    stage: Line<AtomicU32>,
    bell: Line<Doorbell>,
    room: Line<Doorbell>,
}

#[repr(C, align(128))]
struct Identity {
    magic: AtomicU64,
    capacity: AtomicU32,
}

#[repr(C, align(128))]
struct Line<T>(T);

const _: () = {
    assert!(size_of::<Doorbell>() == 8);
    assert!(size_of::<Header>() == 640);
    assert!(std::mem::offset_of!(Header, flags) == 128);
    assert!(std::mem::offset_of!(Header, stage) == 256);
    assert!(std::mem::offset_of!(Header, bell) == 384);
    assert!(std::mem::offset_of!(Header, room) == 512);
};

// SAFETY: Two atomics, and padding that nobody looks at.
unsafe impl Shareable for Header {}

/// Where each part begins, for a given number of slots.
struct Layout {
    capacity: u32,
    tasks: u64,
    results: u64,
    released: u64,
    returning: u64,
    end: u64,
}

impl Layout {
    fn of(capacity: u32) -> io::Result<Layout> {
        if capacity == 0 || capacity > MOST_TASK_SLOTS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a channel has between 1 and 65536 slots",
            ));
        }
        let ring = u64::from(capacity) * size_of::<Slot>() as u64;
        let notices = u64::from(capacity * RELEASES_PER_TASK) * size_of::<AtomicU64>() as u64;
        let notices = notices.next_multiple_of(128);
        let tasks = size_of::<Header>() as u64;
        let results = tasks + ring;
        let released = results + ring;
        let returning = released + notices;
        Ok(Layout { capacity, tasks, results, released, returning, end: returning + notices })
    }

    fn slots(&self, segment: &Arc<Segment>, offset: u64) -> io::Result<Shared<[Slot]>> {
        segment.shared_slice(offset, self.capacity).ok_or_else(too_short)
    }

    fn places(&self, segment: &Arc<Segment>, offset: u64) -> io::Result<Shared<[AtomicU64]>> {
        segment.shared_slice(offset, self.capacity * RELEASES_PER_TASK).ok_or_else(too_short)
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the channel's segment is too short")
}

/// The words of a channel that any thread may use while the rings are in somebody's hands.
#[derive(Clone)]
pub struct Control {
    header: Shared<Header>,
    bell: Bell,
    room: Bell,
    segment: Arc<Segment>,
}

impl Control {
    fn new(segment: Arc<Segment>) -> io::Result<Control> {
        let header = segment.shared::<Header>(0).ok_or_else(too_short)?;
        let bell_at = |offset: usize| {
            Ok::<_, io::Error>(Bell::at(segment.shared(offset as u64).ok_or_else(too_short)?))
        };
        let bell = bell_at(std::mem::offset_of!(Header, bell))?;
        let room = bell_at(std::mem::offset_of!(Header, room))?;
        Ok(Control { header, bell, room, segment })
    }

    /// The worker's doorbell, which the parent rings.
    #[inline]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Where a worker sleeps that finds no room in its ring of results, and the parent rings when
    /// it has made some.
    #[inline]
    pub fn room(&self) -> &Bell {
        &self.room
    }

    /// What the parent asks of the worker: [`STOP`], and 31 bits whose meaning is the pool's.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.header.flags.0.load(Ordering::Acquire)
    }

    /// Sets these bits of the flags and returns the flags before. The bell is not rung.
    pub fn set_flag(&self, bits: u32) -> u32 {
        self.header.flags.0.fetch_or(bits, Ordering::Release)
    }

    /// Clears these bits of the flags and returns the flags before.
    pub fn clear_flag(&self, bits: u32) -> u32 {
        self.header.flags.0.fetch_and(!bits, Ordering::Release)
    }

    /// How far the worker has come; the numbers' meaning is the pool's, and zero is where every
    /// channel begins. A worker may write any number.
    #[inline]
    pub fn stage(&self) -> u32 {
        self.header.stage.0.load(Ordering::Acquire)
    }

    /// Worker: says how far it has come.
    pub fn set_stage(&self, stage: u32) {
        self.header.stage.0.store(stage, Ordering::Release);
    }

    /// The descriptor of the channel's segment, to pass on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.segment.descriptor()
    }
}

/// The parent's end of a channel.
///
/// The fields can be moved out and kept behind different locks; each keeps the memory mapped.
pub struct ParentEnd {
    /// Tasks for the worker.
    pub tasks: Producer,
    /// Results from the worker.
    pub results: Consumer,
    /// Blocks of the pool's arena that the worker gives back.
    pub released: offsets::Consumer,
    /// Blocks of the worker's arena that the parent gives back.
    pub returning: offsets::Producer,
    control: Control,
}

impl ParentEnd {
    /// A new channel with room for so many tasks and as many results; usually [`TASK_SLOTS`].
    pub fn create(capacity: u32) -> io::Result<ParentEnd> {
        let layout = Layout::of(capacity)?;
        let segment = Arc::new(Segment::create(layout.end)?);
        let control = Control::new(Arc::clone(&segment))?;
        control.header.identity.capacity.store(capacity, Ordering::Relaxed);
        control.header.identity.magic.store(MAGIC, Ordering::Release);
        Ok(ParentEnd {
            tasks: Producer::new(layout.slots(&segment, layout.tasks)?),
            results: Consumer::new(layout.slots(&segment, layout.results)?),
            released: offsets::Consumer::new(layout.places(&segment, layout.released)?),
            returning: offsets::Producer::new(layout.places(&segment, layout.returning)?),
            control,
        })
    }

    /// A handle to the words that are not part of a ring.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The worker's doorbell, which the parent rings.
    pub fn bell(&self) -> &Bell {
        self.control.bell()
    }

    /// What the parent asks of the worker.
    pub fn flags(&self) -> u32 {
        self.control.flags()
    }

    /// Asks something of the worker; see [`Control::set_flag`].
    pub fn set_flag(&self, bits: u32) -> u32 {
        self.control.set_flag(bits)
    }

    /// How far the worker says that it has come.
    pub fn stage(&self) -> u32 {
        self.control.stage()
    }

    /// The descriptor to pass on to the worker.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.control.descriptor()
    }
}

/// A worker's end of its channel.
///
/// The fields can be moved out and kept behind different locks; each keeps the memory mapped.
pub struct WorkerEnd {
    /// Tasks from the parent.
    pub tasks: Consumer,
    /// Results for the parent.
    pub results: Producer,
    /// Blocks of the pool's arena that the worker gives back.
    pub released: offsets::Producer,
    /// Blocks of the worker's arena that the parent gives back.
    pub returning: offsets::Consumer,
    control: Control,
}

impl WorkerEnd {
    /// Maps the channel that the parent created.
    ///
    /// A channel serves one worker once: both sides begin at the first slot, so a second worker
    /// on the same channel would not find the parent's position.
    pub fn open(descriptor: OwnedFd) -> io::Result<WorkerEnd> {
        let segment = Arc::new(Segment::open(descriptor, 0)?);
        let control = Control::new(Arc::clone(&segment))?;
        if control.header.identity.magic.load(Ordering::Acquire) != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the descriptor is no channel of this version",
            ));
        }
        let layout = Layout::of(control.header.identity.capacity.load(Ordering::Relaxed))?;
        Ok(WorkerEnd {
            tasks: Consumer::new(layout.slots(&segment, layout.tasks)?),
            results: Producer::new(layout.slots(&segment, layout.results)?),
            released: offsets::Producer::new(layout.places(&segment, layout.released)?),
            returning: offsets::Consumer::new(layout.places(&segment, layout.returning)?),
            control,
        })
    }

    /// A handle to the words that are not part of a ring.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The worker's own doorbell.
    pub fn bell(&self) -> &Bell {
        self.control.bell()
    }

    /// What the parent asks of the worker.
    pub fn flags(&self) -> u32 {
        self.control.flags()
    }

    /// How far the worker has said that it has come.
    pub fn stage(&self) -> u32 {
        self.control.stage()
    }

    /// Says how far the worker has come.
    pub fn set_stage(&self, stage: u32) {
        self.control.set_stage(stage);
    }

    /// The descriptor of the channel's segment.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.control.descriptor()
    }
}
