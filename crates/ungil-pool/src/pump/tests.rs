use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, waitpid};
use ungil_shm::channel::TASK_SLOTS;
use ungil_shm::{Block, ParentEnd, View, WorkerEnd, ring};

use super::*;
use crate::cell::{Failure, Outcome, Received};
use crate::inheritance::fork_unwatched;
use crate::items::{Items, Results, Source};
use crate::message::{ResultMessage, Stage, Status};
use crate::pace::Pace;
use crate::payload::{self, Inline, Payload};
use crate::reference::{self, Part, Place};
use crate::shared::Home;
use crate::task::{Function, StoredBlock};

/// A pool whose workers are in this thread.
struct Bench {
    core: Core,
    arena: Arc<Mutex<Arena>>,
    shared: Arc<SharedArena>,
    workers: Vec<WorkerEnd>,
}

impl Bench {
    fn new(workers: u64) -> Bench {
        let arena = Arena::create_pool(1 << 26).expect("address space");
        let bell = arena.pool_bell().expect("a pool's arena");
        let arena = Arc::new(Mutex::new(arena));
        let settings = Settings {
            workers_max: 4,
            threads_per_worker: 1,
            starts_all: false,
            tasks_per_worker_max: None,
            cpus: 1,
        };
        let shared = Arc::new(Mutex::new(Arena::create(1 << 26, 0).expect("address space")));
        let shared = SharedArena::new(shared, Home::Program);
        let holds = Arc::new(Holds::default());
        let core = Core::new(settings, bell, arena.clone(), shared.clone(), holds);
        let mut bench = Bench { core, arena, shared, workers: Vec::new() };
        (1..=workers).for_each(|number| bench.add_worker(number));
        bench
    }

    fn add_worker(&mut self, number: u64) {
        let end = ParentEnd::create(TASK_SLOTS).expect("memory");
        let descriptor = end.descriptor().try_clone_to_owned().expect("a descriptor");
        let worker = WorkerEnd::open(descriptor).expect("it was made just now");
        worker.set_stage(Stage::Ready as u32);
        let view = Arc::new(View::create(1 << 26).expect("address space"));
        self.core.add_worker(Member::new(number, end, view));
        self.core.pump();
        self.workers.push(worker);
    }

    fn submit(&mut self, parts: &[&[u8]]) -> Arc<Cell> {
        let payload = payload::store(&self.arena, parts).expect("memory");
        self.core.submit(Task { function: None, payload })
    }

    /// A task that refers to a new block, which nobody else holds.
    fn submit_shared(&mut self) -> (Arc<Cell>, Place) {
        let block = self.shared.allocate(100_000).expect("memory");
        let reference = self.shared.find(block.start().as_ptr(), 100_000).expect("in use");
        let parts = [Part::Bytes(b"task"), Part::Reference(&reference)];
        let payload = reference::store(&self.arena, &self.core.holds, &parts).expect("memory");
        let Payload::Block(stored) = payload else { panic!("it has a reference") };
        let segment = self.arena.lock().expect("no panic").segment().clone();
        let place = reference::places(&segment, stored).expect("a sound block")[1];
        (self.core.submit(Task { function: None, payload }), place)
    }

    /// Answers with a block of the worker's arena that refers to these bytes of the program's.
    fn answer_shared(&mut self, worker: usize, slot: u32, key: u64, place: Place) {
        let view = self.core.workers[worker].as_ref().expect("it lives").view.clone();
        view.segment().grow_to(4096).expect("memory");
        let table = [1 << 63 | 1, place.length, 1 << 63 | place.offset];
        for (index, word) in table.into_iter().enumerate() {
            assert!(view.segment().write(8 * index as u64, &word.to_ne_bytes()));
        }
        let payload = Payload::Block(Block { offset: 0, length: 64 });
        let message = ResultMessage::message(key, Status::Returned, 1_000_000_000, &payload);
        let worker = &mut self.workers[worker];
        worker.results.push(&message).expect("a sound ring").expect("room");
        worker.tasks.release(slot);
    }

    fn in_use(&self) -> u64 {
        self.arena.lock().expect("no panic").in_use_bytes()
    }

