//! Workers and zygotes that die or stop at every point of a task.

mod support;

use std::sync::Arc;

use support::{
    Fixture, KILLED, bytes, counted, isolated, settings, signal, soon, state_of, until, workers,
};
use ungil_pool::{Cell, Crash, Ending, Outcome, Settings, Waited};

#[test]
fn a_killed_worker_fails_the_task_it_runs_and_no_other() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let before: Vec<_> = (0..50).map(|_| fixture.submit("echo before")).collect();
        let victim = fixture.hold();
        let survivor = fixture.hold();
        let behind: Vec<_> = (0..50).map(|_| fixture.submit("echo behind")).collect();
        let pid = fixture.pids()[0];
        signal(pid, libc::SIGKILL);
        let (crashed, other) = match fixture.pool().wait(&victim, soon(), &mut || false) {
            Waited::Done => (victim, survivor),
            _ => (survivor, victim),
        };
        assert_eq!(fixture.crash(&crashed), Crash { pid, ending: KILLED });
        before.iter().for_each(|cell| assert_eq!(fixture.text(cell), "before"));
        behind.iter().for_each(|cell| assert_eq!(fixture.text(cell), "behind"));
        assert!(!other.is_over());
        fixture.release(1);
        assert_eq!(fixture.text(&other), "held");
        fixture.close();
    });
}

#[test]
fn how_a_worker_ended_is_told() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        for (command, ending) in [
            ("exit 0", Ending::Exited(0)),
            ("exit 7", Ending::Exited(7)),
            ("exit 255", Ending::Exited(255)),
            ("kill 6", Ending::Killed(libc::SIGABRT)),
            ("kill 9", Ending::Killed(libc::SIGKILL)),
            ("kill 11", Ending::Killed(libc::SIGSEGV)),
        ] {
            let pid = fixture.text(&fixture.submit("pid")).parse().expect("a number");
            let cell = fixture.submit(command);
            assert_eq!(fixture.crash(&cell), Crash { pid, ending: Some(ending) });
        }
        assert_eq!(fixture.text(&fixture.submit("echo alive")), "alive");
        fixture.close();
    });
}

#[test]
fn what_was_answered_before_the_death_is_delivered() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        for number in 0..20 {
            let cell = fixture.submit(&format!("answer-and-die {number}"));
            assert_eq!(fixture.text(&cell), number.to_string());
        }
        // Also if nobody has looked before the worker was buried.
        let forgotten = fixture.submit("answer-and-die last");
        until(|| forgotten.is_over());
        assert_eq!(fixture.text(&forgotten), "last");
        fixture.close();
    });
}

#[test]
fn every_task_ends_once_while_workers_keep_dying() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        let cells: Vec<_> = (0..2000)
            .map(|number| match number % 50 {
                17 => fixture.submit("kill 9"),
                34 => fixture.submit("exit 3"),
                49 => fixture.submit(&format!("answer-and-die {number}")),
                _ => fixture.submit(&format!("echo {number}")),
            })
            .collect();
        let mut crashes = Vec::new();
        for (number, cell) in cells.iter().enumerate() {
            match fixture.outcome(cell) {
                Outcome::Returned(received) => {
                    assert_eq!(bytes(&received), number.to_string().as_bytes());
                }
                Outcome::Crashed(crash) => crashes.push(format!("{:?}", crash.ending)),
                other => panic!("{other:?}"),
            }
        }
        let crashes = counted(crashes);
        assert_eq!(crashes["Some(Killed(9))"], 40);
        assert_eq!(crashes["Some(Exited(3))"], 40);
        assert_eq!(crashes.len(), 2);
        fixture.close();
    });
}

#[test]
fn the_blocks_of_a_dead_worker_come_back() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let part = vec![1; 10_000];
        // It dies with a block in its hands, and with others in its ring.
        let dies = fixture.submit_parts(&[b"kill 9", &part]);
        let waits: Vec<_> = (0..10).map(|_| fixture.submit_parts(&[b"parts", &part])).collect();
        assert_eq!(fixture.crash(&dies).ending, KILLED);
        for cell in &waits {
            let Outcome::Returned(received) = fixture.outcome(cell) else { panic!("it raised") };
            assert_eq!(bytes(&received), part);
        }
        fixture.wait_unused();
        // It has given its block back before it dies, and the block is another task's by then.
        let dies = fixture.submit_parts(&[b"drop-tell-hold", &part]);
        fixture.hear(1);
        until(|| {
            fixture.pool().poll();
            fixture.pool().in_use_bytes() == 0
        });
        let others: Vec<_> = (0..3).map(|_| fixture.submit_parts(&[b"parts", &part])).collect();
        let in_use = fixture.pool().in_use_bytes();
        signal(fixture.pids()[0], libc::SIGKILL);
        assert_eq!(fixture.crash(&dies).ending, KILLED);
        assert!(in_use >= 30_000);
        for cell in &others {
            let Outcome::Returned(received) = fixture.outcome(cell) else { panic!("it raised") };
            assert_eq!(bytes(&received), part);
        }
        fixture.wait_unused();
        fixture.close();
    });
}

