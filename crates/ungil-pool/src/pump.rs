//! Moving tasks to workers and results to cells: everything that is done under the pool's one lock.
//!
//! Whoever holds the lock may pump: a caller that waits, a caller that submits, the supervisor. None
//! of them takes Python's lock in here, and nothing in here waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};
use ungil_shm::ring::{self, SlotState};
use ungil_shm::{Arena, Bell, Control, ParentEnd, View, offsets};

use crate::cell::{Cell, Crash, Ending, Failure, Outcome, Received, Subscriber};
use crate::credit::Credit;
use crate::ledger::{Entry, Key, Ledger, Place};
use crate::lent::{Lent, Returns};
use crate::message::{self, ResultMessage, Stage, Status, TaskMessage};
use crate::payload::{Inline, Payload};
use crate::pool::Settings;
use crate::task::Task;
use crate::waiter::Waiter;

/// So many workers in a row that end before they are ready break the pool.
const START_FAILURES_MAX: u32 = 3;

/// How far a pool has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes tasks.
    Open,
    /// It takes none; what it has is run to its end.
    Closing,
    /// Every task and every worker has ended.
    Closed,
}

/// What closing a pool cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// Nothing.
    Nothing,
    /// Tasks that are no worker's: each worker that runs nothing is left the next task, also one
    /// that is still starting. So it is in the stdlib.
    Unassigned,
    /// Every task that has not begun.
    Unbegun,
}

/// A worker, as the parent sees it.
pub struct Worker {
    /// Never used twice in a pool.
    pub number: u64,
    /// Process number and descriptor, once it was started.
    pub process: Option<(u32, Arc<OwnedFd>)>,
    control: Control,
    tasks: ring::Producer,
    results: ring::Consumer,
    released: offsets::Consumer,
    view: Arc<View>,
    returns: Arc<Returns>,
    stage: Stage,
    /// The tasks in its ring, by slot; 0 is none.
    sent: Vec<Key>,
    /// Slots in the order of sending; may hold some that have been answered.
    order: VecDeque<u32>,
    /// Tasks that were sent and have no outcome.
    outstanding: u32,
    sent_total: u64,
    /// Blocks of the pool's arena that it has, and the tasks that they came with.
    lent: HashMap<u64, Key>,
    is_stopping: bool,
    is_corrupted: bool,
    /// Its zygote has ended, so the kernel ends it, however far it has come.
    is_orphan: bool,
    /// A signal that came before its process was known.
    owed: Option<Signal>,
    /// Why its initializer failed.
    failure: Option<Arc<str>>,
}

impl Worker {
    /// A worker that is about to be started.
    pub fn new(number: u64, end: ParentEnd, view: Arc<View>) -> Worker {
        let control = end.control();
        let ParentEnd { tasks, results, released, returning, .. } = end;
        Worker {
            number,
            process: None,
            returns: Arc::new(Returns::new(returning, Some(control.bell().clone()))),
            control,
            view,
            stage: Stage::Starting,
            sent: vec![0; tasks.capacity() as usize],
            order: VecDeque::new(),
            outstanding: 0,
            sent_total: 0,
            lent: HashMap::new(),
            is_stopping: false,
            is_corrupted: false,
            is_orphan: false,
            owed: None,
            failure: None,
            tasks,
            results,
            released,
        }
    }

    /// Whether it counts as one of the pool's workers, and not as one that is about to be gone.
    pub fn is_counted(&self) -> bool {
        !(self.is_stopping && self.outstanding == 0)
    }

    /// Sends it a signal, if it was started and lives.
    pub fn signal(&self, signal: Signal) {
        if let Some((_, descriptor)) = &self.process {
            // It may have ended meanwhile.
            let _ = pidfd_send_signal(descriptor, signal);
        }
    }

    /// Sends it a signal now, or as soon as it is known. It may run a task before that.
    pub fn signal_or_owe(&mut self, signal: Signal) {
        if self.process.is_some() { self.signal(signal) } else { self.owed = Some(signal) }
    }

    fn has_room(&self, limit: u32, tasks_max: Option<u64>) -> bool {
        self.stage == Stage::Ready
            && !self.is_stopping
            && !self.is_corrupted
            // There must be room for the results of all of them.
            && self.outstanding < limit.min(self.tasks.capacity())
            && tasks_max.is_none_or(|most| self.sent_total < most)
    }

    fn stop(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.control.set_flag(message::STOP);
            self.control.bell().ring_all();
        }
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |(pid, _)| *pid)
    }

    /// What it wrote is not what a worker writes: it is ended, and its tasks with it.
    fn corrupted(&mut self) {
        self.is_corrupted = true;
        self.signal(Signal::KILL);
    }
}

