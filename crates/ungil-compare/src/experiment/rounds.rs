//! The measured rounds in open pools, and the fresh starts from nothing.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use ungil_advise::reason::{Advice, Repetition};
use ungil_advise::{Looks, Model, PRACTICAL_MARGIN, Ranking, Relation, TOTAL_ALPHA, rank};

use crate::comparison::{Ended, NoteKind};
use crate::experiment::{Context, Experiment, Stage, launch, load};
use crate::lane::unexpected;
use crate::message::{Failure, FailureKind, Reply, Request};

/// Share of the time left after the warm-ups that the measured rounds may take.
const ROUNDS_SHARE: f64 = 0.5;
/// Rounds that have to be affordable for everybody to take part in them.
const ROUNDS_WORTHWHILE: u32 = 5;
/// A lane this many times slower than the fastest in the warm-up is set aside where they are not.
const FAR_SLOWER: f64 = 3.0;
/// Error rate of the verdict on a job that runs once; it is looked at once.
const ONCE_ALPHA: f64 = 0.05;
/// Time beyond the budget for a run that had begun before it ended.
const GRACE: Duration = Duration::from_millis(500);

/// What the rounds came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Why they ended.
    pub ended: Ended,
    /// The advice for a job that runs again and again.
    pub repeated: Option<Advice>,
    /// The advice for a job that runs once.
    pub once: Option<Advice>,
}

