//! What was compared, and on what.

use std::collections::BTreeSet;

use ungil_compare::comparison::Measurement;
use ungil_compare::message::{FailureKind, Python};
use ungil_compare::{Comparison, Model};
use ungil_observe::Machine;

use crate::counted::counted;
use crate::text::style::{Paint, Style};
use crate::text::wrap::wrap;

/// Up to this many CPU cores the serial run mostly waits; the same bound as in the advice.
const WAITING_CORES: f64 = 0.5;

/// Target and tasks; interpreter, CPUs, start method and workers.
pub fn render(comparison: &Comparison, style: &Style) -> Vec<String> {
    let kind = if comparison.is_coroutine_function { ", a coroutine function" } else { "" };
    let tasks = counted(comparison.tasks as u64, "task");
    let width = style.prose_columns();
    let title = wrap(&format!("{}{kind}: {tasks} a run", comparison.target), width, "", "  ");
    let mut lines: Vec<String> =
        title.iter().map(|line| style.paint(&[Paint::Bold], line)).collect();
    let mut facts = vec![
        interpreter(&comparison.python),
        cpus(&comparison.machine),
        format!("start method {}", comparison.python.start_method),
    ];
    facts.extend(workers(comparison));
    facts.extend(comparison.python.native_thread_settings.iter().cloned());
    lines.extend(wrap(&facts.join(", "), width, "", "  "));
    lines
}

fn interpreter(python: &Python) -> String {
    let build = match (python.gil_enabled, python.build.contains("free-threading")) {
        (false, _) => " free-threaded (GIL off)",
        (true, true) => " free-threaded with the GIL switched on",
        (true, false) => "",
    };
    format!("{} {}{build}", python.implementation, python.version)
}

fn cpus(machine: &Machine) -> String {
    let usable = machine.usable_cpus();
    if usable < machine.online_cpus {
        format!("{usable} of {} CPUs usable", machine.online_cpus)
    } else {
        counted(usable as u64, "usable CPU")
    }
}

/// How many workers the models had, and what that number has to do with.
fn workers(comparison: &Comparison) -> Option<String> {
    if !comparison.sweeps.is_empty() {
        return Some("several numbers of workers (the table shows the best)".to_owned());
    }
    let usable_cpus = comparison.machine.usable_cpus();
    let counts: BTreeSet<usize> = comparison
        .measurements
        .iter()
        .filter(|measurement| has_common_workers(measurement, comparison))
        .map(|measurement| measurement.setup.workers * measurement.setup.threads_per_worker)
        .collect();
    let (least, most) = (*counts.first()?, *counts.last()?);
    let number = if least == most {
        counted(least as u64, "worker")
    } else {
        return Some(format!("{least} to {most} workers"));
    };
    let serial_cores = comparison
        .measurements
        .iter()
        .find(|measurement| measurement.setup.model == Model::Serial)
        .and_then(|serial| serial.cpu_cores_used);
    Some(match serial_cores {
        _ if least == usable_cpus => format!("{number} (one a usable CPU)"),
        _ if least == comparison.tasks => format!("{number} (one a task)"),
        Some(cores) if cores < WAITING_CORES => {
            format!("{number} (the serial run mostly waits)")
        }
        _ => number,
    })
}

/// Not serial; not rounded up to whole processes; not an event loop that holds all tasks at once.
fn has_common_workers(measurement: &Measurement, comparison: &Comparison) -> bool {
    let own = &measurement.setup;
    let is_unavailable = measurement
        .failure
        .as_ref()
        .is_some_and(|failure| failure.kind == FailureKind::Unavailable);
    let is_rounded = own.model == Model::ProcessesThreads;
    let is_all_at_once = own.model == Model::Asyncio && own.workers == comparison.tasks;
    own.model != Model::Serial && !is_unavailable && !is_rounded && !is_all_at_once
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn text(comparison: &Comparison) -> String {
        render(comparison, &Style::plain(100)).join("\n").replace("\n  ", " ")
    }

    #[test]
    fn target_interpreter_machine_and_workers_are_named() {
        let mut comparison = fixture::comparison();
        assert_eq!(
            text(&comparison),
            "tasks.py:resize: 64 tasks a run\nCPython 3.13.0, 2 of 4 CPUs usable, start method \
             forkserver, 2 workers (one a usable CPU)"
        );
        comparison.is_coroutine_function = true;
        comparison.tasks = 1;
        assert!(text(&comparison).starts_with("tasks.py:resize, a coroutine function: 1 task a"));
    }

    #[test]
    fn a_switched_off_gil_is_named() {
        let mut comparison = fixture::comparison();
        comparison.python.gil_enabled = false;
        assert!(text(&comparison).contains("CPython 3.13.0 free-threaded (GIL off), "));
        comparison.python.gil_enabled = true;
        comparison.python.build = "experimental free-threading build (main)".to_owned();
        assert!(text(&comparison).contains("free-threaded with the GIL switched on"));
    }

    #[test]
    fn the_number_of_workers_comes_with_what_it_has_to_do_with() {
        let mut comparison = fixture::comparison();
        for measurement in &mut comparison.measurements[1..] {
            measurement.setup.workers = 32;
        }
        assert!(text(&comparison).ends_with("forkserver, 32 workers"));
        comparison.measurements[0].cpu_cores_used = Some(0.1);
        assert!(text(&comparison).ends_with("32 workers (the serial run mostly waits)"));
        comparison.measurements[1].setup.workers = 8;
        assert!(text(&comparison).ends_with("8 to 32 workers"));
        assert!(text(&fixture::rich()).contains("several numbers of workers ("));
    }
}
