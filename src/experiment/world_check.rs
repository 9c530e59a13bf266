//! Whether the built-in world is worth experimenting on: trained on it, not argued about it.
//!
//! A made-up language is easily a toy: its tasks fall to counting words, or to any network; its recycling works because the
//! weights hardly moved, or because every model knows the answer. [`WorldCheck::run`] pre-trains M_0, upgrades it to M_1 for the
//! domain of each task, pre-trains an independent M_IND on M_0's text, and measures what would give a toy away.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::baselines::bag_of_words;
use super::parallel::in_threads;
use crate::display::Progress;
use crate::model::{EncoderConfig, Version};
use crate::seed;
use crate::stats::mean;
use crate::text::{Corpus, Example, Task, TaskData, World, WorldConfig};
use crate::train::{Optimisation, PretrainConfig, Start, TuneConfig, evaluate, held_out_loss, pretrain, tune};

/// Few-shot accuracy by which a tuned pre-trained model has to beat word counts and the untrained network.
pub const FEW_SHOT_LEAD_AT_LEAST: f64 = 0.05;
/// Share of the accuracy above chance that Δ_0 has to keep on M_1.
pub const KEPT_AT_LEAST: f64 = 0.5;
/// Share of the accuracy above chance that Δ_0 may keep on M_IND.
pub const KEPT_BY_STRANGER_AT_MOST: f64 = 0.25;
/// Nats by which the masked-LM loss has to lie below what word frequencies alone allow.
pub const NATS_BELOW_UNIGRAM_AT_LEAST: f64 = 0.5;

/// How the models of a check are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldCheckConfig {
    /// The tasks, of different kinds.
    pub tasks: Vec<String>,
    /// The models have 2 layers and 4 heads of this size together.
    pub hidden_size: i64,
    /// Updates for M_0 and for M_IND.
    pub initial_steps: usize,
    /// Updates from M_0 to M_1.
    pub upgrade_steps: usize,
    /// All else about pre-training; its `steps` and `seed` are not used.
    pub pretraining: PretrainConfig,
    /// Tuning on the whole training split, for Δ_0; its `seed` is not used.
    pub tuning: TuneConfig,
    /// Tuning on a few examples; its `seed` is not used.
    pub few_shot: TuneConfig,
    /// Examples of every class in a few-shot task.
    pub shots: usize,
    /// Few-shot tasks drawn; scores are their mean.
    pub samples: usize,
}

impl Default for WorldCheckConfig {
    fn default() -> Self {
        let tuning = TuneConfig {
            optimisation: Optimisation { steps: 150, learning_rate: 1e-3, ..Default::default() },
            max_length: World::MAX_LEN,
            ..Default::default()
        };
        let few_shot = TuneConfig {
            optimisation: Optimisation { steps: 80, learning_rate: 5e-4, warmup_steps: 8, ..Default::default() },
            eval_every: 20,
            batch_size: 16,
            ..tuning.clone()
        };
        Self {
            tasks: ["bio_topic", "bio_relation", "review_sentiment"].map(String::from).into(),
            hidden_size: 128,
            initial_steps: 800,
            upgrade_steps: 300,
            pretraining: PretrainConfig {
                optimisation: Optimisation { learning_rate: 3e-3, ..PretrainConfig::default().optimisation },
                batch_size: 128,
                max_length: World::MAX_LEN,
                ..Default::default()
            },
            tuning,
            few_shot,
            shots: 8,
            samples: 12,
        }
    }
}

