//! The tensors of the small modules that tuning puts into a model: adapters and LoRA.

use anyhow::{Result, bail};

use super::super::EncoderConfig;
use super::super::method::{AdapterPosition, Method};
use super::tensors::linear;
use super::{Axis, LinearMap, Role, TensorSpec, linear_maps};
use crate::params::Part;

/// An adapter's maps, below its name.
pub(crate) const ADAPTER_DOWN: &str = "down_proj";
pub(crate) const ADAPTER_UP: &str = "up_proj";
/// The matrices of a LoRA update, below the name of the map that it updates.
pub(crate) const LORA_A: &str = "lora_A.weight";
pub(crate) const LORA_B: &str = "lora_B.weight";

/// Whether a module's tensor belongs to its last linear map: what the module adds to the network is linear in it.
pub(crate) fn is_output(name: &str) -> bool {
    name.ends_with(LORA_B) || name.rsplit('.').nth(1) == Some(ADAPTER_UP)
}

/// The adapters' names inside a layer: behind attention, behind the feed-forward sublayer.
pub(crate) fn adapter_places(config: &EncoderConfig, position: AdapterPosition) -> [String; 2] {
    let layer = &config.architecture().layer;
    match position {
        AdapterPosition::AfterSublayer => ["attention.adapter".to_string(), "output.adapter".to_string()],
        AdapterPosition::InSublayer => [layer.attention_output, layer.output].map(|name| format!("{name}.adapter")),
    }
}

impl LinearMap {
    /// Whether LoRA's target names this map: by its whole name or its last part, in this family or in BERT.
    fn is_target(&self, target: &str) -> bool {
        [self.name, self.known_as].iter().any(|name| *name == target || name.ends_with(&format!(".{target}")))
    }
}

/// The modules that a method puts into the model: none for those that move the backbone.
pub(crate) fn module_tensors(config: &EncoderConfig, method: &Method) -> Result<Vec<TensorSpec>> {
    let mut specs = Vec::new();
    match method {
        Method::Full | Method::Matching(_) => {}
        Method::Adapter(adapter) => {
            let inside = Axis::Fixed(adapter.bottleneck);
            for layer in 0..config.num_hidden_layers {
                let (prefix, part) = (config.architecture().layer_prefix(layer), Part::Layer(layer));
                for place in adapter_places(config, adapter.position) {
                    specs.extend(linear(format!("{prefix}.{place}.{ADAPTER_DOWN}"), part, inside, Axis::Hidden));
                    specs.extend(linear(format!("{prefix}.{place}.{ADAPTER_UP}"), part, Axis::Hidden, inside));
                }
            }
        }
        Method::Lora(lora) => {
            let maps = linear_maps(config);
            for target in &lora.targets {
                if !maps.iter().any(|map| map.is_target(target)) {
                    let names = maps.map(|map| map.name).join(", ");
                    bail!(
                        "LoRA target {target:?} names no linear map of a layer: use whole names or last parts of {names}"
                    );
                }
            }
            let inside = Axis::Fixed(lora.rank);
            for layer in 0..config.num_hidden_layers {
                let (prefix, part) = (config.architecture().layer_prefix(layer), Part::Layer(layer));
                for map in maps.iter().filter(|map| lora.targets.iter().any(|target| map.is_target(target))) {
                    let matrix = |end: &str, writes, reads| TensorSpec {
                        name: format!("{prefix}.{}.{end}", map.name),
                        role: Role::Weight,
                        part,
                        axes: vec![writes, reads],
                    };
                    specs.push(matrix(LORA_A, inside, map.reads));
                    specs.push(matrix(LORA_B, map.writes, inside));
                }
            }
        }
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
