//! A peer that writes anything anywhere: every answer is a value, and every call comes back.
#![cfg(not(loom))]

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use ungil_shm::channel::MOST_TASK_SLOTS;
use ungil_shm::ring::Message;
use ungil_shm::{ParentEnd, Segment, SlotState, View, WorkerEnd};

const CAPACITY: u32 = 8;
const HEADER_BYTES: u64 = 640;
const SLOT_BYTES: u64 = 128;

fn again(descriptor: impl AsFd) -> OwnedFd {
    descriptor.as_fd().try_clone_to_owned().expect("a descriptor is free")
}

fn channel() -> (ParentEnd, WorkerEnd, Segment) {
    let parent = ParentEnd::create(CAPACITY).expect("a small channel");
    let worker = WorkerEnd::open(again(parent.descriptor())).expect("it was just made");
    let hostile = Segment::open(again(parent.descriptor()), 0).expect("it is a segment");
    (parent, worker, hostile)
}

fn message() -> Message {
    Message::new([7; 6], b"seven").expect("it fits")
}

/// Where the n-th slot for results lies.
fn result_slot(index: u64) -> u64 {
    HEADER_BYTES + (u64::from(CAPACITY) + index) * SLOT_BYTES
}

#[test]
fn a_state_that_is_none_is_corruption_to_both_sides() {
    let (mut parent, mut worker, hostile) = channel();
    for state in [4u32, 5, 1 << 16, u32::MAX] {
        assert!(hostile.write(result_slot(0), &state.to_ne_bytes()));
        assert!(parent.results.is_ready());
        let error = parent.results.take().expect_err("no such state");
        assert!(error.to_string().contains("corrupted"), "{error}");
        assert!(worker.results.push(&message()).is_err());
        assert!(worker.results.state(0).is_err());
        assert!(!worker.results.revoke(0));
        parent.results.release(0);
    }
}

#[test]
fn a_length_that_does_not_fit_is_corruption() {
    for length in [73u32, 255, 256, u32::MAX] {
        let (mut parent, mut worker, hostile) = channel();
        worker.results.push(&message()).expect("sound").expect("room");
        assert!(hostile.write(result_slot(0) + 4, &length.to_ne_bytes()));
        let first = parent.results.take().expect_err("it is too long");
        assert_eq!(first.found(), u64::from(length));
        assert_eq!(parent.results.take().expect_err("it stays broken"), first);
    }
}

#[test]
fn a_ring_full_of_revoked_slots_is_passed_once_and_not_for_ever() {
    let (mut parent, _worker, hostile) = channel();
    let revoke_all = || {
        for index in 0..u64::from(CAPACITY) {
            assert!(hostile.write(result_slot(index), &3u32.to_ne_bytes()));
        }
    };
    for _ in 0..3 {
        revoke_all();
        assert_eq!(parent.results.take(), Ok(None));
    }
}

#[test]
fn a_taken_slot_that_nobody_took_keeps_the_consumer_waiting_and_no_more() {
    let (mut parent, mut worker, hostile) = channel();
    assert!(hostile.write(result_slot(0), &2u32.to_ne_bytes()));
    assert_eq!(parent.results.take(), Ok(None));
    assert!(!parent.results.is_ready());
    assert_eq!(worker.results.push(&message()), Ok(None));
    assert!(worker.results.is_full());
}

#[test]
fn what_is_no_channel_is_not_opened() {
    let (parent, _worker, hostile) = channel();
    assert!(hostile.write(8, &(CAPACITY * 1000).to_ne_bytes()));
    assert!(WorkerEnd::open(again(parent.descriptor())).is_err(), "the file is too short");
    for capacity in [0, MOST_TASK_SLOTS + 1, u32::MAX] {
        assert!(hostile.write(8, &capacity.to_ne_bytes()));
        assert!(WorkerEnd::open(again(parent.descriptor())).is_err());
        assert!(ParentEnd::create(capacity).is_err());
    }
    assert!(hostile.write(8, &CAPACITY.to_ne_bytes()));
    assert!(WorkerEnd::open(again(parent.descriptor())).is_ok());
    assert!(hostile.write(0, &[0]));
    assert!(WorkerEnd::open(again(parent.descriptor())).is_err(), "the magic is gone");

    let empty = View::create(1 << 20).expect("a small segment");
    assert!(WorkerEnd::open(again(empty.descriptor())).is_err());
    let (reader, _writer) = std::io::pipe().expect("a descriptor is free");
    assert!(WorkerEnd::open(reader.into()).is_err());
}

