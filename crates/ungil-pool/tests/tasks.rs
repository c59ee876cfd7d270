//! Tasks that nothing goes wrong with: every one ends once, wherever it runs and whoever waits.

mod support;

use std::sync::mpsc;
use std::thread;

use support::{
    Fixture, bytes, counted, isolated, settings, signal, soon, state_of, until, workers,
};
use ungil_pool::{FUNCTION_USED_ONCE, Outcome, Settings, Task, Waited};

#[test]
fn a_task_returns_or_raises_and_the_pool_closes() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        assert_eq!(fixture.text(&fixture.submit("echo hello")), "hello");
        match fixture.outcome(&fixture.submit("raise no")) {
            Outcome::Raised(received) => assert_eq!(bytes(&received), b"no"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.text(&fixture.submit("nothing")), "");
        fixture.close();
        assert_eq!(fixture.host.connects(), 1);
    });
}

#[test]
fn data_of_any_size_goes_both_ways_and_all_memory_comes_back() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        for length in [0, 1, 71, 72, 73, 4096, 1 << 20, 5 << 20] {
            let part = vec![b'x'; length];
            let cell = fixture.submit_parts(&[b"parts", &part, b"", &part]);
            let Outcome::Returned(received) = fixture.outcome(&cell) else { panic!("it raised") };
            assert_eq!(bytes(&received), [&part[..], &part[..]].concat());
        }
        fixture.wait_unused();
        // A result of one small part: asking must not itself use a block.
        until(|| fixture.text(&fixture.submit("in-use")) == "0");
        fixture.close();
    });
}

#[test]
fn more_blocks_than_the_ring_of_returns_holds_come_back() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let cells: Vec<_> = (0..3000).map(|_| fixture.submit("big 100")).collect();
        let outcomes: Vec<_> = cells.iter().map(|cell| fixture.outcome(cell)).collect();
        assert_ne!(fixture.text(&fixture.submit("in-use")), "0");
        drop(outcomes);
        // What did not fit is given back with the next block that is.
        until(|| {
            drop(fixture.outcome(&fixture.submit("big 100")));
            fixture.text(&fixture.submit("in-use")) == "0"
        });
        fixture.close();
    });
}

#[test]
fn a_result_outlives_its_worker_and_its_pool() {
    isolated(|| {
        let mut fixture = Fixture::new(settings());
        let Outcome::Returned(received) = fixture.outcome(&fixture.submit("big 100000")) else {
            panic!("it raised");
        };
        fixture.close();
        fixture.pool = None;
        let expected: Vec<u8> = b"big".iter().copied().chain([7; 100_000]).collect();
        assert_eq!(bytes(&received), expected);
    });
}

#[test]
fn a_function_is_written_once_and_read_by_every_worker() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let often = fixture.pool().function(b"often", true).expect("memory");
        let once = fixture.pool().function(b"once", false).expect("memory");
        assert_eq!(often.number() & FUNCTION_USED_ONCE, 0);
        assert_ne!(once.number() & FUNCTION_USED_ONCE, 0);
        let held = fixture.hold();
        for function in [&often, &often, &once] {
            let payload = fixture.pool().store(&[b"function"]).expect("memory");
            let task = Task { function: Some(function.clone()), payload };
            let (cell, missing) = fixture.pool().submit(task).expect("it is open");
            fixture.pool().start(missing, fixture.likeness.clone());
            let expected = if function.number() == once.number() { "once" } else { "often" };
            assert_eq!(fixture.text(&cell), expected);
        }
        assert!(fixture.pool().in_use_bytes() > 0);
        drop((often, once));
        assert_eq!(fixture.pool().in_use_bytes(), 0);
        fixture.release(1);
        assert_eq!(fixture.text(&held), "held");
        fixture.close();
    });
}

#[test]
fn a_burst_runs_once_each_however_many_workers_there_are() {
    for count in 1..=4 {
        isolated(|| {
            const TASKS: usize = 100_000;
            let fixture = Fixture::new(Settings { cpus: count, ..workers(count) });
            let cells: Vec<_> =
                (0..TASKS).map(|number| fixture.submit(&format!("echo {number}"))).collect();
            for (number, cell) in cells.iter().enumerate() {
                assert_eq!(fixture.text(cell), number.to_string());
            }
            assert_eq!(fixture.pids().len(), count as usize);
            assert_eq!(fixture.pool().pending(), 0);
            fixture.close();
        });
    }
}

