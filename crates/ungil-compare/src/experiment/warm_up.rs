//! Before the rounds: who takes part, with how many workers, and what the right results are.

use std::time::{Duration, Instant};

use ungil_advise::{Model, past_the_knee};

use crate::experiment::{Context, Experiment, LANGUAGE_ENGINE, Stage, Way, launch, load};
use crate::lane::Lane;
use crate::launch::Host;
use crate::message::{Failure, FailureKind, Reply, Request};
use crate::plan;

/// The engine that has subinterpreters.
const STDLIB_ENGINE: &str = "stdlib";
/// With less time than this nothing is started any more.
const SHORTEST_SHARE: Duration = Duration::from_millis(20);

impl Experiment<'_> {
    /// Serial first, for the number of workers and the reference; then everybody else.
    pub(super) fn warm_up_all(&mut self, context: &mut Context, host: Host, ways: &[Way]) {
        let is_sweep = self.plan.is_sweep();
        let per_way = self.plan.workers.as_ref().map_or(1, Vec::len).max(1);
        let mut left = 1 + (ways.len() - 1) * per_way;
        let mut serial = Lane::new(
            plan::setup(LANGUAGE_ENGINE, Model::Serial, 1, self.usable_cpus),
            self.label(&ways[0]),
        );
        serial.host = Some(host);
        self.add(context, serial, left);
        if let Some(failure) = self.fatal() {
            for way in &ways[1..] {
                let mut lane = self.lane(way, 1);
                lane.failure = Some(failure.clone());
                self.lanes.push(lane);
            }
            return;
        }
        let serial_cores = self.serial_cores();
        let tasks = self.loaded.tasks;
        let automatic =
            vec![plan::fitting_workers(serial_cores.unwrap_or(1.0), self.usable_cpus, tasks)];
        let counts = self.plan.workers.clone().unwrap_or(automatic);
        for way in &ways[1..] {
            let first = self.lanes.len();
            for count in &counts {
                left = left.saturating_sub(1);
                let lane = self.lane(way, *count);
                if way.is_offered {
                    self.add(context, lane, left.max(1));
                } else {
                    self.refuse(lane);
                    break;
                }
            }
            if is_sweep && serial_cores.is_some_and(|cores| cores < 0.5) {
                self.sweep_past_the_knee(context, way, first, left);
            }
        }
    }

    /// The lane of a way with `count` workers.
    fn lane(&self, way: &Way, count: usize) -> Lane {
        // An event loop holds all coroutines at once unless the user names a number.
        let all_at_once = way.model == Model::Asyncio
            && self.loaded.is_coroutine_function
            && self.plan.workers.is_none();
        let workers = if all_at_once { self.loaded.tasks } else { count };
        let setup = plan::setup(&way.engine, way.model, workers, self.usable_cpus);
        Lane::new(setup, self.label(way))
    }

    fn label(&self, way: &Way) -> String {
        let stands_for_threads = way.model == Model::Asyncio && !self.loaded.is_coroutine_function;
        if stands_for_threads {
            return format!("{} (in threads)", way.model);
        }
        let is_plain = way.engine == LANGUAGE_ENGINE
            || self.plan.engines.len() < 2 && way.engine == self.plan.engines[0];
        if is_plain { way.model.to_string() } else { format!("{} ({})", way.model, way.engine) }
    }

    fn serial_cores(&self) -> Option<f64> {
        self.lanes.first().filter(|lane| lane.is_usable()).and_then(Lane::cpu_cores_used)
    }

    /// A failure of the serial run that every model would share, and harm the machine with.
    fn fatal(&self) -> Option<Failure> {
        let failure = self.lanes.first()?.failure.clone()?;
        matches!(failure.kind, FailureKind::Forked | FailureKind::Interrupted).then_some(failure)
    }

    fn refuse(&mut self, mut lane: Lane) {
        let python = &self.loaded.python;
        let engine = &lane.setup.engine;
        let message = match lane.setup.model {
            Model::Interpreters if engine == STDLIB_ENGINE => format!(
                "{} {} has no executor over subinterpreters; it comes with 3.14",
                python.implementation, python.version
            ),
            Model::Interpreters => format!(
                "the engine {engine} has no interpreters: the engine {STDLIB_ENGINE} has, from \
                 Python 3.14 on"
            ),
            model => format!("the engine {engine} has no {model}"),
        };
        lane.failure = Some(Failure::new(FailureKind::Unavailable, message));
        self.lanes.push(lane);
    }

    /// Goes on doubling while work that waits still gains from it.
    fn sweep_past_the_knee(&mut self, context: &mut Context, way: &Way, first: usize, left: usize) {
        loop {
            let curve: Vec<(usize, f64)> = self.lanes[first..]
                .iter()
                .filter_map(|lane| Some((lane.all_workers(), lane.warm_up_s?)))
                .collect();
            let largest = self.lanes[first..].iter().map(|lane| lane.all_workers()).max();
            let Some(next) = largest.and_then(|most| plan::next_in_sweep(most, self.loaded.tasks))
            else {
                return;
            };
            let has_failed = self.lanes[first..].iter().any(|lane| !lane.is_usable());
            if past_the_knee(&curve) || has_failed || context.is_interrupted {
                return;
            }
            let lane = self.lane(way, next);
            self.add(context, lane, left + 2);
        }
    }

    /// Starts a lane and warms it up within its share of the time: one of `left` parts.
    fn add(&mut self, context: &mut Context, mut lane: Lane, left: usize) {
        context.stage(Stage::WarmUp(lane.label.clone()));
        if context.is_interrupted {
            lane.failure = Some(Failure::new(FailureKind::Interrupted, "interrupted"));
        } else {
            let share = context.remaining() / left.max(1) as u32;
            context.share = Some(share);
            if let Err(failure) = self.prepare(context, &mut lane, Instant::now() + share) {
                lane.failure = Some(failure);
                lane.end_host();
            }
            context.share = None;
        }
        self.lanes.push(lane);
    }

    fn prepare(
        &mut self,
        context: &mut Context,
        lane: &mut Lane,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if deadline.saturating_duration_since(Instant::now()) < SHORTEST_SHARE {
            let message = "no time was left in the budget to run it: give fewer items or a larger \
                           --budget";
            return Err(Failure::new(FailureKind::TimedOut, message));
        }
        if lane.host.is_none() {
            let began = Instant::now();
            let mut host = launch(self.launcher)?;
            load(context, &mut host, &self.job, &self.payload, deadline)?;
            lane.host = Some(host);
            self.load_time = began.elapsed();
        }
        lane.start(context, deadline)?;
        if let Some(reference) = &self.reference {
            lane.ask(context, &Request::Reference, reference, deadline)?;
        }
        lane.warm_up(context, deadline)?;
        if self.reference.is_none() {
            self.take_reference(context, lane)?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if self.plan.is_logged && left.as_secs_f64() > 2.0 * lane.expected_s() {
            lane.run_logged(context, deadline)?;
        }
        Ok(())
    }

    /// The first lane that finishes says what the right results are, and what they cost to move.
    fn take_reference(&mut self, context: &mut Context, lane: &mut Lane) -> Result<(), Failure> {
        let deadline = context.deadline;
        if let (Reply::Payload(true), results) =
            lane.ask(context, &Request::ShareResults, &[], deadline)?
        {
            lane.ask(context, &Request::Reference, &results, deadline)?;
            self.reference = Some(results);
        }
        // Tasks that cannot be pickled fail under processes, where the user is told so.
        if let Ok((Reply::Serialisation(serialisation), _)) =
            lane.ask(context, &Request::ProbeSerialisation, &[], deadline)
        {
            self.serialisation = Some(serialisation);
        }
        Ok(())
    }
}
