//! The tensors of the small modules that tuning puts into a model: adapters and LoRA.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::super::{AdapterConfig, AdapterPosition, EncoderConfig, LoraBias, LoraConfig, Method, Scaling, Sublayers};
use super::families::{DISTILBERT, ROBERTA};
use super::tensors::{linear, norm};
use super::{Axis, Layer, Role, TensorSpec, linear_maps};
use crate::params::Part;

/// An adapter's tensors, below its name.
pub(crate) const ADAPTER_DOWN: &str = "down_proj";
pub(crate) const ADAPTER_UP: &str = "up_proj";
pub(crate) const ADAPTER_NORM_BEFORE: &str = "norm_before";
pub(crate) const ADAPTER_NORM_AFTER: &str = "norm_after";
pub(crate) const ADAPTER_SCALING: &str = "scaling";
/// The matrices of a LoRA update, below the name of the map that it updates.
pub(crate) const LORA_A: &str = "lora_A.weight";
pub(crate) const LORA_B: &str = "lora_B.weight";

impl Method {
    /// Whether a module's tensor belongs to its last map: what the module adds to the network is linear in these.
    pub(crate) fn is_output(&self, tensor: &str) -> bool {
        let last = match self {
            Method::Adapter(adapter) if adapter.norm_after => ADAPTER_NORM_AFTER,
            _ => ADAPTER_UP,
        };
        tensor.ends_with(LORA_B) || tensor.rsplit('.').nth(1) == Some(last)
    }
}

/// The adapters' names inside a layer: behind attention, behind the feed-forward sublayer.
pub(crate) fn adapter_places(config: &EncoderConfig, position: AdapterPosition) -> [String; 2] {
    let layer = &config.architecture().layer;
    match position {
        AdapterPosition::InSublayer => [layer.attention_output, layer.output].map(|name| format!("{name}.adapter")),
        _ => ["attention.adapter".to_string(), "output.adapter".to_string()],
    }
}

/// Whether `name` names a module: by its whole name or its last parts, in this family or in BERT.
pub(crate) fn names_module(name: &str, module: &str) -> bool {
    let names = |module: &str| module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    names(module) || in_bert(module).is_some_and(|module| names(&module))
}

/// What BERT would call a linear map of DistilBERT.
fn in_bert(module: &str) -> Option<String> {
    let maps = |layer: &'static Layer| {
        [layer.query, layer.key, layer.value, layer.attention_output, layer.intermediate, layer.output]
    };
    let mut both = maps(&DISTILBERT.layer).into_iter().zip(maps(&ROBERTA.layer));
    both.find_map(|(theirs, known_as)| module.strip_suffix(theirs).map(|rest| format!("{rest}{known_as}")))
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

    /// The alpha of the update of a map.
    pub(crate) fn alpha_of(&self, map: &str) -> f64 {
        of_pattern(&self.alpha_pattern, map).unwrap_or(self.alpha)
    }

    /// s, what the update of a map counts.
    pub(crate) fn scale_of(&self, map: &str) -> f64 {
        let rank = self.rank_of(map) as f64;
        self.alpha_of(map) / if self.rslora { rank.sqrt() } else { rank }
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
}

/// What a pattern says of a map: the longest of the names that fit.
fn of_pattern<T: Copy>(pattern: &BTreeMap<String, T>, map: &str) -> Option<T> {
    let fitting = pattern.iter().filter(|(name, _)| names_module(name, map));
    fitting.max_by_key(|(name, _)| name.len()).map(|(_, value)| *value)
}

/// The modules that a method puts into the model: none for those that move the backbone alone.
pub(crate) fn module_tensors(config: &EncoderConfig, method: &Method) -> Result<Vec<TensorSpec>> {
    match method {
        Method::Full | Method::Matching(_) => Ok(Vec::new()),
        Method::Adapter(adapter) => Ok(adapters(config, adapter)),
        Method::Lora(lora) => updates(config, lora),
    }
}

