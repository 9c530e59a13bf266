//! Interrupted runs go on where they stood.
//!
//! A checkpoint lies beside its place, as `….unproven`, until a later loss has shown that training can go on from it: the loss
//! that looks fine is that of the weights *before* the update, and an update that ruins them must not replace the last good
//! checkpoint.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::optim::AdamW;
use super::trainer::LossPoint;
use crate::model::Model;
use crate::params::{Stored, Theta, write_safetensors};

const KEY: &str = "recyclable-checkpoint";
const PARTS: [&str; 3] = ["part0.", "part1.", "part2."];

/// What a checkpoint says beside its tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    /// Updates done.
    step: usize,
    /// What the run is: a checkpoint of another run is not taken up.
    spec: String,
    losses: Vec<LossPoint>,
}

/// Where the checkpoint of `path` waits for its proof.
fn unproven(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".unproven");
    path.with_file_name(name)
}

/// Lets the checkpoint written last replace the one before.
pub(crate) fn prove(path: &Path) -> Result<()> {
    let written = unproven(path);
    std::fs::rename(&written, path)
        .with_context(|| format!("cannot rename {} to {}", written.display(), path.display()))
}

/// Removes what a pre-training with this `checkpoint` path left there, if anything: its version is stored, or is to be trained
/// from the beginning.
pub fn remove_checkpoint(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    for path in [path, &unproven(path)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes parameters, optimizer state and position into one file, atomically; [`prove`] puts it into its place.
pub(crate) fn write(path: &Path, spec: &str, model: &Model, optimizer: &AdamW, losses: &[LossPoint]) -> Result<()> {
    let state = optimizer.state();
    let mut parts: Vec<(&str, &Theta)> = PARTS.into_iter().zip(model.parts().map(|part| &part.theta)).collect();
    parts.extend(state.iter().map(|(prefix, theta)| (prefix.as_str(), *theta)));
    let cursor = Cursor { step: optimizer.step_count(), spec: spec.to_string(), losses: losses.to_vec() };
    write_safetensors(unproven(path), &parts, KEY, &serde_json::to_string(&cursor)?)
}

/// Takes up the run that `path` holds, if it is this one: returns the losses so far. A missing file means a fresh start.
///
/// Errors when the file is broken or belongs to a run with other settings: it is never overwritten silently.
pub(crate) fn resume(path: &Path, spec: &str, model: &mut Model, optimizer: &mut AdamW) -> Result<Vec<LossPoint>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let source = path.display().to_string();
    let file = Stored::open(path)?;
    let cursor = file.metadata().get(KEY).with_context(|| format!("{source} is not a checkpoint"))?;
    let cursor: Cursor = serde_json::from_str(cursor).with_context(|| format!("the cursor in {source} is broken"))?;
    ensure!(
        cursor.spec == spec,
        "{source} belongs to a run with other settings: delete it to start afresh, or use the settings it was made with"
    );
    let take = |prefix: &str, like: &Theta, device: Device| -> Result<Theta> {
        let there =
            file.tensors().keys().filter_map(|name| Some((name.strip_prefix(prefix)?.to_string(), name.clone())));
        let mut there: BTreeMap<String, String> = there.collect();
        let entries = like.layout().entries().iter();
        let wanted: BTreeMap<String, String> = entries.filter_map(|entry| there.remove_entry(&entry.name)).collect();
        Theta::from_stored(like.layout().clone(), &file, &wanted, there.into_values().collect())?.to_device(device)
    };
    let device = model.device();
    for (prefix, part) in PARTS.iter().zip(model.parts_mut()) {
        let loaded = take(prefix, &part.theta, device)?;
        part.theta.copy_from(&loaded)?;
    }
    optimizer.restore(cursor.step, |prefix, like| take(prefix, like, device))?;
    Ok(cursor.losses)
}
