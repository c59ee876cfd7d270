//! One setup in the experiment: its host, and what has been measured of it so far.

use std::time::{Duration, Instant};

use ungil_advise::{Model, median, median_estimate, outliers, paired_ratio, quantile};

use crate::comparison::{CallerDelay, Measurement};
use crate::experiment::Context;
use crate::host::CHANNEL_LOST;
use crate::launch::{Host, Lost, Printed, describe_end};
use crate::message::{
    Agreement, Failure, FailureKind, Instruments, Reply, Request, Run, Setup, Sharing, StartUp,
    TaskRecord,
};
use crate::plan::WARM_UPS;

/// Ticks that are enough for a 99th percentile.
const TICKS_ENOUGH: usize = 200;
/// A warm-up run is repeated for more ticks only if it was shorter than this.
const SHORT_WARM_UP_S: f64 = 0.25;
/// Confidence of the intervals that are shown.
const CONFIDENCE: f64 = 0.95;

/// One setup in the experiment.
#[derive(Debug)]
pub struct Lane {
    /// Engine, model and workers.
    pub setup: Setup,
    /// How outputs call it.
    pub label: String,
    /// Its persistent host, while it takes part.
    pub host: Option<Host>,
    /// Seconds of the measured rounds.
    pub times_s: Vec<f64>,
    /// Seconds of the fresh starts.
    pub once_times_s: Vec<f64>,
    /// Seconds of the last warm-up run.
    pub warm_up_s: Option<f64>,
    /// CPU cores used in the last warm-up run, until there are measured rounds.
    warm_up_cores: Option<f64>,
    /// Seconds of the first warm-up run.
    pub first_run_s: Option<f64>,
    /// CPU cores used in the measured rounds.
    cores: Vec<f64>,
    /// Whether results were the reference's.
    pub agreement: Agreement,
    /// Why it takes no further part.
    pub failure: Option<Failure>,
    /// What its function printed.
    pub printed: Printed,
    /// Processes that its tasks left running.
    pub left_running: usize,
    delays_s: Vec<f64>,
    warm_ups: usize,
    cold_start: Option<StartUp>,
    warm_start: Option<StartUp>,
    sharing: Option<Sharing>,
    memory_peak_bytes: Option<u64>,
    log: Vec<TaskRecord>,
}

impl Lane {
    /// A lane that has not begun.
    pub fn new(setup: Setup, label: String) -> Lane {
        Lane {
            setup,
            label,
            host: None,
            times_s: Vec::new(),
            once_times_s: Vec::new(),
            warm_up_s: None,
            warm_up_cores: None,
            first_run_s: None,
            cores: Vec::new(),
            agreement: Agreement::NotCompared,
            failure: None,
            printed: Printed::default(),
            left_running: 0,
            delays_s: Vec::new(),
            warm_ups: 0,
            cold_start: None,
            warm_start: None,
            sharing: None,
            memory_peak_bytes: None,
            log: Vec::new(),
        }
    }

    /// Whether it ran at least once and has not failed.
    pub fn is_usable(&self) -> bool {
        self.failure.is_none() && self.warm_up_s.is_some()
    }

    /// Workers over all processes.
    pub fn all_workers(&self) -> usize {
        self.setup.workers * self.setup.threads_per_worker
    }

    /// Seconds that a run is expected to take.
    pub fn expected_s(&self) -> f64 {
        median(&self.times_s).or(self.warm_up_s).unwrap_or(0.0)
    }

    /// Seconds that a fresh start is expected to take.
    pub fn fresh_start_s(&self) -> f64 {
        self.first_run_s.unwrap_or(0.0) + self.start_up_s().unwrap_or(0.0)
    }

    /// CPU cores used, median over the rounds, or the warm-up's.
    pub fn cpu_cores_used(&self) -> Option<f64> {
        median(&self.cores).or(self.warm_up_cores)
    }

    /// Seconds from nothing to the first result of a task that does nothing.
    pub fn start_up_s(&self) -> Option<f64> {
        self.cold_start.map(|start| start.first_result_s)
    }

    /// Starts the pool twice, cold and warm, and probes what it shares.
    ///
    /// # Errors
    /// What the user is told for this setup.
    pub fn start(&mut self, context: &mut Context, deadline: Instant) -> Result<(), Failure> {
        let request = Request::Start(self.setup.clone());
        self.cold_start = Some(self.ask_start_up(context, &request, deadline)?);
        if self.setup.model != Model::Serial {
            self.warm_start = Some(self.ask_start_up(context, &request, deadline)?);
        }
        match self.ask(context, &Request::ProbeSharing, &[], deadline)?.0 {
            Reply::Sharing(sharing) => self.sharing = Some(sharing),
            reply => return Err(unexpected(&reply)),
        }
        Ok(())
    }

