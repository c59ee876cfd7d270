//! A worker's way through the items of a chunk.
//!
//! Results go into a log in the worker's arena. After each item the worker says in the chunk's slot
//! how far it has come; so nothing that is finished is lost if it dies, and the parent can look while
//! it goes on. The log is sent when it is full, when somebody waits for what is in it, and at the
//! chunk's end.

use std::io;
use std::sync::PoisonError;
use std::time::Instant;

use ungil_shm::Block;

use super::{Items, Ticket, Worker, lock};
use crate::message::{ResultMessage, Status};
use crate::pace::ItemTimes;
use crate::payload::{Inline, Payload};
use crate::pump::LOG_BYTES;

/// So long, in ns, items should take between two looks at the clock, which takes 25.
const LOOK_NS: u64 = 4_000;
/// At most so many items are done between two looks.
const LOOK_MAX: u32 = 256;

/// A chunk that a thread of the worker is at.
pub struct Chunk<'a> {
    worker: &'a Worker,
    ticket: Ticket,
    items: &'a Items,
    log: Option<Log>,
    /// The first item that was not sent.
    unsent: u32,
    /// So many items are finished.
    done: u32,
    pace: ItemPace,
}

struct Log {
    block: Block,
    bytes: u64,
}

/// Measures how long items take, without looking at the clock for each.
struct ItemPace {
    times: ItemTimes,
    looked: Instant,
    since: u32,
    every: u32,
}

impl ItemPace {
    fn new() -> ItemPace {
        ItemPace { times: ItemTimes::default(), looked: Instant::now(), since: 0, every: 1 }
    }

    /// Notes that an item is done.
    #[inline]
    fn tick(&mut self) {
        self.since += 1;
        if self.since >= self.every {
            self.look();
        }
    }

    fn look(&mut self) {
        if self.since == 0 {
            return;
        }
        let now = Instant::now();
        let took_ns = u64::try_from((now - self.looked).as_nanos()).unwrap_or(u64::MAX);
        self.times.note(took_ns / u64::from(self.since), self.since);
        self.every = if took_ns < LOOK_NS { (2 * self.every).min(LOOK_MAX) } else { 1 };
        self.looked = now;
        self.since = 0;
    }
}

impl<'a> Chunk<'a> {
    /// Begins with a chunk.
    pub fn new(worker: &'a Worker, ticket: Ticket, items: &'a Items) -> Chunk<'a> {
        let pace = ItemPace::new();
        Chunk { worker, ticket, items, log: None, unsent: 0, done: 0, pace }
    }

    /// The next item, from the chunk's beginning; `None` when there is none left. The one before
    /// must have been finished.
    #[inline]
    pub fn claim(&mut self) -> Option<u32> {
        let claim = self.items.span.claim();
        if claim.is_watched && self.done > self.unsent {
            // The parent watches again when it gets what is sent, if somebody waits for more.
            self.items.span.unwatch();
            self.flush(false);
        }
        claim.item
    }

    /// Finishes the claimed item with its encoded result.
    ///
    /// # Errors
    /// The system has no memory left for it: nothing is finished.
    #[inline]
    pub fn finish(&mut self, value: &[u8]) -> io::Result<()> {
        let length = value.len() as u64;
        if self.log.as_ref().is_some_and(|log| log.bytes + length > LOG_BYTES) {
            self.flush(false);
        }
        if self.log.is_none() {
            self.log = Some(self.begin_log()?);
        }
        let Some(log) = &mut self.log else { return Err(io::Error::other("there is no log")) };
        let place = log.block.offset + log.bytes;
        if length > LOG_BYTES || !self.worker.own_segment.write(place, value) {
            return Err(io::Error::other("a result is longer than a log"));
        }
        log.bytes += length;
        self.done += 1;
        self.items.span.commit(self.unsent, self.done, log.bytes);
        self.pace.tick();
        Ok(())
    }

    /// Finishes the claimed item with a result, or exception, that is sent by itself.
    pub fn finish_alone(&mut self, status: Status, payload: &Payload) {
        // Those before it first.
        self.flush(false);
        self.send(status, (self.unsent, 1), false, payload);
        self.done += 1;
        self.unsent = self.done;
        // What the log says must begin behind it.
        self.put_log_away();
        self.pace.tick();
    }

    /// Sends what is left, after which the parent looks for no more.
    pub fn end(mut self) {
        self.flush(true);
        // Only now: a parent that finds the slot taken must find the answers first.
        lock(&self.worker.tasks).release(self.ticket.slot);
        self.worker.tell_of_answer();
    }

    fn begin_log(&self) -> io::Result<Log> {
        let spare = lock(&self.worker.logs).pop();
        let block = match spare {
            Some(block) => block,
            None => {
                self.worker.take_returned();
                let mut arena = self.worker.arena.lock().unwrap_or_else(PoisonError::into_inner);
                arena.allocate(LOG_BYTES)?
            }
        };
        self.items.span.begin_log(self.unsent, block.offset);
        Ok(Log { block, bytes: 0 })
    }

    fn put_log_away(&mut self) {
        if let Some(log) = self.log.take() {
            lock(&self.worker.logs).push(log.block);
        }
    }

    /// Sends what is in the log.
    fn flush(&mut self, is_last: bool) {
        let count = self.done - self.unsent;
        if count == 0 && !is_last {
            return;
        }
        self.pace.look();
        let items = (self.unsent, count);
        let payload = match &self.log {
            None => Payload::Inline(Inline::empty()),
            Some(log) => self.log_payload(log),
        };
        self.send(Status::Items, items, is_last, &payload);
        self.unsent = self.done;
        let log = self.log.take();
        match (log, payload) {
            // It belongs to the parent now.
            (Some(log), Payload::Block(sent)) if sent.offset == log.block.offset => {}
            (Some(log), _) => lock(&self.worker.logs).push(log.block),
            (None, _) => {}
        }
    }

    /// A short log in the message, a long one where it lies. One in between goes into a block of its
    /// own length: nobody knows how long the parent keeps it.
    fn log_payload(&self, log: &Log) -> Payload {
        let block = Block { offset: log.block.offset, length: log.bytes };
        if log.bytes > LOG_BYTES / 2 {
            return Payload::Block(block);
        }
        let Some(bytes) = self.worker.own_segment.read(block.offset, block.length) else {
            return Payload::Block(block);
        };
        if let Some(inline) = Inline::new(&bytes) {
            return Payload::Inline(inline);
        }
        self.worker.take_returned();
        let copy = lock(&self.worker.arena).allocate(log.bytes);
        match copy {
            Ok(copy) if self.worker.own_segment.write(copy.offset, &bytes) => {
                Payload::Block(Block { offset: copy.offset, length: log.bytes })
            }
            _ => Payload::Block(block),
        }
    }

    fn send(&mut self, status: Status, items: (u32, u32), is_last: bool, payload: &Payload) {
        let item_ns = self.pace.times.p90_ns().unwrap_or(0);
        self.pace.times.clear();
        let key = self.ticket.key;
        let message = ResultMessage::items_message(key, status, item_ns, items, is_last, payload);
        self.worker.push(&message);
        if !is_last {
            self.worker.tell_of_answer();
        }
    }
}
