//! A run is a profile and a folder: pre-train, tune, upgrade, recycle; then statistics, claims and the report.

pub mod baselines;
mod bench;
pub mod claims;
pub mod compare;
mod figures;
mod jobs;
mod materials;
mod page;
pub(crate) mod parallel;
mod pilot_figures;
mod pilot_summary;
mod pilots;
mod pretraining;
pub mod profile;
pub mod report;
mod reproduce;
mod resample;
mod run_folder;
mod runs;
mod show;
pub mod studies;
mod summary;
pub mod sweep;
mod tables;
pub mod world_check;

pub(crate) use materials::Materials;
pub(crate) use pretraining::pretrain_lineage;
pub use profile::{Profile, Source};
pub(crate) use reproduce::stages;
pub use reproduce::{Compute, reproduce};
pub use run_folder::{BEST_BEFORE_STOP, Inputs, RunFolder, RunState};
