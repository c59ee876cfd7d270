//! The table: one row a measurement, numbers to the right, a thin rule below the heading.

use crate::naming::workers;
use crate::text::Figures;
use crate::text::column::Column;
use crate::text::figure::NOT_MEASURED;
use crate::text::measure::{beginning, columns, cut, to_the_left, to_the_right};
use crate::text::row::Row;
use crate::text::style::{Paint, Style};
use crate::text::visible_line;

/// Spaces between columns.
const GAP: usize = 2;
/// Names are cut here before any column of figures leaves.
const NAME_COLUMNS: usize = 28;
/// Names are never cut below this.
const SHORTEST_NAME: usize = 8;

/// What leaves a page that is too narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sacrifice {
    Column(Column),
    Interval(Column),
}

/// In this order.
const SACRIFICES: [Sacrifice; 8] = [
    Sacrifice::Column(Column::PerWorker),
    Sacrifice::Interval(Column::Time),
    Sacrifice::Column(Column::Sharing),
    Sacrifice::Column(Column::CallerDelay),
    Sacrifice::Column(Column::StartUp),
    Sacrifice::Interval(Column::TimesFaster),
    Sacrifice::Column(Column::Memory),
    Sacrifice::Column(Column::CpuCores),
];

/// One column of figures as it is written.
struct Written {
    column: Column,
    heading: [String; 2],
    cells: Vec<String>,
    width: usize,
    has_intervals: bool,
    has_gaps: bool,
}