impl WorldCheckConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!(!self.tasks.is_empty(), "tasks is empty: name at least one task of the world");
        ensure!(self.shots > 0 && self.samples > 0, "shots and samples must be at least 1");
        ensure!(self.initial_steps > 0 && self.upgrade_steps > 0, "initial_steps and upgrade_steps must be at least 1");
        self.tuning.validate().context("tuning")?;
        self.few_shot.validate().context("few_shot")
    }

    fn pretraining(&self, steps: usize, seed: u64) -> PretrainConfig {
        let warmup_steps = self.pretraining.optimisation.warmup_steps.min(steps / 10);
        let optimisation = Optimisation { steps, warmup_steps, ..self.pretraining.optimisation.clone() };
        PretrainConfig { optimisation, seed, ..self.pretraining.clone() }
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Short name: `few_shot.bio_topic`.
    pub id: String,
    /// What should be the case.
    pub statement: String,
    /// The number that decides.
    pub measured: f64,
    /// What it has to be.
    pub rule: String,
    /// What it was made of.
    pub parts: BTreeMap<String, f64>,
    /// Whether it is the case.
    pub holds: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldCheck {
    /// Of the world and of all training.
    pub seed: u64,
    /// The world's dials.
    pub world: WorldConfig,
    /// Everything looked at.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub seconds: f64,
}

/// The models that a task is measured on.
struct Family {
    m_0: Version,
    /// M_0 upgraded to the task's domain.
    m_1: Version,
    m_ind: Version,
    untrained: Version,
}

/// Accuracies of one task.
struct TaskScores {
    chance: f64,
    tuned: f64,
    on_m_1: f64,
    on_m_ind: f64,
    few_shot: f64,
    untrained: f64,
    words: f64,
}

impl WorldCheck {
    /// Builds the world, trains on it and judges. `seed` decides everything random but the world itself, whose seed is a dial.
    ///
    /// Trains as many models side by side as libtorch has threads, each on one: small models gain little from more.
    ///
    /// # Errors
    /// When a configuration is wrong or the world lacks a task; a world that turns out to be a toy is a finding, not an error.
    pub fn run(world: WorldConfig, config: &WorldCheckConfig, seed: u64, progress: &Progress) -> Result<WorldCheck> {
        config.validate()?;
        let clock = Instant::now();
        let dials = world;
        let world = World::new(dials.clone())?;
        let tasks = config.tasks.iter().map(|name| world.task(name)).collect::<Result<Vec<_>>>()?;
        let initial = world.initial_corpus()?;
        let domain = |task: &Task| task.domain.clone().with_context(|| format!("{} is of no domain", task.name));
        let domains = tasks.iter().map(|task| domain(task)).collect::<Result<BTreeSet<String>>>()?;
        let (held_out, initial) = (initial.by_hash(0.0, 0.02), initial.by_hash(0.02, 1.0));
        ensure!(
            !held_out.is_empty() && !initial.is_empty(),
            "M_0's corpus is too small to hold 2 % of its documents out: raise general_documents to 1,000 or more"
        );
        let tokenizer = world.tokenizer()?;
        let shape = EncoderConfig::tiny(tokenizer.vocab_size() as i64, config.hidden_size, World::MAX_LEN as i64);
        let untrained = Version::new(&shape, &tokenizer, seed::derive(seed, "check-m0"))?;
        let stranger = Version::new(&shape, &tokenizer, seed::derive(seed, "check-mind"))?;

        let train = |base: &Version, corpus: &Corpus, steps: usize, purpose: &str| -> Result<Version> {
            let config = config.pretraining(steps, seed::derive(seed, purpose));
            let run = pretrain(base, corpus, &config, Device::Cpu, None, &Progress::silent())?;
            progress.advance(format!("pre-trained {purpose}"));
            Ok(run.version)
        };
        let (m_0, m_ind) = {
            let starts = vec![(untrained.try_clone()?, "m0"), (stranger, "mind")];
            let mut trained =
                in_threads(starts, |(start, purpose)| train(&start, &initial, config.initial_steps, purpose))?;
            let m_ind = trained.pop().context("a model is missing")?;
            (trained.pop().context("a model is missing")?, m_ind)
        };
        let starts = domains.iter().map(|domain| Ok((m_0.try_clone()?, world.corpus(domain)?, domain.as_str())));
        let upgraded = in_threads(starts.collect::<Result<Vec<_>>>()?, |(start, corpus, domain)| {
            train(&start, &corpus, config.upgrade_steps, domain)
        })?;
        let upgraded: BTreeMap<&String, &Version> = domains.iter().zip(&upgraded).collect();

        let mut findings = Vec::new();
        let unigram = unigram_cross_entropy(&initial, &held_out);
        for (name, version) in [("M_0", &m_0), ("M_IND", &m_ind)] {
            let loss = held_out_loss(version, &held_out, &config.pretraining(1, seed), Device::Cpu)?;
            findings.push(Finding {
                id: format!("masked_lm.{}", name.to_lowercase()),
                statement: format!("{name} has learnt more than word frequencies"),
                measured: unigram - loss,
                rule: format!("unigram entropy − held-out masked-LM loss ≥ {NATS_BELOW_UNIGRAM_AT_LEAST} nats"),
                parts: numbers([("unigram entropy", unigram), ("masked-LM loss", loss)]),
                holds: unigram - loss >= NATS_BELOW_UNIGRAM_AT_LEAST,
            });
        }
        let jobs = tasks.iter().map(|task| {
            let m_1 = upgraded.get(&domain(task)?).context("a model is missing")?.try_clone()?;
            let (m_0, m_ind) = (m_0.try_clone()?, m_ind.try_clone()?);
            Ok((*task, Family { m_0, m_1, m_ind, untrained: untrained.try_clone()? }))
        });
        let scores = in_threads(jobs.collect::<Result<Vec<_>>>()?, |(task, family)| {
            let scores = measure(task, &family, config, seed)?;
            progress.advance(format!("measured {}", task.name));
            Ok(scores)
        })?;
        for (task, scores) in tasks.iter().zip(&scores) {
            findings.extend(scores.judge(&task.name, &domain(task)?, config.shots));
        }
        Ok(WorldCheck { seed, world: dials, findings, seconds: clock.elapsed().as_secs_f64() })
    }

    /// Pieces of work that [`WorldCheck::run`] reports to its progress.
    pub fn jobs(world: &WorldConfig, config: &WorldCheckConfig) -> Result<usize> {
        let world = World::new(world.clone())?;
        let domains = config.tasks.iter().map(|name| Ok(world.task(name)?.domain.clone()));
        Ok(2 + domains.collect::<Result<BTreeSet<_>>>()?.len() + config.tasks.len())
    }

    /// Whether nothing gives the world away as a toy.
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.holds)
    }
}

