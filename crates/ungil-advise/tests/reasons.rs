//! Sentences: each reason comes from what was measured, and from nothing else.

use ungil_advise::reason::{Advice, Certainty, Circumstances, Evidence, Repetition, advise};
use ungil_advise::{Model, PRACTICAL_MARGIN, paired_ratio, rank};

/// One model as a test measures it: times of the rounds, CPU cores used, start-up.
struct Measured(Model, &'static [f64], f64, f64);

const ROUNDS: [f64; 6] = [1.00, 1.01, 0.99, 1.00, 1.02, 0.98];

fn scaled(factor: f64) -> &'static [f64] {
    Box::leak(ROUNDS.iter().map(|round| round * factor).collect::<Box<[f64]>>())
}

fn advice_with(
    repetition: Repetition,
    models: &[Measured],
    change: impl FnOnce(&mut Circumstances),
) -> Advice {
    let serial = models[0].1;
    let evidence: Vec<Evidence> = models
        .iter()
        .map(|Measured(model, times, cores, start_up)| Evidence {
            model: *model,
            label: model.noun().to_owned(),
            workers: if *model == Model::Serial { 1 } else { 2 },
            time_s: ungil_advise::median(times),
            times_faster: paired_ratio(serial, times, 0.05),
            cpu_cores_used: Some(*cores),
            start_up_s: Some(*start_up),
        })
        .collect();
    let mut circumstances = Circumstances {
        tasks: 10,
        is_coroutine_function: false,
        usable_cpus: 2,
        has_run_all_rounds: false,
        serial_time_s: evidence[0].time_s,
        serial_cpu_cores_used: evidence[0].cpu_cores_used,
        pickling_s_per_task: Some(1e-6),
        pickled_bytes_per_task: Some(20.0),
    };
    change(&mut circumstances);
    let times: Vec<Vec<f64>> = models.iter().map(|model| model.1.to_vec()).collect();
    let ranking = rank(&times, PRACTICAL_MARGIN, 0.05).unwrap();
    let candidates: Vec<usize> = (0..models.len()).collect();
    let rounds = serial.len();
    advise(repetition, &evidence, &candidates, &ranking, rounds, &circumstances).unwrap()
}

fn advice(models: &[Measured]) -> Advice {
    advice_with(Repetition::Repeated, models, |_| {})
}

#[test]
fn computing_work_goes_to_processes_because_threads_took_turns() {
    let advice = advice(&[
        Measured(Model::Serial, scaled(1.0), 1.0, 0.0),
        Measured(Model::Threads, scaled(1.02), 1.01, 0.001),
        Measured(Model::Processes, scaled(0.52), 1.94, 0.012),
    ]);
    assert_eq!((advice.choice, advice.certainty), (2, Certainty::Winner));
    assert!(advice.sentence.contains("threads took turns"), "{}", advice.sentence);
    assert!(advice.sentence.contains("1.92 times as fast as serial"), "{}", advice.sentence);
}

#[test]
fn computing_work_that_threads_share_needs_no_processes() {
    let advice = advice(&[
        Measured(Model::Serial, scaled(1.0), 1.0, 0.0),
        Measured(Model::Threads, scaled(0.51), 1.96, 0.001),
        Measured(Model::Processes, scaled(0.51), 1.95, 0.012),
    ]);
    assert_eq!((advice.choice, advice.certainty), (1, Certainty::Tie));
    assert_eq!(advice.fastest, [1, 2]);
    assert!(advice.sentence.contains("used 1.96 CPU cores at once"), "{}", advice.sentence);
    assert!(advice.sentence.contains("Tie with processes"), "{}", advice.sentence);
}

#[test]
fn waiting_work_goes_to_threads_because_it_waited() {
    let advice = advice(&[
        Measured(Model::Serial, scaled(1.0), 0.02, 0.0),
        Measured(Model::Threads, scaled(0.1), 0.1, 0.001),
        Measured(Model::Processes, scaled(0.12), 0.2, 0.012),
    ]);
    assert_eq!(advice.choice, 1);
    assert!(advice.sentence.contains("waited 98 % of its time"), "{}", advice.sentence);
}

#[test]
fn tiny_work_stays_serial_because_handing_it_over_costs_more() {
    let advice = advice(&[
        Measured(Model::Serial, scaled(1e-5), 1.0, 0.0),
        Measured(Model::Threads, scaled(1e-4), 1.1, 0.001),
        Measured(Model::Processes, scaled(1e-3), 1.5, 0.012),
    ]);
    assert_eq!(advice.choice, 0);
    assert!(
        advice.sentence.contains("a task takes 1.00 us and handing it to threads costs"),
        "{}",
        advice.sentence
    );
}

#[test]
fn computing_work_whose_threads_took_turns_is_told_so_and_not_charged_for_handing_over() {
    let advice = advice(&[
        Measured(Model::Serial, scaled(1.0), 1.0, 0.0),
        Measured(Model::Threads, scaled(1.04), 0.99, 0.001),
    ]);
    assert_eq!(advice.choice, 0);
    assert!(advice.sentence.contains("threads took turns at it (0.990"), "{}", advice.sentence);
}

