//! How many workers are enough: the point of a curve after which more of them gain nothing.

use crate::ranking::PRACTICAL_MARGIN;
use crate::ratio::is_time;

/// What doubling the workers must gain, as a fraction of the time before, to be worth going on.
const WORTHWHILE_GAIN: f64 = 0.05;

/// The smallest number of workers whose time is within [`PRACTICAL_MARGIN`] of the shortest.
///
/// `curve` holds numbers of workers, in any order, with the seconds that the whole job took (the
/// median of the rounds). Fewer workers for the same time leave memory and processors to others.
///
/// Returns `None` if the curve is empty, a number of workers is zero, or a time is not finite and
/// positive.
#[must_use]
pub fn best_worker_count(curve: &[(usize, f64)]) -> Option<usize> {
    if !is_curve(curve) {
        return None;
    }
    let times = curve.iter().map(|&(_, seconds)| seconds);
    let limit = times.min_by(f64::total_cmp)? * (1.0 + PRACTICAL_MARGIN);
    let enough = curve.iter().filter(|&&(_, seconds)| seconds <= limit);
    enough.map(|&(workers, _)| workers).min()
}

/// Whether trying still more workers is pointless.
///
/// `curve` is that of [`best_worker_count`], measured so far. It is past the knee if the largest
/// number of workers took longer, by more than [`PRACTICAL_MARGIN`], than some smaller number; or
/// if it gained less than 5 % over the best time with at most half as many workers. A curve that
/// does not yet span a doubling is not past the knee for lack of gain. With equal speed per worker
/// a doubling would gain 50 %; 5 % is what is left when 95 % of the doubled effort is lost.
///
/// Returns `false` for a curve that [`best_worker_count`] refuses.
#[must_use]
pub fn past_the_knee(curve: &[(usize, f64)]) -> bool {
    let last = curve.iter().max_by_key(|&&(workers, _)| workers);
    let Some(&(most, seconds)) = last.filter(|_| is_curve(curve)) else {
        return false;
    };
    let shortest_up_to = |limit: usize| {
        let fewer = curve.iter().filter(|&&(workers, _)| workers <= limit);
        fewer.map(|&(_, seconds)| seconds).min_by(f64::total_cmp)
    };
    let worse = shortest_up_to(most - 1)
        .is_some_and(|shortest| seconds > shortest * (1.0 + PRACTICAL_MARGIN));
    let hardly_better = shortest_up_to(most / 2)
        .is_some_and(|shortest| seconds > shortest * (1.0 - WORTHWHILE_GAIN));
    worse || hardly_better
}

fn is_curve(curve: &[(usize, f64)]) -> bool {
    let mut points = curve.iter();
    !curve.is_empty() && points.all(|&(workers, seconds)| workers > 0 && is_time(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fewest_workers_within_the_margin() {
        let curve = [(1, 4.0), (2, 2.0), (4, 1.02), (8, 1.0), (16, 1.5)];
        assert_eq!(best_worker_count(&curve), Some(4));
        assert_eq!(best_worker_count(&curve[..1]), Some(1));
        assert_eq!(best_worker_count(&[]), None);
        assert_eq!(best_worker_count(&[(0, 1.0)]), None);
        assert_eq!(best_worker_count(&[(1, f64::NAN)]), None);
    }

    #[test]
    fn curve_is_followed_until_it_flattens_or_rises() {
        assert!(!past_the_knee(&[]));
        assert!(!past_the_knee(&[(1, 4.0)]));
        assert!(!past_the_knee(&[(1, 4.0), (2, 2.0)]));
        assert!(past_the_knee(&[(1, 4.0), (2, 3.9)]));
        assert!(past_the_knee(&[(1, 4.0), (2, 2.0), (3, 2.2)]));
        assert!(!past_the_knee(&[(1, 4.0), (2, 2.0), (3, 2.0)]));
        assert!(past_the_knee(&[(4, 1.98), (1, 4.0), (2, 2.0)]));
    }

    proptest! {
        #[test]
        fn order_of_points_does_not_matter(
            times in prop::collection::vec(0.1..10.0f64, 1..8),
        ) {
            let curve: Vec<_> = times.iter().enumerate().map(|(i, &t)| (i + 1, t)).collect();
            let reversed: Vec<_> = curve.iter().rev().copied().collect();
            prop_assert_eq!(best_worker_count(&curve), best_worker_count(&reversed));
            prop_assert_eq!(past_the_knee(&curve), past_the_knee(&reversed));
        }
    }
}
