//! The same figures on a page that is too narrow for a table: one block a measurement.

use crate::naming::workers;
use crate::text::Figures;
use crate::text::column::Column;
use crate::text::figure::Figure;
use crate::text::measure::{cut, to_the_left};
use crate::text::row::Row;
use crate::text::style::{Paint, Style};
use crate::text::visible_line;
use crate::text::wrap::wrap;

/// Columns of the longest name, its colon and a space.
const NAME_COLUMNS: usize = 15;
/// Below this many columns values stand right behind their names.
const ALIGNED_COLUMNS: usize = 40;

/// Every measurement as a block of names and values.
pub fn render(rows: &[Row<'_>], style: &Style) -> Figures {
    let columns: Vec<Column> = Column::ALL
        .into_iter()
        .filter(|column| {
            rows.iter().any(|row| {
                row.measurement.failure.is_none() && column.figure(row.measurement).is_some()
            })
        })
        .collect();
    let blocks: Vec<String> =
        rows.iter().map(|row| block(row, &columns, style).join("\n")).collect();
    let lines = if blocks.is_empty() { Vec::new() } else { vec![blocks.join("\n\n")] };
    let has_intervals = rows.iter().filter(|row| row.measurement.failure.is_none()).any(|row| {
        let mut figures = columns.iter().filter_map(|column| column.figure(row.measurement));
        figures.any(|figure| !figure.interval.is_empty())
    });
    Figures { lines, columns, has_intervals, has_gaps: false }
}

fn block(row: &Row<'_>, columns: &[Column], style: &Style) -> Vec<String> {
    let marks = format!("{} ", to_the_left(&row.marks(), 1));
    let title_paints: &[Paint] = match (row.is_recommended, row.is_different()) {
        (_, true) => &[Paint::Bold, Paint::Yellow],
        (true, false) => &[Paint::Bold, Paint::Green],
        (false, false) => &[Paint::Bold],
    };
    let title = visible_line(&row.measurement.label);
    let mut lines: Vec<String> = wrap(&title, style.columns(), &marks, "    ")
        .iter()
        .map(|line| style.paint(title_paints, line))
        .collect();
    lines.extend(entry("workers", &workers(&row.measurement.setup), style));
    if let Some(failure) = &row.measurement.failure {
        let words: Vec<&str> = failure.message.split_whitespace().collect();
        let message = visible_line(&format!("  failed: {}", words.join(" ")));
        let message = cut(&message, style.columns(), style.ellipsis());
        lines.push(style.paint(&[Paint::Red], &message));
        return lines;
    }
    for column in columns {
        if let Some(Figure { value, interval }) = column.figure(row.measurement) {
            lines.extend(entry(&column.name(), &format!("{value} {interval}"), style));
        }
    }
    lines
}

fn entry(name: &str, value: &str, style: &Style) -> Vec<String> {
    let name = format!("  {name}: ");
    let first =
        if style.columns() < ALIGNED_COLUMNS { name } else { to_the_left(&name, 2 + NAME_COLUMNS) };
    wrap(value, style.columns(), &first, "    ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::text::row::rows;

    #[test]
    fn names_and_values_stand_below_each_other() {
        let comparison = fixture::comparison();
        let text = render(&rows(&comparison), &Style::plain(50)).lines.join("\n");
        let expected = "\
* processes
  workers:       2
  time:          78.1 ms [77.2..79.0]
  x serial:      1.94x [1.90..1.97]
  CPU cores:     1.97
  memory:        58.1 MB
  start-up:      38.2 ms
  per worker:    1.45 ms
  caller delay:  412 us
  shares memory: no";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_very_narrow_page_wraps_values() {
        let comparison = fixture::comparison();
        let text = render(&rows(&comparison), &Style::plain(20)).lines.join("\n");
        assert!(text.contains("  time: 78.1 ms\n    [77.2..79.0]"), "{text}");
    }
}
