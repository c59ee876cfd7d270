//! `ungil.ProcessPoolExecutor`: Python's side of a pool of worker processes.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::{
    PyException, PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError,
};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use rustc_hash::FxHashMap;
use ungil_pool::{
    Cancel, Cell, Crash, Ending, Failure, Function, Growing, Inline, Likeness, Outcome, Pace,
    Payload, Pool, Received, Refusal, Results, Settings, Task, Waited,
};

use crate::arrays::Finder;
use crate::call::{call, call_method};
use crate::codec::{self, Arrived, Decoded, Encoded, Pickler};
use crate::future::{LazyFuture, Settled, Source, deadline_after};
use crate::global;
use crate::guard::{Described, Guards};
use crate::interrupt::Interrupt;
use crate::mapping::{Iterable, MapResults};
use crate::plain::PlainPickler;
use crate::zygote;

/// Copies longer than this, in bytes, are made without Python's lock.
pub const LONG_COPY: usize = 256 << 10;
/// Functions that are remembered; a program that makes more starts anew.
const FUNCTIONS_MAX: usize = 4096;
/// As many sets of definitions that its arguments need are remembered with a function.
const VARIANTS_MAX: usize = 16;

/// A pool, and what the executor knows of it. Futures and handles share the pool alone, so that the
/// initializer's arguments go away with the executor.
pub struct Opened {
    pub pool: Arc<Pool>,
    encoder: Py<PyAny>,
    capture: Py<PyAny>,
    future_class: Py<PyType>,
    functions: Mutex<FxHashMap<usize, Arc<Known>>>,
    /// What arguments need that name these globals of `__main__`.
    needs: Mutex<FxHashMap<String, Arc<Need>>>,
    /// Tasks that could not be encoded. They count when workers are started, as in the stdlib.
    unsent: AtomicUsize,
    is_fork: bool,
    is_connected: AtomicBool,
}

/// Definitions that are right as long as nothing changes.
struct Need {
    definitions: Py<PyTuple>,
    guards: Py<Guards>,
}

/// A function that has been written down.
pub struct Known {
    function: Py<PyAny>,
    written: Arc<Function>,
    name: Arc<str>,
    guards: Guards,
    definitions: Py<PyTuple>,
    pickle: Py<PyBytes>,
    /// The same with definitions that arguments need.
    variants: Mutex<Vec<(Py<PyTuple>, Arc<Function>)>>,
}

impl Known {
    /// The function as it is written down together with definitions that its arguments need. They
    /// travel once to each worker so, and not with every task.
    fn with_definitions(
        &self,
        pool: &Pool,
        definitions: &Bound<'_, PyTuple>,
    ) -> PyResult<Arc<Function>> {
        let py = definitions.py();
        let found = {
            let variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
            variants.iter().find(|it| it.0.is(definitions)).map(|it| it.1.clone())
        };
        if let Some(written) = found {
            return Ok(written);
        }
        let own = self.definitions.bind(py);
        let all: Vec<_> = own.iter().chain(definitions.iter()).collect();
        let all = PyTuple::new(py, all)?;
        let written = write(pool, all.as_any(), self.pickle.bind(py).as_any(), true)?;
        let variant = (definitions.clone().unbind(), written.clone());
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = (variants.len() >= VARIANTS_MAX).then(|| variants.remove(0));
        variants.push(variant);
        drop(variants);
        // Dropping runs Python code, which may come back here.
        drop(forgotten);
        Ok(written)
    }
}

/// Writes a function down in the pool's arena.
fn write(
    pool: &Pool,
    definitions: &Bound<'_, PyAny>,
    pickle: &Bound<'_, PyAny>,
    will_come_again: bool,
) -> PyResult<Arc<Function>> {
    let py = definitions.py();
    let written = call_method(codec::marshal(py)?, "dumps", ((definitions, pickle),))?;
    pool.function(written.cast::<PyBytes>()?.as_bytes(), will_come_again).map_err(no_memory)
}

/// The function of a task, ready to be sent.
#[pyclass(frozen, module = "ungil._core")]
#[derive(Clone)]
pub struct PreparedFunction {
    pub written: Arc<Function>,
    pub name: Arc<str>,
    /// If it is remembered, which it is not if it may have changed by the next task.
    known: Option<Arc<Known>>,
}

