//! Taking weights in, and giving them back.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::formats::Format;
use super::options::{ImportOptions, Imported};
use super::{adapter_hub, open_delta, peft, tuned};
use crate::files::read_json;
use crate::model::{Adapted, Version};

/// Takes weights of another tool in: `folder` holds them, and `base` is what they were tuned on.
///
/// # Errors
/// A folder of no known format; files that are missing, damaged or pickled; tensors that are missing, unknown or of another shape;
/// settings that this library does not compute; labels that contradict the head; a base that cannot be the one.
pub fn import(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    ensure!(!options.task.is_empty(), "the task has no name");
    let format = format_of(folder)?;
    let has_adapters = matches!(format, Format::Peft | Format::AdapterHub);
    ensure!(
        has_adapters || options.adapter.is_none(),
        "an adapter is named, but {} is of {format}, which has one set of weights a folder",
        folder.display()
    );
    let mut imported = match format {
        Format::Transformers => tuned::read(folder, base, options),
        Format::Peft => peft::read(folder, base, options),
        Format::AdapterHub => adapter_hub::read(folder, base, options),
        Format::OpenDelta => open_delta::read(folder, base, options),
    }
    .with_context(|| format!("cannot take in {} ({format})", folder.display()))?;
    let recipe = &mut imported.adapted.card.recipe;
    let mut more = recipe.as_object().cloned().unwrap_or_default();
    let tune = more.remove("tune");
    *recipe = json!({ "imported": { "format": format.to_string(), "folder": folder } });
    if let Some(tune) = tune {
        recipe["tune"] = tune;
    }
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
    let own = adapted.check_base(base)?;
    let is_empty = |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(!folder.exists() || is_empty(folder), "{} is not empty: choose another folder", folder.display());
    let mut adapted = adapted.try_clone()?;
    if !own {
        // What is written stands on another version than the weights were tuned on.
        let was = std::mem::replace(&mut adapted.card.base, base.fingerprint()?);
        adapted.card.ancestry.push(was);
    }
    // Whole or not at all.
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let making = tempfile::Builder::new().prefix(".writing-").tempdir_in(parent);
    let making = making.with_context(|| format!("cannot write into {}", parent.display()))?;
    let at = making.path().join("made");
    let written = match format {
        Format::Transformers => match adapted.modules {
            None => adapted.apply(base, tch::Device::Cpu)?.save(&at, &base.tokenizer),
            Some(_) => bail!(
                "a {} of transformers has no place for {} modules: export for {}",
                base.config.model_type.class("ForSequenceClassification"),
                adapted.card.method.name(),
                if adapted.card.method.name() == "lora" { Format::Peft } else { Format::AdapterHub }
            ),
        },
        Format::Peft => peft::write(&adapted, base, &at, base_name),
        Format::AdapterHub => adapter_hub::write(&adapted, base, &at, base_name),
        Format::OpenDelta => bail!("OpenDelta's format is only read: export for adapterhub or peft"),
    };
    written.with_context(|| format!("cannot write {} ({format})", folder.display()))?;
    if folder.exists() {
        std::fs::remove_dir(folder)?;
    }
    std::fs::rename(&at, folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// The format of a folder.
pub fn format_of(folder: &Path) -> Result<Format> {
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

/// `adapter_config.json` of a folder, or of one of its folders where it holds several adapters.
fn adapter_config(folder: &Path) -> Result<Option<Value>> {
    let inner = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut folders: Vec<_> = inner.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    folders.sort();
    // A whole model may have folders of its own, those of checkpoints say.
    let inner = folders.into_iter().filter(|_| !folder.join("config.json").is_file());
    let files = std::iter::once(folder.to_path_buf()).chain(inner).map(|at| at.join("adapter_config.json"));
    files.into_iter().find(|file| file.is_file()).map(read_json).transpose()
}
