//! What a `reproduce` run does, as plain data: every dial is a field.

mod built_in;
mod plans;
mod validate;

use serde::{Deserialize, Serialize};

pub use plans::{
    FewShotPlan, FolderSource, FurtherWorlds, Limits, MethodPlan, ModelSize, OtherSource, PilotPlan, Source, TaskPlan,
};

use crate::device::Precision;
use crate::train::PretrainConfig;

/// Everything a run is made of. A run directory belongs to one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What the run is called in its report.
    pub name: String,
    /// Where its texts come from.
    pub source: Source,
    /// The models' architecture.
    pub model: ModelSize,
    /// M_0 and, where it is wanted, the independent model M_IND.
    pub initial: PretrainConfig,
    /// Every upgrade M_i → M_{i+1}.
    pub upgrade: PretrainConfig,
    /// The tasks that the claims are averaged over.
    pub tasks: Vec<TaskPlan>,
    /// Sources of other tasks for initialization, tried on the first task.
    pub sources: Vec<OtherSource>,
    /// One for each tuning method.
    pub methods: Vec<MethodPlan>,
    /// What each method's learning rate is multiplied with, the usual rate (1) first. Conventional tuning and recycled weights are
    /// each judged at the rate that dev prefers.
    pub rates: Vec<f64>,
    /// α of the shrunk start α·Δ_0.
    pub shrink: f64,
    /// What few-shot students are given.
    pub few_shot: FewShotPlan,
    /// How tuned versions are compared with each other.
    #[serde(default)]
    pub pilot: PilotPlan,
    /// How many examples of a task are used at most.
    pub limits: Limits,
    /// Whether an independent model M_IND is pre-trained as a second control.
    pub independent: bool,
    /// Whether what decides no claim is run beside: other distillation losses, a shrunk start.
    pub variants: bool,
    /// Whether weights are recycled a second time, on M_2.
    pub twice: bool,
    /// How often tuning, sampling and order are repeated on each lineage, with other random numbers.
    pub seeds: usize,
    /// How often everything is pre-trained: other initial weights, order and masks.
    pub lineages: usize,
    /// Other worlds.
    #[serde(default)]
    pub further_worlds: FurtherWorlds,
    /// Everything random is derived from it.
    pub seed: u64,
    /// What is computed in.
    pub precision: Precision,
}

impl Profile {
    /// The methods' names, in order.
    pub fn method_names(&self) -> Vec<&'static str> {
        self.methods.iter().map(|plan| plan.full_data.method.name()).collect()
    }

    /// Names of the tasks that tuned versions are compared on.
    pub fn pilot_tasks(&self) -> Vec<&str> {
        let compared = self.pilot.tasks.unwrap_or(self.tasks.len());
        self.tasks.iter().take(compared).map(|task| task.name.as_str()).collect()
    }

    /// Whether the texts are real ones, not those of the built-in world.
    pub fn is_real_text(&self) -> bool {
        matches!(self.source, Source::Folder(_))
    }

    /// How often M_0 is upgraded.
    pub fn num_upgrades(&self) -> usize {
        match &self.source {
            Source::World(world) => world.upgrades.len(),
            Source::Folder(source) => source.upgrades.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Result;

    use super::*;

    #[test]
    fn the_built_in_profiles_are_sound_and_survive_json() -> Result<()> {
        for profile in [Profile::tiny(), Profile::world(), Profile::text(Path::new("somewhere"))] {
            profile.validate()?;
            let back: Profile = serde_json::from_str(&serde_json::to_string(&profile)?)?;
            assert_eq!(back, profile);
        }
        Ok(())
    }

    #[test]
    fn a_profile_that_does_not_exist_or_lacks_its_texts_is_refused() {
        assert!(Profile::named("text", None).unwrap_err().to_string().contains("--data"));
        assert!(Profile::named("huge", None).unwrap_err().to_string().contains("tiny, world and text"));
    }
}
