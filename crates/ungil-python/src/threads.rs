//! `ungil.ThreadPoolExecutor`: a queue of calls, and the threads that take from it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use ungil_pool::{Origin, Waiter};

use crate::call;
use crate::future::{LazyFuture, Progress, Settled, Source};
use crate::worker::run_coroutine;

/// The interpreter ends: no executor takes calls, not even one that has never had any.
static IS_EXITING: AtomicBool = AtomicBool::new(false);

/// Lets no thread pool take another call.
#[pyfunction]
pub fn take_no_calls() {
    IS_EXITING.store(true, Ordering::Release);
}

/// One call that waits.
struct Call {
    future: Py<LazyFuture>,
    function: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
}

/// What the executor and its threads share.
#[pyclass(frozen, module = "ungil._core")]
pub struct CallQueue {
    inner: Mutex<Inner>,
    origin: Origin,
}

#[derive(Default)]
struct Inner {
    calls: VecDeque<Call>,
    /// Threads that sleep, the last one to have gone to sleep first.
    sleepers: Vec<Arc<Waiter>>,
    /// Threads that were started and have not looked for a call yet, or look for one now.
    looking: usize,
    threads: usize,
    is_closed: bool,
    broken: Option<String>,
}

/// What became of a submitted call.
enum Added {
    Yes,
    /// A thread should be started for it.
    AndWantsThread,
}

impl CallQueue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_call(&self, py: Python<'_>, waiting: Call) {
        let Call { future, function, args, kwargs } = waiting;
        let kwargs_bound = kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        let called =
            call::call(function.bind(py), args.bind(py), kwargs_bound).and_then(run_coroutine);
        drop((function, args, kwargs));
        let settled = match called {
            Ok(value) => Settled::Returned(value.unbind()),
            Err(error) => Settled::Raised(error.into_value(py)),
        };
        let future = future.into_bound(py);
        // Whoever sees the result may submit the next call, and this thread is free for it, unless
        // there are callbacks to be called: they may take long.
        let is_free = !future.get().is_materialised();
        if is_free {
            self.lock().looking += 1;
        }
        LazyFuture::end(&future, settled);
        drop(future);
        if !is_free {
            self.lock().looking += 1;
        }
    }

    /// Takes the first call that was not cancelled.
    fn take(&self, py: Python<'_>) -> Option<Call> {
        loop {
            let call = self.lock().calls.pop_front()?;
            if let Some(Source::Thread(progress)) = call.future.bind(py).get().source()
                && progress.begin()
            {
                self.lock().looking -= 1;
                return Some(call);
            }
            // Dropped outside of the lock: it may be the last to hold its arguments.
            drop(call);
        }
    }
}

#[pymethods]
impl CallQueue {
    /// Takes calls and runs them, until the executor is closed and no call is left.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = Arc::new(Waiter::default());
        loop {
            if let Some(call) = self.take(py) {
                self.run_call(py, call);
                continue;
            }
            {
                let mut inner = self.lock();
                if !inner.calls.is_empty() {
                    continue;
                }
                if inner.is_closed {
                    inner.threads -= 1;
                    inner.looking -= 1;
                    return Ok(());
                }
                inner.looking -= 1;
                inner.sleepers.push(waiter.clone());
            }
            py.detach(|| waiter.wait(None));
        }
    }

    /// Fails every call that waits, because the initializer failed, and all that come.
    fn break_down(&self, py: Python<'_>, reason: String) -> PyResult<()> {
        let calls = {
            let mut inner = self.lock();
            inner.broken = Some(reason.clone());
            std::mem::take(&mut inner.calls)
        };
        for call in calls {
            let future = call.future.bind(py);
            if let Some(Source::Thread(progress)) = future.get().source()
                && progress.begin()
            {
                let error = crate::call::import(py, "ungil._remote")?.getattr("threads_broken")?;
                let error = PyErr::from_value(error.call1((reason.as_str(),))?);
                LazyFuture::end(future, Settled::Raised(error.into_value(py)));
            }
        }
        self.close(py, false);
        Ok(())
    }

    /// Takes no more calls, and cancels those that wait if told so.
    fn close(&self, py: Python<'_>, cancel_futures: bool) {
        if !self.origin.is_here() {
            return;
        }
        let (cancelled, sleepers) = {
            let mut inner = self.lock();
            inner.is_closed = true;
            inner.looking += inner.sleepers.len();
            let cancelled =
                if cancel_futures { std::mem::take(&mut inner.calls) } else { VecDeque::new() };
            (cancelled, std::mem::take(&mut inner.sleepers))
        };
        sleepers.iter().for_each(|sleeper| sleeper.notify());
        for call in cancelled {
            // The method of the class: it tells waiters and callbacks too.
            if let Err(error) = call.future.bind(py).call_method0("cancel") {
                error.write_unraisable(py, None);
            }
        }
    }

    /// Why the queue is broken, if it is.
    #[getter]
    fn broken(&self) -> Option<String> {
        self.lock().broken.clone()
    }

    /// Whether a thread runs calls, or will.
    fn has_threads(&self) -> bool {
        self.origin.is_here() && self.lock().threads > 0
    }

    /// Calls that wait.
    fn __len__(&self) -> usize {
        self.lock().calls.len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held is held by a thread that changes the queue: what it holds is alive.
        if let Ok(inner) = self.inner.try_lock() {
            for call in &inner.calls {
                visit.call(&call.future)?;
                visit.call(&call.function)?;
                visit.call(&call.args)?;
                if let Some(kwargs) = &call.kwargs {
                    visit.call(kwargs)?;
                }
            }
        }
        Ok(())
    }
}

