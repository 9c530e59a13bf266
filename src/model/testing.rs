//! A small model that is far from degenerate, and weights tuned on it, for the tests of this room.

use std::collections::HashSet;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{
    Adapted, AdapterConfig, AdapterPosition, EncoderConfig, Family, LoraBias, LoraConfig, Method, Model, Scaling,
    Version, architecture,
};
use crate::params::Theta;
use crate::text::{TokenBatch, Tokenizer};

/// Weights, biases and LayerNorms that differ everywhere, and heads that attend to few tokens.
pub fn version() -> Result<Version> {
    version_of(Family::Roberta)
}

/// The same of any family; BERT's has a pooler.
pub fn version_of(family: Family) -> Result<Version> {
    let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d", "e", "f", "g", "h"])?;
    let tiny = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 32, 12);
    let layer_norm_eps = if family == Family::Distilbert { 1e-12 } else { tiny.layer_norm_eps };
    let config = EncoderConfig { model_type: family, initializer_range: 0.2, layer_norm_eps, ..tiny };
    let mut version = Version::new(&config, &tokenizer, 1)?;
    add_noise(&mut version.backbone, 0.2, 1.0, |_| true)?;
    add_noise(&mut version.lm_head, 0.2, 2.0, |_| true)?;
    let pooler = architecture::pooler(&config);
    if !pooler.is_empty() {
        let mut theta = Theta::zeros(std::sync::Arc::new(architecture::layout(&config, &pooler)?), Device::Cpu)?;
        add_noise(&mut theta, 0.4, 5.0, |_| true)?;
        version.pooler = Some(theta);
    }
    Ok(version)
}

/// Moves every number of the tensors that move by up to `size`.
fn add_noise(theta: &mut Theta, size: f64, seed: f64, moves: impl Fn(&str) -> bool) -> Result<()> {
    for (at, entry) in theta.layout().clone().entries().iter().enumerate().filter(|(_, entry)| moves(&entry.name)) {
        let numbers = Tensor::arange(entry.len, (Kind::Float, Device::Cpu)) * 12.9898 + seed * 100.0 + at as f64;
        let noise = (numbers.sin() * 43758.547).frac() * size;
        theta.set(&entry.name, &(theta.view(&entry.name)? + noise.view(entry.shape.as_slice())))?;
    }
    Ok(())
}

/// Weights that tuning on `version` could have left: whatever the method trains has moved.
pub fn adapted(version: &Version, method: &Method) -> Result<Adapted> {
    let labels: Vec<String> = (0..3).map(|label| label.to_string()).collect();
    let mut model = Model::classifier(version, &labels, method, 1, Device::Cpu)?;
    let trained: HashSet<String> = model.trainable().into_iter().collect();
    for (at, part) in model.parts_mut().enumerate() {
        add_noise(&mut part.theta, 0.2, 3.0 + at as f64, |name| trained.contains(name))?;
    }
    Adapted::of(&model, version, "topic", serde_json::json!({ "tune": { "max_length": 12 } }))
}

/// Each way to tune, by name.
pub fn methods() -> [(&'static str, Method); 10] {
    let adapter = |position| Method::Adapter(AdapterConfig { bottleneck: 4, position, ..Default::default() });
    let targets = ["query", "key", "value", "dense"].map(String::from).to_vec();
    [
        ("full", Method::Full),
        ("biases", Method::Matching("\\.bias$".to_string())),
        ("adapters after the sublayer", adapter(AdapterPosition::AfterSublayer)),
        ("adapters in the sublayer", adapter(AdapterPosition::InSublayer)),
        ("adapters as Pfeiffer has them", adapter(AdapterPosition::Pfeiffer)),
        ("adapters beside the sublayer", adapter(AdapterPosition::Parallel)),
        (
            "adapters with norms and channels",
            Method::Adapter(AdapterConfig {
                bottleneck: 4,
                position: AdapterPosition::Pfeiffer,
                norm_before: true,
                norm_after: true,
                scaling: Scaling::Channel,
                widths: [(0, 3)].into(),
                ..Default::default()
            }),
        ),
        ("LoRA with biases", Method::Lora(LoraConfig { rank: 2, bias: LoraBias::All, ..Default::default() })),
        (
            "LoRA of other ranks and a saved LayerNorm",
            Method::Lora(LoraConfig {
                rank: 2,
                rank_pattern: [("value".to_string(), 3)].into(),
                rslora: true,
                modules_to_save: vec!["embeddings".into()],
                ..Default::default()
            }),
        ),
        ("LoRA", Method::Lora(LoraConfig { rank: 2, targets, ..Default::default() })),
    ]
}

/// Five sequences of three to ten tokens, padded.
pub fn tokens(version: &Version) -> Result<TokenBatch> {
    let words = |row: i64| (0..[8, 1, 5, 3, 7][row as usize]).map(move |at| 5 + (3 * row + 5 * at + at * at) % 8);
    let sequence = |row: i64| [0].into_iter().chain(words(row)).chain([2]).collect();
    let sequences: Vec<Vec<i64>> = (0..5).map(sequence).collect();
    TokenBatch::new(&sequences, version.config.pad_token_id)
}

/// The largest difference of two tensors.
pub fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(f64::try_from((a - b).abs().max())?)
}
