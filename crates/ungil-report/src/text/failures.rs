//! What went wrong, in full.

use ungil_compare::Comparison;

use crate::naming::Naming;
use crate::text::style::{Paint, Style};
use crate::text::wrap::wrap;

/// Lines of a traceback at most; the last ones say most.
const DETAIL_LINES: usize = 20;

/// Every failure once, after the names of all that failed with it.
pub fn render(comparison: &Comparison, style: &Style) -> Vec<String> {
    let width = style.prose_columns();
    let mut lines = Vec::new();
    for Group { names, message, detail } in groups(comparison) {
        let lead = format!("{}:", listed(&names));
        let message = wrap(&format!("{lead} {message}"), width, "", "  ");
        lines.extend(message.iter().map(|line| style.paint(&[Paint::Red], line)));
        if let Some(detail) = detail {
            let detail = wrap(&last_lines(detail), width, "    ", "    ");
            lines.extend(detail.iter().map(|line| style.paint(&[Paint::Dim], line)));
        }
    }
    lines
}

struct Group<'a> {
    names: Vec<String>,
    message: &'a str,
    detail: Option<&'a str>,
}

fn groups(comparison: &Comparison) -> Vec<Group<'_>> {
    let naming = Naming::of(comparison);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for measurement in &comparison.measurements {
        let Some(failure) = &measurement.failure else { continue };
        let name = naming.name(measurement);
        match groups.iter_mut().find(|group| group.message == failure.message) {
            Some(group) => group.names.push(name),
            None => groups.push(Group {
                names: vec![name],
                message: &failure.message,
                detail: failure.detail.as_deref(),
            }),
        }
    }
    groups
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

fn last_lines(detail: &str) -> String {
    let lines: Vec<&str> = detail.lines().collect();
    lines[lines.len().saturating_sub(DETAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use ungil_compare::{Failure, FailureKind};

    #[test]
    fn the_same_failure_is_told_once() {
        let mut comparison = fixture::comparison();
        for measurement in &mut comparison.measurements {
            measurement.failure = Some(Failure::new(FailureKind::Raised, "it raised KeyError: 3"));
        }
        assert_eq!(
            render(&comparison, &Style::plain(100)),
            ["serial, threads, processes and processes-threads: it raised KeyError: 3"]
        );
    }

    #[test]
    fn a_traceback_is_indented_below_its_message() {
        let mut comparison = fixture::comparison();
        comparison.measurements[1].failure = Some(Failure {
            kind: FailureKind::Raised,
            message: "it raised KeyError: 3".to_owned(),
            detail: Some("Traceback (most recent call last):\n  File \"a.py\", line 1".to_owned()),
        });
        assert_eq!(
            render(&comparison, &Style::plain(24)),
            [
                "threads: it raised",
                "  KeyError: 3",
                "    Traceback (most",
                "    recent call last):",
                "      File \"a.py\", line",
                "      1"
            ]
        );
        assert_eq!(last_lines(&"x\n".repeat(50)).lines().count(), DETAIL_LINES);
    }
}