fn measure(task: &Task, family: &Family, config: &WorldCheckConfig, seed: u64) -> Result<TaskScores> {
    let device = Device::Cpu;
    let test = TaskData::new(&task.test, &family.m_0.tokenizer, config.tuning.max_length)?;
    let best = |base: &Version, task: &Task, recipe: &TuneConfig, seed: u64| {
        let recipe = TuneConfig { seed, ..recipe.clone() };
        Ok::<_, anyhow::Error>(tune(base, task, Start::Fresh, &recipe, device, &Progress::silent())?.best)
    };
    let score = |adapted: &crate::model::Adapted, base: &Version| {
        Ok::<_, anyhow::Error>(evaluate(&adapted.apply(base, device)?, &test)?.scores.accuracy)
    };
    let delta = best(&family.m_0, task, &config.tuning, seed)?;
    let (mut few_shot, mut bare, mut words) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..config.samples as u64 {
        let seed = seed::derive(seed, &format!("check-sample-{sample}"));
        let few = task.few_shot(config.shots, seed)?;
        few_shot.push(score(&best(&family.m_1, &few, &config.few_shot, seed)?, &family.m_1)?);
        bare.push(score(&best(&family.untrained, &few, &config.few_shot, seed)?, &family.untrained)?);
        words.push(bag_of_words(&plain(&few.train), &plain(&few.test), task.num_labels())?.accuracy);
    }
    Ok(TaskScores {
        chance: Task::majority_share(&task.test),
        tuned: score(&delta, &family.m_0)?,
        on_m_1: score(&delta, &family.m_1)?,
        on_m_ind: score(&delta, &family.m_ind)?,
        few_shot: mean(&few_shot)?,
        untrained: mean(&bare)?,
        words: mean(&words)?,
    })
}