/// The core of `ungil.ProcessPoolExecutor`.
#[pyclass(subclass, frozen, module = "ungil._core")]
pub struct ProcessPool {
    opened: OnceLock<Opened>,
}

#[pymethods]
impl ProcessPool {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> ProcessPool {
        ProcessPool { opened: OnceLock::new() }
    }

    /// Makes the pool. No process is started yet.
    #[pyo3(signature = (*, workers, threads, tasks_per_worker, start_method, encoder, capture,
                        future_class))]
    #[expect(clippy::too_many_arguments, reason = "they are given by name")]
    fn _open(
        &self,
        workers: u32,
        threads: u32,
        tasks_per_worker: Option<u64>,
        start_method: &str,
        encoder: Py<PyAny>,
        capture: Py<PyAny>,
        future_class: Py<PyType>,
    ) -> PyResult<()> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let settings = Settings {
            workers_max: workers,
            threads_per_worker: threads,
            // As in the stdlib: a fork sees what there was when the first task came.
            starts_all: start_method == "fork",
            tasks_per_worker_max: tasks_per_worker,
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        };
        let connect = zygote::connector(start_method)?;
        let pool = Pool::new(settings, connect).map_err(no_memory)?;
        let opened = Opened {
            pool: Arc::new(pool),
            encoder,
            capture,
            future_class,
            functions: Mutex::default(),
            needs: Mutex::default(),
            unsent: AtomicUsize::new(0),
            is_fork: start_method == "fork",
            is_connected: AtomicBool::new(false),
        };
        self.opened
            .set(opened)
            .map_err(|_| PyRuntimeError::new_err("this executor is open already"))
    }

    /// Runs ``fn(*args, **kwargs)`` in a worker process.
    ///
    /// Args:
    ///     fn: What to call. A coroutine function is run to its end in the worker's event loop.
    ///     args: Its positional arguments.
    ///     kwargs: Its keyword arguments.
    ///
    /// Returns:
    ///     A future. What cannot be sent to a worker is the future's exception.
    ///
    /// Raises:
    ///     RuntimeError: The executor was shut down.
    ///     BrokenProcessPool: Its initializer failed, or no worker could be started.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        let opened = self.opened()?;
        opened.connect_first(py)?;
        match opened.function(r#fn) {
            Ok(function) => opened.submit(py, &function, args, kwargs),
            Err(error) => opened.refuse(py, error, r#fn),
        }
    }

    /// Writes a function down once for many tasks, as ``map`` does.
    fn _prepare(&self, function: &Bound<'_, PyAny>) -> PyResult<PreparedFunction> {
        let opened = self.opened()?;
        opened.connect_first(function.py())?;
        opened.function(function)
    }

    /// Runs a prepared function for each item.
    ///
    /// Args:
    ///     function: The function.
    ///     items: The only iterable's iterator, or one of tuples of arguments.
    ///     is_many: Whether items are tuples of arguments.
    ///     is_at_hand: Whether the next item is always there, as in a list.
    ///     timeout: Seconds within which each result must be there.
    ///     ahead: How many items to take before results are asked for; ``None`` takes all of them.
    ///
    /// Returns:
    ///     An iterator over the results.
    fn _map<'py>(
        slf: &Bound<'py, Self>,
        function: Py<PreparedFunction>,
        items: &Bound<'py, PyAny>,
        is_many: bool,
        is_at_hand: bool,
        timeout: Option<f64>,
        ahead: Option<usize>,
    ) -> PyResult<Bound<'py, MapResults>> {
        let iterable = Iterable { items: items.clone(), is_many, is_at_hand };
        MapResults::begin(slf, function, iterable, timeout, ahead)
    }

    /// The pool without the executor.
    fn _handle(&self) -> PyResult<ProcessPoolHandle> {
        Ok(ProcessPoolHandle { pool: self.opened()?.pool.clone() })
    }

    /// Why the pool is broken, if it is.
    #[getter]
    fn _broken(&self) -> PyResult<Option<String>> {
        Ok(match self.opened()?.pool.check_open() {
            Err(Refusal::Broken(reason)) => Some(reason.to_string()),
            _ => None,
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(opened) = self.opened.get() {
            visit.call(&opened.encoder)?;
            visit.call(&opened.capture)?;
        }
        Ok(())
    }
}

/// A pool of processes, for those who close it and look at it. It does not keep the executor alive.
#[pyclass(frozen, module = "ungil._core")]
pub struct ProcessPoolHandle {
    pool: Arc<Pool>,
}

#[pymethods]
impl ProcessPoolHandle {
    /// Takes no more tasks, and cancels those that no worker has if told so.
    fn close(&self, py: Python<'_>, cancel_futures: bool) {
        let cancel = if cancel_futures { Cancel::Unassigned } else { Cancel::Nothing };
        py.detach(|| self.pool.close(cancel));
    }

    /// Takes no more tasks, cancels those that have not begun, and sends all workers a signal.
    fn end_workers(&self, py: Python<'_>, number: i32) -> PyResult<()> {
        let signal = rustix::process::Signal::from_named_raw(number)
            .ok_or_else(|| PyRuntimeError::new_err("there is no such signal"))?;
        py.detach(|| {
            self.pool.close(Cancel::Unbegun);
            self.pool.signal(signal);
        });
        Ok(())
    }

    /// Waits until all tasks and workers have ended; ``False`` if they have not within the time.
    #[pyo3(signature = (timeout=None))]
    fn wait_closed(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = timeout.and_then(deadline_after);
        let mut interrupt = Interrupt::default();
        let waited = py.detach(|| self.pool.wait_closed(deadline, &mut || interrupt.is_raised()));
        match interrupt.into_error() {
            Some(error) if waited == Waited::Interrupted => Err(error),
            _ => Ok(waited != Waited::TimedOut),
        }
    }

    /// Whether all tasks and workers have ended after the pool was closed.
    fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// Process number and pidfd of each worker, once all that were asked for have been started.
    fn workers(&self, py: Python<'_>) -> Vec<(u32, i32)> {
        py.detach(|| self.pool.wait_started());
        let workers = self.pool.workers();
        workers.iter().map(|it| (it.pid, it.descriptor.as_raw_fd())).collect()
    }

    /// Tasks that have not ended.
    fn pending(&self) -> usize {
        self.pool.pending()
    }
}

impl ProcessPool {
    pub fn opened(&self) -> PyResult<&Opened> {
        self.opened.get().ok_or_else(|| {
            PyRuntimeError::new_err("this executor was not initialised: call super().__init__()")
        })
    }
}

impl Opened {
    fn submit<'py>(
        &self,
        py: Python<'py>,
        function: &PreparedFunction,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        let (encoded, written) = self.encode_call(function, args, kwargs);
        let written = written.unwrap_or_else(|| function.written.clone());
        self.submit_encoded(py, written, &function.name, encoded)
    }

    /// Encodes what a function is called with. The function may come with it, written down together
    /// with what the arguments need.
    pub fn encode_call(
        &self,
        function: &PreparedFunction,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> (PyResult<Encoded>, Option<Arc<Function>>) {
        let known = function.known.as_deref();
        let pickler = CallPickler { opened: self, known, written: RefCell::new(None) };
        let encoded = codec::encode_call(args, kwargs, &pickler);
        (encoded, pickler.written.take())
    }

    fn submit_payload<'py>(
        &self,
        py: Python<'py>,
        function: Arc<Function>,
        name: Arc<str>,
        payload: Payload,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        let task = Task { function: Some(function), payload };
        let (cell, missing) =
            self.pool.submit(task).map_err(|refusal| refusal_error(py, refusal))?;
        if missing > 0
            && let Err(error) = self.start(py, missing)
        {
            // The caller gets no future, so nothing shall run.
            self.pool.cancel(&cell);
            return Err(error);
        }
        let source = Source::Process { pool: self.pool.clone(), cell, name };
        LazyFuture::of(self.future_class.bind(py), source)
    }

    /// Runs one call as a task.
    pub fn submit_encoded<'py>(
        &self,
        py: Python<'py>,
        function: Arc<Function>,
        name: &Arc<str>,
        encoded: PyResult<Encoded>,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        match encoded.and_then(|encoded| self.store(py, &encoded)) {
            Ok(payload) => self.submit_payload(py, function, name.clone(), payload),
            Err(error) => self.refuse_arguments(py, error, name),
        }
    }

    /// Refuses in a child that the program forked: there the executor is only a copy.
    pub fn check_origin(&self, py: Python<'_>) -> PyResult<()> {
        match self.pool.check_open() {
            Err(refusal @ Refusal::Foreign) => Err(refusal_error(py, refusal)),
            _ => Ok(()),
        }
    }

    /// Runs one call for each of some items that are added to a batch.
    pub fn extend_batch(
        &self,
        py: Python<'_>,
        batch: &mut Growing,
        bytes: &[u8],
        ends: &[u32],
    ) -> PyResult<()> {
        let extended = self.pool.extend_batch(batch, bytes, ends);
        let missing = extended.map_err(|refusal| refusal_error(py, refusal))?;
        self.start_for(py, missing, batch.results())
    }

    /// Runs one call for each of so many items that follow from a description.
    pub fn submit_described(
        &self,
        py: Python<'_>,
        function: &PreparedFunction,
        pace: Arc<Pace>,
        description: Inline,
        count: u32,
    ) -> PyResult<Arc<Results>> {
        let written = function.written.clone();
        let submitted = self.pool.submit_described(written, pace, description, count);
        let (results, missing) = submitted.map_err(|refusal| refusal_error(py, refusal))?;
        self.start_for(py, missing, &results)?;
        Ok(results)
    }

    fn start_for(&self, py: Python<'_>, missing: usize, results: &Arc<Results>) -> PyResult<()> {
        if missing == 0 {
            return Ok(());
        }
        // Where that fails the caller gets no results, so nothing shall run.
        self.start(py, missing).inspect_err(|_| self.pool.cancel_items(results))
    }

    /// Before the first function is written down: forks, if workers are forks, for what they have of
    /// this process need not be sent to them; else has a zygote started, which comes up meanwhile.
    fn connect_first(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_connected.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if self.is_fork {
            self.pool.check_open().map_err(|refusal| refusal_error(py, refusal))?;
            return self.start(py, self.pool.missing_workers(1));
        }
        let Err(error) = py.detach(|| self.pool.connect()) else { return Ok(()) };
        // Starting a worker finds the same and says so; only a signal handler says it once.
        match error.downcast::<PyErr>() {
            Ok(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => Err(error),
            _ => Ok(()),
        }
    }

    /// Starts workers that look like this process does now. What a signal handler raises meanwhile comes
    /// out of the call.
    fn start(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        let captured = call(self.capture.bind(py), &PyTuple::empty(py), None);
        let captured = captured.and_then(|it| it.extract());
        let (bytes, numbers): (Bound<'_, PyBytes>, Vec<i32>) = captured?;
        let descriptors: std::io::Result<Vec<OwnedFd>> = numbers
            .into_iter()
            .map(|number| {
                // SAFETY: the capture keeps these descriptors open while it is borrowed here.
                unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
            })
            .collect();
        let likeness = Likeness {
            bytes: bytes.as_bytes().into(),
            descriptors: descriptors.map_err(PyOSError::new_err)?.into(),
        };
        py.detach(|| self.pool.start(count, likeness));
        Ok(())
    }

    /// A future for a task whose function cannot be sent.
    fn refuse<'py>(
        &self,
        py: Python<'py>,
        error: PyErr,
        function: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        self.refuse_arguments(py, error, &name_of(function))
    }

    fn refuse_arguments<'py>(
        &self,
        py: Python<'py>,
        error: PyErr,
        name: &str,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            return Err(error);
        }
        self.pool.check_open().map_err(|refusal| refusal_error(py, refusal))?;
        let unsent = self.unsent.fetch_add(1, Ordering::Relaxed) + 1;
        let missing = self.pool.missing_workers(unsent);
        if missing > 0 {
            self.start(py, missing)?;
        }
        let noted = error.value(py).call_method1(
            "add_note",
            (format!("{name} was not run: its call could not be sent to a worker process"),),
        );
        // An exception may have no room for notes; it is still the reason.
        drop(noted);
        LazyFuture::failed(self.future_class.bind(py), error)
    }

    fn store(&self, py: Python<'_>, encoded: &Encoded) -> PyResult<Payload> {
        if let Some(inline) = encoded.whole().and_then(Inline::new) {
            return Ok(Payload::Inline(inline));
        }
        let parts = encoded.parts(py)?;
        let stored = if parts.length() > LONG_COPY {
            py.detach(|| self.pool.store_parts(parts.slices()))
        } else {
            self.pool.store_parts(parts.slices())
        };
        stored.map_err(no_memory)
    }

    /// The function as it was or is written down.
    fn function(&self, function: &Bound<'_, PyAny>) -> PyResult<PreparedFunction> {
        let py = function.py();
        let place = function.as_ptr() as usize;
        // Looking at guards may run Python code, and let another thread in here.
        let known = {
            let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            functions.get(&place).cloned()
        };
        if let Some(known) = known
            && known.function.is(function)
            && known.guards.hold(py)
        {
            let (written, name) = (known.written.clone(), known.name.clone());
            return Ok(PreparedFunction { written, name, known: Some(known) });
        }
        type Dumped<'py> = (Bound<'py, PyBytes>, Bound<'py, PyTuple>, Option<Vec<Described>>);
        let (pickle, definitions, guards): Dumped<'_> =
            call_method(self.encoder.bind(py), "dumps_function", (function,))?.extract()?;
        let written = write(&self.pool, &definitions, &pickle, guards.is_some())?;
        let name = name_of(function);
        let mut prepared = PreparedFunction { written, name, known: None };
        if let Some(guards) = guards {
            let known = Arc::new(Known {
                function: function.clone().unbind(),
                written: prepared.written.clone(),
                name: prepared.name.clone(),
                guards: Guards::new(guards),
                definitions: definitions.unbind(),
                pickle: pickle.unbind(),
                variants: Mutex::default(),
            });
            prepared.known = Some(known.clone());
            let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
            let forgotten =
                (functions.len() >= FUNCTIONS_MAX).then(|| std::mem::take(&mut *functions));
            let replaced = functions.insert(place, known);
            drop(functions);
            // Dropping runs Python code, which may come back here.
            drop((forgotten, replaced));
        }
        Ok(prepared)
    }
}

