//! Moving tasks to workers and results to cells: everything that is done under the pool's one lock.
//!
//! Whoever holds the lock may pump: a caller that waits, a caller that submits, the supervisor. None
//! of them takes Python's lock in here, and nothing in here waits.

mod burial;
mod dispatch;
mod intake;
mod member;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustc_hash::FxHashSet;
use ungil_shm::ring::SlotState;
use ungil_shm::{Arena, Bell};

use crate::cell::{Cell, Subscriber};
use crate::credit::Credit;
use crate::items::Growing;
use crate::ledger::{Chunk, Key, Ledger, Place};
use crate::message;
use crate::pool::Settings;
use crate::shared::{Holds, SharedArena};
use crate::task::Task;
use crate::waiter::Waiter;
use dispatch::Favourite;
pub use intake::LOG_BYTES;
pub use member::Member;

/// While tasks wait, one submit in so many looks whether there is room for them: workers that run out
/// of tasks ask for more themselves.
const LOOK_EVERY: u32 = 64;

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

/// The state of a pool.
pub struct Core {
    pub(crate) ledger: Ledger,
    pub(crate) backlog: VecDeque<Key>,
    pub(crate) workers: Vec<Option<Member>>,
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
    /// The program's arena of shared blocks.
    shared: Arc<SharedArena>,
    /// What the payloads in the pool's arena refer to.
    holds: Arc<Holds>,
    /// What the doorbell says the workers should do.
    armed: u32,
    /// Tasks about whose end somebody else than a caller wants to know.
    subscribed: FxHashSet<Key>,
    start_failures: u32,
    /// The most tasks that have been spoken of and not submitted.
    foreseen: usize,
    /// Tasks have ended since the sleeping caller was last told.
    has_news: bool,
    favourite: Favourite,
    /// Tasks taken for short wait behind others, though another worker may be idle. Then it is
    /// looked after whether they were short indeed.
    pub(crate) check_at: Option<Instant>,
    /// The supervisor has not been told of that.
    pub(crate) wants_check: bool,
    /// Workers that have more tasks than they can run at once.
    busy: usize,
    /// A chunk of which somebody still waits for something after the worker has sent: its slot.
    watched_again: Option<(u32, Key)>,
    /// Chunks that workers have.
    chunks_sent: usize,
    /// Items that have not ended.
    items_left: u64,
    /// Submits since somebody looked for room.
    submits: u32,
    /// There are as many workers as there may be, and none of them is about to end.
    is_complete: bool,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        bell: Bell,
        arena: Arc<Mutex<Arena>>,
        shared: Arc<SharedArena>,
        holds: Arc<Holds>,
    ) -> Core {
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
            shared,
            holds,
            armed: 0,
            subscribed: FxHashSet::default(),
            start_failures: 0,
            foreseen: 0,
            has_news: false,
            favourite: Favourite::default(),
            check_at: None,
            wants_check: false,
            busy: 0,
            watched_again: None,
            chunks_sent: 0,
            items_left: 0,
            submits: 0,
            is_complete: false,
        }
    }

    /// Adds a task and sends it, if a worker has room and no other task waits.
    pub(crate) fn submit(&mut self, task: Task) -> Arc<Cell> {
        let (key, cell) = self.ledger.add(task);
        if !self.backlog.is_empty() {
            self.backlog.push_back(key);
            self.submits += 1;
            if self.submits >= LOOK_EVERY {
                self.submits = 0;
                self.pump();
            }
        } else if !self.send_to_best(key) {
            self.backlog.push_back(key);
            self.pump();
        }
        self.settle();
        cell
    }

    /// Adds so many items to a batch. They join those that wait, if there are any: so a program that
    /// is slow in coming up with items has each sent at once, and a fast one many together.
    pub(crate) fn extend_items(&mut self, batch: &mut Growing, count: u32) {
        if count == 0 {
            return;
        }
        self.items_left += u64::from(count);
        batch.items.pace.add_waiting(count);
        let last = self.ledger.get_mut(batch.key).filter(|entry| entry.place == Place::Waiting);
        let last = last.and_then(|entry| entry.chunk());
        match last.filter(|chunk| chunk.first + chunk.count == batch.count) {
            Some(chunk) => chunk.count += count,
            None => {
                let (items, results) = (batch.items.clone(), batch.results.clone());
                let chunk = Chunk { items, results, first: batch.count, count, ended: 0 };
                batch.key = self.ledger.add_chunk(chunk);
                self.backlog.push_back(batch.key);
                self.pump();
            }
        }
        batch.count += count;
        self.settle();
    }

    /// How many tasks have not ended, each item being one.
    pub(crate) fn pending(&self) -> usize {
        // Of a chunk's entry the items count, and not itself; there are few such entries, but for
        // those who count on it the number is exact.
        let chunks = self.ledger.chunks();
        self.ledger.len() - chunks + self.items_left as usize
    }

    /// How many more workers the tasks could use.
    pub(crate) fn missing_workers(&mut self, more_tasks: usize) -> usize {
        if self.phase == Phase::Closed || self.broken.is_some() {
            return 0;
        }
        let most = self.settings.workers_max as usize;
        if self.is_complete {
            return 0;
        }
        let threads = self.settings.threads_per_worker as usize;
        let members = self.workers.iter().flatten();
        let staying = members.clone().filter(|member| !member.is_stopping).count();
        self.is_complete = staying >= most;
        let workers = members.filter(|member| member.is_counted()).count();
        let tasks = self.pending() + more_tasks;
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
    pub(crate) fn needs_worker(&mut self) -> bool {
        self.missing_workers(self.foreseen) > 0
    }

    /// Adds a worker that is about to be started.
    pub(crate) fn add_worker(&mut self, mut worker: Member) {
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
    fn member_mut(&mut self, number: u64) -> Option<&mut Member> {
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
        // Short tasks that wait behind one another are checked instead, or every worker that runs
        // out of them would wake the supervisor.
        let is_busy = self.busy > 0 && self.check_at.is_none();
        if !self.backlog.is_empty() || is_busy || self.chunks_sent > 0 {
            wanted |= message::REFILL;
        }
        if !self.subscribed.is_empty() || self.phase == Phase::Closing {
            wanted |= message::EVERY_COMMIT;
        }
        wanted
    }

    /// Notes that somebody else than a caller wants to know of a task's end.
    pub(crate) fn subscribe(&mut self, key: Key) {
        if self.ledger.get_mut(key).is_some() {
            self.subscribed.insert(key);
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

    /// Frees the payload of a task, and lets go of what it refers to.
    fn free(&self, payload: u64) {
        // First: then the block may become another payload's.
        let holds = self.holds.take(payload);
        // Only what was allocated there is ever noted as lent or stored.
        let _ = self.arena.lock().unwrap_or_else(PoisonError::into_inner).free(payload);
        drop(holds);
    }
}

#[cfg(test)]
mod hot_paths;
#[cfg(test)]
mod tests;
