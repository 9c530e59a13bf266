//! How a run is done: versions and weights are loaded, a model is tuned or distilled, and scored on test.

use std::collections::HashMap;

use anyhow::{Context, Result};
use tch::Device;

use super::baselines::{self, Baseline};
use super::materials::Materials;
use super::profile::{MethodPlan, Profile};
use super::runs::{INDEPENDENT, Outcome, Run, Source, UNTRAINED, Way, What, adapted_id, tuning_seed, version_name};
use crate::display::Progress;
use crate::lineage::Lineage;
use crate::model::{Adapted, Model, Version};
use crate::recycle::{Combined, Distill, Init, Recycle, Upgrade};
use crate::text::{Example, Task, TaskData, Text};
use crate::train::{Metric, Start, TuneConfig, TuneRun, evaluate, tune};

/// What a worker keeps between its runs.
pub(crate) struct Bench<'a> {
    pub(super) profile: &'a Profile,
    pub(super) materials: &'a Materials,
    pub(super) lineages: Vec<Lineage>,
    versions: HashMap<(usize, String), Version>,
    /// By task, what classifiers without a random choice say when they know all labels: the same for every seed.
    all_labels: HashMap<String, [(&'static str, Baseline); 2]>,
    pub(super) device: Device,
}

impl<'a> Bench<'a> {
    pub fn new(profile: &'a Profile, materials: &'a Materials, lineages: Vec<Lineage>, device: Device) -> Bench<'a> {
        Bench { profile, materials, lineages, versions: HashMap::new(), all_labels: HashMap::new(), device }
    }

    /// Loads the versions a run needs, once.
    pub(super) fn have(&mut self, lineage: usize, names: &[String]) -> Result<()> {
        for name in names {
            let key = (lineage, name.clone());
            if !self.versions.contains_key(&key) {
                let version = self.lineages[lineage].version(name)?;
                self.versions.insert(key, version);
            }
        }
        Ok(())
    }

    pub(super) fn version(&self, lineage: usize, name: &str) -> Result<&Version> {
        self.versions.get(&(lineage, name.to_string())).with_context(|| format!("version {name} was not loaded"))
    }

    fn plan(&self, run: &Run) -> &MethodPlan {
        &self.profile.methods[run.method]
    }

    /// The configuration with this run's random numbers: equal for equal seeds, whatever the version or way.
    fn seeded(&self, run: &Run, config: &TuneConfig) -> TuneConfig {
        TuneConfig { seed: self.run_seed(run), precision: self.profile.precision, ..config.clone() }
    }

    fn run_seed(&self, run: &Run) -> u64 {
        self.seed_of(run.seed)
    }

    /// The random numbers of a repetition.
    pub(super) fn seed_of(&self, seed: usize) -> u64 {
        tuning_seed(self.profile, seed)
    }

    fn outdated(&self, run: &Run, task: &str) -> Result<Adapted> {
        self.lineages[run.lineage].adapted("M0", &adapted_id(run.seed, run.method_name, task, "conventional"))
    }

    /// Does one run.
    pub fn perform(&mut self, run: &Run) -> Result<Outcome> {
        let clock = std::time::Instant::now();
        let last = self.materials.upgrades.len();
        let needed: Vec<String> = match &run.what {
            What::Outdated => (0..=last).map(version_name).chain([INDEPENDENT.to_string()]).collect(),
            What::Control => vec![INDEPENDENT.to_string()],
            What::Untrained => vec![UNTRAINED.to_string()],
            What::BagOfWords => Vec::new(),
            What::Conventional { target } | What::Init { target, .. } => vec![version_name(*target)],
            What::FewShot { target, .. } => vec![version_name(0), version_name(*target)],
        };
        self.have(run.lineage, &needed)?;
        let mut outcome = match &run.what {
            What::Outdated => self.tune_outdated(run, &needed)?,
            What::Control => self.full_data(run, INDEPENDENT, None)?,
            What::Untrained => self.full_data(run, UNTRAINED, None)?,
            What::Conventional { target } => self.full_data(run, &version_name(*target), None)?,
            What::Init { target, from } => {
                let first = |kind| {
                    self.lineages[run.lineage].adapted("M1", &adapted_id(run.seed, run.method_name, &run.task, kind))
                };
                let source = match from {
                    Source::Outdated { task } => self.outdated(run, task)?,
                    Source::ConventionalOnFirst => first("conventional")?,
                    Source::RecycledOnFirst => first("recycled")?,
                };
                self.full_data(run, &version_name(*target), Some(&source))?
            }
            What::FewShot { target, way } => self.few_shot(run, *target, *way)?,
            What::BagOfWords => self.bag_of_words(run)?,
        };
        outcome.seconds = clock.elapsed().as_secs_f64();
        Ok(outcome)
    }

    fn tune_outdated(&self, run: &Run, versions: &[String]) -> Result<Outcome> {
        let task = self.materials.task(&run.task)?;
        let config = self.seeded(run, &self.plan(run).full_data);
        let base = self.version(run.lineage, "M0")?;
        let tuned = tune(base, task, Start::Fresh, &config, self.device, &Progress::silent())?;
        self.keep(run, &tuned.best)?;
        let mut outcome = Outcome { curve: tuned.scores(Metric::Accuracy), ..Outcome::default() };
        for name in versions {
            let model =
                tuned.best.apply(self.version(run.lineage, name)?, self.device)?.with_precision(config.precision);
            self.test(&mut outcome, name, task, &model, &config)?;
        }
        Ok(outcome)
    }

    fn keep(&self, run: &Run, weights: &Adapted) -> Result<()> {
        let Some((version, id)) = run.keeps() else { return Ok(()) };
        self.lineages[run.lineage].save_adapted(&version, &id, weights)
    }

    fn full_data(&self, run: &Run, target: &str, source: Option<&Adapted>) -> Result<Outcome> {
        let task = self.materials.task(&run.task)?;
        let config = self.seeded(run, &self.plan(run).full_data);
        let start = source.map_or(Start::Fresh, Start::Recycled);
        let base = self.version(run.lineage, target)?;
        let tuned = tune(base, task, start, &config, self.device, &Progress::silent())?;
        self.keep(run, &tuned.best)?;
        self.finish(base, task, &tuned, &config)
    }

    fn few_shot(&self, run: &Run, target: usize, way: Way) -> Result<Outcome> {
        let task = self.materials.task(&run.task)?;
        let few = task.few_shot(self.profile.few_shot.shots, self.run_seed(run))?;
        let config = self.seeded(run, &self.plan(run).few_shot);
        let (old, new) = (self.version(run.lineage, "M0")?, self.version(run.lineage, &version_name(target))?);
        let outdated = self.outdated(run, &run.task)?;
        let plan = &self.profile.few_shot;
        let none = Vec::new;
        let method: Box<dyn Recycle> = match way {
            Way::LabelsOnly => {
                let tuned = tune(new, &few, Start::Fresh, &config, self.device, &Progress::silent())?;
                return self.finish(new, &few, &tuned, &config);
            }
            Way::Init => Box::new(Init),
            Way::Distilled => Box::new(Distill { distill: plan.published.clone(), unlabelled: none() }),
            Way::Combined => Box::new(Combined { distill: plan.published.clone(), unlabelled: none() }),
            Way::Logits => Box::new(Distill { distill: plan.logits.clone(), unlabelled: none() }),
            Way::AllTokens => Box::new(Distill { distill: plan.all_tokens.clone(), unlabelled: none() }),
            Way::Unlabelled => {
                let texts = task.train.iter().map(Text::from).collect();
                Box::new(Distill { distill: plan.logits.clone(), unlabelled: texts })
            }
        };
        let upgrade = Upgrade { old, outdated: &outdated, new };
        let tuned = method.recycle(upgrade, &few, &config, self.device, &Progress::silent())?;
        self.finish(new, &few, &tuned, &config)
    }

    fn bag_of_words(&mut self, run: &Run) -> Result<Outcome> {
        let task = self.materials.task(&run.task)?;
        let few = task.few_shot(self.profile.few_shot.shots, self.run_seed(run))?;
        let texts = |examples: &[Example]| -> Vec<(String, usize)> {
            let join = |e: &Example| match &e.text_pair {
                Some(second) => format!("{} {second}", e.text),
                None => e.text.clone(),
            };
            examples.iter().map(|example| (join(example), example.label)).collect()
        };
        let (test, classes) = (texts(&task.test), task.num_labels());
        if !self.all_labels.contains_key(&run.task) {
            let train = texts(&task.train);
            let known = [
                ("all labels", baselines::bag_of_words(&train, &test, classes)?),
                ("majority", baselines::majority(&train, &test, classes)?),
            ];
            self.all_labels.insert(run.task.clone(), known);
        }
        let few = [("test", baselines::bag_of_words(&texts(&few.train), &test, classes)?)];
        let truth: Vec<usize> = task.test.iter().map(|example| example.label).collect();
        let mut outcome = Outcome::default();
        for (name, baseline) in few.iter().chain(&self.all_labels[&run.task]) {
            outcome.accuracy.insert(name.to_string(), baseline.accuracy);
            outcome.macro_f1.insert(name.to_string(), crate::train::macro_f1(&truth, &baseline.predictions));
        }
        Ok(outcome)
    }

    /// Scores the best model of a run on test.
    fn finish(&self, base: &Version, task: &Task, tuned: &TuneRun, config: &TuneConfig) -> Result<Outcome> {
        let mut outcome = Outcome { curve: tuned.scores(Metric::Accuracy), ..Outcome::default() };
        let model = tuned.best.apply(base, self.device)?.with_precision(config.precision);
        self.test(&mut outcome, "test", task, &model, config)?;
        Ok(outcome)
    }

    fn test(&self, outcome: &mut Outcome, name: &str, task: &Task, model: &Model, config: &TuneConfig) -> Result<()> {
        let data = TaskData::new(&task.test, &self.materials.tokenizer, config.max_length)?;
        let evaluation = evaluate(model, &data)?;
        let right = evaluation.predictions.iter().zip(&task.test).map(|(&said, example)| said == example.label);
        outcome.accuracy.insert(name.to_string(), evaluation.scores.accuracy);
        outcome.macro_f1.insert(name.to_string(), evaluation.scores.macro_f1);
        outcome.right.insert(name.to_string(), right.collect());
        Ok(())
    }
}
