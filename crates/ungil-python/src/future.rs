//! A future that costs little until somebody looks closely.
//!
//! `ungil.Future` is this class and the stdlib's `Future` in one. The stdlib's part is made without its
//! `__init__`: no lock, no lists. `result`, `done` and the like work on the task's cell. Whoever reaches
//! for `_condition` or `_waiters` (`wait`, `as_completed`, asyncio, callbacks) *materialises* the future:
//! from then on it behaves as the stdlib's does, and its end is announced.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTimeoutError};
use pyo3::ffi;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::{OnceLockExt, PyOnceLock};
use pyo3::types::{PyList, PyString, PyTuple, PyType};
use ungil_pool::{Cell as TaskCell, Origin, Pool, Waited, Waiter};
use ungil_shm::Wake;

use crate::announcer::announcer;
use crate::call::{call, call_method};
use crate::interrupt::Interrupt;

/// Where the outcome comes from.
pub enum Source {
    /// A task of a process pool.
    Process {
        /// The pool.
        pool: Arc<Pool>,
        /// The task's cell.
        cell: Arc<TaskCell>,
        /// The function's name, for errors.
        name: Arc<str>,
    },
    /// A task of a thread pool.
    Thread(Progress),
    /// A task that ended before it reached a pool.
    Nowhere,
}

/// How a task ended, as Python objects.
pub enum Settled {
    /// Its result.
    Returned(Py<PyAny>),
    /// Its exception.
    Raised(Py<PyBaseException>),
    /// It was cancelled.
    Cancelled,
}

const PENDING: u8 = 0;
const RUNNING: u8 = 1;
const CANCELLED: u8 = 2;
const OVER: u8 = 3;

/// How far a task of a thread pool has come.
pub struct Progress {
    state: AtomicU8,
    waiters: Mutex<Vec<Arc<Waiter>>>,
    origin: Origin,
}

impl Progress {
    /// It waits in a queue.
    pub fn new() -> Progress {
        Progress {
            state: AtomicU8::new(PENDING),
            waiters: Mutex::default(),
            origin: Origin::here(),
        }
    }

    /// Begins it; `false` if it was cancelled.
    pub fn begin(&self) -> bool {
        self.change(PENDING, RUNNING)
    }

    fn cancel(&self) -> bool {
        self.origin.is_here() && self.change(PENDING, CANCELLED)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CANCELLED
    }

    fn end(&self) {
        let _ = self.change(RUNNING, OVER);
        self.notify();
    }

    fn notify(&self) {
        let waiters =
            std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        waiters.iter().for_each(|waiter| waiter.notify());
    }

    fn wait(&self, deadline: Option<Instant>, interrupt: &mut Interrupt) -> Waited {
        if !self.origin.is_here() {
            return if self.is_over() { Waited::Done } else { Waited::Foreign };
        }
        let waiter = Arc::new(Waiter::default());
        loop {
            {
                let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
                if self.is_over() {
                    return Waited::Done;
                }
                waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                waiters.push(waiter.clone());
            }
            match waiter.wait(deadline) {
                Wake::TimedOut => return Waited::TimedOut,
                Wake::Interrupted if interrupt.is_raised() => return Waited::Interrupted,
                Wake::Interrupted | Wake::Rung => {}
            }
        }
    }
}

thread_local! {
    /// The source of the future that this thread is making: the interpreter calls its class without.
    static BEING_MADE: Cell<Option<Source>> = const { Cell::new(None) };
}

/// What the stdlib's future has in its attributes, once somebody has asked for it.
struct Attributes {
    condition: Py<PyAny>,
    waiters: Py<PyList>,
    callbacks: Py<PyList>,
}

/// The lazy half of `ungil.Future`.
#[pyclass(subclass, frozen, module = "ungil._core")]
pub struct LazyFuture {
    /// Nothing, if Python code made it.
    source: Option<Source>,
    settled: OnceLock<Settled>,
    attributes: OnceLock<Attributes>,
    /// The stdlib's waiters know that it is over.
    is_announced: AtomicBool,
    /// Somebody cancels it, and if that succeeds, announces it: callbacks are called in there.
    is_canceller_announcing: AtomicBool,
}

