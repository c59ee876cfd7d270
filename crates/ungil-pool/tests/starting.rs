//! Workers that cannot be started, or end before they are ready.

mod support;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};

use support::{Fixture, isolated, pipe, settings, until, workers};
use ungil_pool::Refusal;

/// A pool whose zygote forks when it is let: it reads a byte before each fork.
fn gated(fixture: &Fixture) -> File {
    let (gate, open) = pipe();
    fixture.host.gate_forks(OwnedFd::from(gate));
    open
}

fn refusal(fixture: &Fixture) -> Refusal {
    let refused = fixture.try_submit(&[b"echo", &[0; 100]]);
    let refusal = refused.expect_err("the pool takes no task");
    assert_eq!(fixture.pool().check_open(), Err(refusal.clone()));
    assert_eq!(fixture.pool().in_use_bytes(), 0, "what was stored for it is freed");
    refusal
}

#[test]
fn three_workers_in_a_row_that_end_before_they_are_ready_break_the_pool() {
    for (script, how) in [("exit 3", "exited with code 3"), ("die", "was ended by signal 9")] {
        isolated(|| {
            let fixture = Fixture::of(settings(), script);
            let mut gate = gated(&fixture);
            let cells: Vec<_> =
                (0..5).map(|_| fixture.submit_parts(&[b"echo", &[1; 1000]])).collect();
            gate.write_all(b"...").expect("there is room");
            for cell in &cells {
                let reason = fixture.broken(cell);
                assert!(reason.starts_with("3 worker processes in a row"), "{reason}");
                assert!(reason.ends_with(how), "{reason}");
            }
            assert!(matches!(refusal(&fixture), Refusal::Broken(_)));
            fixture.wait_closed();
        });
    }
}

#[test]
fn many_that_start_at_once_break_the_pool_once() {
    isolated(|| {
        let fixture = Fixture::of(workers(6), "exit 1");
        let mut gate = gated(&fixture);
        let cells: Vec<_> = (0..6).map(|_| fixture.submit("echo")).collect();
        gate.write_all(b"......").expect("there is room");
        // Others may be started in their place.
        drop(gate);
        let reasons: Vec<_> = cells.iter().map(|cell| fixture.broken(cell)).collect();
        assert!(reasons.windows(2).all(|pair| pair[0] == pair[1]), "{reasons:?}");
        fixture.wait_closed();
    });
}

#[test]
fn a_worker_that_becomes_ready_forgives_the_failures_before_it() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        for _ in 0..5 {
            // Twice a start that fails, and then one that does not.
            for _ in 0..2 {
                let failing = ungil_pool::Likeness {
                    bytes: b"exit 1".as_slice().into(),
                    ..fixture.likeness.clone()
                };
                assert_eq!(fixture.pool().missing_workers(1), 1);
                fixture.pool().start(1, failing);
                until(|| fixture.pids().is_empty());
            }
            // The pool starts workers by itself too, with what it was given last.
            fixture.pool().start(0, fixture.likeness.clone());
            assert_eq!(fixture.text(&fixture.submit("echo fine")), "fine");
            let dies = fixture.submit("kill 9");
            fixture.crash(&dies);
        }
        fixture.close();
    });
}

#[test]
fn a_failed_initializer_breaks_the_pool_with_its_own_words() {
    for reason in ["it has no key", &"a long story, ".repeat(100)] {
        isolated(|| {
            let fixture = Fixture::of(workers(2), &format!("fail {reason}"));
            let mut gate = gated(&fixture);
            let cells: Vec<_> = (0..3).map(|_| fixture.submit("echo")).collect();
            gate.write_all(b"..").expect("there is room");
            cells.iter().for_each(|cell| assert_eq!(fixture.broken(cell), *reason));
            assert_eq!(refusal(&fixture), Refusal::Broken(reason.into()));
            fixture.wait_closed();
        });
    }
}

#[test]
fn a_zygote_that_cannot_be_reached_breaks_the_pool() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        fixture.host.refuse(1);
        let reason = fixture.broken(&fixture.submit("echo"));
        assert_eq!(reason, "a worker process could not be started: no zygote today");
        fixture.wait_closed();
    });
}

#[test]
fn a_zygote_that_cannot_be_replaced_breaks_the_pool() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let running = [fixture.hold(), fixture.hold()];
        let waiting: Vec<_> = (0..10).map(|_| fixture.submit("echo")).collect();
        fixture.host.refuse(1);
        fixture.host.kill_zygote();
        // The pool may break before both of them are buried.
        running.iter().for_each(|cell| fixture.wait(cell));
        for cell in &waiting {
            let reason = fixture.broken(cell);
            assert_eq!(reason, "a worker process could not be started: no zygote today");
        }
        assert!(matches!(refusal(&fixture), Refusal::Broken(_)));
        fixture.wait_closed();
    });
}

