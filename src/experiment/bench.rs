//! How a run is done: versions and weights are loaded, a model is tuned or distilled, and scored on test.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tch::Device;

use super::baselines::{self, Baseline};
use super::lineages::Site;
use super::plan::{BAG_OF_WORDS, MAJORITY, UNTRAINED};
use super::profile::{MethodPlan, Profile};
use super::results::{DevPoint, Lesson, Recipe, Run, RunKey, Start, commit};
use crate::display::Progress;
use crate::lineage::Lineage;
use crate::model::{Adapted, Version};
use crate::recycle::{Combined, Distill, DistillConfig, Init, Recycle, Upgrade};
use crate::seed;
use crate::text::{Example, Task, TaskData, Text};
use crate::train::{self, Metric, TuneConfig, TuneRun, evaluate, tune};

/// Versions that a worker keeps: a run needs two of them, and their number must not grow with that of lineages and upgrades.
const KEPT: usize = 4;

/// What a worker keeps between its runs.
pub(crate) struct Bench<'a> {
    sites: &'a [Site],
    /// By data, lineage and name, the one that was asked for last at the end.
    versions: Vec<((String, usize, String), Version)>,
    pub(super) device: Device,
}

/// Which test texts a model gets right, and how well it does.
struct Scored {
    accuracy: f64,
    macro_f1: f64,
    answers: String,
}

impl<'a> Bench<'a> {
    pub fn new(sites: &'a [Site], device: Device) -> Bench<'a> {
        Bench { sites, versions: Vec::new(), device }
    }

    pub(super) fn site(&self, data: &str) -> Result<&'a Site> {
        self.sites.iter().find(|site| site.plan.name == data).with_context(|| format!("the run has no data {data}"))
    }

    /// Loads a version where it is not there, in the place of the one that was not asked for the longest.
    pub(super) fn have(&mut self, data: &str, lineage: usize, name: &str) -> Result<()> {
        let key = (data.to_string(), lineage, name.to_string());
        let kept = match self.versions.iter().position(|(other, _)| *other == key) {
            Some(at) => self.versions.remove(at),
            None => {
                self.versions.drain(..(self.versions.len() + 1).saturating_sub(KEPT));
                (key, self.site(data)?.lineage(lineage)?.version(name)?)
            }
        };
        self.versions.push(kept);
        Ok(())
    }

    pub(super) fn version(&self, data: &str, lineage: usize, name: &str) -> Result<&Version> {
        let key = (data.to_string(), lineage, name.to_string());
        let found = self.versions.iter().find(|(other, _)| *other == key).map(|(_, version)| version);
        found.with_context(|| format!("version {name} was not loaded"))
    }

    /// Does one run.
    pub fn perform(&mut self, key: &RunKey) -> Result<Run> {
        let clock = Instant::now();
        let site = self.site(&key.data)?;
        if [BAG_OF_WORDS, MAJORITY].contains(&key.method.as_str()) {
            let scored = count_words(site, key)?;
            return Ok(row(key, scored, None, clock));
        }
        let wanted = [Some(&key.recipe.version), key.recipe.source.as_ref().map(|source| &source.version)];
        for name in wanted.into_iter().flatten() {
            self.have(&key.data, key.lineage, name)?;
        }
        let lineage = site.lineage(key.lineage)?;
        let base = self.version(&key.data, key.lineage, &key.recipe.version)?;
        let task = site.materials.task(&key.task)?;
        let config = site.tuning(key)?;
        let source = self.source(key, lineage)?;
        if key.recipe.lesson == Lesson::Nothing {
            let source = source.context("a run that neither learns nor has weights")?;
            return Ok(row(key, self.score(base, task, &source, &config)?, None, clock));
        }
        let tuned = match (&source, key.recipe.shots) {
            (_, Some(shots)) => {
                let few = task.few_shot(shots, sampling_seed(&site.plan.profile, key))?;
                self.student(site, key, source.as_ref(), base, task, &few, &config)?
            }
            (source, None) => {
                let start = source.as_ref().map_or(train::Start::Fresh, train::Start::Recycled);
                tune(base, task, start, &config, self.device, &Progress::silent())?
            }
        };
        if keeps(key) {
            lineage.save_adapted(&key.recipe.version, &key.weights(), &tuned.best)?;
        }
        let scored = self.score(base, task, &tuned.best, &config)?;
        Ok(row(key, scored, Some((&tuned, &config)), clock))
    }

    /// The outdated weights that take part in a run, treated as it asks.
    fn source(&self, key: &RunKey, lineage: &Lineage) -> Result<Option<Adapted>> {
        let Some(source) = &key.recipe.source else { return Ok(None) };
        let start = if key.recipe.start == Start::RecycledDelta { Start::Delta } else { Start::Fresh };
        let recipe = Recipe::conventional(&source.version).from(start);
        let tuned = RunKey { task: source.task.clone(), recipe, ..key.clone() };
        let delta = lineage.adapted(&source.version, &tuned.weights())?;
        let shrink = self.site(&key.data)?.plan.profile.shrink;
        Ok(Some(match key.recipe.start {
            Start::ShrunkDelta => delta.scaled(shrink)?,
            Start::HeadOnly => delta.head_only()?,
            Start::RandomDelta => delta.random_like(tuning_seed(&self.site(&key.data)?.plan.profile, key))?,
            _ => delta,
        }))
    }

