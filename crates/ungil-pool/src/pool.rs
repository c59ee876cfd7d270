//! A pool: what its users can ask of it, and how they wait.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use ungil_shm::{Arena, Bell, ParentEnd, Segment, View, Wake, reserve_bytes};

use crate::cell::Cell;
use crate::fork::Origin;
use crate::items::{Growing, ITEMS_MAX, Items, Results, Source};
use crate::message::{CALLER, FUNCTION_USED_ONCE};
use crate::pace::Pace;
use crate::payload::{self, Inline, Payload};
use crate::pump::{Cancel, Core, Member, Phase};
use crate::reference::{self, Part};
use crate::shared::{Holds, SharedArena};
use crate::spin::Spin;
use crate::supervisor;
use crate::task::{Function, StoredBlock, Task};
use crate::waiter::Waiter;
use crate::zygote::Connection;

/// What a pool is made for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Workers at most.
    pub workers_max: u32,
    /// Threads of a worker that run tasks.
    pub threads_per_worker: u32,
    /// Whether the first task starts all workers, and not just one for each task.
    pub starts_all: bool,
    /// After so many tasks a worker is replaced.
    pub tasks_per_worker_max: Option<u64>,
    /// CPUs that this process may use. With one it makes no sense to spin.
    pub cpus: u32,
}

/// Makes a line to a zygote that starts this pool's workers; called again when it has been lost.
pub type Connect = Box<dyn Fn() -> io::Result<Connection> + Send + Sync>;

/// What a worker is started with: how it looks like its parent, as bytes the pool does not read, and
/// descriptors that it inherits.
#[derive(Debug, Clone)]
pub struct Likeness {
    /// What the worker reads first.
    pub bytes: Arc<[u8]>,
    /// Descriptors for it.
    pub descriptors: Arc<[OwnedFd]>,
}

/// Why a pool does not take a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It was closed.
    Closed,
    /// It is broken, for this reason.
    Broken(Arc<str>),
    /// It belongs to the process from which this one was forked.
    Foreign,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for has come.
    Done,
    /// The deadline passed.
    TimedOut,
    /// The caller's check said so.
    Interrupted,
    /// It never comes: the pool belongs to the process from which this one was forked.
    Foreign,
}

/// One worker, for those who look.
#[derive(Debug, Clone)]
pub struct WorkerProcess {
    /// Its process number.
    pub pid: u32,
    /// Its pidfd.
    pub descriptor: Arc<OwnedFd>,
}

/// Something that callers wait for.
trait Awaited {
    /// Whether it has come.
    fn is_over(&self) -> bool;

    /// Adds a thread to wake when it comes; `false` if it has.
    fn add_waiter(&self, waiter: &Arc<Waiter>) -> bool;

    fn remove_waiter(&self, waiter: &Arc<Waiter>);

    /// Lets the workers know that a caller is about to sleep until it comes.
    fn watch(&self, _core: &mut Core) {}
}

impl Awaited for Cell {
    fn is_over(&self) -> bool {
        Cell::is_over(self)
    }

    fn add_waiter(&self, waiter: &Arc<Waiter>) -> bool {
        Cell::add_waiter(self, waiter)
    }

    fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        Cell::remove_waiter(self, waiter);
    }
}

/// The outcome of one item of a batch.
struct Item<'a> {
    results: &'a Arc<Results>,
    item: u32,
}

impl Awaited for Item<'_> {
    fn is_over(&self) -> bool {
        self.results.has(self.item)
    }

    fn add_waiter(&self, waiter: &Arc<Waiter>) -> bool {
        self.results.add_waiter(self.item, waiter)
    }

    fn remove_waiter(&self, waiter: &Arc<Waiter>) {
        self.results.remove_waiter(waiter);
    }

    fn watch(&self, core: &mut Core) {
        core.watch(self.results, self.item);
    }
}

/// A pool of worker processes. Dropping it closes it; what was submitted is still run.
pub struct Pool {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    core: Mutex<Core>,
    pub(crate) settings: Settings,
    pub(crate) origin: Origin,
    bell: Bell,
    arena: Arc<Mutex<Arena>>,
    /// The memory of that arena.
    segment: Arc<Segment>,
    shared: Arc<SharedArena>,
    holds: Arc<Holds>,
    /// Written by workers, read by the supervisor.
    pub(crate) event: OwnedFd,
    /// Whether some caller waits and pumps.
    is_pumped: AtomicBool,
    /// Callers that wait while another one pumps.
    callers: Mutex<VecDeque<Arc<Waiter>>>,
    spin: Spin,
    functions: AtomicU64,
    workers_made: AtomicU64,
    likeness: Mutex<Option<Likeness>>,
    pub(crate) connect: Connect,
    pub(crate) connection: Mutex<Option<Arc<Connection>>>,
    is_supervised: AtomicBool,
}

