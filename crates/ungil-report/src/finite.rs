//! Figures that a program can read.
//!
//! JSON has no word for infinity or "not a number". A figure that is neither finite nor needed is
//! left out here, as if it had not been measured, so that the document always fits its schema.

use ungil_advise::Estimate;
use ungil_compare::comparison::{CallerDelay, Comparison, Measurement};
use ungil_compare::message::{Serialisation, StartUp};

/// The same comparison without figures that are not finite.
pub fn finite(comparison: &Comparison) -> Comparison {
    let mut comparison = comparison.clone();
    comparison.measurements.iter_mut().for_each(clean);
    for sweep in &mut comparison.sweeps {
        sweep.curve.retain(|point| point.time_s.is_finite());
    }
    comparison.serialisation = comparison.serialisation.filter(|cost: &Serialisation| {
        are_finite(&[cost.argument_bytes, cost.result_bytes, cost.seconds_per_task])
    });
    let course = &mut comparison.course;
    for figure in [&mut course.elapsed_s, &mut course.budget_s, &mut course.stolen_share] {
        *figure = if figure.is_nan() { 0.0 } else { figure.clamp(f64::MIN, f64::MAX) };
    }
    course.cpu_pressure_before = course.cpu_pressure_before.filter(|share| share.is_finite());
    comparison.machine.quota_cpus = comparison.machine.quota_cpus.filter(|cpus| cpus.is_finite());
    comparison
}

fn clean(measurement: &mut Measurement) {
    measurement.time_s = measurement.time_s.and_then(estimate);
    measurement.times_faster = measurement.times_faster.and_then(estimate);
    measurement.once_time_s = measurement.once_time_s.and_then(estimate);
    measurement.cpu_cores_used = measurement.cpu_cores_used.filter(|cores| cores.is_finite());
    measurement.cold_start = measurement.cold_start.filter(is_start_finite);
    measurement.warm_start = measurement.warm_start.filter(is_start_finite);
    measurement.caller_delay = measurement
        .caller_delay
        .filter(|delay: &CallerDelay| are_finite(&[delay.p50_s, delay.p99_s, delay.max_s]));
    measurement.log.retain(|record| are_finite(&[record.start_s, record.finish_s]));
    measurement.once_times_s.retain(|time_s| time_s.is_finite());
    if !are_finite(&measurement.round_times_s) {
        // The positions of outliers would no longer be theirs.
        measurement.round_times_s.retain(|time_s| time_s.is_finite());
        measurement.outliers.clear();
    }
}

fn estimate(estimate: Estimate) -> Option<Estimate> {
    let interval = estimate.interval.filter(|interval| are_finite(&[interval.low, interval.high]));
    estimate.value.is_finite().then_some(Estimate { interval, ..estimate })
}

fn is_start_finite(start: &StartUp) -> bool {
    are_finite(&[start.first_result_s, start.all_workers_s])
}

fn are_finite(figures: &[f64]) -> bool {
    figures.iter().all(|figure| figure.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_finite_stays_as_it_is() {
        let comparison = fixture::rich();
        assert_eq!(finite(&comparison), comparison);
    }

    #[test]
    fn what_is_not_finite_counts_as_not_measured() {
        let comparison = finite(&fixture::broken());
        let measurement = &comparison.measurements[0];
        assert_eq!(measurement.time_s, None);
        assert_eq!(measurement.cold_start, None);
        assert_eq!(measurement.caller_delay, None);
        assert!(measurement.round_times_s.is_empty() && measurement.outliers.is_empty());
        assert_eq!(comparison.course.elapsed_s, 0.0);
    }
}