#[test]
fn workers_are_started_for_tasks_and_no_more_than_that() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        assert_eq!(fixture.pool().missing_workers(0), 0);
        let first = fixture.hold();
        fixture.pool().wait_started();
        assert_eq!(fixture.pids().len(), 1);
        let second = fixture.hold();
        assert_eq!(fixture.pids().len(), 2);
        fixture.release(2);
        fixture.wait(&first);
        fixture.wait(&second);
        // Idle workers stay, and serve what comes.
        assert_eq!(fixture.text(&fixture.submit("echo again")), "again");
        assert_eq!(fixture.pids().len(), 2);
        // No more are started than tasks can use, nor, whatever is foreseen, than the most.
        fixture.pool().start(10, fixture.likeness.clone());
        assert_eq!(fixture.pids().len(), 2);
        assert_eq!(fixture.pool().missing_workers(10), 1);
        fixture.pool().start(10, fixture.likeness.clone());
        fixture.pool().wait_started();
        assert_eq!(fixture.pids().len(), 3);
        fixture.close();
    });
}

#[test]
fn the_first_task_starts_all_workers_if_that_is_wanted() {
    isolated(|| {
        let fixture = Fixture::new(Settings { starts_all: true, ..workers(3) });
        let cell = fixture.submit("echo one");
        fixture.pool().wait_started();
        assert_eq!(fixture.pids().len(), 3);
        assert_eq!(fixture.text(&cell), "one");
        fixture.close();
    });
}

#[test]
fn callers_that_start_workers_at_once_start_no_more_than_the_most() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(fixture.text(&fixture.submit("echo at once")), "at once");
                    assert!(fixture.pids().len() <= 2);
                });
            }
        });
        fixture.close();
    });
}

#[test]
fn a_long_task_does_not_hold_up_what_was_sent_behind_it() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        // Tiny tasks, so that many are sent ahead.
        let tiny: Vec<_> = (0..500).map(|_| fixture.submit("echo tiny")).collect();
        tiny.iter().for_each(|cell| fixture.wait(cell));
        let long = fixture.hold();
        let short: Vec<_> =
            (0..300).map(|number| fixture.submit(&format!("echo {number}"))).collect();
        for (number, cell) in short.iter().enumerate() {
            assert_eq!(fixture.text(cell), number.to_string());
        }
        assert!(!long.is_over());
        assert!(fixture.pool().is_running(&long));
        fixture.release(1);
        assert_eq!(fixture.text(&long), "held");
        assert!(!fixture.pool().is_running(&long));
        fixture.close();
    });
}

#[test]
fn forgotten_tasks_run_and_those_behind_a_long_one_too() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        // Nobody waits for any of these: what is heard was written by the workers.
        let long = fixture.hold();
        (0..1000).for_each(|_| drop(fixture.submit("tell")));
        fixture.hear(1000);
        assert!(!long.is_over());
        fixture.release(1);
        fixture.close();
    });
}

#[test]
fn a_worker_with_two_threads_runs_two_tasks_at_once() {
    isolated(|| {
        let fixture = Fixture::of(Settings { threads_per_worker: 2, ..settings() }, "sound 2");
        let first = fixture.hold();
        let second = fixture.hold();
        assert_eq!(fixture.pids().len(), 1);
        fixture.release(2);
        assert_eq!(fixture.text(&first), "held");
        assert_eq!(fixture.text(&second), "held");
        let cells: Vec<_> =
            (0..20_000).map(|number| fixture.submit(&format!("echo {number}"))).collect();
        for (number, cell) in cells.iter().enumerate() {
            assert_eq!(fixture.text(cell), number.to_string());
        }
        fixture.close();
    });
}

#[test]
fn a_thread_that_ends_a_long_task_fetches_what_had_no_room_beside_it() {
    isolated(|| {
        let fixture = Fixture::of(Settings { threads_per_worker: 2, ..settings() }, "sound 2");
        // The long task keeps its slot, so the ring is full when the other thread has gone round
        // it once, and the rest waits. Nobody waits for any of them.
        let long = fixture.hold();
        (0..2000).for_each(|_| drop(fixture.submit("tell")));
        fixture.hear(511);
        // What the thread that waits has asked for in vain, the other one must ask for again.
        fixture.release(1);
        fixture.hear(2000 - 511);
        fixture.wait(&long);
        fixture.close();
    });
}

#[test]
fn more_threads_than_a_ring_has_slots_lose_nothing() {
    isolated(|| {
        let fixture = Fixture::of(Settings { threads_per_worker: 2000, ..settings() }, "sound 2");
        let cells: Vec<_> =
            (0..5000).map(|number| fixture.submit(&format!("echo {number}"))).collect();
        let texts = cells.iter().map(|cell| fixture.text(cell));
        assert!(counted(texts).into_values().all(|count| count == 1));
        fixture.close();
    });
}

