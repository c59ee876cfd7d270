//! What is done for every task and item, with a real worker in the same thread.
//!
//! They are tests, and `scripts/count-instructions` counts what they execute: it runs each with two
//! numbers of repeats, and the difference is what one repeat costs, whatever else the machine does.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use ungil_shm::channel::TASK_SLOTS;
use ungil_shm::{Arena, ParentEnd, View};

use super::{Core, Member};
use crate::cell::Outcome;
use crate::items::{Growing, Items, Results, RunOutcome, Source};
use crate::message::Status;
use crate::pace::Pace;
use crate::payload::{self, Inline};
use crate::pool::Settings;
use crate::shared::{Holds, SharedArena};
use crate::task::{Function, StoredBlock, Task};
use crate::worker::{self, Data, Worker};
use crate::zygote::Start;

struct Pair {
    core: Core,
    arena: Arc<Mutex<Arena>>,
    worker: Worker,
}

impl Pair {
    fn new() -> Pair {
        let arena = Arena::create_pool(1 << 26).expect("address space");
        let bell = arena.pool_bell().expect("a pool's arena");
        let pool = arena.descriptor().try_clone_to_owned().expect("a descriptor");
        let arena = Arc::new(Mutex::new(arena));
        let settings = Settings {
            workers_max: 1,
            threads_per_worker: 1,
            starts_all: false,
            tasks_per_worker_max: None,
            cpus: 1,
        };
        let shared = SharedArena::of_this_process().expect("address space");
        let shared_descriptor = shared.descriptor().expect("a descriptor");
        let mut core = Core::new(settings, bell, arena.clone(), shared, Arc::new(Holds::default()));
        let end = ParentEnd::create(TASK_SLOTS).expect("memory");
        let view = View::create(1 << 26).expect("address space");
        let own = |descriptor: std::os::fd::BorrowedFd<'_>| -> OwnedFd {
            descriptor.try_clone_to_owned().expect("a descriptor")
        };
        let descriptors = vec![
            memfd_create("ungil", MemfdFlags::CLOEXEC).expect("a descriptor"),
            own(end.descriptor()),
            own(view.segment().descriptor()),
            pool,
            eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor"),
            shared_descriptor,
        ];
        core.add_worker(Member::new(1, end, Arc::new(view)));
        let worker = Worker::open(Start { descriptors }).expect("a sound start").worker;
        worker.ready();
        core.pump();
        // A caller pumps, as in a burst or a round trip: nothing is armed then.
        core.is_caller_pumping = true;
        Pair { core, arena, worker }
    }

    fn submit(&mut self, function: &Arc<Function>) -> Arc<crate::cell::Cell> {
        let payload = payload::store(&self.arena, &[b"a few bytes"]).expect("memory");
        self.core.submit(Task { function: Some(function.clone()), payload })
    }

    /// Does the next task, if there is one.
    fn work(&self) -> bool {
        let Some(job) = self.worker.try_next() else { return false };
        let (ticket, _, data) = job.split();
        assert!(matches!(data, Data::Inline(_)));
        let payload = self.worker.store(&[b"result"]).expect("memory");
        self.worker.answer(ticket, Status::Returned, 500, &payload);
        true
    }

    fn function(&self) -> Arc<Function> {
        Arc::new(Function::new(1, StoredBlock::allocate(&self.arena, 64).expect("memory")))
    }
}

fn repeats() -> u32 {
    std::env::var("UNGIL_REPEATS").ok().and_then(|it| it.parse().ok()).unwrap_or(1000)
}

#[test]
fn hot_path_round_trip() {
    let mut pair = Pair::new();
    let function = pair.function();
    for _ in 0..repeats() {
        let cell = pair.submit(&function);
        assert!(pair.work());
        pair.core.pump();
        assert!(matches!(cell.take(), Some(Outcome::Returned(_))));
    }
}

#[test]
fn hot_path_burst() {
    let mut pair = Pair::new();
    let function = pair.function();
    let cells: Vec<_> = (0..repeats()).map(|_| pair.submit(&function)).collect();
    while cells.last().is_some_and(|cell| !cell.is_over()) {
        while pair.work() {}
        pair.core.pump();
    }
    assert!(cells.iter().all(|cell| matches!(cell.take(), Some(Outcome::Returned(_)))));
}

#[test]
fn hot_path_items() {
    let mut pair = Pair::new();
    let source = Source::Described(Inline::new(b"numbers").expect("it fits"));
    let pace = Arc::new(Pace::measured(100));
    let items = Arc::new(Items::new(pair.function(), source, pace));
    let results = Arc::new(Results::default());
    let mut batch = Growing { items, results: results.clone(), count: 0, key: 0, bytes: 0 };
    let count = repeats();
    pair.core.extend_items(&mut batch, count);
    let mut done = 0;
    while let Some(job) = pair.worker.try_next() {
        let (ticket, _, data) = job.split();
        let Data::Items(items) = data else { panic!("they are items") };
        let mut chunk = worker::Chunk::new(&pair.worker, ticket, &items);
        while chunk.claim().is_some() {
            chunk.finish(b"n").expect("memory");
        }
        chunk.end();
        pair.core.pump();
        while let Some(run) = results.take(done) {
            done += run.count;
            let RunOutcome::Values { received, .. } = run.outcome else { panic!("they returned") };
            assert_eq!(received.into_bytes().expect("a sound log"), vec![b'n'; run.count as usize]);
        }
    }
    assert_eq!(done, count);
}
