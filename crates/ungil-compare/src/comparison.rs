//! What the experiment found, as plain data.
//!
//! This is what renderers get and what `--json` writes; `docs/compare.schema.json` is generated
//! from these types. Units are the last word of a name: `_s` seconds, `_bytes` bytes; anything
//! without one is a count or a ratio.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ungil_advise::reason::Advice;
use ungil_advise::{Estimate, Model};
use ungil_observe::Machine;

use crate::message::{
    Agreement, Failure, Python, Serialisation, Setup, Sharing, StartUp, TaskRecord,
};

/// One comparison of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The function, as the user named it.
    pub target: String,
    /// Whether it is a coroutine function.
    pub is_coroutine_function: bool,
    /// Calls in one run of the job.
    pub tasks: usize,
    /// Every way the job was run, in the order of the models.
    pub measurements: Vec<Measurement>,
    /// Which model fits if the job runs once, start-up included; `null` if that was not measured.
    pub once: Option<Advice>,
    /// Which model fits if the job runs repeatedly in an open pool; `null` if nothing finished.
    pub repeated: Option<Advice>,
    /// The best worker count of each model, if several were tried.
    pub sweeps: Vec<Sweep>,
    /// What pickling costs; `null` if it was not measured or something cannot be pickled.
    pub serialisation: Option<Serialisation>,
    /// What the reader should know before using the figures.
    pub notes: Vec<Note>,
    /// How the experiment went.
    pub course: Course,
    /// The machine.
    pub machine: Machine,
    /// The interpreter.
    pub python: Python,
}

/// One way to run the job, and what was measured of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// Engine, model and workers.
    pub setup: Setup,
    /// How outputs call it.
    pub label: String,
    /// Seconds for the whole job in an open pool: median and 95 % interval.
    pub time_s: Option<Estimate>,
    /// The time of each measured round, in the order of the rounds.
    pub round_times_s: Vec<f64>,
    /// Positions of outliers in `round_times_s` (by median absolute deviation); they are kept.
    pub outliers: Vec<usize>,
    /// Times faster than serial, from ratios within rounds, with 95 % interval; 1 for serial.
    pub times_faster: Option<Estimate>,
    /// CPU cores used while the job ran, median over rounds: CPU time of all processes by time.
    pub cpu_cores_used: Option<f64>,
    /// Highest proportional set size of caller and workers together, in bytes, during warm-up.
    pub memory_peak_bytes: Option<u64>,
    /// Time from nothing to workers that answer, in a fresh process.
    pub cold_start: Option<StartUp>,
    /// The same for a second pool in the same process.
    pub warm_start: Option<StartUp>,
    /// How late the calling thread got its turn while the job ran.
    pub caller_delay: Option<CallerDelay>,
    /// Whether caller and workers share memory.
    pub sharing: Option<Sharing>,
    /// Seconds for the whole job from nothing to the closed pool, in fresh processes: median and
    /// 95 % interval.
    pub once_time_s: Option<Estimate>,
    /// The time of each fresh start.
    pub once_times_s: Vec<f64>,
    /// Whether the results were the same as the serial run's.
    pub agreement: Agreement,
    /// Warm-up runs, discarded for the times.
    pub warm_ups: usize,
    /// Who ran which task when, in the logged run.
    pub log: Vec<TaskRecord>,
    /// Why there are no figures, or no more.
    pub failure: Option<Failure>,
}

/// How late a tick every 5 ms was in the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallerDelay {
    /// Half of the ticks were at most this late, in seconds.
    pub p50_s: f64,
    /// 99 of 100 ticks were at most this late, in seconds.
    pub p99_s: f64,
    /// The latest tick, in seconds.
    pub max_s: f64,
    /// How many ticks there were.
    pub ticks: usize,
}

/// One model under several worker counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sweep {
    /// The engine.
    pub engine: String,
    /// The model.
    pub model: Model,
    /// Worker count over all processes and seconds for the whole job, by count.
    pub curve: Vec<SweepPoint>,
    /// The smallest count within 3 % of the shortest time.
    pub best_workers: Option<usize>,
    /// Whether the times stopped falling before the counts ended.
    pub is_past_the_knee: bool,
}

/// One point of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepPoint {
    /// Workers over all processes.
    pub workers: usize,
    /// Seconds for the whole job, median.
    pub time_s: f64,
}

/// Something that the reader should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// The sentence.
    pub message: String,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Models gave different results.
    ResultsDiffer,
    /// The function gives other results from run to run, even serially.
    ResultsVary,
    /// The function is known to remember earlier calls.
    Memoised,
    /// The first run was far slower than later ones: it remembers, or prepares something.
    Prepared,
    /// The function printed.
    Printed,
    /// The tasks left processes running.
    LeftRunning,
    /// The machine was not quiet.
    Disturbed,
    /// A model was left out or stands for another one.
    Model,
    /// Anything else about the job.
    Job,
}

/// How the experiment went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Course {
    /// Calls announced at most.
    pub calls_announced: u64,
    /// Calls made: all tasks of every run that was started.
    pub calls_made: u64,
    /// Measured rounds.
    pub rounds: usize,
    /// Fresh starts of each model.
    pub fresh_starts: usize,
    /// Seconds that the experiment took.
    pub elapsed_s: f64,
    /// Seconds that it was allowed.
    pub budget_s: f64,
    /// Why it ended.
    pub ended: Ended,
    /// Seed of the random order of the rounds.
    pub seed: u64,
    /// Share of the CPU time that the hypervisor gave to others meanwhile, 0 to 1.
    pub stolen_share: f64,
    /// Share of the last 10 s before the start in which some task waited for a CPU; `null` where
    /// the kernel does not tell.
    pub cpu_pressure_before: Option<f64>,
}

/// Why the experiment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All models were told apart or found equivalent.
    Decided,
    /// All planned rounds were run.
    AllRounds,
    /// The budget was used up.
    Budget,
    /// Nothing was left to run: every model failed, or only one finished.
    NothingLeft,
    /// The user interrupted it.
    Interrupted,
}
