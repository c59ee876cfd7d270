//! How wide, how coloured and with which characters a page is written.

/// Narrower pages are written as if they were this wide.
const NARROWEST: usize = 20;
/// Lines of prose do not grow wider than this: longer ones are hard to read.
const PROSE: usize = 100;

/// How wide, how coloured and with which characters a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of the page; less than 20 count as 20.
    pub width: usize,
    /// Whether colours and weights are written, as ANSI escape sequences.
    pub is_colored: bool,
    /// Whether bars, rules and dots may be characters beyond ASCII. Names and messages of the
    /// user keep theirs in any case.
    pub is_unicode: bool,
}

/// One attribute of a terminal's characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Heavy: headings and advice.
    Bold,
    /// Faint: rules, legends, what may be skipped.
    Dim,
    /// What is recommended.
    Green,
    /// What failed.
    Red,
    /// What needs attention.
    Yellow,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Green => "32",
            Paint::Yellow => "33",
        }
    }
}

impl Style {
    /// No colours, Unicode characters.
    pub fn plain(width: usize) -> Style {
        Style { width, is_colored: false, is_unicode: true }
    }

    /// No colours, ASCII characters.
    pub fn ascii(width: usize) -> Style {
        Style { width, is_colored: false, is_unicode: false }
    }

    /// Colours and Unicode characters.
    pub fn colored(width: usize) -> Style {
        Style { width, is_colored: true, is_unicode: true }
    }

    /// Columns that may be written.
    pub(crate) fn columns(&self) -> usize {
        self.width.max(NARROWEST)
    }

    /// Columns that prose may take.
    pub(crate) fn prose_columns(&self) -> usize {
        self.columns().min(PROSE)
    }

    /// `text` in these colours and weights, or as it is.
    pub(crate) fn paint(&self, paints: &[Paint], text: &str) -> String {
        if !self.is_colored || paints.is_empty() || text.is_empty() {
            return text.to_owned();
        }
        let codes: Vec<&str> = paints.iter().map(|paint| paint.code()).collect();
        format!("\x1b[{}m{text}\x1b[0m", codes.join(";"))
    }

    /// What stands for text that was cut off.
    pub(crate) fn ellipsis(&self) -> &'static str {
        if self.is_unicode { "…" } else { "..." }
    }

    /// A thin horizontal rule.
    pub(crate) fn rule(&self, columns: usize) -> String {
        let dash = if self.is_unicode { "─" } else { "-" };
        self.paint(&[Paint::Dim], &dash.repeat(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paint_is_written_only_where_colours_are_wanted() {
        assert_eq!(Style::plain(80).paint(&[Paint::Bold], "x"), "x");
        let colored = Style::colored(80);
        assert_eq!(colored.paint(&[Paint::Bold, Paint::Green], "x"), "\x1b[1;32mx\x1b[0m");
        assert_eq!(colored.paint(&[], "x"), "x");
        assert_eq!(colored.paint(&[Paint::Red], ""), "");
    }
}
