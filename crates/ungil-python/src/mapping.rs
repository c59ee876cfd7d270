//! `map` of process pools: items go to workers in chunks, results come back in order.
//!
//! Each item counts for itself: what it raises, or does to its worker, costs no other. Items are
//! encoded in batches as they are taken; how many of a batch a worker gets at once is for the pool to
//! measure. An item that is long, or cannot be sent, is a task of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Instant;

use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyRange, PyTuple, PyWeakrefReference};
use ungil_pool::{
    DESCRIPTION_BYTES, Function, Growing, ITEMS_MAX, Inline, Pace, Pool, Results, Run, RunOutcome,
    Waited,
};

use crate::codec;
use crate::future::{LazyFuture, Settled, deadline_after};
use crate::interrupt::Interrupt;
use crate::item::{self, Answer, Arguments};
use crate::processes::{self, Opened, PreparedFunction, ProcessPool};

/// A batch has room for so many bytes of items; the first ones of a call of `map` for less, for it
/// may have few.
const BATCH_BYTES: usize = 256 << 10;
const FIRST_BATCH_BYTES: usize = 4 << 10;
/// Where taking an item takes no time, so many are handed over together, or so many bytes.
const GROUP_ITEMS: usize = 256;
const GROUP_BYTES: usize = 8 << 10;

/// The results of a call of ``map``, in the order of the items.
#[pyclass(frozen, module = "ungil._core")]
pub struct MapResults {
    state: Mutex<State>,
}

struct State {
    pool: Arc<Pool>,
    function: Py<PreparedFunction>,
    deadline: Option<Instant>,
    parts: VecDeque<Part>,
    reading: Option<Reading>,
    lazy: Option<Lazy>,
    pace: Arc<Pace>,
    is_started: bool,
}

/// Items that follow one another, and where their results come.
enum Part {
    Batch {
        results: Arc<Results>,
        next: u32,
        count: u32,
    },
    /// An item that is a task of its own.
    Single(Py<LazyFuture>),
}

/// Results that have arrived, on their way out.
struct Reading {
    bytes: Vec<u8>,
    position: usize,
    left: u32,
}

/// Items that have not been taken.
struct Lazy {
    executor: Py<PyWeakrefReference>,
    items: Py<PyAny>,
    is_many: bool,
    is_at_hand: bool,
    /// How many may be taken of which no result was yielded.
    ahead: usize,
    /// How many are.
    taken: usize,
}

/// Items on their way in.
struct Feed<'a, 'py> {
    opened: &'a Opened,
    state: &'a mut State,
    function: &'a Bound<'py, PreparedFunction>,
    /// The function, with what the items need that were added last.
    written: Arc<Function>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    batch: Option<Growing>,
    next_batch_bytes: usize,
}

/// The iterable of a call of `map`.
pub struct Iterable<'py> {
    /// The only iterable, or one of tuples of arguments.
    pub items: Bound<'py, PyAny>,
    /// Whether items are tuples of arguments.
    pub is_many: bool,
    /// Whether the next item is always there, as in a list. Anything else may wait for the outcome
    /// of items that it has given out, so none of them is held back.
    pub is_at_hand: bool,
}

