//! A program that forks while it has pools: the child's handles answer, and touch nothing.

mod support;

use std::process::id;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use support::isolated::exit;
use support::{Fixture, bytes, isolated, soon, workers};
use ungil_pool::{Cancel, Outcome, Received, Refusal, SharedArena, Task, Waited};

/// Runs something in a fork of this process, and waits for its end.
fn in_child(check: impl FnOnce()) {
    // SAFETY: what the child uses of ungil's is made for this, and the allocator too.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let is_fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok();
        exit(i32::from(!is_fine));
    }
    let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty()).expect("it is our child");
    assert_eq!(ended.expect("it was waited for").1.exit_status(), Some(0));
}

/// A child that waits to be ended.
struct Child(Pid);

impl Child {
    fn new() -> Child {
        // SAFETY: the child only waits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
        }
        Child(Pid::from_raw(pid).expect("a child was made"))
    }

    fn end(self) {
        kill_process(self.0, Signal::KILL).expect("it is our child");
        waitpid(Some(self.0), WaitOptions::empty()).expect("it is our child");
    }
}

#[test]
fn a_fork_neither_finds_nor_frees_what_is_its_parents() {
    isolated(|| {
        let arena = SharedArena::of_this_process().expect("address space");
        let block = arena.allocate(100).expect("memory");
        let start = block.start().as_ptr();
        in_child(|| {
            assert!(arena.find(start, 100).is_none());
            assert!(arena.allocate(1).is_err());
            drop(block.clone());
            let own = SharedArena::of_this_process().expect("address space");
            let more = own.allocate(100).expect("memory");
            assert!(own.find(more.start().as_ptr(), 100).is_some());
            assert!(own.find(start, 100).is_none());
        });
        assert!(arena.find(start, 100).is_some());
    });
}

#[test]
fn a_block_is_not_used_again_while_a_fork_may_use_it() {
    isolated(|| {
        let arena = SharedArena::of_this_process().expect("address space");
        let first = arena.allocate(100_000).expect("memory");
        let place = first.start();
        let older = Child::new();
        let second = arena.allocate(100_000).expect("memory");
        let younger = Child::new();
        let third = arena.allocate(100_000).expect("memory");
        let length = arena.in_use_bytes() / 3;
        drop((first, second, third));
        assert_eq!(arena.in_use_bytes(), 2 * length, "nobody was forked after the third");
        older.end();
        assert_eq!(arena.in_use_bytes(), 2 * length, "the younger one has both");
        let other = arena.allocate(100_000).expect("memory");
        assert_ne!(other.start(), place);
        drop(other);
        younger.end();
        assert_eq!(arena.in_use_bytes(), 0);
        assert_eq!(arena.allocate(100_000).expect("memory").start(), place);
    });
}

#[test]
fn what_a_child_forks_counts_as_that_child() {
    isolated(|| {
        let arena = SharedArena::of_this_process().expect("address space");
        let block = arena.allocate(100).expect("memory");
        let (mut reader, writer) = support::pipe();
        in_child(|| {
            let grandchild = Child::new();
            let number = grandchild.0.as_raw_nonzero().get();
            assert_eq!(rustix::io::write(&writer, &number.to_ne_bytes()), Ok(4));
        });
        drop(block);
        assert_ne!(arena.in_use_bytes(), 0);
        let mut number = [0; 4];
        std::io::Read::read_exact(&mut reader, &mut number).expect("it was written");
        // It comes here to be buried, since this process is its subreaper.
        Child(Pid::from_raw(i32::from_ne_bytes(number)).expect("a number")).end();
        assert_eq!(arena.in_use_bytes(), 0);
    });
}

#[test]
fn what_a_worker_has_sent_is_not_given_back_while_a_fork_may_use_it() {
    isolated(|| {
        let fixture = Fixture::new(workers(1));
        let cell = fixture.submit_parts(&[b"parts", b"a", b"b"]);
        let received = fixture.outcome(&cell);
        let child = Child::new();
        drop(received);
        let in_use = || fixture.text(&fixture.submit("in-use"));
        assert_ne!(in_use(), "0");
        child.end();
        // Notices travel with the next.
        let more = fixture.submit_parts(&[b"parts", b"a", b"b"]);
        drop(fixture.outcome(&more));
        assert_eq!(in_use(), "0");
        fixture.close();
    });
}

