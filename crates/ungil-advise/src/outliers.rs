//! Samples that lie far from the others.

use crate::quantile::{median, median_absolute_deviation};

/// How many standard deviations away a sample must be.
const DEVIATIONS: f64 = 5.0;

/// What makes the median absolute deviation of normal samples their standard deviation.
const DEVIATIONS_PER_MEDIAN_DEVIATION: f64 = 1.4826;

/// How far away, as a fraction of the median, a sample must be at least.
const RELATIVE_FLOOR: f64 = 0.05;

/// The indices of the samples that are far from the median, ascending.
///
/// A sample is an outlier if its distance from the median exceeds both `5 * 1.4826 * MAD` (the
/// rule of Hampel, with the median absolute deviation in place of the standard deviation, which
/// outliers would inflate themselves) and 5 % of the median, so that jitter of very steady times
/// is not flagged. Outliers are for showing: nothing in this crate drops them.
///
/// Returns no indices if a sample is not finite.
#[must_use]
pub fn outliers(samples: &[f64]) -> Vec<usize> {
    let (Some(centre), Some(deviation)) = (median(samples), median_absolute_deviation(samples))
    else {
        return Vec::new();
    };
    let by_spread = DEVIATIONS * DEVIATIONS_PER_MEDIAN_DEVIATION * deviation;
    let limit = by_spread.max(RELATIVE_FLOOR * centre.abs());
    let indexed = samples.iter().enumerate();
    indexed.filter(|(_, sample)| (*sample - centre).abs() > limit).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spike_is_flagged_and_jitter_is_not() {
        assert_eq!(outliers(&[1.0, 1.01, 0.99, 3.0, 1.0]), [3]);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 1.04]), [0usize; 0]);
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 1.0, 1.06]), [4]);
        assert!(outliers(&[1.0, 2.0, 3.0, 4.0, 5.0]).is_empty());
        assert!(outliers(&[]).is_empty());
        assert!(outliers(&[1.0, f64::NAN]).is_empty());
    }

    proptest! {
        #[test]
        fn at_most_half_of_the_samples_are_outliers(
            samples in prop::collection::vec(0.1..100.0f64, 1..40),
        ) {
            prop_assert!(2 * outliers(&samples).len() <= samples.len());
        }
    }
}
