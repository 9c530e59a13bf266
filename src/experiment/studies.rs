//! Further studies of a finished run: what `reproduce` does not do by default.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::materials::Materials;
use super::pilots::shown;
use super::pretraining::upgrade_config;
use super::profile::Profile;
use super::reproduce::checked_inputs;
use super::runs::{adapted_id, version_name};
use crate::analysis::{
    AttentionMaps, Curve, CurveConfig, Distances, HeadSimilarity, InsideUpgrade, LayerSimilarity, ModePath, Plane,
    PlaneConfig, ScaleSearch, Triangle, Tuned, angle_to_upgrade, attention_maps, distance, head_similarity,
    hidden_state_similarity, linear_path, plane, scale_search, train_curve, triangle,
};
use crate::device::Precision;
use crate::display::Progress;
use crate::files::read_json;
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
    lineage_index: usize,
    task: String,
    method: usize,
    seed: usize,
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
        let path = run.join("profile.json");
        ensure!(
            path.is_file(),
            "{} is not the folder of a run (it has no profile.json): `recyclable reproduce --out DIR` makes one",
            run.display()
        );
        let profile: Profile = read_json(&path)?;
        profile.validate().with_context(|| path.display().to_string())?;
        let materials = Materials::of(&profile)?;
        checked_inputs(&materials, run)?;
        let names = profile.method_names();
        let method = match &chosen.method {
            None => 0,
            Some(name) => names
                .iter()
                .position(|known| known == name)
                .with_context(|| format!("the run has no method {name}: it has {}", names.join(", ")))?,
        };
        let tasks: Vec<&str> = profile.tasks.iter().map(|task| task.name.as_str()).collect();
        let task = chosen.task.clone().unwrap_or_else(|| tasks[0].to_string());
        ensure!(tasks.contains(&task.as_str()), "the run has no task {task}: it has {}", tasks.join(", "));
        ensure!(chosen.seed < profile.seeds, "the run has {} seeds, numbered from 0", profile.seeds);
        ensure!(chosen.lineage < profile.lineages, "the run has {} lineages, numbered from 0", profile.lineages);
        let lineage = Lineage::existing(run.join(format!("lineage-{}", chosen.lineage)))?;
        let (seed, lineage_index) = (chosen.seed, chosen.lineage);
        Ok(Studies { profile, materials, lineage, lineage_index, task, method, seed, device })
    }

    /// Where this family's results go: families do not overwrite each other.
    pub fn folder(&self, run: &Path) -> PathBuf {
        let method = self.profile.method_names()[self.method];
        run.join("studies").join(format!("{}.{method}.s{}.l{}", self.task, self.seed, self.lineage_index))
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
        let method = self.profile.method_names()[self.method];
        format!("Task {}, {method}, seed {}, lineage {}.", self.task, self.seed, self.lineage_index)
    }

    /// M0 to the last version.
    pub fn versions(&self) -> Vec<String> {
        (0..=self.materials.upgrades.len()).map(version_name).collect()
    }

    fn encode(&self, examples: &[Example]) -> Result<TaskData> {
        let length = self.profile.methods[self.method].full_data.max_length;
        TaskData::new(examples, &self.materials.tokenizer, length)
    }

    fn dev(&self, texts: usize) -> Result<TaskData> {
        let dev = &self.task()?.dev;
        self.encode(&dev[..texts.clamp(1, dev.len())])
    }

    fn test(&self) -> Result<TaskData> {
        self.encode(&self.task()?.test)
    }

    /// A version with the weights tuned on it: `M0`, `IND`; `M1+recycled` are those started from Δ_0, `M1+seed1` those of another
    /// seed.
    fn load(&self, name: &str) -> Result<Loaded> {
        let (version, how) = name.split_once('+').unwrap_or((name, "conventional"));
        let (seed, kind) = match how.strip_prefix("seed") {
            Some(seed) => (seed.parse().with_context(|| format!("{name}: the seed is not a number"))?, "conventional"),
            None => (self.seed, how),
        };
        let id = adapted_id(seed, self.profile.method_names()[self.method], &self.task, kind);
        let adapted = self.lineage.adapted(version, &id);
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
        let config = upgrade_config(&self.profile, self.lineage_index, &name);
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