/// The state of a pool.
pub struct Core {
    pub(crate) ledger: Ledger,
    pub(crate) backlog: VecDeque<Key>,
    pub(crate) workers: Vec<Option<Worker>>,
    pub(crate) phase: Phase,
    pub(crate) broken: Option<Arc<str>>,
    /// Whether a caller waits and pumps.
    pub(crate) is_caller_pumping: bool,
    pub(crate) closers: Vec<Arc<Waiter>>,
    /// Threads that wait for workers to be started.
    pub(crate) starters: Vec<Arc<Waiter>>,
    /// What is to be called as soon as the lock has been given back.
    pub(crate) calls: Vec<Subscriber>,
    settings: Settings,
    credit: Credit,
    bell: Bell,
    arena: Arc<Mutex<Arena>>,
    /// What the doorbell says the workers should do.
    armed: u32,
    /// Tasks about whose end somebody else than a caller wants to know.
    subscribed: HashSet<Key>,
    start_failures: u32,
    /// The most tasks that have been spoken of and not submitted.
    foreseen: usize,
    /// Tasks have ended since the sleeping caller was last told.
    has_news: bool,
}

impl Core {
    pub(crate) fn new(settings: Settings, bell: Bell, arena: Arc<Mutex<Arena>>) -> Core {
        Core {
            ledger: Ledger::default(),
            backlog: VecDeque::new(),
            workers: Vec::new(),
            phase: Phase::Open,
            broken: None,
            is_caller_pumping: false,
            closers: Vec::new(),
            starters: Vec::new(),
            calls: Vec::new(),
            settings,
            credit: Credit::default(),
            bell,
            arena,
            armed: 0,
            subscribed: HashSet::new(),
            start_failures: 0,
            foreseen: 0,
            has_news: false,
        }
    }

    /// Adds a task and sends it, if a worker has room and no other task waits.
    pub(crate) fn submit(&mut self, task: Task) -> Arc<Cell> {
        let (key, cell) = self.ledger.add(task);
        if !(self.backlog.is_empty() && self.send_to_least_busy(key)) {
            self.backlog.push_back(key);
            self.pump();
        }
        self.settle();
        cell
    }

    /// How many more workers the tasks could use.
    pub(crate) fn missing_workers(&self, more_tasks: usize) -> usize {
        if self.phase == Phase::Closed || self.broken.is_some() {
            return 0;
        }
        let threads = self.settings.threads_per_worker as usize;
        let workers = self.workers.iter().flatten().filter(|worker| worker.is_counted()).count();
        let tasks = self.ledger.len() + more_tasks;
        let most = self.settings.workers_max as usize;
        let wanted = if self.settings.starts_all && tasks > 0 {
            most
        } else {
            tasks.div_ceil(threads).min(most)
        };
        wanted.saturating_sub(workers)
    }

    /// Notes that so many more workers would be of use if so many more tasks had come.
    pub(crate) fn foresee(&mut self, more_tasks: usize) -> usize {
        self.foreseen = self.foreseen.max(more_tasks);
        self.missing_workers(more_tasks)
    }

    /// Whether one more worker is still wanted. Who was told that some are missing may find that
    /// somebody else has started them.
    pub(crate) fn needs_worker(&self) -> bool {
        self.missing_workers(self.foreseen) > 0
    }