    #[allow(clippy::too_many_arguments, reason = "a student has a teacher, a base, a task and its few examples")]
    fn student(
        &self,
        site: &Site,
        key: &RunKey,
        source: Option<&Adapted>,
        base: &Version,
        task: &Task,
        few: &Task,
        config: &TuneConfig,
    ) -> Result<TuneRun> {
        let plan = &site.plan.profile.few_shot;
        let Some(outdated) = source else {
            return tune(base, few, train::Start::Fresh, config, self.device, &Progress::silent());
        };
        let version = key.recipe.source.as_ref().map_or("M0", |source| source.version.as_str());
        let old = self.version(&key.data, key.lineage, version)?;
        let (distill, unlabelled): (&DistillConfig, Vec<Text>) = match key.recipe.lesson {
            Lesson::Logits => (&plan.logits, Vec::new()),
            Lesson::AllTokens => (&plan.all_tokens, Vec::new()),
            Lesson::Unlabelled => (&plan.logits, task.train.iter().map(Text::from).collect()),
            Lesson::Published | Lesson::Labels | Lesson::Nothing => (&plan.published, Vec::new()),
        };
        let distill = distill.clone();
        let way: Box<dyn Recycle> = match (key.recipe.start, key.recipe.lesson) {
            (Start::Delta, Lesson::Labels) => Box::new(Init),
            (Start::Delta, _) => Box::new(Combined { distill, unlabelled }),
            (_, _) => Box::new(Distill { distill, unlabelled }),
        };
        way.recycle(Upgrade { old, outdated, new: base }, few, config, self.device, &Progress::silent())
    }

    /// Scores weights on the test texts of a task.
    fn score(&self, base: &Version, task: &Task, weights: &Adapted, config: &TuneConfig) -> Result<Scored> {
        let model = weights.apply(base, self.device)?.with_precision(config.precision);
        let data = TaskData::new(&task.test, &base.tokenizer, config.max_length)?;
        let evaluation = evaluate(&model, &data)?;
        Ok(Scored {
            accuracy: evaluation.scores.accuracy,
            macro_f1: evaluation.scores.macro_f1,
            answers: answers(evaluation.right(&data)),
        })
    }
}

impl Site {
    /// A method's settings.
    pub(super) fn method(&self, name: &str) -> Result<&MethodPlan> {
        let methods = &self.plan.profile.methods;
        let found = methods.iter().find(|plan| plan.full_data.method.name() == name);
        found.with_context(|| format!("the profile has no method {name}"))
    }

    /// How a run is tuned: its budget, its learning rate, its random numbers.
    fn tuning(&self, key: &RunKey) -> Result<TuneConfig> {
        let (profile, plan) = (&self.plan.profile, self.method(&key.method)?);
        let config = if key.recipe.shots.is_some() { &plan.few_shot } else { &plan.full_data };
        let factor = profile.rates.get(key.recipe.rate).context("the profile has no such learning rate")?;
        let mut config = TuneConfig { seed: tuning_seed(profile, key), precision: profile.precision, ..config.clone() };
        config.optimisation.learning_rate *= factor;
        if key.recipe.rate > 0 {
            config.optimisation.steps = (config.optimisation.steps as f64 * profile.further_updates).round() as usize;
        }
        Ok(config)
    }
}

/// Everything random in tuning: head, modules, order, dropout. Runs on one version share it, so that ways of recycling are compared
/// on equal draws; runs on another version do not, so that no student starts from the head that its teacher or its source started
/// from. Coupled runs take those of M_0 on purpose.
pub(super) fn tuning_seed(profile: &Profile, key: &RunKey) -> u64 {
    let version = if key.recipe.start == Start::Coupled { "M0" } else { key.recipe.version.as_str() };
    let RunKey { data, lineage, seed, task, .. } = key;
    seed::derive(profile.seed, &format!("tuning {data} l{lineage} s{seed} {task} {version}"))
}

/// Which few examples are drawn: the same on every version, by every method and in every way.
fn sampling_seed(profile: &Profile, key: &RunKey) -> u64 {
    let RunKey { data, lineage, seed, task, .. } = key;
    seed::derive(profile.seed, &format!("sample {data} l{lineage} s{seed} {task}"))
}

/// Whether the weights of a run are kept: others start from them, learn from them, or are compared with them.
pub(super) fn keeps(key: &RunKey) -> bool {
    let Recipe { start, source, lesson, shots, rate, .. } = &key.recipe;
    let own = source.as_ref().is_none_or(|source| source.task == key.task && source.version == "M0");
    let network = ![BAG_OF_WORDS, MAJORITY].contains(&key.method.as_str()) && key.recipe.version != UNTRAINED;
    let kept = matches!(start, Start::Fresh | Start::Coupled | Start::Delta);
    network && own && kept && *lesson == Lesson::Labels && shots.is_none() && *rate == 0
}