/// The pool's state, locked. Who has subscribed to what ended meanwhile is called when the lock has
/// been given back: a subscriber may come back to the pool, or drop it.
pub(crate) struct Locked<'a> {
    inner: &'a Inner,
    core: Option<MutexGuard<'a, Core>>,
}

impl Deref for Locked<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        self.core.as_ref().expect("the lock is given back last")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        self.core.as_mut().expect("the lock is given back last")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        let wants_check = std::mem::take(&mut self.wants_check);
        self.core = None;
        if wants_check {
            self.inner.wake_supervisor();
        }
        for call in calls {
            call();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("settings", &self.inner.settings).finish()
    }
}

impl Pool {
    /// Makes a pool. No process is started before one is asked for.
    ///
    /// # Errors
    /// The system has no memory or descriptors left.
    pub fn new(settings: Settings, connect: Connect) -> io::Result<Pool> {
        let arena = Arena::create_pool(reserve_bytes())?;
        let bell = arena.pool_bell()?;
        let segment = arena.segment().clone();
        let arena = Arc::new(Mutex::new(arena));
        let shared = SharedArena::of_this_process()?;
        let holds = Arc::new(Holds::default());
        let core = Core::new(settings, bell.clone(), arena.clone(), shared.clone(), holds.clone());
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Pool {
            inner: Arc::new(Inner {
                core: Mutex::new(core),
                settings,
                origin: Origin::here(),
                bell,
                arena,
                segment,
                shared,
                holds,
                event,
                is_pumped: AtomicBool::new(false),
                callers: Mutex::new(VecDeque::new()),
                spin: Spin::new(settings.cpus > 1),
                functions: AtomicU64::new(0),
                workers_made: AtomicU64::new(0),
                likeness: Mutex::new(None),
                connect,
                connection: Mutex::new(None),
                is_supervised: AtomicBool::new(false),
            }),
        })
    }

    /// Writes a function down, for tasks to name it. A function that will come again is kept by the
    /// workers that have read it.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn function(&self, definition: &[u8], will_come_again: bool) -> io::Result<Arc<Function>> {
        let inner = &self.inner;
        inner.check_origin()?;
        // Not a payload of one part: that might be stored inline, and a function is in no slot.
        let block = match payload::store(&inner.arena, &[definition, &[]])? {
            Payload::Block(block) => block,
            Payload::Inline(_) => return Err(io::Error::other("a function has no block")),
        };
        let number = inner.functions.fetch_add(1, Ordering::Relaxed) + 1;
        let number = if will_come_again { number } else { number | FUNCTION_USED_ONCE };
        Ok(Arc::new(Function::new(number, StoredBlock::of(&inner.arena, block))))
    }

    /// Stores what a task is called with.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn store(&self, parts: &[&[u8]]) -> io::Result<Payload> {
        self.inner.check_origin()?;
        payload::store(&self.inner.arena, parts)
    }

    /// Stores what a task is called with, some of which it may refer to.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn store_parts(&self, parts: &[Part<'_>]) -> io::Result<Payload> {
        self.inner.check_origin()?;
        reference::store(&self.inner.arena, &self.inner.holds, parts)
    }

    /// The program's arena of shared blocks, which this pool's workers map.
    pub fn shared(&self) -> &Arc<SharedArena> {
        &self.inner.shared
    }

    /// Takes a task.
    ///
    /// # Returns
    /// The place for its outcome, and how many workers should be [started](Pool::start) now.
    ///
    /// # Errors
    /// The pool takes no tasks.
    pub fn submit(&self, task: Task) -> Result<(Arc<Cell>, usize), Refusal> {
        let refusal = if !self.inner.origin.is_here() {
            return Err(Refusal::Foreign);
        } else {
            let mut core = self.inner.lock();
            match (&core.broken, core.phase) {
                (Some(reason), _) => Refusal::Broken(reason.clone()),
                (None, Phase::Open) => {
                    let cell = core.submit(task);
                    return Ok((cell, core.missing_workers(0)));
                }
                (None, _) => Refusal::Closed,
            }
        };
        self.inner.lock().discard(&task.payload);
        Err(refusal)
    }

    /// Begins a batch that has room for so many bytes of items.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn begin_batch(
        &self,
        function: Arc<Function>,
        pace: Arc<Pace>,
        bytes: u64,
    ) -> io::Result<Growing> {
        self.inner.check_origin()?;
        let block = StoredBlock::allocate(&self.inner.arena, bytes)?;
        let source = Source::Stored { block, ends: Mutex::default() };
        let items = Arc::new(Items::new(function, source, pace));
        Ok(Growing { items, results: Arc::default(), count: 0, key: 0, bytes: 0 })
    }

    /// Adds items to a batch, one call each. They lie one behind the other, and each ends there.
    ///
    /// # Returns
    /// How many workers should be [started](Pool::start) now.
    ///
    /// # Errors
    /// The pool takes no tasks. The batch must have [room](Growing::has_room) for them.
    pub fn extend_batch(
        &self,
        batch: &mut Growing,
        bytes: &[u8],
        ends: &[u32],
    ) -> Result<usize, Refusal> {
        let Source::Stored { block, ends: all } = &batch.items.source else { return Ok(0) };
        if !self.inner.origin.is_here() {
            return Err(Refusal::Foreign);
        }
        let start = block.block().offset + u64::from(batch.bytes);
        let is_written =
            batch.has_room(ends.len(), bytes.len()) && self.inner.segment.write(start, bytes);
        debug_assert!(is_written, "the batch has room for them");
        let mut core = self.inner.lock();
        match (&core.broken, core.phase) {
            (Some(reason), _) => return Err(Refusal::Broken(reason.clone())),
            (None, Phase::Open) => {}
            (None, _) => return Err(Refusal::Closed),
        }
        let shift = batch.bytes;
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(ends.iter().map(|end| end + shift));
        drop(all);
        batch.bytes += bytes.len() as u32;
        core.extend_items(batch, ends.len() as u32);
        Ok(core.missing_workers(0))
    }

    /// Takes items that follow from a description: one call for each of so many.
    ///
    /// # Returns
    /// The place for their outcomes, and how many workers should be [started](Pool::start) now.
    ///
    /// # Errors
    /// The pool takes no tasks.
    pub fn submit_described(
        &self,
        function: Arc<Function>,
        pace: Arc<Pace>,
        description: Inline,
        count: u32,
    ) -> Result<(Arc<Results>, usize), Refusal> {
        if !self.inner.origin.is_here() {
            return Err(Refusal::Foreign);
        }
        let items = Arc::new(Items::new(function, Source::Described(description), pace));
        let results = Arc::<Results>::default();
        let mut batch = Growing { items, results: results.clone(), count: 0, key: 0, bytes: 0 };
        let mut core = self.inner.lock();
        match (&core.broken, core.phase) {
            (Some(reason), _) => Err(Refusal::Broken(reason.clone())),
            (None, Phase::Open) => {
                core.extend_items(&mut batch, count.min(ITEMS_MAX));
                Ok((results, core.missing_workers(0)))
            }
            (None, _) => Err(Refusal::Closed),
        }
    }

    /// Waits until the outcome of an item of a batch is there, which nobody has taken yet.
    ///
    /// `is_interrupted` is asked whenever a signal arrives in this thread.
    pub fn wait_for_item(
        &self,
        results: &Arc<Results>,
        item: u32,
        deadline: Option<Instant>,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Waited {
        self.inner.wait(&Item { results, item }, deadline, is_interrupted)
    }

    /// Cancels the items of a batch that no worker has begun.
    pub fn cancel_items(&self, results: &Arc<Results>) {
        if self.inner.origin.is_here() {
            let mut core = self.inner.lock();
            core.cancel_items(results);
            core.settle();
        }
    }

    /// Whether tasks are taken.
    ///
    /// # Errors
    /// Why not.
    pub fn check_open(&self) -> Result<(), Refusal> {
        if !self.inner.origin.is_here() {
            return Err(Refusal::Foreign);
        }
        let core = self.inner.lock();
        match (&core.broken, core.phase) {
            (Some(reason), _) => Err(Refusal::Broken(reason.clone())),
            (None, Phase::Open) => Ok(()),
            (None, _) => Err(Refusal::Closed),
        }
    }

    /// Connects with the zygote, which may start it, so that it comes up while the first task is
    /// written down. Workers can be started without.
    ///
    /// # Errors
    /// There is no zygote; starting a worker would say so too.
    pub fn connect(&self) -> io::Result<()> {
        self.inner.check_origin()?;
        let mut line = self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the line's lock: a pool that has been closed meanwhile hangs up no second time.
        if line.is_none() && self.check_open().is_ok() {
            *line = Some(Arc::new((self.inner.connect)()?));
        }
        Ok(())
    }

    /// Starts workers that look like this, as far as they are still missing. They come up by
    /// themselves; where that fails, the pool breaks and says why.
    pub fn start(&self, count: usize, likeness: Likeness) {
        if !self.inner.origin.is_here() {
            return;
        }
        *self.inner.likeness.lock().unwrap_or_else(PoisonError::into_inner) = Some(likeness);
        Inner::start(&self.inner, count);
    }

    /// How many more workers could be used if so many more tasks had come.
    pub fn missing_workers(&self, more_tasks: usize) -> usize {
        if self.inner.origin.is_here() { self.inner.lock().foresee(more_tasks) } else { 0 }
    }

    /// Waits until no worker is about to be started.
    pub fn wait_started(&self) {
        if !self.inner.origin.is_here() {
            return;
        }
        let waiter = Arc::new(Waiter::default());
        loop {
            {
                let mut core = self.inner.lock();
                if core.workers.iter().flatten().all(|worker| worker.process.is_some()) {
                    return;
                }
                core.starters.push(waiter.clone());
            }
            waiter.wait(None);
        }
    }

    /// Waits until a task is over.
    ///
    /// `is_interrupted` is asked whenever a signal arrives in this thread.
    pub fn wait(
        &self,
        cell: &Arc<Cell>,
        deadline: Option<Instant>,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Waited {
        self.inner.wait(&**cell, deadline, is_interrupted)
    }

    /// Takes in what the workers have done, without waiting.
    pub fn poll(&self) {
        if self.inner.origin.is_here()
            && let Some(mut core) = self.inner.try_lock()
            && core.pump()
        {
            core.settle();
        }
    }

    /// Cancels a task that no worker has begun; says whether it did.
    pub fn cancel(&self, cell: &Cell) -> bool {
        if !self.inner.origin.is_here() {
            return false;
        }
        let mut core = self.inner.lock();
        let is_cancelled = core.cancel(cell.key());
        core.settle();
        is_cancelled
    }

    /// Whether a worker has begun a task that is not over.
    pub fn is_running(&self, cell: &Cell) -> bool {
        self.inner.origin.is_here() && self.inner.lock().is_running(cell.key())
    }

    /// Calls `subscriber` when a task is over; `false`, without a call, if it is already.
    pub fn subscribe(&self, cell: &Cell, subscriber: Box<dyn FnOnce() + Send>) -> bool {
        if !cell.subscribe(subscriber) {
            return false;
        }
        // In a forked child nobody will ever call it.
        if self.inner.origin.is_here() {
            let mut core = self.inner.lock();
            core.subscribe(cell.key());
            core.settle();
        }
        true
    }

    /// Takes no more tasks. What was submitted is run, as far as it is not cancelled; then the workers
    /// end.
    pub fn close(&self, cancel: Cancel) {
        self.inner.close(cancel);
    }

    /// Whether the pool is closed, and all its workers have ended.
    pub fn is_closed(&self) -> bool {
        !self.inner.origin.is_here() || self.inner.lock().phase == Phase::Closed
    }

    /// Waits until the pool is closed, and all its workers have ended.
    pub fn wait_closed(
        &self,
        deadline: Option<Instant>,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Waited {
        if !self.inner.origin.is_here() {
            return Waited::Foreign;
        }
        let waiter = Arc::new(Waiter::default());
        loop {
            {
                let mut core = self.inner.lock();
                if core.phase == Phase::Closed {
                    return Waited::Done;
                }
                core.closers.retain(|other| !Arc::ptr_eq(other, &waiter));
                core.closers.push(waiter.clone());
            }
            match waiter.wait(deadline) {
                Wake::TimedOut => return Waited::TimedOut,
                Wake::Interrupted if is_interrupted() => return Waited::Interrupted,
                Wake::Interrupted | Wake::Rung => {}
            }
        }
    }

    /// Fails every task for a reason, and ends the workers.
    pub fn break_down(&self, reason: &str) {
        if self.inner.origin.is_here() {
            let mut core = self.inner.lock();
            core.break_down(reason.into());
            core.settle();
            drop(core);
            self.inner.wake_supervisor();
        }
    }

    /// Sends all workers a signal.
    pub fn signal(&self, signal: Signal) {
        if self.inner.origin.is_here() {
            let mut core = self.inner.lock();
            core.workers.iter_mut().flatten().for_each(|worker| worker.signal_or_owe(signal));
        }
    }

    /// The workers that were started and do not end because of a limit of tasks.
    pub fn workers(&self) -> Vec<WorkerProcess> {
        if !self.inner.origin.is_here() {
            return Vec::new();
        }
        let core = self.inner.lock();
        let workers = core.workers.iter().flatten().filter(|worker| worker.is_counted());
        workers
            .filter_map(|worker| worker.process.clone())
            .map(|(pid, descriptor)| WorkerProcess { pid, descriptor })
            .collect()
    }

    /// Bytes of the arena in which functions and what tasks are called with lie.
    pub fn in_use_bytes(&self) -> u64 {
        if !self.inner.origin.is_here() {
            return 0;
        }
        self.inner.arena.lock().unwrap_or_else(PoisonError::into_inner).in_use_bytes()
    }

    /// How many tasks are not over.
    pub fn pending(&self) -> usize {
        if self.inner.origin.is_here() { self.inner.lock().pending() } else { 0 }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.inner.close(Cancel::Nothing);
    }
}

impl Inner {
    pub(crate) fn lock(&self) -> Locked<'_> {
        let core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { inner: self, core: Some(core) }
    }

    fn try_lock(&self) -> Option<Locked<'_>> {
        match self.core.try_lock() {
            Ok(core) => Some(Locked { inner: self, core: Some(core) }),
            Err(TryLockError::Poisoned(poisoned)) => {
                Some(Locked { inner: self, core: Some(poisoned.into_inner()) })
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// A forked child has a copy of the arena's bookkeeping, but the memory is the parent's.
    fn check_origin(&self) -> io::Result<()> {
        if self.origin.is_here() {
            return Ok(());
        }
        Err(io::Error::other("the pool belongs to the process from which this one was forked"))
    }

    fn close(&self, cancel: Cancel) {
        if !self.origin.is_here() {
            return;
        }
        let mut core = self.lock();
        core.close(cancel);
        core.settle();
        let is_over = core.phase == Phase::Closed;
        drop(core);
        if is_over && !self.is_supervised.load(Ordering::Acquire) {
            // Nobody was ever started, so there is no supervisor that would hang up.
            let line = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(line);
        }
        self.wake_supervisor();
    }

    pub(crate) fn break_down(&self, error: &io::Error) {
        let mut core = self.lock();
        core.break_down(format!("a worker process could not be started: {error}").into());
        core.settle();
        drop(core);
        self.wake_supervisor();
    }

    /// Lets the supervisor look at everything again.
    pub(crate) fn wake_supervisor(&self) {
        // It is full only if the supervisor has been told often enough.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Starts workers with the likeness that was given last. Where that fails, the pool breaks.
    pub(crate) fn start(self: &Arc<Inner>, count: usize) {
        if count == 0 {
            return;
        }
        let likeness = self.likeness.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(likeness) = likeness else { return };
        if let Err(error) = (0..count).try_for_each(|_| self.start_one(&likeness)) {
            self.break_down(&error);
        }
        // Also where one of them could not be started: those before it must be buried.
        if !self.is_supervised.swap(true, Ordering::AcqRel)
            && let Err(error) = supervisor::spawn(self.clone())
        {
            self.is_supervised.store(false, Ordering::Release);
            self.lose_zygote();
            self.break_down(&error);
        }
        self.wake_supervisor();
    }

    fn start_one(&self, likeness: &Likeness) -> io::Result<()> {
        // Kept until the worker is noted and asked for: a zygote that is lost takes with it the
        // workers that were asked of it, and no others.
        let mut line = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.lock().needs_worker() {
            // Somebody else has started it meanwhile, or nobody needs it any more.
            return Ok(());
        }
        let number = self.workers_made.fetch_add(1, Ordering::Relaxed) + 1;
        let end = ParentEnd::create(ungil_shm::channel::TASK_SLOTS)?;
        let view = Arc::new(View::create(reserve_bytes())?);
        let description = memfd_create("ungil", MemfdFlags::CLOEXEC)?;
        write_all(&description, &likeness.bytes)?;
        let channel = end.descriptor().try_clone_to_owned()?;
        let results = view.segment().descriptor().try_clone_to_owned()?;
        let pool = {
            let arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
            arena.segment().descriptor().try_clone_to_owned()?
        };
        let shared = self.shared.descriptor()?;
        let connection = match &*line {
            Some(connection) => connection.clone(),
            None => line.insert(Arc::new((self.connect)()?)).clone(),
        };
        self.lock().add_worker(Member::new(number, end, view));
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![
            description.as_fd(),
            channel.as_fd(),
            results.as_fd(),
            pool.as_fd(),
            self.event.as_fd(),
            shared.as_fd(),
        ];
        descriptors.extend(likeness.descriptors.iter().map(AsFd::as_fd));
        match connection.start(number, &descriptors) {
            Err(error) if !is_hang_up(&error) => {
                // Nobody would ever hear of it.
                self.lock().bury(number, None);
                Err(error)
            }
            // A zygote that has ended is noticed, and replaced, by the supervisor.
            _ => Ok(()),
        }
    }

    /// Hangs up on the zygote, which has ended, or whose workers are to end.
    pub(crate) fn lose_zygote(&self) {
        let mut line = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = line.take();
        self.lock().lose_zygote();
        drop(line);
        // Last: with some zygotes, this waits for them.
        drop(lost);
    }

    fn wait(
        &self,
        awaited: &dyn Awaited,
        deadline: Option<Instant>,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Waited {
        loop {
            if awaited.is_over() {
                return Waited::Done;
            }
            if !self.origin.is_here() {
                return Waited::Foreign;
            }
            if !self.is_pumped.swap(true, Ordering::AcqRel) {
                let waited = self.pump_until(awaited, deadline);
                self.hand_over();
                // Asked only now: a signal handler may itself wait for a task, and would wait for
                // this caller to pump.
                if waited == Waited::Interrupted && !is_interrupted() {
                    continue;
                }
                return waited;
            }
            let waiter = Arc::new(Waiter::default());
            self.callers().push_back(waiter.clone());
            awaited.watch(&mut self.lock());
            // Who pumped may have left before it could see this caller.
            let wake = if awaited.add_waiter(&waiter) && self.is_pumped.load(Ordering::Acquire) {
                waiter.wait(deadline)
            } else {
                Wake::Rung
            };
            self.callers().retain(|other| !Arc::ptr_eq(other, &waiter));
            awaited.remove_waiter(&waiter);
            if awaited.is_over() || wake != Wake::Rung {
                // If this caller was the one to be asked to pump, another one is.
                self.ask_a_caller();
            }
            match wake {
                _ if awaited.is_over() => return Waited::Done,
                Wake::TimedOut => return Waited::TimedOut,
                Wake::Interrupted if is_interrupted() => return Waited::Interrupted,
                Wake::Interrupted | Wake::Rung => {}
            }
        }
    }

    /// Pumps until a task is over. One caller at a time.
    fn pump_until(&self, awaited: &dyn Awaited, deadline: Option<Instant>) -> Waited {
        {
            let mut core = self.lock();
            core.is_caller_pumping = true;
            core.disarm();
            core.pump();
        }
        loop {
            let is_over = || {
                awaited.is_over() || {
                    if let Some(mut core) = self.try_lock() {
                        core.pump();
                    }
                    awaited.is_over()
                }
            };
            if self.spin.until(is_over) {
                return Waited::Done;
            }
            let ticket = self.bell.ticket();
            self.bell.arm(CALLER);
            {
                let mut core = self.lock();
                core.pump();
                awaited.watch(&mut core);
            }
            let wake =
                if awaited.is_over() { Wake::Rung } else { self.bell.wait(ticket, deadline) };
            self.bell.disarm(CALLER);
            self.lock().pump();
            if awaited.is_over() {
                return Waited::Done;
            }
            match wake {
                Wake::TimedOut => return Waited::TimedOut,
                Wake::Interrupted => return Waited::Interrupted,
                Wake::Rung => {}
            }
        }
    }

    /// Ends a caller's turn at the pump.
    fn hand_over(&self) {
        {
            let mut core = self.lock();
            core.is_caller_pumping = false;
            core.settle();
        }
        self.is_pumped.store(false, Ordering::Release);
        self.ask_a_caller();
    }

    /// Asks a caller that waits to pump, if nobody does.
    fn ask_a_caller(&self) {
        let callers = self.callers();
        if let Some(next) = callers.front()
            && !self.is_pumped.load(Ordering::Acquire)
        {
            next.notify();
        }
    }

    fn callers(&self) -> MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that nobody is at the other end of a socket.
pub(crate) fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn write_all(descriptor: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(descriptor, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}