    /// Adds a worker that is about to be started.
    pub(crate) fn add_worker(&mut self, mut worker: Worker) {
        if self.phase >= Phase::Closing && self.ledger.is_empty() {
            worker.stop();
        }
        match self.workers.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(worker),
            None => self.workers.push(Some(worker)),
        }
    }

    /// Tells those who wait that a worker was started, or will not be.
    pub(crate) fn tell_starters(&mut self) {
        for starter in std::mem::take(&mut self.starters) {
            starter.notify();
        }
    }

    /// The worker of that number.
    fn worker_mut(&mut self, number: u64) -> Option<&mut Worker> {
        self.workers.iter_mut().flatten().find(|worker| worker.number == number)
    }

    /// Takes in what the workers have done and gives them what waits.
    ///
    /// # Returns
    /// Whether anything was taken in.
    pub(crate) fn pump(&mut self) -> bool {
        let mut is_progress = false;
        for index in 0..self.workers.len() {
            is_progress |= self.drain(index);
        }
        self.refill();
        if self.backlog.is_empty() {
            self.balance();
        }
        is_progress
    }

    /// Ends a section in which tasks may have come or gone: tells the workers what to ring for,
    /// the sleeping caller that there is news, and lets a closing pool go on closing.
    pub(crate) fn settle(&mut self) {
        loop {
            self.advance();
            let wanted = self.wanted();
            if wanted == self.armed {
                break;
            }
            let gone = self.armed & !wanted;
            let is_more = wanted & !self.armed != 0;
            if gone != 0 {
                self.bell.disarm(gone);
            }
            self.armed = wanted;
            if !is_more {
                break;
            }
            self.bell.arm(wanted);
            // What happened before the workers could see it was not rung for.
            self.pump();
        }
        if std::mem::take(&mut self.has_news) && self.bell.wanted() & message::CALLER != 0 {
            self.bell.ring();
        }
    }

    /// Forgets what the doorbell was set to ring for, after it has rung.
    pub(crate) fn disarm(&mut self) {
        self.bell.disarm(self.armed);
        self.armed = 0;
    }

    fn wanted(&self) -> u32 {
        if self.is_caller_pumping || self.phase == Phase::Closed {
            return 0;
        }
        let mut wanted = 0;
        let threads = self.settings.threads_per_worker;
        if !self.backlog.is_empty()
            || self.workers.iter().flatten().any(|worker| worker.outstanding > threads)
        {
            wanted |= message::REFILL;
        }
        if !self.subscribed.is_empty() || self.phase == Phase::Closing {
            wanted |= message::EVERY_COMMIT;
        }
        wanted
    }

    fn send_to_least_busy(&mut self, key: Key) -> bool {
        let limit = self.credit.limit(self.settings.threads_per_worker);
        let tasks_max = self.settings.tasks_per_worker_max;
        let least_busy = self
            .workers
            .iter()
            .enumerate()
            .filter_map(|(index, worker)| Some((index, worker.as_ref()?)))
            .filter(|(_, worker)| worker.has_room(limit, tasks_max))
            .min_by_key(|(_, worker)| worker.outstanding)
            .map(|(index, _)| index);
        least_busy.is_some_and(|index| self.send(index, key))
    }

    fn send(&mut self, index: usize, key: Key) -> bool {
        let (Some(entry), Some(worker)) = (self.ledger.get_mut(key), self.workers[index].as_mut())
        else {
            return false;
        };
        // A slot can be empty while the answer to what was in it has not been taken in.
        let slot = worker.sent_total % worker.sent.len() as u64;
        if worker.sent[slot as usize] != 0 {
            return false;
        }
        let function =
            entry.task.function.as_ref().map(|function| (function.number(), function.block()));
        let message = TaskMessage::message(key, function, &entry.task.payload);
        let slot = match worker.tasks.push(&message) {
            Ok(Some(slot)) => slot,
            Ok(None) => return false,
            Err(_) => {
                worker.corrupted();
                return false;
            }
        };
        entry.place = Place::Sent { worker: index, slot };
        if let Payload::Block(block) = &entry.task.payload {
            worker.lent.insert(block.offset, key);
        }
        worker.sent[slot as usize] = key;
        worker.order.push_back(slot);
        worker.outstanding += 1;
        worker.sent_total += 1;
        if worker.control.bell().wanted() != 0 {
            worker.control.bell().ring();
        }
        if self.settings.tasks_per_worker_max.is_some_and(|most| worker.sent_total >= most) {
            // It runs what it has and then ends; the supervisor starts another.
            worker.stop();
        }
        true
    }

    fn refill(&mut self) {
        let limit = self.credit.limit(self.settings.threads_per_worker);
        let tasks_max = self.settings.tasks_per_worker_max;
        while !self.backlog.is_empty() {
            let has_room = |worker: &&Worker| worker.has_room(limit, tasks_max);
            let with_room = self.workers.iter().flatten().filter(has_room).count();
            if with_room == 0 {
                return;
            }
            let share = self.backlog.len().div_ceil(with_room);
            let mut is_progress = false;
            for index in 0..self.workers.len() {
                for _ in 0..share {
                    let has_room = self.workers[index]
                        .as_ref()
                        .is_some_and(|it| it.has_room(limit, tasks_max));
                    if !has_room || !self.send_next(index) {
                        break;
                    }
                    is_progress = true;
                }
            }
            if !is_progress {
                return;
            }
        }
    }

    /// Sends the first task of the backlog that still waits.
    fn send_next(&mut self, index: usize) -> bool {
        while let Some(key) = self.backlog.front().copied() {
            let waits = self.ledger.get_mut(key).is_some_and(|it| it.place == Place::Waiting);
            if waits && !self.send(index, key) {
                return false;
            }
            self.backlog.pop_front();
            if waits {
                return true;
            }
        }
        false
    }

    /// Takes tasks back from busy workers for idle ones.
    fn balance(&mut self) {
        let threads = self.settings.threads_per_worker;
        let limit = self.credit.limit(threads);
        let tasks_max = self.settings.tasks_per_worker_max;
        for idle in 0..self.workers.len() {
            let is_idle =
                self.workers[idle].as_ref().is_some_and(|it| it.has_room(threads, tasks_max));
            if !is_idle {
                continue;
            }
            let busiest = self
                .workers
                .iter()
                .enumerate()
                .filter_map(|(index, worker)| Some((index, worker.as_ref()?.outstanding)))
                .max_by_key(|(_, outstanding)| *outstanding);
            let Some((busiest, outstanding)) = busiest else { return };
            if outstanding <= threads {
                return;
            }
            for _ in 0..(outstanding - threads).div_ceil(2) {
                let has_room =
                    self.workers[idle].as_ref().is_some_and(|it| it.has_room(limit, tasks_max));
                if !has_room {
                    break;
                }
                let Some(key) = self.take_back(busiest) else { break };
                if !self.send(idle, key) {
                    self.backlog.push_front(key);
                    break;
                }
            }
        }
    }

    /// Takes back the task that a worker was sent last, if it has not begun it.
    fn take_back(&mut self, index: usize) -> Option<Key> {
        let worker = self.workers[index].as_mut()?;
        loop {
            let slot = worker.order.pop_back()?;
            let key = worker.sent[slot as usize];
            if key == 0 {
                continue;
            }
            if !worker.tasks.revoke(slot) {
                worker.order.push_back(slot);
                return None;
            }
            self.detach(index, slot);
            return Some(key);
        }
    }

    /// Notes that a slot of a worker no longer holds a task.
    fn detach(&mut self, index: usize, slot: u32) {
        let Some(worker) = self.workers[index].as_mut() else { return };
        let key = std::mem::take(&mut worker.sent[slot as usize]);
        worker.outstanding -= 1;
        while worker.order.front().is_some_and(|slot| worker.sent[*slot as usize] == 0) {
            worker.order.pop_front();
        }
        if let Some(entry) = self.ledger.get_mut(key) {
            entry.place = Place::Waiting;
            if let Payload::Block(block) = &entry.task.payload {
                worker.lent.remove(&block.offset);
            }
        }
    }

    /// Takes in everything that a worker has written.
    fn drain(&mut self, index: usize) -> bool {
        let mut is_progress = false;
        loop {
            let Some(worker) = self.workers[index].as_mut() else { return is_progress };
            if worker.is_corrupted {
                return is_progress;
            }
            match worker.results.take() {
                Ok(None) => break,
                Err(_) => {
                    worker.corrupted();
                    return is_progress;
                }
                Ok(Some((slot, message))) => {
                    worker.results.release(slot);
                    is_progress = true;
                    self.take_in(index, &message);
                }
            }
        }
        let Some(worker) = self.workers[index].as_mut() else { return is_progress };
        if worker.stage == Stage::Starting {
            worker.stage = Stage::from_number(worker.control.stage());
            if worker.stage == Stage::Ready {
                self.start_failures = 0;
                is_progress = true;
            }
        }
        while let Some(worker) = self.workers[index].as_mut()
            && let Some(offset) = worker.released.pop()
        {
            if !self.take_block_back(index, offset) {
                if let Some(worker) = self.workers[index].as_mut() {
                    worker.corrupted();
                }
                return is_progress;
            }
        }
        is_progress
    }

    /// Frees a block that a worker gives back; `false` if it was not the worker's to give.
    fn take_block_back(&mut self, index: usize, offset: u64) -> bool {
        let Some(worker) = self.workers[index].as_mut() else { return false };
        let Some(key) = worker.lent.get(&offset).copied() else { return false };
        if let Some(entry) = self.ledger.get_mut(key) {
            if let Place::Sent { slot, .. } = entry.place
                && worker.tasks.state(slot) == Ok(SlotState::Ready)
            {
                // Another worker may yet need it.
                return false;
            }
            // The task has read its data and goes on. When it is answered, or crashes, the block
            // may be another task's.
            entry.task.payload = Payload::Inline(Inline::empty());
        }
        worker.lent.remove(&offset);
        free(&self.arena, offset);
        true
    }

    fn take_in(&mut self, index: usize, message: &ungil_shm::ring::Message) {
        let Some(worker) = self.workers[index].as_mut() else { return };
        let result = ResultMessage::read(message);
        let received = match result.block {
            Some(block) => {
                Received::Lent(Lent::new(worker.view.clone(), worker.returns.clone(), block))
            }
            None => Received::Inline(message::inline(message)),
        };
        let outcome = match result.status {
            Some(Status::Returned) => Outcome::Returned(received),
            Some(Status::Raised) => Outcome::Raised(received),
            Some(Status::InitializerFailed) if result.key == 0 => {
                let text = match received {
                    Received::Inline(inline) => inline.bytes().to_vec(),
                    Received::Lent(lent) => lent.copy(0).unwrap_or_default(),
                };
                let text = String::from_utf8_lossy(&text).into_owned();
                // The pool breaks when it has ended: until then it may have a log to write.
                worker.failure = Some(text.into());
                return;
            }
            _ => return worker.corrupted(),
        };
        let slot = match self.ledger.get_mut(result.key).map(|entry| entry.place) {
            Some(Place::Sent { worker, slot }) if worker == index => slot,
            // A worker answers what it was asked, once.
            _ => return worker.corrupted(),
        };
        self.credit.note(result.run_ns);
        let lent = match self.ledger.get_mut(result.key).map(|entry| &entry.task.payload) {
            // The worker gives the block back when nothing there uses it any more.
            Some(Payload::Block(block)) => Some(block.offset),
            _ => None,
        };
        self.detach(index, slot);
        if let (Some(offset), Some(worker)) = (lent, self.workers[index].as_mut()) {
            worker.lent.insert(offset, result.key);
        }
        if let Some(entry) = self.remove(result.key) {
            self.deliver(&entry, outcome);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        self.subscribed.remove(&key);
        self.ledger.remove(key)
    }

    fn deliver(&mut self, entry: &Entry, outcome: Outcome) {
        self.has_news = true;
        self.calls.extend(entry.cell.deliver(outcome));
    }

    /// Notes that somebody else than a caller wants to know of a task's end.
    pub(crate) fn subscribe(&mut self, key: Key) {
        if self.ledger.get_mut(key).is_some() {
            self.subscribed.insert(key);
        }
    }

    /// Takes a task back for good, if no worker has begun it.
    pub(crate) fn cancel(&mut self, key: Key) -> bool {
        match self.ledger.get_mut(key).map(|entry| entry.place) {
            None => return false,
            Some(Place::Waiting) => {}
            Some(Place::Sent { worker: index, slot }) => {
                let Some(worker) = self.workers[index].as_ref() else { return false };
                if !worker.tasks.revoke(slot) {
                    return false;
                }
                self.detach(index, slot);
            }
        }
        if let Some(entry) = self.remove(key) {
            self.discard(&entry.task.payload);
            self.has_news = true;
            self.calls.extend(entry.cell.cancel());
            self.forget_cancelled();
        }
        true
    }

    /// Takes out of the backlog what was cancelled, once that is most of it: with all workers busy
    /// for long, nobody else would.
    fn forget_cancelled(&mut self) {
        if self.backlog.len() > 100 + 2 * self.ledger.len() {
            let ledger = &mut self.ledger;
            self.backlog.retain(|key| ledger.get_mut(*key).is_some());
        }
    }

    /// Whether a worker has begun a task and not ended it.
    pub(crate) fn is_running(&mut self, key: Key) -> bool {
        let Some(Place::Sent { worker, slot }) = self.ledger.get_mut(key).map(|it| it.place) else {
            return false;
        };
        self.workers[worker]
            .as_ref()
            .is_some_and(|worker| worker.tasks.state(slot) != Ok(SlotState::Ready))
    }

    /// Takes no more tasks.
    pub(crate) fn close(&mut self, cancel: Cancel) {
        self.phase = self.phase.max(Phase::Closing);
        if cancel == Cancel::Nothing {
            return;
        }
        let mut kept = 0;
        if cancel == Cancel::Unassigned {
            let workers = self.workers.iter().flatten().filter(|worker| worker.is_counted());
            kept = workers.count() * self.settings.threads_per_worker as usize;
        }
        // Those that were sent come first, in the order of sending; what is begun cannot be
        // cancelled, and is what its worker is left.
        let sent = self.workers.iter().flatten().flat_map(|worker| {
            worker.order.iter().map(|slot| worker.sent[*slot as usize]).filter(|key| *key != 0)
        });
        let keys: Vec<Key> = sent.chain(self.backlog.iter().copied()).collect();
        let mut unbegun = Vec::new();
        for key in keys {
            if self.is_running(key) {
                kept = kept.saturating_sub(1);
            } else if self.ledger.get_mut(key).is_some() {
                unbegun.push(key);
            }
        }
        for key in unbegun.into_iter().skip(kept) {
            self.cancel(key);
        }
    }

    /// Fails every task, for a reason that concerns all of them.
    pub(crate) fn break_down(&mut self, reason: Arc<str>) {
        if self.broken.is_some() {
            return;
        }
        self.broken = Some(reason.clone());
        self.phase = self.phase.max(Phase::Closing);
        self.backlog.clear();
        for worker in self.workers.iter_mut().flatten() {
            worker.stop();
            worker.signal(Signal::KILL);
            worker.sent.fill(0);
            worker.order.clear();
            worker.outstanding = 0;
        }
        self.subscribed.clear();
        for entry in self.ledger.drain() {
            if entry.place == Place::Waiting {
                self.discard(&entry.task.payload);
            }
            self.deliver(&entry, Outcome::Failed(Failure::Broken(reason.clone())));
        }
    }

    /// Takes a worker that has ended out of the pool. What it finished is delivered, what it had not
    /// begun goes back to the backlog, and what it was running has crashed.
    pub(crate) fn bury(&mut self, number: u64, ending: Option<Ending>) {
        let place = |it: &Option<Worker>| it.as_ref().is_some_and(|it| it.number == number);
        let Some(index) = self.workers.iter().position(place) else { return };
        self.tell_starters();
        self.drain(index);
        let Some(worker) = self.workers[index].as_ref() else { return };
        let pid = worker.pid();
        let mut unbegun = Vec::new();
        for slot in worker.order.clone() {
            let Some(worker) = self.workers[index].as_ref() else { return };
            let key = worker.sent[slot as usize];
            if key == 0 {
                continue;
            }
            if worker.tasks.state(slot) == Ok(SlotState::Ready) {
                self.detach(index, slot);
                unbegun.push(key);
            } else if let Some(entry) = self.remove(key) {
                let outcome = if worker_is_corrupted(&self.workers[index]) {
                    Outcome::Failed(Failure::Corrupted { pid })
                } else {
                    Outcome::Crashed(Crash { pid, ending })
                };
                self.deliver(&entry, outcome);
            }
        }
        if let Some(worker) = self.workers[index].take() {
            // They were submitted before everything that waits.
            for key in unbegun.into_iter().rev() {
                self.backlog.push_front(key);
            }
            for offset in worker.lent.keys() {
                free(&self.arena, *offset);
            }
            let how = ending.map_or("ended".to_owned(), |ending| ending.to_string());
            match (worker.stage, worker.failure) {
                (Stage::Ready, _) => {}
                (_, Some(failure)) => self.break_down(failure),
                (Stage::Failed, None) => self.break_down(
                    format!("the initializer failed in process {pid}, which {how}").into(),
                ),
                (Stage::Starting, None) if worker.is_orphan => {}
                (Stage::Starting, None) => self.start_failed(&format!("process {pid}, {how}")),
            }
        }
    }

    fn start_failed(&mut self, last: &str) {
        self.start_failures += 1;
        if self.start_failures >= START_FAILURES_MAX {
            self.break_down(
                format!(
                    "{} worker processes in a row ended before they were ready; the last, {last}",
                    self.start_failures
                )
                .into(),
            );
        }
    }

    /// The zygote has ended. The workers that it has started are ended by the kernel, and buried when
    /// it says so; the others are taken out now.
    pub(crate) fn lose_zygote(&mut self) {
        self.pump();
        let workers = self.workers.iter_mut().flatten();
        let mut is_starting = false;
        let mut unstarted = Vec::new();
        for worker in workers {
            worker.is_orphan = true;
            is_starting |= worker.stage == Stage::Starting;
            if worker.process.is_none() {
                unstarted.push(worker.number);
            }
        }
        unstarted.into_iter().for_each(|number| self.bury(number, None));
        if is_starting {
            // However many they were, it is one failure.
            self.start_failed("because the process that starts them had ended");
        }
    }

    /// Notes that a worker was started.
    pub(crate) fn started(&mut self, number: u64, pid: u32, descriptor: OwnedFd) {
        let is_broken = self.broken.is_some();
        let Some(worker) = self.worker_mut(number) else { return };
        worker.process = Some((pid, Arc::new(descriptor)));
        // It may have been condemned when it could not yet be killed.
        if is_broken || worker.is_corrupted {
            worker.signal(Signal::KILL);
        } else if let Some(signal) = worker.owed.take() {
            worker.signal(signal);
        }
        self.tell_starters();
    }

    fn advance(&mut self) {
        if self.phase != Phase::Closing || !self.ledger.is_empty() {
            return;
        }
        self.workers.iter_mut().flatten().for_each(Worker::stop);
        if self.workers.iter().all(Option::is_none) {
            self.phase = Phase::Closed;
            for closer in std::mem::take(&mut self.closers) {
                closer.notify();
            }
        }
    }

    /// Frees what a task that will not be sent again has stored.
    pub(crate) fn discard(&self, payload: &Payload) {
        if let Payload::Block(block) = payload {
            free(&self.arena, block.offset);
        }
    }
}

