//! What the slots of the rings say: a task's words, a result's words.

use ungil_shm::Block;
use ungil_shm::ring::Message;
use ungil_shm::span::{self, SPAN_INLINE_BYTES};

use crate::items::Items;
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

/// Set in the number of a function that is called with many items.
const CALLS_ITEMS: u64 = 1 << 62;

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
    /// The items it is called with one after the other: the first one's number in the batch, and
    /// how many there are.
    pub items: Option<(u32, u32)>,
}

impl TaskMessage {
    /// The message to push.
    pub fn message(key: u64, function: Option<(u64, Block)>, payload: &Payload) -> Message {
        let (number, definition) = function.unwrap_or((0, Block { offset: 0, length: 0 }));
        let (block, inline) = split(payload);
        let words = [key, number, definition.offset, definition.length, block.offset, block.length];
        Message::new(words, inline).unwrap_or_else(|| Message::plain(words))
    }

    /// The message about items; `None` if they are not in the batch.
    pub fn items_message(
        key: u64,
        items: &Items,
        first: u32,
        count: u32,
        is_watched: bool,
    ) -> Option<Message> {
        let definition = items.function.block();
        let number = items.function.number() | CALLS_ITEMS;
        let (block, description) = items.part(first, count)?;
        let words = [key, number, definition.offset, definition.length, block.offset, block.length];
        let mut head = [0; SPAN_INLINE_BYTES];
        head[..4].copy_from_slice(&first.to_ne_bytes());
        head[4..8].copy_from_slice(&count.to_ne_bytes());
        head[8..].get_mut(..description.len())?.copy_from_slice(description);
        let bytes = span::inline(&head, count, is_watched)?;
        Message::new(words, &bytes)
    }

    /// Reads a message that arrived.
    pub fn read(message: &Message) -> TaskMessage {
        let [key, number, offset, length, block_offset, block_length] = message.words;
        let items = (number & CALLS_ITEMS != 0).then(|| (half(message, 0), half(message, 4)));
        let number = number & !CALLS_ITEMS;
        TaskMessage {
            key,
            function: (number != 0).then_some((number, Block { offset, length })),
            block: block(block_offset, block_length),
            items,
        }
    }
}

/// The description of a message about items.
pub fn description(message: &Message) -> Inline {
    let bytes = message.inline().get(8..SPAN_INLINE_BYTES).unwrap_or_default();
    Inline::new(bytes).unwrap_or_else(Inline::empty)
}

fn half(message: &Message, start: usize) -> u32 {
    let bytes = message.inline().get(start..start + 4).and_then(|it| it.try_into().ok());
    u32::from_ne_bytes(bytes.unwrap_or_default())
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
    /// Results of items, encoded one behind the other.
    Items = 4,
    /// The result of one item, as of a task.
    ItemReturned = 5,
    /// What the function raised for one item, as of a task.
    ItemRaised = 6,
}

/// Set beside a status: nothing more will come of this chunk.
const LAST: u64 = 1 << 8;

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
    /// The items it is about, from the chunk's beginning: the first one, and how many.
    pub items: (u32, u32),
    /// Nothing more will come of the chunk.
    pub is_last: bool,
}

impl ResultMessage {
    /// The message to push.
    pub fn message(key: u64, status: Status, run_ns: u64, payload: &Payload) -> Message {
        let (block, inline) = split(payload);
        let words = [key, status as u64, run_ns, block.offset, block.length, 0];
        Message::new(words, inline).unwrap_or_else(|| Message::plain(words))
    }

    /// The message about items. `item_ns` is what nine in ten of them took at most, 0 if that was
    /// not measured.
    pub fn items_message(
        key: u64,
        status: Status,
        item_ns: u64,
        (first, count): (u32, u32),
        is_last: bool,
        payload: &Payload,
    ) -> Message {
        let mut message = ResultMessage::message(key, status, item_ns, payload);
        message.words[1] |= if is_last { LAST } else { 0 };
        message.words[5] = u64::from(first) << 32 | u64::from(count);
        message
    }

    /// Reads a message that arrived.
    pub fn read(message: &Message) -> ResultMessage {
        let [key, status, run_ns, offset, length, items] = message.words;
        let is_last = status & LAST != 0;
        let status = match status & !LAST {
            1 => Some(Status::Returned),
            2 => Some(Status::Raised),
            3 => Some(Status::InitializerFailed),
            4 => Some(Status::Items),
            5 => Some(Status::ItemReturned),
            6 => Some(Status::ItemRaised),
            _ => None,
        };
        let items = ((items >> 32) as u32, items as u32);
        ResultMessage { key, status, run_ns, block: block(offset, length), items, is_last }
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

    use super::{LAST, ResultMessage, Stage, Status, TaskMessage, inline};
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
            function in prop::option::of((1..1u64 << 62, blocks())),
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
            prop_assert_eq!(result.status.is_some(), (1..=6).contains(&(words[1] & !LAST)));
            prop_assert_eq!(result.block.is_some(), words[4] != 0);
            prop_assert_eq!(TaskMessage::read(&message).key, words[0]);
            prop_assert_eq!(inline(&message).bytes().to_vec(), bytes);
        }
    }
}
