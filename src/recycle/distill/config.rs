//! What the distillation loss is made of, as plain data.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::recycle::Interpolation;

/// What the distillation loss is made of:
///
/// L = (1 − α)·L_task + α·L_kd + β·L_hidden
///
/// with L_task the cross-entropy with the labels, L_kd = T²·KL(softmax(t/T) ‖ softmax(s/T)) of teacher and student scores t, s,
/// and L_hidden = ½·mean (H_t − H_s)² over chosen hidden states (the paper's distillation-based recycling;
/// `trainer_kd.py` of the authors). With `interpolation`, α·L_kd + β·L_hidden are taken at points between student and teacher as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// α, between the labels (0) and the teacher's scores (1).
    pub alpha: f64,
    /// β, the weight of the hidden states; 0 leaves them out.
    pub beta: f64,
    /// T, which softens both distributions.
    pub temperature: f64,
    /// How the divergence is averaged.
    pub reduction: KlReduction,
    /// Which hidden states are compared.
    pub layers: LayerSet,
    /// At which tokens they are compared.
    pub tokens: HiddenTokens,
    /// Compare hidden states scaled to unit length, as in Patient Knowledge Distillation.
    pub normalise: bool,
    /// Points between student and teacher that have to agree with the teacher too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
}

impl Default for DistillConfig {
    fn default() -> DistillConfig {
        DistillConfig {
            alpha: 0.9,
            beta: 10.0,
            temperature: 10.0,
            reduction: KlReduction::BatchMean,
            layers: LayerSet::AllButLast,
            tokens: HiddenTokens::First,
            normalise: false,
            interpolation: None,
        }
    }
}

/// How the Kullback–Leibler divergence is averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlReduction {
    /// Summed over classes, averaged over the batch: the divergence itself.
    #[default]
    BatchMean,
    /// Averaged over classes as well, 1/(B·C), as in the authors' code: smaller by the number of classes.
    PerElement,
}

/// Which hidden states are compared: 0 is the embeddings' output, l the output of layer l.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerSet {
    /// 0 to L − 1, as in the authors' code.
    #[default]
    AllButLast,
    /// L alone.
    Last,
    /// 0 to L.
    All,
    /// These.
    These(Vec<usize>),
}

/// At which tokens hidden states are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenTokens {
    /// `<s>` alone, as in the authors' code.
    #[default]
    First,
    /// Every token that is not padding.
    All,
}

impl DistillConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!((0.0..=1.0).contains(&self.alpha), "alpha {} is not in [0, 1]", self.alpha);
        ensure!(self.beta.is_finite() && self.beta >= 0.0, "beta {} must not be negative", self.beta);
        ensure!(
            self.temperature.is_finite() && self.temperature > 0.0,
            "temperature {} must be positive",
            self.temperature
        );
        self.interpolation.as_ref().map_or(Ok(()), Interpolation::validate)
    }

    /// The hidden states compared in a model of this many layers.
    pub(in crate::recycle) fn layer_indices(&self, layers: usize) -> Result<Vec<usize>> {
        let chosen = match &self.layers {
            LayerSet::AllButLast => (0..layers).collect(),
            LayerSet::Last => vec![layers],
            LayerSet::All => (0..=layers).collect(),
            LayerSet::These(chosen) => chosen.clone(),
        };
        ensure!(!chosen.is_empty(), "the set of layers to compare is empty: set beta to 0 to leave hidden states out");
        if let Some(layer) = chosen.iter().find(|&&layer| layer > layers) {
            anyhow::bail!("hidden state {layer} does not exist: the model has {layers} layers, so 0 to {layers} do");
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_do_not_exist_are_refused() {
        let config = DistillConfig { layers: LayerSet::These(vec![0, 7]), ..DistillConfig::default() };
        assert!(config.layer_indices(2).unwrap_err().to_string().contains("0 to 2"));
        assert_eq!(DistillConfig::default().layer_indices(2).unwrap(), [0, 1]);
    }
}