impl Experiment<'_> {
    /// Randomised blocks with planned looks; a setup that is slower for sure leaves.
    pub(super) fn run_rounds(&mut self, context: &mut Context) -> Outcome {
        let looks = Looks::capped(self.plan.rounds_limit());
        let limit = self.plan.rounds_limit();
        let available = context.remaining().mul_f64(ROUNDS_SHARE);
        let rounds_deadline = Instant::now() + available;
        let mut active = self.worth_repeating(available);
        let mut next_look = looks.next_after(0);
        let mut verdict: Option<(Vec<usize>, Ranking, usize)> = None;
        let mut rounds = 0;
        let ended = loop {
            if context.is_interrupted {
                break Ended::Interrupted;
            }
            // A setup that was alone from the start is measured; one that is left over is not.
            if active.len() < 2 && self.lanes.len() > 1 || active.is_empty() {
                break Ended::NothingLeft;
            }
            if rounds >= limit {
                break Ended::AllRounds;
            }
            let expected: f64 = active.iter().map(|at| self.lanes[*at].expected_s()).sum();
            let is_affordable =
                Instant::now() + Duration::from_secs_f64(expected) <= rounds_deadline;
            if !is_affordable {
                break Ended::Budget;
            }
            context.stage(Stage::Round(rounds + 1));
            let mut order = active.clone();
            order.shuffle(&mut self.random);
            for at in order {
                self.run_one(context, at);
                if context.is_interrupted {
                    break;
                }
            }
            active.retain(|at| self.lanes[*at].failure.is_none());
            if context.is_interrupted {
                continue;
            }
            rounds += 1;
            if next_look == Some(rounds) {
                next_look = looks.next_after(rounds);
                let competing = self.competing(&active);
                let Some(ranking) = self.rank(&competing, rounds, looks.alpha_at(rounds)) else {
                    continue;
                };
                let slower = slower(&competing, &ranking);
                let is_decided = ranking.is_decided();
                verdict = Some((competing, ranking, rounds));
                if is_decided {
                    break Ended::Decided;
                }
                for at in &slower {
                    self.lanes[*at].end_host();
                }
                active.retain(|at| !slower.contains(at));
            }
        };
        // No more looks will come, so the last one gets all of the error rate that is left.
        if !matches!(ended, Ended::Decided) {
            let competing = self.competing(&active);
            let ranking = self.rank(&competing, rounds, alpha_left(&looks, rounds));
            if let Some(ranking) =
                ranking.filter(|ranking| !ranking.relations.is_empty() || verdict.is_none())
            {
                verdict = Some((competing, ranking, rounds));
            }
        }
        let advice = verdict.and_then(|(candidates, ranking, rounds)| {
            self.advise(Repetition::Repeated, &candidates, &ranking, rounds, ended)
        });
        Outcome { ended, repeated: advice, once: None }
    }

    /// Who takes part in the rounds: everybody, if time allows.
    ///
    /// In a sweep a serial loop may take a hundred times as long as the best setup, and a few
    /// rounds of it would leave no time to tell the good ones apart. Then those that were far
    /// slower in the warm-up keep that one time.
    fn worth_repeating(&mut self, available: Duration) -> Vec<usize> {
        let mut usable: Vec<usize> =
            (0..self.lanes.len()).filter(|at| self.lanes[*at].is_usable()).collect();
        let expected_s = |at: &usize| self.lanes[*at].expected_s();
        let round = Duration::from_secs_f64(usable.iter().map(expected_s).sum());
        if round * ROUNDS_WORTHWHILE <= available {
            return usable;
        }
        let mut times_s: Vec<f64> = usable.iter().map(expected_s).collect();
        times_s.sort_by(f64::total_cmp);
        // Two have to stay, or there is nothing to compare.
        let limit_s = match times_s[..] {
            [fastest, second, ..] => (fastest * FAR_SLOWER).max(second),
            _ => return usable,
        };
        usable.retain(|at| self.lanes[*at].expected_s() <= limit_s);
        usable
    }

    fn run_one(&mut self, context: &mut Context, at: usize) {
        let lane = &mut self.lanes[at];
        let deadline = context.deadline + GRACE;
        if let Err(failure) = lane.run_round(context, deadline)
            && failure.kind != FailureKind::Interrupted
        {
            lane.failure = Some(failure);
            lane.end_host();
        }
    }

    /// The lanes that may win: not an ordinary function under asyncio, which is only another way
    /// to its threads, as long as there are threads.
    fn competing(&self, lanes: &[usize]) -> Vec<usize> {
        let has = |model: Model| lanes.iter().any(|at| self.lanes[*at].setup.model == model);
        let is_detour = !self.loaded.is_coroutine_function && has(Model::Threads);
        lanes
            .iter()
            .copied()
            .filter(|at| !(is_detour && self.lanes[*at].setup.model == Model::Asyncio))
            .collect()
    }

    /// Ranks lanes by the rounds that all of them have; without rounds, by their warm-up.
    fn rank(&self, active: &[usize], rounds: usize, alpha: f64) -> Option<Ranking> {
        let times: Vec<Vec<f64>> = active
            .iter()
            .map(|at| {
                let lane = &self.lanes[*at];
                match rounds {
                    0 => lane.warm_up_s.into_iter().collect(),
                    _ => lane.times_s.iter().copied().take(rounds).collect(),
                }
            })
            .collect();
        rank(&times, PRACTICAL_MARGIN, alpha)
    }

    /// The job from nothing, in a fresh host each time.
    pub(super) fn run_fresh_starts(&mut self, context: &mut Context) -> Option<Advice> {
        let mut candidates = self.best_of_each_way();
        for lane in &mut self.lanes {
            lane.end_host();
        }
        if candidates.is_empty() {
            return None;
        }
        let mut block_cost: Duration = candidates
            .iter()
            .map(|at| self.load_time + Duration::from_secs_f64(self.lanes[*at].fresh_start_s()))
            .sum();
        for block in 0..self.plan.fresh_starts_limit() {
            if context.is_interrupted || block_cost > context.remaining() {
                break;
            }
            context.stage(Stage::FreshStart(block + 1));
            let began = Instant::now();
            let is_whole = self.run_block(context, &mut candidates);
            if !is_whole {
                break;
            }
            self.fresh_starts = block + 1;
            block_cost = began.elapsed();
        }
        if self.fresh_starts == 0 {
            return None;
        }
        let competing = self.competing(&candidates);
        let times: Vec<Vec<f64>> = competing
            .iter()
            .map(|at| self.lanes[*at].once_times_s[..self.fresh_starts].to_vec())
            .collect();
        let ranking = rank(&times, PRACTICAL_MARGIN, ONCE_ALPHA)?;
        let is_all = self.fresh_starts == self.plan.fresh_starts_limit();
        let ended = if is_all { Ended::AllRounds } else { Ended::Budget };
        self.advise(Repetition::Once, &competing, &ranking, self.fresh_starts, ended)
    }

    /// Starts every candidate afresh once, in random order; `false` if time ran out before the end.
    ///
    /// A candidate that fails is no candidate any more, and the reader is told why.
    fn run_block(&mut self, context: &mut Context, candidates: &mut Vec<usize>) -> bool {
        let mut order = candidates.clone();
        order.shuffle(&mut self.random);
        for at in order {
            match self.run_fresh(context, at) {
                Ok(()) => {}
                Err(Failure { kind: FailureKind::TimedOut | FailureKind::Interrupted, .. }) => {
                    return false;
                }
                Err(failure) => {
                    candidates.retain(|candidate| *candidate != at);
                    let label = &self.lanes[at].label;
                    let message = format!("{label}: a fresh start failed: {failure}.");
                    self.note(NoteKind::Job, message);
                }
            }
        }
        true
    }

    fn run_fresh(&mut self, context: &mut Context, at: usize) -> Result<(), Failure> {
        let mut host = launch(self.launcher)?;
        let deadline = context.deadline + GRACE;
        load(context, &mut host, &self.job, &self.payload, deadline)?;
        context.count_run();
        let request = Request::Once(self.lanes[at].setup.clone());
        let reply = context.exchange(&mut host, &request, &[], deadline, false);
        host.end();
        let lane = &mut self.lanes[at];
        lane.add_printed(std::mem::take(&mut host.printed));
        match reply?.0 {
            Reply::Ran(run) => {
                lane.once_times_s.push(run.wall_s);
                Ok(())
            }
            reply => Err(unexpected(&reply)),
        }
    }

    /// Of each engine and model the lane with the shortest time; only these start afresh.
    fn best_of_each_way(&self) -> Vec<usize> {
        let mut best: Vec<usize> = Vec::new();
        for at in (0..self.lanes.len()).filter(|at| self.lanes[*at].is_usable()) {
            let lane = &self.lanes[at];
            let same = best.iter_mut().find(|other| {
                let other = &self.lanes[**other].setup;
                (&other.engine, other.model) == (&lane.setup.engine, lane.setup.model)
            });
            match same {
                None => best.push(at),
                Some(other) if lane.expected_s() < self.lanes[*other].expected_s() => *other = at,
                Some(_) => {}
            }
        }
        best
    }
}

/// Who leaves after a look: everybody who is slower than the best for sure.
fn slower(competing: &[usize], ranking: &Ranking) -> Vec<usize> {
    ranking
        .relations
        .iter()
        .filter(|compared| compared.relation == Relation::Slower)
        .map(|compared| competing[compared.model])
        .collect()
}

/// What the looks before round `rounds` have left of the error rate.
fn alpha_left(looks: &Looks, rounds: usize) -> f64 {
    let earlier = looks.looks().iter().filter(|look| look.rounds < rounds);
    TOTAL_ALPHA - earlier.map(|look| look.alpha).sum::<f64>()
}
