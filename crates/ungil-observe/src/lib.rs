//! What processes and the machine do, read from the kernel.
//!
//! Everything here is a reading: nothing is stopped, traced or changed, and nothing knows of
//! Python objects. A process that ends while it is read is left out, never an error, because
//! a tree of processes changes under whoever looks at it.
//!
//! - [`machine`]: which processors this process may use, and what slows them down meanwhile.
//! - [`process`]: one process: its parent, its CPU time, its memory.
//! - [`tree`]: a process and all its descendants, summed.

pub mod machine;
pub mod process;
pub mod tree;

pub use machine::{Machine, Pressure};
pub use tree::Tree;
