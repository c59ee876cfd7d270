//! Batches of items: each ends once, whatever becomes of the others and of the workers.

mod support;

use std::sync::Arc;

use support::{Fixture, isolated, settings, signal, soon, until, workers};
use ungil_pool::{Cancel, Pace, Settings, Waited};

const DIED: &str = "crashed Some(Killed(9))";

/// A pace at which chunks are as long as their share of the batch.
fn fast() -> Arc<Pace> {
    Arc::new(Pace::measured(100))
}

fn slow() -> Arc<Pace> {
    Arc::new(Pace::default())
}

fn echoes(count: usize) -> (Vec<String>, Vec<String>) {
    let told: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    (told.iter().map(|number| format!("echo {number}")).collect(), told)
}

fn lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

#[test]
fn every_result_comes_in_its_place() {
    isolated(|| {
        for workers_max in [1, 2, 5] {
            let fixture = Fixture::new(workers(workers_max));
            for (pace, count) in [(slow(), 300), (fast(), 20_000)] {
                let (commands, told) = echoes(count);
                let results = fixture.submit_items(&lines(&commands), &pace);
                assert_eq!(fixture.items(&results, 0, count as u32), told);
            }
            assert_eq!(fixture.pool().pending(), 0);
            fixture.close();
            fixture.wait_unused();
        }
    });
}

#[test]
fn items_that_follow_from_a_description_need_no_memory() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let results = fixture.submit_described(100_000, &fast());
        let (_, told) = echoes(100_000);
        assert_eq!(fixture.items(&results, 0, 100_000), told);
        fixture.close();
    });
}

#[test]
fn items_can_be_added_while_others_run() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let function = fixture.pool().function(b"items", true).expect("memory");
        let mut batch = fixture.pool().begin_batch(function, fast(), 1 << 20).expect("memory");
        let results = batch.results().clone();
        let mut told = Vec::new();
        for number in 0..2000 {
            // Each is run though the next one is not there yet.
            let line = format!("echo {number}\n");
            fixture.extend(&mut batch, line.as_bytes(), &[line.len() as u32]);
            told.push(number.to_string());
            if number % 200 == 0 {
                assert_eq!(fixture.items(&results, number, 1), [number.to_string()]);
            }
        }
        for start in (1..2000).step_by(200) {
            let place = start as usize;
            assert_eq!(fixture.items(&results, start, 199), told[place..place + 199]);
        }
        assert_eq!(batch.count(), 2000);
        assert!(batch.has_room(1, 10) && !batch.has_room(1, 1 << 20));
        drop(batch);
        fixture.close();
        fixture.wait_unused();
    });
}

#[test]
fn long_results_and_exceptions_come_in_their_places() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let results = fixture.submit_items(
            &["echo a", "alone b", "raise c", "echo d", "long 60000", "long 60000", "alone e"],
            &fast(),
        );
        let long = "x".repeat(60_000);
        let told = ["a", "bby itself", "raised cby itself", "d", &long, &long, "eby itself"];
        assert_eq!(fixture.items(&results, 0, 7), told);
        fixture.close();
    });
}

#[test]
fn pain_1_a_killed_worker_fails_the_item_it_runs_and_no_other() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        for (pace, victim) in [(slow(), 0), (slow(), 500), (fast(), 0), (fast(), 77), (fast(), 999)]
        {
            let (mut commands, mut told) = echoes(1000);
            commands[victim] = "kill 9".into();
            told[victim] = DIED.into();
            let results = fixture.submit_items(&lines(&commands), &pace);
            assert_eq!(fixture.items(&results, 0, 1000), told);
        }
        fixture.close();
        fixture.wait_unused();
    });
}

#[test]
fn what_was_finished_before_the_death_is_delivered_and_not_run_again() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        for pace in [slow(), fast()] {
            // The worker tells of each item that it runs.
            let results = fixture.submit_items(
                &[
                    "tell",
                    "finish-and-die a",
                    "tell",
                    "alone b",
                    "alone-and-die c",
                    "tell",
                    "kill 9",
                ],
                &pace,
            );
            let told = ["told", "a", "told", "bby itself", "cby itself", "told", DIED];
            assert_eq!(fixture.items(&results, 0, 7), told);
            fixture.hear(3);
        }
        let quiet = fixture.submit("tell");
        fixture.wait(&quiet);
        assert_eq!(fixture.hear(1).len(), 1);
        fixture.close();
    });
}

