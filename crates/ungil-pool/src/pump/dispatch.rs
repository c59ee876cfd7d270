//! Which worker gets which task, and when.

use std::time::{Duration, Instant};

use ungil_shm::Span;
use ungil_shm::ring::Message;

use super::{Core, Member};
use crate::ledger::{Chunk, Key, Place, Work};
use crate::message::TaskMessage;
use crate::payload::Payload;

/// So much work, in ns, may wait behind what a worker runs before another one is woken: about what
/// waking it costs, and less than the time until it runs.
const WAKE_NS: f64 = 10_000.0;
/// How long tasks may wait behind others that were taken for short while a worker is idle.
const CHECK_AFTER: Duration = Duration::from_millis(1);
/// With less work than this, in ns, before it, a worker that gets on is left its short tasks.
const MOVE_NS: f64 = 5.0 * WAKE_NS;
/// So many tasks more go to the same worker when all have that much to do.
const TURN: u32 = 16;

/// The worker that tasks are sent to while it pays not to look for another one.
#[derive(Debug, Default)]
pub(super) struct Favourite {
    index: usize,
    /// It may hold so many tasks before another one is looked for.
    limit: u32,
}

impl Core {
    /// Sends a task, if a worker has room.
    pub(super) fn send_to_best(&mut self, key: Key) -> bool {
        self.choose().is_some_and(|index| self.send(index, key))
    }

    /// The worker that a task should be sent to.
    ///
    /// One that is idle, so that the task begins at once; among several one that is awake. But tasks
    /// so short that a worker's being woken takes longer wait behind another one, and so do they
    /// when all CPUs but the caller's have a worker that is awake: one more would take their time.
    fn choose(&mut self) -> Option<usize> {
        let threads = self.settings.threads_per_worker;
        let limit = self.credit.limit(threads);
        let tasks_max = self.settings.tasks_per_worker_max;
        let Favourite { index, limit: turn } = self.favourite;
        if let Some(Some(member)) = self.workers.get(index)
            && member.outstanding < turn
            && member.has_room(limit, tasks_max)
            && !member.seems_asleep()
        {
            if member.outstanding >= threads {
                self.check_later();
            }
            return Some(index);
        }
        let short = self.credit.within(WAKE_NS) * threads;
        let mut awake = 0;
        let mut best: Option<((u32, bool), usize)> = None;
        let mut best_awake: Option<(u32, usize)> = None;
        for (index, member) in self.workers.iter().enumerate() {
            let Some(member) = member else { continue };
            let is_asleep = member.seems_asleep();
            awake += u32::from(!is_asleep && member.outstanding > 0);
            if member.has_room(limit, tasks_max) {
                let rank = (member.outstanding, is_asleep);
                if best.is_none_or(|(other, _)| rank < other) {
                    best = Some((rank, index));
                }
                if !is_asleep && best_awake.is_none_or(|(other, _)| rank.0 < other) {
                    best_awake = Some((rank.0, index));
                }
            }
        }
        let is_crowded = short > 0 && awake + 1 >= self.settings.cpus;
        let index = match (best, best_awake) {
            (Some(_), Some((_, index))) if is_crowded => index,
            (Some((_, index)), _) => index,
            (None, _) => return None,
        };
        let outstanding = self.workers[index].as_ref().map_or(0, |member| member.outstanding);
        let turn = if short == 0 { threads } else { short.max(outstanding + TURN) };
        self.favourite = Favourite { index, limit: turn };
        if short > 0 && outstanding >= threads {
            self.check_later();
        }
        Some(index)
    }

    /// Has it looked after a little later that tasks which wait behind another one were rightly taken
    /// for short. Also where a caller pumps: it may be asleep.
    pub(crate) fn check_later(&mut self) {
        if self.check_at.is_none() {
            self.check_at = Some(Instant::now() + CHECK_AFTER);
            self.wants_check = true;
        }
    }

    /// Sends a task to a worker; `false` if it has no room after all.
    fn send(&mut self, index: usize, key: Key) -> bool {
        let (Some(entry), Some(member)) = (self.ledger.get_mut(key), self.workers[index].as_mut())
        else {
            return false;
        };
        // A slot can be empty while the answer to what was in it has not been taken in.
        let slot = member.sent_total % member.sent.len() as u64;
        if member.sent[slot as usize] != 0 {
            return false;
        }
        let Some(message) = message(key, &entry.work) else { return false };
        let slot = match member.tasks.push(&message) {
            Ok(Some(slot)) => slot,
            Ok(None) => return false,
            Err(_) => {
                member.corrupted();
                return false;
            }
        };
        entry.place = Place::Sent { worker: index, slot };
        match &entry.work {
            Work::Call { task, .. } => {
                if let Payload::Block(block) = &task.payload {
                    member.lent.insert(block.offset, key);
                }
                member.tasks_total += 1;
            }
            Work::Chunk(chunk) => {
                chunk.items.pace.remove_waiting(chunk.count);
                self.chunks_sent += 1;
                member.tasks_total += u64::from(chunk.count);
            }
        }
        member.sent[slot as usize] = key;
        member.order.push_back(slot);
        member.sent_total += 1;
        member.outstanding += 1;
        if member.outstanding == self.settings.threads_per_worker + 1 {
            self.busy += 1;
        }
        member.wake();
        if self.settings.tasks_per_worker_max.is_some_and(|most| member.tasks_total >= most) {
            // It runs what it has and then ends; the supervisor starts another.
            member.stop();
            self.is_complete = false;
        }
        true
    }

