//! What a `reproduce` run does, as plain data: every dial is a field.

mod built_in;
mod plans;
mod real;
mod validate;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

pub use plans::{
    Beginning, EncoderSource, FewShotPlan, FolderSource, FurtherWorlds, Limits, MethodPlan, ModelSize, OtherSource,
    PilotPlan, Source, Study, TaskPlan,
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
    /// What M_0 starts from: an untrained network of some size, or a pre-trained encoder.
    pub model: Beginning,
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
    /// What the updates are multiplied with at every rate but the usual one: a budget by whose end conventional tuning has levelled off.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub further_updates: f64,
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
    /// Whether M_0 is pre-trained on with the general corpus alone, by the budget of an upgrade: M_PLACEBO, an upgrade to nothing new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placebo: bool,
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

fn one() -> f64 {
    1.0
}

fn is_one(factor: &f64) -> bool {
    *factor == 1.0
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

    /// Leaves out all tasks but these. Errors where one is not among the profile's.
    pub fn keep_tasks(&mut self, names: &[String]) -> Result<()> {
        let known = self.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
        for name in names {
            ensure!(self.tasks.iter().any(|task| &task.name == name), "there is no task {name}; there are {known}");
        }
        self.tasks.retain(|task| names.contains(&task.name));
        // What is the first task now is no other source for it.
        let first = self.tasks.first().map(|task| task.name.clone());
        self.sources.retain(|source| Some(&source.task) != first.as_ref());
        Ok(())
    }

    /// Whether the texts are real ones, not those of the built-in world.
    pub fn is_real_text(&self) -> bool {
        matches!(self.source, Source::Folder(_))
    }

    /// The encoder that M_0 starts from, where it is a pre-trained one.
    pub fn starts_from(&self) -> Option<&EncoderSource> {
        match &self.model {
            Beginning::Untrained(_) => None,
            Beginning::Encoder(source) => Some(source),
        }
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

    /// A folder without a `study.json`, that has the corpora which the profiles know.
    fn shared_data() -> std::path::PathBuf {
        "nowhere/with/news/bio/rev/cs".into()
    }

    #[test]
    fn the_built_in_profiles_are_sound_and_survive_json() -> Result<()> {
        let (data, encoder) = (shared_data(), Path::new("encoder"));
        let real = [
            Profile::first_look(encoder, &data)?,
            Profile::encoder(encoder, &data)?,
            Profile::encoder_full(encoder, &data)?,
        ];
        let built_in = [Profile::tiny(), Profile::world(), Profile::text(Path::new("somewhere"))];
        for profile in built_in.into_iter().chain(real) {
            profile.validate()?;
            let back: Profile = serde_json::from_str(&serde_json::to_string(&profile)?)?;
            assert_eq!(back, profile);
        }
        Ok(())
    }

    #[test]
    fn tasks_are_left_out_by_name_and_the_first_is_never_another_source_for_itself() -> Result<()> {
        let mut profile = Profile::encoder_full(Path::new("encoder"), &shared_data())?;
        let names = |profile: &Profile| profile.tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
        let mut one = profile.clone();
        one.keep_tasks(&["ag_news".to_string()])?;
        one.validate()?;
        assert_eq!((names(&one), one.sources.len()), (vec!["ag_news".to_string()], 0));
        profile.keep_tasks(&["rt_polarity".to_string(), "chemprot".to_string()])?;
        assert_eq!(
            (names(&profile), profile.sources.len()),
            (vec!["chemprot".to_string(), "rt_polarity".to_string()], 1)
        );
        let error = profile.keep_tasks(&["acl_arc".to_string()]).unwrap_err().to_string();
        assert!(error.contains("no task acl_arc") && error.contains("chemprot, rt_polarity"), "{error}");
        Ok(())
    }

    #[test]
    fn a_profile_that_does_not_exist_or_lacks_its_texts_is_refused() {
        let refused = |name: &str| Profile::named(name, None, None).unwrap_err().to_string();
        assert!(refused("text").contains("--data"));
        assert!(refused("encoder").contains("--model"));
        assert!(refused("huge").contains("tiny, world, first-look, encoder, encoder-full and text"));
    }
}
