//! `adapter_config.json` and `head_config.json` of AdapterHub.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{Activation, AdapterConfig, AdapterPosition, Scaling, Signal, Sublayers, Wiring};

/// What stands around a configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Envelope {
    pub config: Value,
    pub hidden_size: Option<i64>,
    #[serde(default)]
    pub model_class: String,
    #[serde(default)]
    pub model_name: Option<String>,
    pub model_type: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub label2id: Option<BTreeMap<String, i64>>,
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// A bottleneck adapter, under AdapterHub's names (`BnConfig`).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct HubAdapter {
    pub mh_adapter: bool,
    pub output_adapter: bool,
    pub reduction_factor: Reduction,
    pub non_linearity: String,
    #[serde(default)]
    pub original_ln_before: bool,
    #[serde(default = "yes")]
    pub original_ln_after: bool,
    #[serde(default)]
    pub ln_before: bool,
    #[serde(default)]
    pub ln_after: bool,
    #[serde(default)]
    pub is_parallel: bool,
    #[serde(default = "one")]
    pub scaling: Value,
    #[serde(default = "truth")]
    pub residual_before_ln: Value,
    #[serde(default)]
    pub adapter_residual_before_ln: bool,
    #[serde(default)]
    pub leave_out: Vec<usize>,
    #[serde(default)]
    pub dropout: f64,
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Hidden size ÷ inner width, of all layers or by their numbers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Reduction {
    One(f64),
    Layers(BTreeMap<String, f64>),
}

/// A prediction head.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct HubHead {
    pub head_type: String,
    pub layers: usize,
    pub num_labels: i64,
    pub activation_function: Option<String>,
    #[serde(default)]
    pub use_pooler: bool,
    #[serde(default = "yes")]
    pub bias: bool,
    pub label2id: Option<BTreeMap<String, i64>>,
    #[serde(default)]
    pub dropout_prob: Option<f64>,
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

fn yes() -> bool {
    true
}

fn one() -> Value {
    json!(1.0)
}

fn truth() -> Value {
    Value::Bool(true)
}

/// Settings of `BnConfig` that change nothing of what a finished adapter computes, where `phm_layer` is off.
const HARMLESS: [&str; 14] = [
    "init_weights",
    "init_weights_seed",
    "inv_adapter_reduction_factor",
    "phm_dim",
    "factorized_phm_W",
    "shared_W_phm",
    "shared_phm_rule",
    "factorized_phm_rule",
    "phm_c_init",
    "phm_init_range",
    "learn_phm",
    "hypercomplex_nonlinearity",
    "phm_rank",
    "phm_bias",
];

/// hidden // factor, as Python divides.
fn width(hidden: i64, factor: f64) -> i64 {
    let hidden = hidden as f64;
    // fmod is exact, so this is the floor of the exact quotient.
    let whole = ((hidden - hidden % factor) / factor).round();
    (whole as i64).max(1)
}

impl HubAdapter {
    /// Files of before version 3 of its predecessor have no version, and meant another function by a name.
    pub fn rename_activation(&mut self) {
        let renamed = match self.non_linearity.as_str() {
            "gelu" => "gelu_new",
            "gelu_orig" => "gelu",
            _ => return,
        };
        self.non_linearity = renamed.to_string();
    }

