//! Further studies of a finished run: what `reproduce` does not do by default.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::materials::Materials;
use super::perform::opened;
use super::plan::{Place, shown, version_name};
use super::pretraining::upgrade_config;
use super::profile::Profile;
use super::results::{Recipe, Start};
use crate::analysis::{
    AttentionMaps, Curve, CurveConfig, Distances, HeadSimilarity, InsideUpgrade, LayerSimilarity, ModePath, Plane,
    PlaneConfig, ScaleSearch, Triangle, Tuned, angle_to_upgrade, attention_maps, distance, head_similarity,
    hidden_state_similarity, linear_path, plane, scale_search, train_curve, triangle,
};
use crate::device::Precision;
use crate::display::Progress;
use crate::lineage::Lineage;
use crate::model::{Adapted, Version};
use crate::text::{Example, Task, TaskData};
use crate::train::pretrain_observed;

/// One tuned family of a finished run: a lineage, a task, a tuning method and a seed.
#[derive(Debug)]
pub struct Studies {
    profile: Profile,
    materials: Materials,
    lineage: Lineage,
    place: Place,
    task: String,
    method: &'static str,
    device: Device,
}

/// Which tuned family of a run is studied. What is left out becomes the run's first.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// A task of the profile.
    pub task: Option<String>,
    /// A tuning method: `full`, `adapter`, …
    pub method: Option<String>,
    /// The number of a seed, from 0.
    pub seed: usize,
    /// The number of a lineage, from 0.
    pub lineage: usize,
}

/// A tuned version, loaded.
#[derive(Debug)]
struct Loaded {
    version: Version,
    adapted: Adapted,
    precision: Precision,
}

impl Loaded {
    fn tuned(&self) -> Tuned<'_> {
        Tuned::new(&self.version, &self.adapted).with_precision(self.precision)
    }
}

impl Studies {
    /// Opens the folder of a run of `reproduce`.
    ///
    /// Errors: another folder, a task, method, seed or lineage that the run does not have.
    pub fn open(run: &Path, chosen: &Chosen, device: Device) -> Result<Studies> {
        let (profile, site) = opened(run)?;
        let names = profile.method_names();
        let wanted = chosen.method.as_deref().unwrap_or(names[0]);
        let method = names.iter().copied().find(|known| *known == wanted);
        let method = method.with_context(|| format!("the run has no method {wanted}: it has {}", names.join(", ")))?;
        let tasks: Vec<&str> = profile.tasks.iter().map(|task| task.name.as_str()).collect();
        let task = chosen.task.clone().unwrap_or_else(|| tasks[0].to_string());
        ensure!(tasks.contains(&task.as_str()), "the run has no task {task}: it has {}", tasks.join(", "));
        ensure!(chosen.seed < profile.seeds, "the run has {} seeds, numbered from 0", profile.seeds);
        ensure!(chosen.lineage < profile.lineages, "the run has {} lineages, numbered from 0", profile.lineages);
        let place = Place { data: site.plan.name.clone(), lineage: chosen.lineage, seed: chosen.seed };
        let lineage = Lineage::existing(run.join(site.plan.lineage_folder(chosen.lineage)))?;
        Ok(Studies { profile, materials: site.materials, lineage, place, task, method, device })
    }

    /// Where this family's results go: families do not overwrite each other.
    pub fn folder(&self, run: &Path) -> PathBuf {
        let Place { lineage, seed, .. } = self.place;
        run.join("studies").join(format!("{}.{}.s{seed}.l{lineage}", self.task, self.method))
    }

    /// Updates of one upgrade.
    pub fn upgrade_steps(&self) -> usize {
        self.profile.upgrade.optimisation.steps
    }

    /// The task that is studied.
    pub fn task(&self) -> Result<&Task> {
        self.materials.task(&self.task)
    }

    /// What is studied, for captions.
    pub fn basis(&self) -> String {
        let Place { lineage, seed, .. } = self.place;
        format!("Task {}, {}, seed {seed}, lineage {lineage}.", self.task, self.method)
    }

    /// M0 to the last version.
    pub fn versions(&self) -> Vec<String> {
        (0..=self.materials.upgrades.len()).map(version_name).collect()
    }

