//! Who ran which task when: one line a task.

use ungil_compare::Comparison;

use crate::naming::Naming;
use crate::text::{measure, visible_line};

const HEADINGS: [&str; 6] = ["pid", "process", "thread", "model", "start s", "finish s"];
/// Numbers are aligned to the right.
const IS_NUMBER: [bool; 6] = [true, false, false, false, true, true];

/// The log of every logged run, by model and then by the time at which a task started.
pub fn render(comparison: &Comparison) -> String {
    let rows = rows(comparison);
    let target = visible_line(&comparison.target);
    if rows.is_empty() {
        return format!("Log of {target}: no run was logged.\n");
    }
    let headings = HEADINGS.map(str::to_owned);
    let mut widths = HEADINGS.map(measure::columns);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = measure::columns(cell).max(*width);
        }
    }
    let mut text = format!(
        "Log of {target}: one line a task; start and finish in seconds from the start of its run.\n\n"
    );
    for row in std::iter::once(&headings).chain(&rows) {
        text.push_str(&line(row, &widths));
        text.push('\n');
    }
    text
}

fn rows(comparison: &Comparison) -> Vec<[String; 6]> {
    let naming = Naming::of(comparison);
    let mut records: Vec<_> = comparison
        .measurements
        .iter()
        .enumerate()
        .flat_map(|(at, measurement)| measurement.log.iter().map(move |record| (at, record)))
        .collect();
    records.sort_by(|(at, record), (other_at, other)| {
        let model = |at: usize| comparison.measurements[at].setup.model;
        (model(*at), at)
            .cmp(&(model(*other_at), other_at))
            .then(record.start_s.total_cmp(&other.start_s))
            .then(record.task.cmp(&other.task))
    });
    records
        .into_iter()
        .map(|(at, record)| {
            [
                record.pid.to_string(),
                visible_line(&record.process),
                visible_line(&record.thread),
                visible_line(&naming.name(&comparison.measurements[at])),
                seconds(record.start_s),
                seconds(record.finish_s),
            ]
        })
        .collect()
}

fn seconds(time_s: f64) -> String {
    if time_s.is_finite() { format!("{time_s:.6}") } else { "?".to_owned() }
}

fn line(row: &[String; 6], widths: &[usize; 6]) -> String {
    let cells: Vec<String> = (0..6)
        .map(|at| match IS_NUMBER[at] {
            true => measure::to_the_right(&row[at], widths[at]),
            false => measure::to_the_left(&row[at], widths[at]),
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn tasks_are_listed_by_model_and_start() {
        let mut comparison = fixture::logged();
        comparison.measurements.reverse();
        assert_eq!(
            render(&comparison),
            "\
Log of tasks.py:resize: one line a task; start and finish in seconds from the start of its run.

 pid  process        thread      model       start s  finish s
 100  MainProcess    MainThread  serial     0.000010  0.004000
 100  MainProcess    MainThread  serial     0.004010  0.008000
 100  MainProcess    worker_0    threads    0.000300  0.008100
 100  MainProcess    worker_1    threads    0.000310  0.008200
 101  SpawnProcess1  MainThread  processes  0.001000  0.005000
1202  SpawnProcess2  MainThread  processes  0.001500  0.005500
"
        );
    }

    #[test]
    fn nothing_logged_is_said() {
        assert_eq!(render(&fixture::nothing()), "Log of tasks.py:resize: no run was logged.\n");
    }

    #[test]
    fn names_cannot_command_the_terminal_nor_break_lines() {
        let mut comparison = fixture::logged();
        comparison.measurements[1].log[0].thread = "two\nlines\x1b[2J漢字".to_owned();
        comparison.measurements[1].log[1].start_s = f64::NAN;
        let text = render(&comparison);
        assert!(text.contains(r"two\nlines\x1b[2J漢字") && !text.contains('\x1b'));
        let ends: Vec<usize> = text.lines().skip(2).map(measure::columns).collect();
        assert!(ends.iter().all(|end| *end == ends[0]), "{text}");
    }
}
