//! `adapter_config.json` of a LoRA of PEFT.

use std::collections::BTreeMap;

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::files::read_json;

/// What PEFT says of a LoRA, under its names. Settings that change what is computed, and are not here, are refused where they are set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct PeftConfig {
    pub peft_type: String,
    pub task_type: Option<String>,
    pub base_model_name_or_path: Option<String>,
    pub r: i64,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub target_modules: Option<Targets>,
    pub exclude_modules: Option<Targets>,
    pub rank_pattern: Option<Ordered<i64>>,
    pub alpha_pattern: Option<Ordered<f64>>,
    pub use_rslora: bool,
    pub bias: String,
    pub modules_to_save: Option<Vec<String>>,
    pub layers_to_transform: Option<OneOrMany<usize>>,
    pub layers_pattern: Option<OneOrMany<String>>,
    pub fan_in_fan_out: bool,
    pub inference_mode: bool,
    pub init_lora_weights: Value,
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Modules by their last names, or by a regular expression over whole ones.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Targets {
    Pattern(String),
    Names(Vec<String>),
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// Pairs in the order of the file: of patterns PEFT takes the first that fits.
#[derive(Clone, Debug)]
pub(super) struct Ordered<T>(pub Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Ordered<T>, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of patterns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

impl Default for PeftConfig {
    /// PEFT's own defaults.
    fn default() -> PeftConfig {
        PeftConfig {
            peft_type: "LORA".to_string(),
            task_type: None,
            base_model_name_or_path: None,
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: None,
            exclude_modules: None,
            rank_pattern: None,
            alpha_pattern: None,
            use_rslora: false,
            bias: "none".to_string(),
            modules_to_save: None,
            layers_to_transform: None,
            layers_pattern: None,
            fan_in_fan_out: false,
            inference_mode: false,
            init_lora_weights: Value::Bool(true),
            other: BTreeMap::new(),
        }
    }
}

/// Settings that change nothing of what a finished adapter computes.
const HARMLESS: [&str; 11] = [
    "auto_mapping",
    "revision",
    "peft_version",
    "megatron_core",
    "megatron_config",
    "qalora_group_size",
    "runtime_config",
    "eva_config",
    "loftq_config",
    "corda_config",
    "ensure_weight_tying",
];
/// Ways to begin that change the base as well: the adapter fits the changed base alone.
const CHANGE_THE_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];
/// What PEFT calls the task of a text classifier.
const SEQUENCE_CLASSIFICATION: &str = "SEQ_CLS";
/// The word for every linear map but the last.
const ALL_LINEAR: &str = "all-linear";

impl PeftConfig {
    /// The configuration in a file.
    pub fn load(path: &Path) -> Result<PeftConfig> {
        let raw: Value = read_json(path)?;
        let kind = raw.get("peft_type").and_then(Value::as_str).unwrap_or("none");
        ensure!(
            kind == "LORA",
            "it is a PEFT adapter of type {kind}: only LORA is supported. (Merge it in Python, model.merge_and_unload(), and take in the model)"
        );
        serde_json::from_value(raw).with_context(|| format!("{} is no configuration of a LoRA", path.display()))
    }

    /// Refuses what is not computed here, and what is no classifier of a `class` of models (`Bert`).
    pub fn check(&self, class: &str) -> Result<()> {
        let task_type = self.task_type.as_deref().unwrap_or(SEQUENCE_CLASSIFICATION);
        ensure!(
            task_type == SEQUENCE_CLASSIFICATION,
            "its task_type is {task_type}: only {SEQUENCE_CLASSIFICATION} is supported"
        );
        let mapping = self.other.get("auto_mapping").and_then(|mapping| mapping.get("base_model_class"));
        if let Some(there) = mapping.and_then(Value::as_str) {
            let wanted = format!("{class}ForSequenceClassification");
            ensure!(there == wanted, "it was tuned on a {there}, and the base would be a {wanted}");
        }
        ensure!(!self.fan_in_fan_out, "fan_in_fan_out is set, which no linear map of these encoders is");
        if let Some(way) = self.init_lora_weights.as_str() {
            ensure!(
                !CHANGE_THE_BASE.iter().any(|known| way.starts_with(known)),
                "init_lora_weights is {way:?}, which changes the base as well: save it as a plain LoRA in Python \
                 (path_initial_model_for_weight_conversion), or merge it"
            );
        }
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        for (key, value) in &self.other {
            ensure!(
                HARMLESS.contains(&key.as_str()) || !is_set(value),
                "adapter_config.json sets {key} to {value}, which is not supported: merge the adapter in Python \
                 (model.merge_and_unload()) and take in the model"
            );
        }
        Ok(())
    }

    /// Whether PEFT puts an update on the linear map of this whole name (`check_target_module_exists`).
    pub fn targets(&self, module: &str) -> Result<bool> {
        if let Some(excluded) = &self.exclude_modules
            && excluded.fits(module)?
        {
            return Ok(false);
        }
        for saved in self.modules_to_save.iter().flatten() {
            if pattern(&format!(r"(^|.*\.){saved}($|\..*)"))?.is_match(module) {
                return Ok(false);
            }
        }
        let targets = self.target_modules.as_ref().context("target_modules is missing")?;
        if let Targets::Names(names) = targets
            && !names.iter().any(|name| name == module)
            && let Some(layers) = self.layers_to_transform.as_ref().map(OneOrMany::as_slice).filter(|l| !l.is_empty())
        {
            return Ok(targets.fits(module)? && self.layer(module)?.is_some_and(|layer| layers.contains(&layer)));
        }
        targets.fits(module)
    }

    /// The layer that a module lies in, by the first number behind what `layers_pattern` names.
    fn layer(&self, module: &str) -> Result<Option<usize>> {
        let holders = self.layers_pattern.as_ref().map_or(&[][..], OneOrMany::as_slice);
        let expressions = match holders {
            [] => vec![r".*?\.[^.]*\.(?P<layer>\d+)\.".to_string()],
            holders => holders.iter().map(|holder| format!(r"(?:^|.*?\.){holder}\.(?P<layer>\d+)\.")).collect(),
        };
        for expression in expressions {
            if let Some(found) = pattern(&format!("^{expression}"))?.captures(module) {
                return Ok(found.name("layer").and_then(|layer| layer.as_str().parse().ok()));
            }
        }
        Ok(None)
    }

    /// The rank of a map's update.
    pub fn rank(&self, module: &str) -> Result<i64> {
        Ok(first_fitting(&self.rank_pattern, module)?.unwrap_or(self.r))
    }

    /// The alpha of a map's update.
    pub fn alpha(&self, module: &str) -> Result<f64> {
        Ok(first_fitting(&self.alpha_pattern, module)?.unwrap_or(self.lora_alpha))
    }
}

impl Targets {
    fn fits(&self, module: &str) -> Result<bool> {
        match self {
            Targets::Pattern(all) if all == ALL_LINEAR => Ok(true),
            Targets::Pattern(expression) => Ok(pattern(&format!("^(?:{expression})$"))?.is_match(module)),
            Targets::Names(names) => Ok(names.iter().any(|name| {
                let rest = module.strip_suffix(name.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })),
        }
    }
}

/// The value of the pattern that fits a module's name (`get_pattern_key`).
fn first_fitting<T: Copy>(patterns: &Option<Ordered<T>>, module: &str) -> Result<Option<T>> {
    for (key, value) in patterns.iter().flat_map(|patterns| &patterns.0) {
        if pattern(&format!(r"^(.*\.)?({key})$"))?.is_match(module) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

fn pattern(expression: &str) -> Result<Regex> {
    match Regex::new(expression) {
        Ok(regex) => Ok(regex),
        Err(error) => {
            bail!("{expression:?} in adapter_config.json is not a regular expression that is understood: {error}")
        }
    }
}
