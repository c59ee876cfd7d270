//! Which model is best, which are slower, and which cannot be told from it.
//!
//! # Why choosing the best first does not inflate the error
//!
//! Every other model is compared with the one that happened to be fastest, so the data are used
//! twice. Two things keep the error rate.
//!
//! A *winner* is named only if every other model is slower at two-sided `alpha`, the runner-up
//! included. For the first of two equal models to win falsely it must beat the other in either
//! direction: that is the two sides of `alpha`, and choosing the best has used up exactly the
//! side that a one-sided test would have saved. More models do not make it worse: a false winner
//! must beat its nearest rival, and of many equal models the nearest rival only comes nearer, so
//! two equal models far ahead of all others are the least favourable case (Gutmann and Maymin, "Is
//! the Selected Population the Best?", Annals of Statistics 15, 1987; Hung and Fithian, "Rank
//! Verification for Exponential Families", Annals of Statistics 47, 2019). On top of this the
//! practical margin must be cleared.
//!
//! A model *slower* than a best that is tied with others is one of up to `models - 1` such claims,
//! and these share `alpha` by Holm's step-down ("A Simple Sequentially Rejective Multiple Test
//! Procedure", Scandinavian Journal of Statistics 6, 1979): with `k` claims left each is tested at
//! `alpha / k`, and a success leaves `k - 1`. Only successes of this kind lower `k`;
//! equivalence is claimed at the level where the steps end.
//! That the best was chosen first is not covered by that theorem when it does not win. Simulated
//! with noise so wide that the margin protects nothing, two to five identical models had any such
//! claim in 1 to 3 % of the experiments: adding up the parts that the looks spend, though looks at
//! the same rounds agree mostly, leaves more room than the choice takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::{RESAMPLES, is_open_probability};
use crate::interval::{Estimate, Interval};
use crate::pseudo_median::pseudo_median;
use crate::quantile::sorted;
use crate::ratio::{LogRatio, is_time};

/// The relative difference in time that is worth naming: 3 %.
pub const PRACTICAL_MARGIN: f64 = 0.03;

/// How a model's time relates to that of the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Slower by more than the margin: the whole interval of the ratio is above `1 + margin`.
    Slower,
    /// As fast within the margin: the whole interval is within `1 / (1 + margin)` and `1 + margin`.
    Equivalent,
    /// Not told apart yet: more rounds may tell.
    Unseparated,
}

/// One model compared with the best one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// The index of the model in the input.
    pub model: usize,
    /// Its time as a multiple of the best model's, with the interval that decided the relation:
    /// its level is `alpha`, shared with the other comparisons.
    pub ratio: Estimate,
    /// What the interval says.
    pub relation: Relation,
}

/// What the comparison of all models comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All other models are slower than this one.
    Winner(usize),
    /// The models that are not slower than the best: the best first, the others by index.
    Tie(Vec<usize>),
}

/// All models compared with the best one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranking {
    /// The index of the model with the lowest location.
    pub best: usize,
    /// Every other model, by index.
    pub relations: Vec<Compared>,
    /// The winner, or the set of those that tie.
    pub verdict: Verdict,
}

impl Ranking {
    /// Whether every model is either slower or equivalent, so that more rounds are of no use.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        let mut relations = self.relations.iter();
        relations.all(|compared| compared.relation != Relation::Unseparated)
    }
}

/// Compares every model with the best one.
///
/// `times[model][round]` is in seconds, with the same rounds for all models. `margin` is the
/// relative difference that matters, such as [`PRACTICAL_MARGIN`]; `alpha` is the rate of false
/// winners that this one look may have (see [`Looks::alpha_at`](crate::Looks::alpha_at)).
///
/// The best model is the one with the lowest pseudo-median of log-times, taken relative to the
/// mean of their round; of equals, the first. The ratios to it are those of
/// [`paired_ratio`](crate::paired_ratio), tested by Holm's step-down. With one round nothing is
/// separated; a single model is the winner.
///
/// Returns `None` if there are no models or rounds, their numbers of rounds differ, a time is not
/// finite and positive, `margin` is negative or not finite, or `alpha` is not between 0 and 1.
#[must_use]
pub fn rank(times: &[Vec<f64>], margin: f64, alpha: f64) -> Option<Ranking> {
    rank_with_resamples(times, margin, alpha, RESAMPLES)
}

