//! Adapters as AdapterHub reads them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::all_names;
use super::config::{Envelope, HubAdapter, HubHead};
use crate::files::write_json;
use crate::interchange::card;
use crate::model::{Adapted, Method, Version};
use crate::params::{Theta, write_safetensors};

/// What the adapter is called, where its task has a name that is no word.
const NAME: &str = "adapter";

pub(crate) fn write(adapted: &Adapted, base: &Version, folder: &Path, base_name: Option<&str>) -> Result<()> {
    let Method::Adapter(adapter) = &adapted.card.method else {
        bail!(
            "these are {} weights, and AdapterHub's format is here for bottleneck adapters: export LoRA for peft, and what was tuned whole for \
             transformers",
            adapted.card.method.name()
        );
    };
    let encoder = &base.config;
    let modules = adapted.modules.as_ref().context("adapters without modules")?;
    let word = adapted.card.task.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let name = if word { adapted.card.task.as_str() } else { NAME };
    let mut tensors = Vec::new();
    for (theirs, ours) in all_names(encoder, adapter.position, name, adapter.norm_before) {
        if modules.layout().find(&ours).is_ok() {
            tensors.push((theirs, modules.get(&ours)?));
        }
    }
    let (text, hub) = (
        serde_json::to_string(&adapted.card)?,
        HubAdapter::of(adapter, encoder.hidden_size, encoder.num_hidden_layers)?,
    );
    write_safetensors(folder.join("adapter.safetensors"), &[("", &Theta::from_named(tensors)?)], card::KEY, &text)?;
    let envelope = |config: Value| Envelope {
        config,
        hidden_size: Some(encoder.hidden_size),
        model_class: encoder.model_type.class("AdapterModel"),
        model_name: Some(base_name.unwrap_or_default().to_string()),
        model_type: encoder.model_type.to_string(),
        name: Some(name.to_string()),
        label2id: None,
        other: BTreeMap::from([("version".to_string(), json!(format!("recyclable.{}", env!("CARGO_PKG_VERSION"))))]),
    };
    write_json(folder.join("adapter_config.json"), &envelope(serde_json::to_value(&hub)?))?;
    write_head(adapted, base, name, folder, envelope)
}

fn write_head(
    adapted: &Adapted,
    base: &Version,
    name: &str,
    folder: &Path,
    envelope: impl Fn(Value) -> Envelope,
) -> Result<()> {
    let (config, names) = (adapted.card.config(base), &base.config.architecture().classifier);
    let shape = config.head_shape();
    let layers = if shape.dense { 2 } else { 1 };
    let places: HashMap<&str, usize> = HashMap::from([(names.dense, 1), (names.out, if shape.dense { 4 } else { 1 })]);
    let mut tensors = Vec::new();
    for entry in adapted.head.layout().entries() {
        let (module, end) = entry.name.rsplit_once('.').context("a parameter of a module")?;
        let place = places.get(module).with_context(|| format!("{module} is no map of a head"))?;
        tensors.push((format!("heads.{name}.{place}.{end}"), adapted.head.get(&entry.name)?));
    }
    write_safetensors(folder.join("model_head.safetensors"), &[("", &Theta::from_named(tensors)?)], "format", "pt")?;
    let labels = adapted.card.labels.iter().cloned().zip(0..);
    let head = HubHead {
        head_type: "classification".to_string(),
        layers,
        num_labels: adapted.card.labels.len() as i64,
        activation_function: Some(shape.activation.to_string()),
        use_pooler: false,
        bias: true,
        label2id: Some(labels.collect()),
        dropout_prob: None,
        other: BTreeMap::new(),
    };
    write_json(folder.join("head_config.json"), &envelope(serde_json::to_value(&head)?))
}
