//! Ends: of a task that is cancelled, of a worker, of its zygote, of the pool.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::Signal;
use ungil_shm::ring::SlotState;

use super::intake::read_log;
use super::{Cancel, Core, Member, Phase, START_FAILURES_MAX};
use crate::cell::{Crash, Ending, Failure, Outcome};
use crate::items::{Results, Run, RunOutcome};
use crate::ledger::{Chunk, Key, Place, Work};
use crate::message::Stage;
use crate::payload::Payload;

impl Core {
    /// Takes a task back for good, if no worker has begun it.
    pub(crate) fn cancel(&mut self, key: Key) -> bool {
        if !self.withdraw(key) {
            return false;
        }
        if let Some(entry) = self.remove(key) {
            self.has_news = true;
            match entry.work {
                Work::Call { task, cell } => {
                    self.discard(&task.payload);
                    self.calls.extend(cell.cancel());
                }
                Work::Chunk(chunk) => self.end_items(&chunk, RunOutcome::Cancelled),
            }
            self.forget_cancelled();
        }
        true
    }

    /// Takes a task back from its worker, if that has not begun it.
    fn withdraw(&mut self, key: Key) -> bool {
        match self.ledger.get_mut(key).map(|entry| entry.place) {
            None => false,
            Some(Place::Waiting) => true,
            Some(Place::Sent { worker: index, slot }) => {
                let Some(member) = self.workers[index].as_ref() else { return false };
                if !member.tasks.revoke(slot) {
                    return false;
                }
                self.detach(index, slot);
                true
            }
        }
    }

    /// Cancels the items of a batch that no worker has begun.
    pub(crate) fn cancel_items(&mut self, results: &Arc<Results>) {
        let sent = self.workers.iter().flatten().flat_map(|member| {
            member.order.iter().map(|slot| member.sent[*slot as usize]).filter(|key| *key != 0)
        });
        let keys: Vec<Key> = sent.chain(self.backlog.iter().copied()).collect();
        for key in keys {
            let chunk = self.ledger.get_mut(key).and_then(|entry| entry.chunk());
            if chunk.is_some_and(|chunk| Arc::ptr_eq(&chunk.results, results)) && !self.cancel(key)
            {
                self.cancel_rest(key);
            }
        }
    }

    /// Cancels the items of a chunk that its worker has not begun.
    fn cancel_rest(&mut self, key: Key) {
        let Some(entry) = self.ledger.get_mut(key) else { return };
        let Place::Sent { worker: index, slot } = entry.place else { return };
        let Some(chunk) = entry.chunk() else { return };
        let Some(member) = self.workers[index].as_mut() else { return };
        let Some((before, now)) = member.tasks.span(slot).and_then(|span| span.cut(|_| 0)) else {
            return;
        };
        if before != chunk.count || now < chunk.ended {
            member.corrupted();
            return;
        }
        chunk.count = now;
        let count = before - now;
        let run = Run { first: chunk.first + now, count, outcome: RunOutcome::Cancelled };
        chunk.results.deliver(run);
        self.items_left -= u64::from(count);
        self.has_news = true;
    }

    /// Takes out of the backlog what was cancelled, once that is most of it: with all workers busy
    /// for long, nobody else would.
    fn forget_cancelled(&mut self) {
        if self.backlog.len() > 100 + 2 * self.ledger.len() {
            let ledger = &mut self.ledger;
            self.backlog.retain(|key| ledger.get_mut(*key).is_some());
        }
    }

    /// Takes no more tasks.
    pub(crate) fn close(&mut self, cancel: Cancel) {
        self.phase = self.phase.max(Phase::Closing);
        if cancel == Cancel::Nothing {
            return;
        }
        let mut kept = 0;
        if cancel == Cancel::Unassigned {
            let members = self.workers.iter().flatten().filter(|member| member.is_counted());
            kept = members.count() * self.settings.threads_per_worker as usize;
        }
        // Those that were sent come first, in the order of sending; what is begun cannot be
        // cancelled, and is what its worker is left.
        let sent = self.workers.iter().flatten().flat_map(|member| {
            member.order.iter().map(|slot| member.sent[*slot as usize]).filter(|key| *key != 0)
        });
        let keys: Vec<Key> = sent.chain(self.backlog.iter().copied()).collect();
        let mut unbegun = Vec::new();
        for key in keys {
            if self.is_running(key) {
                kept = kept.saturating_sub(1);
                self.cancel_rest(key);
            } else if self.ledger.get_mut(key).is_some() {
                unbegun.push(key);
            }
        }
        for key in unbegun {
            kept -= self.keep(key, kept);
        }
    }

