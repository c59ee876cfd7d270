//! From measurements to one plain sentence: which model fits, by how much, and why.
//!
//! The reason is taken from what was measured (CPU cores used, times, start-up, pickling) and
//! never from what a function is called or says of itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::quantity;
use crate::{Estimate, PRACTICAL_MARGIN, Ranking, Relation, Verdict};

/// A simpler model that cannot be told apart from the best ties with it only if their estimates
/// differ by less than this.
///
/// If the best looks half as fast again, in rounds too few or too noisy to prove it, the simpler
/// one has not been shown to be as fast: then nothing is decided.
const TIE_MARGIN: f64 = 0.10;
/// With fewer rounds than this nothing is called a tie that is not proven to be one.
const ROUNDS_FOR_A_TIE: usize = 5;

/// Of more models than this in a tie only the simplest ones are named.
const OTHERS_NAMED: usize = 4;
/// Below this many CPU cores used by the serial run, the work mostly waits.
const WAITING_CORES: f64 = 0.5;
/// Up to this many CPU cores used by several workers count as taking turns on one.
const TURNS_CORES: f64 = 1.3;
/// Pickling is worth a mention from this share of the work's own time on.
const PICKLING_SHARE: f64 = 0.2;

/// What was measured of one way to run the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The model.
    pub model: Model,
    /// How outputs call it; names the engine too where several run the same model.
    pub label: String,
    /// Workers at once, over all processes.
    pub workers: usize,
    /// Seconds for the whole job, median.
    pub time_s: Option<f64>,
    /// Times faster than serial.
    pub times_faster: Option<Estimate>,
    /// CPU cores used while the job ran in the open pool.
    pub cpu_cores_used: Option<f64>,
    /// Seconds from nothing to the first result of a task that does nothing.
    pub start_up_s: Option<f64>,
}

/// What was measured of the job itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Circumstances {
    /// Calls in the job.
    pub tasks: usize,
    /// Whether the function is a coroutine function.
    pub is_coroutine_function: bool,
    /// CPUs that may be used at once.
    pub usable_cpus: usize,
    /// Whether all rounds were run that were planned, so that more time would not bring more.
    pub has_run_all_rounds: bool,
    /// Seconds for the whole job in a serial loop.
    pub serial_time_s: Option<f64>,
    /// CPU cores used by the serial loop.
    pub serial_cpu_cores_used: Option<f64>,
    /// Seconds to pickle and unpickle the argument and result of one task.
    pub pickling_s_per_task: Option<f64>,
    /// Bytes of the pickled argument and result of one task.
    pub pickled_bytes_per_task: Option<f64>,
}

/// How sure the advice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// One model beats all others by more than the practical margin.
    Winner,
    /// Several are equally fast within the noise; the simplest of them is named.
    Tie,
    /// There were too few rounds, or too much noise, to tell; the fastest so far is named.
    Undecided,
    /// Only one model finished, so there is nothing to compare it with.
    Alone,
}

/// Which model fits, by how much, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// Position of the model to use, in the list of what was measured.
    pub choice: usize,
    /// Positions of all models that are as fast as the fastest, the choice included.
    pub fastest: Vec<usize>,
    /// How sure the advice is.
    pub certainty: Certainty,
    /// The advice as a sentence.
    pub sentence: String,
}

/// Whether the job is run once, start-up included, or again and again in an open pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// From nothing to the last result and the end of the pool.
    Once,
    /// In a pool that is already open.
    Repeated,
}

