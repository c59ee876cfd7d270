//! What the experiment and a host say to each other.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ungil_advise::Model;

/// The function to run and the tasks to run it on, as the user named them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Where the function comes from.
    pub target: Target,
    /// Where the tasks come from.
    pub items: Items,
    /// A Python expression for the positional arguments that follow the item.
    pub arguments: Option<String>,
    /// A Python expression for the keyword arguments.
    pub keywords: Option<String>,
    /// How many calls one run makes; without it, one an item.
    pub tasks: Option<usize>,
    /// Names of the engines that the user wants.
    pub engines: Vec<String>,
}

/// Where the function comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// `path.py:function` or `package.module:function`.
    Named(String),
    /// The function travels in the frame's payload, and is called by this name.
    Payload(String),
}

impl Target {
    /// How the target is called in outputs.
    pub fn name(&self) -> &str {
        match self {
            Target::Named(name) | Target::Payload(name) => name,
        }
    }
}

/// Where the tasks come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// Nothing is iterated: every task is the same call.
    None,
    /// A Python expression that gives an iterable.
    Expression(String),
    /// One item a line, each a Python literal or, failing that, the text itself.
    Lines(Vec<String>),
    /// The items travel in the frame's payload.
    Payload,
}

/// One way to run the job: whose machinery, which model, how many workers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Setup {
    /// The engine's name, as in `--engines`.
    pub engine: String,
    /// The concurrency model.
    pub model: Model,
    /// Threads, processes, interpreters or coroutines at once, 1 for serial.
    pub workers: usize,
    /// Threads inside each worker; more than 1 only for processes x threads.
    pub threads_per_worker: usize,
}

/// What the experiment asks of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Import the function and build the items. Payload: what [`Job`] says travels in it.
    Load(Box<Job>),
    /// Send the items back as a payload, so that every host works on equal ones.
    ShareItems,
    /// Open a pool and wait until every worker has answered.
    Start(Setup),
    /// Run all tasks once in the open pool.
    Run(Instruments),
    /// Open a pool, run all tasks once, close the pool: all of it in the measured time.
    Once(Setup),
    /// Find out whether caller and workers see each other's changes.
    ProbeSharing,
    /// Find out what pickling the tasks and results of the last run costs.
    ProbeSerialisation,
    /// Send the results of the last run back as a payload.
    ShareResults,
    /// Compare the results of every run from now on with the payload's.
    Reference,
    /// Close the pool.
    Stop,
}

/// What is attached to a run besides the clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruments {
    /// Let the calling thread tick while it waits.
    pub ticking: bool,
    /// Write down who ran which task when.
    pub logged: bool,
}

/// What a host answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Load`.
    Loaded(Box<Loaded>),
    /// To `Start`.
    Started(StartUp),
    /// To `Run` and `Once`.
    Ran(Box<Run>),
    /// To `ProbeSharing`.
    Sharing(Sharing),
    /// To `ProbeSerialisation`.
    Serialisation(Serialisation),
    /// To `ShareItems` and `ShareResults`; `false` if they cannot be pickled or are too large.
    Payload(bool),
    /// To `Reference` and `Stop`.
    Done,
    /// The request could not be carried out.
    Failed(Failure),
}

/// What a host found out about the job while loading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// The function's own name.
    pub function: String,
    /// How many calls one run makes.
    pub tasks: usize,
    /// Whether the function is a coroutine function.
    pub is_coroutine_function: bool,
    /// Why the results of a second call may come from a memory of the first, if it can be seen.
    pub memoised_by: Option<String>,
    /// The interpreter.
    pub python: Python,
    /// What each requested engine offers here.
    pub offers: Vec<Offer>,
    /// What the user should know before trusting the figures.
    pub warnings: Vec<String>,
}

/// The models that an engine offers on this interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The engine's name.
    pub engine: String,
    /// The models that it can run here.
    pub models: Vec<Model>,
}

