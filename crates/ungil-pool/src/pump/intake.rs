//! What workers have written: answers, and blocks that they give back.

use std::sync::Arc;

use ungil_shm::ring::{Message, SlotState};
use ungil_shm::span::Progress;

use super::{Core, Member};
use crate::cell::{Outcome, Received};
use crate::items::{Logged, Results, Run, RunOutcome};
use crate::ledger::{Chunk, Entry, Key, Place, Work};
use crate::lent::Lent;
use crate::message::{self, ResultMessage, Stage, Status};
use crate::payload::{Inline, Payload};

/// No worker's log is longer, in bytes.
pub const LOG_BYTES: u64 = 64 << 10;

/// What a worker did is not what a worker does.
pub(super) struct Corrupted;

impl Core {
    /// Takes in everything that a worker has written.
    pub(super) fn drain(&mut self, index: usize) -> bool {
        let mut is_progress = false;
        loop {
            let Some(member) = self.workers[index].as_mut() else { return is_progress };
            if member.is_corrupted {
                return is_progress;
            }
            match member.results.take() {
                Ok(None) => match self.watched_again.take() {
                    // Before that is seen, the worker may have finished more.
                    Some((slot, key)) => self.look_into_log(index, slot, key),
                    None => break,
                },
                Err(_) => {
                    member.corrupted();
                    return is_progress;
                }
                Ok(Some((slot, message))) => {
                    member.results.release(slot);
                    is_progress = true;
                    if self.take_in(index, &message).is_err()
                        && let Some(member) = self.workers[index].as_mut()
                    {
                        member.corrupted();
                    }
                }
            }
        }
        let Some(member) = self.workers[index].as_mut() else { return is_progress };
        if is_progress {
            member.tell_of_room();
        }
        if member.stage == Stage::Starting {
            member.stage = Stage::from_number(member.control.stage());
            if member.stage == Stage::Ready {
                self.start_failures = 0;
                is_progress = true;
            }
        }
        while let Some(member) = self.workers[index].as_mut()
            && let Some(offset) = member.released.pop()
        {
            if !self.take_block_back(index, offset) {
                if let Some(member) = self.workers[index].as_mut() {
                    member.corrupted();
                }
                return is_progress;
            }
        }
        is_progress
    }

    /// Frees a block that a worker gives back; `false` if it was not the worker's to give.
    fn take_block_back(&mut self, index: usize, offset: u64) -> bool {
        let Some(member) = self.workers[index].as_mut() else { return false };
        let Some(key) = member.lent.get(&offset).copied() else { return false };
        if let Some(entry) = self.ledger.get_mut(key) {
            if let Place::Sent { slot, .. } = entry.place
                && member.tasks.state(slot) == Ok(SlotState::Ready)
            {
                // Another worker may yet need it.
                return false;
            }
            // The task has read its data and goes on. When it is answered, or crashes, the block
            // may be another task's.
            if let Some(task) = entry.task() {
                task.payload = Payload::Inline(Inline::empty());
            }
        }
        member.lent.remove(&offset);
        self.free(offset);
        true
    }

    fn take_in(&mut self, index: usize, message: &Message) -> Result<(), Corrupted> {
        let Some(member) = self.workers[index].as_mut() else { return Ok(()) };
        let result = ResultMessage::read(message);
        let received = match result.block {
            Some(block) => {
                let (view, returns) = (member.view.clone(), member.returns.clone());
                Received::Lent(match result.status {
                    // A log has no table.
                    Some(Status::Items) => Lent::new(view, returns, block),
                    // Now, while the worker still holds what it refers to.
                    _ => Lent::from_worker(view, returns, block, &self.shared).ok_or(Corrupted)?,
                })
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
                member.failure = Some(text.into());
                return Ok(());
            }
            Some(Status::Items | Status::ItemReturned | Status::ItemRaised) => {
                return self.take_in_items(index, &result, received);
            }
            _ => return Err(Corrupted),
        };
        let Some(entry) = self.ledger.get_mut(result.key) else { return Err(Corrupted) };
        let slot = match (entry.place, &entry.work) {
            (Place::Sent { worker, slot }, Work::Call { .. }) if worker == index => slot,
            // A worker answers what it was asked, once.
            _ => return Err(Corrupted),
        };
        let lent = match &entry.work {
            // The worker gives the block back when nothing there uses it any more.
            Work::Call { task, .. } => match &task.payload {
                Payload::Block(block) => Some(block.offset),
                Payload::Inline(_) => None,
            },
            Work::Chunk(_) => None,
        };
        self.credit.note(result.run_ns);
        self.detach(index, slot);
        if let (Some(offset), Some(member)) = (lent, self.workers[index].as_mut()) {
            member.lent.insert(offset, result.key);
        }
        if let Some(entry) = self.remove(result.key) {
            self.deliver(entry, outcome);
        }
        Ok(())
    }

