//! Memory that a parent process and its worker processes share.
//!
//! The shape is a star: every worker has a channel of its own with the parent, and workers
//! share nothing with each other but the pool's arena. A worker is not trusted: it may be
//! killed or stopped between any two stores, and a bug in native code may write anything
//! anywhere into what it has mapped. Every shared word is therefore an atomic, every value
//! read is checked, and nonsense is a [`Corrupted`] value, never a panic and never a fault.
//!
//! - [`primitive`]: atomics and the futex; the one place that swaps them for loom's.
//! - [`doorbell`]: lets one sleeper wait until one of several publishers has something for it.
//! - [`ring`]: messages from one producer to one consumer, in slots that can be taken back.
//! - [`span`]: messages about many items, of which some can be taken back while others are done.
//! - [`offsets`]: numbers from one producer to one consumer, for giving blocks back.
//! - [`segment`]: a memfd and its mapping, which may be longer than the file.
//! - [`arena`]: blocks in a growing segment, accounted for in the owner's private memory.
//! - [`channel`]: one worker's two rings, its doorbell and the rings of returned blocks.
//!
//! The protocols, and what happens when either side dies in each state, are in the README
//! beside this code.

pub mod doorbell;
mod error;
pub mod offsets;
pub mod primitive;
pub mod ring;
mod shared;
pub mod span;

// These need the layouts of real atomics and the kernel, so the models leave them out.
#[cfg(not(loom))]
pub mod arena;
#[cfg(not(loom))]
pub mod channel;
#[cfg(not(loom))]
mod extents;
#[cfg(not(loom))]
mod runs;
#[cfg(not(loom))]
pub mod segment;

pub use doorbell::{Bell, Doorbell, Wake, Wish};
pub use error::Corrupted;
pub use ring::{Message, SlotState};
pub use span::Span;

#[cfg(not(loom))]
pub use arena::{Arena, Block, View};
#[cfg(not(loom))]
pub use channel::{Control, ParentEnd, WorkerEnd};
#[cfg(not(loom))]
pub use segment::{Segment, reserve_bytes};