    /// What a worker is sent next: its slot, its key and where its data lies.
    fn take(&mut self, worker: usize) -> Option<(u32, u64, u64)> {
        let taken = self.workers[worker].tasks.take().expect("a sound ring");
        taken.map(|(slot, message)| (slot, message.words[0], message.words[4]))
    }

    /// Answers as if the task had run for a second.
    fn answer(&mut self, worker: usize, slot: u32, key: u64) {
        self.answer_after(1_000_000_000, worker, slot, key);
    }

    fn answer_after(&mut self, run_ns: u64, worker: usize, slot: u32, key: u64) {
        let nothing = Payload::Inline(Inline::empty());
        let message = ResultMessage::message(key, Status::Returned, run_ns, &nothing);
        let worker = &mut self.workers[worker];
        worker.results.push(&message).expect("a sound ring").expect("room");
        worker.tasks.release(slot);
    }

    fn release(&mut self, worker: usize, offset: u64) {
        assert!(self.workers[worker].released.push(offset));
    }
}

fn returned(cell: &Cell) -> bool {
    matches!(cell.take(), Some(Outcome::Returned(_)))
}

#[test]
fn a_block_given_back_before_the_answer_is_freed_once() {
    let mut bench = Bench::new(2);
    let first = bench.submit(&[&[1; 500]]);
    let (slot, key, offset) = bench.take(0).expect("it was sent");
    bench.release(0, offset);
    bench.core.pump();
    assert_eq!(bench.in_use(), 0, "nobody reads it any more");
    bench.answer(0, slot, key);
    bench.core.pump();
    assert!(returned(&first));
    // The block becomes the other worker's task's; the first worker's end must leave it alone.
    let keeps_busy = bench.submit(&[b"inline"]);
    let other = bench.submit(&[&[2; 500]]);
    let (_, _, again) = bench.take(1).expect("it was sent");
    assert_eq!(again, offset);
    let in_use = bench.in_use();
    bench.core.bury(1, None);
    assert_eq!(bench.in_use(), in_use);
    assert!(!other.is_over() && !keeps_busy.is_over());
    bench.core.bury(2, None);
    assert_eq!(bench.in_use(), 0);
    assert!(matches!(other.take(), Some(Outcome::Crashed(_))));
}

#[test]
fn a_block_given_back_after_the_answer_or_never_is_freed_once() {
    let mut bench = Bench::new(1);
    for is_given_back in [true, false] {
        let cell = bench.submit(&[&[1; 500]]);
        let (slot, key, offset) = bench.take(0).expect("it was sent");
        bench.answer(0, slot, key);
        bench.core.pump();
        assert!(returned(&cell));
        assert_ne!(bench.in_use(), 0, "the worker may still read it");
        if is_given_back {
            bench.release(0, offset);
            bench.core.pump();
            assert_eq!(bench.in_use(), 0);
        }
    }
    bench.core.bury(1, None);
    assert_eq!(bench.in_use(), 0);
}

#[test]
fn a_block_of_a_task_that_has_not_begun_cannot_be_given_back() {
    let mut bench = Bench::new(1);
    let running = bench.submit(&[&[1; 500]]);
    let waiting = bench.submit(&[&[2; 500]]);
    let (_, _, offset) = bench.take(0).expect("it was sent");
    let in_use = bench.in_use();
    let foreign = {
        let index = bench.core.workers[0].as_ref().expect("it lives");
        index.lent.keys().copied().find(|other| *other != offset).expect("both were sent")
    };
    bench.release(0, foreign);
    bench.core.pump();
    assert_eq!(bench.in_use(), in_use);
    bench.core.bury(1, None);
    assert!(matches!(running.take(), Some(Outcome::Failed(Failure::Corrupted { .. }))));
    // Its data is intact, and goes to the next worker.
    assert!(!waiting.is_over());
    bench.add_worker(2);
    assert_eq!(bench.take(1).map(|(_, _, offset)| offset), Some(foreign));
}