/// Puts a ranking into a sentence. `candidates[i]` is the position in `evidence` of what the
/// ranking calls `i`; `rounds` is how often each of them ran.
///
/// `None` if the ranking speaks of something that is not among the evidence.
pub fn advise(
    repetition: Repetition,
    evidence: &[Evidence],
    candidates: &[usize],
    ranking: &Ranking,
    rounds: usize,
    circumstances: &Circumstances,
) -> Option<Advice> {
    let position = |index: usize| candidates.get(index).copied().filter(|at| *at < evidence.len());
    let best = position(ranking.best)?;
    let margin = if rounds < ROUNDS_FOR_A_TIE { PRACTICAL_MARGIN } else { TIE_MARGIN };
    let simplicity_at = |at: usize| simplicity(&evidence[at], at, circumstances);
    // Whether something more complicated is as fast as the best makes no difference to the choice.
    let undecided = ranking.relations.iter().any(|compared| {
        compared.relation == Relation::Unseparated
            && compared.ratio.value > 1.0 + margin
            && position(compared.model).is_some_and(|at| simplicity_at(at) < simplicity_at(best))
    });
    let (certainty, mut fastest) = match &ranking.verdict {
        _ if ranking.relations.is_empty() => (Certainty::Alone, vec![best]),
        Verdict::Winner(_) => (Certainty::Winner, vec![best]),
        Verdict::Tie(members) if undecided => {
            (Certainty::Undecided, members.iter().filter_map(|member| position(*member)).collect())
        }
        Verdict::Tie(members) => {
            (Certainty::Tie, members.iter().filter_map(|member| position(*member)).collect())
        }
    };
    fastest.sort_by_key(|at| simplicity_at(*at));
    let choice = match certainty {
        Certainty::Tie => *fastest.first()?,
        _ => best,
    };
    let sentence = Sentence { repetition, evidence, choice, fastest: &fastest, circumstances };
    Some(Advice { choice, certainty, sentence: sentence.text(certainty, rounds), fastest })
}

/// Fewer workers of the same model are simpler. An ordinary function has no use for asyncio.
fn simplicity(
    evidence: &Evidence,
    at: usize,
    circumstances: &Circumstances,
) -> (bool, Model, usize, usize) {
    let is_detour = evidence.model == Model::Asyncio && !circumstances.is_coroutine_function;
    (is_detour, evidence.model, evidence.workers, at)
}

struct Sentence<'a> {
    repetition: Repetition,
    evidence: &'a [Evidence],
    choice: usize,
    fastest: &'a [usize],
    circumstances: &'a Circumstances,
}

