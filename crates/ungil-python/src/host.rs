//! A host's function, tasks and engines: Python behind the traits of `ungil-compare`.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use ungil_compare::engine::{Engine, Pool, Workload};
use ungil_compare::message::{
    Agreement, Loaded, Offer, Serialisation, Sharing, StartUp, TaskRecord,
};
use ungil_compare::{Failure, FailureKind, Job, Model, Setup, ticker};

use crate::error::{os_error, to_failure};
use crate::ticker::{Ticker, monotonic_ns};

/// Prepares this process to keep a host: its own session, and the reaper of all below it.
#[pyfunction]
pub fn prepare_keeper() -> PyResult<()> {
    ungil_compare::keeper::prepare().map_err(os_error)
}

/// Waits for the host or the experiment to end, and ends everything that the host left.
#[pyfunction]
pub fn keep(py: Python<'_>, host: i32, experiment: i32) {
    py.detach(|| ungil_compare::keeper::keep(host, experiment, std::io::stdin().as_fd()))
}

/// Makes this process end with its parent.
#[pyfunction]
pub fn die_with_parent(parent: i32) -> PyResult<()> {
    ungil_compare::keeper::die_with_parent(parent).map_err(os_error)
}

/// Notes that a task forked and that the child came back from it. The caller ends the child.
#[pyfunction]
pub fn note_stray() {
    ungil_compare::host::note_stray();
}

/// Serves the experiment at the other end of `channel` with `workload` until it hangs up.
///
/// `channel` is a descriptor that becomes this function's own. Returns the exit code of the host.
#[pyfunction]
pub fn serve(py: Python<'_>, channel: i32, workload: Py<PyAny>, keeper: i32) -> PyResult<i32> {
    // SAFETY: the host has just duplicated this descriptor for this call and nobody else has it.
    let channel = UnixStream::from(unsafe { OwnedFd::from_raw_fd(channel) });
    let mut workload = PythonWorkload { workload };
    // Channels that processes of the user's inherit must not keep the experiment waiting.
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).map_err(os_error)?;
    let served = py.detach(|| ungil_compare::host::serve(channel, &mut workload, keeper));
    Ok(served.map_or(ungil_compare::host::CHANNEL_LOST, |()| 0))
}

