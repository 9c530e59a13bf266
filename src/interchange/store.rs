//! Weights of other tools in a lineage.

use std::path::Path;

use anyhow::{Result, ensure};
use tch::Device;

use super::convert::import;
use super::options::{ImportOptions, Imported};
use crate::lineage::Lineage;

/// Takes weights of another tool in and stores them under the `version` that they were tuned on, as `id`; where that is absent, by task,
/// method and format. Returns that id.
///
/// # Errors
/// As [`import`]; where there are weights of this id; and where a model that was tuned whole lies nearer to another version of the lineage.
pub fn import_into(
    lineage: &Lineage,
    version: &str,
    id: Option<&str>,
    folder: &Path,
    options: &ImportOptions,
) -> Result<(String, Imported)> {
    let base = lineage.version(version)?;
    let mut imported = import(folder, &base, options)?;
    let card = &imported.adapted.card;
    let own = format!("{}.{}.{}", options.task, card.method.name(), card.imported_from().unwrap_or_default());
    let id = id.map_or(own, str::to_string);
    ensure!(!lineage.has_adapted(version, &id), "there are weights {id} on {version} already: choose another id");
    let whole = imported.adapted.backbone.as_ref().filter(|_| imported.adapted.modules.is_none());
    let whole = whole.map(|delta| Ok::<_, anyhow::Error>(((&base.backbone + delta)?, delta.norm()?))).transpose()?;
    if let Some((tuned, own)) = whole {
        for (other, _) in lineage.versions()?.into_iter().filter(|(other, _)| other != version) {
            let there = lineage.version(&other)?;
            if there.backbone.layout().same_as(base.backbone.layout()).is_err() {
                continue;
            }
            let away = (&tuned - &there.backbone)?.norm()?;
            if away < own {
                let problem = format!("it lies {away:.3} from {other} and {own:.3} from {version}");
                ensure!(options.force, "{problem}: it was tuned from {other}. Store it there, or force it");
                let note = format!("forced: {problem}");
                imported.adapted.card.recipe["imported"]["nearer"] = note.clone().into();
                imported.notes.push(note);
            }
        }
    }
    // What is stored must be usable.
    imported.adapted.apply(&base, Device::Cpu)?;
    lineage.save_adapted(version, &id, &imported.adapted)?;
    Ok((id, imported))
}
