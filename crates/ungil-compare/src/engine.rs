//! The seam for anybody's executors, and the job that they run.
//!
//! A host is generic over these traits: the loop in [`crate::host`] takes the times, whoever
//! implements them does the work. An engine that joins later (ungil's own, loky's, joblib's)
//! implements [`Engine`] and [`Pool`] and is measured like every other.

use crate::message::{
    Agreement, Failure, Job, Loaded, Offer, Serialisation, Setup, Sharing, StartUp, TaskRecord,
};
use crate::ticker::Ticker;

/// Somebody's machinery that can run a job under some of the models.
pub trait Engine {
    /// The models that it can run on this interpreter.
    fn offer(&self) -> Offer;

    /// Makes a pool ready to run the job; workers may still be starting.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn open(&self, setup: &Setup) -> Result<Box<dyn Pool>, Failure>;
}

/// Workers that run all tasks of the job, as often as they are told.
pub trait Pool {
    /// Waits until every worker has answered.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn start(&mut self, opened_at_ns: u64) -> Result<StartUp, Failure>;

    /// Runs all tasks once and keeps their results.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn run(&mut self) -> Result<(), Failure>;

    /// As [`Pool::run`], while the calling thread ticks instead of only waiting.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn run_ticking(&mut self, ticker: Ticker) -> Result<Ticker, Failure>;

    /// As [`Pool::run`], with a record of each task, in the order of the tasks.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn run_logged(&mut self) -> Result<Vec<TaskRecord>, Failure>;

    /// Finds out whether caller and workers see each other's changes.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn probe_sharing(&mut self) -> Result<Sharing, Failure>;

    /// Ends the workers and waits for them.
    ///
    /// # Errors
    /// The failure that the user is told for this model.
    fn close(&mut self) -> Result<(), Failure>;
}

/// The function, its tasks and their results, as the host's language holds them.
pub trait Workload {
    /// Imports the function and builds the items.
    ///
    /// # Errors
    /// What is wrong with the target, the items or the arguments.
    fn load(&mut self, job: &Job, payload: &[u8]) -> Result<Loaded, Failure>;

    /// The engine of that name, with the loaded job to run.
    ///
    /// # Errors
    /// That there is no such engine.
    fn engine(&self, name: &str) -> Result<Box<dyn Engine>, Failure>;

    /// The items as bytes; `None` if they cannot be pickled or exceed `limit_bytes`.
    fn items(&self, limit_bytes: usize) -> Option<Vec<u8>>;

    /// The results of the last run as bytes; `None` if they cannot be pickled or exceed
    /// `limit_bytes`.
    fn results(&self, limit_bytes: usize) -> Option<Vec<u8>>;

    /// Sets what the results of the following runs are compared with.
    ///
    /// # Errors
    /// That the bytes cannot be read.
    fn set_reference(&mut self, payload: &[u8]) -> Result<(), Failure>;

    /// Compares the results of the last run with the reference.
    fn agreement(&self) -> Agreement;

    /// What pickling the tasks and the results of the last run costs.
    ///
    /// # Errors
    /// That they cannot be pickled, and which one.
    fn serialisation(&self) -> Result<Serialisation, Failure>;
}