    fn encode(&self, examples: &[Example]) -> Result<TaskData> {
        let plans = self.profile.methods.iter().map(|plan| &plan.full_data);
        let plan = plans.into_iter().find(|plan| plan.method.name() == self.method);
        let length = plan.context("the profile has lost a method")?.max_length;
        TaskData::new(examples, &self.materials.tokenizer, length)
    }

    fn dev(&self, texts: usize) -> Result<TaskData> {
        let dev = &self.task()?.dev;
        self.encode(&dev[..texts.clamp(1, dev.len())])
    }

    fn test(&self) -> Result<TaskData> {
        self.encode(&self.task()?.test)
    }

    /// A version with the weights tuned on it: `M0`, `M1`, `IND`; those of later versions are coupled to M_0's (drawn by the same random
    /// numbers) where the run has such ones. `M1+uncoupled` are those that are not, `M1+recycled` those started from Δ_0, `M1+seed1` those
    /// of another seed.
    fn load(&self, name: &str) -> Result<Loaded> {
        let (version, how) = name.split_once('+').unwrap_or((name, "coupled"));
        let (seed, how) = match how.strip_prefix("seed") {
            Some(seed) => (seed.parse().with_context(|| format!("{name}: the seed is not a number"))?, "coupled"),
            None => (self.place.seed, how),
        };
        let place = Place { seed, ..self.place.clone() };
        let weights = |start| place.run(&self.task, self.method, Recipe::conventional(version).from(start)).weights();
        let start = match how {
            "coupled" if self.lineage.has_adapted(version, &weights(Start::Coupled)) => Start::Coupled,
            "coupled" | "uncoupled" => Start::Fresh,
            "recycled" => Start::Delta,
            _ => anyhow::bail!("{name}: what follows + is recycled, uncoupled or seedN"),
        };
        let adapted = self.lineage.adapted(version, &weights(start));
        let adapted = adapted.with_context(|| format!("{name} cannot be studied: has the run been finished?"))?;
        Ok(Loaded { version: self.lineage.version(version)?, adapted, precision: self.profile.precision })
    }

    /// Δ_i of every version on every later one, on test.
    pub fn triangle(&self) -> Result<Triangle> {
        let names = self.versions();
        let loaded = names.iter().map(|name| self.load(name)).collect::<Result<Vec<_>>>()?;
        let tuned: Vec<Tuned> = loaded.iter().map(Loaded::tuned).collect();
        let shown: Vec<String> = names.iter().map(|name| shown(name)).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        triangle(&shown, &tuned, &self.test()?, Task::majority_share(&self.task()?.test), self.device)
    }

    /// Δ_{to−1} along the inside of the upgrade to version `to`, at `points` equally spaced moments besides the start, on test. The
    /// upgrade's pre-training is done again, from the same seed and on as many threads.
    pub fn inside(&self, to: usize, points: usize, progress: &Progress) -> Result<InsideUpgrade> {
        let last = self.materials.upgrades.len();
        ensure!((1..=last).contains(&to), "there is no upgrade to M{to}: the run has M1 to M{last}");
        let name = version_name(to);
        let config = upgrade_config(&self.profile, self.place.lineage, &name);
        let steps = config.optimisation.steps;
        ensure!((1..=steps).contains(&points), "{points} points do not fit into an upgrade of {steps} updates");
        let old = self.load(&version_name(to - 1))?;
        let test = self.test()?;
        let at: Vec<usize> = (0..=points).map(|point| point * steps / points).collect();
        let mut inside = InsideUpgrade { points: Vec::new(), is_stored_version: false, chance: test.majority_share() };
        // Another number of threads adds up in another order, which training blows up to other weights.
        if let Some(threads) = self.lineage.record(&name)?.recipe["threads"].as_i64() {
            tch::set_num_threads(threads as i32);
        }
        let observe =
            |step: usize, version: &Version| inside.push(step, Tuned { version, ..old.tuned() }, &test, self.device);
        let corpus = &self.materials.upgrades[to - 1];
        let run = pretrain_observed(&old.version, corpus, &config, self.device, None, progress, &at, observe)?;
        inside.is_stored_version = run.version.fingerprint()? == self.lineage.record(&name)?.fingerprint;
        Ok(inside)
    }