impl TaskScores {
    fn judge(&self, task: &str, domain: &str, shots: usize) -> [Finding; 3] {
        let kept = |accuracy: f64| (accuracy - self.chance) / (self.tuned - self.chance).max(1e-9);
        let lead = self.few_shot - self.words.max(self.untrained);
        let compatibility =
            |on: &str, accuracy: f64| numbers([("on M_0", self.tuned), (on, accuracy), ("chance", self.chance)]);
        let (on_m_1, on_m_ind) = (kept(self.on_m_1), kept(self.on_m_ind));
        [
            Finding {
                id: format!("few_shot.{task}"),
                statement: format!(
                    "{task}: with {shots} examples a class, pre-training beats word counts and no pre-training"
                ),
                measured: lead,
                rule: format!("accuracy − better of the two ≥ {FEW_SHOT_LEAD_AT_LEAST}"),
                parts: numbers([
                    ("pre-trained", self.few_shot),
                    ("bag of words", self.words),
                    ("untrained network", self.untrained),
                ]),
                holds: lead >= FEW_SHOT_LEAD_AT_LEAST,
            },
            Finding {
                id: format!("recycled.{task}"),
                statement: format!("{task}: Δ_0 keeps most of its accuracy on M_1 ({domain})"),
                measured: on_m_1,
                rule: format!("share kept of the accuracy above chance ≥ {KEPT_AT_LEAST}"),
                parts: compatibility("on M_1", self.on_m_1),
                holds: on_m_1 >= KEPT_AT_LEAST,
            },
            Finding {
                id: format!("stranger.{task}"),
                statement: format!("{task}: Δ_0 is worth nothing on the independent M_IND"),
                measured: on_m_ind,
                rule: format!("share kept of the accuracy above chance ≤ {KEPT_BY_STRANGER_AT_MOST}"),
                parts: compatibility("on M_IND", self.on_m_ind),
                holds: on_m_ind <= KEPT_BY_STRANGER_AT_MOST,
            },
        ]
    }
}

impl fmt::Display for WorldCheck {
    /// A line a finding with ✓ or ✗, its number, the numbers behind it and the rule.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let mark = if finding.holds { '✓' } else { '✗' };
            let parts: Vec<String> = finding.parts.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
            writeln!(f, "{mark} {}", finding.statement)?;
            writeln!(f, "    {:.3} ({}); {}", finding.measured, parts.join(", "), finding.rule)?;
        }
        let failed = self.findings.iter().filter(|finding| !finding.holds).count();
        match failed {
            0 => writeln!(f, "all {} hold: this world is no toy (seed {})", self.findings.len(), self.seed),
            _ => writeln!(f, "{failed} of {} fail (seed {})", self.findings.len(), self.seed),
        }
    }
}

/// Cross-entropy in nats a word of `text` under the word frequencies of `train`, with one added to every count.
fn unigram_cross_entropy(train: &Corpus, text: &Corpus) -> f64 {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for word in train.iter().chain(text.iter()).flat_map(|document| document.split(' ')) {
        counts.entry(word).or_insert(1.0);
    }
    for word in train.iter().flat_map(|document| document.split(' ')) {
        *counts.entry(word).or_default() += 1.0;
    }
    let total: f64 = counts.values().sum();
    let words: Vec<f64> =
        text.iter().flat_map(|document| document.split(' ')).map(|word| (total / counts[word]).ln()).collect();
    words.iter().sum::<f64>() / words.len().max(1) as f64
}

fn plain(examples: &[Example]) -> Vec<(String, usize)> {
    examples.iter().map(|example| (example.text.clone(), example.label)).collect()
}

fn numbers<const N: usize>(pairs: [(&str, f64); N]) -> BTreeMap<String, f64> {
    pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_frequencies_have_the_entropy_worked_out_by_hand() -> Result<()> {
        let corpus = |text: &str| Corpus::new("c", vec![text.to_string()]);
        // Counts with one added: a 3 of 6, b 2 of 6, c 1 of 6.
        let entropy = unigram_cross_entropy(&corpus("a b a")?, &corpus("a c")?);
        assert!((entropy - (2_f64.ln() + 6_f64.ln()) / 2.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn a_toy_is_found_out() {
        let toy = TaskScores {
            chance: 0.25,
            tuned: 0.9,
            on_m_1: 0.3,
            on_m_ind: 0.9,
            few_shot: 0.8,
            untrained: 0.3,
            words: 0.9,
        };
        assert_eq!(toy.judge("t", "d", 8).map(|finding| finding.holds), [false; 3]);
        let world = TaskScores { on_m_1: 0.7, on_m_ind: 0.26, words: 0.4, ..toy };
        assert_eq!(world.judge("t", "d", 8).map(|finding| finding.holds), [true; 3]);
    }

    #[test]
    fn a_check_without_tasks_or_with_unknown_ones_is_refused() {
        let run = |tasks: Vec<String>| {
            let config = WorldCheckConfig { tasks, ..Default::default() };
            WorldCheck::run(WorldConfig::default(), &config, 0, &Progress::silent()).unwrap_err().to_string()
        };
        assert!(run(vec![]).contains("tasks is empty"));
        assert!(run(vec!["nothing".into()]).contains("bio_topic"));
    }
}