/// The core of `ungil.ThreadPoolExecutor`.
#[pyclass(subclass, frozen, module = "ungil._core")]
pub struct ThreadPool {
    opened: OnceLock<Opened>,
}

struct Opened {
    queue: Py<CallQueue>,
    threads_max: usize,
    /// Starts a thread that runs the queue.
    start_thread: Py<PyAny>,
    future_class: Py<PyType>,
}

#[pymethods]
impl ThreadPool {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> ThreadPool {
        ThreadPool { opened: OnceLock::new() }
    }

    /// Makes the queue. No thread is started yet.
    #[pyo3(signature = (*, workers, start_thread, future_class))]
    fn _open(
        &self,
        py: Python<'_>,
        workers: usize,
        start_thread: Py<PyAny>,
        future_class: Py<PyType>,
    ) -> PyResult<Py<CallQueue>> {
        let queue = CallQueue { inner: Mutex::default(), origin: Origin::here() };
        let queue = Py::new(py, queue)?;
        let opened =
            Opened { queue: queue.clone_ref(py), threads_max: workers, start_thread, future_class };
        self.opened
            .set(opened)
            .map_err(|_| PyRuntimeError::new_err("this executor is open already"))?;
        Ok(queue)
    }

    /// Runs ``fn(*args, **kwargs)`` in a thread of the executor.
    ///
    /// Args:
    ///     fn: What to call. A coroutine function is run to its end in the thread's event loop.
    ///     args: Its positional arguments.
    ///     kwargs: Its keyword arguments.
    ///
    /// Returns:
    ///     A future.
    ///
    /// Raises:
    ///     RuntimeError: The executor was shut down.
    ///     BrokenThreadPool: Its initializer failed.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        &self,
        py: Python<'py>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, LazyFuture>> {
        let opened = self.opened.get().ok_or_else(|| {
            PyRuntimeError::new_err("this executor was not initialised: call super().__init__()")
        })?;
        let queue = opened.queue.get();
        if !queue.origin.is_here() {
            return Err(PyErr::from_value(
                crate::call::import(py, "ungil._remote")?.getattr("foreign_executor")?.call0()?,
            ));
        }
        let source = Source::Thread(Progress::new());
        let future = LazyFuture::of(opened.future_class.bind(py), source)?;
        let waiting = Call {
            future: future.clone().unbind(),
            function: r#fn.clone().unbind(),
            args: args.clone().unbind(),
            kwargs: kwargs.map(|kwargs| kwargs.clone().unbind()),
        };
        let (added, sleeper) = {
            let mut inner = queue.lock();
            if let Some(reason) = inner.broken.clone() {
                drop(inner);
                let error = crate::call::import(py, "ungil._remote")?.getattr("threads_broken")?;
                return Err(PyErr::from_value(error.call1((reason,))?));
            }
            if inner.is_closed || IS_EXITING.load(Ordering::Acquire) {
                drop(inner);
                let error = crate::call::import(py, "ungil._remote")?.getattr("closed")?.call0()?;
                return Err(PyErr::from_value(error));
            }
            inner.calls.push_back(waiting);
            if inner.looking >= inner.calls.len() {
                (Added::Yes, None)
            } else if let Some(sleeper) = inner.sleepers.pop() {
                inner.looking += 1;
                (Added::Yes, Some(sleeper))
            } else if inner.threads < opened.threads_max {
                inner.threads += 1;
                inner.looking += 1;
                (Added::AndWantsThread, None)
            } else {
                (Added::Yes, None)
            }
        };
        if let Some(sleeper) = sleeper {
            sleeper.notify();
        }
        if let Added::AndWantsThread = added
            && let Err(error) = call::call(opened.start_thread.bind(py), &PyTuple::empty(py), None)
        {
            let mut inner = queue.lock();
            inner.threads -= 1;
            inner.looking -= 1;
            let is_alone = inner.threads == 0;
            drop(inner);
            if is_alone {
                // Nobody will run it.
                return Err(error);
            }
        }
        Ok(future)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(opened) = self.opened.get() {
            visit.call(&opened.queue)?;
            visit.call(&opened.start_thread)?;
        }
        Ok(())
    }
}
