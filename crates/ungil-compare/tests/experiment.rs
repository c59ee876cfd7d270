//! The experiment against hosts that are threads of this test: same protocol, scripted engines.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ungil_advise::reason::Certainty;
use ungil_compare::comparison::{Comparison, Ended, NoteKind};
use ungil_compare::engine::{Engine, Pool, Workload};
use ungil_compare::experiment::{Observer, Stage};
use ungil_compare::launch::{Host, Launch};
use ungil_compare::message::{
    Agreement, Items, Loaded, Offer, Python, Serialisation, Sharing, StartUp, Target, TaskRecord,
};
use ungil_compare::plan::Announcement;
use ungil_compare::ticker::Ticker;
use ungil_compare::{Failure, FailureKind, Job, Model, Plan, Setup, frame, host, run};

/// How one model behaves in a test.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behaviour {
    Takes(Duration),
    Raises,
    RaisesInRun(usize),
    Hangs,
    HangsUp,
    GivesOther,
}

type Script = Arc<dyn Fn(Model) -> Behaviour + Send + Sync>;
type Runs = Arc<Mutex<Vec<Model>>>;

struct Scripted {
    script: Script,
    runs: Runs,
    results: Arc<Mutex<u8>>,
    reference: u8,
}

struct ScriptedEngine {
    script: Script,
    runs: Runs,
    results: Arc<Mutex<u8>>,
}

struct ScriptedPool {
    model: Model,
    script: Script,
    runs: Runs,
    results: Arc<Mutex<u8>>,
    count: usize,
}

impl Workload for Scripted {
    fn load(&mut self, job: &Job, _: &[u8]) -> Result<Loaded, Failure> {
        Ok(Loaded {
            function: "work".to_owned(),
            tasks: job.tasks.unwrap_or(1),
            is_coroutine_function: false,
            memoised_by: None,
            python: Python {
                version: "3.13.0".to_owned(),
                implementation: "CPython".to_owned(),
                build: String::new(),
                gil_enabled: true,
                start_method: "fork".to_owned(),
                native_thread_settings: Vec::new(),
            },
            offers: vec![Offer {
                engine: "stdlib".to_owned(),
                models: vec![Model::Threads, Model::Processes],
            }],
            warnings: Vec::new(),
        })
    }

    fn engine(&self, _: &str) -> Result<Box<dyn Engine>, Failure> {
        Ok(Box::new(ScriptedEngine {
            script: self.script.clone(),
            runs: self.runs.clone(),
            results: self.results.clone(),
        }))
    }

    fn items(&self, _: usize) -> Option<Vec<u8>> {
        None
    }

    fn results(&self, _: usize) -> Option<Vec<u8>> {
        Some(vec![*self.results.lock().unwrap()])
    }

    fn set_reference(&mut self, payload: &[u8]) -> Result<(), Failure> {
        self.reference = payload[0];
        Ok(())
    }

    fn agreement(&self) -> Agreement {
        let found = *self.results.lock().unwrap();
        if found == self.reference {
            return Agreement::Equal;
        }
        Agreement::Different {
            task: 0,
            tasks: 1,
            expected: self.reference.to_string(),
            found: found.to_string(),
        }
    }

    fn serialisation(&self) -> Result<Serialisation, Failure> {
        Ok(Serialisation { argument_bytes: 1.0, result_bytes: 1.0, seconds_per_task: 1e-6 })
    }
}

impl Engine for ScriptedEngine {
    fn offer(&self) -> Offer {
        Offer { engine: "stdlib".to_owned(), models: vec![Model::Threads] }
    }

    fn open(&self, setup: &Setup) -> Result<Box<dyn Pool>, Failure> {
        Ok(Box::new(ScriptedPool {
            model: setup.model,
            script: self.script.clone(),
            runs: self.runs.clone(),
            results: self.results.clone(),
            count: 0,
        }))
    }
}

impl Pool for ScriptedPool {
    fn start(&mut self, _: u64) -> Result<StartUp, Failure> {
        Ok(StartUp { first_result_s: 1e-4, all_workers_s: 2e-4, workers: 1 })
    }

    fn run(&mut self) -> Result<(), Failure> {
        self.count += 1;
        self.runs.lock().unwrap().push(self.model);
        *self.results.lock().unwrap() = 1;
        match (self.script)(self.model) {
            Behaviour::Takes(time) => thread::sleep(time),
            Behaviour::RaisesInRun(run) if self.count < run => {}
            Behaviour::Raises | Behaviour::RaisesInRun(_) => {
                return Err(Failure::new(FailureKind::Raised, "work() raised ValueError"));
            }
            Behaviour::Hangs => loop {
                thread::park();
            },
            // The host's thread ends, and with it its end of the channel.
            Behaviour::HangsUp => panic!("the host ends here, as the test wants it to"),
            Behaviour::GivesOther => *self.results.lock().unwrap() = 2,
        }
        Ok(())
    }

