//! Interval estimates and what they decide: Student-t over lineages or seeds, percentile bootstrap over test examples, bounds
//! and where an interval stands to them, Holm's correction, the shares of variance between and within groups.

mod bootstrap;
#[cfg(test)]
mod coverage;
mod decide;
mod holm;
mod interval;
mod variance;

pub use bootstrap::{bootstrap, bootstrap_mean};
pub use decide::{Bound, Side, Standing, equivalence, p_value, units_to_decide};
pub use holm::holm;
pub use interval::{Interval, differences, mean, paired_difference, sd, t_interval};
pub use variance::{VarianceShares, variance_shares};

/// Differences below this are rounding: a bound is neither missed nor passed by it.
pub const ROUNDING: f64 = 1e-12;
