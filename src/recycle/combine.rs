//! Both at once.

use anyhow::Result;
use tch::Device;

use super::distill::distill_from;
use super::{DistillConfig, Recycle, Upgrade};
use crate::display::Progress;
use crate::text::{Task, Text};
use crate::train::{Start, TuneConfig, TuneRun};

/// Starts from M_{i+1} ⊕ Δ_i, the teacher's own weights, and distils from M_i ⊕ Δ_i.
#[derive(Clone, Debug, Default)]
pub struct Combined {
    /// The distillation loss.
    pub distill: DistillConfig,
    /// Texts without labels, or pairs, on which the teacher is asked as well.
    pub unlabelled: Vec<Text>,
}

impl Recycle for Combined {
    fn name(&self) -> &'static str {
        "combined"
    }

    fn recycle(
        &self,
        upgrade: Upgrade,
        task: &Task,
        config: &TuneConfig,
        device: Device,
        progress: &Progress,
    ) -> Result<TuneRun> {
        let start = Start::Recycled(upgrade.outdated);
        distill_from(upgrade, task, start, &self.distill, &self.unlabelled, config, device, progress)
    }
}
