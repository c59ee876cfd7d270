//! After the rounds: sentences, sweeps, and everything as plain data.

use ungil_advise::reason::{Advice, Circumstances, Evidence, Repetition, advise};
use ungil_advise::{Model, Ranking, best_worker_count, median, past_the_knee};
use ungil_observe::{Machine, Pressure};

use crate::comparison::{Comparison, Course, Ended, Sweep, SweepPoint};
use crate::experiment::rounds::Outcome;
use crate::experiment::{Context, Experiment};
use crate::lane::Lane;
use crate::message::{Failure, FailureKind};

impl Experiment<'_> {
    /// A ranking of some lanes as a sentence.
    pub(super) fn advise(
        &self,
        repetition: Repetition,
        candidates: &[usize],
        ranking: &Ranking,
        rounds: usize,
        ended: Ended,
    ) -> Option<Advice> {
        let serial = self.lanes.first().filter(|lane| lane.is_usable());
        let is_once = repetition == Repetition::Once;
        let times_s = |lane: &Lane| -> Vec<f64> {
            match (is_once, lane.times_s.is_empty()) {
                (true, _) => lane.once_times_s.clone(),
                (false, true) => lane.warm_up_s.into_iter().collect(),
                (false, false) => lane.times_s.clone(),
            }
        };
        let serial_times_s = serial.map(&times_s).unwrap_or_default();
        let evidence: Vec<Evidence> = self
            .lanes
            .iter()
            .map(|lane| {
                let own_s = times_s(lane);
                let common = own_s.len().min(serial_times_s.len());
                Evidence {
                    model: lane.setup.model,
                    label: self.phrase(lane),
                    workers: lane.all_workers(),
                    time_s: median(&own_s),
                    times_faster: ungil_advise::paired_ratio(
                        &serial_times_s[..common],
                        &own_s[..common],
                        0.05,
                    ),
                    cpu_cores_used: lane.cpu_cores_used(),
                    start_up_s: lane.start_up_s(),
                }
            })
            .collect();
        let circumstances = Circumstances {
            tasks: self.loaded.tasks,
            is_coroutine_function: self.loaded.is_coroutine_function,
            usable_cpus: self.usable_cpus,
            has_run_all_rounds: ended == Ended::AllRounds,
            serial_time_s: median(&serial_times_s),
            serial_cpu_cores_used: serial.and_then(Lane::cpu_cores_used),
            pickling_s_per_task: self.serialisation.map(|cost| cost.seconds_per_task),
            pickled_bytes_per_task: self
                .serialisation
                .map(|cost| cost.argument_bytes + cost.result_bytes),
        };
        advise(repetition, &evidence, candidates, ranking, rounds, &circumstances)
    }

    /// How a sentence calls a lane: in a sweep the number of workers belongs to it.
    fn phrase(&self, lane: &Lane) -> String {
        let is_sweep = self.plan.is_sweep();
        match lane.setup.model {
            Model::Serial => "a serial loop".to_owned(),
            Model::ProcessesThreads if is_sweep => format!(
                "{} processes x {} threads",
                lane.setup.workers, lane.setup.threads_per_worker
            ),
            Model::ProcessesThreads => {
                lane.label.replace("processes-threads", "processes x threads")
            }
            Model::Asyncio if !self.loaded.is_coroutine_function => {
                "threads (through asyncio)".to_owned()
            }
            Model::Asyncio => lane.label.clone(),
            _ if is_sweep && lane.setup.workers == 1 => {
                format!("one worker of {}", lane.label)
            }
            _ if is_sweep => format!("{} {}", lane.setup.workers, lane.label),
            _ => lane.label.clone(),
        }
    }

    fn sweeps(&self) -> Vec<Sweep> {
        if !self.plan.is_sweep() {
            return Vec::new();
        }
        let mut sweeps: Vec<Sweep> = Vec::new();
        for lane in self.lanes.iter().filter(|lane| lane.is_usable()) {
            if lane.setup.model == Model::Serial {
                continue;
            }
            let point = SweepPoint { workers: lane.all_workers(), time_s: lane.expected_s() };
            let same = |sweep: &&mut Sweep| {
                (&sweep.engine, sweep.model) == (&lane.setup.engine, lane.setup.model)
            };
            match sweeps.iter_mut().find(same) {
                Some(sweep) => sweep.curve.push(point),
                None => sweeps.push(Sweep {
                    engine: lane.setup.engine.clone(),
                    model: lane.setup.model,
                    curve: vec![point],
                    best_workers: None,
                    is_past_the_knee: false,
                }),
            }
        }
        for sweep in &mut sweeps {
            sweep.curve.sort_by_key(|point| point.workers);
            let curve: Vec<(usize, f64)> =
                sweep.curve.iter().map(|point| (point.workers, point.time_s)).collect();
            sweep.best_workers = best_worker_count(&curve);
            sweep.is_past_the_knee = past_the_knee(&curve);
        }
        sweeps
    }

    /// Everything that was found.
    ///
    /// # Errors
    /// The interruption, if it came before there was anything to report.
    pub(super) fn finish(
        mut self,
        context: &Context,
        machine: Machine,
        pressure: Pressure,
        calls_announced: u64,
        outcome: Outcome,
    ) -> Result<Comparison, Failure> {
        self.settle_agreement();
        let elapsed_s = context.started.elapsed().as_secs_f64();
        let stolen_s = Pressure::read().stolen_s - pressure.stolen_s;
        let stolen_share = (stolen_s / elapsed_s / machine.online_cpus as f64).clamp(0.0, 1.0);
        self.note_job();
        self.note_disturbance(stolen_share, pressure.cpu_waiting_share);
        let ended = if context.is_interrupted { Ended::Interrupted } else { outcome.ended };
        if !self.lanes.iter().any(|lane| lane.warm_up_s.is_some()) && context.is_interrupted {
            return Err(Failure::new(FailureKind::Interrupted, "interrupted"));
        }
        let sweeps = self.sweeps();
        let rounds = self.lanes.iter().map(|lane| lane.times_s.len()).max().unwrap_or(0);
        let serial_times_s = self.lanes.first().map_or(Vec::new(), |lane| {
            if lane.times_s.is_empty() {
                lane.warm_up_s.into_iter().collect()
            } else {
                lane.times_s.clone()
            }
        });
        Ok(Comparison {
            target: self.plan.job.target.name().to_owned(),
            is_coroutine_function: self.loaded.is_coroutine_function,
            tasks: self.loaded.tasks,
            measurements: self
                .lanes
                .into_iter()
                .map(|lane| lane.into_measurement(&serial_times_s))
                .collect(),
            once: outcome.once,
            repeated: outcome.repeated,
            sweeps,
            serialisation: self.serialisation,
            notes: self.notes,
            course: Course {
                calls_announced,
                calls_made: context.calls_made,
                rounds,
                fresh_starts: self.fresh_starts,
                elapsed_s,
                budget_s: self.plan.budget_s,
                ended,
                seed: self.plan.seed,
                stolen_share,
                cpu_pressure_before: pressure.cpu_waiting_share,
            },
            machine,
            python: self.loaded.python.clone(),
        })
    }
}
