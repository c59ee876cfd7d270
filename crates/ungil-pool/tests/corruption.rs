//! Workers that write what no worker writes.

mod support;

use support::{Fixture, bytes, isolated, settings, until, workers};
use ungil_pool::{Ending, Failure, Outcome, Received};

#[test]
fn a_worker_that_writes_nonsense_fails_its_task_and_is_replaced() {
    for kind in [
        "unknown-key",
        "key-zero",
        "wrong-status",
        "initializer",
        "state",
        "length",
        "foreign-block",
        "no-block",
    ] {
        isolated(|| {
            let fixture = Fixture::new(settings());
            let cell = fixture.submit(&format!("nonsense {kind}"));
            let behind: Vec<_> = (0..10).map(|_| fixture.submit("echo behind")).collect();
            match fixture.failure(&cell) {
                Failure::Corrupted { pid } => assert!(pid > 0 && !fixture.pids().contains(&pid)),
                other => panic!("{kind}: {other:?}"),
            }
            behind.iter().for_each(|cell| assert_eq!(fixture.text(cell), "behind"));
            fixture.close();
        });
    }
}

#[test]
fn a_second_answer_to_the_same_task_changes_nothing() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        assert_eq!(fixture.text(&fixture.submit("pid")).parse(), Ok(fixture.pids()[0]));
        let pid = fixture.pids()[0];
        assert_eq!(fixture.text(&fixture.submit("answer-twice once")), "once");
        until(|| !fixture.pids().contains(&pid));
        assert_eq!(fixture.text(&fixture.submit("echo next")), "next");
        fixture.close();
    });
}

#[test]
fn a_result_in_a_block_that_is_none_has_no_parts() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        match fixture.outcome(&fixture.submit("bad-result")) {
            Outcome::Returned(Received::Lent(lent)) => {
                assert!(lent.parts().is_none());
                assert!(lent.copy(0).is_none());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.text(&fixture.submit("echo next")), "next");
        fixture.close();
    });
}

#[test]
fn a_worker_whose_ring_is_destroyed_ends_and_what_was_behind_is_lost_with_a_word() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let first = fixture.submit("wreck-tasks");
        assert_eq!(fixture.text(&first), "wrecked");
        until(|| fixture.pids().is_empty());
        assert_eq!(fixture.text(&fixture.submit("echo next")), "next");
        // With a task behind it of which nobody can say any more whether it has begun.
        let first = fixture.submit("wreck-tasks");
        let behind = fixture.submit("echo behind");
        assert_eq!(fixture.text(&first), "wrecked");
        match fixture.outcome(&behind) {
            // Sent to the next worker, or before the ring was destroyed, or into what it had become.
            Outcome::Returned(received) => assert_eq!(bytes(&received), b"behind"),
            Outcome::Crashed(crash) => assert_eq!(crash.ending, Some(Ending::Exited(0))),
            Outcome::Failed(failure) => assert!(matches!(failure, Failure::Corrupted { .. })),
            other => panic!("{other:?}"),
        }
        fixture.close();
    });
}

#[test]
fn a_pool_closes_over_a_destroyed_ring() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        assert_eq!(fixture.text(&fixture.submit("wreck-tasks")), "wrecked");
        fixture.close();
    });
}

#[test]
fn a_worker_that_erases_the_doorbell_delays_the_others_until_the_pool_is_looked_at() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let wild = fixture.submit("erase-bell");
        fixture.hear(1);
        for _ in 0..3 {
            let other = fixture.hold();
            let (heard, hears) = std::sync::mpsc::channel();
            assert!(fixture.pool().subscribe(&other, Box::new(move || heard.send(()).unwrap())));
            fixture.release(1);
            // It was erased that somebody wants to know of answers, so nobody need be rung for.
            until(|| {
                fixture.pool().poll();
                other.is_over()
            });
            assert_eq!(hears.recv(), Ok(()));
        }
        for pid in fixture.pids() {
            support::signal(pid, libc::SIGKILL);
        }
        // A death is told by the kernel.
        assert_eq!(fixture.crash(&wild).ending, support::KILLED);
        assert_eq!(fixture.text(&fixture.submit("echo next")), "next");
        fixture.close();
    });
}
