//! One model under several worker counts, as horizontal bars.

use ungil_advise::quantity;
use ungil_compare::Comparison;
use ungil_compare::comparison::{Sweep, SweepPoint};

use crate::counted::counted;
use crate::text::measure::{columns, cut, to_the_right};
use crate::text::style::{Paint, Style};
use crate::text::visible_line;
use crate::text::wrap::wrap;

/// Bars do not grow longer than this.
const LONGEST_BAR: usize = 60;
/// Bars do not grow shorter than this; where they would, the marker becomes a star.
const SHORTEST_BAR: usize = 8;
const MARKER: &str = "  <- best";
const SHORT_MARKER: &str = " *";
/// Parts of a column, from an eighth to seven.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// The plots of all sweeps, with an empty line between them.
pub(crate) fn sections(comparison: &Comparison, style: &Style) -> Vec<String> {
    let plots = comparison.sweeps.iter().map(|sweep| {
        let label = comparison
            .measurements
            .iter()
            .find(|own| own.setup.engine == sweep.engine && own.setup.model == sweep.model)
            .map_or(sweep.model.name(), |own| own.label.as_str());
        render(sweep, label, comparison.tasks, style).trim_end().to_owned()
    });
    let plots: Vec<String> = plots.collect();
    if plots.is_empty() { Vec::new() } else { vec![plots.join("\n\n")] }
}

/// Tasks a second for each worker count of `sweep`, whose runs had `tasks` tasks each; `label` is
/// what the model is called.
pub fn render(sweep: &Sweep, label: &str, tasks: usize, style: &Style) -> String {
    let title = format!("{}: tasks a second by number of workers", visible_line(label));
    let mut lines: Vec<String> = wrap(&title, style.prose_columns(), "", "  ")
        .iter()
        .map(|line| style.paint(&[Paint::Bold], line))
        .collect();
    lines.extend(bars(sweep, tasks, style));
    lines.extend(wrap(&verdict(sweep, tasks), style.prose_columns(), "", "  "));
    lines.join("\n") + "\n"
}

fn bars(sweep: &Sweep, tasks: usize, style: &Style) -> Vec<String> {
    let rates: Vec<Option<f64>> = sweep.curve.iter().map(|point| rate(point, tasks)).collect();
    let values: Vec<String> =
        rates.iter().map(|rate| rate.map_or("?".to_owned(), rate_text)).collect();
    let counts: Vec<String> =
        sweep.curve.iter().map(|point| quantity::count(point.workers as u64)).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| columns(text)).max().unwrap_or(0);
    let (count_width, value_width) = (widest(&counts), widest(&values));
    let most = rates.iter().flatten().copied().fold(0.0, f64::max);
    let room = style.columns().saturating_sub(2 + count_width + 2 + value_width + 2);
    let marker = if room >= SHORTEST_BAR + MARKER.len() { MARKER } else { SHORT_MARKER };
    let longest = room.saturating_sub(marker.len()).min(LONGEST_BAR);
    let lines = sweep.curve.iter().zip(&counts).zip(rates.iter().zip(&values));
    lines
        .map(|((point, count), (rate, value))| {
            let is_best = sweep.best_workers == Some(point.workers);
            let share = rate.filter(|_| most > 0.0).map_or(0.0, |rate| rate / most);
            let line = format!(
                "  {}  {}  {}{}",
                to_the_right(count, count_width),
                to_the_right(value, value_width),
                bar(share, longest, style.is_unicode),
                if is_best { marker } else { "" }
            );
            let line = cut(line.trim_end(), style.columns(), style.ellipsis());
            style.paint(if is_best { &[Paint::Bold, Paint::Green] } else { &[] }, &line)
        })
        .collect()
}

fn rate(point: &SweepPoint, tasks: usize) -> Option<f64> {
    let rate = tasks as f64 / point.time_s;
    (rate.is_finite() && rate >= 0.0).then_some(rate)
}

fn rate_text(rate: f64) -> String {
    if rate < 1000.0 { quantity::ratio(rate) } else { quantity::count(rate.round() as u64) }
}

