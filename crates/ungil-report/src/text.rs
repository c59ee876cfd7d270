//! For a terminal or a plain page, fitted to its width.
//!
//! A page is a list of lines. A row of the table is never wrapped: where the page is too narrow,
//! columns leave in a fixed order, and where it is narrower still, every row becomes a record.

pub(crate) mod measure;
pub(crate) mod style;
pub(crate) mod visible;
pub(crate) mod wrap;

mod announcement;
mod headline;

mod column;
mod figure;
mod row;

mod records;
mod table;

mod advice;
mod failures;
mod footer;
mod notes;

use ungil_compare::Comparison;

use crate::plot;

pub use announcement::announcement;
pub use style::Style;
pub use visible::visible;
pub(crate) use visible::visible_line;

/// Below this many columns every row of the table becomes a record.
const TABLE_COLUMNS: usize = 56;

/// The whole comparison as text that ends with a newline.
pub fn render(comparison: &Comparison, style: &Style) -> String {
    let rows = row::rows(comparison);
    let figures = if style.columns() < TABLE_COLUMNS {
        records::render(&rows, style)
    } else {
        table::render(&rows, style)
    };
    let sections = [
        headline::render(comparison, style),
        figures.lines.clone(),
        failures::render(comparison, style),
        plot::sections(comparison, style),
        notes::render(comparison, style),
        advice::render(comparison, style),
        footer::render(comparison, &rows, &figures, style),
    ];
    let filled: Vec<String> = sections
        .into_iter()
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join("\n"))
        .collect();
    filled.join("\n\n") + "\n"
}

/// Lines of figures, and what of them needs a definition.
#[derive(Default)]
struct Figures {
    lines: Vec<String>,
    /// The columns that are shown.
    columns: Vec<column::Column>,
    /// Whether any interval is shown.
    has_intervals: bool,
    /// Whether the sign for what was not measured is shown.
    has_gaps: bool,
}

#[cfg(test)]
mod tests;
