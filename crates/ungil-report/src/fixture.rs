//! Comparisons for the tests of the renderers.

use ungil_advise::reason::{Advice, Certainty};
use ungil_advise::{Estimate, Interval, Model};
use ungil_compare::comparison::{
    CallerDelay, Comparison, Course, Ended, Measurement, Note, NoteKind, Sweep, SweepPoint,
};
use ungil_compare::message::{
    Agreement, Failure, FailureKind, Python, Serialisation, Setup, Sharing, StartUp, TaskRecord,
};
use ungil_observe::Machine;

/// An ordinary comparison of computing work: processes win.
pub fn comparison() -> Comparison {
    Comparison {
        measurements: vec![
            Measurement {
                times_faster: estimate(1.0, 1.0, 1.0),
                cpu_cores_used: Some(1.0),
                memory_peak_bytes: Some(21_300_000),
                cold_start: start(0.000_000_8, 0.000_000_8, 1),
                warm_start: None,
                ..measurement(Model::Serial, 1, 0.151)
            },
            Measurement {
                times_faster: estimate(0.98, 0.95, 1.01),
                cpu_cores_used: Some(1.02),
                memory_peak_bytes: Some(22_100_000),
                cold_start: start(0.000_231, 0.000_305, 2),
                warm_start: start(0.000_09, 0.000_134, 2),
                caller_delay: delay(0.005_21),
                ..measurement(Model::Threads, 2, 0.154)
            },
            Measurement {
                times_faster: estimate(1.937, 1.90, 1.97),
                cpu_cores_used: Some(1.97),
                memory_peak_bytes: Some(58_100_000),
                cold_start: start(0.0382, 0.0391, 2),
                warm_start: start(0.0021, 0.0029, 2),
                caller_delay: delay(0.000_412),
                sharing: sharing(false, false),
                ..measurement(Model::Processes, 2, 0.0781)
            },
            Measurement {
                setup: setup(Model::ProcessesThreads, 2, 2),
                times_faster: estimate(1.84, 1.79, 1.89),
                cpu_cores_used: Some(1.96),
                memory_peak_bytes: Some(60_200_000),
                cold_start: start(0.0395, 0.0402, 4),
                warm_start: start(0.0024, 0.0036, 4),
                caller_delay: delay(0.000_655),
                sharing: sharing(false, false),
                ..measurement(Model::ProcessesThreads, 2, 0.0821)
            },
        ],
        once: advice(
            2,
            "This job once: processes, 1.41 times as fast as serial (95 % interval 1.36 to 1.45), \
             because the work computes and threads took turns at it (1.02 CPU cores used between \
             them), while processes used 1.97.",
        ),
        repeated: advice(
            2,
            "Repeated: processes, 1.94 times as fast as serial (95 % interval 1.90 to 1.97), \
             because the work computes and threads took turns at it (1.02 CPU cores used between \
             them), while processes used 1.97.",
        ),
        serialisation: Some(Serialisation {
            argument_bytes: 24.0,
            result_bytes: 1230.0,
            seconds_per_task: 0.000_012_3,
        }),
        notes: vec![Note {
            kind: NoteKind::Model,
            message: "asyncio: resize() is an ordinary function; under asyncio it would run in \
                      threads (asyncio.to_thread), so see threads."
                .to_owned(),
        }],
        course: Course {
            calls_announced: 14_592,
            calls_made: 5_120,
            rounds: 12,
            fresh_starts: 5,
            elapsed_s: 23.4,
            budget_s: 60.0,
            ended: Ended::Decided,
            seed: 42,
            stolen_share: 0.001,
            cpu_pressure_before: Some(0.02),
        },
        ..nothing()
    }
}

/// A comparison in which nothing was measured.
pub fn nothing() -> Comparison {
    Comparison {
        target: "tasks.py:resize".to_owned(),
        is_coroutine_function: false,
        tasks: 64,
        measurements: Vec::new(),
        once: None,
        repeated: None,
        sweeps: Vec::new(),
        serialisation: None,
        notes: Vec::new(),
        course: Course {
            calls_announced: 0,
            calls_made: 0,
            rounds: 0,
            fresh_starts: 0,
            elapsed_s: 0.25,
            budget_s: 60.0,
            ended: Ended::NothingLeft,
            seed: 7,
            stolen_share: 0.0,
            cpu_pressure_before: None,
        },
        machine: Machine {
            online_cpus: 4,
            affinity_cpus: 4,
            quota_cpus: Some(1.5),
            processor: "Some Processor".to_owned(),
            kernel: "Linux 6.1".to_owned(),
            memory_bytes: 8_000_000_000,
        },
        python: Python {
            version: "3.13.0".to_owned(),
            implementation: "CPython".to_owned(),
            build: "main, Oct  7 2024 [GCC 13.2.0]".to_owned(),
            gil_enabled: true,
            start_method: "forkserver".to_owned(),
            native_thread_settings: Vec::new(),
        },
    }
}

