//! Whether a lineage still is what it says it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::{FILES, Lineage, RECORD, VersionRecord};
use crate::files::{fingerprint, read_json};
use crate::model::{Adapted, Version};

/// Something wrong in a lineage, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, and where.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n    remedy: {}", self.what, self.remedy)
    }
}

impl Lineage {
    /// Computes every fingerprint again, loads everything, and looks for parents and bases that are missing. Empty when all
    /// is well.
    pub fn verify(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut found = |what: String, remedy: String| findings.push(Finding { what, remedy });
        let mut records: BTreeMap<String, VersionRecord> = BTreeMap::new();
        for name in self.folders()? {
            let folder = self.folder(&name);
            if !folder.join(RECORD).is_file() {
                let remedy = match self.checkpoint_path(&name).is_file() {
                    true => "run the same pre-training again (it resumes), or delete the folder".to_string(),
                    false => "make the version again, or delete the folder".to_string(),
                };
                found(format!("{} is incomplete: it has no {RECORD}", folder.display()), remedy);
                continue;
            }
            match read_json::<VersionRecord>(folder.join(RECORD)) {
                Ok(record) => drop(records.insert(name, record)),
                Err(error) => found(format!("{error:#}"), "restore the file, or make the version again".to_string()),
            }
        }
        for (name, record) in &records {
            let folder = self.folder(name);
            for file in FILES {
                if let Err(what) = intact(&folder.join(file), record.files.get(file)) {
                    found(what, format!("restore the file from a copy, or make {name} again"));
                }
            }
            if let Some(parent) = &record.parent {
                match records.get(parent) {
                    None => found(
                        format!("the parent {parent} of {name} is not there"),
                        format!("restore {parent}, or set \"parent\" to null in {}", folder.join(RECORD).display()),
                    ),
                    Some(there) if record.parent_fingerprint.as_ref() != Some(&there.fingerprint) => found(
                        format!("{name} was trained from another {parent} than the one that is there"),
                        format!("make {name} again from this {parent}, or restore the other {parent}"),
                    ),
                    Some(_) => {}
                }
            }
            let version = match Version::load(&folder) {
                Ok(version) => version,
                Err(error) => {
                    found(format!("{name} does not load: {error:#}"), format!("make {name} again"));
                    continue;
                }
            };
            let now = version.fingerprint()?;
            if now != record.fingerprint {
                found(
                    format!("the weights of {name} have fingerprint {now}, its record says {}", record.fingerprint),
                    format!("restore {}, or make {name} again", folder.join("model.safetensors").display()),
                );
            }
            for id in self.files_of(name)? {
                let path = self.adapted_path(name, &id);
                let adapted = match Adapted::load(&path, &version) {
                    Ok(adapted) => adapted,
                    Err(error) => {
                        found(format!("{error:#}"), format!("tune {id} on {name} again, or delete the file"));
                        continue;
                    }
                };
                if adapted.card.base != record.fingerprint {
                    let other = records.iter().find(|(_, other)| other.fingerprint == adapted.card.base);
                    let (base, remedy) = match other {
                        Some((other, _)) => (other.as_str(), format!("move the file into {other}/adapted")),
                        None => ("an unknown version", "tune it again, or delete the file".to_string()),
                    };
                    found(format!("{} lies under {name}, but was tuned on {base}", path.display()), remedy);
                }
                let known = |base: &&String| !records.values().any(|record| record.fingerprint == **base);
                if let Some(base) = adapted.card.ancestry.iter().find(known) {
                    found(
                        format!("{} was recycled from weights on version {base}, which is not there", path.display()),
                        "restore that version; the weights themselves can be used".to_string(),
                    );
                }
            }
        }
        Ok(findings)
    }
}

/// Compares a file with the fingerprint it had when it was written.
fn intact(path: &Path, recorded: Option<&String>) -> Result<(), String> {
    match (fingerprint(path), recorded) {
        (Err(error), _) => Err(format!("{error:#}")),
        (Ok(now), Some(then)) if now != *then => Err(format!("{} has changed since it was written", path.display())),
        _ => Ok(()),
    }
}
