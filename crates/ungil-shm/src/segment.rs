//! A memfd and its mapping, which may be longer than the file.
//!
//! Address space for a growing segment is reserved once, and the file grows below it, so that
//! nothing ever moves. Memory beyond the file's end would be a fault, so every access is
//! checked against the file's size; the file cannot shrink, because it is sealed against it.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::Slot;
use crate::shared::{Keeper, Shared};

/// The unit in which the kernel backs memory.
pub const PAGE_BYTES: u64 = 4096;

/// The least address space that a growing segment accepts.
pub const LEAST_RESERVE_BYTES: u64 = 64 << 20;

/// One call to the kernel backs at most this much, so that a signal, upon which the kernel
/// gives the whole call up, costs little and cannot keep it from ever getting done.
const GROWTH_STEP_BYTES: u64 = 32 << 20;

/// Types that may lie in memory which a hostile peer writes to: atomics, and structures of
/// nothing but atomics, for which every pattern of bits is a value.
///
/// # Safety
///
/// Every pattern of bits must be valid, and every byte must lie in an atomic or in padding.
pub(crate) unsafe trait Shareable: Send + Sync + 'static {}

// SAFETY: An atomic, all of whose patterns are numbers.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: As above.
unsafe impl Shareable for AtomicU64 {}
// SAFETY: Made of such atomics, without a gap.
unsafe impl Shareable for Slot {}

/// Address space that this process reserves for an arena: the machine's memory rounded up to a
/// power of two, and at least 1 GiB.
pub fn reserve_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    let memory = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit));
    memory.max(1 << 30).checked_next_power_of_two().unwrap_or(1 << 40)
}

/// Memory that processes share by passing its descriptor on.
#[derive(Debug)]
pub struct Segment {
    descriptor: OwnedFd,
    base: NonNull<u8>,
    mapped: u64,
    /// The file's size when last looked at; it only ever grows.
    size: AtomicU64,
}

// SAFETY: The mapping is not bound to a thread, and all that this type itself reads or writes
// of it goes through atomics.
unsafe impl Send for Segment {}
// SAFETY: As above.
unsafe impl Sync for Segment {}