/// Pickles what one function is called with.
struct CallPickler<'a> {
    opened: &'a Opened,
    known: Option<&'a Known>,
    /// The function, if it was written down with what the arguments need.
    written: RefCell<Option<Arc<Function>>>,
}

impl Opened {
    /// The definitions that a pickle needs which was made without regard to `__main__`; `None` if it
    /// has to be made with regard to it.
    fn definitions<'py>(
        &self,
        pickle: &Bound<'py, PyBytes>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = pickle.py();
        let Some(names) = global::names_of_main(pickle.as_bytes()) else { return Ok(None) };
        let names = names.join("\n");
        let known = {
            let needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
            needs.get(&names).cloned()
        };
        if let Some(need) = known
            && need.guards.get().hold(py)
        {
            return Ok(Some(need.definitions.bind(py).clone()));
        }
        type Found<'py> = Option<(Bound<'py, PyTuple>, Bound<'py, Guards>)>;
        let found = call_method(self.encoder.bind(py), "known_definitions", (pickle,))?;
        let Some((definitions, guards)) = found.extract::<Found<'_>>()? else { return Ok(None) };
        let need = Need { definitions: definitions.clone().unbind(), guards: guards.unbind() };
        let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = (needs.len() >= FUNCTIONS_MAX).then(|| std::mem::take(&mut *needs));
        let replaced = needs.insert(names, Arc::new(need));
        drop(needs);
        // Dropping runs Python code, which may come back here.
        drop((forgotten, replaced));
        Ok(Some(definitions))
    }
}