#[test]
fn callers_that_wait_at_once_all_get_what_they_wait_for() {
    for cpus in [1, 2] {
        isolated(|| {
            let fixture = Fixture::new(Settings { cpus, ..workers(2) });
            thread::scope(|scope| {
                for caller in 0..6 {
                    let fixture = &fixture;
                    scope.spawn(move || {
                        for number in 0..300 {
                            let text = format!("{caller}-{number}");
                            let cell = fixture.submit(&format!("echo {text}"));
                            assert_eq!(fixture.text(&cell), text);
                        }
                    });
                }
            });
            fixture.close();
        });
    }
}

#[test]
fn the_caller_that_pumps_hands_over_however_its_wait_ends() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let long = fixture.hold();
        let held = fixture.hold();
        let (report, reports) = mpsc::channel();
        let fixture_ref = &fixture;
        thread::scope(|scope| {
            // One of these pumps, and leaves after a while without what it waited for; the other
            // must take over, or nobody takes in what the gate lets go.
            for _ in 0..4 {
                let report = report.clone();
                let (long, held) = (&long, &held);
                scope.spawn(move || {
                    let waited = fixture_ref.pool().wait(long, soon(), &mut || false);
                    report.send(waited).expect("somebody listens");
                    fixture_ref.wait(held);
                    fixture_ref.wait(long);
                    report.send(Waited::Done).expect("somebody listens");
                });
            }
            for _ in 0..4 {
                assert_eq!(reports.recv(), Ok(Waited::TimedOut));
            }
            fixture_ref.release(2);
            for _ in 0..4 {
                assert_eq!(reports.recv(), Ok(Waited::Done));
            }
        });
        fixture.close();
    });
}

#[test]
fn a_deadline_that_has_passed_still_looks() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let long = fixture.hold();
        let past = Some(std::time::Instant::now());
        assert_eq!(fixture.pool().wait(&long, past, &mut || false), Waited::TimedOut);
        fixture.release(1);
        fixture.wait(&long);
        assert_eq!(fixture.pool().wait(&long, past, &mut || false), Waited::Done);
        fixture.close();
    });
}

/// Lets SIGUSR1 break system calls off, as Python's handlers do.
fn hear_signals() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zeros is a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: the handler does nothing.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
}

fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Signals a thread until something has happened: it may not have gone to sleep yet.
fn signal_until(thread: i32, mut has_happened: impl FnMut() -> bool) {
    let process = std::process::id();
    until(|| {
        // SAFETY: the thread is one of this test's.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
        has_happened()
    });
}

#[test]
fn a_signal_asks_the_caller_whether_it_still_waits() {
    isolated(|| {
        hear_signals();
        let fixture = Fixture::new(settings());
        let long = fixture.hold();
        let (report, reports) = mpsc::channel();
        thread::scope(|scope| {
            // The first one pumps, the second one is parked.
            for _ in 0..2 {
                let (report, fixture, long) = (report.clone(), &fixture, &long);
                let waiter = scope.spawn(move || {
                    report.send(this_thread()).expect("somebody listens");
                    let mut asked = 0;
                    let waited = fixture.pool().wait(long, None, &mut || {
                        asked += 1;
                        asked == 3
                    });
                    assert_eq!(asked, 3);
                    waited
                });
                let thread = reports.recv().expect("it tells");
                signal_until(thread, || waiter.is_finished());
                assert_eq!(waiter.join().expect("no panic"), Waited::Interrupted);
            }
            let (fixture, long) = (&fixture, &long);
            let closer = scope.spawn(move || {
                report.send(this_thread()).expect("somebody listens");
                fixture.pool().close(ungil_pool::Cancel::Nothing);
                fixture.pool().wait_closed(None, &mut || true)
            });
            let thread = reports.recv().expect("it tells");
            signal_until(thread, || closer.is_finished());
            assert_eq!(closer.join().expect("no panic"), Waited::Interrupted);
            assert!(!long.is_over());
        });
        fixture.release(1);
        fixture.wait(&long);
        fixture.close();
    });
}

#[test]
fn a_signal_handler_may_wait_for_another_task() {
    isolated(|| {
        hear_signals();
        let fixture = Fixture::new(workers(2));
        let long = fixture.hold();
        // Two waiters, so that both the one that pumps and the one that is parked are asked.
        for other in [false, true] {
            let (report, reports) = mpsc::channel();
            thread::scope(|scope| {
                let (fixture, long) = (&fixture, &long);
                if other {
                    scope.spawn(move || fixture.pool().wait(long, None, &mut || true));
                }
                let waiter = scope.spawn(move || {
                    report.send(this_thread()).expect("somebody listens");
                    fixture.pool().wait(long, None, &mut || {
                        assert_eq!(fixture.text(&fixture.submit("echo inner")), "inner");
                        true
                    })
                });
                let thread = reports.recv().expect("it tells");
                signal_until(thread, || waiter.is_finished());
                assert_eq!(waiter.join().expect("no panic"), Waited::Interrupted);
                // The other one is interrupted by the end of the task.
                if other {
                    fixture.release(1);
                }
            });
        }
        assert_eq!(fixture.text(&long), "held");
        fixture.close();
    });
}

