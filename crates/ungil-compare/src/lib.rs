//! The experiment: one function under every concurrency model, side by side.
//!
//! Two processes talk here. The *experiment* decides what is measured when; a *host*, a fresh
//! process for each model, holds the function and does the measuring. They exchange the
//! messages of [`message`], so that a function that crashes, hangs or prints harms its own host
//! alone. Nothing in this crate knows Python: the host's side is the traits of [`engine`],
//! and whoever implements them brings the language.
//!
//! In reading order:
//!
//! - [`message`]: what experiment and host say to each other; [`frame`] is the wire.
//! - [`engine`]: the seam for anybody's executors, and the job that they run.
//! - [`ticker`]: how late the calling thread gets its turn.
//! - [`host`]: the host's loop; [`keeper`]: its parent, which ends every process it
//!   leaves, in the order that [`ending`] says.
//! - [`launch`]: the experiment's end of a host.
//! - [`plan`]: what to run, how often at most, and what to announce.
//! - [`lane`]: one setup and what was measured of it; [`experiment`]: the rounds;
//!   [`comparison`]: what they found, as plain data.

pub mod comparison;
pub mod ending;
pub mod engine;
pub mod experiment;
pub mod frame;
pub mod host;
pub mod keeper;
pub mod lane;
pub mod launch;
pub mod message;
pub mod plan;
pub mod ticker;

pub use comparison::Comparison;
pub use experiment::{Observer, Stage, run};
pub use message::{Failure, FailureKind, Job, Setup};
pub use plan::Plan;
pub use ungil_advise::Model;
