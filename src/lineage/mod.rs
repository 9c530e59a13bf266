//! The store of a model's history: versions M_0 → M_1 → … and the adapted weights hanging off each.
//!
//! ```text
//! ROOT/versions/M_1/config.json, model.safetensors, tokenizer.json, tokenizer_config.json   a Hugging Face folder
//!                   version.json              provenance; written last, it marks the version as complete
//!                   checkpoint.safetensors    only while its pre-training is under way
//!                   adapted/topic.full.0.safetensors
//! ```
//!
//! Every file is whole or absent, so an interrupted program leaves at most a version without `version.json`, which counts as
//! not there.

mod record;
mod show;
mod tables;
mod verify;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use record::VersionRecord;
pub use verify::Finding;

use crate::files::{fingerprint, read_json, write_json};
use crate::model::{Adapted, Card, Version};
use crate::train::remove_checkpoint;
use record::check_name;

const RECORD: &str = "version.json";
/// The files of a version that its record vouches for.
const FILES: [&str; 4] = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
const ENDING: &str = ".safetensors";

/// Versions and adapted weights under one folder.
#[derive(Clone, Debug)]
pub struct Lineage {
    root: PathBuf,
}

impl Lineage {
    /// The lineage in `root`, which is made where it does not exist.
    ///
    /// Errors when the folder cannot be made or written to.
    pub fn open(root: impl Into<PathBuf>) -> Result<Lineage> {
        let root = root.into();
        let versions = root.join("versions");
        let failed =
            || format!("cannot keep a lineage in {}: choose a folder that exists or can be made", root.display());
        std::fs::create_dir_all(&versions).with_context(failed)?;
        let unwritable = || format!("cannot write into the lineage {}: check its permissions", root.display());
        tempfile::Builder::new().prefix(".writing-").tempfile_in(&versions).with_context(unwritable)?;
        Ok(Lineage { root })
    }

    /// The lineage in `root`, which must be there already; nothing is written.
    pub fn existing(root: impl Into<PathBuf>) -> Result<Lineage> {
        let root = root.into();
        ensure!(
            root.join("versions").is_dir(),
            "{} is not a lineage (it has no folder \"versions\"): `recyclable pretrain` or `reproduce` makes one",
            root.display()
        );
        Ok(Lineage { root })
    }

