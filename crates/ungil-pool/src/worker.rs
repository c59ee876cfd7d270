//! A worker's side of its pool: taking tasks, and answering them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use ungil_shm::ring::{Consumer, Message, Producer};
use ungil_shm::{
    Arena, Bell, Block, Control, Segment, Span, View, Wake, WorkerEnd, offsets, reserve_bytes,
};

use crate::lent::{Lent, Returns};
use crate::message::{
    self, CALLER, EVERY_COMMIT, REFILL, ResultMessage, STOP, Stage, Status, TaskMessage,
};
use crate::payload::{self, Inline, Payload};
use crate::reference::{self, Hold, Part};
use crate::shared::{Holds, WorkerShares};
use crate::spin::Spin;
use crate::zygote::Start;

mod chunk;

pub use chunk::Chunk;

const ANY: u32 = 1;

/// What a worker was started with, unpacked.
pub struct Opened {
    /// The worker's side of its pool.
    pub worker: Worker,
    /// How it shall look, as the parent wrote it.
    pub likeness: Vec<u8>,
    /// Descriptors for it from the parent.
    pub descriptors: Vec<OwnedFd>,
}

/// Does what it is given, a wait, at a moment when nobody is held up by it.
pub type AroundWait = Box<dyn Fn(&mut (dyn FnMut() + Send)) + Send + Sync>;

/// A worker's side of its pool. Its threads share it.
pub struct Worker {
    control: Control,
    tasks: Mutex<Consumer>,
    answers: Mutex<Answers>,
    /// Held by the one thread that waits for the next task.
    turn: Mutex<()>,
    /// Held by the one thread that waits for room.
    room_turn: Mutex<()>,
    arena: Arc<Mutex<Arena>>,
    /// The memory of that arena.
    own_segment: Arc<Segment>,
    /// The pool's arena, where tasks and functions lie.
    view: Arc<View>,
    returns: Arc<Returns>,
    shares: Arc<WorkerShares>,
    /// What its results refer to.
    holds: Holds,
    /// Where the parent's callers sleep.
    bell: Bell,
    /// What the parent's supervisor reads.
    event: OwnedFd,
    spin: Spin,
    /// Blocks of the arena for logs of results, which were used and not sent.
    logs: Mutex<Vec<Block>>,
    /// Has waits done without Python's lock, and whatever else must not be held meanwhile.
    around_wait: OnceLock<AroundWait>,
    /// Something has destroyed the ring of tasks.
    is_corrupted: AtomicBool,
}

struct Answers {
    results: Producer,
    returning: offsets::Consumer,
}

/// A task that this worker has begun.
#[derive(Debug)]
pub struct Job {
    key: u64,
    slot: u32,
    /// The function's number and where it is written, unless the data says it itself.
    pub function: Option<(u64, Block)>,
    /// What it is called with.
    pub data: Data,
}

/// What a task is called with.
#[derive(Debug)]
pub enum Data {
    /// It came in the slot.
    Inline(Inline),
    /// It lies in the pool's arena, and is given back when this is dropped.
    Lent(Arc<Lent>),
    /// It is called with many items, one after the other.
    Items(Items),
}

/// The items of a chunk, as they were sent.
pub struct Items {
    /// The first one's number in the batch.
    pub first: u32,
    /// How many there are; some may be taken back.
    pub count: u32,
    /// What they follow from.
    pub description: Inline,
    /// Or where they lie, one behind the other: a private copy.
    pub bytes: Vec<u8>,
    pub(crate) span: Span,
}

impl std::fmt::Debug for Items {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Items");
        shown.field("first", &self.first).field("count", &self.count).finish_non_exhaustive()
    }
}

/// Which task an answer is for.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    key: u64,
    slot: u32,
}

impl Job {
    /// The ticket for its answer, and the rest.
    pub fn split(self) -> (Ticket, Option<(u64, Block)>, Data) {
        (Ticket { key: self.key, slot: self.slot }, self.function, self.data)
    }
}

