//! A parent and a worker that is a process of its own.
#![cfg(not(loom))]

use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ungil_shm::channel::{STOP, TASK_SLOTS};
use ungil_shm::{Arena, Bell, Message, ParentEnd, SlotState, View, Wake, WorkerEnd};

const NEWS: u32 = 1;

fn again(descriptor: impl AsFd) -> OwnedFd {
    descriptor.as_fd().try_clone_to_owned().expect("a descriptor is free")
}

/// A child process that is killed and reaped, whatever becomes of the test.
struct Child(libc::pid_t);

impl Child {
    /// Runs this in a child. Everything it needs is mapped before, so that it hardly allocates.
    fn fork(body: impl FnOnce()) -> Child {
        // SAFETY: The child runs only the body, on memory of its own, and never comes back.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: The call has no preconditions. A child whose parent dies dies with it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            let code = i32::from(catch_unwind(AssertUnwindSafe(body)).is_err());
            // SAFETY: The call has no preconditions, and runs none of the parent's destructors.
            unsafe { libc::_exit(code) };
        }
        assert!(pid > 0, "fork failed");
        Child(pid)
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: The child has not been reaped, so the number is still its own.
        unsafe { libc::kill(self.0, signal) };
    }

    /// The status with which the child ended.
    fn join(self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: The status is a valid place to write to.
        let reaped = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!(reaped, self.0);
        std::mem::forget(self);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        // SAFETY: No status is asked for.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

/// Sleeps until the condition holds. Nobody waits a minute in these tests but for a lost wake-up.
fn sleep_until(bell: &Bell, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        let ticket = bell.ticket();
        bell.arm(NEWS);
        if !condition() {
            assert_ne!(bell.wait(ticket, Some(deadline)), Wake::TimedOut, "a lost wake-up");
        }
        bell.disarm(NEWS);
    }
}

fn tell(bell: &Bell) {
    if bell.wanted() & NEWS != 0 {
        bell.ring();
    }
}

fn numbered(number: u64) -> Message {
    Message::new([number; 6], &number.to_ne_bytes()).expect("it fits")
}

struct Star {
    parent: ParentEnd,
    worker: WorkerEnd,
    parent_bell: Bell,
    worker_view_of_parent_bell: Bell,
    pool: Arena,
    view: View,
}

/// Both ends, in one process until it forks. Each has a mapping of its own.
fn star(capacity: u32) -> Star {
    let parent = ParentEnd::create(capacity).expect("a channel");
    let worker = WorkerEnd::open(again(parent.descriptor())).expect("it was just made");
    let pool = Arena::create_pool(64 << 20).expect("an arena");
    let view = View::open(again(pool.descriptor()), pool.segment().reserve()).expect("a view");
    let parent_bell = pool.pool_bell().expect("a header");
    let worker_view_of_parent_bell = view.pool_bell().expect("a header");
    Star { parent, worker, parent_bell, worker_view_of_parent_bell, pool, view }
}

/// Takes tasks until it is told to stop, and sends each one back.
fn echo(mut worker: WorkerEnd, parent_bell: &Bell) {
    let control = worker.control();
    worker.set_stage(1);
    tell(parent_bell);
    loop {
        let ready = |worker: &WorkerEnd| worker.tasks.is_ready() || control.flags() & STOP != 0;
        sleep_until(control.bell(), || ready(&worker));
        while let Some((index, message)) = worker.tasks.take().expect("sound") {
            while worker.results.push(&message).expect("sound").is_none() {
                // The parent takes results whenever it is told, so this passes.
                tell(parent_bell);
                std::thread::yield_now();
            }
            worker.tasks.release(index);
            tell(parent_bell);
        }
        if control.flags() & STOP != 0 && !worker.tasks.is_ready() {
            return;
        }
    }
}

#[test]
fn a_hundred_thousand_messages_go_each_way() {
    const MESSAGES: u64 = 100_000;
    let Star { mut parent, worker, parent_bell, worker_view_of_parent_bell, .. } = star(TASK_SLOTS);
    let child = Child::fork(move || echo(worker, &worker_view_of_parent_bell));
    let (mut sent, mut received) = (0, 0);
    while received < MESSAGES {
        while sent < MESSAGES && parent.tasks.push(&numbered(sent)).expect("sound").is_some() {
            sent += 1;
        }
        tell(parent.bell());
        sleep_until(&parent_bell, || parent.results.is_ready());
        while let Some((index, message)) = parent.results.take().expect("sound") {
            assert_eq!(message, numbered(received));
            received += 1;
            parent.results.release(index);
        }
    }
    assert_eq!(parent.stage(), 1);
    parent.set_flag(STOP);
    tell(parent.bell());
    assert_eq!(child.join(), 0);
}