#[test]
fn every_item_ends_once_while_workers_keep_dying() {
    isolated(|| {
        let fixture = Fixture::new(workers(3));
        let (mut commands, mut told) = echoes(3000);
        for number in 0..3000 {
            match number % 100 {
                17 => (commands[number], told[number]) = ("kill 9".into(), DIED.into()),
                34 => commands[number] = format!("finish-and-die {number}"),
                51 => {
                    commands[number] = format!("alone-and-die {number}");
                    told[number] = format!("{number}by itself");
                }
                _ => {}
            }
        }
        let results = fixture.submit_items(&lines(&commands), &fast());
        assert_eq!(fixture.items(&results, 0, 3000), told);
        assert_eq!(fixture.pool().pending(), 0);
        fixture.close();
        fixture.wait_unused();
    });
}

#[test]
fn pain_15_what_lies_behind_a_slow_item_goes_to_who_is_idle() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        // Both workers are there.
        let both = fixture.submit_items(&["hold", "hold"], &slow());
        fixture.hear(2);
        fixture.release(2);
        assert_eq!(fixture.items(&both, 0, 2), ["held", "held"]);
        // With this many, a chunk is of five: one worker has all of the first.
        let commands =
            [&["echo a", "hold", "echo b", "echo c", "echo d"], &["echo z"; 35][..]].concat();
        let results = fixture.submit_items(&commands, &fast());
        fixture.hear(1);
        assert_eq!(
            fixture.items(&results, 0, 1),
            ["a"],
            "it is not held up by what comes after it"
        );
        assert_eq!(fixture.items(&results, 2, 3), ["b", "c", "d"]);
        fixture.release(1);
        assert_eq!(fixture.items(&results, 1, 1), ["held"]);
        fixture.close();
    });
}

#[test]
fn results_of_a_chunk_come_while_it_is_run_and_only_once() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let (commands, mut told) = echoes(100);
        let mut commands = lines(&commands);
        for place in [10, 11, 50, 99] {
            commands[place] = "hold";
            told[place] = "held".into();
        }
        let results = fixture.submit_items(&commands, &fast());
        // It begins at once, and the first result is there while the next items run.
        assert_eq!(fixture.items(&results, 0, 10), told[..10]);
        fixture.hear(1);
        let waited = fixture.pool().wait_for_item(&results, 10, soon(), &mut || false);
        assert_eq!(waited, Waited::TimedOut);
        fixture.release(1);
        assert_eq!(fixture.items(&results, 10, 1), ["held"]);
        fixture.release(1);
        assert_eq!(fixture.items(&results, 11, 39), told[11..50]);
        fixture.release(2);
        assert_eq!(fixture.items(&results, 50, 50), told[50..]);
        fixture.close();
    });
}

#[test]
fn results_that_nobody_takes_hold_little_more_memory_than_they_need() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        // Each of them is sent by itself, for nothing is known of the pace.
        let pace = slow();
        let results: Vec<_> =
            (0..1000).map(|_| fixture.submit_items(&["long 200"], &pace)).collect();
        until(|| fixture.pool().pending() == 0);
        let in_use: u64 = fixture.text(&fixture.submit("in-use")).parse().expect("a number");
        assert!((200_000..1_000_000).contains(&in_use), "{in_use}");
        results.iter().for_each(|it| assert_eq!(fixture.items(it, 0, 1)[0].len(), 200));
        fixture.close();
    });
}

#[test]
fn items_run_though_nobody_waits() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let (commands, told) = echoes(5000);
        let results = fixture.submit_items(&lines(&commands), &fast());
        until(|| fixture.pool().pending() == 0);
        assert_eq!(fixture.items(&results, 0, 5000), told);
        fixture.close();
    });
}

#[test]
fn more_answers_than_there_is_room_for_wait() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let commands: Vec<String> = (0..5000).map(|number| format!("alone {number}")).collect();
        // Nobody looks before all are done, so the supervisor has to be asked.
        let results = fixture.submit_items(&lines(&commands), &fast());
        until(|| fixture.pool().pending() == 0);
        let told: Vec<String> = (0..5000).map(|number| format!("{number}by itself")).collect();
        assert_eq!(fixture.items(&results, 0, 5000), told);
        // And with several threads of one worker.
        let threads = Fixture::of(Settings { threads_per_worker: 4, ..settings() }, "sound 4");
        let all: Vec<_> =
            (0..4).map(|_| threads.submit_items(&lines(&commands), &fast())).collect();
        until(|| threads.pool().pending() == 0);
        all.iter().for_each(|results| assert_eq!(threads.items(results, 0, 5000), told));
        threads.close();
        fixture.close();
    });
}