impl Worker {
    /// Unpacks what a worker was started with.
    ///
    /// # Errors
    /// The descriptors are not those that a pool sends.
    pub fn open(start: Start) -> io::Result<Opened> {
        let mut descriptors = start.descriptors.into_iter();
        let mut next =
            || descriptors.next().ok_or_else(|| io::Error::other("a worker lacks a descriptor"));
        let likeness = read_all(&next()?)?;
        let end = WorkerEnd::open(next()?)?;
        let control = end.control();
        let WorkerEnd { tasks, results, released, returning, .. } = end;
        let arena = Arena::open_as_owner(next()?, reserve_bytes(), 0)?;
        let view = Arc::new(View::open(next()?, reserve_bytes())?);
        let bell = view.pool_bell()?;
        let event = next()?;
        let own_segment = arena.segment().clone();
        let arena = Arc::new(Mutex::new(arena));
        let shared = View::open(next()?, reserve_bytes())?;
        let shares = Arc::new(WorkerShares::new(arena.clone(), shared));
        let is_spinning = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        let worker = Worker {
            control,
            tasks: Mutex::new(tasks),
            answers: Mutex::new(Answers { results, returning }),
            turn: Mutex::new(()),
            room_turn: Mutex::new(()),
            own_segment,
            arena,
            view,
            returns: Arc::new(Returns::new(released, None)),
            shares,
            holds: Holds::default(),
            bell,
            event,
            spin: Spin::new(is_spinning),
            logs: Mutex::default(),
            around_wait: OnceLock::new(),
            is_corrupted: AtomicBool::new(false),
        };
        Ok(Opened { worker, likeness, descriptors: descriptors.collect() })
    }

    /// Says that tasks can come.
    pub fn ready(&self) {
        self.control.set_stage(Stage::Ready as u32);
        self.tell_everybody();
    }

    /// Says that the initializer failed, and why. No task will be taken.
    pub fn fail(&self, reason: &str) {
        self.control.set_stage(Stage::Failed as u32);
        if let Ok(payload) = self.store(&[reason.as_bytes()]) {
            let message = ResultMessage::message(0, Status::InitializerFailed, 0, &payload);
            let _ = lock(&self.answers).results.push(&message);
        }
        self.tell_everybody();
    }

    /// The next task, if there is one.
    pub fn try_next(&self) -> Option<Job> {
        let mut tasks = lock(&self.tasks);
        let taken = tasks.take();
        // The parent writes nothing else than tasks. If something has destroyed the ring, no more
        // are taken from it, and the worker ends.
        let (slot, message) =
            taken.inspect_err(|_| self.is_corrupted.store(true, Ordering::Relaxed)).ok()??;
        let task = TaskMessage::read(&message);
        if let Some((first, count)) = task.items {
            let span = tasks.span(slot)?;
            drop(tasks);
            // What lies there lies there until the chunk has ended; a copy is what can be read safely.
            let bytes = task.block.map(|it| self.view.segment().read(it.offset, it.length));
            let bytes = bytes.map_or(Some(Vec::new()), |bytes| bytes);
            let Some(bytes) = bytes else {
                self.is_corrupted.store(true, Ordering::Relaxed);
                return None;
            };
            let description = message::description(&message);
            let data = Data::Items(Items { first, count, description, bytes, span });
            return Some(Job { key: task.key, slot, function: task.function, data });
        }
        drop(tasks);
        let data = match task.block {
            Some(block) => {
                let (view, returns) = (self.view.clone(), self.returns.clone());
                Data::Lent(Lent::from_program(view, returns, block, &self.shares))
            }
            None => Data::Inline(message::inline(&message)),
        };
        Some(Job { key: task.key, slot, function: task.function, data })
    }