impl<'py> Feed<'_, 'py> {
    /// Takes items, and says how many: as many as there are, or so many at most.
    fn take(&mut self, iterable: &Iterable<'py>, most: usize) -> PyResult<usize> {
        let mut taken = 0;
        let mut iterator = iterable.items.try_iter()?;
        let group = if iterable.is_at_hand { GROUP_ITEMS } else { 1 };
        while taken < most {
            let next = match iterator.next() {
                None => break,
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    // What was taken before runs, as in the stdlib.
                    self.hand_over()?;
                    return Err(error);
                }
            };
            taken += 1;
            self.add(&next, iterable.is_many)?;
            if self.ends.len() >= group || self.bytes.len() >= GROUP_BYTES {
                self.hand_over()?;
            }
        }
        self.hand_over()?;
        Ok(taken)
    }

    fn add(&mut self, item: &Bound<'py, PyAny>, is_many: bool) -> PyResult<()> {
        let many = if is_many { Some(item.cast::<PyTuple>()?) } else { None };
        let arguments = many.map_or(Arguments::One(item), Arguments::Many);
        if !item::push_plain(&mut self.bytes, arguments) {
            let args = match many {
                Some(many) => many.clone(),
                None => PyTuple::new(item.py(), [item])?,
            };
            let function = self.function.get();
            let (encoded, written) = self.opened.encode_call(function, &args, None);
            if let Some(written) = written
                && !Arc::ptr_eq(&written, &self.written)
            {
                // From here on items need more than those before.
                self.hand_over()?;
                self.batch = None;
                self.written = written;
            }
            let is_short = encoded.as_ref().is_ok_and(|it| item::push_encoded(&mut self.bytes, it));
            if !is_short {
                self.hand_over()?;
                self.batch = None;
                let (written, name) = (self.written.clone(), &function.name);
                let future = self.opened.submit_encoded(item.py(), written, name, encoded)?;
                self.state.parts.push_back(Part::Single(future.unbind()));
                return Ok(());
            }
        }
        self.ends.push(self.bytes.len() as u32);
        Ok(())
    }

    /// Hands what was added over to the pool.
    fn hand_over(&mut self) -> PyResult<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let has_room =
            self.batch.as_ref().is_some_and(|it| it.has_room(self.ends.len(), self.bytes.len()));
        let batch = match &mut self.batch {
            Some(batch) if has_room => batch,
            place => {
                let bytes = self.next_batch_bytes.max(self.bytes.len()) as u64;
                self.next_batch_bytes = (4 * self.next_batch_bytes).min(BATCH_BYTES);
                let written = self.written.clone();
                let begun = self.opened.pool.begin_batch(written, self.state.pace.clone(), bytes);
                let begun = begun.map_err(processes::no_memory)?;
                let results = begun.results().clone();
                self.state.parts.push_back(Part::Batch { results, next: 0, count: 0 });
                place.insert(begun)
            }
        };
        self.opened.extend_batch(self.function.py(), batch, &self.bytes, &self.ends)?;
        if let Some(Part::Batch { count, .. }) = self.state.parts.back_mut() {
            *count = batch.count();
        }
        self.bytes.clear();
        self.ends.clear();
        Ok(())
    }

    /// Submits the numbers of a range, which are never written down; `false` if one of them
    /// is too large.
    fn send_range(&mut self, range: &Bound<'py, PyRange>) -> PyResult<bool> {
        let number = |name: &str| range.getattr(name)?.extract::<i64>();
        let (Ok(mut first), Ok(_), Ok(step), Ok(mut left)) =
            (number("start"), number("stop"), number("step"), range.len())
        else {
            return Ok(false);
        };
        while left > 0 {
            let count = left.min(ITEMS_MAX as usize) as u32;
            let description = item::describe_range(first, step);
            const { assert!(DESCRIPTION_BYTES >= 17) };
            let description = Inline::new(&description).unwrap_or_else(Inline::empty);
            let (function, pace) = (self.function.get(), self.state.pace.clone());
            let results = self.opened.submit_described(
                self.function.py(),
                function,
                pace,
                description,
                count,
            )?;
            self.state.parts.push_back(Part::Batch { results, next: 0, count });
            left -= count as usize;
            first = first.wrapping_add(step.wrapping_mul(i64::from(count)));
        }
        Ok(true)
    }
}

impl MapResults {
    /// Takes items, all of them or so many, and submits them.
    pub fn begin<'py>(
        executor: &Bound<'py, ProcessPool>,
        function: Py<PreparedFunction>,
        iterable: Iterable<'py>,
        timeout: Option<f64>,
        ahead: Option<usize>,
    ) -> PyResult<Bound<'py, MapResults>> {
        let py = executor.py();
        let opened = executor.get().opened()?;
        opened.check_origin(py)?;
        let mut state = State {
            pool: opened.pool.clone(),
            function: function.clone_ref(py),
            deadline: timeout.and_then(deadline_after),
            parts: VecDeque::new(),
            reading: None,
            lazy: None,
            pace: Arc::new(Pace::default()),
            is_started: false,
        };
        match ahead {
            None => {
                let mut feed = Feed::new(opened, &mut state, function.bind(py));
                let is_range = match iterable.items.cast_exact::<PyRange>() {
                    Ok(range) => feed.send_range(range)?,
                    Err(_) => false,
                };
                if !is_range {
                    feed.take(&iterable, usize::MAX)?;
                }
            }
            Some(ahead) => {
                let items = iterable.items.try_iter()?.into_any();
                let iterable = Iterable { items, ..iterable };
                let mut feed = Feed::new(opened, &mut state, function.bind(py));
                let taken = feed.take(&iterable, ahead)?;
                state.lazy = Some(Lazy {
                    executor: PyWeakrefReference::new(executor.as_any())?.unbind(),
                    items: iterable.items.unbind(),
                    is_many: iterable.is_many,
                    is_at_hand: iterable.is_at_hand,
                    ahead,
                    taken,
                });
            }
        }
        Bound::new(py, MapResults { state: Mutex::new(state) })
    }
}

