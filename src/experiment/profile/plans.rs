//! The parts of a profile: texts, tasks, methods, and what is done with them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::analysis::DEFAULT_POINTS;
use crate::recycle::{DistillConfig, HiddenTokens};
use crate::text::WorldConfig;
use crate::train::TuneConfig;

/// Where texts come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The built-in world.
    World(WorldConfig),
    /// A folder with `corpora/*.txt` and `tasks/*/`.
    Folder(FolderSource),
}

impl Source {
    /// The name of the texts in results: `world-0` by the world's seed, or that of the folder.
    pub fn name(&self) -> String {
        match self {
            Source::World(world) => format!("world-{}", world.seed),
            Source::Folder(source) => {
                let name = source.folder.file_name().map(|name| name.to_string_lossy().into_owned());
                name.unwrap_or_else(|| "texts".to_string())
            }
        }
    }

    /// The world of another seed; real text as it is, of which there is only one.
    pub(crate) fn other(&self, number: u64) -> Source {
        match self {
            Source::World(world) => {
                Source::World(WorldConfig { seed: world.seed.wrapping_add(number), ..world.clone() })
            }
            Source::Folder(source) => Source::Folder(source.clone()),
        }
    }
}

/// Further worlds of other seeds, in which everything that the claims need is repeated. They decide nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FurtherWorlds {
    /// How many.
    pub worlds: usize,
    /// Lineages of each.
    pub lineages: usize,
    /// Seeds of each lineage.
    pub seeds: usize,
}

/// What M_0 starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Beginning {
    /// A network of this size, untrained.
    Untrained(ModelSize),
    /// A pre-trained encoder.
    Encoder(EncoderSource),
}

/// A pre-trained encoder as M_0's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSource {
    /// Its Hugging Face folder.
    pub encoder: PathBuf,
    /// That of another encoder of the same shape and tokenizer: the start of the independent model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<PathBuf>,
}

/// What a folder of texts may say of itself in `study.json`: which corpus comes first, and what is studied on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The corpus M_0 is pre-trained on in full.
    pub initial: String,
    /// The corpora of M_1, M_2, …, in order.
    pub upgrades: Vec<String>,
    /// The tasks, the first of which takes part in every study.
    pub tasks: Vec<TaskPlan>,
    /// Sources of other tasks for initialization.
    #[serde(default)]
    pub sources: Vec<OtherSource>,
}

/// Real text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSource {
    /// The folder.
    pub folder: PathBuf,
    /// The corpus M_0 is pre-trained on in full.
    pub initial: String,
    /// The share of every other corpus, chosen by hash, that M_0 sees too.
    pub initial_share: f64,
    /// The corpora of M_1, M_2, …, in order; each without what M_0 saw.
    pub upgrades: Vec<String>,
    /// Size of the byte-level BPE vocabulary, trained on M_0's corpus; an encoder brings its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
}

/// The architecture, as `EncoderConfig::tiny` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSize {
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; they share the width.
    pub num_attention_heads: i64,
}

/// A task and the versions its weights are moved to. Claims are judged on M_1; a further target is the domain's own version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskPlan {
    /// The task.
    pub name: String,
    /// The versions moved to, by number, 1 first.
    pub targets: Vec<usize>,
}

/// Weights tuned on another task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherSource {
    /// The task they are tuned on.
    pub task: String,
    /// `similar` or `different`.
    pub relation: String,
}

/// How one method is tuned with all labels and with few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodPlan {
    /// With all labels.
    pub full_data: TuneConfig,
    /// With few; of the same method.
    pub few_shot: TuneConfig,
}

/// What few-shot students are given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FewShotPlan {
    /// Examples a class, of train and of dev; test stays whole.
    pub shots: usize,
    /// The published loss: scores and hidden states of `<s>`.
    pub published: DistillConfig,
    /// Scores alone; also the loss on unlabelled texts.
    pub logits: DistillConfig,
    /// Scores and hidden states of all tokens.
    pub all_tokens: DistillConfig,
}

impl Default for FewShotPlan {
    fn default() -> FewShotPlan {
        FewShotPlan::with_hidden_states(DistillConfig::default().beta)
    }
}

impl FewShotPlan {
    /// The default, where the published loss weighs hidden states by β.
    pub fn with_hidden_states(beta: f64) -> FewShotPlan {
        let published = DistillConfig { beta, ..DistillConfig::default() };
        FewShotPlan {
            shots: 8,
            logits: DistillConfig { beta: 0.0, ..published.clone() },
            all_tokens: DistillConfig { beta: 100.0, tokens: HiddenTokens::All, ..published.clone() },
            published,
        }
    }
}

/// How tuned versions are compared with each other: paths between them, and their attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PilotPlan {
    /// Points of a path, ends included.
    pub points: usize,
    /// The tasks they are compared on: the first so many, or all of them where this is absent. Every one of them is tuned on every
    /// version, with every seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<usize>,
    /// Test texts on which attention is compared.
    pub texts: usize,
}

impl Default for PilotPlan {
    fn default() -> PilotPlan {
        PilotPlan { points: DEFAULT_POINTS, tasks: None, texts: 200 }
    }
}

/// How many examples of a task are used at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of the training split.
    pub train: usize,
    /// Of the development split.
    pub dev: usize,
    /// Of the test split.
    pub test: usize,
}