#[test]
fn an_answer_not_taken_in_keeps_its_slot() {
    let mut bench = Bench::new(1);
    // Nothing need be armed then, so nobody looks at answers on the way.
    bench.core.is_caller_pumping = true;
    let first = bench.submit(&[b"first"]);
    let (slot, key, _) = bench.take(0).expect("it was sent");
    bench.answer(0, slot, key);
    for _ in 1..TASK_SLOTS {
        let cell = bench.submit(&[b"never"]);
        assert!(bench.core.cancel(cell.key()));
        assert!(cell.is_cancelled());
    }
    assert!(!first.is_over());
    let last = bench.submit(&[b"last"]);
    assert!(returned(&first), "there was room only after a look at the answers");
    let (slot, key, _) = bench.take(0).expect("it was sent");
    assert_eq!(key, last.key());
    bench.answer(0, slot, key);
    bench.core.pump();
    assert!(returned(&last));
    assert!(bench.core.ledger.is_empty());
}

#[test]
fn an_idle_worker_gets_what_another_has_not_begun() {
    let mut bench = Bench::new(1);
    let cells: Vec<_> = (0..2).map(|_| bench.submit(&[b"task"])).collect();
    let (slot, key, _) = bench.take(0).expect("it was sent");
    assert_eq!(key, cells[0].key());
    bench.add_worker(2);
    bench.core.pump();
    assert_eq!(bench.take(1).map(|(_, key, _)| key), Some(cells[1].key()));
    assert_eq!(bench.take(0), None, "it was taken back");
    bench.answer(0, slot, key);
    bench.core.pump();
    assert!(returned(&cells[0]));
}

#[test]
fn an_idle_worker_gets_no_more_than_it_may_run() {
    let mut bench = Bench::new(1);
    (0..100).for_each(|_| bench.core.credit.note(500));
    let cells: Vec<_> = (0..40).map(|_| bench.submit(&[b"task"])).collect();
    bench.core.settings.tasks_per_worker_max = Some(3);
    // They were short, so for a moment they may wait behind one another.
    bench.add_worker(2);
    bench.core.pump();
    assert_eq!(bench.take(1), None);
    bench.core.check();
    bench.core.pump();
    let sent = std::iter::from_fn(|| bench.take(1)).count();
    assert_eq!(sent, 3);
    assert!(cells.iter().all(|cell| !cell.is_over()));
}

#[test]
fn who_has_no_right_to_an_answer_is_found_out() {
    let mut bench = Bench::new(2);
    let first = bench.submit(&[b"first"]);
    let second = bench.submit(&[b"second"]);
    let (slot, key, _) = bench.take(0).expect("it was sent");
    let (_, others, _) = bench.take(1).expect("it was sent");
    assert_eq!(others, second.key());
    bench.answer(0, slot, others);
    bench.core.pump();
    assert!(!second.is_over(), "the other worker runs it");
    // What it says from now on is not looked at.
    bench.answer(0, slot, key);
    bench.core.pump();
    assert!(!first.is_over());
    bench.core.bury(1, None);
    assert!(matches!(first.take(), Some(Outcome::Failed(Failure::Corrupted { .. }))));
}

#[test]
fn a_worker_condemned_before_it_was_known_is_killed_when_it_is() {
    let mut bench = Bench::new(1);
    bench.workers[0].results.push(&ring::Message::plain([9; 6])).expect("sound");
    bench.core.pump();
    let pid = fork_unwatched();
    assert!(pid >= 0);
    if pid == 0 {
        loop {
            // SAFETY: the child only waits.
            unsafe { libc::pause() };
        }
    }
    let child = Pid::from_raw(pid).expect("a child has a number");
    let descriptor = pidfd_open(child, PidfdFlags::empty()).expect("it lives");
    bench.core.started(1, pid as u32, descriptor);
    let ended = waitpid(Some(child), WaitOptions::empty()).expect("it is our child");
    assert_eq!(ended.expect("waited for").1.terminating_signal(), Some(libc::SIGKILL));
}

#[test]
fn three_lost_zygotes_in_a_row_break_a_pool_and_two_do_not() {
    let mut bench = Bench::new(0);
    let cell = bench.submit(&[b"task"]);
    for round in 0..3 {
        assert!(!cell.is_over());
        for number in 1..=4 {
            let end = ParentEnd::create(TASK_SLOTS).expect("memory");
            let view = Arc::new(View::create(1 << 20).expect("address space"));
            bench.core.add_worker(Member::new(10 * round + number, end, view));
        }
        bench.core.lose_zygote();
        assert!(bench.core.workers.iter().all(Option::is_none));
    }
    assert!(matches!(cell.take(), Some(Outcome::Failed(Failure::Broken(_)))));
    bench.core.settle();
    assert_eq!(bench.core.phase, Phase::Closed);
}

