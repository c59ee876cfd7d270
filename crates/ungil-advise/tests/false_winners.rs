//! Experiments on synthetic times, run as real ones are: look as planned, stop when decided.
//!
//! Identical models must have a winner in at most 5 % of the experiments, whatever the noise, and
//! a difference that matters must be found. All random numbers are seeded. The rates are printed:
//! `cargo test -p ungil-advise --test false_winners -- --nocapture`.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ungil_advise::{Looks, PRACTICAL_MARGIN, Relation, TOTAL_ALPHA, Verdict, rank_with_resamples};

/// Without optimisation the resamples are fewer; with it they are as many as in production.
const RESAMPLES: usize = if cfg!(debug_assertions) { 100 } else { 2000 };

/// Experiments for every rate.
const EXPERIMENTS: usize = 400;

/// How times vary around what a model really takes.
#[derive(Clone, Copy, Debug)]
enum Noise {
    /// Normal, with this standard deviation relative to the time.
    Normal(f64),
    /// Lognormal, with this standard deviation of the logarithm.
    Lognormal(f64),
    /// Student's t with three degrees of freedom and this scale, on the logarithm.
    HeavyTailed(f64),
    /// Normal 3 %, in rounds that become faster and slower as a random walk of 10 % steps.
    Drift,
    /// Normal 3 %, and every twentieth time is three times as long.
    Spikes,
    /// Every other model is steady (1 %), the others are not (15 %).
    Uneven,
}

/// What many experiments came to.
#[derive(Default)]
struct Outcomes {
    right_winners: usize,
    false_winners: usize,
    /// Experiments that called a model slower that is not: as winner or within a tie.
    false_slower: usize,
    rounds: usize,
}

impl Outcomes {
    fn rate(count: usize) -> f64 {
        count as f64 / EXPERIMENTS as f64
    }
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

fn factor(noise: Noise, model: usize, drift: f64, random: &mut ChaCha8Rng) -> f64 {
    let relative =
        |deviation: f64, random: &mut ChaCha8Rng| (1.0 + deviation * normal(random)).max(0.01);
    match noise {
        Noise::Normal(deviation) => relative(deviation, random),
        Noise::Lognormal(deviation) => (deviation * normal(random)).exp(),
        Noise::HeavyTailed(scale) => {
            let squares: f64 = (0..3).map(|_| normal(random).powi(2)).sum();
            (scale * normal(random) / (squares / 3.0).sqrt()).exp()
        }
        Noise::Drift => drift.exp() * relative(0.03, random),
        Noise::Spikes => {
            let spike = if random.random::<f64>() < 0.05 { 3.0 } else { 1.0 };
            spike * relative(0.03, random)
        }
        Noise::Uneven => {
            let deviation = if model.is_multiple_of(2) { 0.01 } else { 0.15 };
            (deviation * normal(random)).exp()
        }
    }
}

/// Runs experiments on models that really take `seconds`.
fn experiments(noise: Noise, seconds: &[f64]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for experiment in 0..EXPERIMENTS {
        run_experiment(noise, seconds, experiment as u64, &mut outcomes);
    }
    outcomes
}

fn run_experiment(noise: Noise, seconds: &[f64], seed: u64, outcomes: &mut Outcomes) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let looks = Looks::planned();
    let mut times = vec![Vec::new(); seconds.len()];
    let mut drift = 0.0;
    let mut rounds = 0;
    while let Some(next) = looks.next_after(rounds) {
        for _ in rounds..next {
            drift += 0.1 * normal(&mut random);
            for (model, of_model) in times.iter_mut().enumerate() {
                of_model.push(seconds[model] * factor(noise, model, drift, &mut random));
            }
        }
        rounds = next;
        let alpha = looks.alpha_at(rounds);
        let ranking = rank_with_resamples(&times, PRACTICAL_MARGIN, alpha, RESAMPLES)
            .expect("times are positive");
        if !ranking.is_decided() && rounds < looks.maximum_rounds() {
            continue;
        }
        if let Verdict::Winner(winner) = ranking.verdict {
            let faster = |(model, &time): (usize, &f64)| model == winner || seconds[winner] < time;
            if seconds.iter().enumerate().all(faster) {
                outcomes.right_winners += 1;
            } else {
                outcomes.false_winners += 1;
            }
        }
        let mut slower = ranking.relations.iter().filter(|c| c.relation == Relation::Slower);
        if slower.any(|compared| seconds[compared.model] <= seconds[ranking.best]) {
            outcomes.false_slower += 1;
        }
        break;
    }
    outcomes.rounds += rounds;
}