    /// α·Δ_0 on version `to`, the best α by line search on dev.
    pub fn scale(&self, to: &str, alphas: &[f64]) -> Result<ScaleSearch> {
        let (old, version) = (self.load("M0")?, self.lineage.version(to)?);
        let moved = Tuned { version: &version, ..old.tuned() };
        scale_search(moved, alphas, &self.dev(usize::MAX)?, &self.test()?, self.device)
    }

    /// The straight path between two tuned versions, on dev and test.
    pub fn path(&self, from: &str, to: &str, points: usize) -> Result<ModePath> {
        let (a, b) = (self.load(from)?, self.load(to)?);
        let (dev, test) = (self.dev(usize::MAX)?, self.test()?);
        let splits = [("dev", &dev), ("test", &test)];
        Ok(linear_path(a.tuned(), b.tuned(), points, &splits, self.device)?.named(shown(from), shown(to)))
    }

    /// A trained curve between two tuned versions, on dev and test.
    pub fn curve(
        &self,
        from: &str,
        to: &str,
        config: &CurveConfig,
        points: usize,
        progress: &Progress,
    ) -> Result<(Curve, ModePath)> {
        let (a, b) = (self.load(from)?, self.load(to)?);
        let (train, dev, test) = (self.encode(&self.task()?.train)?, self.dev(usize::MAX)?, self.test()?);
        let curve = train_curve(a.tuned(), b.tuned(), &train, config, self.device, progress)?;
        let way = curve.path(points, &[("dev", &dev), ("test", &test)])?.named(shown(from), shown(to));
        Ok((curve, way))
    }

    /// The plane through three tuned versions, on so many dev texts.
    pub fn plane(&self, names: [&str; 3], config: &PlaneConfig, texts: usize) -> Result<Plane> {
        let loaded = [self.load(names[0])?, self.load(names[1])?, self.load(names[2])?];
        let dev = self.dev(texts)?;
        let found = plane(loaded.each_ref().map(Loaded::tuned), config, ("dev", &dev), self.device)?;
        let names = names.map(shown);
        Ok(found.named(names.each_ref().map(String::as_str)))
    }

    /// Attention heads and hidden states of two tuned versions, on so many dev texts.
    pub fn heads(&self, from: &str, to: &str, texts: usize) -> Result<(HeadSimilarity, LayerSimilarity)> {
        let (a, b) = (self.load(from)?.tuned().model(self.device)?, self.load(to)?.tuned().model(self.device)?);
        let dev = self.dev(texts)?;
        Ok((head_similarity(&a, &b, &dev)?, hidden_state_similarity(&a, &b, &dev)?))
    }

    /// Where the heads of a tuned version look in a sentence.
    pub fn attention(&self, name: &str, sentence: &str) -> Result<AttentionMaps> {
        attention_maps(&self.load(name)?.tuned().model(self.device)?, &self.materials.tokenizer, sentence)
    }

    /// Distances between two versions, between what was tuned on each, and between Δ of the first and the way to the second.
    pub fn distances(&self, from: &str, to: &str) -> Result<VersionDistances> {
        let (a, b) = (self.load(from)?, self.load(to)?);
        let (old, new) = (&a.version.backbone, &b.version.backbone);
        let deltas = match ((&a.adapted.backbone, &b.adapted.backbone), (&a.adapted.modules, &b.adapted.modules)) {
            ((Some(a), Some(b)), _) => Some(distance(a, b)?),
            (_, (Some(a), Some(b))) => Some(distance(a, b)?),
            _ => None,
        };
        let delta_and_upgrade =
            a.adapted.backbone.as_ref().map(|delta| angle_to_upgrade(delta, old, new)).transpose()?;
        Ok(VersionDistances { versions: distance(old, new)?, deltas, delta_and_upgrade })
    }
}

/// How far apart two tuned versions are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionDistances {
    /// Between the versions themselves.
    pub versions: Distances,
    /// Between the two Δ, or the two sets of modules.
    pub deltas: Option<Distances>,
    /// Between Δ of the first and the way to the second, where Δ moves the backbone.
    pub delta_and_upgrade: Option<Distances>,
}