/// Threads under several worker counts, the largest of which failed.
pub fn sweep() -> Comparison {
    let threads = |workers, time_s: f64| measurement(Model::Threads, workers, time_s);
    let mut failed = threads(64, 1.0);
    failed.time_s = None;
    failed.failure = Some(Failure::new(
        FailureKind::TimedOut,
        "fetch() did not finish within 3.20 s, this model's share of the budget",
    ));
    Comparison {
        measurements: vec![
            measurement(Model::Serial, 1, 6.4),
            threads(1, 6.41),
            threads(4, 1.62),
            threads(16, 0.41),
            failed,
        ],
        repeated: advice(3, "Repeated: 16 threads, 15.6 times as fast as serial."),
        sweeps: vec![Sweep {
            engine: "stdlib".to_owned(),
            model: Model::Threads,
            curve: curve(&[(1, 6.41), (4, 1.62), (16, 0.41)]),
            best_workers: Some(16),
            is_past_the_knee: false,
        }],
        ..comparison()
    }
}

/// Everything that makes a page difficult: very long, wide and hostile names, failures with
/// tracebacks, differences, notes and sweeps.
pub fn rich() -> Comparison {
    let hostile = "\x1b[31mred\x1b[0m\x07\u{202e}reversed";
    let mut rich = sweep();
    rich.target =
        format!("{}漢字かな交じり文/e\u{301}te\u{301}.py:{hostile}", "very_long_".repeat(12));
    rich.is_coroutine_function = true;
    rich.tasks = 12_345;
    let different =
        Agreement::Different { task: 3, tasks: 7, expected: "1".to_owned(), found: "2".to_owned() };
    rich.measurements[2].agreement = different.clone();
    rich.repeated.as_mut().expect("the sweep has advice").choice = 2;
    rich.measurements.extend([
        Measurement {
            setup: Setup { engine: "joblib".to_owned(), ..setup(Model::ProcessesThreads, 16, 32) },
            label: format!("processes-threads ({hostile} エンジン{})", "e".repeat(60)),
            sharing: sharing(false, true),
            agreement: different.clone(),
            caller_delay: None,
            once_times_s: vec![0.5, 0.25],
            ..measurement(Model::ProcessesThreads, 16, 725.5)
        },
        Measurement {
            label: "interpreters".to_owned(),
            failure: Some(Failure {
                kind: FailureKind::Raised,
                message: format!(
                    "resize() raised ValueError: {hostile}\n漢字{}",
                    "漢字".repeat(90)
                ),
                detail: Some(format!(
                    "Traceback (most recent call last):\n  File \"a.py\", line 3, in resize\n    \
                     raise ValueError({})\n\tValueError",
                    "x".repeat(250)
                )),
            }),
            time_s: None,
            ..measurement(Model::Interpreters, 2, 1.0)
        },
        Measurement {
            label: "processes (loky)".to_owned(),
            failure: Some(Failure::new(FailureKind::Died, "👩\u{200d}💻 crashed")),
            ..measurement(Model::Processes, 123_456, 1.0)
        },
    ]);
    rich.sweeps.push(Sweep {
        engine: "joblib".to_owned(),
        model: Model::ProcessesThreads,
        curve: curve(&[(2, 0.001), (1_000_000, 0.000_1)]),
        best_workers: Some(1_000_000),
        is_past_the_knee: true,
    });
    rich.notes.push(Note {
        kind: NoteKind::ResultsDiffer,
        message: format!("{hostile} differs: {}", "漢".repeat(150)),
    });
    rich.notes.push(Note { kind: NoteKind::Printed, message: "it printed\nthis".repeat(9) });
    rich.python.native_thread_settings = vec![format!("OMP_NUM_THREADS={hostile}")];
    rich
}