/// Identical models under all kinds of noise.
fn identical(models: usize) {
    for noise in [
        Noise::Normal(0.02),
        Noise::Lognormal(0.15),
        Noise::HeavyTailed(0.05),
        Noise::Drift,
        Noise::Spikes,
        Noise::Uneven,
    ] {
        let outcomes = experiments(noise, &vec![1.0; models]);
        let false_winners = Outcomes::rate(outcomes.false_winners);
        let false_slower = Outcomes::rate(outcomes.false_slower);
        println!(
            "{models} identical, {noise:?}: false winners {:.1} %, false slower {:.1} %, {:.1} rounds",
            100.0 * false_winners,
            100.0 * false_slower,
            Outcomes::rate(outcomes.rounds),
        );
        assert!(false_winners <= TOTAL_ALPHA, "{noise:?}");
        assert!(false_slower <= TOTAL_ALPHA, "{noise:?}");
    }
}

#[test]
fn two_identical_models_have_no_winner() {
    identical(2);
}

#[test]
fn three_identical_models_have_no_winner() {
    identical(3);
}

#[test]
fn five_identical_models_have_no_winner() {
    identical(5);
}

/// With noise so wide that the practical margin protects nothing, the levels alone must hold.
#[test]
fn levels_hold_without_the_help_of_the_margin() {
    for models in [2, 3] {
        let outcomes = experiments(Noise::Lognormal(1.0), &vec![1.0; models]);
        let false_slower = Outcomes::rate(outcomes.false_slower);
        println!(
            "{models} identical, margin negligible: false slower {:.1} %",
            100.0 * false_slower
        );
        assert!(false_slower <= TOTAL_ALPHA);
    }
}

#[test]
fn planted_difference_is_found() {
    for (noise, seconds, least) in [
        (Noise::Normal(0.03), &[1.1, 1.0][..], 0.9),
        (Noise::Normal(0.03), &[1.2, 1.1, 1.0][..], 0.9),
        (Noise::Normal(0.06), &[1.1, 1.0][..], 0.9),
        (Noise::Lognormal(0.15), &[1.2, 1.0][..], 0.85),
        (Noise::Drift, &[1.1, 1.0][..], 0.9),
        (Noise::Spikes, &[1.1, 1.0][..], 0.9),
    ] {
        let outcomes = experiments(noise, seconds);
        let found = Outcomes::rate(outcomes.right_winners);
        println!(
            "{seconds:?}, {noise:?}: found {:.1} %, {:.1} rounds",
            100.0 * found,
            Outcomes::rate(outcomes.rounds),
        );
        assert!(found >= least, "{noise:?}");
        assert_eq!(outcomes.false_winners, 0, "{noise:?}");
    }
}

#[test]
fn difference_below_the_margin_has_no_winner() {
    for noise in [Noise::Normal(0.02), Noise::Lognormal(0.15)] {
        let outcomes = experiments(noise, &[1.0, 1.02]);
        let winners = Outcomes::rate(outcomes.right_winners + outcomes.false_winners);
        println!(
            "[1.0, 1.02], {noise:?}: winners {:.1} %, {:.1} rounds",
            100.0 * winners,
            Outcomes::rate(outcomes.rounds),
        );
        assert!(winners <= TOTAL_ALPHA, "{noise:?}");
    }
}