    /// The same as this library has it.
    pub fn adapter(&self, hidden: i64, layers: usize) -> Result<AdapterConfig> {
        for (key, value) in &self.other {
            let is_set = !matches!(value, Value::Null | Value::Bool(false)) && value.as_f64() != Some(0.0);
            ensure!(
                HARMLESS.contains(&key.as_str()) || !is_set,
                "adapter_config.json sets {key} to {value}, which is not supported here"
            );
        }
        let signal = match (&self.residual_before_ln, self.original_ln_before) {
            (Value::Bool(true), _) | (_, false) => Signal::Branch,
            (Value::Bool(false), true) => Signal::Normed,
            (Value::String(way), true) if way == "post_add" => Signal::Sum,
            (other, _) => bail!("residual_before_ln is {other}: true, false and \"post_add\" are known"),
        };
        let wiring = match self.is_parallel {
            true => Wiring { reads: Signal::Residual, skip: Signal::Branch, norm: self.original_ln_after },
            false => {
                let reads = if self.original_ln_before { Signal::Normed } else { Signal::Branch };
                Wiring { reads, skip: signal, norm: self.original_ln_after }
            }
        };
        let of_layer = |layer: usize| -> Result<i64> {
            let factor = match &self.reduction_factor {
                Reduction::One(factor) => *factor,
                Reduction::Layers(factors) => {
                    let factor = factors.get(&layer.to_string()).or_else(|| factors.get("default"));
                    *factor.with_context(|| {
                        format!("reduction_factor says nothing of layer {layer}, and has no default")
                    })?
                }
            };
            ensure!(factor > 0.0 && factor.is_finite(), "a reduction_factor of {factor} cannot be");
            Ok(width(hidden, factor))
        };
        let widths = (0..layers)
            .map(|layer| if self.leave_out.contains(&layer) { Ok(0) } else { of_layer(layer) })
            .collect::<Result<Vec<i64>>>()?;
        let bottleneck = widths.iter().copied().find(|width| *width > 0).context("no layer has an adapter")?;
        let others = widths.into_iter().enumerate().filter(|(_, width)| *width != bottleneck);
        Ok(AdapterConfig {
            bottleneck,
            position: AdapterPosition::from(wiring),
            sublayers: match (self.mh_adapter, self.output_adapter) {
                (true, true) => Sublayers::Both,
                (true, false) => Sublayers::Attention,
                (false, true) => Sublayers::FeedForward,
                (false, false) => bail!("neither mh_adapter nor output_adapter is set: there is no adapter"),
            },
            widths: others.collect(),
            activation: self.non_linearity.parse()?,
            scaling: match &self.scaling {
                Value::String(way) if way == "learned" => Scaling::Learned,
                Value::String(way) if way == "channel" => Scaling::Channel,
                other => {
                    Scaling::Fixed(other.as_f64().with_context(|| {
                        format!("scaling is {other}: a number, \"learned\" and \"channel\" are known")
                    })?)
                }
            },
            norm_before: self.ln_before,
            norm_after: self.ln_after,
            // Parallel adapters take no residual through their own LayerNorm.
            skip_before_norm: self.adapter_residual_before_ln && self.ln_after && !self.is_parallel,
            dropout: self.dropout,
            ..AdapterConfig::default()
        })
    }

    /// What AdapterHub is to be told of an adapter.
    pub fn of(adapter: &AdapterConfig, hidden: i64, layers: usize) -> Result<HubAdapter> {
        let Wiring { reads, skip, norm } = adapter.position.wiring();
        let residual = match (reads, skip) {
            (Signal::Residual, Signal::Branch)
            | (Signal::Branch, Signal::Branch)
            | (Signal::Normed, Signal::Branch) => {
                json!(true)
            }
            (Signal::Normed, Signal::Normed) => json!(false),
            (Signal::Normed, Signal::Sum) => json!("post_add"),
            _ => bail!("AdapterHub has no adapter that reads {reads:?} and is added to {skip:?}"),
        };
        let mut leave_out = Vec::new();
        let mut factors = BTreeMap::new();
        for layer in 0..layers {
            match adapter.width(layer) {
                None => leave_out.push(layer),
                Some(width) if width != adapter.bottleneck => {
                    factors.insert(layer.to_string(), factor(hidden, width)?);
                }
                Some(_) => {}
            }
        }
        let usual = factor(hidden, adapter.bottleneck)?;
        let reduction_factor = match factors.is_empty() {
            true => Reduction::One(usual),
            false => {
                factors.insert("default".to_string(), usual);
                Reduction::Layers(factors)
            }
        };
        Ok(HubAdapter {
            mh_adapter: adapter.sublayers != Sublayers::FeedForward,
            output_adapter: adapter.sublayers != Sublayers::Attention,
            reduction_factor,
            non_linearity: adapter.activation.to_string(),
            original_ln_before: reads == Signal::Normed,
            original_ln_after: norm,
            ln_before: adapter.norm_before,
            ln_after: adapter.norm_after,
            is_parallel: reads == Signal::Residual,
            scaling: match adapter.scaling {
                Scaling::Fixed(factor) => json!(factor),
                Scaling::Learned => json!("learned"),
                Scaling::Channel => json!("channel"),
            },
            residual_before_ln: residual,
            adapter_residual_before_ln: adapter.skip_before_norm,
            leave_out,
            dropout: adapter.dropout,
            other: BTreeMap::from([("init_weights".to_string(), json!("bert"))]),
        })
    }
}

