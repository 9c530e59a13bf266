//! What LoRA is told.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::is_default;

/// y ← W·x + b + s · B·A·x with s = alpha / rank, A uniform in ±1/√in and B = 0 at first.
///
/// Maps are named by their whole names (`roberta.encoder.layer.0.attention.self.query`) or by the last parts of these (`query`,
/// `layer.0.attention.self.query`), as this family of encoders or as BERT calls them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width r of the update B·A.
    pub rank: i64,
    /// Scale: updates count alpha / rank.
    pub alpha: f64,
    /// Which linear maps of the layers are updated.
    pub targets: Vec<String>,
    /// Maps of another rank.
    #[serde(skip_serializing_if = "is_default")]
    pub rank_pattern: BTreeMap<String, i64>,
    /// Maps of another alpha.
    #[serde(skip_serializing_if = "is_default")]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Whether updates count alpha / √rank instead (rank-stabilised LoRA).
    #[serde(skip_serializing_if = "is_default")]
    pub rslora: bool,
    /// Dropout of x before A in training.
    #[serde(skip_serializing_if = "is_default")]
    pub dropout: f64,
    /// Which biases of the backbone are trained as well.
    #[serde(skip_serializing_if = "is_default")]
    pub bias: LoraBias,
    /// Parts of the backbone that are trained whole beside, named as targets are.
    #[serde(skip_serializing_if = "is_default")]
    pub modules_to_save: Vec<String>,
}

/// Which biases of the backbone LoRA trains as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraBias {
    /// None.
    #[default]
    None,
    /// All of them.
    All,
    /// Those of the maps that are updated.
    LoraOnly,
}

impl Default for LoraConfig {
    fn default() -> LoraConfig {
        LoraConfig {
            rank: 8,
            alpha: 16.0,
            targets: vec!["query".into(), "value".into()],
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            rslora: false,
            dropout: 0.0,
            bias: LoraBias::None,
            modules_to_save: Vec::new(),
        }
    }
}

impl LoraConfig {
    /// Whether it moves parts of the backbone.
    pub(crate) fn moves_backbone(&self) -> bool {
        self.bias != LoraBias::None || !self.modules_to_save.is_empty()
    }

    /// Says what contradicts itself.
    pub(super) fn validate(&self) -> Result<()> {
        let ranks = self.rank_pattern.values().copied().chain([self.rank]);
        for rank in ranks {
            ensure!(rank > 0, "a LoRA rank of {rank} cannot be");
        }
        ensure!(!self.targets.is_empty(), "LoRA needs at least one target, such as \"query\"");
        ensure!((0.0..1.0).contains(&self.dropout), "a LoRA dropout of {} is not in [0, 1)", self.dropout);
        Ok(())
    }
}
