//! The shape of a RoBERTa model, as in a Hugging Face `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{read_json, write_json};

/// A Hugging Face RoBERTa configuration. Fields that a file leaves out take the defaults of `RobertaConfig` in transformers
/// (LayerNorm eps 1e-12, type vocabulary 2, 512 positions), which are not those of the published roberta-base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RobertaConfig {
    /// Tokens of the vocabulary.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; `hidden_size` is a multiple of it.
    pub num_attention_heads: i64,
    /// Inner width of the feed-forward sublayers.
    pub intermediate_size: i64,
    /// Their activation; `gelu` is the one supported.
    pub hidden_act: String,
    /// Dropout of embeddings, sublayer outputs and the classifier.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position table: tokens a sequence may have, and two more.
    pub max_position_embeddings: i64,
    /// Rows of the table of token types.
    pub type_vocab_size: i64,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Added to the variance in LayerNorms.
    pub layer_norm_eps: f64,
    /// The token that fills up batches; the first position has the number behind its own.
    pub pad_token_id: i64,
    /// `<s>`.
    pub bos_token_id: Option<i64>,
    /// `</s>`.
    pub eos_token_id: Option<i64>,
    /// Dropout of the classifier's head, where it differs from `hidden_dropout_prob`.
    pub classifier_dropout: Option<f64>,
    /// Whether attention is causal; only `false` is supported.
    pub is_decoder: bool,
    /// Whether the masked-LM head shares the token embeddings; only `true` is supported.
    pub tie_word_embeddings: bool,
    /// Everything else the file holds (`architectures`, `id2label`, …), kept as it is.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Default for RobertaConfig {
    fn default() -> RobertaConfig {
        RobertaConfig {
            vocab_size: 50_265,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3_072,
            hidden_act: "gelu".to_string(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
            bos_token_id: Some(0),
            eos_token_id: Some(2),
            classifier_dropout: None,
            is_decoder: false,
            tie_word_embeddings: true,
            other: BTreeMap::new(),
        }
    }
}

impl RobertaConfig {
    /// A small model for teaching and tests: 2 layers, 4 heads, no dropout.
    pub fn tiny(vocab_size: i64, hidden_size: i64, max_length: i64) -> RobertaConfig {
        RobertaConfig {
            vocab_size,
            hidden_size,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 4 * hidden_size,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: max_length + 2,
            type_vocab_size: 1,
            layer_norm_eps: 1e-5,
            ..RobertaConfig::default()
        }
    }

    /// Reads and validates `config.json`.
    pub fn load(path: impl AsRef<Path>) -> Result<RobertaConfig> {
        let path = path.as_ref();
        let config: RobertaConfig = read_json(path)?;
        config.validate().with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(config)
    }

    /// Writes `config.json` with `architectures` set to what the folder holds.
    pub fn save(&self, path: impl AsRef<Path>, architecture: &str) -> Result<()> {
        let mut config = self.clone();
        config.other.insert("architectures".to_string(), Value::from(vec![architecture]));
        config.other.insert("model_type".to_string(), Value::from("roberta"));
        config.other.insert("dtype".to_string(), Value::from("float32"));
        config.other.remove("torch_dtype");
        write_json(path, &config)
    }

    /// The longest sequence that has positions: `max_position_embeddings − pad_token_id − 1`.
    pub fn max_length(&self) -> i64 {
        self.max_position_embeddings - self.pad_token_id - 1
    }

    /// The size of one attention head.
    pub fn head_size(&self) -> i64 {
        self.hidden_size / self.num_attention_heads
    }

    /// Says what this crate cannot compute, or what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers as i64),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (name, size) in sizes {
            ensure!(size > 0, "{name} is {size}: it must be positive");
        }
        ensure!(
            self.hidden_size % self.num_attention_heads == 0,
            "hidden_size {} is not a multiple of num_attention_heads {}",
            self.hidden_size,
            self.num_attention_heads
        );
        ensure!(
            (0..self.vocab_size).contains(&self.pad_token_id),
            "pad_token_id {} lies outside the vocabulary of {}",
            self.pad_token_id,
            self.vocab_size
        );
        ensure!(
            self.max_length() >= 2,
            "max_position_embeddings {} leaves no usable positions behind pad_token_id {}",
            self.max_position_embeddings,
            self.pad_token_id
        );
        let dropout =
            [Some(self.hidden_dropout_prob), Some(self.attention_probs_dropout_prob), self.classifier_dropout];
        for p in dropout.into_iter().flatten() {
            ensure!((0.0..1.0).contains(&p), "a dropout probability of {p} is not in [0, 1)");
        }
        ensure!(self.layer_norm_eps > 0.0, "layer_norm_eps {} must be positive", self.layer_norm_eps);
        if self.hidden_act != "gelu" {
            bail!("hidden_act {:?} is not supported: RoBERTa's exact \"gelu\" is", self.hidden_act);
        }
        if !self.tie_word_embeddings {
            bail!("untied word embeddings (tie_word_embeddings: false) are not supported");
        }
        if self.is_decoder || self.other.get("add_cross_attention") == Some(&Value::Bool(true)) {
            bail!("decoder configurations (is_decoder, add_cross_attention) are not supported");
        }
        match self.other.get("position_embedding_type").and_then(Value::as_str) {
            None | Some("absolute") => {}
            Some(other) => bail!("position_embedding_type {other:?} is not supported: \"absolute\" is"),
        }
        match self.other.get("model_type").and_then(Value::as_str) {
            None | Some("roberta") => Ok(()),
            Some(other) => bail!("model_type {other:?} is not supported: \"roberta\" is"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_take_the_defaults_of_transformers_not_of_roberta_base() -> Result<()> {
        let config: RobertaConfig = serde_json::from_str(r#"{"hidden_size": 24, "num_attention_heads": 4}"#)?;
        assert_eq!((config.layer_norm_eps, config.type_vocab_size, config.max_position_embeddings), (1e-12, 2, 512));
        assert_eq!(config.max_length(), 510);
        Ok(())
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        let refused = |change: fn(&mut RobertaConfig)| {
            let mut config = RobertaConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.hidden_act = "relu".into()).contains("relu"));
        assert!(refused(|c| c.tie_word_embeddings = false).contains("untied"));
        assert!(refused(|c| c.is_decoder = true).contains("decoder"));
        assert!(refused(|c| c.hidden_size = 770).contains("770"));
        assert!(refused(|c| c.max_position_embeddings = 3).contains("positions"));
        assert!(refused(|c| drop(c.other.insert("model_type".into(), "bert".into()))).contains("bert"));
    }

    #[test]
    fn unknown_fields_survive_a_round_trip() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"vocab_size": 99, "my_field": [1, 2]}"#)?;
        RobertaConfig::load(&path)?.save(&path, "RobertaForMaskedLM")?;
        let again = RobertaConfig::load(&path)?;
        assert_eq!((again.vocab_size, &again.other["my_field"]), (99, &serde_json::json!([1, 2])));
        Ok(())
    }
}
