//! What the slots of the rings say: a task's words, a result's words.

use ungil_shm::Block;
use ungil_shm::ring::Message;

use crate::payload::{Inline, Payload};

/// The parent's doorbell is rung at every commit: a caller sleeps there.
pub const CALLER: u32 = 1;
/// The event descriptor is written when a worker runs out of tasks: there may be more for it.
pub const REFILL: u32 = 2;
/// The event descriptor is written at every commit: somebody who is no caller wants to know.
pub const EVERY_COMMIT: u32 = 4;

/// The worker shall end when its ring is empty.
pub const STOP: u32 = 1;

/// Set in the number of a function that is called once, so that no worker need keep it.
pub const FUNCTION_USED_ONCE: u64 = 1 << 63;

/// How far a worker has come; the number it writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// It has not looked at its ring yet.
    Starting = 0,
    /// It takes tasks.
    Ready = 1,
    /// Its initializer failed; it takes none.
    Failed = 2,
}

impl Stage {
    /// The stage of a number; whatever no worker writes counts as starting.
    pub fn from_number(number: u32) -> Stage {
        match number {
            1 => Stage::Ready,
            2 => Stage::Failed,
            _ => Stage::Starting,
        }
    }
}

/// A task as a worker sees it.
#[derive(Debug, Clone, Copy)]
pub struct TaskMessage {
    /// Its number.
    pub key: u64,
    /// The function's number and where it is written, unless the payload says it itself.
    pub function: Option<(u64, Block)>,
    /// Where the payload lies, if it is not in the slot.
    pub block: Option<Block>,
}

impl TaskMessage {
    /// The message to push.
    pub fn message(key: u64, function: Option<(u64, Block)>, payload: &Payload) -> Message {
        let (number, definition) = function.unwrap_or((0, Block { offset: 0, length: 0 }));
        let (block, inline) = split(payload);
        let words = [key, number, definition.offset, definition.length, block.offset, block.length];
        Message::new(words, inline).unwrap_or_else(|| Message::plain(words))
    }

    /// Reads a message that arrived.
    pub fn read(message: &Message) -> TaskMessage {
        let [key, number, offset, length, block_offset, block_length] = message.words;
        TaskMessage {
            key,
            function: (number != 0).then_some((number, Block { offset, length })),
            block: block(block_offset, block_length),
        }
    }
}

/// How a task ended, as a number in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Status {
    /// The function returned.
    Returned = 1,
    /// The function raised, or its result could not be sent.
    Raised = 2,
    /// Not a task: the initializer raised.
    InitializerFailed = 3,
}

/// A result as the parent sees it.
#[derive(Debug, Clone, Copy)]
pub struct ResultMessage {
    /// The task's number; 0 if it is about the worker itself.
    pub key: u64,
    /// How it ended; `None` if the number means nothing.
    pub status: Option<Status>,
    /// How long the function ran, in ns.
    pub run_ns: u64,
    /// Where the payload lies, if it is not in the slot.
    pub block: Option<Block>,
}

impl ResultMessage {
    /// The message to push.
    pub fn message(key: u64, status: Status, run_ns: u64, payload: &Payload) -> Message {
        let (block, inline) = split(payload);
        let words = [key, status as u64, run_ns, block.offset, block.length, 0];
        Message::new(words, inline).unwrap_or_else(|| Message::plain(words))
    }

    /// Reads a message that arrived.
    pub fn read(message: &Message) -> ResultMessage {
        let [key, status, run_ns, offset, length, _] = message.words;
        let status = match status {
            1 => Some(Status::Returned),
            2 => Some(Status::Raised),
            3 => Some(Status::InitializerFailed),
            _ => None,
        };
        ResultMessage { key, status, run_ns, block: block(offset, length) }
    }
}

/// The bytes in a message's slot.
pub fn inline(message: &Message) -> Inline {
    // A slot holds as many bytes as an inline payload.
    Inline::new(message.inline()).unwrap_or_else(Inline::empty)
}

fn split(payload: &Payload) -> (Block, &[u8]) {
    match payload {
        Payload::Inline(inline) => (Block { offset: 0, length: 0 }, inline.bytes()),
        Payload::Block(block) => (*block, &[]),
    }
}

// A block is never empty: it begins with its table.
fn block(offset: u64, length: u64) -> Option<Block> {
    (length != 0).then_some(Block { offset, length })
}
