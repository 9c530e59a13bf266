//! From numbers to verdicts: statistics, the claims and their decision rules, baselines and the report.

pub mod baselines;
pub mod claims;
mod page;
pub mod report;
pub mod stats;
