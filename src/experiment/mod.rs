//! An experiment is a profile and a folder: pre-train, tune, upgrade, recycle, compare; what comes out is a table of results.
//!
//! [`Profile`] says what is wanted, [`perform()`] does it, [`results::Results`] is what was measured. What that says of the claims is
//! for [`claims`](crate::claims) to judge and for [`report`](crate::report) to show.

pub mod baselines;
mod bench;
mod comparison;
mod compute;
mod lineages;
mod materials;
pub(crate) mod parallel;
mod perform;
mod plan;
mod pretraining;
pub mod profile;
pub mod results;
mod run_folder;
mod show;
pub mod studies;
pub mod sweep;
pub mod world_check;

pub use compute::Compute;
pub(crate) use materials::Materials;
pub use perform::{Experiment, perform};
pub use plan::Unit;
pub(crate) use plan::{
    BAG_OF_WORDS, DataPlan, INDEPENDENT, MAJORITY, PERMUTED, PERMUTED_INNER, Place, UNTRAINED, shown,
};
pub(crate) use pretraining::{Chain, pretrain_chains};
pub use profile::{Beginning, EncoderSource, Profile, Source, Study};
pub use run_folder::{BEST_BEFORE_STOP, Inputs, RunFolder, RunState};