    /// Cancels a task that has not begun, or all items of it but so many.
    ///
    /// # Returns
    /// How many were kept.
    fn keep(&mut self, key: Key, most: usize) -> usize {
        let count = match self.ledger.get_mut(key).map(|entry| &entry.work) {
            Some(Work::Chunk(chunk)) => chunk.count as usize,
            _ => 1,
        };
        if most >= count {
            return count;
        }
        if most == 0 || !self.withdraw(key) {
            self.cancel(key);
            return 0;
        }
        let Some(chunk) = self.ledger.get_mut(key).and_then(|entry| entry.chunk()) else {
            return 0;
        };
        let kept = most as u32;
        let rest = Chunk { first: chunk.first + kept, count: chunk.count - kept, ..chunk.clone() };
        chunk.count = kept;
        rest.items.pace.remove_waiting(rest.count);
        self.end_items(&rest, RunOutcome::Cancelled);
        if !self.backlog.contains(&key) {
            self.backlog.push_front(key);
        }
        most
    }

    /// Fails every task, for a reason that concerns all of them.
    pub(crate) fn break_down(&mut self, reason: Arc<str>) {
        if self.broken.is_some() {
            return;
        }
        self.broken = Some(reason.clone());
        self.phase = self.phase.max(Phase::Closing);
        self.backlog.clear();
        let drained = self.ledger.drain();
        for member in self.workers.iter_mut().flatten() {
            member.stop();
            member.signal(Signal::KILL);
            member.sent.fill(0);
            member.order.clear();
            member.outstanding = 0;
        }
        self.is_complete = false;
        self.busy = 0;
        self.chunks_sent = 0;
        self.subscribed.clear();
        for mut entry in drained {
            if entry.place == Place::Waiting
                && let Some(task) = entry.task()
            {
                self.discard(&task.payload);
            }
            if let (Place::Sent { worker, .. }, Some(chunk)) = (entry.place, entry.chunk())
                && let Some(member) = self.workers[worker].as_mut()
            {
                // It may read them until it has ended.
                member.read.push(chunk.items.clone());
            }
            self.deliver(entry, Outcome::Failed(Failure::Broken(reason.clone())));
        }
    }

    /// Takes a worker that has ended out of the pool. What it finished is delivered, what it had not
    /// begun goes back to the backlog, and what it was running has crashed.
    pub(crate) fn bury(&mut self, number: u64, ending: Option<Ending>) {
        let place = |it: &Option<Member>| it.as_ref().is_some_and(|it| it.number == number);
        let Some(index) = self.workers.iter().position(place) else { return };
        self.tell_starters();
        self.drain(index);
        let Some(member) = self.workers[index].as_ref() else { return };
        let pid = member.pid();
        let crash = if member.is_corrupted {
            Crashing::Corrupted { pid }
        } else {
            Crashing::Ended(Crash { pid, ending })
        };
        let mut unbegun = Vec::new();
        for slot in member.order.clone() {
            let Some(member) = self.workers[index].as_ref() else { return };
            let key = member.sent[slot as usize];
            if key == 0 {
                continue;
            }
            let is_begun = member.tasks.state(slot) != Ok(SlotState::Ready);
            if is_begun && self.ledger.get_mut(key).is_some_and(|entry| entry.chunk().is_some()) {
                unbegun.extend(self.bury_items(index, slot, key, crash));
            } else if is_begun {
                // What it was called with stays noted as lent, and is freed below.
                if let Some(entry) = self.remove(key) {
                    self.deliver(entry, crash.outcome());
                }
            } else {
                self.detach(index, slot);
                unbegun.push(key);
            }
        }
        if let Some(member) = self.workers[index].take() {
            self.is_complete = false;
            if member.outstanding > self.settings.threads_per_worker {
                self.busy -= 1;
            }
            // They were submitted before everything that waits.
            for key in unbegun.into_iter().rev() {
                self.backlog.push_front(key);
            }
            for offset in member.lent.keys() {
                self.free(*offset);
            }
            let how = ending.map_or("ended".to_owned(), |ending| ending.to_string());
            match (member.stage, member.failure) {
                (Stage::Ready, _) => {}
                (_, Some(failure)) => self.break_down(failure),
                (Stage::Failed, None) => self.break_down(
                    format!("the initializer failed in process {pid}, which {how}").into(),
                ),
                (Stage::Starting, None) if member.is_orphan => {}
                (Stage::Starting, None) => self.start_failed(&format!("process {pid}, {how}")),
            }
        }
    }

