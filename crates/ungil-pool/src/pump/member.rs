//! A worker, as the parent sees it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use rustix::process::{Signal, pidfd_send_signal};
use ungil_shm::{Control, ParentEnd, View, Wish, offsets, ring};

use crate::items::Items;
use crate::ledger::Key;
use crate::lent::Returns;
use crate::message::{self, Stage};

/// A worker of the pool, from before it is started until it is buried.
pub struct Member {
    /// Never used twice in a pool.
    pub number: u64,
    /// Process number and descriptor, once it was started.
    pub process: Option<(u32, Arc<OwnedFd>)>,
    pub(super) control: Control,
    pub(super) tasks: ring::Producer,
    pub(super) results: ring::Consumer,
    pub(super) released: offsets::Consumer,
    pub(super) view: Arc<View>,
    pub(super) returns: Arc<Returns>,
    pub(super) stage: Stage,
    /// The tasks in its ring, by slot; 0 is none.
    pub(super) sent: Vec<Key>,
    /// Slots in the order of sending; may hold some that have been answered.
    pub(super) order: VecDeque<u32>,
    /// Tasks that were sent and have no outcome.
    pub(super) outstanding: u32,
    /// How often its ring was written to, which says where the next task goes.
    pub(super) sent_total: u64,
    /// How many tasks it was sent, each item of a chunk being one.
    pub(super) tasks_total: u64,
    /// How many of them have left it, and how many had when it was checked last.
    pub(super) ended_total: u64,
    pub(super) checked: u64,
    /// It had ended none since the check before.
    pub(super) is_stuck: bool,
    /// Blocks of the pool's arena that it has, and the tasks that they came with.
    pub(super) lent: FxHashMap<u64, Key>,
    /// Items that it may read until it has ended, though nobody wants their results any more.
    pub(super) read: Vec<Arc<Items>>,
    pub(super) is_stopping: bool,
    pub(super) is_corrupted: bool,
    /// Its zygote has ended, so the kernel ends it, however far it has come.
    pub(super) is_orphan: bool,
    /// A signal that came before its process was known.
    pub(super) owed: Option<Signal>,
    /// Why its initializer failed.
    pub(super) failure: Option<Arc<str>>,
    /// The wish for which its doorbell was rung last: it need not be rung twice.
    rung_for: Wish,
}

impl Member {
    /// A worker that is about to be started.
    pub fn new(number: u64, end: ParentEnd, view: Arc<View>) -> Member {
        let control = end.control();
        let ParentEnd { tasks, results, released, returning, .. } = end;
        Member {
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
            tasks_total: 0,
            ended_total: 0,
            checked: 0,
            is_stuck: false,
            lent: FxHashMap::default(),
            read: Vec::new(),
            is_stopping: false,
            is_corrupted: false,
            is_orphan: false,
            owed: None,
            failure: None,
            tasks,
            results,
            released,
            rung_for: Wish::default(),
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

    /// Whether it may be sent another task, where it may hold so many.
    pub(super) fn has_room(&self, limit: u32, tasks_max: Option<u64>) -> bool {
        self.stage == Stage::Ready
            && !self.is_stopping
            && !self.is_corrupted
            // There must be room for the results of all of them.
            && self.outstanding < limit.min(self.tasks.capacity())
            && tasks_max.is_none_or(|most| self.tasks_total < most)
    }

    /// Whether it seems to sleep, so that a task sent to it now costs a wake-up.
    pub(super) fn seems_asleep(&self) -> bool {
        self.control.bell().seems_armed()
    }

    /// Wakes it, if it sleeps and was not woken yet.
    pub(super) fn wake(&mut self) {
        let wish = self.control.bell().wish();
        if wish.bits() != 0 && wish != self.rung_for {
            self.rung_for = wish;
            self.control.bell().ring();
        }
    }

    /// Wakes it if it waits for room in its ring of results, of which there is some now.
    pub(super) fn tell_of_room(&self) {
        if self.control.room().wanted() != 0 {
            self.control.room().ring();
        }
    }

    pub(super) fn stop(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.control.set_flag(message::STOP);
            self.control.bell().ring_all();
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |(pid, _)| *pid)
    }

    /// What it wrote is not what a worker writes: it is ended, and its tasks with it.
    pub(super) fn corrupted(&mut self) {
        self.is_corrupted = true;
        self.signal(Signal::KILL);
    }
}