/// [`rank`] with another number of resamples, for simulations of many experiments.
#[doc(hidden)]
#[must_use]
pub fn rank_with_resamples(
    times: &[Vec<f64>],
    margin: f64,
    alpha: f64,
    resamples: usize,
) -> Option<Ranking> {
    let acceptable = margin >= 0.0 && margin.is_finite() && is_open_probability(alpha);
    if !acceptable || resamples == 0 {
        return None;
    }
    let best = best_of(times)?;
    let mut pending = Vec::with_capacity(times.len());
    for model in (0..times.len()).filter(|&model| model != best) {
        pending.push((model, LogRatio::new(&times[model], &times[best], resamples)?));
    }
    let relations = step_down(pending, margin, alpha);
    let verdict = verdict(best, &relations);
    Some(Ranking { best, relations, verdict })
}

/// The model with the lowest location; `None` if the times are not a table of times.
fn best_of(times: &[Vec<f64>]) -> Option<usize> {
    let rounds = times.first()?.len();
    let is_table = times.iter().all(|of_model| of_model.len() == rounds);
    if rounds == 0 || !is_table || !times.iter().flatten().all(|&time| is_time(time)) {
        return None;
    }
    let mean_of_round: Vec<f64> = (0..rounds)
        .map(|round| times.iter().map(|of_model| of_model[round].ln()).sum::<f64>())
        .map(|sum| sum / times.len() as f64)
        .collect();
    let location = |of_model: &Vec<f64>| {
        let pairs = of_model.iter().zip(&mean_of_round);
        let relative: Vec<f64> = pairs.map(|(time, mean)| time.ln() - mean).collect();
        pseudo_median(&sorted(&relative))
    };
    let locations: Vec<f64> = times.iter().map(location).collect();
    (0..times.len()).min_by(|&one, &other| locations[one].total_cmp(&locations[other]))
}

/// Holm's step-down: while something is found slower, the others share the whole of `alpha`.
fn step_down(mut pending: Vec<(usize, LogRatio)>, margin: f64, alpha: f64) -> Vec<Compared> {
    let mut relations = Vec::with_capacity(pending.len());
    while !pending.is_empty() {
        let level = alpha / pending.len() as f64;
        let compared = |(model, log_ratio): &(usize, LogRatio)| {
            let ratio = log_ratio.estimate(level);
            Compared { model: *model, ratio, relation: relation(&ratio, margin) }
        };
        let step: Vec<Compared> = pending.iter().map(compared).collect();
        let is_slower = |compared: &Compared| compared.relation == Relation::Slower;
        if !step.iter().any(is_slower) {
            relations.extend(step);
            break;
        }
        let mut step = step.into_iter();
        pending.retain(|_| match step.next() {
            Some(slower) if is_slower(&slower) => {
                relations.push(slower);
                false
            }
            _ => true,
        });
    }
    relations.sort_by_key(|compared| compared.model);
    relations
}

fn relation(ratio: &Estimate, margin: f64) -> Relation {
    match ratio.interval {
        Some(Interval { low, .. }) if low > 1.0 + margin => Relation::Slower,
        Some(Interval { low, high }) if low >= 1.0 / (1.0 + margin) && high <= 1.0 + margin => {
            Relation::Equivalent
        }
        _ => Relation::Unseparated,
    }
}

