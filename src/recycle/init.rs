//! Initialization-based recycling.

use anyhow::Result;
use tch::Device;

use super::{Recycle, Upgrade};
use crate::display::Progress;
use crate::text::Task;
use crate::train::{Start, TuneConfig, TuneRun, tune};

/// Starts from M_{i+1} ⊕ Δ_i and tunes as usual. The source may have been tuned for the same task, a similar one or a
/// different one; under another label set the head starts fresh.
#[derive(Clone, Copy, Debug, Default)]
pub struct Init;

impl Recycle for Init {
    fn name(&self) -> &'static str {
        "init"
    }

    fn recycle(
        &self,
        upgrade: Upgrade,
        task: &Task,
        config: &TuneConfig,
        device: Device,
        progress: &Progress,
    ) -> Result<TuneRun> {
        tune(upgrade.new, task, Start::Recycled(upgrade.outdated), config, device, progress)
    }
}
