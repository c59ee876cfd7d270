//! Quantiles of a sample, and the spread that outliers do not move.

/// The median of `samples`, in their unit.
///
/// Returns `None` if there are no samples or one of them is not finite.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// The quantile of `samples` at probability `q` (0 to 1), in their unit.
///
/// Linear interpolation between order statistics, with the smallest sample at `q = 0` and the
/// largest at `q = 1`: type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages",
/// The American Statistician 50(4), 1996.
///
/// Returns `None` if there are no samples, one of them is not finite, or `q` is outside 0 to 1.
#[must_use]
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let acceptable = !samples.is_empty()
        && samples.iter().all(|sample| sample.is_finite())
        && (0.0..=1.0).contains(&q);
    acceptable.then(|| quantile_of_sorted(&sorted(samples), q))
}

/// The median of the distances of `samples` from their median, in their unit.
///
/// It is not scaled: multiply by 1.4826 to estimate the standard deviation of normal samples
/// (Hampel, "The Influence Curve and Its Role in Robust Estimation", JASA 69, 1974).
///
/// Returns `None` if there are no samples or one of them is not finite.
#[must_use]
pub fn median_absolute_deviation(samples: &[f64]) -> Option<f64> {
    let centre = median(samples)?;
    let distances: Vec<f64> = samples.iter().map(|x| (x - centre).abs()).collect();
    median(&distances)
}

/// A sorted copy of `samples`.
pub(crate) fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Type 7 quantile of samples that are sorted, finite and at least one.
pub(crate) fn quantile_of_sorted(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let fraction = position - below as f64;
    if fraction == 0.0 || sorted[below] == sorted[above] {
        return sorted[below];
    }
    // A weighted sum instead of `below + fraction * (above - below)`, whose difference may
    // overflow; the clamp keeps rounding from leaving the two neighbours.
    let between = sorted[below] * (1.0 - fraction) + sorted[above] * fraction;
    between.clamp(sorted[below], sorted[above])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_quantiles() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&samples), Some(2.5));
        assert_eq!(quantile(&samples, 0.0), Some(1.0));
        assert_eq!(quantile(&samples, 0.25), Some(1.75));
        assert_eq!(quantile(&samples, 1.0), Some(4.0));
        assert_eq!(median_absolute_deviation(&samples), Some(1.0));
    }

    #[test]
    fn unusable_input_gives_none() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
        assert_eq!(median_absolute_deviation(&[f64::INFINITY]), None);
    }

    proptest! {
        #[test]
        fn quantile_grows_with_probability(
            samples in prop::collection::vec(-1e9..1e9f64, 1..50),
            first in 0.0..=1.0f64,
            second in 0.0..=1.0f64,
        ) {
            let low = quantile(&samples, first.min(second)).unwrap();
            let high = quantile(&samples, first.max(second)).unwrap();
            prop_assert!(low <= high);
        }

        #[test]
        fn quantile_stays_within_the_samples(
            samples in prop::collection::vec(-1e9..1e9f64, 1..50),
            q in 0.0..=1.0f64,
        ) {
            let value = quantile(&samples, q).unwrap();
            prop_assert!(samples.iter().any(|&x| x <= value));
            prop_assert!(samples.iter().any(|&x| x >= value));
        }
    }
}
