//! Models that were tuned whole: a `…ForSequenceClassification` folder and the base it came from.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tch::Device;

use super::options::{ImportOptions, Imported};
use super::{card, head};
use crate::model::{Adapted, EncoderConfig, Model, Version};

/// ‖Δ‖ ÷ ‖base‖ beyond which a model was not tuned from this base. Fine-tuning moved all-MiniLM-L6-v2 by 0.007 to 0.013
/// of its length (150 and 300 updates at 5e-5), continual pre-training by 0.04 and more; two encoders that have nothing to do with each other lie √2 of it apart.
const FARTHEST: f64 = 0.5;

pub(super) fn read(folder: &Path, base: &Version, options: &ImportOptions) -> Result<Imported> {
    let (model, tokenizer) = Model::load_classifier(folder, Device::Cpu)?;
    let differing = differing(model.config(), &base.config);
    ensure!(differing.is_empty(), "it was not tuned from this base: {}", differing.join(", "));
    if let Some(problem) = model.config().other.get("problem_type").and_then(|problem| problem.as_str()) {
        ensure!(
            problem == "single_label_classification",
            "its problem_type is {problem}: only single-label classification is supported"
        );
    }
    let mut forced = Vec::new();
    card::check_tokenizer(&tokenizer, base, options, &mut forced)?;
    let mut notes = Vec::new();
    let labels = model.labels().to_vec();
    let labels = head::labels(options, Some(labels.clone()), labels.len() as i64, &mut notes)?;
    let mut adapted = Adapted::of(&model, base, &options.task, json!({}))?;
    adapted.card.labels = labels;
    let delta = adapted.backbone.as_ref().context("a model that was tuned whole leaves a difference")?;
    let (moved, length) = (delta.norm()?, base.backbone.norm()?);
    let share = moved / length;
    ensure!(
        share <= FARTHEST || options.force,
        "‖Δ‖ = {moved:.3} is {share:.2} of the base's length {length:.3}, and tuning moves an encoder by some hundredths of it \
         (at most {FARTHEST}): this is not the base it was tuned from. Give that one, or force it"
    );
    if share > FARTHEST {
        forced.push(format!("forced: it lies {share:.2} of the base's length away from it"));
    }
    adapted.card.recipe = json!({ "moved": moved, "share_of_length": share });
    if !forced.is_empty() {
        adapted.card.recipe["forced"] = json!(forced);
    }
    notes.extend(forced);
    Ok(Imported { adapted, notes })
}

/// What two models compute with, where that differs.
fn differing(theirs: &EncoderConfig, ours: &EncoderConfig) -> Vec<String> {
    let fields = |config: &EncoderConfig| {
        [
            ("model_type", config.model_type.to_string()),
            ("vocab_size", config.vocab_size.to_string()),
            ("hidden_size", config.hidden_size.to_string()),
            ("num_hidden_layers", config.num_hidden_layers.to_string()),
            ("num_attention_heads", config.num_attention_heads.to_string()),
            ("intermediate_size", config.intermediate_size.to_string()),
            ("max_position_embeddings", config.max_position_embeddings.to_string()),
            ("type_vocab_size", config.type_vocab_size.to_string()),
            ("layer_norm_eps", config.layer_norm_eps.to_string()),
            ("pad_token_id", config.pad_token_id.to_string()),
            ("hidden_act", config.hidden_act.clone()),
        ]
    };
    let both = fields(theirs).into_iter().zip(fields(ours));
    let differs = both.filter(|(there, here)| there.1 != here.1);
    differs.map(|((name, there), (_, here))| format!("{name} is {there} there and {here} in the base")).collect()
}