#[pymethods]
impl LazyFuture {
    #[new]
    fn new() -> LazyFuture {
        LazyFuture {
            source: BEING_MADE.take(),
            settled: OnceLock::new(),
            attributes: OnceLock::new(),
            is_announced: AtomicBool::new(false),
            is_canceller_announcing: AtomicBool::new(false),
        }
    }

    /// Waits for the result.
    ///
    /// Args:
    ///     timeout: Seconds to wait at most; ``None`` waits for ever.
    ///
    /// Returns:
    ///     What the function returned; the same object each time.
    ///
    /// Raises:
    ///     CancelledError: The task was cancelled.
    ///     TimeoutError: It has not ended within the time. It goes on.
    ///     BaseException: Whatever the function raised.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match Self::await_end(slf, timeout)? {
            Settled::Returned(value) => Ok(value.clone_ref(py)),
            Settled::Raised(error) => Err(PyErr::from_value(error.bind(py).clone().into_any())),
            Settled::Cancelled => Err(cancelled_error(py)),
        }
    }

    /// Waits for the exception.
    ///
    /// Args:
    ///     timeout: Seconds to wait at most; ``None`` waits for ever.
    ///
    /// Returns:
    ///     What the function raised, or ``None`` if it returned.
    ///
    /// Raises:
    ///     CancelledError: The task was cancelled.
    ///     TimeoutError: It has not ended within the time. It goes on.
    #[pyo3(signature = (timeout=None))]
    fn exception(
        slf: &Bound<'_, Self>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Py<PyBaseException>>> {
        let py = slf.py();
        match Self::await_end(slf, timeout)? {
            Settled::Returned(_) => Ok(None),
            Settled::Raised(error) => Ok(Some(error.clone_ref(py))),
            Settled::Cancelled => Err(cancelled_error(py)),
        }
    }

    /// Whether the task has ended or was cancelled.
    fn done(&self) -> bool {
        self.look();
        self.is_over()
    }

    /// Whether a worker has begun the task and not ended it.
    fn running(&self) -> bool {
        self.look();
        !self.is_over() && self.is_running()
    }

    /// Whether the task was cancelled.
    fn cancelled(&self) -> bool {
        match self.source.as_ref() {
            Some(Source::Process { cell, .. }) => cell.is_cancelled(),
            Some(Source::Thread(progress)) => progress.state.load(Ordering::Acquire) == CANCELLED,
            _ => matches!(self.settled.get(), Some(Settled::Cancelled)),
        }
    }

    /// Cancels the task, if no worker has begun it.
    ///
    /// Returns:
    ///     Whether it is cancelled; it will then never run.
    fn cancel(slf: &Bound<'_, Self>) -> bool {
        let future = slf.get();
        // Before it is: the announcer would hear of it at once.
        future.is_canceller_announcing.store(true, Ordering::Release);
        let is_cancelled_now = match future.source.as_ref() {
            Some(Source::Process { pool, cell, .. }) => pool.cancel(cell),
            Some(Source::Thread(progress)) => {
                let is_cancelled = progress.cancel();
                if is_cancelled {
                    progress.notify();
                }
                is_cancelled
            }
            _ => false,
        };
        if is_cancelled_now && Self::announce_now(slf) {
            Self::call_back(slf);
        }
        is_cancelled_now || future.cancelled()
    }

    #[getter(_condition)]
    fn condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(Self::materialise(slf)?.condition.clone_ref(slf.py()))
    }

    #[getter(_waiters)]
    fn waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        Ok(Self::materialise(slf)?.waiters.clone_ref(slf.py()))
    }

    #[getter(_done_callbacks)]
    fn done_callbacks(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        Ok(Self::materialise(slf)?.callbacks.clone_ref(slf.py()))
    }

    #[getter(_state)]
    fn state(&self) -> &'static str {
        // The stdlib's functions expect that it changes under the condition, with the announcement.
        let is_over = if self.attributes.get().is_some() {
            self.is_announced.load(Ordering::Acquire)
        } else {
            self.look();
            self.is_over()
        };
        match (is_over, self.cancelled()) {
            (true, true) => "CANCELLED_AND_NOTIFIED",
            (true, false) => "FINISHED",
            (false, _) if self.is_running() || self.is_over() => "RUNNING",
            (false, _) => "PENDING",
        }
    }

    #[getter(_result)]
    fn result_attribute(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        match Self::settle(slf)? {
            Settled::Returned(value) => Some(value.clone_ref(slf.py())),
            _ => None,
        }
    }

    #[getter(_exception)]
    fn exception_attribute(slf: &Bound<'_, Self>) -> Option<Py<PyBaseException>> {
        match Self::settle(slf)? {
            Settled::Raised(error) => Some(error.clone_ref(slf.py())),
            _ => None,
        }
    }

    /// Shows the future to the garbage collector, because it may come to be part of a cycle.
    fn _show(slf: &Bound<'_, Self>) {
        track(slf);
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // What is set may refer to the future.
        track(slf);
        set_attribute(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        set_attribute(slf, name, std::ptr::null_mut())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.settled.get() {
            Some(Settled::Returned(value)) => visit.call(value)?,
            Some(Settled::Raised(error)) => visit.call(error)?,
            _ => {}
        }
        if let Some(attributes) = self.attributes.get() {
            visit.call(&attributes.condition)?;
            visit.call(&attributes.waiters)?;
            visit.call(&attributes.callbacks)?;
        }
        Ok(())
    }
}

