//! Recycling: what outdated weights Δ_i are good for when M_i has become M_{i+1}.
//!
//! | method | starts from | learns from |
//! | --- | --- | --- |
//! | [`Init`] | M_{i+1} ⊕ Δ_i | the labels |
//! | [`Distill`] | a fresh head (and modules) on M_{i+1} | the labels and the outdated model M_i ⊕ Δ_i |
//! | [`Combined`] | M_{i+1} ⊕ Δ_i | both |
//!
//! Applying Δ_i without any training is [`Adapted::apply`](crate::model::Adapted::apply).

mod combine;
mod distill;
mod init;
mod interpolation;
mod show;
mod teacher;

use anyhow::{Result, ensure};
use tch::Device;

pub use combine::Combined;
pub use distill::{Distill, DistillConfig, HiddenTokens, KlReduction, LayerSet, distillation_loss};
pub use init::Init;
pub use interpolation::Interpolation;

use crate::display::Progress;
use crate::model::{Adapted, Version};
use crate::text::Task;
use crate::train::{TuneConfig, TuneRun};

/// An upgrade seen from a task: the version its weights were tuned on, those weights, and the version to move to.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade<'a> {
    /// M_i, the version that was tuned.
    pub old: &'a Version,
    /// Δ_i, what tuning it left.
    pub outdated: &'a Adapted,
    /// M_{i+1}, the version to move to.
    pub new: &'a Version,
}

/// A way to recycle.
pub trait Recycle {
    /// A short name for tables.
    fn name(&self) -> &'static str;

    /// Tunes the new version on `task`, making use of the outdated weights.
    fn recycle(
        &self,
        upgrade: Upgrade,
        task: &Task,
        config: &TuneConfig,
        device: Device,
        progress: &Progress,
    ) -> Result<TuneRun>;
}

/// A teacher's scores mean something to the student only when both know the same classes.
fn same_labels(outdated: &Adapted, task: &Task) -> Result<()> {
    ensure!(
        outdated.card.labels == task.labels,
        "the outdated weights were tuned for task {} with labels {:?}, the new task {} has {:?}: \
         distillation needs the same label set (initialization does not)",
        outdated.card.task,
        outdated.card.labels,
        task.name,
        task.labels
    );
    Ok(())
}
