//! What a `reproduce` run does, as plain data: every dial is a field.

mod plans;
mod validate;

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

pub use plans::{
    FewShotPlan, FolderSource, Limits, MethodPlan, ModelSize, OtherSource, PathSplit, PilotPlan, Source, TaskPlan,
};

use crate::device::Precision;
use crate::model::{AdapterConfig, Method};
use crate::text::WorldConfig;
use crate::train::{Optimisation, PretrainConfig, TuneConfig};

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
    /// M_0 and the independent model M_IND.
    pub initial: PretrainConfig,
    /// Every upgrade M_i → M_{i+1}.
    pub upgrade: PretrainConfig,
    /// The tasks that the claims are averaged over.
    pub tasks: Vec<TaskPlan>,
    /// Sources of other tasks for initialization, tried on the first task.
    pub sources: Vec<OtherSource>,
    /// One for each tuning method.
    pub methods: Vec<MethodPlan>,
    /// What few-shot students are given.
    pub few_shot: FewShotPlan,
    /// How tuned versions are compared with each other.
    #[serde(default)]
    pub pilot: PilotPlan,
    /// How many examples of a task are used at most.
    pub limits: Limits,
    /// How often tuning, sampling and order are repeated with other random numbers.
    pub seeds: usize,
    /// How often the pre-training is repeated as well.
    pub lineages: usize,
    /// Everything random is derived from it.
    pub seed: u64,
    /// What is computed in.
    pub precision: Precision,
}

impl Profile {
    /// The default of this name: `tiny` (the built-in world) or `text` (a folder of real text).
    pub fn named(name: &str, data: Option<&Path>) -> Result<Profile> {
        match (name, data) {
            ("tiny", None) => Ok(Profile::tiny()),
            ("tiny", Some(_)) => bail!("profile tiny makes its own texts; --data goes with profile text"),
            ("text", Some(folder)) => Ok(Profile::text(folder)),
            ("text", None) => bail!("profile text needs --data FOLDER with corpora/*.txt and tasks/*/"),
            _ => bail!("no profile is named {name:?}: there are tiny and text"),
        }
    }

    /// The built-in world.
    pub fn tiny() -> Profile {
        let pretraining = |steps, warmup_steps, learning_rate| PretrainConfig {
            optimisation: Optimisation { steps, warmup_steps, learning_rate, ..PretrainConfig::default().optimisation },
            batch_size: 128,
            max_length: 32,
            ..PretrainConfig::default()
        };
        let task = |name: &str| TaskPlan { name: name.to_string(), targets: vec![1] };
        let source =
            |task: &str, relation: &str| OtherSource { task: task.to_string(), relation: relation.to_string() };
        let sizes = TuningSizes { max_length: 32, full_steps: 300, few_steps: 150, full_batch: 32, few_batch: 16 };
        Profile {
            name: "tiny".to_string(),
            source: Source::World(WorldConfig::default()),
            model: ModelSize { hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4 },
            initial: pretraining(800, 80, 3e-3),
            upgrade: pretraining(300, 30, 1e-3),
            tasks: ["bio_topic", "bio_relation", "review_sentiment"].map(task).to_vec(),
            sources: vec![source("bio_field", "similar"), source("review_sentiment", "different")],
            methods: sizes.methods(),
            few_shot: FewShotPlan::default(),
            // One task and the split that is judged on: with all three and both, two cores need half an hour for five seeds.
            pilot: PilotPlan { tasks: Some(1), splits: vec![PathSplit::Test], ..PilotPlan::default() },
            limits: Limits { train: 800, dev: 200, test: 400 },
            seeds: 5,
            lineages: 1,
            seed: 0,
            precision: Precision::Fp32,
        }
    }

    /// Real text: news plus 30 % of the other corpora, then bio → reviews → computer science.
    pub fn text(folder: &Path) -> Profile {
        let pretraining = |steps, warmup_steps| PretrainConfig {
            optimisation: Optimisation {
                steps,
                warmup_steps,
                learning_rate: 2e-3,
                ..PretrainConfig::default().optimisation
            },
            batch_size: 64,
            max_length: 64,
            packing: true,
            ..PretrainConfig::default()
        };
        let task = |name: &str, targets: &[usize]| TaskPlan { name: name.to_string(), targets: targets.to_vec() };
        let sizes = TuningSizes { max_length: 64, full_steps: 300, few_steps: 200, full_batch: 32, few_batch: 16 };
        Profile {
            name: "text".to_string(),
            source: Source::Folder(FolderSource {
                folder: folder.to_path_buf(),
                initial: "news".to_string(),
                initial_share: 0.3,
                upgrades: ["bio", "rev", "cs"].map(str::to_string).to_vec(),
                vocab_size: 4_096,
            }),
            model: ModelSize { hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4 },
            initial: pretraining(4_000, 200),
            upgrade: pretraining(1_000, 50),
            tasks: vec![
                task("chemprot", &[1]),
                task("rt_polarity", &[1, 2]),
                task("acl_arc", &[1, 3]),
                task("ag_news", &[1]),
            ],
            sources: vec![OtherSource { task: "ag_news".to_string(), relation: "different".to_string() }],
            methods: sizes.methods(),
            few_shot: FewShotPlan { shots: 32, ..FewShotPlan::default() },
            pilot: PilotPlan { splits: vec![PathSplit::Dev], ..PilotPlan::default() },
            limits: Limits { train: 2_000, dev: 500, test: 1_000 },
            seeds: 3,
            ..Profile::tiny()
        }
    }

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

/// What the two profiles' tuning differs in.
struct TuningSizes {
    max_length: usize,
    full_steps: usize,
    few_steps: usize,
    full_batch: usize,
    few_batch: usize,
}

impl TuningSizes {
    fn methods(&self) -> Vec<MethodPlan> {
        let adapter = Method::Adapter(AdapterConfig::default());
        let plans = [(Method::Full, 1e-3), (adapter, 4e-3)];
        let plan = |(method, learning_rate): (Method, f64)| {
            let tune = |steps: usize, batch_size| TuneConfig {
                method: method.clone(),
                optimisation: Optimisation {
                    steps,
                    learning_rate,
                    warmup_steps: steps / 20,
                    ..Optimisation::default()
                },
                batch_size,
                max_length: self.max_length,
                eval_every: 25,
                eval_at: vec![2, 5, 10, 15, 20],
                ..TuneConfig::default()
            };
            MethodPlan {
                full_data: tune(self.full_steps, self.full_batch),
                few_shot: TuneConfig { eval_at: Vec::new(), ..tune(self.few_steps, self.few_batch) },
            }
        };
        plans.map(plan).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_sound_and_survive_json() -> Result<()> {
        for profile in [Profile::tiny(), Profile::text(Path::new("somewhere"))] {
            profile.validate()?;
            let back: Profile = serde_json::from_str(&serde_json::to_string(&profile)?)?;
            assert_eq!(back, profile);
        }
        Ok(())
    }

    #[test]
    fn a_profile_that_does_not_exist_or_lacks_its_texts_is_refused() {
        assert!(Profile::named("text", None).unwrap_err().to_string().contains("--data"));
        assert!(Profile::named("huge", None).unwrap_err().to_string().contains("tiny and text"));
    }
}