impl LazyFuture {
    /// A future of that class for a task.
    pub fn of<'py>(class: &Bound<'py, PyType>, source: Source) -> PyResult<Bound<'py, Self>> {
        // Not by a call of the class: that would run the stdlib's `__init__`.
        let class_pointer = class.as_type_ptr();
        // SAFETY: the class is alive, and the interpreter attached.
        let new = unsafe { (*class_pointer).tp_new };
        let new = new.ok_or_else(|| PyRuntimeError::new_err("the future's class makes none"))?;
        let nothing = PyTuple::empty(class.py());
        BEING_MADE.set(Some(source));
        // SAFETY: called as the interpreter calls it: a class and a tuple of arguments.
        let made = unsafe { new(class_pointer, nothing.as_ptr(), std::ptr::null_mut()) };
        // Taken by then, unless there is no future.
        drop(BEING_MADE.take());
        // SAFETY: what it returns is owned, or null with an error set.
        let made = unsafe { Bound::from_owned_ptr_or_err(class.py(), made) }?;
        let made = made.cast_into::<Self>()?;
        untrack(&made);
        Ok(made)
    }

    /// A future of a task that has failed already.
    pub fn failed<'py>(class: &Bound<'py, PyType>, error: PyErr) -> PyResult<Bound<'py, Self>> {
        let future = Self::of(class, Source::Nowhere)?;
        let _ = future.get().settled.set(Settled::Raised(error.into_value(class.py())));
        track(&future);
        Ok(future)
    }

    /// What this is the future of.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Whether somebody has asked for the stdlib's attributes.
    pub fn is_materialised(&self) -> bool {
        self.attributes.get().is_some()
    }

    /// Ends a thread's task, and tells whoever waits.
    pub fn end(slf: &Bound<'_, Self>, settled: Settled) {
        let future = slf.get();
        track_if_refers(slf, &settled);
        let _ = future.settled.set(settled);
        // Before those who wait for the result are woken: they find the attributes in keeping.
        let is_announced_now = Self::announce(slf);
        if let Some(Source::Thread(progress)) = future.source.as_ref() {
            progress.end();
        }
        // Somebody may have materialised it in between.
        if is_announced_now || Self::announce(slf) {
            Self::call_back(slf);
        }
    }

    fn is_over(&self) -> bool {
        match self.source.as_ref() {
            Some(Source::Process { cell, .. }) => cell.is_over(),
            Some(Source::Thread(progress)) => progress.is_over(),
            _ => self.settled.get().is_some(),
        }
    }

    fn is_running(&self) -> bool {
        match self.source.as_ref() {
            Some(Source::Process { pool, cell, .. }) => pool.is_running(cell),
            Some(Source::Thread(progress)) => progress.state.load(Ordering::Acquire) == RUNNING,
            _ => false,
        }
    }

    /// Takes in what has arrived, if this is not known to be over.
    fn look(&self) {
        if let Some(Source::Process { pool, cell, .. }) = self.source.as_ref()
            && !cell.is_over()
        {
            pool.poll();
        }
    }

    fn await_end<'a>(slf: &'a Bound<'_, Self>, timeout: Option<f64>) -> PyResult<&'a Settled> {
        let future = slf.get();
        if let Some(settled) = future.settled.get() {
            return Ok(settled);
        }
        future.look();
        if !future.is_over() {
            let deadline = timeout.and_then(deadline_after);
            let mut interrupt = Interrupt::default();
            let waited = slf.py().detach(|| match future.source.as_ref() {
                Some(Source::Process { pool, cell, .. }) => {
                    pool.wait(cell, deadline, &mut || interrupt.is_raised())
                }
                Some(Source::Thread(progress)) => progress.wait(deadline, &mut interrupt),
                _ => Waited::Foreign,
            });
            match waited {
                Waited::Done => {}
                Waited::TimedOut => return Err(PyTimeoutError::new_err(())),
                Waited::Interrupted => {
                    return Err(interrupt.into_error().unwrap_or_else(foreign_error));
                }
                Waited::Foreign => return Err(foreign_error()),
            }
        }
        let settled = Self::settle(slf).ok_or_else(foreign_error)?;
        if matches!(future.source.as_ref(), Some(Source::Process { .. })) && Self::announce(slf) {
            // Whoever has the result finds the stdlib's attributes in keeping with it.
            announcer().call_back(slf.clone().unbind());
        }
        Ok(settled)
    }

    /// The outcome as Python objects, if the task is over.
    fn settle<'a>(slf: &'a Bound<'_, Self>) -> Option<&'a Settled> {
        let future = slf.get();
        if !future.is_over() {
            return None;
        }
        match future.source.as_ref() {
            Some(Source::Process { cell, name, .. }) => {
                // Decoding runs Python code, which may let another thread in here.
                let decode = || crate::processes::settle(slf.py(), cell, name);
                let settled = future.settled.get_or_init_py_attached(slf.py(), decode);
                track_if_refers(slf, settled);
                Some(settled)
            }
            Some(Source::Thread(progress)) => {
                if progress.state.load(Ordering::Acquire) == CANCELLED {
                    let _ = future.settled.set(Settled::Cancelled);
                }
                future.settled.get()
            }
            _ => future.settled.get(),
        }
    }

    fn materialise<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Attributes> {
        let future = slf.get();
        if let Some(attributes) = future.attributes.get() {
            return Ok(attributes);
        }
        let py = slf.py();
        static CONDITION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let made = Attributes {
            condition: call(
                CONDITION.import(py, "threading", "Condition")?,
                &PyTuple::empty(py),
                None,
            )?
            .unbind(),
            waiters: PyList::empty(py).unbind(),
            callbacks: PyList::empty(py).unbind(),
        };
        track(slf);
        if future.attributes.set(made).is_ok() {
            if let Some(Source::Process { pool, cell, .. }) = future.source.as_ref() {
                announcer().start(py)?;
                let announced = slf.clone().unbind();
                let subscriber = Box::new(move || announcer().announce(announced));
                if !pool.subscribe(cell, subscriber) {
                    future.is_announced.store(true, Ordering::Release);
                }
            } else if future.is_over() {
                future.is_announced.store(true, Ordering::Release);
            }
        }
        future.attributes.get().ok_or_else(foreign_error)
    }

    /// Tells the stdlib's waiters that it is over.
    ///
    /// # Returns
    /// Whether this call did; the callbacks are then to be called.
    pub fn announce(slf: &Bound<'_, Self>) -> bool {
        if !slf.get().is_materialised() {
            return false;
        }
        let future = slf.get();
        let is_left_to_canceller =
            future.is_canceller_announcing.load(Ordering::Acquire) && future.cancelled();
        if is_left_to_canceller || future.is_announced.load(Ordering::Acquire) {
            return false;
        }
        Self::announce_now(slf)
    }

    fn announce_now(slf: &Bound<'_, Self>) -> bool {
        let Some(attributes) = slf.get().attributes.get() else { return false };
        let py = slf.py();
        let settled = slf.get().settled.get().or_else(|| Self::settle(slf));
        let method = match settled {
            Some(Settled::Cancelled) => "add_cancelled",
            Some(Settled::Raised(_)) => "add_exception",
            _ => "add_result",
        };
        let condition = attributes.condition.bind(py);
        let tell = || -> PyResult<bool> {
            call_method(condition, "acquire", ())?;
            let is_first = !slf.get().is_announced.swap(true, Ordering::AcqRel);
            let told = is_first.then(|| -> PyResult<()> {
                for waiter in attributes.waiters.bind(py).iter() {
                    call_method(&waiter, method, (slf,))?;
                }
                call_method(condition, "notify_all", ()).map(drop)
            });
            call_method(condition, "release", ())?;
            told.transpose()?;
            Ok(is_first)
        };
        match tell() {
            Ok(is_first) => is_first,
            Err(error) => {
                // Somebody's waiter failed. The callbacks are still owed.
                error.write_unraisable(py, Some(slf.as_any()));
                true
            }
        }
    }

    /// Calls the callbacks. What they raise is logged, as the stdlib does, and ends nothing.
    pub fn call_back(slf: &Bound<'_, Self>) {
        let Some(attributes) = slf.get().attributes.get() else { return };
        let py = slf.py();
        let callbacks: Vec<_> = attributes.callbacks.bind(py).iter().collect();
        for callback in callbacks {
            let called = (slf,).into_pyobject(py).and_then(|args| call(&callback, &args, None));
            if let Err(error) = called {
                let logged = crate::call::import(py, "ungil._futures").and_then(|module| {
                    module.call_method1("log_callback_error", (slf, error.value(py)))
                });
                if let Err(error) = logged {
                    error.write_unraisable(py, Some(slf.as_any()));
                }
            }
        }
    }
}