#[test]
fn cancelled_tasks_do_not_pile_up_in_the_backlog() {
    let mut bench = Bench::new(0);
    let kept = bench.submit(&[b"kept"]);
    for _ in 0..10_000 {
        let cell = bench.submit(&[b"never"]);
        assert!(bench.core.cancel(cell.key()));
    }
    assert!(bench.core.backlog.len() < 1000);
    bench.add_worker(1);
    bench.core.pump();
    assert_eq!(bench.take(0).map(|(_, key, _)| key), Some(kept.key()));
    assert_eq!(bench.take(0), None);
}

#[test]
fn what_a_task_refers_to_is_held_until_the_worker_gives_it_back() {
    let mut bench = Bench::new(1);
    let (cell, _) = bench.submit_shared();
    let (slot, key, offset) = bench.take(0).expect("it was sent");
    assert_ne!(bench.shared.in_use_bytes(), 0, "only the task holds it");
    bench.answer(0, slot, key);
    bench.core.pump();
    assert!(returned(&cell));
    assert_ne!(bench.shared.in_use_bytes(), 0, "the worker may have kept it");
    bench.release(0, offset);
    bench.core.pump();
    assert_eq!((bench.shared.in_use_bytes(), bench.in_use()), (0, 0));
    // Twice is nonsense, and lets go of nothing.
    let (_other, _) = bench.submit_shared();
    let in_use = bench.shared.in_use_bytes();
    bench.release(0, offset);
    bench.core.pump();
    assert_eq!(bench.shared.in_use_bytes(), in_use);
    assert!(bench.core.workers[0].as_ref().expect("it lives").is_corrupted);
}

#[test]
fn what_a_dead_worker_held_is_let_go_of_and_what_it_had_not_begun_goes_on() {
    let mut bench = Bench::new(1);
    let (running, _) = bench.submit_shared();
    let (waiting, _) = bench.submit_shared();
    let each = bench.shared.in_use_bytes() / 2;
    bench.take(0).expect("it was sent");
    bench.core.bury(1, None);
    assert!(matches!(running.take(), Some(Outcome::Crashed(_))));
    assert_eq!(bench.shared.in_use_bytes(), each, "the other task holds its own");
    bench.add_worker(2);
    let (slot, key, _) = bench.take(1).expect("it was sent again");
    assert_eq!(key, waiting.key());
    bench.answer(1, slot, key);
    bench.core.bury(2, None);
    assert!(returned(&waiting));
    assert_eq!((bench.shared.in_use_bytes(), bench.in_use()), (0, 0));
}

#[test]
fn tasks_that_are_never_run_let_go_of_what_they_refer_to() {
    let mut bench = Bench::new(0);
    let (cancelled, _) = bench.submit_shared();
    let (broken, _) = bench.submit_shared();
    assert!(bench.core.cancel(cancelled.key()));
    assert_ne!(bench.shared.in_use_bytes(), 0);
    bench.core.break_down("for the test".into());
    assert!(matches!(broken.take(), Some(Outcome::Failed(_))));
    assert_eq!((bench.shared.in_use_bytes(), bench.in_use()), (0, 0));
}

#[test]
fn a_result_holds_what_it_refers_to_also_when_its_worker_has_died() {
    let mut bench = Bench::new(1);
    let (cell, place) = bench.submit_shared();
    let (slot, key, _) = bench.take(0).expect("it was sent");
    let part = Place { offset: place.offset + 64, length: 1000, ..place };
    bench.answer_shared(0, slot, key, part);
    bench.core.bury(1, None);
    let Some(Outcome::Returned(Received::Lent(lent))) = cell.take() else {
        panic!("it was answered")
    };
    let parts = lent.parts().expect("it is sound");
    drop(lent);
    assert_eq!(parts[0].length, 1000);
    assert_ne!(bench.shared.in_use_bytes(), 0);
    drop(parts);
    assert_eq!((bench.shared.in_use_bytes(), bench.in_use()), (0, 0));
}

