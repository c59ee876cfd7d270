//! Prints the JSON Schema of `ungil compare --json`.
//!
//! ```text
//! cargo run -p ungil-report --example schema > docs/compare.schema.json
//! ```

fn main() {
    print!("{}", ungil_report::json::schema());
}