/// Figures that no clock ever showed.
pub fn broken() -> Comparison {
    let mut broken = comparison();
    for measurement in &mut broken.measurements {
        measurement.time_s = estimate(f64::NAN, f64::NAN, f64::INFINITY);
        measurement.once_time_s = estimate(1.0, f64::NEG_INFINITY, f64::INFINITY);
        measurement.times_faster = estimate(f64::INFINITY, 1.0, 2.0);
        measurement.cpu_cores_used = Some(f64::NAN);
        measurement.cold_start = start(f64::NAN, 1.0, 0);
        measurement.warm_start = start(1.0, 0.0, 0);
        measurement.caller_delay = delay(f64::NAN);
        measurement.round_times_s = vec![f64::NAN];
        measurement.outliers = vec![0];
    }
    broken.sweeps = vec![Sweep {
        engine: "stdlib".to_owned(),
        model: Model::Threads,
        curve: curve(&[(1, f64::NAN), (2, 0.0)]),
        best_workers: None,
        is_past_the_knee: false,
    }];
    let cost = broken.serialisation.as_mut().expect("it was measured");
    cost.seconds_per_task = f64::INFINITY;
    broken.course.elapsed_s = f64::NAN;
    broken.course.cpu_pressure_before = Some(f64::NAN);
    broken
}

/// The same comparison with logged runs of two tasks.
pub fn logged() -> Comparison {
    let mut logged = comparison();
    logged.measurements.truncate(3);
    let log = |measurement: &mut Measurement, records: [(i32, &str, &str, f64, f64); 2]| {
        measurement.log = records
            .into_iter()
            .enumerate()
            .map(|(task, (pid, process, thread, start_s, finish_s))| TaskRecord {
                task,
                pid,
                process: process.to_owned(),
                thread: thread.to_owned(),
                start_s,
                finish_s,
            })
            .collect();
    };
    log(
        &mut logged.measurements[0],
        [
            (100, "MainProcess", "MainThread", 0.000_01, 0.004),
            (100, "MainProcess", "MainThread", 0.004_01, 0.008),
        ],
    );
    log(
        &mut logged.measurements[1],
        [
            (100, "MainProcess", "worker_1", 0.000_31, 0.0082),
            (100, "MainProcess", "worker_0", 0.000_3, 0.0081),
        ],
    );
    log(
        &mut logged.measurements[2],
        [
            (101, "SpawnProcess1", "MainThread", 0.001, 0.005),
            (1202, "SpawnProcess2", "MainThread", 0.0015, 0.0055),
        ],
    );
    logged
}

/// `text` without colours and weights.
pub fn without_paint(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split("\x1b[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

fn setup(model: Model, workers: usize, threads_per_worker: usize) -> Setup {
    Setup { engine: "stdlib".to_owned(), model, workers, threads_per_worker }
}

fn measurement(model: Model, workers: usize, time_s: f64) -> Measurement {
    Measurement {
        setup: setup(model, workers, 1),
        label: model.to_string(),
        time_s: estimate(time_s, rounded(time_s * 0.988), rounded(time_s * 1.012)),
        round_times_s: vec![0.5, 0.75],
        outliers: vec![1],
        times_faster: None,
        cpu_cores_used: Some(0.5),
        memory_peak_bytes: Some(20_000_000),
        cold_start: start(0.01, 0.02, workers),
        warm_start: start(0.001, 0.002, workers),
        caller_delay: delay(0.0001),
        sharing: sharing(true, true),
        once_time_s: estimate(0.25, 0.125, 0.5),
        once_times_s: vec![0.25],
        agreement: Agreement::Equal,
        warm_ups: 1,
        log: Vec::new(),
        failure: None,
    }
}

/// To digits that JSON carries exactly.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

fn estimate(value: f64, low: f64, high: f64) -> Option<Estimate> {
    Some(Estimate { value, interval: Some(Interval { low, high }), samples: 12 })
}

fn start(first_result_s: f64, all_workers_s: f64, workers: usize) -> Option<StartUp> {
    Some(StartUp { first_result_s, all_workers_s, workers })
}

fn delay(p99_s: f64) -> Option<CallerDelay> {
    Some(CallerDelay { p50_s: p99_s / 2.0, p99_s, max_s: p99_s * 2.0, ticks: 200 })
}

fn sharing(caller_sees_worker: bool, worker_sees_caller: bool) -> Option<Sharing> {
    Some(Sharing { caller_sees_worker, worker_sees_caller })
}

fn advice(choice: usize, sentence: &str) -> Option<Advice> {
    Some(Advice {
        choice,
        fastest: vec![choice],
        certainty: Certainty::Winner,
        sentence: sentence.to_owned(),
    })
}

fn curve(points: &[(usize, f64)]) -> Vec<SweepPoint> {
    points
        .iter()
        .map(|(workers, time_s)| SweepPoint { workers: *workers, time_s: *time_s })
        .collect()
}