fn adapters(config: &EncoderConfig, adapter: &AdapterConfig) -> Vec<TensorSpec> {
    let mut specs = Vec::new();
    for layer in 0..config.num_hidden_layers {
        let Some(width) = adapter.width(layer) else { continue };
        let (prefix, part, inside) =
            (config.architecture().layer_prefix(layer), Part::Layer(layer), Axis::Fixed(width));
        for (at, place) in adapter_places(config, adapter.position).into_iter().enumerate() {
            let only = [Sublayers::Attention, Sublayers::FeedForward][at];
            if ![Sublayers::Both, only].contains(&adapter.sublayers) {
                continue;
            }
            let name = |end: &str| format!("{prefix}.{place}.{end}");
            if adapter.norm_before {
                specs.extend(norm(name(ADAPTER_NORM_BEFORE), part));
            }
            specs.extend(linear(name(ADAPTER_DOWN), part, inside, Axis::Hidden));
            specs.extend(linear(name(ADAPTER_UP), part, Axis::Hidden, inside));
            let axis = match adapter.scaling {
                Scaling::Fixed(_) => None,
                Scaling::Learned => Some(Axis::Fixed(1)),
                Scaling::Channel => Some(Axis::Hidden),
            };
            let scaling = |axis| TensorSpec { name: name(ADAPTER_SCALING), role: Role::Scale, part, axes: vec![axis] };
            specs.extend(axis.map(scaling));
            if adapter.norm_after {
                specs.extend(norm(name(ADAPTER_NORM_AFTER), part));
            }
        }
    }
    specs
}

fn updates(config: &EncoderConfig, lora: &LoraConfig) -> Result<Vec<TensorSpec>> {
    let maps = linear_maps(config);
    let all: Vec<(usize, String, Axis, Axis)> = (0..config.num_hidden_layers)
        .flat_map(|layer| {
            let prefix = config.architecture().layer_prefix(layer);
            maps.iter().map(move |map| (layer, format!("{prefix}.{}", map.name), map.writes, map.reads))
        })
        .collect();
    let patterns = lora.rank_pattern.keys().chain(lora.alpha_pattern.keys());
    for target in lora.targets.iter().chain(patterns) {
        if !all.iter().any(|(_, name, ..)| names_module(target, name)) {
            let names = maps.map(|map| map.name).join(", ");
            bail!("LoRA target {target:?} names no linear map of a layer: use whole names or last parts of {names}");
        }
    }
    let mut specs = Vec::new();
    for (layer, name, writes, reads) in all.into_iter().filter(|(_, name, ..)| lora.updates(name)) {
        let inside = Axis::Fixed(lora.rank_of(&name));
        let matrix = |end: &str, writes, reads| TensorSpec {
            name: format!("{name}.{end}"),
            role: Role::Weight,
            part: Part::Layer(layer),
            axes: vec![writes, reads],
        };
        specs.extend([matrix(LORA_A, inside, reads), matrix(LORA_B, writes, inside)]);
    }
    Ok(specs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AdapterConfig, Family, LoraConfig};

    #[test]
    fn a_roberta_base_has_24_adapters_of_37656_parameters() -> Result<()> {
        let config = EncoderConfig::default();
        let specs = module_tensors(&config, &Method::Adapter(AdapterConfig::default()))?;
        let parameters: i64 = specs.iter().map(|spec| spec.shape(&config).iter().product::<i64>()).sum();
        assert_eq!((specs.len() / 4, parameters), (24, 903_744)); // the paper's adapters
        Ok(())
    }

    #[test]
    fn lora_targets_are_found_by_their_last_part_and_unknown_ones_refused() -> Result<()> {
        let config = EncoderConfig::tiny(50, 16, 10);
        let of = |config: &EncoderConfig, targets: &[&str]| {
            let targets = targets.iter().map(|t| t.to_string()).collect();
            module_tensors(config, &Method::Lora(LoraConfig { targets, ..LoraConfig::default() }))
        };
        assert_eq!(of(&config, &["query", "value"])?.len(), 2 * 2 * 2);
        assert_eq!(of(&config, &["dense"])?.len(), 2 * 2 * 3);
        assert_eq!(of(&config, &["attention.output.dense"])?.len(), 2 * 2);
        assert!(of(&config, &["querry"]).unwrap_err().to_string().contains("attention.self.query"));

        let distilled = EncoderConfig { model_type: Family::Distilbert, ..config };
        let names = |targets: &[&str]| -> Result<Vec<String>> {
            Ok(of(&distilled, targets)?.into_iter().map(|spec| spec.name).collect())
        };
        assert_eq!(names(&["query", "value"])?, names(&["q_lin", "v_lin"])?);
        assert_eq!(names(&["dense"])?, names(&["out_lin", "lin1", "lin2"])?);
        assert_eq!(names(&["query"])?[0], "distilbert.transformer.layer.0.attention.q_lin.lora_A.weight");
        Ok(())
    }
}
