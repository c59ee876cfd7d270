//! An estimate and how far it can be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A confidence interval, both ends included, in the unit of what is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies between the ends.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// An estimated value, its interval, and how many samples both rest on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The estimated value, in the unit of the samples (no unit for a ratio).
    pub value: f64,
    /// The confidence interval; absent if there are too few samples for any.
    pub interval: Option<Interval>,
    /// The number of samples, or of rounds for a ratio.
    pub samples: usize,
}
