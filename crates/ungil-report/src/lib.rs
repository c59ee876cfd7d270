//! What a comparison found, for people and for programs: one renderer a file.
//!
//! Every renderer is a pure function from [`ungil_compare::Comparison`] to text. None measures,
//! decides or prints. Names and messages come from the user's program and are shown with their
//! control characters made visible ([`text::visible`]).
//!
//! - [`text`]: for a terminal or a plain page, fitted to its width; [`plot`]: its bars.
//! - [`log`]: who ran which task when.
//! - [`json`]: everything, for programs, with its schema.

pub mod json;
pub mod log;
pub mod plot;
pub mod text;

mod counted;
mod finite;
mod naming;

#[cfg(test)]
mod fixture;
