//! The two sentences that a comparison ends in.

use ungil_advise::reason::Advice;
use ungil_compare::Comparison;
use ungil_compare::comparison::Ended;

use crate::text::style::{Paint, Style};
use crate::text::wrap::wrap;

/// Which model fits if the job runs once, and which if it runs repeatedly.
pub fn render(comparison: &Comparison, style: &Style) -> Vec<String> {
    let once = said(&comparison.once).unwrap_or_else(|| without_once(comparison));
    let repeated = said(&comparison.repeated).unwrap_or_else(|| without_repeated(comparison));
    let mut lines = paragraph(&once, style);
    lines.extend(paragraph(&repeated, style));
    lines
}

fn said(advice: &Option<Advice>) -> Option<String> {
    advice.as_ref().map(|advice| advice.sentence.clone())
}

fn without_once(comparison: &Comparison) -> String {
    let reason = match comparison.course.ended {
        Ended::Interrupted => "the comparison was interrupted",
        _ if !has_finished(comparison) => "no model finished",
        _ => "no time was left in the budget",
    };
    format!("This job once: not measured; {reason}.")
}

fn without_repeated(comparison: &Comparison) -> String {
    let reason = match comparison.course.ended {
        Ended::Interrupted => "not measured; the comparison was interrupted",
        _ if !has_finished(comparison) => "no model finished",
        _ => "not measured; no time was left in the budget",
    };
    format!("Repeated: {reason}.")
}

fn has_finished(comparison: &Comparison) -> bool {
    comparison.measurements.iter().any(|measurement| measurement.failure.is_none())
}

/// The words up to the first colon are heavy.
fn paragraph(sentence: &str, style: &Style) -> Vec<String> {
    let mut lines = wrap(sentence, style.prose_columns(), "", "  ");
    if let Some(first) = lines.first_mut()
        && let Some((lead, rest)) = first.split_once(':')
    {
        *first = format!("{}{rest}", style.paint(&[Paint::Bold], &format!("{lead}:")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_was_not_measured_is_said() {
        let mut comparison = fixture::comparison();
        comparison.once = None;
        let lines = |comparison: &Comparison| render(comparison, &Style::plain(100));
        assert_eq!(
            lines(&comparison)[0],
            "This job once: not measured; no time was left in the budget."
        );
        assert_eq!(
            lines(&fixture::nothing()),
            ["This job once: not measured; no model finished.", "Repeated: no model finished."]
        );
        comparison.repeated = None;
        comparison.course.ended = Ended::Interrupted;
        assert_eq!(
            lines(&comparison)[1],
            "Repeated: not measured; the comparison was interrupted."
        );
    }

    #[test]
    fn leads_are_heavy() {
        let lines = render(&fixture::comparison(), &Style::colored(100));
        assert!(lines[0].starts_with("\x1b[1mThis job once:\x1b[0m processes"), "{lines:?}");
    }
}
