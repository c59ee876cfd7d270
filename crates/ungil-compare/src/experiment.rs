//! The rounds: what is asked of which host, in which order, until when.
//!
//! ```text
//! load       one host imports the function and builds the items; everybody gets equal ones
//! serial     warms up alone: how busy it keeps a CPU decides the default number of workers,
//!            its results are the reference
//! others     one host a setup: cold start, warm start, sharing, warm-up runs with ticks
//! rounds     every round runs each setup once, in random order; planned looks; a setup that is
//!            slower for sure leaves, the others go on until they are told apart
//! fresh      the job from nothing in a fresh host each time: the verdict for running it once
//! ```
//!
//! A setup that fails keeps what it has and leaves; the others go on.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ungil_advise::Model;
use ungil_observe::{Machine, Pressure};

use crate::comparison::{Comparison, Note};
use crate::lane::{Doing, Lane, explain, unexpected};
use crate::launch::{Host, Launch};
use crate::message::{
    Failure, FailureKind, Items, Job, Loaded, Reply, Request, Serialisation, Target,
};
use crate::plan::{self, Announcement, Plan};

mod conclusion;
mod notes;
mod rounds;
mod warm_up;

use rounds::Outcome;

/// The engine that needs no executor: the serial loop and the event loop.
pub const LANGUAGE_ENGINE: &str = "python";
/// Watches an experiment and may interrupt it.
pub trait Observer {
    /// Called once, before the function is called for the first time.
    fn announce(&mut self, announcement: &Announcement);

    /// Called when something else begins. `progress` is the share that is done, 0 to 1.
    fn stage(&mut self, stage: Stage, progress: f64);

    /// Asked about 20 times a second; `true` ends the experiment.
    fn is_interrupted(&mut self) -> bool;
}

/// What an experiment is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Importing the function.
    Loading,
    /// Starting and warming up the setup of this label.
    WarmUp(String),
    /// Measured round of this number.
    Round(usize),
    /// Fresh start of this number.
    FreshStart(usize),
}

/// What every exchange with a host needs.
pub struct Context<'a> {
    observer: &'a mut dyn Observer,
    /// The function's name.
    pub function: String,
    tasks: usize,
    calls_made: u64,
    started: Instant,
    deadline: Instant,
    budget: Duration,
    /// How long the lane at hand may take in all, while it has a share of its own.
    share: Option<Duration>,
    is_interrupted: bool,
}

impl Context<'_> {
    /// Counts the calls of one run of all tasks.
    pub fn count_run(&mut self) {
        self.calls_made += self.tasks as u64;
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn stage(&mut self, stage: Stage) {
        let spent = self.started.elapsed().as_secs_f64() / self.budget.as_secs_f64();
        self.observer.stage(stage, spent.clamp(0.0, 1.0));
    }

    /// One request to a host and its reply; a refusal or a lost host is a failure.
    ///
    /// # Errors
    /// What the user is told.
    pub fn exchange(
        &mut self,
        host: &mut Host,
        request: &Request,
        payload: &[u8],
        deadline: Instant,
        reads_memory: bool,
    ) -> Result<(Reply, Vec<u8>), Failure> {
        let allowed = self.share.unwrap_or(self.budget);
        let observer = &mut *self.observer;
        let outcome = host
            .exchange(request, payload, deadline, reads_memory, &mut || !observer.is_interrupted());
        match outcome {
            Ok((Reply::Failed(failure), _)) => Err(failure),
            Ok(reply) => Ok(reply),
            Err(lost) => {
                let doing = match request {
                    Request::Load(_) | Request::ShareItems => Doing::Loading,
                    _ => Doing::Running,
                };
                let failure = explain(lost, doing, &self.function, allowed);
                self.is_interrupted |= failure.kind == FailureKind::Interrupted;
                Err(failure)
            }
        }
    }
}

/// Runs the whole experiment.
///
/// # Errors
/// What is wrong with the function or its items, if nothing could be compared at all; an
/// interruption before there were results is [`FailureKind::Interrupted`].
pub fn run(
    plan: &Plan,
    launcher: &mut dyn Launch,
    observer: &mut dyn Observer,
) -> Result<Comparison, Failure> {
    let pressure = Pressure::read();
    let machine = Machine::read();
    let started = Instant::now();
    let mut context = Context {
        observer,
        function: plan.job.target.name().to_owned(),
        tasks: 0,
        calls_made: 0,
        started,
        deadline: started + plan.budget(),
        budget: plan.budget(),
        share: None,
        is_interrupted: false,
    };
    context.stage(Stage::Loading);
    let mut host = launch(launcher)?;
    let deadline = context.deadline;
    let loaded = load(&mut context, &mut host, &plan.job, &plan.payload, deadline)?;
    context.function.clone_from(&loaded.function);
    context.tasks = loaded.tasks;
    let (job, payload) = settle_items(&mut context, &mut host, plan)?;

    let mut experiment = Experiment {
        plan,
        launcher,
        job,
        payload,
        loaded: &loaded,
        usable_cpus: machine.usable_cpus(),
        reference: None,
        serialisation: None,
        lanes: Vec::new(),
        notes: Vec::new(),
        random: ChaCha8Rng::seed_from_u64(plan.seed),
        load_time: Duration::ZERO,
        fresh_starts: 0,
    };
    let ways = experiment.ways();
    let announcement = experiment.announcement(&ways);
    context.observer.announce(&announcement);

    experiment.warm_up_all(&mut context, host, &ways);
    let outcome = experiment.run_rounds(&mut context);
    let once = experiment.run_fresh_starts(&mut context);
    experiment.finish(
        &context,
        machine,
        pressure,
        announcement.calls(),
        Outcome { once, ..outcome },
    )
}