    fn run_ticking(&mut self, ticker: Ticker) -> Result<Ticker, Failure> {
        self.run().map(|()| ticker)
    }

    fn run_logged(&mut self) -> Result<Vec<TaskRecord>, Failure> {
        self.run().map(|()| Vec::new())
    }

    fn probe_sharing(&mut self) -> Result<Sharing, Failure> {
        Ok(Sharing { caller_sees_worker: true, worker_sees_caller: true })
    }

    fn close(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

struct Threads {
    script: Script,
    runs: Runs,
}

impl Launch for Threads {
    fn launch(&mut self) -> io::Result<Host> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut workload = Scripted {
            script: self.script.clone(),
            runs: self.runs.clone(),
            results: Arc::default(),
            reference: 0,
        };
        thread::spawn(move || {
            let _ = host::serve(theirs, &mut workload, std::process::id() as i32);
        });
        Ok(Host::from_channel(ours))
    }
}

#[derive(Default)]
struct Watcher {
    announced: Option<Announcement>,
    interrupt_at_round: Option<usize>,
    is_interrupted: bool,
}

impl Observer for Watcher {
    fn announce(&mut self, announcement: &Announcement) {
        self.announced = Some(announcement.clone());
    }

    fn stage(&mut self, stage: Stage, _: f64) {
        if let Stage::Round(round) = stage {
            self.is_interrupted |= self.interrupt_at_round == Some(round);
        }
    }

    fn is_interrupted(&mut self) -> bool {
        self.is_interrupted
    }
}

fn plan(budget_s: f64) -> Plan {
    Plan {
        job: Job {
            target: Target::Named("tasks.py:work".to_owned()),
            items: Items::None,
            arguments: None,
            keywords: None,
            tasks: Some(4),
            engines: vec!["stdlib".to_owned()],
        },
        payload: Vec::new(),
        models: Some(vec![Model::Threads, Model::Processes]),
        engines: vec!["stdlib".to_owned()],
        workers: Some(vec![2]),
        budget_s,
        rounds: None,
        is_logged: false,
        seed: 7,
    }
}

struct Ran {
    comparison: Comparison,
    runs: Vec<Model>,
    announced: Announcement,
}

fn compare(
    plan: &Plan,
    mut watcher: Watcher,
    script: impl Fn(Model) -> Behaviour + Send + Sync + 'static,
) -> Ran {
    let runs = Runs::default();
    let mut launcher = Threads { script: Arc::new(script), runs: runs.clone() };
    let comparison = run(plan, &mut launcher, &mut watcher).unwrap();
    let runs = runs.lock().unwrap().clone();
    Ran { comparison, runs, announced: watcher.announced.unwrap() }
}

fn takes(milliseconds: u64) -> Behaviour {
    Behaviour::Takes(Duration::from_millis(milliseconds))
}

fn failure_of(comparison: &Comparison, model: Model) -> Option<&Failure> {
    let of_model =
        |measurement: &&ungil_compare::comparison::Measurement| measurement.setup.model == model;
    comparison.measurements.iter().find(of_model).unwrap().failure.as_ref()
}

#[test]
fn the_fastest_model_wins_both_verdicts() {
    let ran = compare(&plan(20.0), Watcher::default(), |model| match model {
        Model::Threads => takes(2),
        _ => takes(8),
    });
    assert_eq!(ran.comparison.course.ended, Ended::Decided);
    for advice in [ran.comparison.repeated.unwrap(), ran.comparison.once.unwrap()] {
        assert_eq!(ran.comparison.measurements[advice.choice].setup.model, Model::Threads);
        assert_eq!(advice.certainty, Certainty::Winner);
    }
}

#[test]
fn every_round_runs_every_model_once_in_changing_order() {
    let plan = Plan { rounds: Some(5), ..plan(20.0) };
    let ran = compare(&plan, Watcher::default(), |_| takes(1));
    // Three models warm up three times each before the rounds, and start afresh after them.
    let rounds: Vec<&[Model]> = ran.runs[9..24].chunks(3).collect();
    for round in &rounds {
        let mut sorted = round.to_vec();
        sorted.sort();
        assert_eq!(sorted, [Model::Serial, Model::Threads, Model::Processes]);
    }
    assert!(rounds.iter().any(|round| *round != rounds[0]), "the order never changed");
}

#[test]
fn no_more_calls_are_made_than_were_announced() {
    let ran = compare(&plan(20.0), Watcher::default(), |_| takes(1));
    let course = &ran.comparison.course;
    assert_eq!(course.calls_made, ran.runs.len() as u64 * 4);
    assert_eq!(course.calls_announced, ran.announced.calls());
    assert!(course.calls_made <= course.calls_announced);
}

#[test]
fn a_model_that_fails_leaves_the_others_results() {
    let ran = compare(&plan(20.0), Watcher::default(), |model| match model {
        Model::Threads => Behaviour::Raises,
        Model::Processes => takes(2),
        _ => takes(6),
    });
    let failure = failure_of(&ran.comparison, Model::Threads).unwrap();
    assert_eq!(failure.kind, FailureKind::Raised);
    assert!(failure_of(&ran.comparison, Model::Processes).is_none());
    let choice = ran.comparison.repeated.unwrap().choice;
    assert_eq!(ran.comparison.measurements[choice].setup.model, Model::Processes);
}

#[test]
fn a_model_that_fails_in_a_later_round_leaves_then() {
    let ran = compare(&plan(20.0), Watcher::default(), |model| match model {
        Model::Threads => Behaviour::RaisesInRun(6),
        _ => takes(2),
    });
    assert!(failure_of(&ran.comparison, Model::Threads).is_some());
    assert!(ran.comparison.repeated.is_some());
    assert!(ran.comparison.measurements.iter().any(|each| each.round_times_s.len() >= 5));
}

#[test]
fn a_model_that_never_returns_is_ended_by_its_share_of_the_budget() {
    let ran = compare(&plan(1.5), Watcher::default(), |model| match model {
        Model::Processes => Behaviour::Hangs,
        _ => takes(1),
    });
    let failure = failure_of(&ran.comparison, Model::Processes).unwrap();
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("--budget"), "{}", failure.message);
    assert!(ran.comparison.measurements[0].time_s.is_some());
}

