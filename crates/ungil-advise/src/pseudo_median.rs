//! The Hodges-Lehmann pseudo-median: the median of the averages of all pairs of samples.
//!
//! These *Walsh averages* `(x_i + x_j) / 2` for `i <= j` number `n (n + 1) / 2`. Their median is
//! nearly as precise as the mean for normal samples and hardly moved by outliers (Hodges and
//! Lehmann, "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics 34,
//! 1963).

use crate::bootstrap::{expanded_normal_quantile, resampled};
use crate::interval::Interval;

/// The Walsh averages of a few samples, in ascending order.
pub(crate) struct WalshAverages {
    count: usize,
    /// The average, and which two of the samples it is of.
    averages: Vec<(f64, usize, usize)>,
}

impl WalshAverages {
    /// All pairs of `samples`: time and memory grow with the square of their number.
    pub(crate) fn new(samples: &[f64]) -> Self {
        let count = samples.len();
        let mut averages = Vec::with_capacity(count * (count + 1) / 2);
        for first in 0..count {
            for second in first..count {
                averages.push((midpoint(samples[first], samples[second]), first, second));
            }
        }
        averages.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
        Self { count, averages }
    }

    /// The pseudo-median of the samples.
    pub(crate) fn median(&self) -> f64 {
        let total = self.averages.len();
        midpoint(self.averages[(total - 1) / 2].0, self.averages[total / 2].0)
    }

    /// The sorted pseudo-medians of `resamples` resamples.
    pub(crate) fn resampled_medians(&self, resamples: usize) -> Vec<f64> {
        resampled(self.count, resamples, |counts| self.median_of_resample(counts))
    }

    /// The pseudo-median of the resample that holds each sample as often as `counts` says.
    ///
    /// The averages of a resample are those of the samples, each as often as its two samples
    /// occur; so nothing is averaged or sorted again, and a walk over half of them finds the
    /// median. It is the innermost loop of every comparison, hence a plain one.
    fn median_of_resample(&self, counts: &[u32]) -> f64 {
        let total = self.averages.len() as u32;
        let (lower_rank, upper_rank) = ((total - 1) / 2, total / 2);
        let mut passed = 0;
        let mut lower = None;
        for &(average, first, second) in &self.averages {
            let occurrences = counts[first];
            if occurrences == 0 {
                continue;
            }
            passed += if first == second {
                occurrences * (occurrences + 1) / 2
            } else {
                occurrences * counts[second]
            };
            if passed > lower_rank {
                let lower = *lower.get_or_insert(average);
                if passed > upper_rank {
                    return midpoint(lower, average);
                }
            }
        }
        f64::NAN // Only if the counts do not add up to the number of samples.
    }
}

/// The pseudo-median of sorted samples (at least one), without listing their Walsh averages.
pub(crate) fn pseudo_median(sorted: &[f64]) -> f64 {
    let total = sorted.len() * (sorted.len() + 1) / 2;
    let lower = walsh_average_of_rank(sorted, (total - 1) / 2);
    if total % 2 == 1 {
        return lower;
    }
    midpoint(lower, walsh_average_of_rank(sorted, total / 2))
}

/// The interval of the pseudo-median of many sorted samples at two-sided `alpha`.
///
/// Wilcoxon's signed-rank test inverted: the ends are the Walsh averages whose rank is
/// `n (n + 1) / 4 -+ z sqrt(n (n + 1) (2 n + 1) / 24)` (Hollander and Wolfe, "Nonparametric
/// Statistical Methods", section 3.3), with the same small-sample `z` as the bootstrap.
pub(crate) fn interval_of_many(sorted: &[f64], alpha: f64) -> Interval {
    let count = sorted.len() as f64;
    let deviation = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
    let reach = expanded_normal_quantile(sorted.len(), alpha) * deviation;
    let rank = (count * (count + 1.0) / 4.0 - reach).max(0.0) as usize;
    let last = sorted.len() * (sorted.len() + 1) / 2 - 1;
    Interval {
        low: walsh_average_of_rank(sorted, rank),
        high: walsh_average_of_rank(sorted, last - rank),
    }
}

/// The Walsh average with `rank` smaller ones, found by bisection to the last bits of the range.
fn walsh_average_of_rank(sorted: &[f64], rank: usize) -> f64 {
    let (mut low, mut high) = (sorted[0], sorted[sorted.len() - 1]);
    if walsh_averages_up_to(sorted, low) > rank {
        return low;
    }
    // Sixty-four halvings leave nothing of the range that a double could show.
    for _ in 0..64 {
        let middle = midpoint(low, high);
        if walsh_averages_up_to(sorted, middle) > rank {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// How many Walsh averages are at most `limit`, by two pointers that approach each other.
fn walsh_averages_up_to(sorted: &[f64], limit: f64) -> usize {
    let mut found = 0;
    let mut end = sorted.len();
    for (first, &sample) in sorted.iter().enumerate() {
        while end > first && midpoint(sample, sorted[end - 1]) > limit {
            end -= 1;
        }
        if end <= first {
            break;
        }
        found += end - first;
    }
    found
}

fn midpoint(first: f64, second: f64) -> f64 {
    0.5 * first + 0.5 * second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantile::{median, sorted};
    use proptest::prelude::*;

    #[test]
    fn known_pseudo_median() {
        // The averages are 1, 1.5, 2, 2.5, 3, 4, 5.5, 6, 7 and 10.
        assert_eq!(WalshAverages::new(&[10.0, 1.0, 4.0, 2.0]).median(), 3.5);
        assert_eq!(WalshAverages::new(&[7.0]).median(), 7.0);
    }

    proptest! {
        #[test]
        fn bisection_finds_what_listing_finds(
            samples in prop::collection::vec(-10.0..10.0f64, 1..30),
        ) {
            let listed = WalshAverages::new(&samples).median();
            prop_assert!((pseudo_median(&sorted(&samples)) - listed).abs() < 1e-9);
        }

        #[test]
        fn weights_stand_for_the_pairs_of_a_resample(
            samples in prop::collection::vec(-10.0..10.0f64, 2..8),
        ) {
            let averages = WalshAverages::new(&samples);
            let mut expected = resampled(samples.len(), 50, |counts| {
                let resample: Vec<f64> = samples
                    .iter()
                    .zip(counts)
                    .flat_map(|(&sample, &count)| std::iter::repeat_n(sample, count as usize))
                    .collect();
                WalshAverages::new(&resample).median()
            });
            expected.sort_unstable_by(f64::total_cmp);
            for (found, expected) in averages.resampled_medians(50).iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-12);
            }
        }

        #[test]
        fn symmetric_samples_have_their_median(half in prop::collection::vec(0.1..10.0f64, 1..10)) {
            let samples: Vec<f64> = half.iter().flat_map(|x| [5.0 - x, 5.0 + x]).collect();
            let expected = median(&samples).unwrap();
            prop_assert!((WalshAverages::new(&samples).median() - expected).abs() < 1e-9);
        }
    }
}
