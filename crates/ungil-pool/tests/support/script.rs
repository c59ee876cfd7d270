//! What workers of the tests do.
//!
//! The likeness is the script: what the worker does before it takes tasks. A task is a line of text,
//! in its first part. Of the descriptors that a worker gets it writes into the first and reads from
//! the second.

use std::os::fd::{AsFd, OwnedFd};

use ungil_pool::zygote::Start;
use ungil_pool::{Chunk, ChunkItems, Data, Inline, Opened, Payload, Status, Ticket, Worker};
use ungil_shm::ring::Message;
use ungil_shm::{Segment, SlotState, WorkerEnd};

/// Slots of a ring, and where the rings lie: the layout of a channel, which the parent does not read
/// from shared memory either.
const SLOTS: u64 = 512;
const HEADER_BYTES: u64 = 640;
const SLOT_BYTES: u64 = 128;
const RESULTS: u64 = HEADER_BYTES + SLOTS * SLOT_BYTES;
const RELEASED: u64 = RESULTS + SLOTS * SLOT_BYTES;
/// Where the pool's doorbell says what is wanted, in the pool's arena.
const WANTED: u64 = 132;

/// The order of the descriptors that a worker is started with.
const CHANNEL: usize = 1;
const ARENA: usize = 3;
const EVENT: usize = 4;
const TELL: usize = 6;
const WAIT: usize = 7;

/// Does what the script says, to the worker's end.
pub fn run(start: Start) -> i32 {
    let script = {
        let mut bytes = vec![0; 4096];
        let read = rustix::io::pread(&start.descriptors[0], &mut bytes, 0).expect("it was written");
        bytes.truncate(read);
        String::from_utf8(bytes).expect("scripts are text")
    };
    let mut words = script.split(' ');
    let wild = Wild::new(&start);
    match words.next().expect("a script has a verb") {
        "sound" => {
            let threads = words.next().map_or(1, |count| count.parse().expect("a number"));
            let opened = Worker::open(start).expect("a sound start");
            opened.worker.ready();
            sound(opened, threads, &wild)
        }
        // Becomes ready only when it is told to.
        "late" => {
            wild.tell();
            wild.hold();
            let opened = Worker::open(start).expect("a sound start");
            opened.worker.ready();
            sound(opened, 1, &wild)
        }
        "exit" => words.next().expect("a code").parse().expect("a number"),
        "die" => die(libc::SIGKILL),
        "fail" => {
            let opened = Worker::open(start).expect("a sound start");
            opened.worker.fail(script.strip_prefix("fail ").expect("a reason"));
            0
        }
        "raw" => {
            let point = words.next().expect("a point");
            let signal = words.next().expect("a signal").parse().expect("a number");
            raw(start, point, signal)
        }
        other => panic!("no script begins with {other:?}"),
    }
}

fn die(signal: i32) -> ! {
    // SAFETY: the default action, which Rust's own handlers of faults stand before.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: this process signals itself.
    unsafe { libc::raise(signal) };
    pause()
}

/// Waits to be killed.
fn pause() -> ! {
    loop {
        // SAFETY: it only waits.
        unsafe { libc::pause() };
    }
}

/// What native code that has gone astray can reach.
struct Wild {
    channel: Segment,
    arena: Segment,
    event: OwnedFd,
    tell: OwnedFd,
    wait: OwnedFd,
}

impl Wild {
    fn new(start: &Start) -> Wild {
        let again = |index: usize| {
            start.descriptors[index].as_fd().try_clone_to_owned().expect("a descriptor is free")
        };
        Wild {
            channel: Segment::open(again(CHANNEL), 0).expect("a channel"),
            arena: Segment::open(again(ARENA), 0).expect("an arena"),
            event: again(EVENT),
            tell: again(TELL),
            wait: again(WAIT),
        }
    }

    fn tell(&self) {
        assert_eq!(rustix::io::write(&self.tell, b"!"), Ok(1));
    }