impl Pickler for CallPickler<'_> {
    fn dumps<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        plain: &mut PlainPickler,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyTuple>>)> {
        let py = value.py();
        let encoder = self.opened.encoder.bind(py);
        let error = match plain.dumps(value) {
            Ok(Some(pickle)) if !global::may_name_main(pickle.as_bytes()) => {
                return Ok((pickle, None));
            }
            Ok(Some(pickle)) => {
                if let Some(definitions) = self.opened.definitions(&pickle)? {
                    return self.with_definitions(pickle, definitions);
                }
                None
            }
            Ok(None) => None,
            Err(error) if error.is_instance_of::<PyException>(py) => {
                *plain = PlainPickler::take(py, self.finder())?;
                Some(error.into_value(py))
            }
            Err(error) => return Err(error),
        };
        let dumped = match error {
            // What the standard library raises, if nothing else helps.
            Some(error) => call_method(encoder, "dumps_by_value", (value, &plain.collector, error)),
            None => call_method(encoder, "dumps", (value, &plain.collector)),
        };
        let (pickle, definitions): (_, Bound<'py, PyTuple>) = dumped?.extract()?;
        Ok((pickle, Some(definitions)))
    }

    fn finder(&self) -> Finder {
        Finder::ToWorker(self.opened.pool.shared().clone())
    }
}

