//! How long the operations of every task take. Run with
//! `cargo test -p ungil-shm --release --test speed -- --ignored --nocapture --test-threads 1`.
#![cfg(not(loom))]

use std::hint::black_box;
use std::time::Instant;

use ungil_shm::{Arena, Bell, Message, ParentEnd, WorkerEnd};

fn measure(what: &str, rounds: u32, mut body: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let begin = Instant::now();
        for _ in 0..rounds {
            body();
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    println!("{what}: {best:.1} ns");
}

#[test]
#[ignore = "a measurement"]
fn ring() {
    let mut parent = ParentEnd::create(512).expect("a channel");
    let descriptor = parent.descriptor().try_clone_to_owned().expect("a descriptor is free");
    let mut worker = WorkerEnd::open(descriptor).expect("it was just made");
    for length in [0, 16, 72] {
        let message = Message::new([1; 6], &vec![7; length]).expect("it fits");
        measure(&format!("push, take, release with {length} bytes"), 1_000_000, || {
            parent.tasks.push(black_box(&message)).expect("sound").expect("room");
            let (index, found) = worker.tasks.take().expect("sound").expect("it is ready");
            black_box(found);
            worker.tasks.release(index);
        });
    }
    let message = Message::plain([1; 6]);
    measure("push, ask what is wanted, take, release", 1_000_000, || {
        parent.tasks.push(black_box(&message)).expect("sound").expect("room");
        black_box(parent.bell().wanted());
        let (index, found) = worker.tasks.take().expect("sound").expect("it is ready");
        black_box(found);
        worker.tasks.release(index);
    });
    measure("offset push and pop", 1_000_000, || {
        assert!(worker.released.push(black_box(64)));
        black_box(parent.released.pop());
    });
    let bell = Bell::private();
    measure("ring with nobody asleep", 1_000_000, || bell.ring());
}

#[test]
#[ignore = "a measurement"]
fn ring_between_two_threads() {
    let mut parent = ParentEnd::create(512).expect("a channel");
    let descriptor = parent.descriptor().try_clone_to_owned().expect("a descriptor is free");
    let mut worker = WorkerEnd::open(descriptor).expect("it was just made");
    const MESSAGES: u32 = 5_000_000;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = 0;
            while seen < MESSAGES {
                match worker.tasks.take().expect("sound") {
                    Some((index, found)) => {
                        black_box(found);
                        worker.tasks.release(index);
                        seen += 1;
                    }
                    None => std::hint::spin_loop(),
                }
            }
        });
        let message = Message::new([1; 6], &[7; 16]).expect("it fits");
        for _ in 0..MESSAGES {
            while parent.tasks.push(&message).expect("sound").is_none() {
                std::hint::spin_loop();
            }
        }
    });
    let each = begin.elapsed().as_nanos() as f64 / f64::from(MESSAGES);
    println!("a message from thread to thread, both busy: {each:.1} ns");
}

#[test]
#[ignore = "a measurement"]
fn arena() {
    let mut arena = Arena::create(1 << 30, 0).expect("an arena");
    for length in [64, 1_000, 60_000, 1 << 20] {
        measure(&format!("allocate and free {length} bytes"), 100_000, || {
            let block = arena.allocate(black_box(length)).expect("there is memory");
            arena.free(black_box(block.offset)).expect("it is in use");
        });
    }
    let mut held: Vec<u64> = Vec::new();
    measure("allocate and free among 10,000 held blocks", 1_000_000, || {
        let block = arena.allocate(black_box(200)).expect("there is memory");
        held.push(block.offset);
        if held.len() > 10_000 {
            let oldest = held.swap_remove(block.offset as usize / 64 % 10_000);
            arena.free(oldest).expect("it is in use");
        }
    });
    let bytes = vec![1; 32 << 20];
    let block = arena.allocate(32 << 20).expect("there is memory");
    measure("write 32 MiB into warm memory", 5, || {
        assert!(arena.segment().write(block.offset, black_box(&bytes)));
    });
}

#[test]
#[ignore = "a measurement"]
fn channel() {
    measure("create and drop a channel", 500, || {
        drop(black_box(ParentEnd::create(512).expect("a channel")));
    });
}
