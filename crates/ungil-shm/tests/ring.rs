//! The rings against the plainest model of them.
#![cfg(not(loom))]

use std::collections::VecDeque;

use proptest::prelude::*;
use ungil_shm::ring::{self, INLINE_BYTES, Message};
use ungil_shm::{SlotState, offsets};

fn message(number: u64) -> Message {
    let inline = vec![number as u8; number as usize % (INLINE_BYTES + 1)];
    Message::new([number, !number, number << 32, 3, 4, 5], &inline).expect("it fits")
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Take,
    Release(prop::sample::Index),
    Revoke(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Push),
        3 => Just(Step::Take),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        2 => (0..10u32).prop_map(Step::Revoke),
    ];
    proptest::collection::vec(step, 1..400)
}

/// What every slot is, and where both sides stand.
struct Model {
    slots: Vec<(SlotState, u64)>,
    head: usize,
    tail: usize,
}

impl Model {
    fn push(&mut self, number: u64) -> Option<u32> {
        let index = self.head;
        if self.slots[index].0 != SlotState::Empty {
            return None;
        }
        self.slots[index] = (SlotState::Ready, number);
        self.head = (index + 1) % self.slots.len();
        Some(index as u32)
    }

    fn take(&mut self) -> Option<(u32, u64)> {
        loop {
            let index = self.tail;
            let (state, number) = self.slots[index];
            match state {
                SlotState::Empty | SlotState::Taken => return None,
                SlotState::Ready => self.slots[index].0 = SlotState::Taken,
                SlotState::Revoked => self.slots[index].0 = SlotState::Empty,
            }
            self.tail = (index + 1) % self.slots.len();
            if state == SlotState::Ready {
                return Some((index as u32, number));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_ring_does_what_its_states_say(capacity in 1..8u32, steps in steps()) {
        let (mut producer, mut consumer) = ring::private(capacity);
        let slots = vec![(SlotState::Empty, 0); capacity as usize];
        let mut model = Model { slots, head: 0, tail: 0 };
        let mut taken = Vec::new();
        let mut next = 0;
        for step in steps {
            match step {
                Step::Push => {
                    next += 1;
                    prop_assert_eq!(producer.push(&message(next)), Ok(model.push(next)));
                }
                Step::Take => {
                    let expected = model.take();
                    let (index, found) = match consumer.take().expect("nobody corrupts it") {
                        Some((index, found)) => (Some(index), Some(found)),
                        None => (None, None),
                    };
                    prop_assert_eq!(index, expected.map(|(index, _)| index));
                    prop_assert_eq!(found, expected.map(|(_, number)| message(number)));
                    taken.extend(index);
                }
                Step::Release(which) => {
                    if !taken.is_empty() {
                        let index = taken.swap_remove(which.index(taken.len()));
                        consumer.release(index);
                        model.slots[index as usize].0 = SlotState::Empty;
                    }
                }
                Step::Revoke(index) => {
                    let slot = model.slots.get_mut(index as usize);
                    let slot = slot.filter(|slot| slot.0 == SlotState::Ready);
                    prop_assert_eq!(producer.revoke(index), slot.is_some());
                    if let Some(slot) = slot {
                        slot.0 = SlotState::Revoked;
                    }
                }
            }
            for (index, slot) in model.slots.iter().enumerate() {
                prop_assert_eq!(producer.state(index as u32), Ok(slot.0));
            }
            prop_assert_eq!(producer.is_full(), model.slots[model.head].0 != SlotState::Empty);
            let at_tail = model.slots[model.tail].0;
            let ready = matches!(at_tail, SlotState::Ready | SlotState::Revoked);
            prop_assert_eq!(consumer.is_ready(), ready);
        }
    }

    #[test]
    fn what_is_not_revoked_arrives_in_order(
        capacity in 1..16u32,
        rounds in proptest::collection::vec((0..20usize, any::<u32>()), 1..50),
    ) {
        let (mut producer, mut consumer) = ring::private(capacity);
        let mut expected = VecDeque::new();
        let mut next = 0;
        for (pushes, revokes) in rounds {
            for nth in 0..pushes {
                next += 1;
                let Some(index) = producer.push(&message(next)).expect("sound") else { break };
                if revokes >> (nth % 32) & 1 == 1 {
                    prop_assert!(producer.revoke(index));
                    prop_assert!(!producer.revoke(index));
                } else {
                    expected.push_back(next);
                }
            }
            while let Some((index, found)) = consumer.take().expect("sound") {
                prop_assert_eq!(Some(found), expected.pop_front().map(message));
                prop_assert!(!producer.revoke(index));
                consumer.release(index);
            }
            prop_assert!(expected.is_empty());
            prop_assert!(!producer.is_full());
        }
    }

    #[test]
    fn offsets_arrive_in_order(
        capacity in 1..16u32,
        steps in proptest::collection::vec(proptest::option::of(0..u64::MAX), 1..200),
    ) {
        let (mut producer, mut consumer) = offsets::private(capacity);
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Some(value) => {
                    let room = model.len() < capacity as usize;
                    prop_assert_eq!(producer.push(value), room);
                    if room {
                        model.push_back(value);
                    }
                }
                None => prop_assert_eq!(consumer.pop(), model.pop_front()),
            }
            prop_assert_eq!(consumer.is_ready(), !model.is_empty());
        }
    }
}

#[test]
fn a_message_holds_72_bytes_and_no_more() {
    let bytes: Vec<u8> = (0..=INLINE_BYTES as u8).collect();
    assert!(Message::new([0; 6], &bytes).is_none());
    let (mut producer, mut consumer) = ring::private(1);
    for length in 0..=INLINE_BYTES {
        let sent = Message::new([1, 2, 3, 4, 5, 6], &bytes[..length]).expect("it fits");
        let index = producer.push(&sent).expect("sound").expect("room");
        let (_, found) = consumer.take().expect("sound").expect("it is ready");
        assert_eq!((found.words, found.inline()), ([1, 2, 3, 4, 5, 6], &bytes[..length]));
        consumer.release(index);
    }
}

#[test]
fn an_index_that_is_no_slots_is_refused() {
    let (producer, consumer) = ring::private(4);
    assert!(producer.state(4).is_err());
    assert!(!producer.revoke(u32::MAX));
    consumer.release(u32::MAX);
}

#[test]
fn an_offset_that_cannot_be_told_from_none_is_dropped() {
    let (mut producer, mut consumer) = offsets::private(1);
    assert!(producer.push(u64::MAX));
    assert_eq!(consumer.pop(), None);
    assert!(producer.push(u64::MAX - 1));
    assert_eq!(consumer.pop(), Some(u64::MAX - 1));
}