#[test]
fn one_message_at_a_time_wakes_each_side_each_time() {
    let Star { mut parent, worker, parent_bell, worker_view_of_parent_bell, .. } = star(2);
    let child = Child::fork(move || echo(worker, &worker_view_of_parent_bell));
    for number in 0..5_000 {
        parent.tasks.push(&numbered(number)).expect("sound").expect("room");
        tell(parent.bell());
        sleep_until(&parent_bell, || parent.results.is_ready());
        let (index, message) = parent.results.take().expect("sound").expect("it is ready");
        assert_eq!(message, numbered(number));
        parent.results.release(index);
    }
    parent.set_flag(STOP);
    tell(parent.bell());
    assert_eq!(child.join(), 0);
}

/// Takes so many tasks, says so, and does nothing more.
fn take_and_stay(mut worker: WorkerEnd, parent_bell: &Bell, tasks: u32) {
    for _ in 0..tasks {
        worker.tasks.take().expect("sound").expect("they were pushed before the fork");
    }
    worker.set_stage(1);
    tell(parent_bell);
    loop {
        // SAFETY: The call has no preconditions.
        unsafe { libc::pause() };
    }
}

#[test]
fn what_a_killed_worker_had_begun_can_be_told_from_what_it_had_not() {
    let Star { mut parent, worker, parent_bell, worker_view_of_parent_bell, .. } = star(8);
    let slots: Vec<u32> = (0..6)
        .map(|number| parent.tasks.push(&numbered(number)).expect("sound").expect("room"))
        .collect();
    let child = Child::fork(move || take_and_stay(worker, &worker_view_of_parent_bell, 2));
    let control = parent.control();
    sleep_until(&parent_bell, || control.stage() == 1);
    child.signal(libc::SIGKILL);
    assert!(libc::WIFSIGNALED(child.join()));
    assert_eq!(parent.results.take(), Ok(None));
    for (nth, slot) in slots.into_iter().enumerate() {
        let begun = nth < 2;
        let expected = if begun { SlotState::Taken } else { SlotState::Ready };
        assert_eq!(parent.tasks.state(slot), Ok(expected));
        assert_eq!(parent.tasks.revoke(slot), !begun);
    }
}

#[test]
fn tasks_of_a_stopped_worker_can_be_taken_back() {
    let Star { mut parent, worker, parent_bell, worker_view_of_parent_bell, .. } = star(8);
    let child = Child::fork(move || echo(worker, &worker_view_of_parent_bell));
    let control = parent.control();
    sleep_until(&parent_bell, || control.stage() == 1);
    child.signal(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: The status is a valid place to write to.
    let stopped = unsafe { libc::waitpid(child.0, &mut status, libc::WUNTRACED) };
    assert!(stopped == child.0 && libc::WIFSTOPPED(status));

    let first = parent.tasks.push(&numbered(1)).expect("sound").expect("room");
    parent.tasks.push(&numbered(2)).expect("sound").expect("room");
    tell(parent.bell());
    assert!(parent.tasks.revoke(first));
    child.signal(libc::SIGCONT);
    sleep_until(&parent_bell, || parent.results.is_ready());
    let (_, message) = parent.results.take().expect("sound").expect("it is ready");
    assert_eq!(message, numbered(2), "the revoked task was passed over");
    parent.set_flag(STOP);
    tell(parent.bell());
    assert_eq!(child.join(), 0);
}

#[test]
fn blocks_travel_and_come_back() {
    const BLOCKS: u64 = 2_000;
    let Star { mut parent, mut worker, parent_bell, worker_view_of_parent_bell, mut pool, view } =
        star(4);
    let child = Child::fork(move || {
        let control = worker.control();
        let mut seen = 0;
        while seen < BLOCKS {
            sleep_until(control.bell(), || worker.tasks.is_ready());
            while let Some((index, message)) = worker.tasks.take().expect("sound") {
                let [offset, length, byte, ..] = message.words;
                // The file has grown since this process mapped it.
                let bytes = view.segment().read(offset, length).expect("it lies in the file");
                assert!(bytes.iter().all(|&each| u64::from(each) == byte));
                assert!(worker.released.push(offset));
                worker.tasks.release(index);
                seen += 1;
            }
            tell(&worker_view_of_parent_bell);
        }
    });
    let (mut sent, mut returned) = (0, 0);
    while returned < BLOCKS {
        while sent < BLOCKS && !parent.tasks.is_full() {
            let length = 1 + sent * 97 % 300_000;
            let block = pool.allocate(length).expect("there is memory");
            assert!(pool.segment().write(block.offset, &vec![sent as u8; length as usize]));
            let words = [block.offset, length, sent & 0xff, 0, 0, 0];
            parent.tasks.push(&Message::plain(words)).expect("sound").expect("it is not full");
            sent += 1;
        }
        tell(parent.bell());
        sleep_until(&parent_bell, || parent.released.is_ready());
        while let Some(offset) = parent.released.pop() {
            pool.free(offset).expect("it was given out");
            returned += 1;
        }
    }
    assert_eq!(pool.in_use_bytes(), 0);
    assert_eq!(child.join(), 0);
}
