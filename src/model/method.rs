//! How a model is tuned: all of it, or small modules inside it.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::RobertaConfig;

/// Says by name what is trained.
type NameFilter = Box<dyn Fn(&str) -> bool>;

/// The tuning method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Full fine-tuning: every backbone parameter moves.
    #[default]
    Full,
    /// Bottleneck adapters after each sublayer; the backbone is frozen.
    Adapter(AdapterConfig),
    /// Low-rank updates of linear maps; the backbone is frozen.
    Lora(LoraConfig),
    /// The backbone parameters whose names match a regular expression move, as in BitFit (`"\\.bias$"`); `"^$"` moves
    /// the head alone.
    Matching(String),
}

impl Method {
    /// `full`, `adapter`, `lora` or `matching`.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Full => "full",
            Method::Adapter(_) => "adapter",
            Method::Lora(_) => "lora",
            Method::Matching(_) => "matching",
        }
    }

    /// Whether the backbone parameter with this name is trained.
    pub(crate) fn trains_backbone(&self) -> Result<NameFilter> {
        Ok(match self {
            Method::Full => Box::new(|_| true),
            Method::Adapter(_) | Method::Lora(_) => Box::new(|_| false),
            Method::Matching(pattern) => {
                let regex = Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
                Box::new(move |name| regex.is_match(name))
            }
        })
    }

    /// Says what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        match self {
            Method::Full => Ok(()),
            Method::Adapter(adapter) => {
                ensure!(adapter.bottleneck > 0, "an adapter bottleneck of {} cannot be", adapter.bottleneck);
                Ok(())
            }
            Method::Lora(lora) => {
                ensure!(lora.rank > 0, "a LoRA rank of {} cannot be", lora.rank);
                ensure!(!lora.targets.is_empty(), "LoRA needs at least one target, such as \"query\"");
                Ok(())
            }
            Method::Matching(_) => self.trains_backbone().map(|_| ()),
        }
    }
}

/// Where in a layer the adapters sit. The paper's library changed its mind between versions, which its authors did not pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterPosition {
    /// After the whole sublayer, behind residual and LayerNorm (OpenDelta 0.2.4).
    #[default]
    AfterSublayer,
    /// Inside the sublayer, behind its output projection and before dropout, residual and LayerNorm (OpenDelta 0.3; Houlsby).
    InSublayer,
}

/// h ← h + W_up · gelu_tanh(W_down · h + b_down) + b_up, twice a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// The inner width.
    pub bottleneck: i64,
    /// Where in a layer they stand.
    pub position: AdapterPosition,
    /// Standard deviation of the initial weights (biases start at 0): near the identity, not at it.
    pub initializer_range: f64,
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        AdapterConfig { bottleneck: 24, position: AdapterPosition::default(), initializer_range: 0.01 }
    }
}

/// y ← W·x + b + (alpha / rank) · B·A·x, with A uniform in ±1/√in and B = 0 at first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Inner width r of the update B·A.
    pub rank: i64,
    /// Scale: updates count alpha / rank.
    pub alpha: f64,
    /// Which linear maps of a layer: whole names (`attention.self.query`) or their last parts (`query`, `dense`).
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> LoraConfig {
        LoraConfig { rank: 8, alpha: 16.0, targets: vec!["query".into(), "value".into()] }
    }
}

/// The linear maps of one layer: name, output and input size.
pub(crate) fn linear_maps(config: &RobertaConfig) -> [(&'static str, i64, i64); 6] {
    let (h, f) = (config.hidden_size, config.intermediate_size);
    [
        ("attention.self.query", h, h),
        ("attention.self.key", h, h),
        ("attention.self.value", h, h),
        ("attention.output.dense", h, h),
        ("intermediate.dense", f, h),
        ("output.dense", h, f),
    ]
}

/// Names and shapes of the modules a method puts into the model.
pub(crate) fn module_tensors(config: &RobertaConfig, method: &Method) -> Result<Vec<(String, Vec<i64>)>> {
    let mut tensors = Vec::new();
    match method {
        Method::Full | Method::Matching(_) => {}
        Method::Adapter(adapter) => {
            let (h, r) = (config.hidden_size, adapter.bottleneck);
            for layer in 0..config.num_hidden_layers {
                for place in adapter_places(adapter.position) {
                    let prefix = format!("roberta.encoder.layer.{layer}.{place}");
                    tensors.push((format!("{prefix}.down_proj.weight"), vec![r, h]));
                    tensors.push((format!("{prefix}.down_proj.bias"), vec![r]));
                    tensors.push((format!("{prefix}.up_proj.weight"), vec![h, r]));
                    tensors.push((format!("{prefix}.up_proj.bias"), vec![h]));
                }
            }
        }
        Method::Lora(lora) => {
            let maps = linear_maps(config);
            for target in &lora.targets {
                if !maps.iter().any(|(name, ..)| is_target(name, target)) {
                    let names = maps.map(|(name, ..)| name).join(", ");
                    bail!(
                        "LoRA target {target:?} names no linear map of a layer: use whole names or last parts of {names}"
                    );
                }
            }
            for layer in 0..config.num_hidden_layers {
                for (name, out, input) in maps.iter().filter(|(n, ..)| lora.targets.iter().any(|t| is_target(n, t))) {
                    let prefix = format!("roberta.encoder.layer.{layer}.{name}");
                    tensors.push((format!("{prefix}.lora_A.weight"), vec![lora.rank, *input]));
                    tensors.push((format!("{prefix}.lora_B.weight"), vec![*out, lora.rank]));
                }
            }
        }
    }
    Ok(tensors)
}

/// The adapters' names inside a layer: behind attention, behind the feed-forward sublayer.
pub(crate) fn adapter_places(position: AdapterPosition) -> [&'static str; 2] {
    match position {
        AdapterPosition::AfterSublayer => ["attention.adapter", "output.adapter"],
        AdapterPosition::InSublayer => ["attention.output.dense.adapter", "output.dense.adapter"],
    }
}

pub(super) fn is_target(name: &str, target: &str) -> bool {
    name == target || name.ends_with(&format!(".{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roberta_base_has_24_adapters_of_37656_parameters() -> Result<()> {
        let tensors = module_tensors(&RobertaConfig::default(), &Method::Adapter(AdapterConfig::default()))?;
        let parameters: i64 = tensors.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        assert_eq!((tensors.len() / 4, parameters), (24, 903_744)); // the paper's adapters
        Ok(())
    }

    #[test]
    fn lora_targets_are_found_by_their_last_part_and_unknown_ones_refused() -> Result<()> {
        let config = RobertaConfig::tiny(50, 16, 10);
        let of = |targets: &[&str]| {
            let targets = targets.iter().map(|t| t.to_string()).collect();
            module_tensors(&config, &Method::Lora(LoraConfig { targets, ..LoraConfig::default() }))
        };
        assert_eq!(of(&["query", "value"])?.len(), 2 * 2 * 2);
        assert_eq!(of(&["dense"])?.len(), 2 * 2 * 3);
        assert_eq!(of(&["attention.output.dense"])?.len(), 2 * 2);
        assert!(of(&["querry"]).unwrap_err().to_string().contains("attention.self.query"));
        Ok(())
    }
}