/// Runs Python code and turns its exception into the failure that the user is told.
fn told<R>(act: impl FnOnce(Python<'_>) -> PyResult<R>) -> Result<R, Failure> {
    Python::attach(|py| act(py).map_err(|error| to_failure(py, &error)))
}

struct PythonWorkload {
    workload: Py<PyAny>,
}

impl PythonWorkload {
    fn bytes(&self, method: &str, limit_bytes: usize) -> Option<Vec<u8>> {
        told(|py| {
            let bytes = self.workload.call_method0(py, method)?;
            let bytes: Option<Bound<'_, PyBytes>> = bytes.extract(py)?;
            Ok(bytes.map(|bytes| bytes.as_bytes().to_vec()))
        })
        .ok()
        .flatten()
        .filter(|bytes| bytes.len() <= limit_bytes)
    }
}

impl Workload for PythonWorkload {
    fn load(&mut self, job: &Job, payload: &[u8]) -> Result<Loaded, Failure> {
        let job = serde_json::to_string(job).map_err(internal)?;
        let loaded: String = told(|py| {
            let json = py.import("json")?;
            let job = json.call_method1("loads", (job,))?;
            let loaded =
                self.workload.call_method1(py, "load", (job, PyBytes::new(py, payload)))?;
            json.call_method1("dumps", (loaded,))?.extract()
        })?;
        serde_json::from_str(&loaded).map_err(internal)
    }

    fn engine(&self, name: &str) -> Result<Box<dyn Engine>, Failure> {
        let workload = Python::attach(|py| self.workload.clone_ref(py));
        Ok(Box::new(PythonEngine { name: name.to_owned(), workload }))
    }

    fn items(&self, limit_bytes: usize) -> Option<Vec<u8>> {
        self.bytes("pickled_items", limit_bytes)
    }

    fn results(&self, limit_bytes: usize) -> Option<Vec<u8>> {
        self.bytes("pickled_results", limit_bytes)
    }

    fn set_reference(&mut self, payload: &[u8]) -> Result<(), Failure> {
        told(|py| {
            self.workload.call_method1(py, "set_reference", (PyBytes::new(py, payload),)).map(drop)
        })
    }

    fn agreement(&self) -> Agreement {
        let compared = told(|py| {
            let agreement = self.workload.call_method0(py, "agreement")?;
            let text = py.import("json")?.call_method1("dumps", (agreement,))?;
            text.extract::<String>()
        });
        compared
            .and_then(|text| serde_json::from_str(&text).map_err(internal))
            .unwrap_or_else(|failure| Agreement::CannotTell { reason: failure.message })
    }

    fn serialisation(&self) -> Result<Serialisation, Failure> {
        told(|py| {
            let samples = self.workload.call_method0(py, "serialisation_samples")?;
            let samples: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = samples.extract(py)?;
            let pickle = py.import("pickle")?;
            let (dumps, loads) = (pickle.getattr("dumps")?, pickle.getattr("loads")?);
            let protocol = pickle.getattr("HIGHEST_PROTOCOL")?;
            let (mut argument_bytes, mut result_bytes, mut tasks) = (0_usize, 0_usize, 0_usize);
            let started = Instant::now();
            for (item, result) in &samples {
                for (value, bytes) in [(item, &mut argument_bytes), (result, &mut result_bytes)] {
                    let pickled = dumps.call1((value, &protocol))?;
                    *bytes += pickled.len()?;
                    loads.call1((pickled,))?;
                }
                tasks += 1;
                if started.elapsed().as_secs_f64() > 0.2 {
                    break;
                }
            }
            let mean = |total: f64| total / tasks.max(1) as f64;
            Ok(Serialisation {
                argument_bytes: mean(argument_bytes as f64),
                result_bytes: mean(result_bytes as f64),
                seconds_per_task: mean(started.elapsed().as_secs_f64()),
            })
        })
    }
}

struct PythonEngine {
    name: String,
    workload: Py<PyAny>,
}

impl Engine for PythonEngine {
    fn offer(&self) -> Offer {
        let models: Vec<String> = told(|py| {
            let engine =
                py.import("ungil.engines")?.getattr("find")?.call1((self.name.as_str(),))?;
            engine.call_method0("models")?.extract()
        })
        .unwrap_or_default();
        let models = models.iter().filter_map(|model| model.parse::<Model>().ok()).collect();
        Offer { engine: self.name.clone(), models }
    }

    fn open(&self, setup: &Setup) -> Result<Box<dyn Pool>, Failure> {
        let model = setup.model.name().replace('-', "_");
        told(|py| {
            let session = self.workload.call_method1(
                py,
                "open",
                (self.name.as_str(), model, setup.workers, setup.threads_per_worker),
            )?;
            Ok(Box::new(PythonPool { session }) as Box<dyn Pool>)
        })
    }
}

struct PythonPool {
    session: Py<PyAny>,
}

impl Pool for PythonPool {
    fn start(&mut self, opened_at_ns: u64) -> Result<StartUp, Failure> {
        let (first_result_ns, workers): (u64, Vec<(i64, u64, u64)>) = told(|py| {
            let clock = pyo3::wrap_pyfunction!(monotonic_ns, py)?;
            self.session.call_method1(py, intern!(py, "start"), (clock,))?.extract(py)
        })?;
        let since_opened = |at_ns: u64| at_ns.saturating_sub(opened_at_ns) as f64 * 1e-9;
        let mut first_tasks: Vec<((i64, u64), u64)> =
            workers.iter().map(|(pid, thread, began_ns)| ((*pid, *thread), *began_ns)).collect();
        first_tasks.sort_unstable();
        first_tasks.dedup_by_key(|(worker, _)| *worker);
        let last = first_tasks.iter().map(|(_, began_ns)| *began_ns).max().unwrap_or(opened_at_ns);
        Ok(StartUp {
            first_result_s: since_opened(first_result_ns),
            all_workers_s: since_opened(last),
            workers: first_tasks.len(),
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        told(|py| self.session.call_method0(py, intern!(py, "run")).map(drop))
    }

    fn run_ticking(&mut self, ticks: ticker::Ticker) -> Result<ticker::Ticker, Failure> {
        told(|py| {
            let ticker = Bound::new(py, Ticker::new(ticks))?;
            self.session.call_method1(py, intern!(py, "run_ticking"), (&ticker,))?;
            Ok(ticker.get().take())
        })
    }

    fn run_logged(&mut self) -> Result<Vec<TaskRecord>, Failure> {
        let started_ns = monotonic_ns();
        type Row = (usize, i32, String, String, u64, u64);
        let rows: Vec<Row> =
            told(|py| self.session.call_method0(py, intern!(py, "run_logged"))?.extract(py))?;
        let since_start = |at_ns: u64| at_ns.saturating_sub(started_ns) as f64 * 1e-9;
        Ok(rows
            .into_iter()
            .map(|(task, pid, process, thread, start_ns, finish_ns)| TaskRecord {
                task,
                pid,
                process,
                thread,
                start_s: since_start(start_ns),
                finish_s: since_start(finish_ns),
            })
            .collect())
    }

    fn probe_sharing(&mut self) -> Result<Sharing, Failure> {
        let (caller_sees_worker, worker_sees_caller): (bool, bool) =
            told(|py| self.session.call_method0(py, intern!(py, "probe_sharing"))?.extract(py))?;
        Ok(Sharing { caller_sees_worker, worker_sees_caller })
    }

    fn close(&mut self) -> Result<(), Failure> {
        told(|py| self.session.call_method0(py, intern!(py, "close")).map(drop))
    }
}

fn internal(error: serde_json::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("the host and its core disagree: {error}"))
}

/// The command that starts a host, as the facade knows it.
pub fn launcher(py: Python<'_>) -> PyResult<ungil_compare::launch::ProcessLauncher> {
    let command = py.import("ungil._compare")?.getattr("host_command")?.call0()?;
    let command: Vec<String> = command.extract()?;
    let (program, arguments) = command.split_first().ok_or_else(|| {
        pyo3::exceptions::PyRuntimeError::new_err("there is no Python interpreter to start")
    })?;
    Ok(ungil_compare::launch::ProcessLauncher {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
    })
}
