//! How much longer one model takes than another, from the rounds in which both ran.

use crate::bootstrap::{
    RESAMPLES, expanded_percentile_interval, finite_exponential, is_open_probability,
};
use crate::interval::{Estimate, Interval};
use crate::pseudo_median::{WalshAverages, interval_of_many, pseudo_median};
use crate::quantile::sorted;

/// With more rounds than this the signed-rank test takes the place of the bootstrap.
const MOST_ROUNDS_TO_RESAMPLE: usize = 60;

/// The ratio of two models' times, paired by round, with its interval at two-sided `alpha`.
///
/// `numerator` and `denominator` hold one time a round, in seconds; the result has no unit, and
/// above 1 the numerator is slower. Pairing takes out what a whole round shares, such as a machine
/// that is slower for a while.
///
/// The value is the exponential of the Hodges-Lehmann pseudo-median of the log-ratios. Its
/// interval is the expanded percentile interval (Hesterberg 2015) of the pseudo-medians of 2000
/// resamples of the rounds, with extrapolated tails where resampling resolves nothing: at
/// `alpha = 0.001` five rounds give a wide interval, not the range of the five. Two rounds give a
/// very wide interval, one round none. If all rounds have the same ratio the interval is that
/// ratio. With more than 60 rounds, where resampling all pairs is dear and asymptotics are good,
/// the interval is that of Wilcoxon's signed-rank test, which estimates the same pseudo-median. An
/// `alpha` below 1e-7 is taken for 1e-7.
///
/// Returns `None` if the lengths differ or are zero, a time is not finite and positive, or `alpha`
/// is not between 0 and 1.
#[must_use]
pub fn paired_ratio(numerator: &[f64], denominator: &[f64], alpha: f64) -> Option<Estimate> {
    if !is_open_probability(alpha) {
        return None;
    }
    Some(LogRatio::new(numerator, denominator, RESAMPLES)?.estimate(alpha))
}

/// Whether `seconds` can be a time that something took.
pub(crate) fn is_time(seconds: f64) -> bool {
    seconds.is_finite() && seconds > 0.0
}

/// The log-ratios of two models, resampled once, so that intervals at several levels are cheap.
pub(crate) struct LogRatio {
    rounds: usize,
    centre: f64,
    spread: Spread,
}

enum Spread {
    Unknown,
    ResampledMedians(Vec<f64>),
    SortedLogRatios(Vec<f64>),
}

impl LogRatio {
    /// `None` if the lengths differ or are zero, or a time is not finite and positive.
    pub(crate) fn new(numerator: &[f64], denominator: &[f64], resamples: usize) -> Option<Self> {
        let rounds = numerator.len();
        let usable = rounds > 0
            && rounds == denominator.len()
            && numerator.iter().chain(denominator).all(|&time| is_time(time));
        if !usable {
            return None;
        }
        let pairs = numerator.iter().zip(denominator);
        let log_ratios: Vec<f64> = pairs.map(|(over, under)| over.ln() - under.ln()).collect();
        Some(if rounds > MOST_ROUNDS_TO_RESAMPLE {
            let log_ratios = sorted(&log_ratios);
            Self {
                rounds,
                centre: pseudo_median(&log_ratios),
                spread: Spread::SortedLogRatios(log_ratios),
            }
        } else {
            let averages = WalshAverages::new(&log_ratios);
            Self {
                rounds,
                centre: averages.median(),
                spread: match rounds {
                    1 => Spread::Unknown,
                    _ => Spread::ResampledMedians(averages.resampled_medians(resamples)),
                },
            }
        })
    }