    fn hold(&self) {
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.wait, &mut [0u8; 1]));
        assert!(read.is_ok());
    }

    fn wake_supervisor(&self) {
        assert_eq!(rustix::io::write(&self.event, &1u64.to_ne_bytes()), Ok(8));
    }

    fn write_word(&self, offset: u64, word: u64) {
        assert!(self.channel.write(offset, &word.to_ne_bytes()));
    }

    fn word(&self, offset: u64) -> u64 {
        let bytes = self.channel.read(offset, 8).expect("it lies in the channel");
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// The key of the first task that this worker was sent.
    fn first_key(&self) -> u64 {
        self.word(HEADER_BYTES + 8)
    }

    /// Writes a result past the ring's producer, in its first slot.
    fn result(&self, words: [u64; 6], state_and_length: u64) {
        for (index, word) in words.into_iter().enumerate() {
            self.write_word(RESULTS + 8 + 8 * index as u64, word);
        }
        self.write_word(RESULTS, state_and_length);
    }

    /// Writes into the first slot of its tasks, which must be about items, what no worker writes.
    fn spoil(&self, kind: &str) {
        let (offset, bytes, progress, range) = (40 + 56, 48 + 56, 56 + 56, 64 + 56);
        let (word, value) = match kind {
            "offset" => (offset, u64::MAX),
            "bytes" => (bytes, u64::MAX),
            "first" => (progress, 9 << 32 | 9),
            "done" => (progress, 1 << 30),
            "next" => (range, 10 << 32 | 8),
            "limit" => (range, 1 << 60),
            other => panic!("nothing is called {other:?}"),
        };
        self.write_word(HEADER_BYTES + word, value);
    }

    /// Writes what no worker writes. It must be the worker's first task.
    fn nonsense(&self, kind: &str) -> ! {
        let ready = SlotState::Ready as u64;
        match kind {
            "unknown-key" => self.result([u64::MAX, 1, 0, 0, 0, 0], ready),
            "key-zero" => self.result([0, 1, 0, 0, 0, 0], ready),
            "wrong-status" => self.result([self.first_key(), 9, 0, 0, 0, 0], ready),
            "initializer" => self.result([self.first_key(), 3, 0, 0, 0, 0], ready),
            "state" => self.result([self.first_key(), 1, 0, 0, 0, 0], 77),
            "length" => self.result([self.first_key(), 1, 0, 0, 0, 0], ready | 99 << 32),
            "foreign-block" => self.write_word(RELEASED, 4096 + 1),
            "no-block" => self.write_word(RELEASED, u64::MAX),
            other => panic!("no nonsense is called {other:?}"),
        }
        self.wake_supervisor();
        pause()
    }
}

/// Takes tasks until the parent wants the worker to end.
fn sound(opened: Opened, threads: u32, wild: &Wild) -> i32 {
    let worker = &opened.worker;
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| serve(worker, wild));
        }
        serve(worker, wild);
    });
    0
}

fn serve(worker: &Worker, wild: &Wild) {
    while let Some(job) = worker.next(&mut || {}, &mut || {}) {
        let (ticket, function, data) = job.split();
        let (line, parts) = match &data {
            Data::Inline(inline) => (inline.bytes().to_vec(), Vec::new()),
            Data::Lent(lent) => {
                let count = lent.parts().expect("a sound block").len();
                let mut parts: Vec<Vec<u8>> =
                    (0..count).map(|part| lent.copy(part).expect("a sound part")).collect();
                (parts.remove(0), parts)
            }
            Data::Items(items) => {
                serve_items(worker, wild, ticket, items);
                continue;
            }
        };
        let line = String::from_utf8(line).expect("commands are text");
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        // A worker may keep what it is called with until it ends.
        let mut kept: Option<Data> = Some(data);
        let answer = |status, parts: &[&[u8]]| {
            let payload = worker.store(parts).expect("memory");
            worker.answer(ticket, status, 1000, &payload);
        };
        let returned = |text: &[u8]| answer(Status::Returned, &[text]);
        match verb {
            "echo" => returned(rest.as_bytes()),
            "long" => {
                let payload = worker.store(&[rest.as_bytes()]).expect("memory");
                // It says that it ran for a second, so that nothing is sent ahead of it.
                worker.answer(ticket, Status::Returned, 1_000_000_000, &payload);
            }
            "raise" => answer(Status::Raised, &[rest.as_bytes()]),
            "nothing" => {
                worker.answer(ticket, Status::Returned, 1, &Payload::Inline(Inline::empty()))
            }
            "pid" => returned(std::process::id().to_string().as_bytes()),
            // A block of two parts, of which the second is so long.
            "big" => answer(Status::Returned, &[b"big", &vec![7; rest.parse().expect("a length")]]),
            "parts" => {
                // Given back before the answer, as Python does with what is decoded.
                kept = None;
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                answer(Status::Returned, &parts);
            }
            "function" => {
                let (_, block) = function.expect("the task names one");
                returned(&worker.definition(block).expect("it lies there"));
            }
            "drop-tell-hold" => {
                kept = None;
                wild.tell();
                wild.hold();
                returned(b"");
            }
            "tell" => {
                wild.tell();
                returned(b"");
            }
            "hold" => {
                wild.tell();
                wild.hold();
                returned(b"held");
            }
            "wait" => {
                wild.hold();
                returned(b"waited");
            }
            "in-use" => returned(worker.in_use_bytes().to_string().as_bytes()),
            "exit" => super::isolated::exit(rest.parse().expect("a code")),
            "kill" => die(rest.parse().expect("a signal")),
            "answer-and-die" => {
                returned(rest.as_bytes());
                die(libc::SIGKILL);
            }
            "answer-twice" => {
                returned(rest.as_bytes());
                worker.answer(ticket, Status::Returned, 1000, &Payload::Inline(Inline::empty()));
                wild.wake_supervisor();
                pause();
            }
            "nonsense" => wild.nonsense(rest),
            "bad-result" => {
                let block = ungil_shm::Block { offset: 1 << 50, length: u64::MAX >> 1 };
                worker.answer(ticket, Status::Returned, 1000, &Payload::Block(block));
            }
            // Whatever the parent asks the workers to ring for is forgotten, until this one is killed.
            "erase-bell" => {
                assert!(wild.arena.write(WANTED, &[0; 4]));
                wild.tell();
                loop {
                    assert!(wild.arena.write(WANTED, &[0; 4]));
                }
            }
            "wreck-tasks" => {
                for slot in 0..SLOTS {
                    assert!(wild.channel.write(HEADER_BYTES + slot * SLOT_BYTES, &[77, 0, 0, 0]));
                }
                returned(b"wrecked");
            }
            other => panic!("no command is called {other:?}"),
        }
        drop(kept);
    }
}