/// The interpreter that ran the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Python {
    /// For example `3.13.0`.
    pub version: String,
    /// For example `CPython`.
    pub implementation: String,
    /// Compiler and build, as `sys.version` has them.
    pub build: String,
    /// Whether the GIL was on while the host ran.
    pub gil_enabled: bool,
    /// How worker processes are started: `fork`, `forkserver` or `spawn`, as `multiprocessing` does
    /// by default, or `zygote`, ungil's way; with its engine where engines differ.
    pub start_method: String,
    /// Settings of BLAS and OpenMP helper threads, for example `OMP_NUM_THREADS=4`.
    pub native_thread_settings: Vec<String>,
}

/// Time from nothing to workers that answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StartUp {
    /// Seconds from the call that creates the pool to its first result, of a task that does
    /// nothing.
    pub first_result_s: f64,
    /// Seconds from the same call until every worker that came up had begun its first task.
    pub all_workers_s: f64,
    /// How many workers came up.
    pub workers: usize,
}

/// One run of all tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Wall-clock seconds of the whole run.
    pub wall_s: f64,
    /// CPU seconds of the host's process tree meanwhile.
    pub cpu_s: f64,
    /// Whether the results equal the reference.
    pub agreement: Agreement,
    /// How late the ticks were, in seconds, if the run was ticking.
    pub tick_delays_s: Vec<f64>,
    /// Who ran which task when, if the run was logged.
    pub log: Vec<TaskRecord>,
    /// Processes that a task forked and that came back from it like the task itself.
    pub strays: usize,
    /// Processes that the tasks left running, seen after a run in a model without processes.
    pub left_running: usize,
}

/// Whether two lists of results are the same, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Agreement {
    /// Nothing to compare with yet.
    NotCompared,
    /// All results are equal.
    Equal,
    /// At least one task gave another result.
    Different {
        /// Position of the first task that differs, from 0.
        task: usize,
        /// How many tasks differ.
        tasks: usize,
        /// What the reference run gave, shortened.
        expected: String,
        /// What this run gave, shortened.
        found: String,
    },
    /// Equality is not defined for these results.
    CannotTell {
        /// Why.
        reason: String,
    },
}

/// One task of a logged run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskRecord {
    /// Position of the task, from 0.
    pub task: usize,
    /// Number of the process that ran it.
    pub pid: i32,
    /// Name of that process.
    pub process: String,
    /// Name of the thread that ran it.
    pub thread: String,
    /// Seconds from the start of the run to the start of the task.
    pub start_s: f64,
    /// Seconds from the start of the run to the end of the task.
    pub finish_s: f64,
}

/// Whether caller and workers see each other's changes to a variable of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sharing {
    /// The caller sees what a worker changed.
    pub caller_sees_worker: bool,
    /// A worker that is already running sees what the caller changed.
    pub worker_sees_caller: bool,
}

/// What pickling one task and its result costs, there and back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Serialisation {
    /// Bytes of one pickled argument, on average.
    pub argument_bytes: f64,
    /// Bytes of one pickled result, on average.
    pub result_bytes: f64,
    /// Seconds to pickle and unpickle both, for one task, on average.
    pub seconds_per_task: f64,
}

/// Something that could not be carried out, said in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// What kind of thing went wrong; decides the exit code.
    pub kind: FailureKind,
    /// What happened and what to do about it.
    pub message: String,
    /// The user's own traceback, where there is one.
    pub detail: Option<String>,
}

impl Failure {
    /// A failure without a traceback.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), detail: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The function could not be found, imported or called at all.
    Target,
    /// Items or arguments do not parse, are empty, or do not fit the function.
    Items,
    /// The function raised an exception.
    Raised,
    /// The function called `sys.exit` or `os._exit`.
    Exited,
    /// The function, an item or a result cannot be pickled.
    Unpicklable,
    /// The function forked, and both processes came back from it.
    Forked,
    /// A process died.
    Died,
    /// The time ran out.
    TimedOut,
    /// The user interrupted it.
    Interrupted,
    /// The engine or the model is not to be had here.
    Unavailable,
    /// ungil itself failed.
    Internal,
}
