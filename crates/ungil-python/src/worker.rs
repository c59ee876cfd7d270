//! A worker process: decodes tasks, calls, encodes results.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{PyException, PyMemoryError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};
use rustc_hash::FxHashMap;
use ungil_pool::{
    Chunk, ChunkItems, Data, FUNCTION_USED_ONCE, Inline, Job, Opened, Origin, Status, Ticket,
    Worker,
};

use crate::arrays::{self, Finder};
use crate::call::{call, call_method, call_one};
use crate::codec::{self, Arrived, Decoded, Encoded, Pickler};
use crate::item::{self, Reader};
use crate::plain::PlainPickler;

/// Functions that a worker remembers; the oldest is forgotten first.
const FUNCTIONS_MAX: usize = 8192;

/// A worker process, as its Python side sees it.
#[pyclass(frozen, module = "ungil._core")]
pub struct WorkerProcess {
    worker: Worker,
    likeness: Vec<u8>,
    descriptors: Mutex<Vec<OwnedFd>>,
    functions: Mutex<Functions>,
    hooks: OnceLock<Hooks>,
    origin: Origin,
    /// The function whose definitions `__main__` has.
    defined: AtomicU64,
}

#[derive(Default)]
struct Functions {
    known: FxHashMap<u64, Known>,
    order: VecDeque<u64>,
}

struct Known {
    function: Py<PyAny>,
    /// What `__main__` must have for it, if anything.
    definitions: Option<Py<PyAny>>,
}

/// What the Python side does.
struct Hooks {
    define: Py<PyAny>,
    flush: Py<PyAny>,
}

thread_local! {
    /// Whether this thread runs a task now.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    /// Whether something may have been printed since the streams were flushed.
    static IS_UNFLUSHED: Cell<bool> = const { Cell::new(false) };
}

impl WorkerProcess {
    pub fn new(opened: Opened) -> WorkerProcess {
        arrays::become_worker(opened.worker.shares().clone());
        WorkerProcess {
            worker: opened.worker,
            likeness: opened.likeness,
            descriptors: Mutex::new(opened.descriptors),
            functions: Mutex::default(),
            hooks: OnceLock::new(),
            origin: Origin::here(),
            defined: AtomicU64::new(0),
        }
    }
}

#[pymethods]
impl WorkerProcess {
    /// How the worker shall look, as the parent wrote it.
    #[getter]
    fn likeness<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.likeness)
    }

    /// Gives the descriptors away that the parent sent.
    fn take_descriptors(&self) -> Vec<i32> {
        let mut descriptors = self.descriptors.lock().unwrap_or_else(PoisonError::into_inner);
        descriptors.drain(..).map(IntoRawFd::into_raw_fd).collect()
    }

    /// Says that tasks can come.
    ///
    /// Args:
    ///     define: Is given definitions of ``__main__`` before they are needed.
    ///     flush: Flushes the standard streams.
    fn ready(&self, define: Py<PyAny>, flush: Py<PyAny>) -> PyResult<()> {
        self.hooks
            .set(Hooks { define, flush })
            .map_err(|_| PyRuntimeError::new_err("this worker is ready already"))?;
        // Other threads of the worker go on while one waits for room.
        let around = |wait: &mut (dyn FnMut() + Send)| Python::attach(|py| py.detach(wait));
        self.worker.set_around_wait(Box::new(around));
        self.worker.ready();
        Ok(())
    }

    /// Says that the initializer failed, and why.
    fn fail(&self, reason: &str) {
        self.worker.fail(reason);
    }

    /// Runs tasks until the parent wants the worker to end.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let hooks = self
            .hooks
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("a worker runs tasks when it is ready"))?;
        loop {
            let job = match self.worker.try_next() {
                Some(job) => Some(job),
                None => py.detach(|| self.wait(hooks)),
            };
            let Some(job) = job else { return Ok(()) };
            self.run_job(py, hooks, job);
        }
    }

    /// Whether the calling thread runs a task.
    #[staticmethod]
    fn is_running_task() -> bool {
        IS_RUNNING.get()
    }
}

