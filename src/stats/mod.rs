//! Interval estimates: Student-t over lineages or seeds, percentile bootstrap over test examples.

mod bootstrap;
mod interval;

pub use bootstrap::{bootstrap, bootstrap_mean};
pub use interval::{Interval, differences, mean, paired_difference, sd, t_interval};
