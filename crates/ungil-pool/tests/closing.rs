//! Pools that are closed, dropped or broken with tasks in every state.

mod support;

use std::sync::Arc;
use std::thread;

use support::{Fixture, isolated, settings, signal, soon, workers};
use ungil_pool::{Cancel, Cell, Refusal, Waited};

/// Of these tasks, which were cancelled.
fn cancelled(cells: &[Arc<Cell>]) -> Vec<bool> {
    cells.iter().map(|cell| cell.is_cancelled()).collect()
}

/// Two tasks that run and six that do not, some of them sent ahead.
fn busy() -> (Fixture, Vec<Arc<Cell>>) {
    let fixture = Fixture::new(workers(2));
    let mut cells = vec![fixture.hold(), fixture.hold()];
    cells.extend((0..6).map(|_| fixture.submit("echo behind")));
    (fixture, cells)
}

#[test]
fn closing_runs_what_was_submitted() {
    isolated(|| {
        let (fixture, cells) = busy();
        fixture.pool().close(Cancel::Nothing);
        assert_eq!(fixture.try_submit(&[b"echo"]).expect_err("closed"), Refusal::Closed);
        assert_eq!(fixture.pool().check_open(), Err(Refusal::Closed));
        assert_eq!(fixture.pool().wait_closed(soon(), &mut || false), Waited::TimedOut);
        assert!(!fixture.pool().is_closed());
        fixture.release(2);
        fixture.wait_closed();
        assert_eq!(cancelled(&cells), [false; 8]);
        assert_eq!(fixture.text(&cells[7]), "behind");
    });
}

#[test]
fn closing_cancels_everything_that_has_not_begun() {
    isolated(|| {
        let (fixture, cells) = busy();
        fixture.pool().close(Cancel::Unbegun);
        assert_eq!(cancelled(&cells[..2]), [false; 2]);
        assert_eq!(cancelled(&cells[2..]), [true; 6]);
        fixture.release(2);
        fixture.wait_closed();
        assert_eq!(fixture.text(&cells[0]), "held");
        assert_eq!(fixture.text(&cells[1]), "held");
    });
}

#[test]
fn closing_leaves_each_worker_the_task_it_runs_or_the_next() {
    isolated(|| {
        let (fixture, cells) = busy();
        fixture.pool().close(Cancel::Unassigned);
        assert_eq!(cancelled(&cells[..2]), [false; 2]);
        assert_eq!(cancelled(&cells[2..]), [true; 6]);
        fixture.release(2);
        fixture.wait_closed();
    });
    isolated(|| {
        // Workers that are still starting are left one each, the ones that were submitted first.
        let fixture = Fixture::of(workers(2), "late");
        let cells: Vec<_> = (0..5).map(|_| fixture.submit("echo early")).collect();
        fixture.pool().close(Cancel::Unassigned);
        assert_eq!(cancelled(&cells), [false, false, true, true, true]);
        fixture.hear(2);
        fixture.release(2);
        fixture.wait_closed();
        assert_eq!(fixture.text(&cells[1]), "early");
    });
}

#[test]
fn a_pool_without_workers_is_closed_at_once() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        assert_eq!(fixture.pool().check_open(), Ok(()));
        fixture.pool().wait_started();
        fixture.close();
        fixture.close();
        assert_eq!(fixture.host.connects(), 0);
    });
}

#[test]
fn many_wait_for_the_end_and_all_are_told() {
    isolated(|| {
        let (fixture, _cells) = busy();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| fixture.close());
            }
            fixture.release(2);
        });
    });
}

#[test]
fn a_worker_killed_in_a_closing_pool_is_replaced_for_what_waits() {
    isolated(|| {
        let (fixture, cells) = busy();
        fixture.pool().close(Cancel::Nothing);
        for pid in fixture.pids() {
            signal(pid, libc::SIGKILL);
        }
        fixture.wait_closed();
        fixture.crash(&cells[0]);
        fixture.crash(&cells[1]);
        cells[2..].iter().for_each(|cell| assert_eq!(fixture.text(cell), "behind"));
    });
}

#[test]
fn signalled_workers_of_a_pool_that_cancels_end_with_their_tasks() {
    isolated(|| {
        let (fixture, cells) = busy();
        fixture.pool().close(Cancel::Unbegun);
        let term = rustix::process::Signal::TERM;
        fixture.pool().signal(term);
        fixture.wait_closed();
        for cell in &cells[..2] {
            let ending = fixture.crash(cell).ending;
            assert_eq!(ending, Some(ungil_pool::Ending::Killed(libc::SIGTERM)));
        }
    });
}

#[test]
fn a_pool_that_breaks_while_results_arrive_ends_every_task_once() {
    for _ in 0..5 {
        isolated(|| {
            let fixture = Fixture::new(workers(2));
            let part = vec![1; 1000];
            let cells: Vec<_> =
                (0..500).map(|_| fixture.submit_parts(&[b"parts", &part])).collect();
            thread::scope(|scope| {
                scope.spawn(|| {
                    fixture.wait(&cells[100]);
                    fixture.pool().break_down("enough");
                });
                for cell in &cells {
                    match fixture.outcome(cell) {
                        ungil_pool::Outcome::Returned(_) => {}
                        ungil_pool::Outcome::Failed(failure) => {
                            assert_eq!(failure, ungil_pool::Failure::Broken("enough".into()));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
            fixture.wait_closed();
            assert_eq!(fixture.pool().in_use_bytes(), 0);
        });
    }
}

#[test]
fn a_stopped_worker_holds_up_the_end_until_it_goes_on_and_can_be_killed() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let cell = fixture.hold();
        let pid = fixture.pids()[0];
        signal(pid, libc::SIGSTOP);
        fixture.release(1);
        fixture.pool().close(Cancel::Nothing);
        assert_eq!(fixture.pool().wait_closed(soon(), &mut || false), Waited::TimedOut);
        signal(pid, libc::SIGCONT);
        fixture.wait_closed();
        assert_eq!(fixture.text(&cell), "held");
    });
    isolated(|| {
        let fixture = Fixture::new(settings());
        let cell = fixture.hold();
        signal(fixture.pids()[0], libc::SIGSTOP);
        fixture.pool().break_down("the test says so");
        fixture.wait_closed();
        assert_eq!(fixture.broken(&cell), "the test says so");
    });
}

#[test]
fn a_dropped_pool_runs_its_tasks_and_ends_by_itself() {
    isolated(|| {
        let (mut fixture, cells) = busy();
        fixture.pool = None;
        fixture.release(2);
        support::until(|| cells.iter().all(|cell| cell.is_over()));
        assert_eq!(cancelled(&cells), [false; 8]);
    });
}
