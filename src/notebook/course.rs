//! The course's settings and the weights that its notebooks share.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Device;

use super::check::is_set;
use crate::device::{default_device, device, device_name};
use crate::display::progress::say;
use crate::display::{Bundle, Column, Progress, Show, Table};
use crate::displayable;
use crate::experiment::{Chain, Compute, Materials, Profile, Source, pretrain_chains};
use crate::lineage::Lineage;
use crate::model::{Adapted, Method, Version};
use crate::native::return_freed_memory;
use crate::text::{Corpus, Example, Task, TaskData, Tokenizer, WorldConfig};
use crate::train::{PretrainConfig, Start, TuneConfig, tune};

/// The environment variable that makes everything smaller: fewer upgrades, one seed, fewer points. Pre-training is not cut short.
pub const FAST: &str = "RECYCLABLE_FAST";
/// The environment variable that names the device: `cpu`, `cuda`, `cuda:1`.
pub const DEVICE: &str = "RECYCLABLE_DEVICE";
/// The environment variable that names the folder of the course's weights; `course` (or `course-fast`) beside the notebooks otherwise.
pub const COURSE: &str = "RECYCLABLE_COURSE";

/// How many lines of progress each version gets: six of them are pre-trained in one cell.
const LINES_A_VERSION: u64 = 5;

/// How often M_0 is upgraded in a fast course.
const FAST_UPGRADES: usize = 2;

/// What every notebook of the course begins with: the built-in world, settings that suit it, and a lineage on disk that all
/// notebooks share. What is not there yet is made when it is asked for, and kept for the next notebook.
#[derive(Debug)]
pub struct Course {
    /// Where everything is computed.
    pub device: Device,
    /// Whether it is the small variant ([`FAST`]).
    pub fast: bool,
    world: WorldConfig,
    profile: Profile,
    materials: Materials,
    lineage: Lineage,
}

impl Course {
    /// Opens the course as the environment says: [`FAST`], [`DEVICE`], [`COURSE`].
    ///
    /// Errors: a device that is not there, a folder that cannot be written to.
    pub fn open() -> Result<Course> {
        let fast = is_set(FAST);
        let named = std::env::var(DEVICE).ok().filter(|name| !name.trim().is_empty());
        let device = match named {
            Some(name) => device(&name).with_context(|| format!("{DEVICE}={name}"))?,
            None => default_device()?,
        };
        let usual = if fast { "course-fast" } else { "course" };
        let folder = std::env::var_os(COURSE).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        Course::in_folder(folder, fast, device)
    }