    /// Waits for the next task; `None` when the parent wants the worker to end.
    ///
    /// `before_sleep` is called before the thread goes to sleep, and `on_signal` when a signal has
    /// arrived in this thread.
    pub fn next(&self, before_sleep: &mut dyn FnMut(), on_signal: &mut dyn FnMut()) -> Option<Job> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // Another thread has asked and sleeps. But that was before this one was idle, and
                // what it released may have been what stood in the way of more.
                self.ask_for_more();
                lock(&self.turn)
            }
        };
        let mut is_first = true;
        loop {
            let mut job = None;
            self.spin.until(|| {
                job = self.try_next();
                job.is_some() || self.is_stopped()
            });
            if job.is_some() {
                return job;
            }
            if is_first {
                is_first = false;
                self.ask_for_more();
                before_sleep();
            }
            self.take_returned();
            let bell = self.control.bell();
            let ticket = bell.ticket();
            bell.arm_anew(ANY);
            let job = self.try_next();
            let is_stopped = self.is_stopped();
            // What came back before the parent could see that this thread sleeps was not rung for.
            let is_returned = lock(&self.answers).returning.is_ready();
            let wake = if job.is_some() || is_stopped || is_returned {
                Wake::Rung
            } else {
                bell.wait(ticket, None)
            };
            bell.disarm(ANY);
            if job.is_some() {
                return job;
            }
            if is_stopped {
                // The next of the worker's threads would wait for the bell that has rung.
                bell.ring();
                return None;
            }
            if wake == Wake::Interrupted {
                on_signal();
            }
        }
    }

    /// The bytes of a function's definition; `None` if there is none where the task says.
    pub fn definition(&self, block: Block) -> Option<Vec<u8>> {
        let (offset, length) = *payload::parts(self.view.segment(), block)?.first()?;
        self.view.segment().read(offset, length)
    }

    /// Stores a result.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn store(&self, parts: &[&[u8]]) -> io::Result<Payload> {
        self.take_returned();
        payload::store(&self.arena, parts)
    }

    /// Stores a result, some of which it may refer to.
    ///
    /// # Errors
    /// The system has no memory left.
    pub fn store_parts(&self, parts: &[Part<'_>]) -> io::Result<Payload> {
        self.take_returned();
        reference::store(&self.arena, &self.holds, parts)
    }

    /// What this worker shares with its program.
    pub fn shares(&self) -> &Arc<WorkerShares> {
        &self.shares
    }

    /// Answers a task.
    pub fn answer(&self, ticket: Ticket, status: Status, run_ns: u64, payload: &Payload) {
        let message = ResultMessage::message(ticket.key, status, run_ns, payload);
        self.push(&message);
        // Only now: a parent that finds the slot taken must find the answer first.
        lock(&self.tasks).release(ticket.slot);
        self.tell_of_answer();
    }

    /// Says what must not be held up when an answer has to wait for room.
    pub fn set_around_wait(&self, around_wait: AroundWait) {
        let _ = self.around_wait.set(around_wait);
    }

    /// Publishes an answer. A chunk may have more answers than the ring has slots; then this waits
    /// until the parent has taken some of them.
    fn push(&self, message: &Message) {
        let is_pushed = |worker: &Worker| {
            // A ring that something has destroyed takes nothing any more, and the parent knows.
            !matches!(lock(&worker.answers).results.push(message), Ok(None))
        };
        if is_pushed(self) {
            return;
        }
        let mut wait = || {
            let _turn = lock(&self.room_turn);
            let room = self.control.room();
            loop {
                let ticket = room.ticket();
                room.arm(ANY);
                if is_pushed(self) {
                    break;
                }
                // Nobody looks at answers that he did not ask for. Not before: who looked then may
                // have found nothing, and other threads have filled the ring since.
                self.tell_everybody();
                room.wait(ticket, None);
            }
            room.disarm(ANY);
        };
        match self.around_wait.get() {
            Some(around) => around(&mut wait),
            None => wait(),
        }
    }

    fn tell_of_answer(&self) {
        let wanted = self.bell.wanted();
        if wanted & CALLER != 0 {
            self.bell.ring();
        } else if wanted & EVERY_COMMIT != 0 {
            self.wake_supervisor();
        }
    }

    /// Bytes of the worker's arena, in which results lie.
    pub fn in_use_bytes(&self) -> u64 {
        self.take_returned();
        lock(&self.arena).in_use_bytes()
    }

    fn is_stopped(&self) -> bool {
        self.is_corrupted.load(Ordering::Relaxed)
            || (self.control.flags() & STOP != 0 && !lock(&self.tasks).is_ready())
    }

    fn ask_for_more(&self) {
        let wanted = self.bell.wanted();
        if wanted & REFILL != 0 && wanted & CALLER == 0 {
            self.wake_supervisor();
        }
    }

    fn tell_everybody(&self) {
        if self.bell.wanted() & CALLER != 0 {
            self.bell.ring();
        }
        self.wake_supervisor();
    }

    fn wake_supervisor(&self) {
        // It is full only if the supervisor has been told often enough.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Frees the blocks that the parent has given back.
    fn take_returned(&self) {
        let mut answers = lock(&self.answers);
        let mut held = Vec::new();
        while let Some(offset) = answers.returning.pop() {
            // First: then the block may become another payload's.
            held.extend(self.holds.take(offset));
            // The parent gives back what it got, once.
            let _ = lock(&self.arena).free(offset);
        }
        drop(answers);
        let is_programs = held.iter().any(|hold| matches!(hold, Hold::Lent(_)));
        // Without any lock: it may be the last hold of another block.
        drop(held);
        if is_programs {
            // No answer follows upon which the program would look whether it has its memory back.
            self.wake_supervisor();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_all(descriptor: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    // It was written to its end, so reading starts at the beginning.
    loop {
        let read = rustix::io::pread(descriptor, &mut buffer, bytes.len() as u64)?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}
