//! Whole pages.

use ungil_compare::comparison::{Note, NoteKind};
use ungil_compare::message::Agreement;
use ungil_compare::{Failure, FailureKind};

use super::*;
use crate::fixture;
use crate::text::measure::columns;

fn styles(width: usize) -> [Style; 3] {
    [Style::plain(width), Style::ascii(width), Style::colored(width)]
}

fn assert_fits(comparison: &Comparison, width: usize) {
    for style in styles(width) {
        let text = fixture::without_paint(&render(comparison, &style));
        for line in text.lines() {
            assert!(columns(line) <= width, "{} of {width} columns: {line}", columns(line));
            assert_eq!(line, line.trim_end(), "spaces at the end");
        }
    }
}

#[test]
fn no_line_is_wider_than_the_page() {
    let comparisons = [
        fixture::rich(),
        fixture::comparison(),
        fixture::sweep(),
        fixture::broken(),
        fixture::nothing(),
    ];
    for comparison in &comparisons {
        for width in 20..=200 {
            assert_fits(comparison, width);
        }
    }
}

#[test]
fn pages_narrower_than_the_narrowest_are_written_all_the_same() {
    let narrowest = render(&fixture::rich(), &Style::plain(20));
    for width in [0, 1, 19] {
        assert_eq!(render(&fixture::rich(), &Style::plain(width)), narrowest);
    }
}

#[test]
fn one_and_a_thousand_measurements_are_written() {
    let mut comparison = fixture::comparison();
    comparison.measurements.truncate(1);
    comparison.repeated = None;
    assert_fits(&comparison, 80);
    let serial = comparison.measurements[0].clone();
    comparison.measurements = (0..1000)
        .map(|number| {
            let mut measurement = serial.clone();
            measurement.setup.engine = format!("engine-{number}");
            measurement.label = format!("serial ({})", measurement.setup.engine);
            measurement
        })
        .collect();
    for width in [30, 80, 120] {
        assert_fits(&comparison, width);
        let text = render(&comparison, &Style::plain(width));
        assert!(text.contains("serial (engine-0)") && text.contains("serial (engine-999)"));
    }
}

#[test]
fn advice_for_something_that_is_not_there_breaks_nothing() {
    let mut comparison = fixture::comparison();
    comparison.repeated.as_mut().unwrap().choice = 99;
    assert!(!render(&comparison, &Style::plain(100)).contains("\n* "));
}

#[test]
fn the_user_cannot_command_the_terminal() {
    let rich = fixture::rich();
    for width in [20, 55, 80, 120, 200] {
        let text = render(&rich, &Style::plain(width));
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        assert!(!text.contains('\u{202e}') && text.contains(r"\x1b"));
        // With colours, every escape is one of ours.
        let colored = render(&rich, &Style::colored(width));
        assert_eq!(fixture::without_paint(&colored), text);
        assert!(colored.split("\x1b[").skip(1).all(|part| {
            let code = part.split_once('m').map(|(code, _)| code);
            code.is_some_and(|code| ["0", "1", "2", "31", "33", "1;32", "1;33"].contains(&code))
        }));
    }
}

#[test]
fn ascii_pages_have_no_other_characters_of_ours() {
    for width in [20, 55, 80, 120] {
        assert!(render(&fixture::comparison(), &Style::ascii(width)).is_ascii());
        assert!(render(&fixture::sweep(), &Style::ascii(width)).is_ascii());
    }
}

#[test]
fn figures_that_are_not_finite_are_shown_as_not_measured() {
    let text = render(&fixture::broken(), &Style::plain(120));
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
}

/// Processes win, threads give other results, processes with threads fail.
fn eventful() -> Comparison {
    let mut comparison = fixture::comparison();
    comparison.measurements[1].agreement =
        Agreement::Different { task: 3, tasks: 7, expected: "9".to_owned(), found: "8".to_owned() };
    comparison.measurements[3].failure = Some(Failure {
        kind: FailureKind::Unpicklable,
        message: "resize() cannot be pickled, so no other process can run it: define it at the \
                  top level of a module instead of inside a function"
            .to_owned(),
        detail: Some("AttributeError: Can't pickle local object 'main.<locals>.resize'".to_owned()),
    });
    comparison.notes.push(Note {
        kind: NoteKind::ResultsDiffer,
        message: "threads: 7 of 64 results differ from the serial run's; task 3 gave 8 instead \
                  of 9."
            .to_owned(),
    });
    comparison
}

#[test]
fn a_whole_page() {
    let expected = "\
tasks.py:resize: 64 tasks a run
CPython 3.13.0, 2 of 4 CPUs usable, start method forkserver, 2 workers (one a usable CPU)

                                                               CPU                      caller  shares
  model              workers     time  x serial              cores   memory  start-up    delay  memory
──────────────────────────────────────────────────────────────────────────────────────────────────────
  serial                   1   151 ms   1.00x                 1.00  21.3 MB    800 ns   100 us     yes
! threads                  2   154 ms  0.980x [0.950..1.01]   1.02  22.1 MB    231 us  5.21 ms     yes
* processes                2  78.1 ms   1.94x [1.90..1.97]    1.97  58.1 MB   38.2 ms   412 us      no
  processes-threads    2 x 2  resize() cannot be pickled, so no other process can run it: define it a…

processes-threads: resize() cannot be pickled, so no other process can run it: define it at the top
  level of a module instead of inside a function
    AttributeError: Can't pickle local object 'main.<locals>.resize'

- asyncio: resize() is an ordinary function; under asyncio it would run in threads
  (asyncio.to_thread), so see threads.
- threads: 7 of 64 results differ from the serial run's; task 3 gave 8 instead of 9.

This job once: processes, 1.41 times as fast as serial (95 % interval 1.36 to 1.45), because the
  work computes and threads took turns at it (1.02 CPU cores used between them), while processes
  used 1.97.
Repeated: processes, 1.94 times as fast as serial (95 % interval 1.90 to 1.97), because the work
  computes and threads took turns at it (1.02 CPU cores used between them), while processes used
  1.97.

5,120 calls of at most 14,592; 12 rounds and 5 fresh starts of each model; 23.4 s of at most 60 s,
  ended because all models were told apart or found equivalent; seed 42.
Pickling, on average: a task's arguments 24 B, its result 1.23 KB, both ways 12.3 us.
* use this one if the job runs repeatedly; ! results differ from the serial run's.
workers: tasks at once, as processes x threads of each; time: the whole job in an open pool, median;
  x serial: times as fast as serial, from ratios within rounds; CPU cores: CPU time of all
  processes, divided by the time; memory: peak proportional set size of caller and workers together;
  start-up: from nothing to the first result of an empty task, in a fresh process; caller delay: 99
  of 100 ticks of the calling thread, one every 5 ms, were at most this late; shares memory: whether
  caller and workers see each other's changes; in brackets: 95 % intervals.
";
    let text = render(&eventful(), &Style::plain(110));
    assert_eq!(text, expected, "{text}");
}
