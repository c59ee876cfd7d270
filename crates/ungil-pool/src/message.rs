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
pub use ungil_shm::channel::STOP;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ungil_shm::Block;
    use ungil_shm::ring::{INLINE_BYTES, Message};

    use super::{ResultMessage, Stage, Status, TaskMessage, inline};
    use crate::payload::{Inline, Payload};

    fn payloads() -> impl Strategy<Value = Payload> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..=INLINE_BYTES)
                .prop_map(|bytes| Payload::Inline(Inline::new(&bytes).expect("it fits"))),
            (any::<u64>(), 1..=u64::MAX)
                .prop_map(|(offset, length)| Payload::Block(Block { offset, length })),
        ]
    }

    fn blocks() -> impl Strategy<Value = Block> {
        (any::<u64>(), any::<u64>()).prop_map(|(offset, length)| Block { offset, length })
    }

    /// The payload's bytes in the slot, and its block.
    fn halves(payload: &Payload) -> (Vec<u8>, Option<Block>) {
        match payload {
            Payload::Inline(inline) => (inline.bytes().to_vec(), None),
            Payload::Block(block) => (Vec::new(), Some(*block)),
        }
    }

    #[test]
    fn every_stage_has_its_number_and_other_numbers_are_none() {
        for stage in [Stage::Starting, Stage::Ready, Stage::Failed] {
            assert_eq!(Stage::from_number(stage as u32), stage);
        }
        assert_eq!(Stage::from_number(3), Stage::Starting);
        assert_eq!(Stage::from_number(u32::MAX), Stage::Starting);
    }

    proptest! {
        #[test]
        fn a_task_arrives_as_it_was_sent(
            key in any::<u64>(),
            function in prop::option::of((1..=u64::MAX, blocks())),
            payload in payloads(),
        ) {
            let message = TaskMessage::message(key, function, &payload);
            let read = TaskMessage::read(&message);
            let (bytes, block) = halves(&payload);
            prop_assert_eq!((read.key, read.function, read.block), (key, function, block));
            prop_assert_eq!(inline(&message).bytes().to_vec(), bytes);
        }

        #[test]
        fn a_result_arrives_as_it_was_sent(
            key in any::<u64>(),
            status in prop::sample::select(
                &[Status::Returned, Status::Raised, Status::InitializerFailed][..]),
            run_ns in any::<u64>(),
            payload in payloads(),
        ) {
            let message = ResultMessage::message(key, status, run_ns, &payload);
            let read = ResultMessage::read(&message);
            let (bytes, block) = halves(&payload);
            prop_assert_eq!((read.key, read.run_ns, read.block), (key, run_ns, block));
            prop_assert_eq!(read.status, Some(status));
            prop_assert_eq!(inline(&message).bytes().to_vec(), bytes);
        }

        #[test]
        fn whatever_words_arrive_can_be_read(
            words in any::<[u64; 6]>(),
            bytes in prop::collection::vec(any::<u8>(), 0..=INLINE_BYTES),
        ) {
            let message = Message::new(words, &bytes).expect("it fits");
            let result = ResultMessage::read(&message);
            prop_assert_eq!(result.status.is_some(), (1..=3).contains(&words[1]));
            prop_assert_eq!(result.block.is_some(), words[4] != 0);
            prop_assert_eq!(TaskMessage::read(&message).key, words[0]);
            prop_assert_eq!(inline(&message).bytes().to_vec(), bytes);
        }
    }
}