fn row(key: &RunKey, scored: Scored, tuned: Option<(&TuneRun, &TuneConfig)>, clock: Instant) -> Run {
    let curve = tuned.map_or(Vec::new(), |(run, _)| run.scores(Metric::Accuracy));
    let best_at = tuned.map_or(0, |(run, _)| run.best_step);
    Run {
        key: key.clone(),
        split: "test".to_string(),
        n: scored.answers.len(),
        accuracy: scored.accuracy,
        macro_f1: scored.macro_f1,
        answers: scored.answers,
        dev_accuracy: curve.iter().find(|(step, _)| *step == best_at).map(|(_, accuracy)| *accuracy),
        curve: curve.into_iter().map(|(updates, accuracy)| DevPoint { updates, accuracy }).collect(),
        learning_rate: tuned.map(|(_, config)| config.optimisation.learning_rate),
        updates: tuned.map_or(0, |(_, config)| config.optimisation.steps),
        best_at,
        seconds: clock.elapsed().as_secs_f64(),
        commit: commit(),
    }
}

/// A character for every text: 1 where it is right, else 0.
pub(super) fn answers(right: impl IntoIterator<Item = bool>) -> String {
    right.into_iter().map(|right| if right { '1' } else { '0' }).collect()
}

/// A classifier without a network, on all labels or on the few examples that students are given.
fn count_words(site: &Site, key: &RunKey) -> Result<Scored> {
    let task = site.materials.task(&key.task)?;
    let texts = |examples: &[Example]| -> Vec<(String, usize)> {
        let join = |e: &Example| match &e.text_pair {
            Some(second) => format!("{} {second}", e.text),
            None => e.text.clone(),
        };
        examples.iter().map(|example| (join(example), example.label)).collect()
    };
    let train = match key.recipe.shots {
        Some(shots) => texts(&task.few_shot(shots, sampling_seed(&site.plan.profile, key))?.train),
        None => texts(&task.train),
    };
    let (test, classes) = (texts(&task.test), task.num_labels());
    let Baseline { accuracy, predictions } = match key.method.as_str() {
        MAJORITY => baselines::majority(&train, &test, classes)?,
        _ => baselines::bag_of_words(&train, &test, classes)?,
    };
    let truth: Vec<usize> = task.test.iter().map(|example| example.label).collect();
    ensure!(truth.len() == predictions.len(), "a classifier answered {} of {} texts", predictions.len(), truth.len());
    Ok(Scored {
        accuracy,
        macro_f1: train::macro_f1(&truth, &predictions),
        answers: answers(truth.iter().zip(&predictions).map(|(truth, said)| truth == said)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fresh_head;

    fn key(task: &str, recipe: Recipe) -> RunKey {
        RunKey { data: "world-0".into(), lineage: 0, seed: 0, task: task.into(), method: "full".into(), recipe }
    }

    #[test]
    fn a_student_never_starts_from_the_head_that_its_teacher_or_source_started_from() -> Result<()> {
        let profile = Profile::world();
        let tokenizer = crate::text::Tokenizer::word_level(&["a", "b"])?;
        let version = crate::model::Version::new(&crate::model::EncoderConfig::tiny(50, 16, 10), &tokenizer, 0)?;
        let labels: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let head = |key: &RunKey| fresh_head(&version, &labels, tuning_seed(&profile, key))?.fingerprint();
        let source = head(&key("bio_topic", Recipe::conventional("M0")))?;
        let similar = head(&key("bio_field", Recipe::conventional("M0")))?;
        let student = head(&key("bio_topic", Recipe::conventional("M1")))?;
        assert!(source != student && similar != student && source != similar);
        assert_eq!(source, head(&key("bio_topic", Recipe::coupled("M1")))?, "coupled on purpose");
        // Ways on one version are compared on equal draws; another lineage draws anew.
        let few = Recipe::few_shot("M1", "bio_topic", Start::Fresh, Lesson::Published, 8);
        assert_eq!(student, head(&key("bio_topic", few))?);
        assert_ne!(student, head(&RunKey { lineage: 1, ..key("bio_topic", Recipe::conventional("M1")) })?);
        Ok(())
    }

    #[test]
    fn weights_of_another_task_or_rate_are_not_kept_over_those_of_the_task() {
        let init = Recipe::initialized("M1", "bio_topic");
        assert!(keeps(&key("bio_topic", init.clone())) && keeps(&key("bio_topic", Recipe::coupled("M1"))));
        assert!(!keeps(&key("bio_topic", Recipe::initialized("M1", "bio_field"))));
        assert!(!keeps(&key("bio_topic", init.clone().at_rate(1))) && !keeps(&key("bio_topic", init.tuned_on("M1"))));
        let student = Recipe::few_shot("M1", "bio_topic", Start::Delta, Lesson::Labels, 8);
        assert!(!keeps(&key("bio_topic", student)) && !keeps(&key("bio_topic", Recipe::applied("M1", "bio_topic"))));
    }
}