impl WorkerProcess {
    fn wait(&self, hooks: &Hooks) -> Option<Job> {
        let mut before_sleep = || {
            if IS_UNFLUSHED.replace(false) {
                Python::attach(|py| {
                    // A stream that cannot be flushed is the task's affair.
                    let _ = hooks.flush.bind(py).call0();
                });
            }
        };
        let mut on_signal = || {
            Python::attach(|py| {
                // No task runs that the exception of a handler could end.
                let _ = py.check_signals();
            });
        };
        self.worker.next(&mut before_sleep, &mut on_signal)
    }

    fn run_job(&self, py: Python<'_>, hooks: &Hooks, job: Job) {
        let (ticket, function, data) = job.split();
        let data = match data {
            Data::Items(items) => return self.run_items(py, hooks, ticket, function, &items),
            data => data,
        };
        let start = Instant::now();
        IS_RUNNING.set(true);
        IS_UNFLUSHED.set(true);
        let answer = self.call(py, hooks, function, data);
        if !self.origin.is_here() {
            // The task has forked, and this is the child come back from the function. The parent
            // answers; two that took tasks from one ring would destroy it.
            crate::zygote::exit_now(0);
        }
        IS_RUNNING.set(false);
        let (status, encoded) = match answer {
            Ok(encoded) => (Status::Returned, Ok(encoded)),
            Err((stage, error)) => (Status::Raised, encode_error(py, stage, &error)),
        };
        let run_ns = start.elapsed().as_nanos() as u64;
        self.answer(py, ticket, status, run_ns, encoded);
    }