    /// The ratio with its interval at two-sided `alpha`.
    pub(crate) fn estimate(&self, alpha: f64) -> Estimate {
        let interval = match &self.spread {
            Spread::Unknown => None,
            Spread::ResampledMedians(medians) => {
                Some(expanded_percentile_interval(self.centre, medians, self.rounds, alpha))
            }
            Spread::SortedLogRatios(log_ratios) => Some(interval_of_many(log_ratios, alpha)),
        };
        Estimate {
            value: finite_exponential(self.centre),
            interval: interval.map(|logarithms| Interval {
                low: finite_exponential(logarithms.low.min(self.centre)),
                high: finite_exponential(logarithms.high.max(self.centre)),
            }),
            samples: self.rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn interval(numerator: &[f64], denominator: &[f64], alpha: f64) -> Interval {
        let estimate = paired_ratio(numerator, denominator, alpha).unwrap();
        estimate.interval.unwrap()
    }

    #[test]
    fn unusable_input_gives_none() {
        assert_eq!(paired_ratio(&[], &[], 0.05), None);
        assert_eq!(paired_ratio(&[1.0], &[1.0, 2.0], 0.05), None);
        assert_eq!(paired_ratio(&[0.0], &[1.0], 0.05), None);
        assert_eq!(paired_ratio(&[1.0], &[f64::NAN], 0.05), None);
        assert_eq!(paired_ratio(&[1.0], &[f64::INFINITY], 0.05), None);
        assert_eq!(paired_ratio(&[1.0], &[1.0], 0.0), None);
        assert_eq!(paired_ratio(&[1.0], &[1.0], f64::NAN), None);
    }

    #[test]
    fn one_round_has_no_interval_and_two_a_very_wide_one() {
        let one = paired_ratio(&[3.0], &[2.0], 0.05).unwrap();
        assert!((one.value - 1.5).abs() < 1e-12);
        assert_eq!((one.interval, one.samples), (None, 1));
        let two = interval(&[1.0, 1.02], &[1.0, 1.0], 0.05);
        assert!(two.low < 0.9 && two.high > 1.12, "{two:?}");
        let extreme = interval(&[1.0, 2.0], &[1.0, 1.0], 1e-6);
        assert!(extreme.low > 0.0 && extreme.high.is_finite());
    }

    #[test]
    fn equal_ratios_collapse_the_interval() {
        let interval = interval(&[2.0; 5], &[1.0; 5], 0.001);
        assert!((interval.low - 2.0).abs() < 1e-9 && (interval.high - 2.0).abs() < 1e-9);
    }

    #[test]
    fn small_alpha_reaches_beyond_the_range_of_five_rounds() {
        let times = [1.0, 1.01, 0.99, 1.02, 0.98];
        let interval = interval(&times, &[1.0; 5], 0.001);
        assert!(interval.low < 0.95 && interval.high > 1.05, "{interval:?}");
    }

    #[test]
    fn resampling_and_signed_ranks_agree_where_they_meet() {
        let times = |rounds: usize| -> Vec<f64> {
            let spot = |i: usize| (i * 37 % rounds) as f64 / rounds as f64;
            (0..rounds).map(|i| 1.0 + 0.1 * spot(i)).collect()
        };
        let width = |rounds: usize| {
            let interval = interval(&times(rounds), &vec![1.0; rounds], 0.05);
            interval.high - interval.low
        };
        let (resampled, ranked) = (width(60), width(61));
        assert!((resampled / ranked - 1.0).abs() < 0.1, "{resampled} {ranked}");
    }

    fn rounds() -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((1e-6..1e2f64, 1e-6..1e2f64), 2..70)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn interval_contains_the_value(rounds in rounds(), alpha in 1e-6..0.5f64) {
            let (over, under): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
            let estimate = paired_ratio(&over, &under, alpha).unwrap();
            prop_assert!(estimate.interval.unwrap().contains(estimate.value));
        }

        #[test]
        fn smaller_alpha_is_never_narrower(rounds in rounds(), alpha in 1e-6..0.5f64) {
            let (over, under): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
            let (narrow, wide) = (interval(&over, &under, alpha), interval(&over, &under, alpha / 3.0));
            prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        }

        #[test]
        fn unit_of_time_does_not_matter(rounds in rounds(), scale in 1e-6..1e6f64) {
            let (over, under): (Vec<f64>, Vec<f64>) = rounds.into_iter().unzip();
            let scaled = |times: &[f64]| -> Vec<f64> { times.iter().map(|t| t * scale).collect() };
            let plain = paired_ratio(&over, &under, 0.05).unwrap();
            let other = paired_ratio(&scaled(&over), &scaled(&under), 0.05).unwrap();
            prop_assert!((plain.value / other.value - 1.0).abs() < 1e-9);
            let (plain, other) = (plain.interval.unwrap(), other.interval.unwrap());
            prop_assert!((plain.low.ln() - other.low.ln()).abs() < 1e-6);
            prop_assert!((plain.high.ln() - other.high.ln()).abs() < 1e-6);
        }
    }
}
