//! How many columns text takes on a terminal, and how to make it take a given number.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Columns that `text` takes: two for each wide character, none for accents that combine.
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The longest beginning of `text` that fits into `limit` columns and splits no character from
/// its accents.
pub fn beginning(text: &str, limit: usize) -> &str {
    let mut end = 0;
    let mut taken = 0;
    for cluster in clusters(text) {
        taken += columns(cluster);
        if taken > limit {
            break;
        }
        end += cluster.len();
    }
    &text[..end]
}

/// A character, what combines with it, and what a joiner ties to it.
fn clusters(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut is_tied = true;
        let end = rest
            .char_indices()
            .find(|(_, character)| {
                let begins = character.width().unwrap_or(0) > 0 && !is_tied;
                is_tied = *character == ZERO_WIDTH_JOINER;
                begins
            })
            .map_or(rest.len(), |(at, _)| at);
        let (cluster, others) = rest.split_at(end);
        rest = others;
        (!cluster.is_empty()).then_some(cluster)
    })
}

/// `text`, or its beginning and `ellipsis` if it takes more than `limit` columns.
pub fn cut(text: &str, limit: usize, ellipsis: &str) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(columns(ellipsis));
    let kept = beginning(text, room).trim_end();
    format!("{kept}{}", beginning(ellipsis, limit - columns(kept)))
}

/// `text` followed by spaces up to `width` columns.
pub fn to_the_left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// `text` after spaces up to `width` columns.
pub fn to_the_right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_combining_characters_are_measured_as_they_are_shown() {
        assert_eq!(columns("abc"), 3);
        assert_eq!(columns("漢字"), 4);
        assert_eq!(columns("e\u{301}"), 1);
    }

    #[test]
    fn a_beginning_splits_no_character() {
        assert_eq!(beginning("漢字", 3), "漢");
        assert_eq!(beginning("e\u{301}a", 1), "e\u{301}");
        assert_eq!(beginning("👩\u{200d}💻x", 1), "");
        assert_eq!(beginning("👩\u{200d}💻x", 2), "👩\u{200d}💻");
        assert_eq!(beginning("\u{301}abc", 2), "\u{301}ab");
        assert_eq!(beginning("", 5), "");
        assert_eq!(clusters("ab漢").collect::<Vec<_>>(), ["a", "b", "漢"]);
    }

    #[test]
    fn what_is_cut_ends_with_an_ellipsis_and_fits() {
        assert_eq!(cut("resize", 6, "…"), "resize");
        assert_eq!(cut("resize it", 7, "…"), "resize…");
        assert_eq!(cut("漢字漢字", 6, "..."), "漢...");
        assert_eq!(cut("resize", 2, "..."), "..");
        assert_eq!(cut("resize", 0, "…"), "");
    }

    #[test]
    fn padding_goes_to_either_side() {
        assert_eq!(to_the_left("漢", 4), "漢  ");
        assert_eq!(to_the_right("1.5", 5), "  1.5");
        assert_eq!(to_the_right("12345", 3), "12345");
    }
}
