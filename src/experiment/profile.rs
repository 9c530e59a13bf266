//! What a `reproduce` run does, as plain data: every dial is a field.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::analysis::DEFAULT_POINTS;
use crate::device::Precision;
use crate::model::{AdapterConfig, Method};
use crate::recycle::{DistillConfig, HiddenTokens};
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

/// Where texts come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// The built-in world.
    World(WorldConfig),
    /// A folder with `corpora/*.txt` and `tasks/*/`.
    Folder(FolderSource),
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
    /// Size of the byte-level BPE vocabulary, trained on M_0's corpus.
    pub vocab_size: usize,
}

/// The architecture, as `RobertaConfig::tiny` takes it.
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

/// How another task may be related to the first.
const RELATIONS: [&str; 2] = ["similar", "different"];

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
    /// What paths are evaluated on; the claim is judged on the last of them.
    pub splits: Vec<PathSplit>,
    /// Dev texts on which attention is compared.
    pub texts: usize,
    /// Whether both ends of a path are tuned with the same random numbers, so that heads and modules start alike (as in the
    /// authors' scripts); otherwise the other end is tuned with the next seed's.
    pub coupled: bool,
}

/// A split that paths are evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathSplit {
    /// The development texts.
    Dev,
    /// The test texts.
    Test,
}

impl PathSplit {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            PathSplit::Dev => "dev",
            PathSplit::Test => "test",
        }
    }
}

impl Default for PilotPlan {
    fn default() -> PilotPlan {
        let splits = vec![PathSplit::Dev, PathSplit::Test];
        PilotPlan { points: DEFAULT_POINTS, tasks: None, splits, texts: 200, coupled: true }
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

    /// Says what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.seeds > 0, "seeds is 0: every number rests on at least one");
        ensure!(self.lineages > 0, "lineages is 0: at least one is pre-trained");
        ensure!(!self.tasks.is_empty(), "there are no tasks");
        ensure!(!self.methods.is_empty(), "there is no tuning method");
        self.initial.validate().context("initial")?;
        self.upgrade.validate().context("upgrade")?;
        match &self.source {
            Source::World(world) => world.validate()?,
            Source::Folder(source) => {
                let share = source.initial_share;
                ensure!((0.0..1.0).contains(&share), "initial_share {share} is not in [0, 1)");
            }
        }
        let upgrades = self.num_upgrades();
        ensure!(upgrades >= 2, "recycling over two upgrades needs at least two of them, there are {upgrades}");
        for task in &self.tasks {
            ensure!(task.targets.first() == Some(&1), "the first target of task {} must be version 1", task.name);
            if let Some(target) = task.targets.iter().find(|&&target| target > upgrades) {
                bail!("task {} names version {target} as a target, but the last one is {upgrades}", task.name);
            }
        }
        let tasks = self.tasks.iter().map(|task| task.name.as_str());
        if let Some(name) = first_repeated(tasks) {
            bail!("the task {name} stands in tasks twice: claims are averaged over different ones");
        }
        if let Some(name) = first_repeated(self.method_names()) {
            bail!("two methods are {name}: results are kept by the method's name, so each can stand there once");
        }
        for OtherSource { task, relation } in &self.sources {
            ensure!(
                RELATIONS.contains(&relation.as_str()),
                "the source {task} has the relation {relation:?}: it is {}",
                RELATIONS.join(" or ")
            );
        }
        for plan in &self.methods {
            plan.full_data.validate().context("full_data")?;
            plan.few_shot.validate().context("few_shot")?;
            ensure!(plan.full_data.method == plan.few_shot.method, "full_data and few_shot must name the same method");
        }
        for config in [&self.few_shot.published, &self.few_shot.logits, &self.few_shot.all_tokens] {
            config.validate().context("few_shot")?;
        }
        ensure!(self.few_shot.shots > 0, "shots is 0");
        ensure!(self.pilot.points >= 2, "a path of {} point shows nothing: 26 is usual", self.pilot.points);
        ensure!(self.pilot.tasks != Some(0), "pilot.tasks is 0: versions are compared on at least one task");
        ensure!(!self.pilot.splits.is_empty(), "pilot.splits is empty: paths are evaluated on dev, test or both");
        let splits = &self.pilot.splits;
        ensure!(
            splits.iter().all(|split| splits.iter().filter(|other| *other == split).count() == 1),
            "pilot.splits names a split twice"
        );
        let heads = self.model.num_hidden_layers as i64 * self.model.num_attention_heads;
        ensure!(
            heads > 1,
            "a model with {heads} attention head has no other one to compare it with: C3 needs at least two"
        );
        ensure!(self.pilot.texts > 0, "pilot.texts is 0: attention is compared on at least one text");
        ensure!(self.pilot.coupled || self.seeds > 1, "pilot.coupled is false: the other end needs a second seed");
        let Limits { train, dev, test } = self.limits;
        ensure!(
            train > 0 && dev > 0 && test > 0,
            "a limit of 0 leaves a split empty: train {train}, dev {dev}, test {test}"
        );
        let longest = self.initial.max_length;
        let tuned = self.methods.iter().flat_map(|plan| [plan.full_data.max_length, plan.few_shot.max_length]);
        if let Some(length) = tuned.chain([self.upgrade.max_length]).find(|&length| length > longest) {
            bail!(
                "a max_length of {length} exceeds that of initial ({longest}), which gives the models their positions"
            );
        }
        Ok(())
    }
}

impl Default for FewShotPlan {
    fn default() -> FewShotPlan {
        let published = DistillConfig::default();
        FewShotPlan {
            shots: 8,
            logits: DistillConfig { beta: 0.0, ..published.clone() },
            all_tokens: DistillConfig { beta: 100.0, tokens: HiddenTokens::All, ..published.clone() },
            published,
        }
    }
}

/// The first name that stood there before.
fn first_repeated<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
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
    fn a_task_or_method_named_twice_and_an_unknown_relation_are_refused() {
        let refusal = |change: fn(&mut Profile)| {
            let mut profile = Profile::tiny();
            change(&mut profile);
            profile.validate().err().map_or("it was not refused".to_string(), |error| error.to_string())
        };
        let error = refusal(|profile| profile.tasks.push(profile.tasks[1].clone()));
        assert!(error.contains("the task bio_relation stands in tasks twice"), "{error}");
        let error = refusal(|profile| profile.methods.push(profile.methods[0].clone()));
        assert!(error.contains("two methods are full"), "{error}");
        let error = refusal(|profile| profile.sources[0].relation = "akin".into());
        assert!(error.contains("bio_field has the relation \"akin\": it is similar or different"), "{error}");
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        let mut profile = Profile::tiny();
        profile.tasks[0].targets = vec![1, 9];
        assert!(profile.validate().unwrap_err().to_string().contains("version 9"));
        assert!(Profile::named("text", None).unwrap_err().to_string().contains("--data"));
        assert!(Profile::named("huge", None).unwrap_err().to_string().contains("tiny and text"));
    }
}
