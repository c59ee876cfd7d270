//! What the reader should know before using the figures.

use ungil_compare::Comparison;
use ungil_compare::comparison::NoteKind;

use crate::text::style::{Paint, Style};
use crate::text::wrap::wrap;

/// Every note, with a dash before it.
pub fn render(comparison: &Comparison, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    for note in &comparison.notes {
        let paints: &[Paint] = match note.kind {
            NoteKind::ResultsDiffer | NoteKind::ResultsVary => &[Paint::Yellow],
            _ => &[],
        };
        let note = wrap(&note.message, style.prose_columns(), "- ", "  ");
        lines.extend(note.iter().map(|line| style.paint(paints, line)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ungil_compare::comparison::Note;

    #[test]
    fn notes_hang_behind_their_dash() {
        let mut comparison = fixture::comparison();
        let note = |kind, message: &str| Note { kind, message: message.to_owned() };
        comparison.notes = vec![
            note(NoteKind::ResultsDiffer, "threads: 3 of 64 differ"),
            note(NoteKind::Printed, "resize() printed"),
        ];
        assert_eq!(
            render(&comparison, &Style::plain(20)),
            ["- threads: 3 of 64", "  differ", "- resize() printed"]
        );
        assert!(render(&comparison, &Style::colored(20))[0].starts_with("\x1b[33m- threads"));
    }
}
