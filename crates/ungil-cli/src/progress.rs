//! What is seen while a comparison runs: a bar on a terminal, nothing in a pipe.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ungil_advise::quantity;
use ungil_compare::experiment::{Observer, Stage};
use ungil_compare::plan::Announcement;
use ungil_report::text::{self, Style};

const STEPS: u64 = 1000;

/// Announces the calls, shows a bar, and asks whether to go on.
pub struct Progress<'a> {
    bar: ProgressBar,
    style: Style,
    is_interrupted: &'a mut dyn FnMut() -> bool,
}

impl<'a> Progress<'a> {
    /// A bar on standard error, hidden unless that is a terminal.
    pub fn new(budget_s: f64, style: Style, is_interrupted: &'a mut dyn FnMut() -> bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
        let template = format!(
            "{{bar:24}} {{elapsed}} of at most {}  {{wide_msg}}",
            quantity::duration(budget_s)
        );
        if let Ok(bar_style) = ProgressStyle::with_template(&template) {
            bar.set_style(bar_style.progress_chars(if style.is_unicode {
                "━╸ "
            } else {
                "=> "
            }));
        }
        Progress { bar, style, is_interrupted }
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress<'_> {
    fn announce(&mut self, announcement: &Announcement) {
        let text = text::announcement(announcement, &self.style);
        self.bar.suspend(|| {
            // Nobody may be reading standard error, and then nobody misses it.
            let _ = writeln!(io::stderr(), "{}", text.trim_end());
        });
    }

    fn stage(&mut self, stage: Stage, progress: f64) {
        self.bar.set_position((progress * STEPS as f64) as u64);
        self.bar.set_message(match stage {
            Stage::Loading => "importing".to_owned(),
            Stage::WarmUp(label) => format!("warming up {label}"),
            Stage::Round(round) => format!("round {round}"),
            Stage::FreshStart(start) => format!("fresh start {start}"),
        });
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn is_interrupted(&mut self) -> bool {
        (self.is_interrupted)()
    }
}
