//! Weights of other tools, in and out: models that transformers tuned, adapters of PEFT, AdapterHub and OpenDelta.
//!
//! ```text
//! folder                                        tool           what it becomes
//! config.json, model.safetensors                transformers   Δ = tuned − base, head
//! adapter_config.json with peft_type            PEFT           LoRA, head, whatever was saved whole
//! adapter_config.json with config, model_type   AdapterHub     bottleneck adapters, prediction head
//! model.safetensors with `….adapter.modulelist` OpenDelta      bottleneck adapters, head (read only)
//! ```
//!
//! Nothing is loaded by halves: every tensor of a folder is either used, or named as what it is and said to be left out, or the folder
//! is refused. Pickled files are never opened.

mod account;
mod adapter_hub;
mod card;
mod head;
mod open_delta;
mod options;
mod peft;
mod store;
mod tuned;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub use options::{ImportOptions, Imported};
pub use store::import_into;

use crate::files::read_json;
use crate::model::{Adapted, Version};

/// A tool that weights come from, or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A `…ForSequenceClassification` folder of transformers: a whole model.
    Transformers,
    /// LoRA of PEFT.
    Peft,
    /// Bottleneck adapters of AdapterHub (the package `adapters`).
    AdapterHub,
    /// Bottleneck adapters of OpenDelta: only read.
    OpenDelta,
}

const NAMES: [(Format, &str); 4] = [
    (Format::Transformers, "transformers"),
    (Format::Peft, "peft"),
    (Format::AdapterHub, "adapterhub"),
    (Format::OpenDelta, "opendelta"),
];

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(format, _)| format == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Format> {
        let known = NAMES.map(|(_, name)| name).join(", ");
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(format, _)| *format).with_context(|| format!("no format is named {name:?}: there are {known}"))
    }
}

/// Takes weights of another tool in: `folder` holds them, and `base` is what they were tuned on.
///
/// # Errors
/// A folder of no known format; files that are missing, damaged or pickled; tensors that are missing, unknown or of another shape;
/// settings that this library does not compute; labels that contradict the head; a base that cannot be the one.
pub fn import(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    ensure!(!options.task.is_empty(), "the task has no name");
    let format = Format::of(folder)?;
    let mut imported = match format {
        Format::Transformers => tuned::read(folder, base, options),
        Format::Peft => peft::read(folder, base, options),
        Format::AdapterHub => adapter_hub::read(folder, base, options),
        Format::OpenDelta => open_delta::read(folder, base, options),
    }
    .with_context(|| format!("cannot take in {} ({format})", folder.display()))?;
    let recipe = &mut imported.adapted.card.recipe;
    let more = recipe.as_object().cloned().unwrap_or_default();
    *recipe = json!({ "imported": { "format": format.to_string(), "folder": folder } });
    if let Some(imported) = recipe["imported"].as_object_mut() {
        imported.extend(more);
    }
    Ok(imported)
}

/// Writes `adapted` into `folder` as another tool reads it. `base` is the version it is to stand on; `base_name` is what that tool is to
/// call it, a folder or a name on the hub.
///
/// # Errors
/// Weights that the format has no place for.
pub fn export(adapted: &Adapted, base: &Version, format: Format, folder: &Path, base_name: Option<&str>) -> Result<()> {
    adapted.check_base(base)?;
    let written = match format {
        Format::Transformers => adapted.apply(base, tch::Device::Cpu)?.save(folder, &base.tokenizer),
        Format::Peft => peft::write(adapted, base, folder, base_name),
        Format::AdapterHub => adapter_hub::write(adapted, base, folder, base_name),
        Format::OpenDelta => bail!("OpenDelta's format is only read: export for adapterhub or peft"),
    };
    written.with_context(|| format!("cannot write {} ({format})", folder.display()))
}

impl Format {
    /// The format of a folder.
    pub fn of(folder: &Path) -> Result<Format> {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        if let Some(config) = adapter_config(folder)? {
            return match (config.get("peft_type"), config.get("config"), config.get("model_type")) {
                (Some(_), ..) => Ok(Format::Peft),
                (None, Some(_), Some(_)) => Ok(Format::AdapterHub),
                _ => bail!(
                    "{}/adapter_config.json has neither peft_type (PEFT) nor config and model_type (AdapterHub)",
                    folder.display()
                ),
            };
        }
        if open_delta::is_one(folder) {
            return Ok(Format::OpenDelta);
        }
        if folder.join("config.json").is_file() {
            return Ok(Format::Transformers);
        }
        bail!(
            "{} holds nothing that can be taken in: neither adapter_config.json (PEFT, AdapterHub) nor config.json (transformers)",
            folder.display()
        )
    }
}

/// `adapter_config.json` of a folder, or of one of its folders where it holds several adapters.
fn adapter_config(folder: &Path) -> Result<Option<Value>> {
    let inner = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut folders: Vec<_> = inner.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    folders.sort();
    let files = std::iter::once(folder.to_path_buf()).chain(folders).map(|at| at.join("adapter_config.json"));
    files.into_iter().find(|file| file.is_file()).map(read_json).transpose()
}