#[test]
fn a_zygote_that_ended_before_it_was_asked_is_replaced() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        assert_eq!(fixture.text(&fixture.submit("echo one")), "one");
        let other = Fixture::new(settings());
        fixture.host.kill_zygote();
        assert_eq!(other.text(&other.submit("echo two")), "two");
        assert_eq!(fixture.text(&fixture.submit("echo three")), "three");
        other.close();
        fixture.close();
    });
}

#[test]
fn a_worker_that_the_system_refuses_breaks_the_pool() {
    isolated(|| {
        let fixture = Fixture::of(workers(2), "late");
        let mut gate = gated(&fixture);
        let cells = [fixture.submit("echo"), fixture.submit("echo")];
        gate.write_all(b"x.").expect("there is room");
        for cell in &cells {
            let reason = fixture.broken(cell);
            assert!(reason.contains("could not be started"), "{reason}");
        }
        fixture.pool().wait_started();
        fixture.wait_closed();
    });
}

#[test]
fn a_pool_closes_while_its_workers_start() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        let mut gate = gated(&fixture);
        let cells: Vec<_> = (0..3).map(|_| fixture.submit("echo late")).collect();
        fixture.pool().close(ungil_pool::Cancel::Unbegun);
        assert!(cells.iter().all(|cell| cell.is_cancelled()));
        assert!(!fixture.pool().is_closed());
        gate.write_all(b"...").expect("there is room");
        fixture.wait_closed();
    });
}

#[test]
fn a_pool_breaks_while_its_workers_start() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        let mut gate = gated(&fixture);
        let cells: Vec<_> = (0..3).map(|_| fixture.submit("echo late")).collect();
        fixture.pool().break_down("the test says so");
        fixture.pool().break_down("only the first reason counts");
        cells.iter().for_each(|cell| assert_eq!(fixture.broken(cell), "the test says so"));
        gate.write_all(b"...").expect("there is room");
        fixture.wait_closed();
        assert_eq!(refusal(&fixture), Refusal::Broken("the test says so".into()));
    });
}

#[test]
fn a_zygote_killed_with_requests_on_their_way_is_asked_again_elsewhere() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        let gate = gated(&fixture);
        let cells: Vec<_> = (0..9).map(|_| fixture.submit("echo again")).collect();
        // It has forked nobody, and never will; the next one reads the end, and forks.
        let next = gated(&fixture);
        drop(next);
        fixture.host.kill_zygote();
        drop(gate);
        cells.iter().for_each(|cell| assert_eq!(fixture.text(cell), "again"));
        assert_eq!(fixture.host.connects(), 2);
        fixture.close();
    });
}

#[test]
fn a_pool_that_was_dropped_while_its_workers_start_leaves_nothing() {
    isolated(|| {
        let mut fixture = Fixture::new(workers(2));
        let mut gate = gated(&fixture);
        let cells = [fixture.submit("echo kept"), fixture.submit("tell")];
        fixture.pool = None;
        gate.write_all(b"..").expect("there is room");
        // What was submitted is still run.
        fixture.hear(1);
        until(|| cells.iter().all(|cell| cell.is_over()));
    });
}

#[test]
fn a_closed_pool_starts_nobody() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        fixture.close();
        fixture.pool().start(2, fixture.likeness.clone());
        assert_eq!(fixture.host.connects(), 0);
        assert_eq!(refusal(&fixture), Refusal::Closed);
        fixture.wait_closed();
    });
}

/// Lets this process have so many descriptors.
fn limit_descriptors(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 4096 };
    // SAFETY: the limit is complete.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

fn next_descriptor() -> u64 {
    File::open("/dev/null").expect("a descriptor is free").as_raw_fd() as u64
}

#[test]
fn a_process_without_descriptors_breaks_the_pool_and_can_close_it() {
    isolated(|| {
        // With each number, another one of the calls on the way finds no descriptor.
        for free in 0..30 {
            let fixture = Fixture::new(workers(3));
            let held = fixture.hold();
            fixture.pool().wait_started();
            limit_descriptors(next_descriptor() + free);
            let cells: Vec<_> =
                (0..2).filter_map(|_| fixture.try_submit(&[b"echo more"]).ok()).collect();
            cells.iter().for_each(|cell| fixture.wait(cell));
            fixture.release(1);
            fixture.wait(&held);
            fixture.close();
            limit_descriptors(1024);
        }
    });
}

#[test]
fn a_worker_whose_descriptor_finds_no_room_breaks_the_pool() {
    isolated(|| {
        let fixture = Fixture::of(workers(2), "late");
        let mut gate = gated(&fixture);
        let cell = fixture.submit("echo");
        limit_descriptors(next_descriptor());
        gate.write_all(b".").expect("there is room");
        let reason = fixture.broken(&cell);
        assert!(reason.contains("Too many open files"), "{reason}");
        fixture.wait_closed();
        limit_descriptors(1024);
    });
}
