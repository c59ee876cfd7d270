//! The rows of the table: which measurements it shows, and how they are marked.

use ungil_compare::comparison::{Comparison, Measurement};
use ungil_compare::message::Agreement;

/// Marks the model to use if the job runs repeatedly.
pub const RECOMMENDED: char = '*';
/// Marks results that are not the serial run's.
pub const DIFFERENT: char = '!';

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// What it shows.
    pub measurement: &'a Measurement,
    /// Whether it is the model to use if the job runs repeatedly.
    pub is_recommended: bool,
}

impl Row<'_> {
    /// Whether its results are not the serial run's.
    pub fn is_different(&self) -> bool {
        matches!(self.measurement.agreement, Agreement::Different { .. })
    }

    /// The marks before its name.
    pub fn marks(&self) -> String {
        let marks = [(self.is_recommended, RECOMMENDED), (self.is_different(), DIFFERENT)];
        marks.iter().filter(|(is_so, _)| *is_so).map(|(_, mark)| *mark).collect()
    }
}

/// One row a measurement; of several worker counts only the best, the recommended and those that
/// failed.
pub fn rows(comparison: &Comparison) -> Vec<Row<'_>> {
    let recommended = comparison.repeated.as_ref().map(|advice| advice.choice);
    let best = best_of_each_way(comparison);
    comparison
        .measurements
        .iter()
        .enumerate()
        .map(|(at, measurement)| (at, Row { measurement, is_recommended: recommended == Some(at) }))
        .filter(|(at, row)| {
            row.is_recommended || row.measurement.failure.is_some() || best.contains(at)
        })
        .map(|(_, row)| row)
        .collect()
}

/// Of each engine and model, the position of the measurement with the shortest time. Where none
/// has a time, that of the sweep's best worker count, or else the first.
fn best_of_each_way(comparison: &Comparison) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::new();
    let measurements = &comparison.measurements;
    let is_same_way = |one: usize, other: usize| {
        let (one, other) = (&measurements[one].setup, &measurements[other].setup);
        (&one.engine, one.model) == (&other.engine, other.model)
    };
    let unfinished = |at: usize| measurements[at].failure.is_some();
    for at in (0..measurements.len()).filter(|at| !unfinished(*at)) {
        match best.iter_mut().find(|other| is_same_way(at, **other)) {
            None => best.push(at),
            Some(other) if rank(comparison, at) < rank(comparison, *other) => *other = at,
            Some(_) => {}
        }
    }
    best.sort_unstable();
    best
}

/// Less is better.
fn rank(comparison: &Comparison, at: usize) -> (f64, bool) {
    let measurement = &comparison.measurements[at];
    let time_s = measurement.time_s.map(|time| time.value).filter(|time_s| time_s.is_finite());
    let setup = &measurement.setup;
    let is_best_count = comparison.sweeps.iter().any(|sweep| {
        (&sweep.engine, sweep.model) == (&setup.engine, setup.model)
            && sweep.best_workers == Some(setup.workers * setup.threads_per_worker)
    });
    (time_s.unwrap_or(f64::INFINITY), !is_best_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn shown(comparison: &Comparison) -> Vec<(String, usize)> {
        let rows = rows(comparison);
        rows.iter()
            .map(|row| (row.measurement.label.clone(), row.measurement.setup.workers))
            .collect()
    }

    #[test]
    fn of_several_worker_counts_the_best_and_the_failed_are_shown() {
        let mut comparison = fixture::sweep();
        let expected = [("serial", 1), ("threads", 16), ("threads", 64)];
        assert_eq!(shown(&comparison), expected.map(|(label, count)| (label.to_owned(), count)));
        comparison.repeated.as_mut().unwrap().choice = 2;
        let counts: Vec<usize> = shown(&comparison).iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 4, 16, 64]);
    }

    #[test]
    fn without_times_the_sweep_decides() {
        let mut comparison = fixture::sweep();
        for measurement in &mut comparison.measurements {
            measurement.time_s = None;
        }
        comparison.repeated = None;
        let counts: Vec<usize> = shown(&comparison).iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [1, 16, 64]);
    }

    #[test]
    fn recommended_and_different_rows_are_marked() {
        let comparison = fixture::rich();
        let marks: Vec<String> = rows(&comparison).iter().map(Row::marks).collect();
        assert_eq!(marks, ["", "*!", "", "", "!", "", ""]);
    }
}
