//! What measurements mean: statistics as pure functions over plain data.
//!
//! The crate reads no files and no clocks, and starts nothing. Callers hand it times in seconds
//! and get back plain values: an [`Estimate`] with its interval, a [`Ranking`] with its
//! [`Verdict`], the [`Looks`] at which an experiment may stop. Everything is deterministic: where
//! a resampling method needs random numbers, its seed depends on the number of samples only, so
//! the same measurements always give the same sentence.
//!
//! A comparison of models goes through the modules in this order. Times of one round are paired
//! and become ratios ([`paired_ratio`]); the ratios of every model to the best one become
//! relations and a verdict ([`rank`]); [`Looks`] says after which rounds, and with which error
//! rate, one may ask.

mod quantile;

mod interval;

mod bootstrap;
mod pseudo_median;
mod ratio;

mod looks;
mod ranking;

mod knee;
mod outliers;

pub mod model;
pub mod quantity;
pub mod reason;

pub use bootstrap::median_estimate;
pub use interval::{Estimate, Interval};
pub use knee::{best_worker_count, past_the_knee};
pub use looks::{Look, Looks, TOTAL_ALPHA};
pub use model::Model;
pub use outliers::outliers;
pub use quantile::{median, median_absolute_deviation, quantile};
#[doc(hidden)]
pub use ranking::rank_with_resamples;
pub use ranking::{Compared, PRACTICAL_MARGIN, Ranking, Relation, Verdict, rank};
pub use ratio::paired_ratio;
