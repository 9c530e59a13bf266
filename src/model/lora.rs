//! Low-rank updates of linear maps.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::adapter::is_default;
use super::architecture::{LORA_A, LORA_B, names_module};
use super::encoder::{Pass, linear};
use super::leaves::{Leaves, Weight};

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
    /// Whether the linear map with this name is updated.
    pub(crate) fn updates(&self, map: &str) -> bool {
        self.targets.iter().any(|target| names_module(target, map))
    }

    /// The rank of the update of a map.
    pub(crate) fn rank_of(&self, map: &str) -> i64 {
        of_pattern(&self.rank_pattern, map).unwrap_or(self.rank)
    }

    /// s, what the update of a map counts.
    pub(crate) fn scale_of(&self, map: &str) -> f64 {
        let (rank, alpha) = (self.rank_of(map) as f64, of_pattern(&self.alpha_pattern, map).unwrap_or(self.alpha));
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Whether it moves parts of the backbone.
    pub(crate) fn moves_backbone(&self) -> bool {
        self.bias != LoraBias::None || !self.modules_to_save.is_empty()
    }

    /// Whether this parameter of the backbone is trained.
    pub(crate) fn trains(&self, name: &str) -> bool {
        let (module, parameter) = name.rsplit_once('.').unwrap_or((name, ""));
        let as_bias = parameter == "bias"
            && match self.bias {
                LoraBias::None => false,
                LoraBias::All => true,
                LoraBias::LoraOnly => self.updates(module),
            };
        // A module to be saved may hold others.
        let mut holders = std::iter::successors(Some(module), |name| name.rsplit_once('.').map(|(outer, _)| outer));
        as_bias || holders.any(|holder| self.modules_to_save.iter().any(|saved| names_module(saved, holder)))
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

/// What a pattern says of a map: the longest of the names that fit.
fn of_pattern<T: Copy>(pattern: &BTreeMap<String, T>, map: &str) -> Option<T> {
    let fitting = pattern.iter().filter(|(name, _)| names_module(name, map));
    fitting.max_by_key(|(name, _)| name.len()).map(|(_, value)| *value)
}

/// s · B·A·x, with A: (rank, in) and B: (out, rank).
#[derive(Debug)]
pub(crate) struct Lora {
    a: Weight,
    b: Weight,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// The update of the linear map `name`, or nothing where that map is not a target.
    pub fn new(leaves: &Leaves, name: &str, config: &LoraConfig) -> Result<Option<Lora>> {
        let (a, b) = (format!("{name}.{LORA_A}"), format!("{name}.{LORA_B}"));
        if !leaves.contains(&a) {
            return Ok(None);
        }
        let (scale, dropout) = (config.scale_of(name), config.dropout);
        Ok(Some(Lora { a: leaves.weight(&a)?, b: leaves.weight(&b)?, scale, dropout }))
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let inner = linear(&pass.dropout(x, self.dropout)?, &[&self.a], &[], pass)?; // (…, rank)
        Ok(linear(&inner, &[&self.b], &[], pass)?.f_mul_scalar(self.scale)?)
    }
}
