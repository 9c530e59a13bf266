//! Bottleneck adapters of AdapterHub: `adapter_config.json` with `adapter.safetensors`, and `head_config.json` with
//! `model_head.safetensors`.

mod config;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::write;

use crate::model::{EncoderConfig, architecture};

/// The tensors of an adapter, below its name.
const DOWN: &str = "adapter_down";
const UP: &str = "adapter_up";
const NORM_BEFORE: &str = "adapter_norm_before";
const NORM_AFTER: &str = "adapter_norm_after";
const SCALING: &str = "scaling";

/// The names of one adapter's tensors, theirs and ours: `norm` where it begins with a LayerNorm.
fn tensor_names(at: &str, ours: &str, norm: bool) -> Vec<(String, String)> {
    use architecture::{ADAPTER_DOWN, ADAPTER_NORM_AFTER, ADAPTER_NORM_BEFORE, ADAPTER_SCALING, ADAPTER_UP};
    // The LayerNorm stands in the sequence of the first map as well.
    let place = usize::from(norm);
    let mut modules = vec![
        (format!("{DOWN}.{place}"), ADAPTER_DOWN),
        (UP.to_string(), ADAPTER_UP),
        (NORM_BEFORE.to_string(), ADAPTER_NORM_BEFORE),
        (NORM_AFTER.to_string(), ADAPTER_NORM_AFTER),
    ];
    if norm {
        modules.push((format!("{DOWN}.0"), ADAPTER_NORM_BEFORE));
    }
    let both = |(theirs, our): (String, &str)| {
        ["weight", "bias"].map(|end| (format!("{at}.{theirs}.{end}"), format!("{ours}.{our}.{end}")))
    };
    let mut names: Vec<(String, String)> = modules.into_iter().flat_map(both).collect();
    names.push((format!("{at}.{SCALING}"), format!("{ours}.{ADAPTER_SCALING}")));
    names
}

/// Every name that the adapter `name` may have, theirs and ours.
fn all_names(
    encoder: &EncoderConfig,
    position: crate::model::AdapterPosition,
    name: &str,
    norm: bool,
) -> Vec<(String, String)> {
    let (hub, ours) = (encoder.architecture().hub_places, architecture::adapter_places(encoder, position));
    let of_layer = |layer: usize| {
        let prefix = encoder.architecture().layer_prefix(layer);
        let places = hub.iter().zip(&ours);
        let names = places.flat_map(|(theirs, ours)| {
            tensor_names(&format!("{prefix}.{theirs}.adapters.{name}"), &format!("{prefix}.{ours}"), norm)
        });
        names.collect::<Vec<_>>()
    };
    (0..encoder.num_hidden_layers).flat_map(of_layer).collect()
}
