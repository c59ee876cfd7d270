//! What is said before the function is called for the first time.

use std::time::Duration;

use ungil_advise::quantity;
use ungil_compare::plan::Announcement;

use crate::counted::counted;
use crate::text::style::Style;
use crate::text::visible_line;
use crate::text::wrap::wrap;

/// How often the function will be called at most, and what that means.
///
/// One sentence a line, wrapped to the style's width.
pub fn announcement(announcement: &Announcement, style: &Style) -> String {
    let function = visible_line(&announcement.function);
    let text = format!(
        "{function}(): {} a run; at most {} x {} x {} = {}, at most {}.\n\
         Every call is a real one: what {function}() writes, sends or deletes, it does each time.",
        counted(announcement.tasks as u64, "task"),
        counted(announcement.setups as u64, "way"),
        counted(announcement.runs as u64, "run"),
        counted(announcement.tasks as u64, "task"),
        counted(announcement.calls(), "call"),
        allowed(announcement.budget),
    );
    let sentences = text.lines().flat_map(|line| wrap(line, style.prose_columns(), "", "  "));
    sentences.collect::<Vec<String>>().join("\n")
}

/// A time that somebody chose: `60 s`, not `60.0 s`.
pub(crate) fn allowed(budget: Duration) -> String {
    if budget.subsec_nanos() == 0 && budget.as_secs() < 120 {
        format!("{} s", quantity::count(budget.as_secs()))
    } else {
        quantity::duration(budget.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resize() -> Announcement {
        Announcement {
            function: "resize".to_owned(),
            tasks: 64,
            setups: 4,
            runs: 49,
            budget: Duration::from_secs(60),
        }
    }

    #[test]
    fn calls_are_announced_with_how_they_come_about() {
        assert_eq!(
            super::announcement(&resize(), &Style::plain(100)),
            "resize(): 64 tasks a run; at most 4 ways x 49 runs x 64 tasks = 12,544 calls, at \
             most 60 s.\nEvery call is a real one: what resize() writes, sends or deletes, it \
             does each time."
        );
    }

    #[test]
    fn one_of_each_is_singular_and_names_are_harmless() {
        let announced = super::announcement(
            &Announcement {
                function: "\x1b[2J".to_owned(),
                tasks: 1,
                setups: 1,
                runs: 1,
                budget: Duration::from_millis(2500),
            },
            &Style::plain(100),
        );
        assert!(announced.starts_with(
            r"\x1b[2J(): 1 task a run; at most 1 way x 1 run x 1 task = 1 call, at most 2.50 s."
        ));
    }

    #[test]
    fn narrow_terminals_wrap_it() {
        let announced = super::announcement(&resize(), &Style::plain(40));
        assert!(announced.lines().all(|line| line.chars().count() <= 40), "{announced}");
    }

    #[test]
    fn long_times_are_in_minutes() {
        assert_eq!(allowed(Duration::from_secs(725)), "12 min 5 s");
        assert_eq!(allowed(Duration::from_secs(90)), "90 s");
    }
}