impl Segment {
    /// A segment of this size, all of it backed, which can neither shrink nor grow.
    pub fn create(size: u64) -> io::Result<Segment> {
        let descriptor = new_file()?;
        let size = round_up(size.max(1))?;
        back(descriptor.as_fd(), 0, size)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&descriptor, seals)?;
        let (base, mapped) = map(descriptor.as_fd(), size, size)?;
        Ok(Segment { descriptor, base, mapped, size: AtomicU64::new(size) })
    }

    /// A segment without any memory yet, which can grow up to the reserved address space.
    ///
    /// Where so much address space is refused, half of it is asked for, and so on down to
    /// [`LEAST_RESERVE_BYTES`]; [`reserve`](Segment::reserve) tells what it came to. Whoever
    /// opens the segment should reserve as much.
    pub fn create_growing(reserve_bytes: u64) -> io::Result<Segment> {
        let descriptor = new_file()?;
        rustix::fs::fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::SEAL)?;
        let reserve = round_up(reserve_bytes.max(1))?;
        let (base, mapped) = map(descriptor.as_fd(), reserve, reserve.min(LEAST_RESERVE_BYTES))?;
        Ok(Segment { descriptor, base, mapped, size: AtomicU64::new(0) })
    }

    /// Maps a segment that another process created.
    ///
    /// `reserve` is how far it may grow to stay visible here; for a segment of fixed size,
    /// zero will do. A file that could be cut off under the mapping is refused.
    pub fn open(descriptor: OwnedFd, reserve: u64) -> io::Result<Segment> {
        if !rustix::fs::fcntl_get_seals(&descriptor)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no segment: its file is not sealed against shrinking",
            ));
        }
        let size = size_of_file(descriptor.as_fd())?;
        let least = round_up(size.max(1))?;
        let reserve = round_up(reserve.max(1))?.max(least);
        let (base, mapped) =
            map(descriptor.as_fd(), reserve, least.max(reserve.min(LEAST_RESERVE_BYTES)))?;
        Ok(Segment { descriptor, base, mapped, size: AtomicU64::new(size) })
    }

    /// The descriptor to pass on.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The file's size, as last looked at. It may have grown since; it cannot have shrunk.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// How much address space is mapped here, which is how far the segment can grow.
    pub fn reserve(&self) -> u64 {
        self.mapped
    }

    /// Grows the file to this size and backs it with memory.
    ///
    /// A machine or control group without so much memory makes this an error; touching memory
    /// that nothing backs would end the process instead.
    pub fn grow_to(&self, size: u64) -> io::Result<()> {
        let size = round_up(size)?;
        let present = size_of_file(self.descriptor())?;
        if size > self.mapped {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the segment has reached the end of its address space",
            ));
        }
        if size > present {
            self.back(present, size - present)?;
        }
        Ok(())
    }

    /// Backs a range with memory, growing the file if the range lies beyond its end.
    pub(crate) fn back(&self, offset: u64, length: u64) -> io::Result<()> {
        let backed = back(self.descriptor(), offset, length);
        self.refresh_size()?;
        backed
    }

    /// Gives a range's memory back to the system. It reads as zeros from now on.
    pub(crate) fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        punch(self.descriptor(), offset, length)
    }

    /// Where these bytes are, if the file holds all of them.
    ///
    /// The pointer is good while the segment lives. Whoever uses it shares the bytes with
    /// processes that may write to them at any time.
    #[inline]
    pub fn bytes(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(length)?;
        if end > self.size() {
            self.refresh_size().ok()?;
        }
        if end > self.size().min(self.mapped) {
            return None;
        }
        // SAFETY: The offset is at most the mapping's length, as has just been checked, and the
        // mapping is one object for as long as the segment lives.
        Some(unsafe { self.base.add(offset as usize) })
    }

    /// Where these bytes of the process's memory lie in the segment, if all of them do.
    pub fn offset_of(&self, start: *const u8, length: usize) -> Option<u64> {
        let offset = (start.addr() as u64).checked_sub(self.base.as_ptr().addr() as u64)?;
        (offset.checked_add(length as u64)? <= self.mapped).then_some(offset)
    }

    /// Writes bytes, or nothing if the file does not hold the place; says whether it did.
    #[inline]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(target) = self.bytes(offset, bytes.len() as u64) else { return false };
        // SAFETY: `bytes` has checked that the target's range is mapped and backed by the file.
        // The source is private memory, which the mapping cannot overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len()) };
        true
    }

    /// Reads bytes into private memory, or `None` if the file does not hold them. What a peer
    /// writes meanwhile may or may not be in the copy.
    pub fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let source = self.bytes(offset, length)?;
        let length = usize::try_from(length).ok()?;
        let mut bytes = Vec::<u8>::new();
        bytes.try_reserve_exact(length).ok()?;
        // SAFETY: `bytes` has checked the source's range, and the target has just been reserved.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), bytes.as_mut_ptr(), length) };
        // SAFETY: So many bytes have just been written.
        unsafe { bytes.set_len(length) };
        Some(bytes)
    }

    /// Reads eight bytes as a number, or `None` if the file does not hold them.
    pub fn word(&self, offset: u64) -> Option<u64> {
        let source = self.bytes(offset, size_of::<u64>() as u64)?.cast::<[u8; 8]>();
        // SAFETY: `bytes` has checked the source's range; an array of bytes needs no alignment.
        Some(u64::from_ne_bytes(unsafe { ptr::read_volatile(source.as_ptr()) }))
    }

    /// A shared structure at this offset, or `None` if it does not fit there.
    pub(crate) fn shared<T: Shareable>(self: &Arc<Segment>, offset: u64) -> Option<Shared<T>> {
        let target = self.bytes(offset, size_of::<T>() as u64)?.cast::<T>();
        if !target.is_aligned() {
            return None;
        }
        let keeper: Keeper = Arc::clone(self) as Keeper;
        // SAFETY: The range is mapped, backed and aligned; any pattern of bits is a `T`; and the
        // mapping stays while the segment, which is the keeper, lives.
        Some(unsafe { Shared::new(target, keeper) })
    }

    /// A shared run of structures at this offset, or `None` if it does not fit there.
    pub(crate) fn shared_slice<T: Shareable>(
        self: &Arc<Segment>,
        offset: u64,
        count: u32,
    ) -> Option<Shared<[T]>> {
        let length = (size_of::<T>() as u64).checked_mul(u64::from(count))?;
        let first = self.bytes(offset, length)?.cast::<T>();
        if !first.is_aligned() {
            return None;
        }
        let target = NonNull::slice_from_raw_parts(first, count as usize);
        let keeper: Keeper = Arc::clone(self) as Keeper;
        // SAFETY: As in `shared`, for each element; the length is that of the whole run.
        Some(unsafe { Shared::new(target, keeper) })
    }

    fn refresh_size(&self) -> io::Result<()> {
        let size = size_of_file(self.descriptor())?;
        self.size.fetch_max(size, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: The mapping is this segment's own, and whoever points into it holds a count on
        // the segment, so nobody does any more. An error would leave it mapped, which is safe.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped as usize) };
    }
}

fn new_file() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(rustix::fs::memfd_create("ungil", flags)?)
}

fn size_of_file(descriptor: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(descriptor)?.st_size.max(0) as u64)
}

pub(crate) fn round_up(bytes: u64) -> io::Result<u64> {
    bytes
        .checked_next_multiple_of(PAGE_BYTES)
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn back(descriptor: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let end = offset.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
    let mut done = offset;
    while done < end {
        let step = (end - done).min(GROWTH_STEP_BYTES);
        let backed = rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(descriptor, FallocateFlags::empty(), done, step)
        });
        if let Err(error) = backed {
            // What has been backed in vain is given back; if that fails too, it is merely kept.
            let _ = punch(descriptor, offset, done - offset);
            return Err(error.into());
        }
        done += step;
    }
    Ok(())
}

fn punch(descriptor: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(descriptor, flags, offset, length))?;
    Ok(())
}

/// Maps the file at its beginning, with as much address space as is granted.
fn map(descriptor: BorrowedFd<'_>, mut length: u64, least: u64) -> io::Result<(NonNull<u8>, u64)> {
    loop {
        match map_exactly(descriptor, length) {
            Ok(base) => return Ok((base, length)),
            Err(Errno::NOMEM | Errno::OVERFLOW | Errno::INVAL) if length / 2 >= least => {
                length = (length / 2).next_multiple_of(PAGE_BYTES);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn map_exactly(descriptor: BorrowedFd<'_>, length: u64) -> Result<NonNull<u8>, Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    // SAFETY: The kernel chooses the place, so nothing that is mapped already is touched.
    let base: *mut c_void =
        unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, flags, descriptor, 0) }?;
    // A dump of a crashed process is about the process; arenas would make it immense. A kernel
    // that refuses merely writes larger dumps.
    // SAFETY: The range is the one that has just been mapped, and the advice changes no byte.
    let _ = unsafe { rustix::mm::madvise(base, length, Advice::LinuxDontDump) };
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}