#[test]
fn every_call_in_a_forked_child_says_that_the_pool_is_foreign() {
    isolated(|| {
        let mut fixture = Fixture::new(workers(2));
        let running = fixture.hold();
        let waiting: Vec<_> = (0..20).map(|_| fixture.submit("echo waiting")).collect();
        let function = fixture.pool().function(b"f", true).expect("memory");
        let finished = fixture.submit_parts(&[b"parts", b"a", b"b"]);
        fixture.wait(&finished);
        let _kept = function.clone();
        fixture.pool().poll();
        let before = fixture.pool().in_use_bytes();
        let parent = id();
        in_child(|| {
            let pool = fixture.pool.take().expect("it is there");
            assert_ne!(id(), parent);
            assert_eq!(pool.check_open(), Err(Refusal::Foreign));
            assert!(pool.store(&[b"echo", b"more"]).is_err());
            assert!(pool.function(b"g", true).is_err());
            let payload = ungil_pool::Inline::new(b"echo").expect("it fits");
            let payload = ungil_pool::Payload::Inline(payload);
            let task = Task { function: Some(function.clone()), payload };
            assert_eq!(pool.submit(task).expect_err("foreign"), Refusal::Foreign);
            assert_eq!(pool.missing_workers(5), 0);
            pool.start(3, fixture.likeness.clone());
            pool.wait_started();
            assert_eq!(pool.wait(&running, None, &mut || false), Waited::Foreign);
            assert_eq!(pool.wait(&running, soon(), &mut || false), Waited::Foreign);
            assert_eq!(pool.wait(&finished, None, &mut || false), Waited::Done);
            match finished.take() {
                // The parent may have given the memory back meanwhile.
                Some(Outcome::Returned(Received::Lent(lent))) => {
                    assert!(lent.parts().is_none());
                    assert!(lent.copy(0).is_none());
                }
                other => panic!("{other:?}"),
            }
            assert!(running.take().is_none());
            pool.poll();
            assert!(!pool.cancel(&running));
            assert!(!pool.cancel(&waiting[19]));
            assert!(!pool.is_running(&running));
            assert!(pool.subscribe(&running, Box::new(|| panic!("it is nobody's"))));
            pool.break_down("not in here");
            pool.signal(rustix::process::Signal::KILL);
            assert!(pool.workers().is_empty());
            assert_eq!(pool.pending(), 0);
            assert_eq!(pool.in_use_bytes(), 0);
            pool.close(Cancel::Unbegun);
            assert_eq!(pool.wait_closed(None, &mut || false), Waited::Foreign);
            assert!(pool.is_closed());
            drop(function);
            drop(pool);
        });
        assert_eq!(fixture.pool().in_use_bytes(), before);
        fixture.release(1);
        assert_eq!(fixture.text(&running), "held");
        waiting.iter().for_each(|cell| assert_eq!(fixture.text(cell), "waiting"));
        match fixture.outcome(&finished) {
            Outcome::Returned(received) => assert_eq!(bytes(&received), b"ab"),
            other => panic!("{other:?}"),
        }
        fixture.close();
    });
}

#[test]
fn nothing_hangs_in_children_that_are_forked_while_other_threads_use_the_pool() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(fixture.text(&fixture.submit("echo busy")), "busy");
                    }
                });
            }
            for _ in 0..50 {
                let cell = fixture.submit("echo mine");
                in_child(|| {
                    // Any of the pool's locks may be held by a thread that is not in here.
                    let waited = fixture.pool().wait(&cell, None, &mut || false);
                    assert!(matches!(waited, Waited::Foreign | Waited::Done));
                    cell.take();
                    assert!(fixture.pool().store(&[b"echo", b"more"]).is_err());
                    assert_eq!(fixture.pool().check_open(), Err(Refusal::Foreign));
                    assert!(!fixture.pool().cancel(&cell));
                    fixture.pool().poll();
                    fixture.pool().close(Cancel::Nothing);
                });
                assert_eq!(fixture.text(&cell), "mine");
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        fixture.close();
    });
}

#[test]
fn a_zygote_notices_its_parents_end_although_a_forked_child_holds_its_sockets() {
    isolated(|| {
        let (reader, writer) = support::pipe();
        let (gate, open) = support::pipe();
        let mut open = Some(open);
        in_child(|| {
            // The gate's other end is the test's alone.
            open = None;
            let fixture = Fixture::new(workers(2));
            let _held = fixture.hold();
            // SAFETY: as above. This child keeps every descriptor of the pool's open.
            if unsafe { libc::fork() } == 0 {
                let mut byte = [0];
                let _ = rustix::io::read(&gate, &mut byte);
                exit(0);
            }
            let mut pids = fixture.pids();
            pids.push(fixture.host.zygote_pid());
            for pid in pids {
                assert_eq!(rustix::io::write(&writer, &pid.to_ne_bytes()), Ok(4));
            }
            // Without closing anything.
            exit(0);
        });
        drop(writer);
        let mut pids = Vec::new();
        let mut bytes = [0; 4];
        while rustix::io::read(&reader, &mut bytes) == Ok(4) {
            pids.push(u32::from_ne_bytes(bytes));
            if pids.len() == 2 {
                break;
            }
        }
        // They come here to be buried, since this process is their subreaper.
        let mut ended = Vec::new();
        while ended.len() < 2 {
            let (pid, _) = rustix::process::wait(WaitOptions::empty())
                .expect("there are children")
                .expect("one has ended");
            ended.push(pid.as_raw_nonzero().get() as u32);
        }
        pids.sort_unstable();
        ended.sort_unstable();
        assert_eq!(ended, pids);
        drop(open);
    });
}