#[test]
fn a_result_that_refers_to_what_is_nobodys_is_nonsense() {
    let out_of_bounds: [fn(Place) -> Place; 5] = [
        |place| Place { length: place.length + 1, ..place },
        |place| Place { offset: place.offset + 200_000, ..place },
        |place| Place { offset: u64::MAX >> 3, ..place },
        |place| Place { length: u64::MAX, ..place },
        // In the worker's own arena, beyond its end.
        |place| Place { offset: 1 << 62 | 4000, length: 97, ..place },
    ];
    for spoil in out_of_bounds {
        let mut bench = Bench::new(1);
        let (cell, place) = bench.submit_shared();
        let (slot, key, _) = bench.take(0).expect("it was sent");
        bench.answer_shared(0, slot, key, spoil(place));
        bench.core.pump();
        assert!(!cell.is_over());
        bench.core.bury(1, None);
        assert!(matches!(cell.take(), Some(Outcome::Failed(Failure::Corrupted { .. }))));
        assert_eq!((bench.shared.in_use_bytes(), bench.in_use()), (0, 0));
    }
}

#[test]
fn tasks_behind_one_that_was_taken_for_short_are_moved_when_it_is_checked() {
    let mut bench = Bench::new(2);
    (0..100).for_each(|_| bench.core.credit.note(500));
    let cells: Vec<_> = (0..5).map(|_| bench.submit(&[b"task"])).collect();
    assert_eq!(bench.take(1), None, "another worker is not woken for a few short tasks");
    let (slot, key, _) = bench.take(0).expect("it was sent");
    assert!(std::mem::take(&mut bench.core.wants_check) && bench.core.check_at.is_some());
    // It gets on: it is left the others, and checked again.
    bench.answer_after(500, 0, slot, key);
    bench.core.pump();
    assert!(bench.core.check());
    bench.core.pump();
    assert_eq!(bench.take(1), None);
    // It does not get on.
    assert!(!bench.core.check(), "nobody looks again and again at one that does not get on");
    bench.core.pump();
    assert!(bench.take(1).is_some());
    assert!(returned(&cells[0]) && !cells[1].is_over());
}

impl Bench {
    /// A batch of so many items, which follow from nothing.
    fn submit_items(&mut self, count: u32) -> Arc<Results> {
        let block = StoredBlock::allocate(&self.arena, 64).expect("memory");
        let function = Arc::new(Function::new(1, block));
        let source = Source::Described(Inline::empty());
        let pace = Arc::new(Pace::measured(1));
        // So many more wait that these are one chunk.
        pace.add_waiting(1000);
        let items = Arc::new(Items::new(function, source, pace));
        let results = Arc::<Results>::default();
        let mut batch = Growing { items, results: results.clone(), count: 0, key: 0, bytes: 0 };
        self.core.extend_items(&mut batch, count);
        results
    }

    /// Sends results of items that need no bytes.
    fn answer_items(&mut self, worker: usize, key: u64, items: (u32, u32), is_last: bool) {
        let nothing = Payload::Inline(Inline::empty());
        let message = ResultMessage::items_message(key, Status::Items, 0, items, is_last, &nothing);
        self.workers[worker].results.push(&message).expect("a sound ring").expect("room");
    }
}

#[test]
fn who_waits_for_a_later_item_is_heard_again_after_results_were_sent() {
    let mut bench = Bench::new(1);
    let results = bench.submit_items(5);
    let (slot, key, _) = bench.take(0).expect("it was sent");
    let span = bench.workers[0].tasks.span(slot).expect("a slot");
    assert!(!span.claim().is_watched);
    bench.core.watch(&results, 2);
    // The worker hears of it with the next item, and sends what it has: not what is waited for.
    assert!(span.claim().is_watched);
    span.unwatch();
    bench.answer_items(0, key, (0, 1), false);
    bench.core.pump();
    assert!(results.has(0) && !results.has(2));
    assert!(span.claim().is_watched, "the wish lasts until the item is there");
    span.unwatch();
    bench.answer_items(0, key, (1, 2), false);
    bench.core.pump();
    assert!(!span.claim().is_watched);
}

#[test]
fn a_worker_may_read_its_items_until_it_has_ended() {
    let mut bench = Bench::new(1);
    drop(bench.submit_items(5));
    bench.take(0).expect("it was sent");
    bench.core.break_down("for a test".into());
    assert_ne!(bench.in_use(), 0, "it is being killed, but may still read");
    bench.core.bury(1, None);
    assert_eq!(bench.in_use(), 0);
}