#[test]
fn a_block_that_was_given_back_early_is_not_freed_again_when_its_worker_ends() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let part = vec![1; 10_000];
        let early = fixture.submit_parts(&[b"drop-tell-hold", &part]);
        fixture.hear(1);
        let pid = fixture.pids()[0];
        until(|| {
            fixture.pool().poll();
            fixture.pool().in_use_bytes() == 0
        });
        // The task ends, its worker stays, and the block becomes another task's.
        fixture.release(1);
        fixture.wait(&early);
        let other = fixture.submit_parts(&[b"hold", &part]);
        let next = fixture.submit_parts(&[b"parts", &vec![2; 10_000]]);
        fixture.hear(1);
        fixture.wait(&next);
        let before = fixture.pool().in_use_bytes();
        // Whichever worker has the block, the other one's end must not take it away.
        let idle: Vec<u32> = fixture.pids();
        let Outcome::Returned(_) = fixture.outcome(&next_pid(&fixture)) else {
            panic!("it raised")
        };
        assert!(idle.contains(&pid));
        signal(pid, libc::SIGKILL);
        until(|| !fixture.pids().contains(&pid));
        if other.is_over() {
            assert_eq!(fixture.crash(&other).pid, pid);
        } else {
            assert_eq!(fixture.pool().in_use_bytes(), before);
            fixture.release(1);
            assert_eq!(fixture.text(&other), "held");
        }
        fixture.wait_unused();
        fixture.close();
    });
}

/// Any task, to have the pool look at what its workers have written.
fn next_pid(fixture: &Fixture) -> Arc<Cell> {
    fixture.submit("pid")
}

/// A pool whose workers signal themselves at a point of the task "victim", with tasks around it.
fn around_a_victim(point: &str, number: i32, check: impl Fn(&Fixture, &Arc<Cell>, &[Arc<Cell>])) {
    isolated(|| {
        let fixture = Fixture::of(workers(2), &format!("raw {point} {number}"));
        let mut cells: Vec<_> =
            (0..40).map(|number| fixture.submit(&format!("{number}"))).collect();
        let victim = fixture.submit("victim");
        cells.extend((40..80).map(|number| fixture.submit(&format!("{number}"))));
        check(&fixture, &victim, &cells);
        for (number, cell) in cells.iter().enumerate() {
            assert_eq!(fixture.text(cell), number.to_string());
        }
        assert_eq!(fixture.text(&fixture.submit("after")), "after");
        fixture.close();
    });
}

#[test]
fn a_worker_killed_at_any_point_of_a_task_loses_nothing_but_that_task() {
    for point in ["taken", "published", "released", "rung"] {
        around_a_victim(point, libc::SIGKILL, |fixture, victim, _| {
            if point == "taken" {
                assert_eq!(fixture.crash(victim).ending, KILLED);
            } else {
                assert_eq!(fixture.text(victim), "victim");
            }
        });
    }
}

#[test]
fn a_worker_stopped_at_any_point_of_a_task_holds_up_one_task_at_most() {
    for point in ["taken", "published", "released", "rung"] {
        around_a_victim(point, libc::SIGSTOP, |fixture, victim, cells| {
            let mut stopped = None;
            until(|| {
                fixture.pool().poll();
                stopped = fixture.pids().into_iter().find(|pid| state_of(*pid) == 'T');
                stopped.is_some()
            });
            if point == "taken" {
                cells.iter().for_each(|cell| fixture.wait(cell));
                assert!(!victim.is_over());
                assert!(fixture.pool().is_running(victim));
            } else {
                // The worker cannot ring any more, and nobody sleeps until it does.
                until(|| {
                    fixture.pool().poll();
                    victim.is_over()
                });
                // The next task of the stopped worker's is taken for the one that it runs.
                until(|| {
                    fixture.pool().poll();
                    cells.iter().filter(|cell| !cell.is_over()).count() <= 1
                });
            }
            signal(stopped.expect("it was found"), libc::SIGCONT);
            assert_eq!(fixture.text(victim), "victim");
        });
    }
}

