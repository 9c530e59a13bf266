//! The profiles that come with the library.

use std::path::Path;

use anyhow::{Result, bail};

use super::{
    Beginning, FewShotPlan, FolderSource, FurtherWorlds, Limits, MethodPlan, ModelSize, OtherSource, PilotPlan,
    Profile, Source, Study, TaskPlan,
};
use crate::device::Precision;
use crate::model::{AdapterConfig, Method};
use crate::text::WorldConfig;
use crate::train::{Optimisation, PretrainConfig, TuneConfig};

impl Profile {
    /// The default of this name: `tiny` and `world` (the built-in world), `first-look`, `encoder` and `encoder-full` (a pre-trained
    /// encoder, a Hugging Face folder, on a folder of real text), or `text` (a small network from nothing on such a folder).
    pub fn named(name: &str, model: Option<&Path>, data: Option<&Path>) -> Result<Profile> {
        match (name, model, data) {
            ("tiny", None, None) => Ok(Profile::tiny()),
            ("world", None, None) => Ok(Profile::world()),
            ("text", None, Some(folder)) => Ok(Profile::text(folder)),
            ("encoder", Some(model), Some(folder)) => Profile::encoder(model, folder),
            ("encoder-full", Some(model), Some(folder)) => Profile::encoder_full(model, folder),
            ("first-look", Some(model), Some(folder)) => Profile::first_look(model, folder),
            ("tiny" | "world", ..) => {
                bail!("profile {name} makes its own models and texts: leave --model and --data out")
            }
            ("text", Some(_), _) => {
                bail!("profile text pre-trains its model from nothing: --model goes with profile encoder")
            }
            ("text", ..) => bail!("profile text needs --data FOLDER with corpora/*.txt and tasks/*/"),
            ("encoder" | "encoder-full" | "first-look", ..) => bail!(
                "profile {name} needs --model FOLDER, a pre-trained encoder, and --data FOLDER with corpora/*.txt and tasks/*/ \
                 (`make real` fetches both)"
            ),
            _ => {
                bail!("no profile is named {name:?}: there are tiny, world, first-look, encoder, encoder-full and text")
            }
        }
    }

    /// The built-in world in full: ten lineages of four upgrades, and two further worlds.
    pub fn world() -> Profile {
        let pretraining = |steps, warmup_steps, learning_rate| PretrainConfig {
            optimisation: Optimisation { steps, warmup_steps, learning_rate, ..PretrainConfig::default().optimisation },
            batch_size: 128,
            max_length: 32,
            ..PretrainConfig::default()
        };
        let task = |name: &str| TaskPlan { name: name.to_string(), targets: vec![1] };
        let source =
            |task: &str, relation: &str| OtherSource { task: task.to_string(), relation: relation.to_string() };
        let sizes = TuningSizes {
            max_length: 32,
            full_steps: 300,
            few_steps: 150,
            full_batch: 32,
            few_batch: 16,
            eval_every: 25,
        };
        Profile {
            name: "world".to_string(),
            source: Source::World(WorldConfig::default()),
            model: Beginning::Untrained(SMALL),
            initial: pretraining(800, 80, 3e-3),
            upgrade: pretraining(300, 30, 1e-3),
            tasks: ["bio_topic", "bio_relation", "review_sentiment"].map(task).to_vec(),
            sources: vec![source("bio_field", "similar"), source("review_sentiment", "different")],
            methods: sizes.methods(),
            rates: vec![1.0, 0.3],
            further_updates: 1.0,
            shrink: 0.5,
            few_shot: FewShotPlan::default(),
            // One task: with all three, every version of every lineage would be tuned on each of them.
            pilot: PilotPlan { tasks: Some(1), ..PilotPlan::default() },
            limits: Limits { train: 800, dev: 200, test: 400 },
            independent: true,
            placebo: false,
            variants: true,
            twice: true,
            seeds: 2,
            lineages: 10,
            further_worlds: FurtherWorlds { worlds: 2, lineages: 2, seeds: 1 },
            seed: 0,
            precision: Precision::Fp32,
        }
    }

    /// A first look at everything, in minutes: one lineage of two upgrades, two tasks, one learning rate.
    pub fn tiny() -> Profile {
        let world = Profile::world();
        let mut config = WorldConfig::default();
        config.upgrades.truncate(2);
        let sizes = TuningSizes {
            max_length: 32,
            full_steps: 200,
            few_steps: 100,
            full_batch: 32,
            few_batch: 16,
            eval_every: 25,
        };
        Profile {
            name: "tiny".to_string(),
            source: Source::World(config),
            tasks: world.tasks.into_iter().filter(|task| task.name != "bio_relation").collect(),
            sources: Vec::new(),
            methods: sizes.methods(),
            rates: vec![1.0],
            pilot: PilotPlan { points: 11, ..world.pilot },
            independent: false,
            variants: false,
            twice: false,
            seeds: 3,
            lineages: 1,
            further_worlds: FurtherWorlds::default(),
            ..Profile::world()
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
        let study = Study::four_domains();
        let sizes = TuningSizes {
            max_length: 64,
            full_steps: 300,
            few_steps: 200,
            full_batch: 32,
            few_batch: 16,
            eval_every: 25,
        };
        Profile {
            name: "text".to_string(),
            source: Source::Folder(FolderSource {
                folder: folder.to_path_buf(),
                initial: study.initial,
                initial_share: 0.3,
                upgrades: study.upgrades,
                vocab_size: Some(4_096),
            }),
            model: Beginning::Untrained(SMALL),
            initial: pretraining(4_000, 200),
            upgrade: pretraining(1_000, 50),
            tasks: study.tasks,
            sources: study.sources,
            methods: sizes.methods(),
            few_shot: FewShotPlan { shots: 32, ..FewShotPlan::default() },
            pilot: PilotPlan::default(),
            limits: Limits { train: 2_000, dev: 500, test: 1_000 },
            rates: vec![1.0],
            seeds: 3,
            lineages: 1,
            further_worlds: FurtherWorlds::default(),
            ..Profile::world()
        }
    }
}

/// The network of the built-in world.
const SMALL: ModelSize = ModelSize { hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4 };

/// What the profiles' tuning differs in.
#[derive(Clone, Copy)]
pub(super) struct TuningSizes {
    pub max_length: usize,
    pub full_steps: usize,
    pub few_steps: usize,
    pub full_batch: usize,
    pub few_batch: usize,
    pub eval_every: usize,
}

impl TuningSizes {
    fn methods(&self) -> Vec<MethodPlan> {
        self.methods_at([(Method::Full, 1e-3), (Method::Adapter(AdapterConfig::default()), 4e-3)])
    }

    /// Each of these methods at its learning rate.
    pub fn methods_at<const N: usize>(&self, plans: [(Method, f64); N]) -> Vec<MethodPlan> {
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
                eval_every: self.eval_every,
                // Recycled weights are there within the first updates.
                eval_at: vec![1, 2, 5, 10, 15, 20],
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
