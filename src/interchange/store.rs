//! Weights of other tools in a lineage.

use std::path::Path;

use anyhow::{Result, ensure};
use tch::Device;

use super::{ImportOptions, Imported, import};
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
    let adapted = &imported.adapted;
    let format = adapted.card.imported_from().unwrap_or_default();
    let own = format!("{}.{}.{format}", options.task, adapted.card.method.name());
    let id = id.map_or(own, str::to_string);
    ensure!(!lineage.has_adapted(version, &id), "there are weights {id} on {version} already: choose another id");
    if let (Some(delta), None) = (&adapted.backbone, &adapted.modules) {
        let (tuned, own) = ((&base.backbone + delta)?, delta.norm()?);
        for (other, _) in lineage.versions()?.into_iter().filter(|(other, _)| other != version) {
            let there = lineage.version(&other)?;
            if there.backbone.layout().same_as(base.backbone.layout()).is_err() {
                continue;
            }
            let away = (&tuned - &there.backbone)?.norm()?;
            if away < own {
                let problem = format!("it lies {away:.3} from {other} and {own:.3} from {version}");
                ensure!(options.force, "{problem}: it was tuned from {other}. Store it there, or force it");
                imported.notes.push(format!("forced: {problem}"));
            }
        }
    }
    // What is stored must be usable.
    imported.adapted.apply(&base, Device::Cpu)?;
    lineage.save_adapted(version, &id, &imported.adapted)?;
    Ok((id, imported))
}