    fn call(
        &self,
        py: Python<'_>,
        hooks: &Hooks,
        function: Option<(u64, ungil_shm::Block)>,
        data: Data,
    ) -> Result<Encoded, (&'static str, PyErr)> {
        let at = |stage: &'static str| move |error: PyErr| (stage, error);
        let function = self.function(py, hooks, function).map_err(at("function"))?;
        let define = |definitions: &Bound<'_, PyAny>| {
            self.defined.store(0, Ordering::Relaxed);
            hooks.define.bind(py).call1((definitions,)).map(drop)
        };
        let arrived = match data {
            Data::Inline(inline) => Arrived::Inline(inline),
            Data::Lent(lent) => Arrived::Lent(lent),
            Data::Items(_) => return Err(("arguments", codec::damaged())),
        };
        let (args, kwargs) = match arrived.decode(py, &define).map_err(at("arguments"))? {
            Decoded::Call(args, kwargs) => (args, kwargs),
            Decoded::Value(call) => codec::unpack_call(&call).map_err(at("arguments"))?,
        };
        let value = call(function.bind(py), &args, kwargs.as_ref());
        drop(function);
        let value = value.and_then(run_coroutine).map_err(at("call"))?;
        codec::encode_value(&value, &ResultPickler).map_err(at("result"))
    }

    /// Calls a function with one item after the other.
    fn run_items(
        &self,
        py: Python<'_>,
        hooks: &Hooks,
        ticket: Ticket,
        function: Option<(u64, ungil_shm::Block)>,
        items: &ChunkItems,
    ) {
        let mut chunk = Chunk::new(&self.worker, ticket, items);
        let function = self.function(py, hooks, function);
        let define = |definitions: &Bound<'_, PyAny>| {
            self.defined.store(0, Ordering::Relaxed);
            hooks.define.bind(py).call1((definitions,)).map(drop)
        };
        let mut reader = Reader::new(items);
        let mut result = Vec::new();
        IS_RUNNING.set(true);
        IS_UNFLUSHED.set(true);
        while chunk.claim().is_some() {
            result.clear();
            let call = reader.as_mut().ok_or_else(codec::damaged);
            let call = call.and_then(|reader| reader.next(py, &define));
            let called = match (&function, call) {
                (Err(error), _) => Err(("function", error.clone_ref(py))),
                (_, Err(error)) => Err(("arguments", error)),
                (Ok(function), Ok(call)) => call_item(function.bind(py), call, &mut result),
            };
            if !self.origin.is_here() {
                // As with a task: this is the child of one that has forked.
                crate::zygote::exit_now(0);
            }
            let alone = match called {
                Ok(None) => None,
                Ok(Some(encoded)) => Some((Status::ItemReturned, Ok(encoded))),
                Err((stage, error)) => match encode_error(py, stage, &error) {
                    Ok(encoded) if item::push_error(&mut result, &encoded) => None,
                    encoded => Some((Status::ItemRaised, encoded)),
                },
            };
            let alone = match alone {
                None => chunk.finish(&result).err().map(|error| {
                    let error = no_memory(&error, result.len());
                    (Status::ItemRaised, encode_error(py, "result", &error))
                }),
                alone => alone,
            };
            if let Some((status, encoded)) = alone {
                let (status, payload) = self.store_or_error(py, status, encoded);
                chunk.finish_alone(status, &payload);
            }
        }
        IS_RUNNING.set(false);
        chunk.end();
    }

    fn answer(
        &self,
        py: Python<'_>,
        ticket: Ticket,
        status: Status,
        run_ns: u64,
        encoded: PyResult<Encoded>,
    ) {
        let (status, payload) = self.store_or_error(py, status, encoded);
        self.worker.answer(ticket, status, run_ns, &payload);
    }

    fn store_or_error(
        &self,
        py: Python<'_>,
        status: Status,
        encoded: PyResult<Encoded>,
    ) -> (Status, ungil_pool::Payload) {
        match encoded.and_then(|encoded| self.store(py, &encoded)) {
            Ok(payload) => (status, payload),
            Err(error) => {
                // The exception instead of the result, and if that fails too, a short one.
                let second = encode_error(py, "result", &error);
                let second = second.and_then(|encoded| self.store(py, &encoded));
                let status = match status {
                    Status::ItemReturned | Status::ItemRaised => Status::ItemRaised,
                    _ => Status::Raised,
                };
                (status, second.unwrap_or_else(|_| no_room()))
            }
        }
    }

    fn store(&self, py: Python<'_>, encoded: &Encoded) -> PyResult<ungil_pool::Payload> {
        if let Some(inline) = encoded.whole().and_then(Inline::new) {
            return Ok(ungil_pool::Payload::Inline(inline));
        }
        let parts = encoded.parts(py)?;
        let stored = if parts.length() > crate::processes::LONG_COPY {
            py.detach(|| self.worker.store_parts(parts.slices()))
        } else {
            self.worker.store_parts(parts.slices())
        };
        stored.map_err(|error| no_memory(&error, parts.length()))
    }

    /// The function of a task, with what it needs of `__main__` in place.
    fn function(
        &self,
        py: Python<'_>,
        hooks: &Hooks,
        function: Option<(u64, ungil_shm::Block)>,
    ) -> PyResult<Py<PyAny>> {
        let (number, block) =
            function.ok_or_else(|| PyRuntimeError::new_err("a task names no function"))?;
        let known = {
            let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            functions.known.get(&number).map(|known| {
                let definitions = known.definitions.as_ref().map(|it| it.clone_ref(py));
                (known.function.clone_ref(py), definitions)
            })
        };
        if let Some((function, definitions)) = known {
            // Another function may have brought other values of the same globals meanwhile.
            if let Some(definitions) = definitions
                && self.defined.swap(number, Ordering::Relaxed) != number
            {
                hooks.define.bind(py).call1((definitions,))?;
            }
            return Ok(function);
        }
        let bytes = self
            .worker
            .definition(block)
            .ok_or_else(|| PyRuntimeError::new_err("a function's definition is damaged"))?;
        let pair = codec::marshal(py)?.call_method1("loads", (PyBytes::new(py, &bytes),))?;
        let (definitions, pickle): (Bound<'_, PyTuple>, Bound<'_, PyBytes>) = pair.extract()?;
        let has_definitions = !definitions.is_empty();
        if has_definitions {
            self.defined.store(number, Ordering::Relaxed);
            hooks.define.bind(py).call1((&definitions,))?;
        }
        let function = match crate::global::find(py, pickle.as_bytes()) {
            Some(function) => function.unbind(),
            None => codec::loads_pickle(py, &pickle)?.unbind(),
        };
        if number & FUNCTION_USED_ONCE == 0 {
            let known = Known {
                function: function.clone_ref(py),
                definitions: has_definitions.then(|| definitions.into_any().unbind()),
            };
            let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            functions.known.insert(number, known);
            functions.order.push_back(number);
            let forgotten = (functions.order.len() > FUNCTIONS_MAX)
                .then(|| functions.order.pop_front())
                .flatten()
                .and_then(|oldest| functions.known.remove(&oldest));
            drop(functions);
            // Dropping runs Python code.
            drop(forgotten);
        }
        Ok(function)
    }
}

