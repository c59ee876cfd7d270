//! Intervals by resampling: the bootstrap of the median, and the correction for small samples.
//!
//! The plain percentile interval is too narrow for few samples: resampling uses the divisor `n`
//! where `n - 1` is due, and normal quantiles where those of Student's t are due. The *expanded
//! percentile interval* undoes both by reading the bootstrap distribution further out, at
//!
//! ```text
//! alpha' / 2 = Phi(-sqrt(n / (n - 1)) * t(1 - alpha / 2, n - 1))
//! ```
//!
//! (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
//! 2015.) For few samples or small `alpha` that lies beyond what resampling can resolve: `n`
//! samples are all on one side of the centre with probability `2^-n`, so no resample says anything
//! about rarer events, and the percentile interval would stop at the range of the data, however
//! small `alpha`. There the tail is extrapolated: the distance from the centre to the last quantile
//! that can be resolved, times the ratio of the two normal quantiles.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::interval::{Estimate, Interval};
use crate::quantile::{quantile_of_sorted, sorted};

/// How often samples are drawn again.
pub(crate) const RESAMPLES: usize = 2000;

/// How many resamples must lie beyond a quantile for it to count as resolved.
const RESAMPLES_BEYOND_A_QUANTILE: f64 = 10.0;

/// With more samples than this the interval of the median is read from order statistics.
const MOST_SAMPLES_TO_RESAMPLE: usize = 1000;

/// A smaller `alpha` is taken for this: quantiles of Student's t are not computed exactly enough
/// beyond, and no experiment tests at such a level.
const SMALLEST_ALPHA: f64 = 1e-7;

/// Where the random numbers start; the number of samples is added.
const SEED: u64 = 0x0075_6e67_696c;

/// The median of `samples` and its bootstrap interval, in their unit.
///
/// `confidence` is between 0 and 1, such as 0.95. The interval is the expanded percentile interval
/// (Hesterberg 2015, see above) of 2000 resampled medians; with fewer than three samples there is
/// none. Where the tail must be extrapolated this happens on a logarithmic scale if all samples are
/// positive, so that an interval of times never reaches below zero. With more than 1000 samples
/// the interval is read from the order statistics at `1/2 +- z / (2 sqrt(n))`, to which the
/// bootstrap of the median converges. The random numbers depend on the number of samples only.
///
/// Returns `None` if there are no samples, one of them is not finite, or `confidence` is not
/// between 0 and 1.
#[must_use]
pub fn median_estimate(samples: &[f64], confidence: f64) -> Option<Estimate> {
    let usable = !samples.is_empty() && samples.iter().all(|sample| sample.is_finite());
    if !usable || !is_open_probability(confidence) {
        return None;
    }
    let ordered = sorted(samples);
    Some(Estimate {
        value: quantile_of_sorted(&ordered, 0.5),
        interval: (samples.len() >= 3).then(|| median_interval(&ordered, 1.0 - confidence)),
        samples: samples.len(),
    })
}

/// The interval of the median of at least three sorted samples.
fn median_interval(ordered: &[f64], alpha: f64) -> Interval {
    let count = ordered.len();
    if count > MOST_SAMPLES_TO_RESAMPLE {
        let reach = expanded_normal_quantile(count, alpha) / (2.0 * (count as f64).sqrt());
        return Interval {
            low: quantile_of_sorted(ordered, (0.5 - reach).max(0.0)),
            high: quantile_of_sorted(ordered, (0.5 + reach).min(1.0)),
        };
    }
    let centre = quantile_of_sorted(ordered, 0.5);
    let medians = resampled(count, RESAMPLES, |counts| median_of_resample(ordered, counts));
    if ordered[0] <= 0.0 {
        return expanded_percentile_interval(centre, &medians, count, alpha);
    }
    let logarithms: Vec<f64> = medians.iter().map(|median| median.ln()).collect();
    let interval = expanded_percentile_interval(centre.ln(), &logarithms, count, alpha);
    // Going to logarithms and back may cost the last bit, and the interval must contain the median.
    Interval {
        low: finite_exponential(interval.low).min(centre),
        high: finite_exponential(interval.high).max(centre),
    }
}

/// The median of the resample that holds `ordered[i]` as often as `counts[i]` says.
fn median_of_resample(ordered: &[f64], counts: &[u32]) -> f64 {
    let of_rank = |rank: usize| {
        let mut passed = 0;
        let position = counts.iter().position(|&count| {
            passed += count as usize;
            passed > rank
        });
        ordered[position.expect("the counts add up to the number of samples")]
    };
    let count = ordered.len();
    0.5 * of_rank((count - 1) / 2) + 0.5 * of_rank(count / 2)
}

/// The sorted values of a statistic over `resamples` resamples of `count` samples.
///
/// `statistic` is told how often each of the samples occurs in the resample.
pub(crate) fn resampled(
    count: usize,
    resamples: usize,
    mut statistic: impl FnMut(&[u32]) -> f64,
) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED.wrapping_add(count as u64));
    let mut counts = vec![0u32; count];
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        counts.fill(0);
        for _ in 0..count {
            // The upper half of the product: uniform to within count / 2^32, and no division.
            let drawn = (u64::from(random.next_u32()) * count as u64) >> 32;
            counts[drawn as usize] += 1;
        }
        values.push(statistic(&counts));
    }
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// How many standard deviations from the centre the ends of an interval for `count` samples (at
/// least two) are read: `sqrt(n / (n - 1)) * t(1 - alpha / 2, n - 1)`.
pub(crate) fn expanded_normal_quantile(count: usize, alpha: f64) -> f64 {
    let freedom = (count - 1) as f64;
    let student = StudentsT::new(0.0, 1.0, freedom).expect("freedom is positive");
    let tail = alpha.max(SMALLEST_ALPHA) / 2.0;
    (count as f64 / freedom).sqrt() * -student.inverse_cdf(tail)
}