#[test]
fn subscribers_hear_of_ends_without_anybody_waiting() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let (heard, hears) = mpsc::channel();
        let long = fixture.hold();
        let teller = heard.clone();
        assert!(fixture.pool().subscribe(&long, Box::new(move || teller.send("long").unwrap())));
        let cells: Vec<_> = (0..100).map(|_| fixture.submit("echo short")).collect();
        for cell in &cells {
            let teller = heard.clone();
            let tell = Box::new(move || teller.send("short").unwrap());
            if !fixture.pool().subscribe(cell, tell) {
                heard.send("short").unwrap();
            }
        }
        for _ in 0..100 {
            assert_eq!(hears.recv(), Ok("short"));
        }
        fixture.release(1);
        assert_eq!(hears.recv(), Ok("long"));
        let never = heard.clone();
        assert!(!fixture.pool().subscribe(&long, Box::new(move || never.send("again").unwrap())));
        drop(heard);
        assert!(hears.recv().is_err(), "each is called once and then dropped");
        fixture.close();
    });
}

#[test]
fn a_subscriber_may_come_back_to_the_pool_and_drop_it() {
    isolated(|| {
        let mut fixture = Fixture::new(settings());
        let cell = fixture.hold();
        let likeness = fixture.likeness.clone();
        let pool = fixture.pool.take().expect("it is there");
        let (heard, hears) = mpsc::channel();
        let pool = std::sync::Arc::new(pool);
        let last = pool.clone();
        let subscriber = Box::new(move || {
            let payload = last.store(&[b"tell"]).expect("memory");
            let (again, missing) =
                last.submit(Task { function: None, payload }).expect("it is open");
            last.start(missing, likeness);
            assert!(!last.is_running(&again) || last.pending() == 1);
            // The pool's last handle, dropped in its own thread.
            drop(last);
            heard.send(again).expect("somebody listens");
        });
        assert!(pool.subscribe(&cell, subscriber));
        drop(pool);
        fixture.release(1);
        let again = hears.recv().expect("it was called");
        fixture.hear(1);
        until(|| again.is_over());
    });
}

#[test]
fn a_task_is_cancelled_while_it_waits_or_is_merely_sent() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let running = fixture.hold();
        let cells: Vec<_> =
            (0..20).map(|number| fixture.submit_parts(&[b"parts", &[number; 500]])).collect();
        let (heard, hears) = mpsc::channel();
        assert!(fixture.pool().subscribe(&cells[19], Box::new(move || heard.send(()).unwrap())));
        // The first of them was sent, the others wait.
        for cell in &cells {
            assert!(fixture.pool().cancel(cell));
            assert!(cell.is_over() && cell.is_cancelled());
            assert!(cell.take().is_none());
            assert!(!fixture.pool().cancel(cell), "it is over");
        }
        assert_eq!(hears.recv(), Ok(()));
        assert_eq!(fixture.pool().in_use_bytes(), 0);
        assert!(!fixture.pool().cancel(&running));
        fixture.release(1);
        assert_eq!(fixture.text(&running), "held");
        assert!(!fixture.pool().cancel(&running));
        fixture.close();
    });
}

#[test]
fn cancelling_wakes_who_waits() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let running = fixture.hold();
        let cell = fixture.submit("echo never");
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| fixture.wait(&cell))).collect();
            assert!(fixture.pool().cancel(&cell));
            waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
        });
        fixture.release(1);
        fixture.wait(&running);
        fixture.close();
    });
}

#[test]
fn a_stopped_worker_keeps_its_task_while_others_are_sent_and_cancelled() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        fixture.text(&fixture.submit("echo warm"));
        let running = fixture.submit("kill 19");
        let pid = fixture.pids()[0];
        until(|| state_of(pid) == 'T');
        // Often round the ring, whose slots the worker does not empty.
        for _ in 0..2000 {
            assert!(fixture.pool().cancel(&fixture.submit("echo never")));
        }
        let last = fixture.submit("echo last");
        assert!(!running.is_over());
        assert!(fixture.pool().is_running(&running));
        signal(pid, libc::SIGCONT);
        assert_eq!(fixture.pool().wait(&last, soon(), &mut || false), Waited::TimedOut);
        signal(pid, libc::SIGKILL);
        assert_eq!(fixture.crash(&running).pid, pid);
        assert_eq!(fixture.text(&last), "last");
        fixture.close();
    });
}
