//! Results and verdicts → tables, figures, `report.json`, `report.md` and `report.html`; comparisons of two reports.
//!
//! [`reproduce()`] is the main job: perform the experiment, judge the claims, write the report.

pub mod compare;
mod document;
mod figures;
mod markdown;
mod page;
mod reproduce;
mod show;
mod sweep;
mod tables;
mod write;

pub use compare::RunComparison;
pub use document::{Report, SCHEMA, now};
pub use reproduce::{rejudge, reproduce};
pub use sweep::{SweepReport, report_sweep};