impl CallPickler<'_> {
    /// Leaves definitions that will come again to the function, if that will come again too.
    fn with_definitions<'py>(
        &self,
        pickle: Bound<'py, PyBytes>,
        definitions: Bound<'py, PyTuple>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<Bound<'py, PyTuple>>)> {
        match self.known {
            Some(known) if !definitions.is_empty() => {
                let written = known.with_definitions(&self.opened.pool, &definitions)?;
                self.written.replace(Some(written));
                Ok((pickle, None))
            }
            _ => Ok((pickle, Some(definitions))),
        }
    }
}

fn name_of(function: &Bound<'_, PyAny>) -> Arc<str> {
    let name = function.getattr("__qualname__").and_then(|name| name.extract::<String>());
    name.or_else(|_| function.get_type().qualname().map(|name| name.to_string()))
        .map_or_else(|_| "the task".into(), Into::into)
}

/// The outcome of a task that is over.
pub fn settle(py: Python<'_>, cell: &Cell, name: &str) -> Settled {
    cell.take().map_or(Settled::Cancelled, |outcome| settled(py, outcome, name))
}

/// An outcome as Python objects.
pub fn settled(py: Python<'_>, outcome: Outcome, name: &str) -> Settled {
    match outcome {
        Outcome::Returned(received) => match value(py, received) {
            Ok(value) => Settled::Returned(value.unbind()),
            // Ctrl-C while the result was rebuilt: whoever waits shall hear of just that.
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => {
                Settled::Raised(error.into_value(py))
            }
            Err(error) => raised(py, "result_not_rebuilt", (error.into_value(py), name)),
        },
        Outcome::Raised(received) => match value(py, received) {
            Ok(value) => raised(py, "rebuild_exception", (value, name)),
            Err(error) => raised(py, "result_not_rebuilt", (error.into_value(py), name)),
        },
        Outcome::Crashed(Crash { pid, ending }) => {
            let (exit_code, signal) = match ending {
                Some(Ending::Exited(code)) => (Some(code), None),
                Some(Ending::Killed(signal)) => (None, Some(signal)),
                None => (None, None),
            };
            raised(py, "worker_crashed", (name, pid, exit_code, signal))
        }
        Outcome::Failed(Failure::Broken(reason)) => raised(py, "pool_broken", (reason.as_ref(),)),
        Outcome::Failed(Failure::Corrupted { pid }) => raised(py, "worker_corrupted", (name, pid)),
    }
}