    fn ask_start_up(
        &mut self,
        context: &mut Context,
        request: &Request,
        deadline: Instant,
    ) -> Result<StartUp, Failure> {
        match self.ask(context, request, &[], deadline)?.0 {
            Reply::Started(start_up) => Ok(start_up),
            reply => Err(unexpected(&reply)),
        }
    }

    /// Runs the job until its pool is warm and the caller's delay is known.
    ///
    /// # Errors
    /// What the user is told for this setup.
    pub fn warm_up(&mut self, context: &mut Context, deadline: Instant) -> Result<(), Failure> {
        let instruments = Instruments { ticking: true, logged: false };
        while self.warm_ups < WARM_UPS {
            let run = self.run(context, instruments, deadline)?;
            self.warm_ups += 1;
            self.first_run_s.get_or_insert(run.wall_s);
            self.warm_up_s = Some(run.wall_s);
            self.warm_up_cores = cores_used(&run);
            self.delays_s.extend(&run.tick_delays_s);
            // Another one must not cost what this one has found out.
            let left_s = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
            let is_affordable = run.wall_s <= SHORT_WARM_UP_S && 4.0 * run.wall_s < left_s;
            if self.delays_s.len() >= TICKS_ENOUGH || !is_affordable {
                break;
            }
        }
        self.memory_peak_bytes = self.host.as_ref().and_then(|host| host.memory_peak_bytes);
        Ok(())
    }

    /// One run whose tasks are written down.
    ///
    /// # Errors
    /// What the user is told for this setup.
    pub fn run_logged(&mut self, context: &mut Context, deadline: Instant) -> Result<(), Failure> {
        let instruments = Instruments { ticking: false, logged: true };
        self.log = self.run(context, instruments, deadline)?.log;
        Ok(())
    }

    /// One measured run.
    ///
    /// # Errors
    /// What the user is told for this setup.
    pub fn run_round(&mut self, context: &mut Context, deadline: Instant) -> Result<(), Failure> {
        let run = self.run(context, Instruments::default(), deadline)?;
        self.times_s.push(run.wall_s);
        self.cores.extend(cores_used(&run));
        Ok(())
    }

