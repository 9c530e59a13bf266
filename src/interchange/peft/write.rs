//! A LoRA as PEFT reads it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::PREFIX;
use super::config::{Ordered, PeftConfig, Targets};
use crate::files::write_json;
use crate::interchange::card;
use crate::model::{Adapted, LoraBias, LoraConfig, Method, Version, architecture};
use crate::params::{Theta, write_safetensors};

pub(crate) fn write(adapted: &Adapted, base: &Version, folder: &Path, base_name: Option<&str>) -> Result<()> {
    let Method::Lora(lora) = &adapted.card.method else {
        bail!(
            "these are {} weights, and PEFT's format is here for LoRA: export adapters for adapterhub, and what was tuned whole for transformers",
            adapted.card.method.name()
        );
    };
    if adapted.card.head.is_some() {
        bail!("their head is not of the shape that {} has: export for adapterhub", base.config.model_type);
    }
    let modules = adapted.modules.as_ref().context("LoRA weights without modules")?;
    let whole = whole(adapted, base, lora)?;
    let mut parts = vec![(PREFIX, modules), (PREFIX, &adapted.head)];
    parts.extend(whole.as_ref().map(|whole| (PREFIX, whole)));
    let text = serde_json::to_string(&adapted.card)?;
    write_safetensors(folder.join("adapter_model.safetensors"), &parts, card::KEY, &text)?;
    write_json(folder.join("adapter_config.json"), &config(lora, base, base_name)?)
}

/// The parameters of the encoder that were trained whole.
fn whole(adapted: &Adapted, base: &Version, lora: &LoraConfig) -> Result<Option<Theta>> {
    let Some(delta) = &adapted.backbone else { return Ok(None) };
    let mut tensors = Vec::new();
    for entry in delta.layout().entries().iter().filter(|entry| lora.trains(&entry.name)) {
        let value = base.backbone.get(&entry.name)?.f_add(&delta.get(&entry.name)?)?;
        let (module, end) = entry.name.rsplit_once('.').context("a parameter of a module")?;
        let name = if lora.updates(module) { format!("{module}.base_layer.{end}") } else { entry.name.clone() };
        tensors.push((name, value));
    }
    Theta::from_named(tensors).map(Some)
}

fn config(lora: &LoraConfig, base: &Version, base_name: Option<&str>) -> Result<PeftConfig> {
    let maps: Vec<String> =
        architecture::map_shapes(&base.config).into_keys().filter(|map| lora.updates(map)).collect();
    let pattern = |differs: &dyn Fn(&str) -> bool| maps.iter().filter(|map| differs(map)).cloned().collect::<Vec<_>>();
    let ranks = pattern(&|map| lora.rank_of(map) != lora.rank).into_iter();
    let alphas = pattern(&|map| lora.alpha_of(map) != lora.alpha).into_iter();
    let escaped = |map: String| map.replace('.', r"\.");
    let mut saved: Vec<String> = architecture::head_modules(&base.config).iter().map(|name| name.to_string()).collect();
    saved.extend(lora.modules_to_save.clone());
    Ok(PeftConfig {
        task_type: Some("SEQ_CLS".to_string()),
        base_model_name_or_path: base_name.map(str::to_string),
        r: lora.rank,
        lora_alpha: lora.alpha,
        lora_dropout: lora.dropout,
        rank_pattern: Some(Ordered(ranks.map(|map| (escaped(map.clone()), lora.rank_of(&map))).collect())),
        alpha_pattern: Some(Ordered(alphas.map(|map| (escaped(map.clone()), lora.alpha_of(&map))).collect())),
        target_modules: Some(Targets::Names(maps)),
        use_rslora: lora.rslora,
        bias: match lora.bias {
            LoraBias::None => "none",
            LoraBias::All => "all",
            LoraBias::LoraOnly => "lora_only",
        }
        .to_string(),
        modules_to_save: Some(saved),
        inference_mode: true,
        init_lora_weights: Value::Bool(true),
        ..PeftConfig::default()
    })
}
