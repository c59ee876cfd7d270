//! How the experiment went, and what the columns mean.

use std::time::Duration;

use ungil_advise::quantity;
use ungil_compare::Comparison;
use ungil_compare::comparison::{Course, Ended};

use crate::counted::counted;
use crate::text::Figures;
use crate::text::announcement::allowed;

use crate::text::figure::NOT_MEASURED;
use crate::text::row::{DIFFERENT, RECOMMENDED, Row};
use crate::text::style::{Paint, Style};
use crate::text::wrap::wrap;

/// Calls, rounds, time and end of the experiment; the cost of pickling; a legend.
pub fn render(
    comparison: &Comparison,
    rows: &[Row<'_>],
    figures: &Figures,
    style: &Style,
) -> Vec<String> {
    let width = style.prose_columns();
    let mut lines = wrap(&course(&comparison.course), width, "", "  ");
    lines.extend(pickling(comparison).iter().flat_map(|text| wrap(text, width, "", "  ")));
    if !rows.is_empty() {
        lines.extend(wrap(&marks(rows, figures), width, "", "  "));
        lines.extend(wrap(&legend(rows, figures), width, "", "  "));
    }
    lines.iter().map(|line| style.paint(&[Paint::Dim], line)).collect()
}

fn course(course: &Course) -> String {
    let budget = Duration::try_from_secs_f64(course.budget_s).map_or("?".to_owned(), allowed);
    format!(
        "{} of at most {}; {} and {} of each model; {} of at most {budget}, ended because {}; seed \
         {}.",
        counted(course.calls_made, "call"),
        quantity::count(course.calls_announced),
        counted(course.rounds as u64, "round"),
        counted(course.fresh_starts as u64, "fresh start"),
        quantity::duration(course.elapsed_s),
        match course.ended {
            Ended::Decided => "all models were told apart or found equivalent",
            Ended::AllRounds => "all planned rounds were run",
            Ended::Budget => "no time was left for another round",
            Ended::NothingLeft => "nothing was left to compare",
            Ended::Interrupted => "it was interrupted",
        },
        course.seed,
    )
}

fn pickling(comparison: &Comparison) -> Option<String> {
    let cost = comparison.serialisation?;
    let figures = [cost.argument_bytes, cost.result_bytes, cost.seconds_per_task];
    figures.iter().all(|figure| figure.is_finite()).then(|| {
        format!(
            "Pickling, on average: a task's arguments {}, its result {}, both ways {}.",
            quantity::bytes(cost.argument_bytes),
            quantity::bytes(cost.result_bytes),
            quantity::duration(cost.seconds_per_task),
        )
    })
}

/// Everything that stands in the table, and nothing else.
fn legend(rows: &[Row<'_>], figures: &Figures) -> String {
    let mut entries = vec!["workers: tasks at once".to_owned()];
    if rows.iter().any(|row| row.measurement.setup.threads_per_worker > 1) {
        entries[0].push_str(", as processes x threads of each");
    }
    for column in &figures.columns {
        entries.push(format!("{}: {}", column.name(), column.definition()));
        for (word, meaning) in column.words() {
            let occurs = rows.iter().any(|row| {
                column.figure(row.measurement).is_some_and(|figure| figure.value == *word)
            });
            if occurs {
                entries.push(format!("{word}: {meaning}"));
            }
        }
    }
    if figures.has_intervals {
        entries.push("in brackets: 95 % intervals".to_owned());
    }
    entries.join("; ") + "."
}

/// What the marks mean, if there are any.
fn marks(rows: &[Row<'_>], figures: &Figures) -> String {
    let marks = [
        (rows.iter().any(|row| row.is_recommended), RECOMMENDED.to_string(), RECOMMENDATION),
        (rows.iter().any(Row::is_different), DIFFERENT.to_string(), DIFFERENCE),
        (figures.has_gaps, NOT_MEASURED.to_owned(), "not measured"),
    ];
    let occurring = marks.iter().filter(|(occurs, _, _)| *occurs);
    let entries: Vec<String> =
        occurring.map(|(_, mark, meaning)| format!("{mark} {meaning}")).collect();
    if entries.is_empty() { String::new() } else { entries.join("; ") + "." }
}

const RECOMMENDATION: &str = "use this one if the job runs repeatedly";
const DIFFERENCE: &str = "results differ from the serial run's";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::text::column::Column;
    use crate::text::row::rows;

    #[test]
    fn the_course_is_told_with_its_end() {
        assert_eq!(
            course(&fixture::comparison().course),
            "5,120 calls of at most 14,592; 12 rounds and 5 fresh starts of each model; 23.4 s of \
             at most 60 s, ended because all models were told apart or found equivalent; seed 42."
        );
    }

    #[test]
    fn times_that_are_not_numbers_are_unknown() {
        let mut broken = fixture::broken();
        broken.course.budget_s = f64::NEG_INFINITY;
        assert!(course(&broken.course).contains("? of at most ?"));
        assert_eq!(pickling(&broken), None);
    }

    #[test]
    fn the_legend_explains_what_is_shown_and_nothing_else() {
        let comparison = fixture::comparison();
        let rows = rows(&comparison);
        let mut shown = Figures {
            columns: vec![Column::Time, Column::Sharing],
            has_intervals: true,
            ..Figures::default()
        };
        let legend = legend(&rows, &shown);
        assert!(legend.contains("time: "));
        assert!(!legend.contains("memory: peak"));
        assert!(!legend.contains("to worker"));
        assert_eq!(marks(&rows, &shown), "* use this one if the job runs repeatedly.");
        assert_eq!(marks(&rows[..1], &shown), "");
        assert!(legend.ends_with("; in brackets: 95 % intervals."));
        (shown.has_gaps, shown.has_intervals) = (true, false);
        assert!(marks(&rows, &shown).ends_with("; - not measured."));
        assert!(!super::legend(&rows, &shown).contains("intervals"));
    }
}