    /// Takes in outcomes of items.
    fn take_in_items(
        &mut self,
        index: usize,
        result: &ResultMessage,
        received: Received,
    ) -> Result<(), Corrupted> {
        let entry = self.ledger.get_mut(result.key).ok_or(Corrupted)?;
        let slot = match entry.place {
            Place::Sent { worker, slot } if worker == index => slot,
            _ => return Err(Corrupted),
        };
        let chunk = entry.chunk().ok_or(Corrupted)?;
        let (first, count) = result.items;
        let end = first.checked_add(count).ok_or(Corrupted)?;
        // Some of them may have been read from the worker's log before it sent them.
        let is_sound = first <= chunk.ended && end >= chunk.ended && end <= chunk.count;
        let is_sound = is_sound && (!result.is_last || end == chunk.count);
        if !is_sound {
            return Err(Corrupted);
        }
        if result.run_ns > 0 {
            chunk.items.pace.note(result.run_ns);
        }
        if end > chunk.ended {
            let skip = chunk.ended - first;
            let outcome = match result.status {
                Some(Status::Items) => {
                    RunOutcome::Values { received: Logged::Received(received), skip }
                }
                _ if count > 1 => return Err(Corrupted),
                Some(Status::ItemRaised) => RunOutcome::Ended(Outcome::Raised(received)),
                _ => RunOutcome::Ended(Outcome::Returned(received)),
            };
            let (first, count) = (chunk.first + chunk.ended, end - chunk.ended);
            chunk.ended = end;
            chunk.results.deliver(Run { first, count, outcome });
            self.items_left -= u64::from(count);
            self.has_news = true;
        }
        if result.is_last {
            self.detach(index, slot);
            self.remove(result.key);
        } else if chunk.results.is_watched(chunk.first + chunk.ended, chunk.count - chunk.ended) {
            // It has sent because somebody waits, who now waits for what it did not send.
            self.watched_again = Some((slot, result.key));
        }
        Ok(())
    }

    /// Asks for what is finished before an item, and for the item as soon as it is: somebody is
    /// about to sleep until it is there.
    pub(crate) fn watch(&mut self, results: &Arc<Results>, item: u32) {
        results.watch(item);
        if results.has(item) {
            return;
        }
        let ledger = &mut self.ledger;
        let mut found = None;
        for (index, member) in self.workers.iter().enumerate() {
            let Some(member) = member else { continue };
            for slot in member.order.iter().copied() {
                let key = member.sent[slot as usize];
                if let Some(chunk) = ledger.get_mut(key).and_then(|entry| entry.chunk())
                    && Arc::ptr_eq(&chunk.results, results)
                    && item >= chunk.first
                    && item - chunk.first < chunk.count
                {
                    found = Some((index, slot, key));
                }
            }
        }
        if let Some((index, slot, key)) = found {
            self.look_into_log(index, slot, key);
            // If something was sent in between, it is what was looked for.
            self.drain(index);
        }
    }

    /// Asks for what a worker finishes of a chunk from now on, and takes in what it has finished and
    /// not sent.
    fn look_into_log(&mut self, index: usize, slot: u32, key: Key) {
        let Some(member) = self.workers[index].as_ref() else { return };
        let Some(span) = member.tasks.span(slot) else { return };
        span.watch();
        let Some(chunk) = self.ledger.get_mut(key).and_then(|entry| entry.chunk()) else { return };
        if member.is_corrupted {
            return;
        }
        let progress = span.progress();
        let finished = read_log(member, chunk, progress);
        span.has_read();
        if member.results.is_ready() {
            // It has sent what was read, and may have begun to write something else there. Nor need
            // it be read: who sends rings.
            return;
        }
        match finished {
            Ok(Some(finished)) => {
                self.items_left -= finished.deliver(chunk);
                self.has_news = true;
            }
            Ok(None) => {}
            Err(Corrupted) => {
                if let Some(member) = self.workers[index].as_mut() {
                    member.corrupted();
                }
            }
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        if !self.subscribed.is_empty() {
            self.subscribed.remove(&key);
        }
        self.ledger.remove(key)
    }

    pub(super) fn deliver(&mut self, entry: Entry, outcome: Outcome) {
        self.has_news = true;
        match entry.work {
            Work::Call { cell, .. } => self.calls.extend(cell.deliver(outcome)),
            Work::Chunk(chunk) => self.end_items(&chunk, RunOutcome::Ended(outcome)),
        }
    }

    /// Ends all items of a chunk that have not ended, in the same way.
    pub(super) fn end_items(&mut self, chunk: &Chunk, outcome: RunOutcome) {
        let count = chunk.count - chunk.ended;
        if count > 0 {
            self.items_left -= u64::from(count);
            chunk.results.deliver(Run { first: chunk.first + chunk.ended, count, outcome });
        }
    }
}

/// Finished items of a chunk that were read from a worker's log.
pub(super) struct Finished {
    progress: Progress,
    bytes: Vec<u8>,
}

impl Finished {
    /// Delivers them, and says how many they are.
    pub(super) fn deliver(self, chunk: &mut Chunk) -> u64 {
        let count = self.progress.done - chunk.ended;
        let received = Logged::Copied(self.bytes);
        let outcome = RunOutcome::Values { received, skip: chunk.ended - self.progress.first };
        chunk.results.deliver(Run { first: chunk.first + chunk.ended, count, outcome });
        chunk.ended = self.progress.done;
        count.into()
    }
}

/// Reads the finished items of a chunk that lie in the worker's log and were not sent, if there are
/// any.
pub(super) fn read_log(
    member: &Member,
    chunk: &Chunk,
    progress: Progress,
) -> Result<Option<Finished>, Corrupted> {
    if progress.done <= chunk.ended {
        return Ok(None);
    }
    if progress.first > chunk.ended || progress.done > chunk.count || progress.bytes > LOG_BYTES {
        return Err(Corrupted);
    }
    let bytes = member.view.segment().read(progress.offset, progress.bytes).ok_or(Corrupted)?;
    Ok(Some(Finished { progress, bytes }))
}