fn value<'py>(py: Python<'py>, received: Received) -> PyResult<Bound<'py, PyAny>> {
    let arrived = match received {
        Received::Inline(inline) => Arrived::Inline(inline),
        Received::Lent(lent) => Arrived::Lent(Arc::new(lent)),
    };
    match arrived.decode(py, &|_| Ok(()))? {
        Decoded::Value(value) => Ok(value),
        Decoded::Call(..) => Err(PyRuntimeError::new_err("a worker answered with a call")),
    }
}

/// An exception that the facade makes.
pub fn raised<'py>(
    py: Python<'py>,
    maker: &str,
    arguments: impl IntoPyObject<
        'py,
        Target = PyTuple,
        Output = Bound<'py, PyTuple>,
        Error: Into<PyErr>,
    >,
) -> Settled {
    let made = crate::call::import(py, "ungil._remote")
        .and_then(|module| call_method(&module, maker, arguments));
    let error = match made {
        Ok(made) => PyErr::from_value(made),
        Err(error) => error,
    };
    Settled::Raised(error.into_value(py))
}

fn refusal_error(py: Python<'_>, refusal: Refusal) -> PyErr {
    let made = crate::call::import(py, "ungil._remote").and_then(|module| match refusal {
        Refusal::Closed => call_method(&module, "closed", ()),
        Refusal::Broken(reason) => call_method(&module, "pool_broken", (reason.as_ref(),)),
        Refusal::Foreign => call_method(&module, "foreign_executor", ()),
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

pub fn no_memory(error: std::io::Error) -> PyErr {
    PyMemoryError::new_err(format!(
        "the system gives no shared memory for a task: {error}; it counts against the memory limit \
         of the process, and each value in flight needs its size"
    ))
}