impl<'a, 'py> Feed<'a, 'py> {
    fn new(
        opened: &'a Opened,
        state: &'a mut State,
        function: &'a Bound<'py, PreparedFunction>,
    ) -> Feed<'a, 'py> {
        let (bytes, ends) = (Vec::new(), Vec::new());
        let next_batch_bytes = FIRST_BATCH_BYTES;
        let written = function.get().written.clone();
        Feed { opened, state, function, written, bytes, ends, batch: None, next_batch_bytes }
    }
}

#[pymethods]
impl MapResults {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyValueError::new_err(
                    "the results of map are being waited for already",
                ));
            }
        };
        let next = state.next(py);
        if next.is_err() {
            state.cancel(py);
        }
        next
    }

    /// Cancels what has not begun, and ends.
    fn close(&self, py: Python<'_>) {
        if let Ok(mut state) = self.state.try_lock() {
            if state.is_started {
                state.cancel(py);
            }
            state.forget();
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held is held by a thread that is in here: what it holds is alive.
        if let Ok(state) = self.state.try_lock() {
            if let Some(lazy) = &state.lazy {
                visit.call(&lazy.items)?;
            }
            for part in &state.parts {
                if let Part::Single(future) = part {
                    visit.call(future)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for MapResults {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let state = state.unwrap_or_else(|poisoned| poisoned.into_inner());
        // As with a generator: one that was never asked for anything has nothing to clean up.
        if state.is_started {
            Python::attach(|py| state.cancel(py));
        }
    }
}

impl State {
    #[inline]
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(reading) = &mut self.reading
            && reading.left > 0
            && self.lazy.is_none()
        {
            return reading.next(py, self.function.get()).map(Some);
        }
        self.look_for_next(py)
    }

    #[inline(never)]
    fn look_for_next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.is_started = true;
        if self.lazy.is_some() {
            self.take_more(py)?;
        }
        loop {
            if let Some(reading) = &mut self.reading {
                if reading.left > 0 {
                    return reading.next(py, self.function.get()).map(Some);
                }
                self.reading = None;
            }
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            match part {
                Part::Batch { next, count, .. } if next == count => {
                    self.parts.pop_front();
                }
                Part::Batch { results, next, .. } => match results.take(*next) {
                    Some(run) => {
                        *next += run.count;
                        let name = &self.function.get().name;
                        match arrived(py, run, name)? {
                            Arrived::Reading(reading) => self.reading = Some(reading),
                            Arrived::One(value) => return Ok(Some(value)),
                        }
                    }
                    None => {
                        let (results, next) = (results.clone(), *next);
                        self.wait(py, &results, next)?;
                    }
                },
                Part::Single(future) => {
                    let future = future.clone_ref(py);
                    let left = self.deadline.map(|deadline| {
                        deadline.saturating_duration_since(Instant::now()).as_secs_f64()
                    });
                    let value = future.bind(py).call_method1("result", (left,));
                    if value.is_ok() {
                        self.parts.pop_front();
                    }
                    return value.map(Some);
                }
            }
        }
    }

    fn wait(&self, py: Python<'_>, results: &Arc<Results>, item: u32) -> PyResult<()> {
        let mut interrupt = Interrupt::default();
        let waited = py.detach(|| {
            let is_interrupted = &mut || interrupt.is_raised();
            self.pool.wait_for_item(results, item, self.deadline, is_interrupted)
        });
        match waited {
            Waited::Done => Ok(()),
            Waited::TimedOut => Err(PyTimeoutError::new_err(())),
            Waited::Interrupted => Err(interrupt.into_error().unwrap_or_else(foreign)),
            Waited::Foreign => Err(foreign()),
        }
    }

    /// Takes items for those whose results were yielded, some at a time where there are many.
    fn take_more(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some(mut lazy) = self.lazy.take() else { return Ok(()) };
        // As in the stdlib: one more, for the one that is about to be yielded.
        let free = (lazy.ahead + 1).saturating_sub(lazy.taken);
        if free < (lazy.ahead / 4).max(1) {
            lazy.taken -= 1;
            self.lazy = Some(lazy);
            return Ok(());
        }
        // An executor that is dropped takes no further items.
        let executor = lazy.executor.bind(py).call0()?;
        let Ok(executor) = executor.cast::<ProcessPool>() else { return Ok(()) };
        let function = self.function.clone_ref(py);
        let mut feed = Feed::new(executor.get().opened()?, self, function.bind(py));
        let iterable = Iterable {
            items: lazy.items.bind(py).clone(),
            is_many: lazy.is_many,
            is_at_hand: lazy.is_at_hand,
        };
        let taken = feed.take(&iterable, free)?;
        if taken < free {
            return Ok(());
        }
        lazy.taken = lazy.taken + taken - 1;
        self.lazy = Some(lazy);
        Ok(())
    }

    /// Cancels what has not begun.
    fn cancel(&mut self, py: Python<'_>) {
        for part in &self.parts {
            match part {
                Part::Batch { results, next, count } if next < count => {
                    self.pool.cancel_items(results);
                }
                Part::Batch { .. } => {}
                Part::Single(future) => {
                    // The method of the class: it tells waiters and callbacks too.
                    if let Err(error) = future.bind(py).call_method0("cancel") {
                        error.write_unraisable(py, None);
                    }
                }
            }
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.parts.clear();
        self.reading = None;
        self.lazy = None;
    }
}

impl Reading {
    fn next<'py>(
        &mut self,
        py: Python<'py>,
        function: &PreparedFunction,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.left -= 1;
        let mut rest = &self.bytes[self.position..];
        let before = rest.len();
        if let Some(number) = codec::take_number(py, &mut rest) {
            self.position += before - rest.len();
            return Ok(number);
        }
        let answer = item::take_result(py, &mut rest);
        self.position += before - rest.len();
        let settled = match answer {
            Ok(Answer::Returned(value)) => return Ok(value),
            Ok(Answer::Raised(value)) => {
                processes::raised(py, "rebuild_exception", (value, &*function.name))
            }
            Err(error) => not_rebuilt(py, error, &function.name),
        };
        Err(error_of(py, settled))
    }
}

fn not_rebuilt(py: Python<'_>, error: PyErr, name: &str) -> Settled {
    if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
        return Settled::Raised(error.into_value(py));
    }
    processes::raised(py, "result_not_rebuilt", (error.into_value(py), name))
}

enum Arrived<'py> {
    Reading(Reading),
    One(Bound<'py, PyAny>),
}

/// What has arrived, ready to be yielded.
fn arrived<'py>(py: Python<'py>, run: Run, name: &str) -> PyResult<Arrived<'py>> {
    match run.outcome {
        RunOutcome::Values { received, skip } => {
            let bytes = received.into_bytes();
            let bytes = bytes.ok_or_else(codec::damaged);
            let skipped = bytes.and_then(|bytes| {
                let mut rest = &bytes[..];
                for _ in 0..skip {
                    item::skip_result(&mut rest)?;
                }
                let position = bytes.len() - rest.len();
                Ok(Reading { position, bytes, left: run.count })
            });
            skipped
                .map(Arrived::Reading)
                .map_err(|error| error_of(py, not_rebuilt(py, error, name)))
        }
        RunOutcome::Ended(outcome) => match processes::settled(py, outcome, name) {
            Settled::Returned(value) => Ok(Arrived::One(value.into_bound(py))),
            settled => Err(error_of(py, settled)),
        },
        RunOutcome::Cancelled => Err(error_of(py, Settled::Cancelled)),
    }
}

fn error_of(py: Python<'_>, settled: Settled) -> PyErr {
    match settled {
        Settled::Raised(error) => PyErr::from_value(error.into_bound(py).into_any()),
        Settled::Cancelled | Settled::Returned(_) => crate::future::cancelled_error(py),
    }
}

fn foreign() -> PyErr {
    PyRuntimeError::new_err(
        "these results belong to the process from which this one was forked, and come there; make an \
         executor in this process and map with it",
    )
}
