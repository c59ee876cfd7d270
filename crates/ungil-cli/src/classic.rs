//! The two classic tasks: a countdown, which computes, and a sleep, which waits.

use ungil_compare::Job;
use ungil_compare::message::{Items, Target};
use ungil_observe::Machine;

/// Seconds for both comparisons together.
pub const BUDGET_S: f64 = 20.0;
/// Steps of one countdown: 20 to 50 ms of Python.
const COUNTDOWN_STEPS: u32 = 1_500_000;
/// Seconds of one sleep.
const SLEEP_S: f64 = 0.05;

/// The two jobs, sized for the machine: a round of either takes well below a second on two cores.
pub fn jobs(engines: &[String], machine: &Machine) -> Vec<Job> {
    let job = |function: &str, argument: String, tasks: usize| Job {
        target: Target::Named(format!("ungil.classic:{function}")),
        items: Items::None,
        arguments: Some(format!("[{argument}]")),
        keywords: None,
        tasks: Some(tasks),
        engines: engines.to_vec(),
    };
    vec![
        job("countdown", COUNTDOWN_STEPS.to_string(), machine.usable_cpus().max(4)),
        job("sleep", SLEEP_S.to_string(), 8),
    ]
}