/// Takes a new future out of the garbage collector's sight.
///
/// It refers to no Python object yet, so no cycle can lead through it; and with thousands of futures
/// in a list, looking at each of them again and again was a seventh of what submitting costs.
fn untrack(future: &Bound<'_, LazyFuture>) {
    // Without the GIL the collector keeps no list, and another thread might track it meanwhile.
    if cfg!(not(Py_GIL_DISABLED)) {
        // SAFETY: the object is alive, and of a type that the collector knows.
        unsafe { ffi::PyObject_GC_UnTrack(future.as_ptr().cast()) };
    }
}

/// Shows a future to the garbage collector, before it refers to anything that may refer back.
fn track(future: &Bound<'_, LazyFuture>) {
    // SAFETY: the object is alive, and of a type that the collector knows.
    let is_tracked = unsafe { ffi::PyObject_GC_IsTracked(future.as_ptr()) } != 0;
    if !is_tracked {
        // SAFETY: as above; it is not tracked, and no other thread can have come in between.
        unsafe { ffi::PyObject_GC_Track(future.as_ptr().cast()) };
    }
}

fn track_if_refers(future: &Bound<'_, LazyFuture>, settled: &Settled) {
    let refers = match settled {
        Settled::Returned(value) => {
            // SAFETY: the value is alive.
            let is_seen = unsafe { ffi::PyObject_IS_GC(value.as_ptr()) };
            is_seen != 0
        }
        Settled::Raised(_) => true,
        Settled::Cancelled => false,
    };
    if refers {
        track(future);
    }
}

fn set_attribute(
    future: &Bound<'_, LazyFuture>,
    name: &Bound<'_, PyString>,
    value: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: the objects are alive; without a value the attribute is deleted.
    let code = unsafe { ffi::PyObject_GenericSetAttr(future.as_ptr(), name.as_ptr(), value) };
    if code == 0 { Ok(()) } else { Err(PyErr::fetch(future.py())) }
}

/// The moment so many seconds from now; `None` if it is too far to be reckoned.
pub fn deadline_after(seconds: f64) -> Option<Instant> {
    let seconds = if seconds > 0.0 { seconds } else { 0.0 };
    Instant::now().checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

pub fn cancelled_error(py: Python<'_>) -> PyErr {
    static CANCELLED_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CANCELLED_ERROR
        .import(py, "concurrent.futures", "CancelledError")
        .and_then(|class| class.call0())
        .map_or_else(|error| error, PyErr::from_value)
}

fn foreign_error() -> PyErr {
    PyRuntimeError::new_err(
        "this future belongs to the process from which this one was forked, and its task ends there; \
         make an executor in this process and submit the task to it",
    )
}