#[test]
fn items_are_cancelled_up_to_the_one_that_runs() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let running = fixture.submit_items(&["echo a", "hold", "tell", "tell"], &fast());
        let waiting = fixture.submit_items(&["tell", "tell"], &fast());
        fixture.hear(1);
        fixture.pool().cancel_items(&waiting);
        fixture.pool().cancel_items(&running);
        assert_eq!(fixture.items(&waiting, 0, 2), ["cancelled"; 2]);
        assert_eq!(fixture.items(&running, 2, 2), ["cancelled"; 2]);
        fixture.release(1);
        assert_eq!(fixture.items(&running, 0, 2), ["a", "held"]);
        assert_eq!(fixture.text(&fixture.submit("echo on")), "on");
        fixture.close();
        fixture.wait_unused();
    });
}

#[test]
fn closing_cancels_what_no_worker_has() {
    isolated(|| {
        for cancel in [Cancel::Unassigned, Cancel::Unbegun] {
            let fixture = Fixture::new(settings());
            let running = fixture.submit_items(&["hold", "tell", "tell"], &fast());
            fixture.hear(1);
            let waiting = fixture.submit_items(&["tell", "tell"], &fast());
            fixture.pool().close(cancel);
            fixture.release(1);
            assert_eq!(fixture.items(&running, 0, 3), ["held", "cancelled", "cancelled"]);
            assert_eq!(fixture.items(&waiting, 0, 2), ["cancelled"; 2]);
            fixture.wait_closed();
        }
        // Nobody was started who could have been left an item.
        let fixture = Fixture::new(settings());
        let function = fixture.pool().function(b"items", true).expect("memory");
        let mut batch = fixture.pool().begin_batch(function, fast(), 10).expect("memory");
        let extended = fixture.pool().extend_batch(&mut batch, b"tell\ntell\n", &[5, 10]);
        let (missing, results) = (extended.expect("it is open"), batch.results().clone());
        assert_eq!(missing, 1);
        fixture.pool().close(Cancel::Unassigned);
        assert_eq!(fixture.items(&results, 0, 2), ["cancelled"; 2]);
        fixture.wait_closed();
    });
}

#[test]
fn a_pool_that_breaks_ends_every_item() {
    isolated(|| {
        let fixture = Fixture::new(settings());
        let results = fixture.submit_items(&["echo a", "hold", "tell"], &fast());
        fixture.hear(1);
        assert_eq!(fixture.items(&results, 0, 1), ["a"]);
        fixture.pool().break_down("for a test");
        assert_eq!(fixture.items(&results, 1, 2), ["broken for a test"; 2]);
        fixture.wait_closed();
        fixture.wait_unused();
    });
}

#[test]
fn what_a_dead_worker_wrote_is_checked() {
    isolated(|| {
        for kind in ["offset", "bytes", "first", "done", "next", "limit"] {
            let fixture = Fixture::new(settings());
            let command = format!("spoil {kind}");
            let results = fixture.submit_items(&["echo a", &command, "tell", "tell"], &fast());
            let told = fixture.items(&results, 1, 3);
            let is_ended = |it: &String| it.starts_with("crashed");
            assert!(told.iter().all(is_ended) || told[1..] == ["told", "told"], "{kind}: {told:?}");
            assert_eq!(fixture.text(&fixture.submit("echo on")), "on");
            fixture.close();
        }
    });
}

#[test]
fn a_worker_that_may_run_so_many_tasks_runs_so_many_items() {
    isolated(|| {
        let fixture = Fixture::new(Settings { tasks_per_worker_max: Some(10), ..settings() });
        let results = fixture.submit_items(&["pid"; 35], &fast());
        let mut pids = fixture.items(&results, 0, 35);
        let counts = support::counted(pids.iter().cloned());
        assert!(counts.values().all(|count| *count <= 10), "{counts:?}");
        pids.dedup();
        assert!(pids.len() >= 4);
        fixture.close();
    });
}

#[test]
fn a_stopped_worker_holds_up_what_it_has_begun_and_nothing_else() {
    isolated(|| {
        let fixture = Fixture::new(workers(2));
        let both = fixture.submit_items(&["hold", "hold"], &slow());
        fixture.hear(2);
        let pids = fixture.pids();
        fixture.release(2);
        assert_eq!(fixture.items(&both, 0, 2), ["held", "held"]);
        let results = fixture.submit_items(&["hold", "echo b", "echo c", "echo d"], &fast());
        fixture.hear(1);
        pids.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        signal(pids[0], libc::SIGCONT);
        signal(pids[1], libc::SIGCONT);
        assert_eq!(fixture.items(&results, 1, 3), ["b", "c", "d"]);
        fixture.release(1);
        assert_eq!(fixture.items(&results, 0, 1), ["held"]);
        fixture.close();
    });
}