    /// The folder that holds all of it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The Hugging Face folder of a version.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join("versions").join(name)
    }

    /// Where an interrupted pre-training keeps its state.
    pub fn checkpoint_path(&self, name: &str) -> PathBuf {
        self.folder(name).join("checkpoint.safetensors")
    }

    /// Where adapted weights lie.
    pub fn adapted_path(&self, version: &str, id: &str) -> PathBuf {
        self.folder(version).join("adapted").join(format!("{id}{ENDING}"))
    }

    /// Whether the version is there, complete.
    pub fn has_version(&self, name: &str) -> bool {
        self.record(name).is_ok() && FILES.iter().all(|file| self.folder(name).join(file).is_file())
    }

    /// Whether the version is there, complete and made by this recipe.
    ///
    /// Errors when another recipe made it: it is neither what was asked for nor free to be overwritten.
    pub fn has_version_by(&self, name: &str, recipe: &serde_json::Value) -> Result<bool> {
        if !self.has_version(name) {
            return Ok(false);
        }
        ensure!(
            self.record(name)?.recipe == *recipe,
            "{} was made with other settings (they stand in its {RECORD}): use another name or another lineage folder",
            self.folder(name).display()
        );
        Ok(true)
    }

    /// Loads a version.
    pub fn version(&self, name: &str) -> Result<Version> {
        self.record(name)?;
        Version::load(self.folder(name))
    }

    /// The provenance of a complete version.
    ///
    /// Errors name the versions there are.
    pub fn record(&self, name: &str) -> Result<VersionRecord> {
        check_name(name)?;
        let path = self.folder(name).join(RECORD);
        if path.is_file() {
            return read_json(path);
        }
        let known = self.names()?;
        let unfinished = if self.checkpoint_path(name).is_file() { " (its pre-training is not finished)" } else { "" };
        match known.is_empty() {
            true => bail!("there is no version {name}{unfinished} in {}: it holds no version yet", self.root.display()),
            false => bail!(
                "there is no version {name}{unfinished} in {}: there are {}",
                self.root.display(),
                known.into_iter().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Stores a version; its record, with fingerprints filled in, is written last. Then the checkpoint of its pre-training is removed.
    ///
    /// Errors when the parent is not there, and when a complete version of this name with another fingerprint is: remove it
    /// first ([`Lineage::remove_version`]).
    pub fn save_version(&self, name: &str, version: &Version, mut record: VersionRecord) -> Result<()> {
        check_name(name)?;
        record.name = name.to_string();
        record.fingerprint = version.fingerprint()?;
        record.parent_fingerprint = match &record.parent {
            Some(parent) => {
                let parent = self.record(parent).with_context(|| format!("{name} continues {parent}"))?;
                Some(parent.fingerprint)
            }
            None => None,
        };
        if self.has_version(name) {
            let there = self.record(name)?.fingerprint;
            ensure!(
                there == record.fingerprint,
                "{} holds another version {name} (fingerprint {there}, the new one has {}): remove it first, or use another name",
                self.root.display(),
                record.fingerprint
            );
        }
        let folder = self.folder(name);
        version.save(&folder)?;
        record.files =
            FILES.iter().map(|file| Ok((file.to_string(), fingerprint(folder.join(file))?))).collect::<Result<_>>()?;
        write_json(folder.join(RECORD), &record)?;
        remove_checkpoint(self.checkpoint_path(name))
    }

    /// Removes a version, complete or not.
    ///
    /// Errors when anything hangs off it: adapted weights, or versions that continue it.
    pub fn remove_version(&self, name: &str) -> Result<()> {
        self.nothing_hangs_off(name)?;
        let folder = self.folder(name);
        let failed = || format!("cannot remove {}", folder.display());
        let record = folder.join(RECORD);
        if record.exists() {
            std::fs::remove_file(record).with_context(failed)?;
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(failed)?;
        }
        Ok(())
    }

    /// Refuses where adapted weights or other versions build on this one.
    pub fn nothing_hangs_off(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let mut hanging = self.files_of(name)?;
        hanging.extend(self.versions()?.into_iter().filter(|(_, r)| r.parent.as_deref() == Some(name)).map(|(n, _)| n));
        ensure!(
            hanging.is_empty(),
            "{name} in {} cannot be replaced: {} build on it; use another name or another lineage folder",
            self.root.display(),
            hanging.join(", ")
        );
        Ok(())
    }

    /// Whether weights `id`, tuned on `version`, are there.
    pub fn has_adapted(&self, version: &str, id: &str) -> bool {
        self.has_version(version) && check_name(id).is_ok() && self.adapted_path(version, id).is_file()
    }

    /// Loads the weights `id` that were tuned on `version`.
    ///
    /// Errors name the weights there are.
    pub fn adapted(&self, version: &str, id: &str) -> Result<Adapted> {
        self.check_adapted(version, id)?;
        let base = self.version(version)?;
        let mut adapted = Adapted::load(self.adapted_path(version, id), &base)?;
        // Weights of older releases do not say it themselves.
        if adapted.card.tokenizer.is_none() {
            adapted.card.tokenizer = Some(base.tokenizer.fingerprint()?);
        }
        Ok(adapted)
    }

    /// What the weights say about themselves, without loading them.
    pub fn card(&self, version: &str, id: &str) -> Result<Card> {
        self.check_adapted(version, id)?;
        Card::read(self.adapted_path(version, id))
    }

    fn check_adapted(&self, version: &str, id: &str) -> Result<()> {
        self.record(version)?;
        check_name(id)?;
        if !self.adapted_path(version, id).is_file() {
            let ids = self.adapted_ids(version)?;
            let known = if ids.is_empty() { "none".to_string() } else { ids.join(", ") };
            bail!("version {version} in {} has no adapted weights {id}: there are {known}", self.root.display());
        }
        Ok(())
    }

    /// Stores weights tuned on `version`, in place of older ones of this id.
    ///
    /// Errors when they were tuned on another base.
    pub fn save_adapted(&self, version: &str, id: &str, adapted: &Adapted) -> Result<()> {
        let record = self.record(version)?;
        check_name(id)?;
        ensure!(
            adapted.card.base == record.fingerprint,
            "weights {id} were tuned on a base with fingerprint {}, but {version} has {}: store them under the version they were tuned on",
            adapted.card.base,
            record.fingerprint
        );
        adapted.save(self.adapted_path(version, id))
    }

    /// The complete versions, ancestors first: each line of descent in order, lines sorted by name.
    pub fn versions(&self) -> Result<Vec<(String, VersionRecord)>> {
        let names = self.names()?;
        let mut left = names.iter().map(|name| Ok((name.clone(), self.record(name)?))).collect::<Result<Vec<_>>>()?;
        let mut ordered: Vec<(String, VersionRecord)> = Vec::new();
        while !left.is_empty() {
            // The next child of the newest version placed that has one, else the first root.
            let child = ordered
                .iter()
                .rev()
                .find_map(|(parent, _)| left.iter().position(|(_, record)| record.parent.as_ref() == Some(parent)));
            let is_root = |record: &VersionRecord| !record.parent.as_ref().is_some_and(|parent| names.contains(parent));
            let next = child.or_else(|| left.iter().position(|(_, record)| is_root(record))).unwrap_or(0);
            ordered.push(left.remove(next));
        }
        Ok(ordered)
    }

    /// The ids of the weights tuned on a version, sorted.
    pub fn adapted_ids(&self, version: &str) -> Result<Vec<String>> {
        self.record(version)?;
        self.files_of(version)
    }

    /// Names of complete versions.
    fn names(&self) -> Result<BTreeSet<String>> {
        Ok(self.folders()?.into_iter().filter(|name| self.folder(name).join(RECORD).is_file()).collect())
    }

    /// Names of all folders under `versions`, complete or not.
    fn folders(&self) -> Result<BTreeSet<String>> {
        let entries = entries(&self.root.join("versions"))?;
        Ok(entries.into_iter().filter(|name| check_name(name).is_ok() && self.folder(name).is_dir()).collect())
    }

    fn files_of(&self, version: &str) -> Result<Vec<String>> {
        let folder = self.folder(version).join("adapted");
        let files = if folder.is_dir() { entries(&folder)? } else { BTreeSet::new() };
        let ids = files.iter().filter_map(|file| file.strip_suffix(ENDING)).filter(|id| check_name(id).is_ok());
        Ok(ids.map(str::to_string).collect())
    }
}

/// Names of what lies in a folder.
fn entries(folder: &Path) -> Result<BTreeSet<String>> {
    let failed = || format!("cannot list {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(failed)?;
    entries.map(|entry| Ok(entry.with_context(failed)?.file_name().to_string_lossy().into_owned())).collect()
}