#[test]
fn a_host_that_hangs_up_fails_its_own_model_only() {
    let ran = compare(&plan(20.0), Watcher::default(), |model| match model {
        Model::Threads => Behaviour::HangsUp,
        _ => takes(1),
    });
    let failure = failure_of(&ran.comparison, Model::Threads).unwrap();
    assert_eq!(failure.kind, FailureKind::Died);
    assert!(failure_of(&ran.comparison, Model::Processes).is_none());
}

#[test]
fn other_results_are_reported_with_task_and_values() {
    let ran = compare(&plan(20.0), Watcher::default(), |model| match model {
        Model::Processes => Behaviour::GivesOther,
        _ => takes(1),
    });
    let notes = &ran.comparison.notes;
    let note = notes.iter().find(|note| note.kind == NoteKind::ResultsDiffer).unwrap();
    assert!(note.message.contains("task 0 gave 2 instead of 1"), "{}", note.message);
}

#[test]
fn an_interruption_keeps_what_was_measured() {
    let watcher = Watcher { interrupt_at_round: Some(4), ..Watcher::default() };
    let ran = compare(&plan(20.0), watcher, |_| takes(1));
    assert_eq!(ran.comparison.course.ended, Ended::Interrupted);
    assert!(ran.comparison.measurements[0].round_times_s.len() >= 3);
    assert!(ran.comparison.measurements.iter().all(|each| each.failure.is_none()));
}

#[test]
fn an_interruption_before_any_result_is_an_interruption() {
    let mut launcher = Threads { script: Arc::new(|_| Behaviour::Hangs), runs: Runs::default() };
    let mut watcher = Watcher { is_interrupted: true, ..Watcher::default() };
    let failure = run(&plan(20.0), &mut launcher, &mut watcher).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
}

/// A host that answers every request with the same bytes.
struct Garbage(&'static [u8]);

impl Launch for Garbage {
    fn launch(&mut self) -> io::Result<Host> {
        let (ours, mut theirs) = UnixStream::pair()?;
        let bytes = self.0;
        thread::spawn(move || {
            use std::io::Write;
            let request = frame::read::<ungil_compare::message::Request>(&mut theirs);
            let _ = request.map(|_| theirs.write_all(bytes));
        });
        Ok(Host::from_channel(ours))
    }
}

#[test]
fn garbage_from_a_host_is_a_failure_and_never_a_panic_or_a_hang() {
    for bytes in [&b""[..], b"\xff", &[0xff; 64], &[0; 12], b"\x02\0\0\0\0\0\0\0\0\0\0\0{}"] {
        let failure = run(&plan(20.0), &mut Garbage(bytes), &mut Watcher::default()).unwrap_err();
        assert!(
            matches!(failure.kind, FailureKind::Internal | FailureKind::Died),
            "{bytes:?} gave {failure:?}"
        );
    }
}