impl Sentence<'_> {
    fn text(&self, certainty: Certainty, rounds: usize) -> String {
        let lead = match self.repetition {
            Repetition::Once => "This job once",
            Repetition::Repeated => "Repeated",
        };
        let choice = &self.evidence[self.choice].label;
        match certainty {
            Certainty::Alone if self.evidence.len() == 1 => {
                format!("{lead}: {choice}, and nothing to compare it with.")
            }
            Certainty::Alone => format!("{lead}: {choice}; no other model finished."),
            Certainty::Undecided => format!(
                "{lead}: not decided after {rounds} round{}; {choice} came out fastest{}, but {} \
                 may be as fast. {}",
                if rounds == 1 { "" } else { "s" },
                self.by_how_much(),
                self.others_in_tie(),
                if self.circumstances.has_run_all_rounds {
                    "All planned rounds were run: on a quieter machine they might tell."
                } else {
                    "More rounds would tell: a larger budget or fewer items."
                }
            ),
            Certainty::Winner => {
                format!("{lead}: {choice}{}, because {}.", self.by_how_much(), self.reason())
            }
            Certainty::Tie => format!(
                "{lead}: {choice}{}, because {}. Tie with {}; {choice} {} simpler.",
                self.by_how_much(),
                self.reason(),
                self.others_in_tie(),
                if self.evidence[self.choice].model == Model::Serial { "is" } else { "are" },
            )
            .replace("asyncio are simpler", "asyncio is simpler"),
        }
    }

    fn others_in_tie(&self) -> String {
        let labels: Vec<&str> = self
            .fastest
            .iter()
            .filter(|at| **at != self.choice)
            .map(|at| self.evidence[*at].label.as_str())
            .collect();
        match labels[..] {
            [] => String::new(),
            [one] => one.to_owned(),
            [.., last] if labels.len() <= OTHERS_NAMED => {
                format!("{} and {last}", labels[..labels.len() - 1].join(", "))
            }
            _ => format!(
                "{} and {} others",
                labels[..OTHERS_NAMED - 1].join(", "),
                labels.len() + 1 - OTHERS_NAMED
            ),
        }
    }

    /// `, 1.94 times faster than serial (95 % interval 1.90 to 1.97)`.
    fn by_how_much(&self) -> String {
        let chosen = &self.evidence[self.choice];
        match chosen.times_faster {
            _ if chosen.model == Model::Serial => String::new(),
            None => String::new(),
            Some(Estimate { value, interval, samples }) => {
                // An interval of two or three rounds is as wide as it is uninformative.
                let interval = interval.filter(|_| samples >= ROUNDS_FOR_A_TIE);
                let interval = interval.map_or(String::new(), |interval| {
                    format!(
                        " (95 % interval {} to {})",
                        quantity::ratio(interval.low),
                        quantity::ratio(interval.high)
                    )
                });
                format!(", {} times as fast as serial{interval}", quantity::ratio(value))
            }
        }
    }

    fn reason(&self) -> String {
        let chosen = &self.evidence[self.choice];
        match chosen.model {
            Model::Serial => self.why_serial(),
            Model::Asyncio | Model::Threads => self.why_in_one_process(chosen),
            Model::Interpreters | Model::Processes | Model::ProcessesThreads => {
                self.why_several_interpreters(chosen)
            }
        }
    }

    /// CPU cores that the serial run kept busy; unmeasured work is taken for computing.
    fn serial_cores(&self) -> f64 {
        self.circumstances.serial_cpu_cores_used.unwrap_or(1.0)
    }

    fn waits(&self) -> bool {
        self.serial_cores() < WAITING_CORES
    }

    fn waiting_share(&self) -> String {
        quantity::percent((1.0 - self.serial_cores()).max(0.0))
    }

    /// The fastest measurement of a model, if it ran.
    fn fastest_of(&self, model: Model) -> Option<&Evidence> {
        self.evidence
            .iter()
            .filter(|evidence| evidence.model == model && evidence.time_s.is_some())
            .min_by(|one, other| one.time_s.partial_cmp(&other.time_s).expect("times are numbers"))
    }

    fn why_serial(&self) -> String {
        let (Some(serial_s), Some(rival)) =
            (self.circumstances.serial_time_s, self.fastest_rival_of(Model::Serial))
        else {
            return "nothing else was faster".to_owned();
        };
        let tasks = self.circumstances.tasks.max(1) as f64;
        let work_s = serial_s / tasks;
        // Only what a run took longer than the serial one is sure to be the cost of handing over;
        // time that workers failed to save may have other reasons.
        let added_s = (rival.time_s.unwrap_or(serial_s) - serial_s) / tasks;
        let start_up_s = rival.start_up_s.unwrap_or(0.0);
        let rival_cores = rival.cpu_cores_used.unwrap_or(0.0);
        if self.circumstances.tasks == 1 {
            return "there is one task, and nothing to run beside it".to_owned();
        }
        if self.repetition == Repetition::Once && start_up_s > 0.5 * serial_s {
            return format!(
                "the whole job takes {} and starting {} alone takes {}",
                quantity::duration(serial_s),
                rival.label,
                quantity::duration(start_up_s)
            );
        }
        if self.circumstances.usable_cpus == 1 && !self.waits() {
            return "the work computes and there is one CPU to use".to_owned();
        }
        if added_s > 0.3 * work_s {
            return format!(
                "a task takes {} and handing it to {} costs {} more",
                quantity::duration(work_s),
                rival.label,
                quantity::duration(added_s)
            );
        }
        if !self.waits() && rival.model == Model::Threads && rival_cores <= TURNS_CORES {
            return format!(
                "the work computes and threads took turns at it ({} CPU cores used between them)",
                quantity::ratio(rival_cores)
            );
        }
        format!(
            "no other model was faster by {} or more ({} used {} CPU cores, serial {})",
            quantity::percent(PRACTICAL_MARGIN),
            rival.label,
            quantity::ratio(rival_cores),
            quantity::ratio(self.serial_cores())
        )
    }

    fn fastest_rival_of(&self, model: Model) -> Option<&Evidence> {
        Model::ALL
            .into_iter()
            .filter(|other| *other != model)
            .filter_map(|other| self.fastest_of(other))
            .min_by(|one, other| one.time_s.partial_cmp(&other.time_s).expect("times are numbers"))
    }

    fn why_in_one_process(&self, chosen: &Evidence) -> String {
        let reason = if self.waits() {
            let how = match chosen.model {
                Model::Asyncio if self.circumstances.is_coroutine_function => {
                    format!("one event loop holds {} of them at once", chosen.workers)
                }
                _ => format!("{} threads wait at the same time", chosen.workers),
            };
            format!("the serial run waited {} of its time and {how}", self.waiting_share())
        } else {
            match chosen.cpu_cores_used {
                Some(cores) if cores > TURNS_CORES => format!(
                    "the work computes and its threads used {} CPU cores at once, so it does \
                     not wait for the GIL",
                    quantity::ratio(cores)
                ),
                Some(cores) => {
                    format!("nothing else was faster; it used {} CPU cores", quantity::ratio(cores))
                }
                None => "nothing else was faster".to_owned(),
            }
        };
        let processes = self.fastest_of(Model::Processes);
        let start_up = match (chosen.start_up_s, processes.and_then(|other| other.start_up_s)) {
            (Some(own), Some(other))
                if self.repetition == Repetition::Once && other > 2.0 * own =>
            {
                format!(
                    "; it starts in {}, processes in {}",
                    quantity::duration(own),
                    quantity::duration(other)
                )
            }
            _ => String::new(),
        };
        format!("{reason}{start_up}{}", self.pickling(processes))
    }

    fn why_several_interpreters(&self, chosen: &Evidence) -> String {
        let used = chosen.cpu_cores_used.map_or(String::new(), quantity::ratio);
        let threads = self.fastest_of(Model::Threads).and_then(|threads| threads.cpu_cores_used);
        if self.waits() {
            let workers = chosen.workers;
            return format!(
                "the serial run waited {} of its time and {workers} workers wait at the same time",
                self.waiting_share()
            );
        }
        match threads {
            Some(cores) if cores <= TURNS_CORES => format!(
                "the work computes and threads took turns at it ({} CPU cores used between \
                 them), while {} used {used}",
                quantity::ratio(cores),
                chosen.label
            ),
            Some(cores) => format!(
                "{} used {used} CPU cores and threads {}",
                chosen.label,
                quantity::ratio(cores)
            ),
            None => format!("the work computes and {} used {used} CPU cores", chosen.label),
        }
    }

    /// Pickling, where processes ran and it is a fair part of the work.
    fn pickling(&self, processes: Option<&Evidence>) -> String {
        let (Some(pickling_s), Some(bytes), Some(serial_s), Some(_)) = (
            self.circumstances.pickling_s_per_task,
            self.circumstances.pickled_bytes_per_task,
            self.circumstances.serial_time_s,
            processes,
        ) else {
            return String::new();
        };
        let work_s = serial_s / self.circumstances.tasks.max(1) as f64;
        if pickling_s < PICKLING_SHARE * work_s {
            return String::new();
        }
        format!(
            "; for processes each task's {} cost {} to pickle and unpickle, beside {} of work",
            quantity::bytes(bytes),
            quantity::duration(pickling_s),
            quantity::duration(work_s)
        )
    }
}
