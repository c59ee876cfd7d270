//! Text of the user, made harmless.
//!
//! Names and messages come from a program that nobody has checked. A terminal would obey the
//! control characters in them, and characters that change the direction of writing would reorder
//! what stands around them; both are written as Python writes them in `repr()`.

use std::fmt::Write;

/// `text` with control characters spelt out, line ends kept and tabs as four spaces.
///
/// What is visible already stays as it is, so applying it twice changes nothing.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' => shown.push('\n'),
            '\t' => shown.push_str("    "),
            other => push_visible(&mut shown, other),
        }
    }
    shown
}

/// The same for what must stay on one line: line ends and tabs are spelt out, too.
pub(crate) fn visible_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push_visible(&mut shown, character);
    }
    shown
}

fn push_visible(shown: &mut String, character: char) {
    let code = u32::from(character);
    let written = match character {
        '\n' => write!(shown, r"\n"),
        '\r' => write!(shown, r"\r"),
        '\t' => write!(shown, r"\t"),
        _ if character.is_control() => write!(shown, r"\x{code:02x}"),
        _ if turns_writing(character) => write!(shown, r"\u{code:04x}"),
        _ => write!(shown, "{character}"),
    };
    written.expect("a string takes everything");
}

/// Line and paragraph separators, and marks of the direction of writing.
fn turns_writing(character: char) -> bool {
    matches!(
        character,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(visible("a\x1b[31mb\x07\x7f\u{9b}c"), r"a\x1b[31mb\x07\x7f\x9bc");
        assert_eq!(visible("one\r\ntwo\tthree\r"), "one\ntwo    three\\r");
        assert_eq!(visible_line("one\r\ntwo\t"), r"one\r\ntwo\t");
        assert_eq!(visible("x\u{202e}y\u{2028}"), r"x\u202ey\u2028");
    }

    #[test]
    fn letters_of_all_languages_stay_and_so_does_what_is_visible_already() {
        for text in ["größe 漢字 e\u{301} 👩\u{200d}💻", r"C:\new\x1b"] {
            assert_eq!(visible(text), text);
            assert_eq!(visible_line(text), text);
        }
    }
}
