//! Everything that was found, for programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ungil_compare::Comparison;

use crate::finite::finite;

/// Name and version of the format; the version rises when a reader would have to change.
pub const SCHEMA: &str = "ungil.compare/1";

/// What `ungil compare --json` writes.
///
/// Units are the last word of a name: `_s` seconds, `_bytes` bytes; anything without one is a
/// count or a ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "ungil compare")]
pub struct Document {
    /// Name and version of this format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The version of ungil that wrote the document.
    pub ungil: String,
    /// One comparison for each function.
    pub comparisons: Vec<Comparison>,
}

impl Document {
    /// The document of some comparisons; figures that are not finite count as not measured.
    pub fn of(comparisons: &[Comparison]) -> Document {
        Document {
            schema: SCHEMA.to_owned(),
            ungil: env!("CARGO_PKG_VERSION").to_owned(),
            comparisons: comparisons.iter().map(finite).collect(),
        }
    }
}

/// The document as indented JSON that ends with a newline.
pub fn render(comparisons: &[Comparison]) -> String {
    pretty(&Document::of(comparisons))
}

/// The JSON Schema of [`Document`], kept in `docs/compare.schema.json`.
pub fn schema() -> String {
    pretty(&schemars::schema_for!(Document))
}

fn pretty(value: &impl Serialize) -> String {
    let mut text =
        serde_json::to_string_pretty(value).expect("plain data with string keys is always JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::{fs, path::Path};

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        let comparisons = [fixture::rich(), fixture::comparison(), fixture::nothing()];
        let text = render(&comparisons);
        assert!(text.ends_with("}\n"));
        let document: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(document.schema, SCHEMA);
        assert_eq!(document.comparisons, comparisons);
    }

    #[test]
    fn figures_that_are_not_finite_leave_a_document_that_can_be_read() {
        let text = render(&[fixture::broken()]);
        let document: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(document.comparisons, [finite(&fixture::broken())]);
    }

    #[test]
    fn no_comparisons_are_an_empty_list() {
        let document: Document = serde_json::from_str(&render(&[])).unwrap();
        assert!(document.comparisons.is_empty());
    }

    #[test]
    fn the_schema_in_the_documentation_is_the_current_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compare.schema.json");
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == schema(),
            "docs/compare.schema.json is out of date; write it again with\n    cargo run -p \
             ungil-report --example schema > docs/compare.schema.json"
        );
    }
}