#[test]
fn a_lost_zygote_crashes_what_runs_and_what_waits_runs_under_another() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let running = [fixture.hold(), fixture.hold()];
        let waiting: Vec<_> =
            (0..100).map(|number| fixture.submit(&format!("echo {number}"))).collect();
        let pids = fixture.pids();
        fixture.host.kill_zygote();
        for cell in &running {
            let crash = fixture.crash(cell);
            assert!(pids.contains(&crash.pid));
            assert!(matches!(crash.ending, None | KILLED));
        }
        for (number, cell) in waiting.iter().enumerate() {
            assert_eq!(fixture.text(cell), number.to_string());
        }
        assert_eq!(fixture.host.connects(), 2);
        fixture.close();
    });
}

#[test]
fn an_idle_pool_survives_its_zygote_and_a_closed_one_needs_none() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        assert_eq!(fixture.text(&fixture.submit("echo one")), "one");
        fixture.host.kill_zygote();
        until(|| fixture.pids().is_empty());
        assert_eq!(fixture.text(&fixture.submit("echo two")), "two");
        assert_eq!(fixture.host.connects(), 2);
        fixture.host.kill_zygote();
        fixture.close();
        assert_eq!(fixture.host.connects(), 2);
    });
}

#[test]
fn a_zygote_killed_while_workers_become_ready_is_one_failure_and_not_many() {
    isolated(|| {
        let fixture = Fixture::of(workers(4), "late");
        let cells: Vec<_> =
            (0..4).map(|number| fixture.submit(&format!("echo {number}"))).collect();
        // Twice: a third time in a row breaks the pool, as it should.
        for _ in 0..2 {
            fixture.hear(4);
            fixture.pool().wait_started();
            fixture.host.kill_zygote();
        }
        fixture.hear(4);
        fixture.release(4);
        for (number, cell) in cells.iter().enumerate() {
            assert_eq!(fixture.text(cell), number.to_string());
        }
        fixture.close();
    });
}

#[test]
fn a_zygote_killed_at_any_time_leaves_every_task_with_one_outcome() {
    isolated(|| {
        for round in 0..15 {
            let fixture = Fixture::new(workers(3));
            let cells: Vec<_> =
                (0..60).map(|number| fixture.submit(&format!("echo {number}"))).collect();
            // Each round kills it a little later: while it starts, before and after it is ready.
            cells.iter().take(round * 4).for_each(|cell| fixture.wait(cell));
            fixture.host.kill_zygote();
            for (number, cell) in cells.iter().enumerate() {
                match fixture.outcome(cell) {
                    Outcome::Returned(received) => {
                        assert_eq!(bytes(&received), number.to_string().as_bytes());
                    }
                    Outcome::Crashed(crash) => assert!(matches!(crash.ending, None | KILLED)),
                    other => panic!("{other:?}"),
                }
            }
            fixture.close();
        }
    });
}

#[test]
fn a_stopped_zygote_starts_nobody_and_deaths_are_still_seen() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let cells = [fixture.hold(), fixture.hold()];
        let pids = fixture.pids();
        let zygote = fixture.host.zygote_pid();
        signal(zygote, libc::SIGSTOP);
        signal(pids[0], libc::SIGKILL);
        until(|| cells.iter().any(|cell| cell.is_over()));
        let (dead, alive) = if cells[0].is_over() { (0, 1) } else { (1, 0) };
        // Only the zygote could tell how it ended.
        assert_eq!(fixture.crash(&cells[dead]), Crash { pid: pids[0], ending: None });
        let other = fixture.submit("echo other");
        fixture.release(1);
        assert_eq!(fixture.text(&cells[alive]), "held");
        assert_eq!(fixture.text(&other), "other");
        signal(zygote, libc::SIGCONT);
        fixture.close();
    });
}

#[test]
fn a_worker_is_replaced_after_its_number_of_tasks_and_nothing_is_lost() {
    for (tasks_per_worker_max, workers_max) in [(1, 1), (1, 3), (7, 2), (1000, 2)] {
        isolated(|| {
            let fixture = Fixture::new(Settings {
                tasks_per_worker_max: Some(tasks_per_worker_max),
                ..workers(workers_max)
            });
            let cells: Vec<_> = (0..300).map(|_| fixture.submit("pid")).collect();
            let pids = counted(cells.iter().map(|cell| fixture.text(cell)));
            assert!(pids.values().all(|count| *count as u64 <= tasks_per_worker_max), "{pids:?}");
            assert!(fixture.pids().len() <= workers_max as usize);
            assert_eq!(pids.values().sum::<usize>(), 300);
            fixture.close();
        });
    }
}

#[test]
fn a_caller_asleep_hears_of_its_workers_death() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let held = fixture.hold();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..3).map(|_| scope.spawn(|| fixture.wait(&held))).collect();
            signal(fixture.pids()[0], libc::SIGKILL);
            callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
        });
        assert_eq!(fixture.crash(&held).ending, KILLED);
        fixture.close();
    });
}
