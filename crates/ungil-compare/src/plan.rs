//! What to run, how often at most, and what to announce.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ungil_advise::{Looks, Model};

use crate::message::{Job, Setup};

/// Warm-up runs of one setup at most; they are discarded for the times.
pub const WARM_UPS: usize = 3;
/// Fresh starts of one setup at most, for the verdict on a job that runs once.
pub const FRESH_STARTS: usize = 8;
/// Workers that a sweep goes on to at most.
pub const SWEEP_LIMIT: usize = 512;
/// Workers for work that waits, if the user names no number.
pub const WAITING_WORKERS: usize = 32;

/// The whole experiment, as the user asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The function and its tasks.
    pub job: Job,
    /// What of the job travels as bytes.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// The models, `None` for all that apply.
    pub models: Option<Vec<Model>>,
    /// The engines that run them.
    pub engines: Vec<String>,
    /// The worker counts, `None` for one that fits what the serial run shows.
    pub workers: Option<Vec<usize>>,
    /// How long the experiment may take, in seconds.
    pub budget_s: f64,
    /// Measured rounds at most.
    pub rounds: Option<usize>,
    /// Whether one more run of each setup records who ran which task when.
    pub is_logged: bool,
    /// Seed of the order of the rounds.
    pub seed: u64,
}

impl Plan {
    /// How long the experiment may take.
    pub fn budget(&self) -> Duration {
        Duration::from_secs_f64(self.budget_s)
    }

    /// Whether several worker counts are compared with each other.
    pub fn is_sweep(&self) -> bool {
        self.workers.as_ref().is_some_and(|counts| counts.len() > 1)
    }

    /// Measured rounds of each setup at most.
    pub fn rounds_limit(&self) -> usize {
        let planned = Looks::planned().maximum_rounds();
        self.rounds.map_or(planned, |rounds| rounds.min(planned))
    }

    /// Runs of all tasks, in one setup, at most.
    pub fn runs_limit(&self) -> usize {
        self.rounds_limit() + WARM_UPS + self.fresh_starts_limit() + usize::from(self.is_logged)
    }

    /// Fresh starts of each setup at most.
    pub fn fresh_starts_limit(&self) -> usize {
        FRESH_STARTS.min(self.rounds_limit())
    }
}

/// What is said before the function is called for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The function's name.
    pub function: String,
    /// Calls in one run.
    pub tasks: usize,
    /// Ways to run the job, at most.
    pub setups: usize,
    /// Runs of each, at most.
    pub runs: usize,
    /// How long all of it may take.
    pub budget: Duration,
}

impl Announcement {
    /// Calls of the function in the whole experiment, at most.
    pub fn calls(&self) -> u64 {
        self.tasks as u64 * self.setups as u64 * self.runs as u64
    }
}

/// The number of workers that fits what the serial run shows.
///
/// Work that keeps `cores` CPUs busy while it runs alone needs `usable / cores` workers to keep
/// all usable CPUs busy; work that waits most of the time would need hundreds, so the number is
/// cut at 32 and at the number of tasks. Computing work gets one worker a CPU.
pub fn fitting_workers(serial_cpu_cores: f64, usable_cpus: usize, tasks: usize) -> usize {
    // A little waiting is noise: only from half a core downwards do more workers than CPUs help
    // by more than they cost.
    let wanted = if serial_cpu_cores > 0.5 {
        usable_cpus
    } else {
        (usable_cpus as f64 / serial_cpu_cores.max(1e-3)).ceil() as usize
    };
    wanted.min(WAITING_WORKERS.max(usable_cpus)).min(tasks).max(usable_cpus.min(tasks)).max(1)
}

/// The setup of a model with a number of workers.
pub fn setup(engine: &str, model: Model, workers: usize, usable_cpus: usize) -> Setup {
    let (workers, threads_per_worker) = match model {
        Model::Serial => (1, 1),
        Model::ProcessesThreads => {
            let processes = workers.min(usable_cpus).max(1);
            (processes, workers.div_ceil(processes).max(2))
        }
        _ => (workers, 1),
    };
    Setup { engine: engine.to_owned(), model, workers, threads_per_worker }
}

/// The next worker count of a sweep that is still gaining.
pub fn next_in_sweep(largest: usize, tasks: usize) -> Option<usize> {
    let next = (largest * 2).min(tasks).min(SWEEP_LIMIT);
    (next > largest).then_some(next)
}

/// How many counts a sweep from `largest` can add.
pub fn sweep_steps(largest: usize, tasks: usize) -> usize {
    std::iter::successors(Some(largest), |count| next_in_sweep(*count, tasks)).count() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_work_gets_a_worker_a_cpu_and_waiting_work_gets_many() {
        assert_eq!(fitting_workers(1.0, 2, 100), 2);
        assert_eq!(fitting_workers(0.9, 16, 100), 16);
        assert_eq!(fitting_workers(0.25, 2, 100), 8);
        assert_eq!(fitting_workers(0.0, 2, 100), 32);
        assert_eq!(fitting_workers(0.0, 64, 1000), 64);
    }

    #[test]
    fn there_are_never_more_workers_than_tasks_nor_none() {
        assert_eq!(fitting_workers(0.0, 2, 5), 5);
        assert_eq!(fitting_workers(1.0, 8, 3), 3);
        assert_eq!(fitting_workers(1.0, 1, 1), 1);
    }

    #[test]
    fn processes_with_threads_have_at_least_two_threads() {
        let setup = |workers| setup("stdlib", Model::ProcessesThreads, workers, 2);
        assert_eq!((setup(2).workers, setup(2).threads_per_worker), (2, 2));
        assert_eq!((setup(32).workers, setup(32).threads_per_worker), (2, 16));
        assert_eq!((setup(1).workers, setup(1).threads_per_worker), (1, 2));
    }

    #[test]
    fn a_sweep_doubles_up_to_the_number_of_tasks() {
        assert_eq!(next_in_sweep(8, 100), Some(16));
        assert_eq!(next_in_sweep(64, 100), Some(100));
        assert_eq!(next_in_sweep(100, 100), None);
        assert_eq!(next_in_sweep(512, 10_000), None);
        assert_eq!(sweep_steps(8, 100), 4);
        assert_eq!(sweep_steps(100, 100), 0);
    }
}