fn verdict(best: usize, relations: &[Compared]) -> Verdict {
    let tied: Vec<usize> = relations
        .iter()
        .filter(|compared| compared.relation != Relation::Slower)
        .map(|compared| compared.model)
        .collect();
    if tied.is_empty() {
        return Verdict::Winner(best);
    }
    Verdict::Tie(std::iter::once(best).chain(tied).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Eight rounds of models whose times are `factors` with a little noise.
    fn times(factors: &[f64]) -> Vec<Vec<f64>> {
        let noise =
            |model: usize, round: usize| 1.0 + 0.001 * ((model * 7 + round * 5) % 11) as f64;
        let of_model = |(model, factor): (usize, &f64)| -> Vec<f64> {
            (0..8).map(|round| factor * noise(model, round)).collect()
        };
        factors.iter().enumerate().map(of_model).collect()
    }

    #[test]
    fn clear_winner_is_named() {
        let ranking = rank(&times(&[2.0, 1.0, 1.5]), PRACTICAL_MARGIN, 0.05).unwrap();
        assert_eq!(ranking.best, 1);
        assert_eq!(ranking.verdict, Verdict::Winner(1));
        assert!(ranking.is_decided());
        assert_eq!(ranking.relations[0].model, 0);
        assert!((ranking.relations[0].ratio.value - 2.0).abs() < 0.02);
    }

    #[test]
    fn equivalent_models_tie_and_slower_ones_do_not() {
        let ranking = rank(&times(&[1.0, 2.0, 1.0005]), PRACTICAL_MARGIN, 0.05).unwrap();
        let relations: Vec<_> = ranking.relations.iter().map(|c| c.relation).collect();
        assert!(relations.contains(&Relation::Slower) && relations.contains(&Relation::Equivalent));
        let Verdict::Tie(tied) = &ranking.verdict else {
            panic!("a tie was expected");
        };
        assert_eq!(tied[0], ranking.best);
        assert!(!tied.contains(&1));
        assert!(ranking.is_decided());
    }

    #[test]
    fn one_round_separates_nothing_and_one_model_wins() {
        let ranking = rank(&[vec![1.0], vec![9.0]], PRACTICAL_MARGIN, 0.05).unwrap();
        assert_eq!(ranking.verdict, Verdict::Tie(vec![0, 1]));
        assert!(!ranking.is_decided());
        let alone = rank(&[vec![1.0]], PRACTICAL_MARGIN, 0.05).unwrap();
        assert_eq!(alone.verdict, Verdict::Winner(0));
        assert!(alone.is_decided());
    }

    #[test]
    fn unusable_input_gives_none() {
        assert_eq!(rank(&[], 0.03, 0.05), None);
        assert_eq!(rank(&[vec![], vec![]], 0.03, 0.05), None);
        assert_eq!(rank(&[vec![1.0], vec![1.0, 2.0]], 0.03, 0.05), None);
        assert_eq!(rank(&[vec![1.0], vec![-1.0]], 0.03, 0.05), None);
        assert_eq!(rank(&[vec![1.0], vec![f64::NAN]], 0.03, 0.05), None);
        assert_eq!(rank(&[vec![1.0], vec![1.0]], -0.1, 0.05), None);
        assert_eq!(rank(&[vec![1.0], vec![1.0]], 0.03, 1.0), None);
    }

    fn table() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (2usize..5, 2usize..12).prop_flat_map(|(models, rounds)| {
            let noisy = (1.0..1.3f64, prop::collection::vec(1.0..1.1f64, rounds))
                .prop_map(|(factor, noise)| noise.iter().map(|x| x * factor).collect());
            prop::collection::vec(noisy, models)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn permuted_models_have_the_permuted_verdict(times in table(), shift in 1usize..4) {
            let models = times.len();
            let permuted: Vec<_> = (0..models).map(|m| times[(m + shift) % models].clone()).collect();
            let plain = rank_with_resamples(&times, 0.03, 0.05, 200).unwrap();
            let other = rank_with_resamples(&permuted, 0.03, 0.05, 200).unwrap();
            let back = |model: usize| (model + shift) % models;
            prop_assert_eq!(plain.best, back(other.best));
            for compared in &other.relations {
                let same = plain.relations.iter().find(|c| c.model == back(compared.model)).unwrap();
                prop_assert_eq!(same.relation, compared.relation);
                prop_assert_eq!(same.ratio, compared.ratio);
            }
        }

        #[test]
        fn unit_of_time_does_not_matter(times in table(), power in -20i32..20) {
            let scale = 2f64.powi(power);
            let scaled: Vec<Vec<f64>> = times
                .iter()
                .map(|of_model| of_model.iter().map(|time| time * scale).collect())
                .collect();
            let plain = rank_with_resamples(&times, 0.03, 0.05, 200).unwrap();
            let other = rank_with_resamples(&scaled, 0.03, 0.05, 200).unwrap();
            prop_assert_eq!(plain.verdict, other.verdict);
        }

        #[test]
        fn step_down_is_between_one_test_and_all_at_once(times in table()) {
            let ranking = rank_with_resamples(&times, 0.03, 0.05, 200).unwrap();
            let comparisons = ranking.relations.len() as f64;
            for compared in &ranking.relations {
                let log_ratio =
                    LogRatio::new(&times[compared.model], &times[ranking.best], 200).unwrap();
                let slower = |level| relation(&log_ratio.estimate(level), 0.03) == Relation::Slower;
                let claimed = compared.relation == Relation::Slower;
                prop_assert!(!claimed || slower(0.05), "never more liberal than one test");
                prop_assert!(claimed || !slower(0.05 / comparisons), "at least Bonferroni");
            }
        }
    }
}