    /// Gives workers what waits, as far as they have room.
    pub(super) fn refill(&mut self) {
        while let Some(limit) = self.limit_for_next() {
            let tasks_max = self.settings.tasks_per_worker_max;
            let has_room = |member: &&Member| member.has_room(limit, tasks_max);
            let with_room = self.workers.iter().flatten().filter(has_room).count();
            if with_room == 0 {
                return;
            }
            let share = self.backlog.len().div_ceil(with_room);
            let mut is_progress = false;
            for index in 0..self.workers.len() {
                for _ in 0..share {
                    let Some(limit) = self.limit_for_next() else { return };
                    let member = self.workers[index].as_ref();
                    let has_room = member.is_some_and(|it| it.has_room(limit, tasks_max));
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

    /// How many tasks a worker may hold to be sent the first one that waits; `None` if none does.
    fn limit_for_next(&mut self) -> Option<u32> {
        let threads = self.settings.threads_per_worker;
        loop {
            let key = *self.backlog.front()?;
            match self.ledger.get_mut(key).filter(|entry| entry.place == Place::Waiting) {
                Some(entry) => {
                    return Some(match entry.work {
                        Work::Call { .. } => self.credit.limit(threads),
                        // One behind those that run.
                        Work::Chunk(_) => threads + 1,
                    });
                }
                // It was cancelled, or sent before its turn.
                None => self.backlog.pop_front(),
            };
        }
    }

    /// Sends the first task of the backlog, or the first items of it.
    fn send_next(&mut self, index: usize) -> bool {
        let Some(key) = self.backlog.front().copied() else { return false };
        let Some(part) = self.split_off(index, key) else {
            let is_sent = self.send(index, key);
            if is_sent {
                self.backlog.pop_front();
            }
            return is_sent;
        };
        if self.send(index, part) {
            return true;
        }
        // The ring had no room after all: they wait on, before the others.
        self.backlog.push_front(part);
        false
    }

    /// Makes the first items of a long chunk a task of their own.
    fn split_off(&mut self, index: usize, key: Key) -> Option<Key> {
        let member = self.workers[index].as_ref()?;
        let most = self.settings.tasks_per_worker_max;
        let left = most.map_or(u64::MAX, |most| most.saturating_sub(member.tasks_total));
        let chunk = self.ledger.get_mut(key)?.chunk()?;
        let count = chunk.items.pace.chunk(self.settings.workers_max);
        let count = count.min(left.try_into().unwrap_or(u32::MAX));
        if count >= chunk.count {
            return None;
        }
        let part = Chunk { count, ..chunk.clone() };
        chunk.first += count;
        chunk.count -= count;
        Some(self.ledger.add_chunk(part))
    }

    /// Takes tasks back from busy workers for idle ones.
    pub(super) fn balance(&mut self) {
        if self.busy == 0 && self.chunks_sent == 0 {
            return;
        }
        let threads = self.settings.threads_per_worker;
        let tasks_max = self.settings.tasks_per_worker_max;
        for idle in 0..self.workers.len() {
            let is_idle =
                self.workers[idle].as_ref().is_some_and(|it| it.has_room(threads, tasks_max));
            if is_idle && !self.move_tasks(idle) {
                self.move_items(idle);
            }
        }
    }

    /// Gives an idle worker half of what the busiest one has not begun; `false` if it has none.
    fn move_tasks(&mut self, idle: usize) -> bool {
        if self.busy == 0 {
            return false;
        }
        let threads = self.settings.threads_per_worker;
        let limit = self.credit.limit(threads);
        let tasks_max = self.settings.tasks_per_worker_max;
        let members = self.workers.iter().enumerate();
        let busiest = members
            .filter_map(|(index, member)| Some((index, member.as_ref()?)))
            .max_by_key(|(_, member)| (member.is_stuck, member.outstanding));
        let Some((busiest, member)) = busiest else { return false };
        let outstanding = member.outstanding;
        // Waking somebody for a few short tasks takes longer than they do. If the one that they wait
        // behind is not short, that shows when the worker is checked.
        if outstanding <= self.credit.within(MOVE_NS) * threads && !member.is_stuck {
            if outstanding > threads {
                self.check_later();
            }
            return false;
        }
        let mut is_moved = false;
        for _ in 0..outstanding.saturating_sub(threads).div_ceil(2) {
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
            is_moved = true;
        }
        is_moved
    }

    /// Looks which workers have ended no task since the last time, though more wait there: these are
    /// not short after all, and go to whoever is idle, now or as soon as somebody is.
    ///
    /// # Returns
    /// Whether others that got on have tasks waiting, which should be looked at again.
    pub(crate) fn check(&mut self) -> bool {
        let threads = self.settings.threads_per_worker;
        let mut is_waiting = false;
        for member in self.workers.iter_mut().flatten() {
            member.is_stuck = member.outstanding > threads && member.ended_total == member.checked;
            member.checked = member.ended_total;
            is_waiting |= member.outstanding > threads && !member.is_stuck;
        }
        is_waiting
    }

    /// Takes back the task that a worker was sent last, if it has not begun it.
    fn take_back(&mut self, index: usize) -> Option<Key> {
        let member = self.workers[index].as_mut()?;
        loop {
            let slot = member.order.pop_back()?;
            let key = member.sent[slot as usize];
            if key == 0 {
                continue;
            }
            if !member.tasks.revoke(slot) {
                member.order.push_back(slot);
                return None;
            }
            self.detach(index, slot);
            return Some(key);
        }
    }

    /// Gives an idle worker half of the items that another one has not begun.
    fn move_items(&mut self, idle: usize) {
        if self.chunks_sent == 0 {
            return;
        }
        let ledger = &mut self.ledger;
        let mut longest: Option<(u32, usize, Key, Span)> = None;
        for (index, member) in self.workers.iter().enumerate() {
            let Some(member) = member.as_ref().filter(|it| !it.is_corrupted) else { continue };
            for slot in member.order.iter().copied() {
                let key = member.sent[slot as usize];
                if ledger.get_mut(key).is_some_and(|entry| entry.chunk().is_some())
                    && let Some(span) = member.tasks.span(slot)
                {
                    let (limit, next) = span.range();
                    let unclaimed = limit.saturating_sub(next);
                    if longest.as_ref().is_none_or(|(most, ..)| unclaimed > *most) {
                        longest = Some((unclaimed, index, key, span));
                    }
                }
            }
        }
        let Some((_, index, key, span)) = longest else { return };
        // The one item that is left may be long, and so it too goes to who is idle now.
        let Some((before, now)) = span.cut(|unclaimed| unclaimed / 2) else { return };
        let Some(chunk) = self.ledger.get_mut(key).and_then(|entry| entry.chunk()) else { return };
        if before != chunk.count {
            // The limit is the parent's to write.
            if let Some(member) = self.workers[index].as_mut() {
                member.corrupted();
            }
            return;
        }
        let moved =
            Chunk { first: chunk.first + now, count: before - now, ended: 0, ..chunk.clone() };
        chunk.count = now;
        moved.items.pace.add_waiting(moved.count);
        if let Some(member) = self.workers[index].as_mut() {
            member.tasks_total -= u64::from(moved.count);
        }
        let moved = self.ledger.add_chunk(moved);
        if !self.send(idle, moved) {
            self.backlog.push_front(moved);
        }
    }

    /// Notes that a slot of a worker no longer holds a task.
    pub(super) fn detach(&mut self, index: usize, slot: u32) {
        let Some(member) = self.workers[index].as_mut() else { return };
        let key = std::mem::take(&mut member.sent[slot as usize]);
        if member.outstanding == self.settings.threads_per_worker + 1 {
            self.busy -= 1;
        }
        member.outstanding -= 1;
        member.ended_total += 1;
        while member.order.front().is_some_and(|slot| member.sent[*slot as usize] == 0) {
            member.order.pop_front();
        }
        let Some(entry) = self.ledger.get_mut(key) else { return };
        entry.place = Place::Waiting;
        match &entry.work {
            Work::Call { task, .. } => {
                if let Payload::Block(block) = &task.payload {
                    member.lent.remove(&block.offset);
                }
            }
            Work::Chunk(chunk) => {
                self.chunks_sent -= 1;
                chunk.items.pace.add_waiting(chunk.count - chunk.ended);
            }
        }
    }
}

fn message(key: Key, work: &Work) -> Option<Message> {
    match work {
        Work::Call { task, .. } => {
            let function = task.function.as_ref();
            let function = function.map(|function| (function.number(), function.block()));
            Some(TaskMessage::message(key, function, &task.payload))
        }
        Work::Chunk(Chunk { items, results, first, count, .. }) => {
            let is_watched = results.is_watched(*first, *count);
            TaskMessage::items_message(key, items, *first, *count, is_watched)
        }
    }
}