/// The expanded percentile interval at two-sided `alpha`, from the `sorted_values` of a statistic
/// over resamples of `count` samples (at least two). It always contains `centre`, and a smaller
/// `alpha` never gives a narrower one.
pub(crate) fn expanded_percentile_interval(
    centre: f64,
    sorted_values: &[f64],
    count: usize,
    alpha: f64,
) -> Interval {
    let normal = Normal::standard();
    let reach = expanded_normal_quantile(count, alpha);
    let resolvable = smallest_resolvable_probability(count, sorted_values.len());
    let probability = normal.cdf(-reach).max(resolvable);
    let stretch = (reach / -normal.inverse_cdf(resolvable)).max(1.0);
    let below = centre - quantile_of_sorted(sorted_values, probability);
    let above = quantile_of_sorted(sorted_values, 1.0 - probability) - centre;
    Interval { low: centre - stretch * below.max(0.0), high: centre + stretch * above.max(0.0) }
}

/// The smallest tail probability that resampling resolves: half of `2^-n`, which leaves room for
/// the resample in which all samples are the same extreme one, and at least ten resamples.
fn smallest_resolvable_probability(count: usize, resamples: usize) -> f64 {
    let by_samples = 0.5f64.powi(count.min(1000) as i32 + 1);
    let by_resamples = RESAMPLES_BEYOND_A_QUANTILE / resamples as f64;
    by_samples.max(by_resamples).min(0.25)
}

/// Whether `probability` lies strictly between 0 and 1.
pub(crate) fn is_open_probability(probability: f64) -> bool {
    probability > 0.0 && probability < 1.0
}

/// The exponential, kept finite and positive: a very wide interval must survive JSON, which has
/// no infinity.
pub(crate) fn finite_exponential(logarithm: f64) -> f64 {
    logarithm.clamp(-700.0, 700.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 1e-3
    }

    #[test]
    fn expanded_quantiles_match_the_tables_of_student() {
        let without_factor = |count: usize, alpha| {
            expanded_normal_quantile(count, alpha) / (count as f64 / (count - 1) as f64).sqrt()
        };
        assert!(close(without_factor(2, 0.05), 12.706));
        assert!(close(without_factor(2, 0.001), 636.62));
        assert!(close(without_factor(5, 0.05), 2.7764));
        assert!(close(without_factor(5, 0.001), 8.6103));
        assert!(close(without_factor(40, 0.001), 3.5581));
        assert!(close(without_factor(5, 1e-6), 49.46));
    }

    #[test]
    fn reach_is_finite_and_grows_as_alpha_shrinks() {
        for count in 2..70 {
            let mut before = 0.0;
            for exponent in (0..100).map(|step| 0.01 + f64::from(step) / 10.0) {
                let reach = expanded_normal_quantile(count, 10f64.powf(-exponent));
                assert!(reach.is_finite() && reach >= before, "{count} {exponent} {reach}");
                before = reach;
            }
        }
    }

    #[test]
    fn few_samples_have_a_median_and_no_interval() {
        assert_eq!(median_estimate(&[], 0.95), None);
        assert_eq!(median_estimate(&[1.0, f64::NAN], 0.95), None);
        assert_eq!(median_estimate(&[1.0], 1.0), None);
        let estimate = median_estimate(&[1.0, 3.0], 0.95).unwrap();
        assert_eq!((estimate.value, estimate.interval), (2.0, None));
    }

    #[test]
    fn equal_samples_collapse_the_interval() {
        let interval = median_estimate(&[0.3; 7], 0.95).unwrap().interval.unwrap();
        assert!((interval.low - 0.3).abs() < 1e-12 && (interval.high - 0.3).abs() < 1e-12);
    }

    #[test]
    fn resampling_and_order_statistics_agree_where_they_meet() {
        let samples = |count: usize| -> Vec<f64> {
            let step = 1.0 / count as f64;
            (0..count).map(|i| 1.0 + step * i as f64).collect()
        };
        let width = |count| {
            let interval = median_estimate(&samples(count), 0.95).unwrap().interval;
            interval.map(|interval| interval.high - interval.low).unwrap()
        };
        let (resampled, ordered) = (width(1000), width(1001));
        assert!((resampled / ordered - 1.0).abs() < 0.1, "{resampled} {ordered}");
    }

    proptest! {
        #[test]
        fn interval_contains_the_median_and_stays_positive(
            samples in prop::collection::vec(1e-6..1e3f64, 3..30),
        ) {
            let estimate = median_estimate(&samples, 0.95).unwrap();
            let interval = estimate.interval.unwrap();
            prop_assert!(interval.contains(estimate.value));
            prop_assert!(interval.low > 0.0 && interval.high.is_finite());
        }

        #[test]
        fn more_confidence_is_never_narrower(
            samples in prop::collection::vec(1e-3..1e3f64, 3..30),
        ) {
            let interval = |confidence| median_estimate(&samples, confidence).unwrap().interval.unwrap();
            let (narrow, wide) = (interval(0.9), interval(0.99));
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        }
    }
}
