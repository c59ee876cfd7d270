//! The binding: the only crate that knows Python.
//!
//! It brings Python to the traits of `ungil-compare` (a host's function, tasks and engines) and
//! brings the command and the experiment to Python. One file a facade module; errors go through
//! [`error`] alone, and everything that waits does so detached from the interpreter.

mod announcer;
mod arrays;
mod call;
mod codec;
mod command;
mod compare;
mod containers;
mod error;
mod future;
mod global;
mod guard;
mod host;
mod interrupt;
mod item;
mod mapping;
mod plain;
mod processes;
mod threads;
mod ticker;
mod worker;
mod zygote;

use pyo3::prelude::*;

/// The Rust core of ungil.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::announcer::{flush_announcements, run_announcements, run_callbacks};
    #[pymodule_export]
    use super::arrays::{allocate_shared, shared_bytes};
    #[pymodule_export]
    use super::codec::{BufferCollector, SharedBuffer};
    #[pymodule_export]
    use super::command::main;
    #[pymodule_export]
    use super::compare::compare;
    #[pymodule_export]
    use super::future::LazyFuture;
    #[pymodule_export]
    use super::global::main_globals;
    #[pymodule_export]
    use super::guard::Guards;
    #[pymodule_export]
    use super::host::{die_with_parent, keep, note_stray, prepare_keeper, serve};
    #[pymodule_export]
    use super::mapping::MapResults;
    #[pymodule_export]
    use super::processes::{PreparedFunction, ProcessPool, ProcessPoolHandle};
    #[pymodule_export]
    use super::threads::{CallQueue, ThreadPool, take_no_calls};
    #[pymodule_export]
    use super::ticker::{Ticker, monotonic_ns};
    #[pymodule_export]
    use super::worker::WorkerProcess;
    #[pymodule_export]
    use super::zygote::{WorkerStart, serve_zygote, take_master};
}