    /// Parts a chunk that a dead worker had begun: finished items are delivered, the one that was
    /// running has crashed.
    ///
    /// # Returns
    /// The key of the items that had not begun.
    fn bury_items(&mut self, index: usize, slot: u32, key: Key, crash: Crashing) -> Option<Key> {
        let member = self.workers[index].as_ref()?;
        let span = member.tasks.span(slot)?;
        let chunk = self.ledger.get_mut(key)?.chunk()?;
        let (limit, next) = span.range();
        let mut is_sound = matches!(crash, Crashing::Ended(_)) && limit == chunk.count;
        if is_sound {
            match read_log(member, chunk, span.progress()) {
                Ok(Some(finished)) => self.items_left -= finished.deliver(chunk),
                Ok(None) => {}
                Err(_) => is_sound = false,
            }
        }
        self.has_news = true;
        let ended = chunk.ended;
        // One item at most was begun and not finished. It need not be in the log: a result that
        // has no room there is sent by itself.
        let is_sound = is_sound && next >= ended && next.min(chunk.count) <= ended + 1;
        if !is_sound {
            let left = chunk.count - chunk.ended;
            chunk.items.pace.remove_waiting(left);
            self.detach(index, slot);
            let entry = self.remove(key)?;
            self.deliver(entry, crash.outcome());
            return None;
        }
        if next > ended && ended < chunk.count {
            let outcome = RunOutcome::Ended(crash.outcome());
            chunk.results.deliver(Run { first: chunk.first + ended, count: 1, outcome });
            chunk.ended += 1;
            self.items_left -= 1;
        }
        let left = chunk.count - chunk.ended;
        if left > 0 {
            chunk.first += chunk.ended;
            chunk.count = left;
            chunk.ended = 0;
        }
        self.detach(index, slot);
        if left == 0 {
            self.remove(key);
            return None;
        }
        Some(key)
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
        let members = self.workers.iter_mut().flatten();
        let mut is_starting = false;
        let mut unstarted = Vec::new();
        for member in members {
            member.is_orphan = true;
            is_starting |= member.stage == Stage::Starting;
            if member.process.is_none() {
                unstarted.push(member.number);
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
        let Some(member) = self.member_mut(number) else { return };
        member.process = Some((pid, Arc::new(descriptor)));
        // It may have been condemned when it could not yet be killed.
        if is_broken || member.is_corrupted {
            member.signal(Signal::KILL);
        } else if let Some(signal) = member.owed.take() {
            member.signal(signal);
        }
        self.tell_starters();
    }

    pub(super) fn advance(&mut self) {
        if self.phase != Phase::Closing || !self.ledger.is_empty() {
            return;
        }
        self.workers.iter_mut().flatten().for_each(Member::stop);
        self.is_complete = false;
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
            self.free(block.offset);
        }
    }
}

/// What has become of what a worker had begun.
#[derive(Clone, Copy)]
enum Crashing {
    Ended(Crash),
    Corrupted { pid: u32 },
}

impl Crashing {
    fn outcome(self) -> Outcome {
        match self {
            Crashing::Ended(crash) => Outcome::Crashed(crash),
            Crashing::Corrupted { pid } => Outcome::Failed(Failure::Corrupted { pid }),
        }
    }
}