/// A bar of `share` times `longest` columns, to an eighth of a column.
fn bar(share: f64, longest: usize, is_unicode: bool) -> String {
    let share = share.clamp(0.0, 1.0);
    if !is_unicode {
        return "#".repeat((share * longest as f64).round() as usize);
    }
    let eighths = (share * longest as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend(eighths.checked_rem(8).filter(|rest| *rest > 0).map(|rest| EIGHTHS[rest - 1]));
    bar
}

/// The best count, and whether more workers than were tried may help.
fn verdict(sweep: &Sweep, tasks: usize) -> String {
    let Some(best) = sweep.best_workers else {
        return "No best number of workers: too few times were measured.".to_owned();
    };
    let largest = sweep.curve.iter().map(|point| point.workers).max();
    let workers = counted(best as u64, "worker");
    if best == tasks {
        format!(
            "Best: {workers}, one a task; only a job of more tasks can show whether more workers \
             help."
        )
    } else if sweep.is_past_the_knee {
        format!("Best: {workers}; more than {} gain nothing.", quantity::count(best as u64))
    } else if largest == Some(best) {
        format!("Best: {workers}, still gaining at the largest count; more workers may help.")
    } else {
        format!("Best: {workers}; the counts end too early to tell whether many more would help.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ungil_compare::Model;

    fn sweep(curve: &[(usize, f64)], best: Option<usize>, is_past_the_knee: bool) -> Sweep {
        Sweep {
            engine: "stdlib".to_owned(),
            model: Model::Threads,
            curve: curve
                .iter()
                .map(|(workers, time_s)| SweepPoint { workers: *workers, time_s: *time_s })
                .collect(),
            best_workers: best,
            is_past_the_knee,
        }
    }

    #[test]
    fn bars_are_as_long_as_the_work_done() {
        let sweep = sweep(&[(1, 8.0), (2, 4.0), (4, 2.0), (8, 2.1)], Some(4), true);
        assert_eq!(
            render(&sweep, "threads", 64, &Style::plain(50)),
            "\
threads: tasks a second by number of workers
  1  8.00  ███████▌
  2  16.0  ███████████████
  4  32.0  ██████████████████████████████  <- best
  8  30.5  ████████████████████████████▋
Best: 4 workers; more than 4 gain nothing.
"
        );
        let ascii = render(&sweep, "threads", 64, &Style::ascii(50));
        assert!(ascii.is_ascii() && ascii.contains("2  16.0  ###############\n"), "{ascii}");
    }

    #[test]
    fn the_verdict_says_whether_more_may_help() {
        let curve = [(1, 8.0), (2, 4.0)];
        let text = |best, is_past, tasks| verdict(&sweep(&curve, best, is_past), tasks);
        assert!(text(Some(2), false, 64).ends_with("more workers may help."));
        assert!(text(Some(1), true, 64).ends_with("1 worker; more than 1 gain nothing."));
        assert!(text(Some(2), true, 2).contains("only a job of more tasks"));
        assert!(text(Some(1), false, 64).contains("too early"));
        assert!(text(None, false, 64).starts_with("No best"));
    }

    #[test]
    fn times_that_are_no_times_have_no_bar() {
        let curve = [(1, f64::NAN), (2, 0.0), (4, -1.0), (8, f64::INFINITY)];
        let text = render(&sweep(&curve, None, false), "threads", 64, &Style::plain(60));
        assert!(!text.contains('█'), "{text}");
        assert_eq!(text.lines().filter(|line| line.ends_with('?')).count(), 3);
        assert!(render(&sweep(&[], None, false), "", 0, &Style::plain(0)).contains("No best"));
    }

    #[test]
    fn the_narrowest_page_keeps_counts_and_values() {
        for style in [Style::plain(20), Style::ascii(20)] {
            let text = sections(&fixture::rich(), &style).join("\n");
            for line in text.lines() {
                assert!(columns(line) <= 20, "{line}");
            }
        }
    }
}