/// Does what each item says, a line of text. Described items are numbers from the first one on, and
/// their results the same.
fn serve_items(worker: &Worker, wild: &Wild, ticket: Ticket, items: &ChunkItems) {
    let mut chunk = Chunk::new(worker, ticket, items);
    let text = std::str::from_utf8(&items.bytes).expect("commands are text");
    let mut lines = text.lines();
    while let Some(item) = chunk.claim() {
        let line = match lines.next() {
            Some(line) => line.to_owned(),
            None => format!("echo {}", items.first + item),
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let mut finish = |text: &str| {
            chunk.finish(format!("{text}\n").as_bytes()).expect("memory");
        };
        match verb {
            "echo" => finish(rest),
            "long" => finish(&"x".repeat(rest.parse().expect("a length"))),
            "alone" | "raise" => {
                let payload = worker.store(&[rest.as_bytes(), b"by itself"]).expect("memory");
                let is_raised = verb == "raise";
                let status = if is_raised { Status::ItemRaised } else { Status::ItemReturned };
                chunk.finish_alone(status, &payload);
            }
            "pid" => finish(&std::process::id().to_string()),
            "hold" => {
                wild.tell();
                wild.hold();
                finish("held");
            }
            "tell" => {
                wild.tell();
                finish("told");
            }
            "kill" => die(rest.parse().expect("a signal")),
            "finish-and-die" => {
                finish(rest);
                die(libc::SIGKILL);
            }
            "alone-and-die" => {
                let payload = worker.store(&[rest.as_bytes(), b"by itself"]).expect("memory");
                chunk.finish_alone(Status::ItemReturned, &payload);
                die(libc::SIGKILL);
            }
            "spoil" => {
                wild.spoil(rest);
                die(libc::SIGKILL);
            }
            other => panic!("no item is called {other:?}"),
        }
    }
    chunk.end();
}

/// A worker that does step by step what `Worker` does, and at one point of the task "victim" signals
/// itself.
fn raw(start: Start, point: &str, signal: i32) -> i32 {
    let mut descriptors = start.descriptors.into_iter().skip(CHANNEL);
    let mut end = WorkerEnd::open(descriptors.next().expect("a channel")).expect("a channel");
    let arena = Segment::open(descriptors.nth(1).expect("an arena"), 0).expect("an arena");
    let bell = ungil_shm::View::open(
        arena.descriptor().try_clone_to_owned().expect("a descriptor"),
        ungil_shm::reserve_bytes(),
    )
    .and_then(|view| view.pool_bell())
    .expect("the pool's arena");
    let event = descriptors.next().expect("an event");
    let wake = || assert_eq!(rustix::io::write(&event, &1u64.to_ne_bytes()), Ok(8));
    end.set_stage(1);
    wake();
    loop {
        let Ok(Some((slot, task))) = end.tasks.take() else {
            if end.flags() & 1 != 0 {
                return 0;
            }
            let ticket = end.bell().ticket();
            end.bell().arm_anew(1);
            if !end.tasks.is_ready() && end.flags() & 1 == 0 {
                let wanted = bell.wanted();
                if wanted & 2 != 0 {
                    wake();
                }
                end.bell().wait(ticket, None);
            }
            end.bell().disarm(1);
            continue;
        };
        let is_victim = task.inline() == b"victim";
        let at = |here: &str| {
            if is_victim && here == point {
                // SAFETY: this process signals itself.
                unsafe { libc::raise(signal) };
            }
        };
        at("taken");
        let words = [task.words[0], 1, 1000, 0, 0, 0];
        let result = Message::new(words, task.inline()).expect("it fits");
        end.results.push(&result).expect("sound").expect("there is room");
        at("published");
        end.tasks.release(slot);
        at("released");
        let wanted = bell.wanted();
        if wanted & 1 != 0 {
            bell.ring();
        } else if wanted & 4 != 0 {
            wake();
        }
        at("rung");
    }
}