    fn run(
        &mut self,
        context: &mut Context,
        instruments: Instruments,
        deadline: Instant,
    ) -> Result<Run, Failure> {
        context.count_run();
        match self.ask(context, &Request::Run(instruments), &[], deadline)?.0 {
            Reply::Ran(run) => {
                self.left_running = self.left_running.max(run.left_running);
                self.note_agreement(&run.agreement);
                refuse_strays(&run, &context.function)?;
                Ok(*run)
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// One difference outweighs any number of equal runs.
    fn note_agreement(&mut self, agreement: &Agreement) {
        let weight = |agreement: &Agreement| match agreement {
            Agreement::NotCompared => 0,
            Agreement::Equal => 1,
            Agreement::CannotTell { .. } => 2,
            Agreement::Different { .. } => 3,
        };
        if weight(agreement) > weight(&self.agreement) {
            self.agreement = agreement.clone();
        }
    }

    /// Sends a request to the lane's host; a lost host becomes the failure that explains it.
    ///
    /// # Errors
    /// What the user is told for this setup.
    pub fn ask(
        &mut self,
        context: &mut Context,
        request: &Request,
        payload: &[u8],
        deadline: Instant,
    ) -> Result<(Reply, Vec<u8>), Failure> {
        let Some(host) = &mut self.host else {
            return Err(Failure::new(FailureKind::Internal, "the host has already ended"));
        };
        let is_warm_up = matches!(request, Request::Run(Instruments { ticking: true, .. }));
        context.exchange(host, request, payload, deadline, is_warm_up)
    }

    /// Takes what the host's function printed and ends the host.
    pub fn end_host(&mut self) {
        if let Some(mut host) = self.host.take() {
            host.end();
            self.add_printed(std::mem::take(&mut host.printed));
        }
    }

    /// Adds what another host of the same setup printed.
    pub fn add_printed(&mut self, printed: Printed) {
        self.printed.lines += printed.lines;
        self.printed.bytes += printed.bytes;
        if self.printed.beginning.is_empty() {
            self.printed.beginning = printed.beginning;
        }
    }

    /// The lane as plain data; `serial_times_s` are the serial lane's rounds.
    pub fn into_measurement(self, serial_times_s: &[f64]) -> Measurement {
        // Without measured rounds the warm-up is the one time there is.
        let times_s: Vec<f64> = match self.warm_up_s {
            Some(warm_up_s) if self.times_s.is_empty() => vec![warm_up_s],
            _ => self.times_s.clone(),
        };
        let common = times_s.len().min(serial_times_s.len());
        let times_faster =
            paired_ratio(&serial_times_s[..common], &times_s[..common], 1.0 - CONFIDENCE);
        Measurement {
            time_s: median_estimate(&times_s, CONFIDENCE),
            outliers: outliers(&self.times_s),
            times_faster,
            cpu_cores_used: self.cpu_cores_used(),
            memory_peak_bytes: self.memory_peak_bytes,
            cold_start: self.cold_start,
            warm_start: self.warm_start,
            caller_delay: caller_delay(&self.delays_s),
            sharing: self.sharing,
            once_time_s: median_estimate(&self.once_times_s, CONFIDENCE),
            once_times_s: self.once_times_s,
            round_times_s: self.times_s,
            agreement: self.agreement,
            warm_ups: self.warm_ups,
            log: self.log,
            failure: self.failure,
            setup: self.setup,
            label: self.label,
        }
    }
}

fn cores_used(run: &Run) -> Option<f64> {
    (run.wall_s > 0.0).then(|| run.cpu_s / run.wall_s)
}

fn caller_delay(delays_s: &[f64]) -> Option<CallerDelay> {
    Some(CallerDelay {
        p50_s: quantile(delays_s, 0.5)?,
        p99_s: quantile(delays_s, 0.99)?,
        max_s: quantile(delays_s, 1.0)?,
        ticks: delays_s.len(),
    })
}

/// A function whose forked child comes back as if it were the caller runs the program twice.
fn refuse_strays(run: &Run, function: &str) -> Result<(), Failure> {
    if run.strays == 0 {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::Forked,
        format!(
            "{function}() forked and the child process came back from it too, so the rest of the \
             program would run twice: end the child with os._exit(), or use subprocess or \
             multiprocessing"
        ),
    ))
}

/// What a host was doing when it was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Importing the function's module and building the items.
    Loading,
    /// Running tasks, or starting workers for them.
    Running,
}

/// Puts the loss of a host into words.
pub fn explain(lost: Lost, doing: Doing, function: &str, allowed: Duration) -> Failure {
    let process = match doing {
        Doing::Loading => format!("the process that imported {function}"),
        Doing::Running => format!("the process that ran {function}()"),
    };
    match lost {
        Lost::Ended(Some(status)) if status.code() == Some(CHANNEL_LOST) => Failure::new(
            FailureKind::Died,
            format!(
                "{process} lost its channel: the function wrote into, or closed, descriptors that \
                 are not its own"
            ),
        ),
        Lost::Ended(Some(status)) => {
            let (kind, cause) = match status.code() {
                Some(_) => (FailureKind::Exited, "it, or a library it uses, called os._exit()"),
                None => (FailureKind::Died, "it, or a library it uses, crashed or killed it"),
            };
            Failure::new(kind, format!("{process} {}: {cause}", describe_end(status)))
        }
        Lost::Ended(None) => {
            Failure::new(FailureKind::Died, format!("{process} closed its channel and ended"))
        }
        Lost::TimedOut => {
            let allowed = ungil_advise::quantity::duration(allowed.as_secs_f64());
            let message = match doing {
                Doing::Loading => format!(
                    "{function} was not ready within {allowed}: to import its module and to build \
                     its items takes longer than the budget allows, or never ends: give a larger \
                     --budget, and check that importing it ends"
                ),
                Doing::Running => format!(
                    "{function}() did not finish within {allowed}, this model's share of the \
                     budget: give fewer items or a larger --budget, and check that it ever returns"
                ),
            };
            Failure::new(FailureKind::TimedOut, message)
        }
        Lost::Interrupted => Failure::new(FailureKind::Interrupted, "interrupted"),
        Lost::Broken(error) => Failure::new(
            FailureKind::Died,
            format!(
                "the channel to {process} broke ({error}): the function wrote into, or closed, \
                 descriptors that are not its own"
            ),
        ),
    }
}

/// A reply that does not belong to its request.
pub fn unexpected(reply: &Reply) -> Failure {
    Failure::new(FailureKind::Internal, format!("the host answered out of turn: {reply:?}"))
}
