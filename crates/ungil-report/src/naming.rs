//! Names that tell measurements apart.

use std::collections::HashMap;

use ungil_compare::comparison::{Comparison, Measurement};
use ungil_compare::message::Setup;

/// Names of the measurements of one comparison.
#[derive(Debug)]
pub struct Naming<'a> {
    uses: HashMap<&'a str, usize>,
}

impl<'a> Naming<'a> {
    /// The names of a comparison.
    pub fn of(comparison: &'a Comparison) -> Naming<'a> {
        let mut uses = HashMap::new();
        for measurement in &comparison.measurements {
            *uses.entry(measurement.label.as_str()).or_default() += 1;
        }
        Naming { uses }
    }

    /// The label; where several measurements have it, with the number of workers.
    pub fn name(&self, measurement: &Measurement) -> String {
        let is_shared = self.uses.get(measurement.label.as_str()).is_some_and(|uses| *uses > 1);
        if is_shared {
            format!("{}, workers {}", measurement.label, workers(&measurement.setup))
        } else {
            measurement.label.clone()
        }
    }
}

/// `8`, or `2 x 16` for two processes of 16 threads.
pub fn workers(setup: &Setup) -> String {
    if setup.threads_per_worker > 1 {
        format!("{} x {}", setup.workers, setup.threads_per_worker)
    } else {
        setup.workers.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_number_of_workers_is_named_only_where_it_tells_apart() {
        let mut comparison = fixture::comparison();
        let naming = Naming::of(&comparison);
        assert_eq!(naming.name(&comparison.measurements[1]), "threads");
        let mut twin = comparison.measurements[1].clone();
        twin.setup.workers = 4;
        comparison.measurements.push(twin);
        let naming = Naming::of(&comparison);
        assert_eq!(naming.name(&comparison.measurements[1]), "threads, workers 2");
        assert_eq!(naming.name(comparison.measurements.last().unwrap()), "threads, workers 4");
    }
}
