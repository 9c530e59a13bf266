//! Settings that several commands share: optimisation, task, tuning method. Every field is optional: what is left out becomes
//! the library's default, and stands in the run's `spec.json`.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use recyclable::device::Precision;
use recyclable::display::progress::say;
use recyclable::experiment::Inputs;
use recyclable::model::{Adapted, AdapterConfig, AdapterPosition, LoraConfig, Method, Version};
use recyclable::text::Task;
use recyclable::train::{Metric, Optimisation, Schedule, TuneConfig};
use serde::{Deserialize, Serialize};

use crate::spec::{fill, fingerprints, named, required};

/// How parameters are moved.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Training {
    /// Updates
    #[arg(long)]
    steps: Option<usize>,
    /// Peak learning rate
    #[arg(long)]
    learning_rate: Option<f64>,
    /// linear (falls to 0) or constant
    #[arg(long, value_parser = named::<Schedule>)]
    schedule: Option<Schedule>,
    /// Updates over which the learning rate rises from 0
    #[arg(long)]
    warmup_steps: Option<usize>,
    #[arg(long)]
    weight_decay: Option<f64>,
    #[arg(long)]
    beta1: Option<f64>,
    #[arg(long)]
    beta2: Option<f64>,
    #[arg(long)]
    epsilon: Option<f64>,
    /// Gradients are scaled down to this norm; 0 leaves them as they are
    #[arg(long)]
    clip_norm: Option<f64>,
    /// Micro-batches an update
    #[arg(long)]
    accumulation: Option<usize>,
    /// Sequences a micro-batch
    #[arg(long)]
    batch_size: Option<usize>,
    /// Tokens a sequence has at most
    #[arg(long)]
    max_length: Option<usize>,
    /// fp32, bf16 or auto
    #[arg(long, value_parser = named::<Precision>)]
    precision: Option<Precision>,
    /// Everything random
    #[arg(long)]
    seed: Option<u64>,
}

impl Training {
    pub fn optimisation(&mut self, default: &Optimisation) -> Optimisation {
        let steps = fill(&mut self.steps, default.steps);
        Optimisation {
            steps,
            learning_rate: fill(&mut self.learning_rate, default.learning_rate),
            schedule: fill(&mut self.schedule, default.schedule),
            warmup_steps: fill(&mut self.warmup_steps, default.warmup_steps.min(steps / 10)),
            weight_decay: fill(&mut self.weight_decay, default.weight_decay),
            beta1: fill(&mut self.beta1, default.beta1),
            beta2: fill(&mut self.beta2, default.beta2),
            epsilon: fill(&mut self.epsilon, default.epsilon),
            clip_norm: fill(&mut self.clip_norm, default.clip_norm),
            accumulation: fill(&mut self.accumulation, default.accumulation),
        }
    }

    pub fn batch_size(&mut self, default: usize) -> usize {
        fill(&mut self.batch_size, default)
    }

    /// The length asked for; by default `default`, or as long as the model can read.
    pub fn max_length(&mut self, default: usize, version: Option<&Version>) -> usize {
        let positions = version.map_or(default, |version| version.config.max_length().max(0) as usize);
        fill(&mut self.max_length, default.min(positions))
    }

    pub fn precision(&mut self) -> Precision {
        fill(&mut self.precision, Precision::Fp32)
    }

    pub fn seed(&mut self) -> u64 {
        fill(&mut self.seed, 0)
    }
}

/// When dev is looked at while tuning, and for which score.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Updates between evaluations on dev
    #[arg(long)]
    eval_every: Option<usize>,
    /// Further updates after which dev is evaluated: 5,10,20
    #[arg(long, value_delimiter = ',')]
    eval_at: Option<Vec<usize>>,
    /// The dev score that chooses the best weights: accuracy or macro_f1
    #[arg(long, value_parser = named::<Metric>)]
    select: Option<Metric>,
}

/// The whole configuration of a tuning run.
pub fn tune_config(
    method: Method,
    training: &mut Training,
    selection: &mut Selection,
    version: &Version,
) -> Result<TuneConfig> {
    let default = TuneConfig::default();
    let config = TuneConfig {
        method,
        optimisation: training.optimisation(&default.optimisation),
        batch_size: training.batch_size(default.batch_size),
        max_length: training.max_length(default.max_length, Some(version)),
        eval_every: fill(&mut selection.eval_every, default.eval_every),
        eval_at: fill(&mut selection.eval_at, default.eval_at),
        select: fill(&mut selection.select, default.select),
        precision: training.precision(),
        seed: training.seed(),
    };
    config.validate()?;
    check_length(config.max_length, version)?;
    Ok(config)
}

/// Refuses a length that the model has no positions for.
pub fn check_length(max_length: usize, version: &Version) -> Result<()> {
    let positions = version.config.max_length();
    ensure!(
        max_length as i64 <= positions,
        "--max-length {max_length} exceeds the model's {positions} positions: lower it to {positions}"
    );
    Ok(())
}

/// Which task, and how much of it.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskArgs {
    /// A folder with train.jsonl, dev.jsonl and test.jsonl
    #[arg(long, value_name = "DIR")]
    task: Option<PathBuf>,
    /// Few-shot: so many examples of each class for training, and for dev
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Take at most so many training texts
    #[arg(long, value_name = "N")]
    limit_train: Option<usize>,
    /// Take at most so many dev texts
    #[arg(long, value_name = "N")]
    limit_dev: Option<usize>,
    /// Take at most so many test texts
    #[arg(long, value_name = "N")]
    limit_test: Option<usize>,
}

