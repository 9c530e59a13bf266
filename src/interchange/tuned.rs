//! Models that were tuned whole: a `…ForSequenceClassification` folder and the base it came from.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tch::Device;

use super::options::{ImportOptions, Imported};
use crate::model::{Adapted, Model, Version};

/// ‖Δ‖ ÷ ‖base‖ beyond which a model was not tuned from this base. Fine-tuning moves an encoder by a hundredth to a tenth of its length
/// (MiniLM, 300 updates at 5e-5 to 1.5e-4); two encoders that have nothing to do with each other lie √2 of it apart.
const FARTHEST: f64 = 0.5;

pub(super) fn read(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    let (model, tokenizer) = Model::load_classifier(folder, Device::Cpu)?;
    let (theirs, ours) = (model.config(), &base.config);
    ensure!(
        theirs.layout_fingerprint()? == ours.layout_fingerprint()?,
        "it is a {} of {} layers, hidden size {} and {} tokens; the base is a {} of {}, {} and {}: it was not tuned from this base",
        theirs.model_type,
        theirs.num_hidden_layers,
        theirs.hidden_size,
        theirs.vocab_size,
        ours.model_type,
        ours.num_hidden_layers,
        ours.hidden_size,
        ours.vocab_size
    );
    let (here, there) = (tokenizer.fingerprint()?, base.tokenizer.fingerprint()?);
    ensure!(
        here == there || options.force,
        "its tokenizer (fingerprint {here}) is not that of the base ({there}): the same token ids mean other words there. Give the base it \
         was tuned from, or force it"
    );
    let mut notes = Vec::new();
    let named = model.labels().to_vec();
    let labels = match &options.labels {
        Some(labels) => labels.clone(),
        None => named,
    };
    ensure!(
        labels.len() == model.labels().len(),
        "the head scores {} classes, but {} labels are given: {}",
        model.labels().len(),
        labels.len(),
        labels.join(", ")
    );
    let mut adapted = Adapted::of(&model, base, &options.task, json!({}))?;
    adapted.card.labels = labels;
    let delta = adapted.backbone.as_ref().context("a model that was tuned whole leaves a difference")?;
    let (moved, length) = (delta.norm()?, base.backbone.norm()?);
    let share = moved / length;
    ensure!(
        share <= FARTHEST || options.force,
        "‖Δ‖ = {moved:.3} is {share:.2} of the base's length {length:.3}, and tuning moves an encoder by a few hundredths of it \
         (at most {FARTHEST}): this is not the base it was tuned from. Give that one, or force it"
    );
    if here != there {
        notes.push("forced: its tokenizer is not that of the base".to_string());
    }
    if share > FARTHEST {
        notes.push(format!("forced: it lies {share:.2} of the base's length away from it"));
    }
    let recipe =
        json!({ "moved": moved, "share_of_length": share, "forced": (!notes.is_empty()).then(|| notes.clone()) });
    adapted.card.recipe = recipe;
    Ok(Imported { adapted, notes })
}
