//! Pools of worker processes: who runs which task, and that every task ends exactly once.
//!
//! A pool is a star. The parent has a [`Pool`]; each worker process has a [`Worker`] and a channel of
//! its own in shared memory. What a task is, nobody in here knows: a function's bytes, and the bytes
//! and buffers it is called with.
//!
//! ```text
//! submit ──> ledger ──> backlog ──> a worker's task ring ──> worker ──> its result ring ──> cell
//!            (pump: whoever waits, submits or supervises; one lock, no Python)
//! ```
//!
//! In reading order: what travels, where it is noted, who moves it, who waits, who starts workers.

mod fork;
mod inheritance;
mod spin;
mod waiter;

mod payload;
mod reference;
mod shared;

mod lent;

mod task;

mod items;
mod pace;

mod message;

mod cell;
mod credit;
mod ledger;
mod pump;

mod pool;
mod supervisor;

mod worker;

pub mod zygote;

pub use cell::{Cell, Crash, Ending, Failure, Outcome, Received};
pub use fork::{Origin, PerProcess};
pub use items::{DESCRIPTION_BYTES, Growing, ITEMS_MAX, Logged, Results, Run, RunOutcome};
pub use lent::{Lent, LentPart};
pub use message::{FUNCTION_USED_ONCE, Status};
pub use pace::Pace;
pub use payload::{Inline, Payload};
pub use pool::{Connect, Likeness, Pool, Refusal, Settings, Waited, WorkerProcess};
pub use pump::Cancel;
pub use reference::{Part, Reference};
pub use shared::{SharedArena, SharedBlock, WorkerShares};
pub use task::{Function, Task};
pub use waiter::Waiter;
pub use worker::{AroundWait, Chunk, Data, Items as ChunkItems, Job, Opened, Ticket, Worker};