/// A reduction factor that gives this inner width.
fn factor(hidden: i64, wanted: i64) -> Result<f64> {
    let exact = hidden as f64 / wanted as f64;
    let mut candidates = [exact, exact * (1.0 - 1e-12), exact * (1.0 - 1e-9)].into_iter();
    let found = candidates.find(|factor| width(hidden, *factor) == wanted);
    found.with_context(|| format!("no reduction factor makes {wanted} of a hidden size of {hidden}"))
}

/// What stands before the scores of a prediction head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: they are read off the first token.
    Nothing,
    /// The base's pooler.
    Pooler,
    /// A dense map of the head's own, and this.
    Dense(Activation),
}

impl HubHead {
    /// The activation's name; none where there is none.
    fn activation(&self) -> Option<&str> {
        self.activation_function.as_deref().filter(|name| !name.is_empty())
    }

    /// Where the map that scores the classes stands: dropout and activations are counted, too.
    pub fn last_place(&self) -> usize {
        match (self.layers, self.activation()) {
            (2, Some(_)) => 4,
            (2, None) => 3,
            _ => 1,
        }
    }

    /// Refuses what is not computed here.
    pub fn before(&self) -> Result<Before> {
        for (key, value) in &self.other {
            let is_set = !matches!(value, Value::Null | Value::Bool(false));
            ensure!(!is_set, "head_config.json sets {key} to {value}, which is not supported here");
        }
        ensure!(
            self.head_type == "classification",
            "its prediction head is of the type {}: only classification is supported",
            self.head_type
        );
        match (self.layers, self.use_pooler) {
            (1, false) => Ok(Before::Nothing),
            (1, true) => Ok(Before::Pooler),
            (2, false) => Ok(Before::Dense(match self.activation() {
                None => Activation::Identity,
                Some(name) => name.parse()?,
            })),
            (layers, true) => bail!("its prediction head has {layers} layers behind the pooler: one is supported"),
            (layers, false) => bail!("its prediction head has {layers} layers: one and two are supported"),
        }
    }
}

/// The classes in the order of their numbers.
pub(super) fn labels(label2id: &BTreeMap<String, i64>) -> Result<Vec<String>> {
    let mut by_number: Vec<(i64, &String)> = label2id.iter().map(|(label, number)| (*number, label)).collect();
    by_number.sort();
    let whole = by_number.iter().enumerate().all(|(place, (number, _))| place as i64 == *number);
    ensure!(whole, "label2id in head_config.json does not number the classes 0, 1, 2, …: {label2id:?}");
    Ok(by_number.into_iter().map(|(_, label)| label.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_inner_width_has_a_reduction_factor_that_python_divides_back() -> Result<()> {
        for hidden in [15, 128, 384, 768, 1_024] {
            for wanted in 1..=hidden {
                assert_eq!(width(hidden, factor(hidden, wanted)?), wanted, "{hidden}");
            }
        }
        // 384 // 16 in Python, and 15 // 4.
        assert_eq!((width(384, 16.0), width(15, 4.0), width(15, 64.0)), (24, 3, 1));
        Ok(())
    }
}
