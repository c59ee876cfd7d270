//! Prose in lines that fit.

use crate::text::measure::{beginning, columns};
use crate::text::visible::visible;

/// Breaks `text` between words into lines of at most `width` columns.
///
/// The first line begins with `first`, all others with `hanging`. Line ends in `text` stay, with
/// the spaces that a line begins with; a word wider than a line is broken where the line ends.
pub fn wrap(text: &str, width: usize, first: &str, hanging: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for source in visible(text).lines().filter(|line| !line.trim().is_empty()) {
        let indent = if lines.is_empty() { first } else { hanging };
        let own = source.len() - source.trim_start_matches(' ').len();
        let own = if lines.is_empty() { 0 } else { own.min(width / 4) };
        let own = " ".repeat(own);
        wrap_line(source, width, &format!("{indent}{own}"), &format!("{hanging}{own}"), &mut lines);
    }
    lines
}

fn wrap_line(source: &str, width: usize, first: &str, hanging: &str, lines: &mut Vec<String>) {
    let mut line = first.to_owned();
    let mut is_fresh = true;
    for word in source.split_whitespace() {
        let gap = usize::from(!is_fresh);
        if !is_fresh && columns(&line) + gap + columns(word) > width {
            lines.push(std::mem::replace(&mut line, hanging.to_owned()));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        let mut rest = word;
        // Measured once and counted down: a word may have megabytes.
        let mut rest_columns = columns(rest);
        while columns(&line) + rest_columns > width {
            let (head, tail) = rest.split_at(fitting(rest, width, columns(&line)));
            rest_columns = rest_columns.saturating_sub(columns(head));
            lines.push(std::mem::replace(&mut line, hanging.to_owned()) + head);
            rest = tail;
        }
        line.push_str(rest);
        is_fresh = rest.is_empty();
    }
    if !is_fresh {
        lines.push(line);
    }
}

/// Bytes of `word` that fit behind `taken` columns; never none, or there would be no end.
fn fitting(word: &str, width: usize, taken: usize) -> usize {
    match beginning(word, width.saturating_sub(taken)).len() {
        0 => word.chars().next().map_or(0, char::len_utf8),
        bytes => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_hang() {
        assert_eq!(
            wrap("threads: one two three four", 16, "", "    "),
            ["threads: one two", "    three four"]
        );
        assert_eq!(wrap("a b", 20, "- ", "  "), ["- a b"]);
        assert!(wrap(" \n ", 20, "", "").is_empty());
    }

    #[test]
    fn words_wider_than_a_line_are_broken() {
        assert_eq!(wrap("abcdefgh", 5, "", "  "), ["abcde", "  fgh"]);
        assert_eq!(wrap("漢字漢字", 5, "", ""), ["漢字", "漢字"]);
        assert_eq!(wrap("漢字", 1, "", ""), ["漢", "字"]);
    }

    #[test]
    fn line_ends_and_indents_of_a_traceback_stay() {
        assert_eq!(
            wrap("Traceback:\n  File \"a.py\"\n    x = 1\n\nKeyError", 40, "  ", "  "),
            ["  Traceback:", "    File \"a.py\"", "      x = 1", "  KeyError"]
        );
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(wrap("a\x1b[2Jb", 20, "", ""), [r"a\x1b[2Jb"]);
    }
}