fn launch(launcher: &mut dyn Launch) -> Result<Host, Failure> {
    launcher.launch().map_err(|error| {
        Failure::new(
            FailureKind::Internal,
            format!("failed to start a Python process for the comparison: {error}"),
        )
    })
}

fn load(
    context: &mut Context,
    host: &mut Host,
    job: &Job,
    payload: &[u8],
    deadline: Instant,
) -> Result<Loaded, Failure> {
    let request = Request::Load(Box::new(job.clone()));
    match context.exchange(host, &request, payload, deadline, false)?.0 {
        Reply::Loaded(loaded) => Ok(*loaded),
        reply => Err(unexpected(&reply)),
    }
}

/// Items that an expression made are made once: every host then gets copies of the same.
fn settle_items(
    context: &mut Context,
    host: &mut Host,
    plan: &Plan,
) -> Result<(Job, Vec<u8>), Failure> {
    let is_expression = matches!(plan.job.items, Items::Expression(_));
    if is_expression && matches!(plan.job.target, Target::Named(_)) {
        let deadline = context.deadline;
        let reply = context.exchange(host, &Request::ShareItems, &[], deadline, false)?;
        if let (Reply::Payload(true), payload) = reply {
            return Ok((Job { items: Items::Payload, ..plan.job.clone() }, payload));
        }
    }
    Ok((plan.job.clone(), plan.payload.clone()))
}

/// An engine and a model, before the number of workers is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    engine: String,
    model: Model,
    is_offered: bool,
}

struct Experiment<'a> {
    plan: &'a Plan,
    launcher: &'a mut dyn Launch,
    job: Job,
    payload: Vec<u8>,
    loaded: &'a Loaded,
    usable_cpus: usize,
    reference: Option<Vec<u8>>,
    serialisation: Option<Serialisation>,
    lanes: Vec<Lane>,
    notes: Vec<Note>,
    random: ChaCha8Rng,
    /// How long the last host took to start and to load the job.
    load_time: Duration,
    fresh_starts: usize,
}

impl Experiment<'_> {
    /// The ways to run the job, serial first: it is what the others are compared with.
    fn ways(&self) -> Vec<Way> {
        let asked = self.plan.models.as_deref();
        let mut ways = vec![Way {
            engine: LANGUAGE_ENGINE.to_owned(),
            model: Model::Serial,
            is_offered: true,
        }];
        for model in Model::ALL.into_iter().filter(|model| *model != Model::Serial) {
            let is_asked = asked.map_or(self.applies(model), |models| models.contains(&model));
            if !is_asked {
                continue;
            }
            let offering: Vec<&str> = self
                .loaded
                .offers
                .iter()
                .filter(|offer| offer.models.contains(&model))
                .map(|offer| offer.engine.as_str())
                .collect();
            ways.extend(offering.iter().map(|engine| Way {
                engine: (*engine).to_owned(),
                model,
                is_offered: true,
            }));
            if offering.is_empty() && asked.is_some() {
                let engine = self.plan.engines.first().cloned().unwrap_or_default();
                ways.push(Way { engine, model, is_offered: false });
            }
        }
        ways
    }

    /// Whether a model that the user did not name is worth running.
    ///
    /// An ordinary function under asyncio would run in threads, which are measured anyway.
    fn applies(&self, model: Model) -> bool {
        model != Model::Asyncio || self.loaded.is_coroutine_function
    }

    fn announcement(&self, ways: &[Way]) -> Announcement {
        let tasks = self.loaded.tasks;
        let counts = self.plan.workers.as_deref().unwrap_or(&[]);
        let per_way = match counts.iter().max() {
            Some(largest) if counts.len() > 1 => counts.len() + plan::sweep_steps(*largest, tasks),
            _ => 1,
        };
        let offered = ways.iter().filter(|way| way.is_offered && way.model != Model::Serial);
        Announcement {
            function: self.loaded.function.clone(),
            tasks,
            setups: 1 + offered.count() * per_way,
            runs: self.plan.runs_limit(),
            budget: self.plan.budget(),
        }
    }
}