#[test]
fn a_peer_can_neither_shorten_a_segment_nor_seal_it() {
    let fixed = Segment::create(1 << 16).expect("a small segment");
    let growing = Segment::create_growing(1 << 20).expect("a small segment");
    growing.grow_to(1 << 16).expect("there is memory");
    for segment in [&fixed, &growing] {
        assert!(rustix::fs::ftruncate(segment.descriptor(), 0).is_err());
        let seals = rustix::fs::SealFlags::FUTURE_WRITE;
        assert!(rustix::fs::fcntl_add_seals(segment.descriptor(), seals).is_err());
        assert!(segment.write((1 << 16) - 1, &[1]));
    }
    assert!(rustix::fs::ftruncate(fixed.descriptor(), 1 << 20).is_err());
    assert!(!fixed.write(1 << 16, &[1]));
    // A peer may grow an arena, also beyond what is mapped here: that is out of reach, not a fault.
    rustix::fs::ftruncate(growing.descriptor(), 1 << 30).expect("nothing forbids it");
    assert!(growing.write((1 << 20) - 1, &[1]));
    assert!(growing.bytes(growing.reserve(), 1).is_none());
    assert!(growing.read(u64::MAX, 1).is_none());
    assert!(growing.read(0, u64::MAX).is_none());
}

#[test]
fn a_file_that_can_be_cut_off_is_not_mapped() {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("loose", flags).expect("a descriptor is free");
    rustix::fs::ftruncate(&file, 1 << 16).expect("it may be any length");
    assert!(Segment::open(file, 0).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    /// Plausible values hit harder than random ones.
    Scribble(u64, u32),
    ParentPushes,
    ParentTakes,
    WorkerPushes,
    WorkerTakes,
    Revoke(u32),
    Offsets(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![0..5u32, 70..75u32, any::<u32>()];
    let step = prop_oneof![
        4 => (0..20_000u64, value).prop_map(|(offset, value)| Step::Scribble(offset, value)),
        2 => Just(Step::ParentPushes),
        2 => Just(Step::ParentTakes),
        2 => Just(Step::WorkerPushes),
        2 => Just(Step::WorkerTakes),
        1 => (0..CAPACITY).prop_map(Step::Revoke),
        1 => any::<u64>().prop_map(Step::Offsets),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn no_scribbling_makes_either_side_panic_or_hang(steps in steps()) {
        let (mut parent, mut worker, hostile) = channel();
        for step in steps {
            match step {
                Step::Scribble(offset, value) => {
                    hostile.write(offset / 4 * 4, &value.to_ne_bytes());
                }
                Step::ParentPushes => {
                    let _ = parent.tasks.push(&message());
                    let _ = parent.tasks.is_full();
                }
                Step::WorkerPushes => {
                    let _ = worker.results.push(&message());
                }
                Step::ParentTakes => {
                    if let Ok(Some((index, found))) = parent.results.take() {
                        prop_assert!(found.inline().len() <= 72);
                        parent.results.release(index);
                    }
                }
                Step::WorkerTakes => {
                    if let Ok(Some((index, _))) = worker.tasks.take() {
                        worker.tasks.release(index);
                    }
                }
                Step::Revoke(index) => {
                    if parent.tasks.revoke(index) {
                        prop_assert_eq!(parent.tasks.state(index), Ok(SlotState::Revoked));
                    }
                }
                Step::Offsets(value) => {
                    let _ = worker.released.push(value);
                    let _ = parent.released.pop();
                    let _ = parent.returning.push(value);
                    let _ = worker.returning.pop();
                }
            }
            let _ = (parent.flags(), parent.stage(), parent.bell().wanted());
        }
    }
}
