//! Width, colours and characters of what is written to.

use std::env;
use std::io::{self, IsTerminal};

use ungil_report::text::Style;

/// Columns where nothing says how wide the reader's page is.
const PIPE_COLUMNS: usize = 132;

/// The style for standard output.
pub fn style() -> Style {
    let is_terminal = io::stdout().is_terminal();
    Style {
        width: columns(is_terminal),
        is_colored: is_terminal && allows_color(|name| env::var(name).ok()),
        is_unicode: allows_unicode(|name| env::var(name).ok()),
    }
}

fn columns(is_terminal: bool) -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured =
        || is_terminal.then(terminal_size::terminal_size)?.map(|(width, _)| usize::from(width.0));
    asked.or_else(measured).filter(|columns| *columns > 0).unwrap_or(PIPE_COLUMNS)
}

/// See <https://no-color.org>: set to anything but nothing, it means no colours.
fn allows_color(variable: impl Fn(&str) -> Option<String>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// The first of these that is set decides, as in the C library.
fn allows_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        .is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn no_color_and_dumb_terminals_are_respected() {
        assert!(allows_color(environment(&[("TERM", "xterm")])));
        assert!(allows_color(environment(&[("TERM", "xterm"), ("NO_COLOR", "")])));
        assert!(!allows_color(environment(&[("TERM", "xterm"), ("NO_COLOR", "1")])));
        assert!(!allows_color(environment(&[("TERM", "dumb")])));
        assert!(!allows_color(environment(&[])));
    }

    #[test]
    fn the_locale_decides_about_characters() {
        assert!(allows_unicode(environment(&[("LANG", "en_GB.UTF-8")])));
        assert!(!allows_unicode(environment(&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")])));
        assert!(!allows_unicode(environment(&[])));
    }
}