/// Calls a function with an item.
///
/// # Returns
/// The encoded result if it must be sent by itself; else it was appended.
fn call_item<'py>(
    function: &Bound<'py, PyAny>,
    item: item::Call<'py>,
    result: &mut Vec<u8>,
) -> Result<Option<Encoded>, (&'static str, PyErr)> {
    let value = match item {
        item::Call::One(argument) => call_one(function, &argument),
        item::Call::Any(args, kwargs) => call(function, &args, kwargs.as_ref()),
    };
    let value = value.and_then(run_coroutine).map_err(|error| ("call", error))?;
    item::push_result(result, &value, &ResultPickler).map_err(|error| ("result", error))
}

fn no_memory(error: &std::io::Error, length: usize) -> PyErr {
    PyMemoryError::new_err(format!(
        "the system gives no shared memory for a result of {length} bytes: {error}"
    ))
}

struct ResultPickler;

impl Pickler for ResultPickler {
    fn dumps<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        plain: &mut PlainPickler,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyTuple>>)> {
        match plain.dumps(value) {
            Ok(Some(pickle)) => return Ok((pickle, None)),
            Ok(None) => {}
            Err(error) if error.is_instance_of::<PyException>(value.py()) => {
                *plain = PlainPickler::take(value.py(), self.finder())?;
            }
            Err(error) => return Err(error),
        }
        // It tries again, for another error may be the one to tell.
        static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let dumps = DUMPS.import(value.py(), "ungil._pickling", "dumps_result")?;
        Ok((dumps.call1((value, &plain.collector))?.extract()?, None))
    }

    fn finder(&self) -> Finder {
        Finder::ToProgram
    }
}

/// An exception, as the parent can rebuild it; with where it came from.
fn encode_error(py: Python<'_>, stage: &str, error: &PyErr) -> PyResult<Encoded> {
    let encoded = crate::call::import(py, "ungil._remote")?
        .call_method1("encode_exception", (error.clone_ref(py).into_value(py), stage))?;
    codec::encode_value(&encoded, &ResultPickler)
}

/// What is sent where not even an exception has room. It has no part, so it needs none.
fn no_room() -> ungil_pool::Payload {
    ungil_pool::Payload::Inline(ungil_pool::Inline::empty())
}

/// The value, or, if it is a coroutine, what that returns: it is run to its end in the event loop of
/// this thread.
pub fn run_coroutine(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the value is alive and the interpreter attached.
    if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } == 0 {
        return Ok(value);
    }
    call_method(value.py().import("ungil._coroutines")?.as_any(), "run", (value,))
}