impl TaskArgs {
    pub fn is_given(&self) -> bool {
        self.task.is_some()
    }

    /// Loads the task; says where its splits overlap.
    pub fn load(&self, seed: u64) -> Result<Task> {
        let task = Task::load(required(&self.task, "task")?)?;
        let overlaps = task.overlaps();
        if overlaps.total() > 0 {
            say(&format!("note: {overlaps}"));
        }
        for (limit, name) in [(self.limit_train, "train"), (self.limit_dev, "dev"), (self.limit_test, "test")] {
            ensure!(limit != Some(0), "--limit-{name} 0 leaves nothing of the {name} split");
        }
        let all = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        let task = task.limit(all(self.limit_train), all(self.limit_dev), all(self.limit_test), seed);
        self.shots.map_or(Ok(task.clone()), |shots| task.few_shot(shots, seed))
    }

    pub fn inputs(&self) -> Result<Inputs> {
        let folder = required(&self.task, "task")?;
        fingerprints(&["train.jsonl", "dev.jsonl", "test.jsonl"].map(|file| folder.join(file)))
    }
}

/// How tuned weights are scored on a task.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Scoring {
    /// Write the classifier as a Hugging Face folder (…ForSequenceClassification of its family; full fine-tuning only)
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Tokens a text is cut off at [default: as in training]
    #[arg(long)]
    pub max_length: Option<usize>,
    /// fp32, bf16 or auto
    #[arg(long, value_parser = named::<Precision>)]
    precision: Option<Precision>,
    /// Chooses the texts where the task is limited, and the masks
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    pub task: TaskArgs,
}

impl Scoring {
    pub fn precision(&mut self) -> Precision {
        fill(&mut self.precision, Precision::Fp32)
    }

    pub fn seed(&mut self) -> u64 {
        fill(&mut self.seed, 0)
    }

    /// The task for `adapted` on `version`, and the length its texts are cut off at: by default that of the tuning, where the
    /// version has as many positions.
    pub fn load(&mut self, adapted: &Adapted, version: &Version) -> Result<(Task, usize)> {
        let positions = version.config.max_length().max(0) as u64;
        let tuned = adapted.card.recipe["tune"]["max_length"].as_u64().unwrap_or(128).min(positions) as usize;
        let max_length = fill(&mut self.max_length, tuned);
        let seed = self.seed();
        let task = self.task.load(seed)?;
        // Other tools number classes as they like.
        let task = task.in_order_of(&adapted.card.labels)?;
        check_length(max_length, version)?;
        Ok((task, max_length))
    }
}

/// The tuning method and its dials.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MethodArgs {
    /// full, adapter, lora, or matching (a pattern)
    #[arg(long)]
    method: Option<String>,
    /// Inner width of adapters
    #[arg(long)]
    bottleneck: Option<i64>,
    /// after_sublayer, in_sublayer, pfeiffer or parallel
    #[arg(long, value_parser = named::<AdapterPosition>)]
    adapter_position: Option<AdapterPosition>,
    /// Standard deviation of fresh adapter weights
    #[arg(long)]
    adapter_initializer_range: Option<f64>,
    /// Rank of LoRA's updates
    #[arg(long)]
    rank: Option<i64>,
    /// LoRA's scale: updates count alpha / rank
    #[arg(long)]
    lora_alpha: Option<f64>,
    /// The linear maps that LoRA updates: query,value
    #[arg(long, value_delimiter = ',')]
    lora_targets: Option<Vec<String>>,
    /// The backbone parameters that method `matching` trains, as a regular expression
    #[arg(long)]
    pattern: Option<String>,
}

impl MethodArgs {
    /// The method; dials of another method are refused.
    pub fn method(&mut self) -> Result<Method> {
        let name = fill(&mut self.method, "full".to_string());
        let dials = [
            ("bottleneck", "adapter", self.bottleneck.is_some()),
            ("adapter-position", "adapter", self.adapter_position.is_some()),
            ("adapter-initializer-range", "adapter", self.adapter_initializer_range.is_some()),
            ("rank", "lora", self.rank.is_some()),
            ("lora-alpha", "lora", self.lora_alpha.is_some()),
            ("lora-targets", "lora", self.lora_targets.is_some()),
            ("pattern", "matching", self.pattern.is_some()),
        ];
        if let Some((dial, of, _)) = dials.iter().find(|(_, of, given)| *given && *of != name) {
            bail!("--{dial} belongs to --method {of}, but the method is {name}");
        }
        let method = match name.as_str() {
            "full" => Method::Full,
            "adapter" => {
                let default = AdapterConfig::default();
                Method::Adapter(AdapterConfig {
                    bottleneck: fill(&mut self.bottleneck, default.bottleneck),
                    position: fill(&mut self.adapter_position, default.position),
                    initializer_range: fill(&mut self.adapter_initializer_range, default.initializer_range),
                    ..default
                })
            }
            "lora" => {
                let default = LoraConfig::default();
                Method::Lora(LoraConfig {
                    rank: fill(&mut self.rank, default.rank),
                    alpha: fill(&mut self.lora_alpha, default.alpha),
                    targets: fill(&mut self.lora_targets, default.targets.clone()),
                    ..default
                })
            }
            "matching" => Method::Matching(required(&self.pattern, "pattern")?),
            _ => bail!("no tuning method is named {name:?}: use full, adapter, lora or matching"),
        };
        method.validate()?;
        Ok(method)
    }
}
