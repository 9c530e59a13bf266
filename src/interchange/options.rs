//! What is asked of taking weights in, and what comes of it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::model::Adapted;

/// How weights are taken in.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The task they are for.
    pub task: String,
    /// The classes in the order of the head's scores, where the folder does not say.
    pub labels: Option<Vec<String>>,
    /// Which adapter, where a folder holds several.
    pub adapter: Option<String>,
    /// Whether a base that does not look like the one they were tuned on is taken all the same; the card then says so.
    pub force: bool,
}

/// Weights taken in, and what a reader should know of them.
#[derive(Debug)]
pub struct Imported {
    /// The weights.
    pub adapted: Adapted,
    /// What was made, assumed or left out.
    pub notes: Vec<String>,
}

/// Where `name` lies in `folder`: adapters that are saved together have folders of their own, but for the one called `default`.
pub(super) fn adapter_folder(folder: &Path, name: Option<&str>) -> Result<PathBuf> {
    let has = |at: &Path| at.join("adapter_config.json").is_file();
    let mut others: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok())
        .filter(|entry| has(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    others.sort();
    match name {
        Some(name) if others.iter().any(|other| other == name) => Ok(folder.join(name)),
        Some(name) if has(folder) && (name == "default" || own_name(folder).as_deref() == Some(name)) => {
            Ok(folder.to_path_buf())
        }
        None if has(folder) => {
            ensure!(
                others.is_empty(),
                "{} holds several adapters: name one (default, {})",
                folder.display(),
                others.join(", ")
            );
            Ok(folder.to_path_buf())
        }
        Some(name) => {
            let own = has(folder).then(|| own_name(folder).unwrap_or_else(|| "default".to_string()));
            let there = own.into_iter().chain(others).collect::<Vec<_>>().join(", ");
            bail!("{} holds no adapter {name}: there is {there}", folder.display())
        }
        None => match others.as_slice() {
            [one] => Ok(folder.join(one)),
            _ => bail!("{} holds several adapters: name one ({})", folder.display(), others.join(", ")),
        },
    }
}

/// What AdapterHub calls the adapter of a folder.
fn own_name(folder: &Path) -> Option<String> {
    let config: serde_json::Value = crate::files::read_json(folder.join("adapter_config.json")).ok()?;
    Some(config.get("name")?.as_str()?.to_string())
}