/// The table, without the columns for which the page is too narrow.
pub fn render(rows: &[Row<'_>], style: &Style) -> Figures {
    if rows.is_empty() {
        return Figures::default();
    }
    let lead = Lead::new(rows);
    let (written, name_width) = fit(rows, &lead, style.columns());
    let lead = Lead { name_width, ..lead };
    let table_width = written.iter().fold(lead.width(), |width, column| width + GAP + column.width);
    let mut lines: Vec<String> = (0..2)
        .map(|line| {
            let headings = written.iter().map(|column| column.heading[line].as_str());
            join(&lead.heading(line), headings)
        })
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.push(String::new());
    let rule_at = lines.len() - 1;
    let message_width = table_width.max(style.prose_columns());
    for (at, row) in rows.iter().enumerate() {
        let start = lead.cells(row, style);
        lines.push(match &row.measurement.failure {
            Some(failure) => {
                let words: Vec<&str> = failure.message.split_whitespace().collect();
                let room = message_width.saturating_sub(columns(&start) + GAP);
                let message = cut(&visible_line(&words.join(" ")), room, style.ellipsis());
                format!("{start}  {}", style.paint(&[Paint::Red], &message))
            }
            None => {
                let cells = written.iter().map(|column| column.cells[at].as_str());
                let line = join(&start, cells);
                let line = beginning(&line, style.columns());
                style.paint(paints(row), line)
            }
        });
    }
    lines[rule_at] = style.rule(table_width.min(style.columns()));
    Figures {
        lines,
        columns: written.iter().map(|column| column.column).collect(),
        has_intervals: written.iter().any(|column| column.has_intervals),
        has_gaps: written.iter().any(|column| column.has_gaps),
    }
}

fn paints(row: &Row<'_>) -> &'static [Paint] {
    match (row.is_recommended, row.is_different()) {
        (_, true) => &[Paint::Yellow],
        (true, false) => &[Paint::Bold, Paint::Green],
        (false, false) => &[],
    }
}

fn join<'a>(start: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let line = cells.fold(start.to_owned(), |line, cell| line + "  " + cell);
    line.trim_end().to_owned()
}

/// Marks, model and number of workers.
struct Lead {
    marks_width: usize,
    name_width: usize,
    workers_width: usize,
}

impl Lead {
    const NAME: &'static str = "model";
    const WORKERS: &'static str = "workers";

    fn new(rows: &[Row<'_>]) -> Lead {
        let widest = |heading: &str, width: &dyn Fn(&Row<'_>) -> usize| {
            rows.iter().map(width).max().unwrap_or(0).max(columns(heading))
        };
        Lead {
            marks_width: widest("*", &|row| row.marks().len()),
            name_width: widest(Lead::NAME, &|row| columns(&name(row))).min(NAME_COLUMNS),
            workers_width: widest(Lead::WORKERS, &|row| workers(&row.measurement.setup).len()),
        }
    }

    fn width(&self) -> usize {
        self.marks_width + 1 + self.name_width + GAP + self.workers_width
    }

    fn heading(&self, line: usize) -> String {
        let (name, workers) = if line == 1 { (Lead::NAME, Lead::WORKERS) } else { ("", "") };
        self.join("", name, workers)
    }

    fn cells(&self, row: &Row<'_>, style: &Style) -> String {
        let name = cut(&name(row), self.name_width, style.ellipsis());
        self.join(&row.marks(), &name, &workers(&row.measurement.setup))
    }

    fn join(&self, marks: &str, name: &str, workers: &str) -> String {
        format!(
            "{} {}  {}",
            to_the_left(marks, self.marks_width),
            to_the_left(name, self.name_width),
            to_the_right(workers, self.workers_width)
        )
    }
}

fn name(row: &Row<'_>) -> String {
    visible_line(&row.measurement.label)
}

/// The columns that fit into the page, and what is left for names.
fn fit(rows: &[Row<'_>], lead: &Lead, page: usize) -> (Vec<Written>, usize) {
    let mut sacrifices = SACRIFICES.iter();
    let mut shown: Vec<Column> =
        Column::ALL.into_iter().filter(|column| has_figures(rows, *column)).collect();
    let mut bare: Vec<Column> = Vec::new();
    loop {
        let written: Vec<Written> =
            shown.iter().map(|column| write(rows, *column, bare.contains(column))).collect();
        let width = written.iter().fold(lead.width(), |width, column| width + GAP + column.width);
        if width <= page {
            return (written, lead.name_width);
        }
        match sacrifices.next() {
            Some(Sacrifice::Column(column)) => shown.retain(|other| other != column),
            Some(Sacrifice::Interval(column)) => bare.push(*column),
            None => {
                let name_width = lead.name_width.saturating_sub(width - page);
                return (written, name_width.max(SHORTEST_NAME));
            }
        }
    }
}

/// A column in which nothing was measured says nothing; only the time is missed.
fn has_figures(rows: &[Row<'_>], column: Column) -> bool {
    rows.iter()
        .filter(|row| row.measurement.failure.is_none())
        .any(|row| column == Column::Time || column.figure(row.measurement).is_some())
}

/// Values end in one column and intervals begin in one.
fn write(rows: &[Row<'_>], column: Column, is_bare: bool) -> Written {
    let figures: Vec<(String, String)> = rows
        .iter()
        .map(|row| match column.figure(row.measurement) {
            _ if row.measurement.failure.is_some() => (String::new(), String::new()),
            None => (NOT_MEASURED.to_owned(), String::new()),
            Some(figure) if is_bare => (figure.value, String::new()),
            Some(figure) => (figure.value, figure.interval),
        })
        .collect();
    let value_width = figures.iter().map(|(value, _)| columns(value)).max().unwrap_or(0);
    let interval_width = figures.iter().map(|(_, interval)| columns(interval)).max().unwrap_or(0);
    let cells_width = value_width + if interval_width > 0 { 1 + interval_width } else { 0 };
    let heading = column.heading();
    let width = heading.map(columns).into_iter().fold(cells_width, usize::max);
    // A heading stands over the values, which end at the right unless intervals follow.
    let align = |text: &str| match interval_width {
        0 => to_the_right(text, width),
        _ => to_the_left(&to_the_right(text, value_width), width),
    };
    let cells = figures
        .iter()
        .map(|(value, interval)| {
            let value = to_the_right(value, value_width);
            match interval_width {
                0 => to_the_right(&value, width),
                _ => to_the_left(&format!("{value} {interval}"), width),
            }
        })
        .collect();
    Written {
        column,
        heading: heading.map(align),
        cells,
        width,
        has_intervals: interval_width > 0,
        has_gaps: figures.iter().any(|(value, _)| value == NOT_MEASURED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::text::row::rows;

    #[test]
    fn columns_leave_in_their_order() {
        let comparison = fixture::comparison();
        let rows = rows(&comparison);
        let shown = |width| render(&rows, &Style::plain(width)).columns;
        assert_eq!(shown(130), Column::ALL);
        assert!(!shown(100).contains(&Column::PerWorker));
        assert!(shown(100).contains(&Column::CallerDelay));
        assert_eq!(shown(56)[..2], [Column::Time, Column::TimesFaster]);
        let mut before = Column::ALL.len();
        for width in (56..140).rev() {
            let now = shown(width).len();
            assert!(now <= before);
            before = now;
        }
    }

    #[test]
    fn a_column_without_any_figure_is_left_out() {
        let mut comparison = fixture::comparison();
        for measurement in &mut comparison.measurements {
            measurement.caller_delay = None;
            measurement.time_s = None;
        }
        let shown = render(&rows(&comparison), &Style::plain(130)).columns;
        assert!(!shown.contains(&Column::CallerDelay) && shown.contains(&Column::Time));
    }

    #[test]
    fn no_rows_are_no_table() {
        assert!(render(&[], &Style::plain(80)).lines.is_empty());
    }

    #[test]
    fn colours_change_no_columns() {
        let comparison = fixture::rich();
        let rows = rows(&comparison);
        let plain = render(&rows, &Style::plain(100)).lines;
        let colored = render(&rows, &Style::colored(100)).lines;
        let stripped: Vec<String> =
            colored.iter().map(|line| fixture::without_paint(line)).collect();
        assert_ne!(plain, colored);
        assert_eq!(plain, stripped);
    }
}