#[test]
fn one_task_has_nothing_to_run_beside_it() {
    let models = [
        Measured(Model::Serial, scaled(1.0), 0.0, 0.0),
        Measured(Model::Threads, scaled(1.05), 0.0, 0.001),
    ];
    let advice = advice_with(Repetition::Repeated, &models, |circumstances| {
        circumstances.tasks = 1;
    });
    assert!(advice.sentence.contains("there is one task"), "{}", advice.sentence);
}

#[test]
fn doubt_about_something_more_complicated_leaves_the_choice_decided() {
    let advice = advice(&[
        Measured(Model::Serial, &[1.0, 1.01, 0.99, 1.0, 1.0], 1.0, 0.0),
        Measured(Model::Processes, &[0.50, 0.51, 0.49, 0.50, 0.50], 1.9, 0.012),
        Measured(Model::ProcessesThreads, &[0.4, 0.9, 0.5, 0.8, 0.6], 1.9, 0.012),
    ]);
    assert_eq!((advice.choice, advice.certainty), (1, Certainty::Tie));
}

#[test]
fn more_rounds_are_only_asked_for_where_there_could_be_more() {
    let models = [
        Measured(Model::Serial, &[1.0, 1.1, 0.9, 1.0, 1.0], 1.0, 0.0),
        Measured(Model::Processes, &[0.4, 1.5, 0.5, 1.2, 0.5], 1.9, 0.012),
    ];
    let some = advice_with(Repetition::Repeated, &models, |_| {});
    assert!(some.sentence.contains("More rounds would tell"), "{}", some.sentence);
    let all = advice_with(Repetition::Repeated, &models, |circumstances| {
        circumstances.has_run_all_rounds = true;
    });
    assert!(all.sentence.contains("All planned rounds were run"), "{}", all.sentence);
}

#[test]
fn a_job_shorter_than_the_start_up_stays_serial_when_run_once() {
    let models = [
        Measured(Model::Serial, scaled(0.010), 1.0, 0.0),
        Measured(Model::Processes, scaled(0.025), 1.9, 0.020),
    ];
    let advice = advice_with(Repetition::Once, &models, |_| {});
    assert_eq!(advice.choice, 0);
    assert!(
        advice.sentence.contains("starting processes alone takes 20.0 ms"),
        "{}",
        advice.sentence
    );
}

#[test]
fn pickling_is_named_where_it_is_a_fair_part_of_the_work() {
    let models = [
        Measured(Model::Serial, scaled(1.0), 1.0, 0.0),
        Measured(Model::Threads, scaled(0.51), 1.96, 0.001),
        Measured(Model::Processes, scaled(0.9), 1.5, 0.012),
    ];
    let advice = advice_with(Repetition::Repeated, &models, |circumstances| {
        circumstances.pickling_s_per_task = Some(0.05);
        circumstances.pickled_bytes_per_task = Some(80e6);
    });
    assert!(advice.sentence.contains("80.0 MB cost 50.0 ms to pickle"), "{}", advice.sentence);
}

#[test]
fn a_coroutine_function_that_waits_goes_to_the_event_loop_on_a_tie() {
    let models = [
        Measured(Model::Serial, scaled(1.0), 0.01, 0.0),
        Measured(Model::Asyncio, scaled(0.1), 0.05, 0.0005),
        Measured(Model::Threads, scaled(0.1), 0.1, 0.001),
    ];
    let advice = advice_with(Repetition::Repeated, &models, |circumstances| {
        circumstances.is_coroutine_function = true;
    });
    assert_eq!(advice.choice, 1);
    assert!(advice.sentence.contains("asyncio is simpler"), "{}", advice.sentence);
}

#[test]
fn two_rounds_of_a_large_difference_are_not_called_a_tie() {
    let advice = advice(&[
        Measured(Model::Serial, &[1.0, 1.1], 1.0, 0.0),
        Measured(Model::Processes, &[0.55, 0.5], 1.9, 0.012),
    ]);
    assert_eq!((advice.choice, advice.certainty), (1, Certainty::Undecided));
    assert!(advice.sentence.contains("not decided after 2 rounds"), "{}", advice.sentence);
}

#[test]
fn noise_as_large_as_the_difference_is_not_called_a_tie_either() {
    let advice = advice(&[
        Measured(Model::Serial, &[1.0, 1.1, 0.9, 1.0, 1.0], 1.0, 0.0),
        Measured(Model::Processes, &[0.4, 1.5, 0.5, 1.2, 0.5], 1.9, 0.012),
    ]);
    assert_eq!(advice.certainty, Certainty::Undecided);
}

#[test]
fn one_model_alone_is_said_to_be_alone() {
    let advice = advice(&[Measured(Model::Serial, scaled(1.0), 1.0, 0.0)]);
    assert_eq!(advice.certainty, Certainty::Alone);
    assert!(advice.sentence.contains("nothing to compare it with"), "{}", advice.sentence);
}
