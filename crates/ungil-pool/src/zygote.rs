//! The process that starts a pool's workers.
//!
//! The user's process, with its threads and locks, is never forked for a worker. A *zygote*, a
//! process with one thread, forks them on request and tells when they end. It is a fresh interpreter
//! (which serves all pools of a process), or, for the start method fork, one fork of the user's
//! process; for the start method spawn it executes a fresh interpreter for each worker.
//!
//! ```text
//! parent ── master socket ──────> zygote        "you are this process's", with the parent's pidfd
//!        ── master socket ──────>               "connect", with one end of a pool's socket
//!        ── a pool's socket ────>               "start worker 7", with its descriptors
//!        <─ a pool's socket ─────               "worker 7 is process 1234", with its pidfd
//!        <─ a pool's socket ─────               "worker 7 ended, by signal 9"
//! ```
//!
//! Who dies when: a worker's end is reaped and reported. When a pool leaves, its workers are
//! killed. When the parent ends, the zygote sees it by the parent's pidfd (the socket would not do: a
//! forked child of the parent's may still hold its other end), kills all workers and ends. When
//! the zygote is killed, the kernel kills the workers: they have asked for it, and the zygote's
//! only thread is its main thread, so that nothing else can trigger it.

mod connection;
mod protocol;
mod serve;

pub use connection::{Connection, Zygote};
pub(crate) use protocol::Event;
pub use protocol::above_standard;
pub(crate) use serve::block_signals;
pub use serve::{Forked, Served, Start, serve};