fn worker_is_corrupted(worker: &Option<Worker>) -> bool {
    worker.as_ref().is_some_and(|worker| worker.is_corrupted)
}

fn free(arena: &Mutex<Arena>, offset: u64) {
    // Only what was allocated there is ever noted as lent or stored.
    let _ = arena.lock().unwrap_or_else(PoisonError::into_inner).free(offset);
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
    use ungil_shm::WorkerEnd;
    use ungil_shm::channel::TASK_SLOTS;

    use super::*;
    use crate::payload;

    /// A pool whose workers are in this thread.
    struct Bench {
        core: Core,
        arena: Arc<Mutex<Arena>>,
        workers: Vec<WorkerEnd>,
    }

    impl Bench {
        fn new(workers: u64) -> Bench {
            let arena = Arena::create_pool(1 << 26).expect("address space");
            let bell = arena.pool_bell().expect("a pool's arena");
            let arena = Arc::new(Mutex::new(arena));
            let settings = Settings {
                workers_max: 4,
                threads_per_worker: 1,
                starts_all: false,
                tasks_per_worker_max: None,
                is_spinning: false,
            };
            let mut bench = Bench {
                core: Core::new(settings, bell, arena.clone()),
                arena,
                workers: Vec::new(),
            };
            (1..=workers).for_each(|number| bench.add_worker(number));
            bench
        }

        fn add_worker(&mut self, number: u64) {
            let end = ParentEnd::create(TASK_SLOTS).expect("memory");
            let descriptor = end.descriptor().try_clone_to_owned().expect("a descriptor");
            let worker = WorkerEnd::open(descriptor).expect("it was made just now");
            worker.set_stage(Stage::Ready as u32);
            let view = Arc::new(View::create(1 << 26).expect("address space"));
            self.core.add_worker(Worker::new(number, end, view));
            self.core.pump();
            self.workers.push(worker);
        }

        fn submit(&mut self, parts: &[&[u8]]) -> Arc<Cell> {
            let payload = payload::store(&self.arena, parts).expect("memory");
            self.core.submit(Task { function: None, payload })
        }

        fn in_use(&self) -> u64 {
            self.arena.lock().expect("no panic").in_use_bytes()
        }

        /// What a worker is sent next: its slot, its key and where its data lies.
        fn take(&mut self, worker: usize) -> Option<(u32, u64, u64)> {
            let taken = self.workers[worker].tasks.take().expect("a sound ring");
            taken.map(|(slot, message)| (slot, message.words[0], message.words[4]))
        }

        fn answer(&mut self, worker: usize, slot: u32, key: u64) {
            let nothing = Payload::Inline(Inline::empty());
            let message = ResultMessage::message(key, Status::Returned, 1_000_000_000, &nothing);
            let worker = &mut self.workers[worker];
            worker.results.push(&message).expect("a sound ring").expect("room");
            worker.tasks.release(slot);
        }

        fn release(&mut self, worker: usize, offset: u64) {
            assert!(self.workers[worker].released.push(offset));
        }
    }

    fn returned(cell: &Cell) -> bool {
        matches!(cell.take(), Some(Outcome::Returned(_)))
    }

    #[test]
    fn a_block_given_back_before_the_answer_is_freed_once() {
        let mut bench = Bench::new(2);
        let first = bench.submit(&[&[1; 500]]);
        let (slot, key, offset) = bench.take(0).expect("it was sent");
        bench.release(0, offset);
        bench.core.pump();
        assert_eq!(bench.in_use(), 0, "nobody reads it any more");
        bench.answer(0, slot, key);
        bench.core.pump();
        assert!(returned(&first));
        // The block becomes the other worker's task's; the first worker's end must leave it alone.
        let keeps_busy = bench.submit(&[b"inline"]);
        let other = bench.submit(&[&[2; 500]]);
        let (_, _, again) = bench.take(1).expect("it was sent");
        assert_eq!(again, offset);
        let in_use = bench.in_use();
        bench.core.bury(1, None);
        assert_eq!(bench.in_use(), in_use);
        assert!(!other.is_over() && !keeps_busy.is_over());
        bench.core.bury(2, None);
        assert_eq!(bench.in_use(), 0);
        assert!(matches!(other.take(), Some(Outcome::Crashed(_))));
    }

    #[test]
    fn a_block_given_back_after_the_answer_or_never_is_freed_once() {
        let mut bench = Bench::new(1);
        for is_given_back in [true, false] {
            let cell = bench.submit(&[&[1; 500]]);
            let (slot, key, offset) = bench.take(0).expect("it was sent");
            bench.answer(0, slot, key);
            bench.core.pump();
            assert!(returned(&cell));
            assert_ne!(bench.in_use(), 0, "the worker may still read it");
            if is_given_back {
                bench.release(0, offset);
                bench.core.pump();
                assert_eq!(bench.in_use(), 0);
            }
        }
        bench.core.bury(1, None);
        assert_eq!(bench.in_use(), 0);
    }

    #[test]
    fn a_block_of_a_task_that_has_not_begun_cannot_be_given_back() {
        let mut bench = Bench::new(1);
        let running = bench.submit(&[&[1; 500]]);
        let waiting = bench.submit(&[&[2; 500]]);
        let (_, _, offset) = bench.take(0).expect("it was sent");
        let in_use = bench.in_use();
        let foreign = {
            let index = bench.core.workers[0].as_ref().expect("it lives");
            index.lent.keys().copied().find(|other| *other != offset).expect("both were sent")
        };
        bench.release(0, foreign);
        bench.core.pump();
        assert_eq!(bench.in_use(), in_use);
        bench.core.bury(1, None);
        assert!(matches!(running.take(), Some(Outcome::Failed(Failure::Corrupted { .. }))));
        // Its data is intact, and goes to the next worker.
        assert!(!waiting.is_over());
        bench.add_worker(2);
        assert_eq!(bench.take(1).map(|(_, _, offset)| offset), Some(foreign));
    }

    #[test]
    fn an_answer_not_taken_in_keeps_its_slot() {
        let mut bench = Bench::new(1);
        // Nothing need be armed then, so nobody looks at answers on the way.
        bench.core.is_caller_pumping = true;
        let first = bench.submit(&[b"first"]);
        let (slot, key, _) = bench.take(0).expect("it was sent");
        bench.answer(0, slot, key);
        for _ in 1..TASK_SLOTS {
            let cell = bench.submit(&[b"never"]);
            assert!(bench.core.cancel(cell.key()));
            assert!(cell.is_cancelled());
        }
        assert!(!first.is_over());
        let last = bench.submit(&[b"last"]);
        assert!(returned(&first), "there was room only after a look at the answers");
        let (slot, key, _) = bench.take(0).expect("it was sent");
        assert_eq!(key, last.key());
        bench.answer(0, slot, key);
        bench.core.pump();
        assert!(returned(&last));
        assert!(bench.core.ledger.is_empty());
    }

    #[test]
    fn an_idle_worker_gets_what_another_has_not_begun() {
        let mut bench = Bench::new(1);
        let cells: Vec<_> = (0..2).map(|_| bench.submit(&[b"task"])).collect();
        let (slot, key, _) = bench.take(0).expect("it was sent");
        assert_eq!(key, cells[0].key());
        bench.add_worker(2);
        bench.core.pump();
        assert_eq!(bench.take(1).map(|(_, key, _)| key), Some(cells[1].key()));
        assert_eq!(bench.take(0), None, "it was taken back");
        bench.answer(0, slot, key);
        bench.core.pump();
        assert!(returned(&cells[0]));
    }

    #[test]
    fn an_idle_worker_gets_no_more_than_it_may_run() {
        let mut bench = Bench::new(1);
        (0..100).for_each(|_| bench.core.credit.note(500));
        let cells: Vec<_> = (0..40).map(|_| bench.submit(&[b"task"])).collect();
        bench.core.settings.tasks_per_worker_max = Some(3);
        bench.add_worker(2);
        bench.core.pump();
        let sent = std::iter::from_fn(|| bench.take(1)).count();
        assert_eq!(sent, 3);
        assert!(cells.iter().all(|cell| !cell.is_over()));
    }

    #[test]
    fn who_has_no_right_to_an_answer_is_found_out() {
        let mut bench = Bench::new(2);
        let first = bench.submit(&[b"first"]);
        let second = bench.submit(&[b"second"]);
        let (slot, key, _) = bench.take(0).expect("it was sent");
        let (_, others, _) = bench.take(1).expect("it was sent");
        assert_eq!(others, second.key());
        bench.answer(0, slot, others);
        bench.core.pump();
        assert!(!second.is_over(), "the other worker runs it");
        // What it says from now on is not looked at.
        bench.answer(0, slot, key);
        bench.core.pump();
        assert!(!first.is_over());
        bench.core.bury(1, None);
        assert!(matches!(first.take(), Some(Outcome::Failed(Failure::Corrupted { .. }))));
    }

    #[test]
    fn a_worker_condemned_before_it_was_known_is_killed_when_it_is() {
        let mut bench = Bench::new(1);
        bench.workers[0].results.push(&ring::Message::plain([9; 6])).expect("sound");
        bench.core.pump();
        // SAFETY: the child only waits.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
        }
        let child = Pid::from_raw(pid).expect("a child has a number");
        let descriptor = pidfd_open(child, PidfdFlags::empty()).expect("it lives");
        bench.core.started(1, pid as u32, descriptor);
        let ended = waitpid(Some(child), WaitOptions::empty()).expect("it is our child");
        assert_eq!(ended.expect("waited for").1.terminating_signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn three_lost_zygotes_in_a_row_break_a_pool_and_two_do_not() {
        let mut bench = Bench::new(0);
        let cell = bench.submit(&[b"task"]);
        for round in 0..3 {
            assert!(!cell.is_over());
            for number in 1..=4 {
                let end = ParentEnd::create(TASK_SLOTS).expect("memory");
                let view = Arc::new(View::create(1 << 20).expect("address space"));
                bench.core.add_worker(Worker::new(10 * round + number, end, view));
            }
            bench.core.lose_zygote();
            assert!(bench.core.workers.iter().all(Option::is_none));
        }
        assert!(matches!(cell.take(), Some(Outcome::Failed(Failure::Broken(_)))));
        bench.core.settle();
        assert_eq!(bench.core.phase, Phase::Closed);
    }

    #[test]
    fn cancelled_tasks_do_not_pile_up_in_the_backlog() {
        let mut bench = Bench::new(0);
        let kept = bench.submit(&[b"kept"]);
        for _ in 0..10_000 {
            let cell = bench.submit(&[b"never"]);
            assert!(bench.core.cancel(cell.key()));
        }
        assert!(bench.core.backlog.len() < 1000);
        bench.add_worker(1);
        bench.core.pump();
        assert_eq!(bench.take(0).map(|(_, key, _)| key), Some(kept.key()));
        assert_eq!(bench.take(0), None);
    }
}