    /// Opens a course whose weights lie in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>, fast: bool, device: Device) -> Result<Course> {
        let mut world = WorldConfig::default();
        if fast {
            world.upgrades.truncate(FAST_UPGRADES);
        }
        let profile = Profile { source: Source::World(world.clone()), ..Profile::world() };
        let materials = Materials::of(&profile)?;
        Ok(Course { device, fast, world, profile, materials, lineage: Lineage::open(folder)? })
    }

    /// One value in the full course, another in the fast one.
    pub fn pick<T>(&self, full: T, fast: T) -> T {
        if self.fast { fast } else { full }
    }

    /// Seeds of repetitions: three, or one in the fast course.
    pub fn seeds(&self) -> Vec<u64> {
        (0..self.pick(3, 1)).collect()
    }

    /// `M0`, `M1`, … in order.
    pub fn versions(&self) -> Vec<String> {
        (0..=self.materials.upgrades.len()).map(|version| format!("M{version}")).collect()
    }

    /// What a version was pre-trained on last: `M0` and `IND` on the initial corpus, `M1`, `M2`, … on a new domain each.
    pub fn corpus(&self, version: &str) -> Result<Corpus> {
        let upgrade = self.versions().iter().skip(1).position(|name| name == version);
        match (version, upgrade) {
            ("M0" | "IND", _) => Ok(self.materials.initial.clone()),
            (_, Some(at)) => Ok(self.materials.upgrades[at].clone()),
            _ => anyhow::bail!("the course has no version {version}: it has {} and IND", self.versions().join(", ")),
        }
    }

    /// Held-out documents of every domain, the general one first.
    pub fn held_out(&self) -> Vec<Corpus> {
        self.materials.held_out.clone()
    }

    /// The built-in world's settings.
    pub fn world(&self) -> WorldConfig {
        self.world.clone()
    }

    /// Every word is a token.
    pub fn tokenizer(&self) -> Tokenizer {
        self.materials.tokenizer.clone()
    }

    /// Names of the tasks.
    pub fn tasks(&self) -> Vec<String> {
        self.materials.tasks.iter().map(|task| task.name.clone()).collect()
    }

    /// A task of the world.
    pub fn task(&self, name: &str) -> Result<Task> {
        self.materials.task(name).cloned()
    }

    /// Examples as token ids, ready to be scored.
    pub fn encode(&self, examples: &[Example]) -> Result<TaskData> {
        TaskData::new(examples, &self.materials.tokenizer, self.tuning(&Method::Full).max_length)
    }

    /// How M_0 and M_IND are pre-trained.
    pub fn pretraining(&self) -> PretrainConfig {
        self.profile.initial.clone()
    }

    /// How every upgrade is pre-trained.
    pub fn upgrading(&self) -> PretrainConfig {
        self.profile.upgrade.clone()
    }

    /// How tasks with all their labels are tuned. Methods that the course has no settings for are tuned like adapters.
    pub fn tuning(&self, method: &Method) -> TuneConfig {
        TuneConfig { method: method.clone(), ..self.plan(method).full_data.clone() }
    }

    /// How tasks with few labels are tuned.
    pub fn few_shot_tuning(&self, method: &Method) -> TuneConfig {
        TuneConfig { method: method.clone(), ..self.plan(method).few_shot.clone() }
    }

    fn plan(&self, method: &Method) -> &crate::experiment::profile::MethodPlan {
        let methods = &self.profile.methods;
        let same = methods.iter().find(|plan| plan.full_data.method.name() == method.name());
        same.unwrap_or(&methods[methods.len() - 1])
    }

    /// The lineage M_0 → M_1 → …, the independent model `IND` and the `untrained` network: loaded, or, the first time, pre-trained.
    pub fn lineage(&self) -> Result<Lineage> {
        let wanted = self.versions();
        let complete =
            || wanted.iter().map(String::as_str).chain(["IND", "untrained"]).all(|v| self.lineage.has_version(v));
        if !complete() {
            // A second notebook waits here instead of making the same again.
            let _lock = self.lock()?;
            if !complete() {
                let minutes = self.pick("five", "four");
                say(&format!(
                    "Pre-training {} and IND, once for all notebooks: about {minutes} minutes on 2 cores. They are kept in {}.",
                    wanted.join(", "),
                    self.lineage.root().display()
                ));
                let place = Compute { device: self.device, threads: tch::get_num_threads().max(1) as usize };
                let last = self.profile.num_upgrades();
                let chains = Chain::of(&self.profile, &self.materials, &self.lineage, 0, last);
                pretrain_chains(chains, place, LINES_A_VERSION)?;
                return_freed_memory(); // 250 MB, and the next cell's compiler wants them
            }
        }
        Ok(self.lineage.clone())
    }

    /// A version: `M0`, `M1`, …, `IND` (M_0's data and budget, other initialisation and order) or `untrained`.
    pub fn version(&self, name: &str) -> Result<Version> {
        self.lineage()?.version(name)
    }

    /// The weights that tuning a version on a task leaves: loaded, or, the first time, tuned from scratch with the course's
    /// settings and this seed.
    pub fn tuned(&self, version: &str, task: &str, method: &Method, seed: u64) -> Result<Adapted> {
        let id = format!("{task}.{}.s{seed}", method.name());
        let lineage = self.lineage()?;
        if !lineage.has_adapted(version, &id) {
            let config = TuneConfig { seed, ..self.tuning(method) };
            let progress = Progress::new(format!("tune {version} on {task}"), config.optimisation.steps);
            let base = lineage.version(version)?;
            let run = tune(&base, self.materials.task(task)?, Start::Fresh, &config, self.device, &progress)?;
            lineage.save_adapted(version, &id, &run.best)?;
        }
        lineage.adapted(version, &id)
    }

    fn lock(&self) -> Result<File> {
        let path = self.lineage.root().join("pretraining.lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            say("Another notebook is pre-training the course's models: waiting for it.");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

impl Show for Course {
    fn show(&self) -> Result<Bundle> {
        let mut table = Table::new("course", "This course", vec![Column::text(""), Column::text("")]);
        let versions = self.versions();
        let all = versions.iter().map(String::as_str).chain(["IND"]);
        let made = all.filter(|name| self.lineage.has_version(name)).count();
        table.push(["computes on".to_string(), device_name(self.device)]);
        table.push(["threads".to_string(), tch::get_num_threads().to_string()]);
        table.push(["variant".to_string(), self.pick("full", "fast: one seed, fewer versions and points").to_string()]);
        table.push(["versions".to_string(), format!("{} and IND, {made} made so far", versions.join(" → "))]);
        table.push(["tasks".to_string(), self.tasks().join(", ")]);
        table.push(["weights are kept in".to_string(), self.lineage.root().display().to_string()]);
        Ok(Bundle::new().table(table))
    }
}

displayable!(Course);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::VersionRecord;
    use crate::model::EncoderConfig;

    #[test]
    fn a_course_opens_without_training_anything_and_says_what_it_has() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let course = Course::in_folder(folder.path(), true, Device::Cpu)?;
        assert_eq!(course.versions(), ["M0", "M1", "M2"]);
        assert_eq!((course.pick("full", "fast"), course.seeds().len()), ("fast", 1));
        assert_eq!(course.corpus("M1")?.name, course.world().upgrades[0]);
        assert_eq!(course.corpus("IND")?, course.corpus("M0")?);
        assert!(!course.lineage.has_version("M0"), "opening must not take minutes");
        assert!(course.to_string().contains("M0 → M1 → M2 and IND, 0 made so far"), "{course}");
        let tokenizer = course.tokenizer();
        let stranger = Version::new(&EncoderConfig::tiny(tokenizer.vocab_size() as i64, 8, 16), &tokenizer, 0)?;
        course.lineage.save_version("IND", &stranger, VersionRecord::default())?;
        assert!(course.to_string().contains("and IND, 1 made so far"), "{course}");
        let error = course.corpus("M7").unwrap_err().to_string();
        assert!(error.contains("no version M7") && error.contains("M0, M1, M2 and IND"), "{error}");
        assert!(course.task("chess").unwrap_err().to_string().contains("no task chess"));
        Ok(())
    }

    #[test]
    fn methods_without_settings_of_their_own_are_tuned_like_adapters() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let course = Course::in_folder(folder.path(), true, Device::Cpu)?;
        let (full, adapter) = (course.tuning(&Method::Full), course.tuning(&Method::Adapter(Default::default())));
        let lora = course.tuning(&Method::Lora(Default::default()));
        assert!(full.optimisation.learning_rate < adapter.optimisation.learning_rate);
        assert_eq!((lora.optimisation, lora.method.name()), (adapter.optimisation, "lora"));
        Ok(())
    }
}
