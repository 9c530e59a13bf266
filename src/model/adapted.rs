//! What tuning leaves behind, whatever the method.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use super::architecture::{self, TensorSpec};
use super::{EncoderConfig, HeadShape, Method, Model, Version};
use crate::params::{Delta, Stored, Theta, write_safetensors};

/// The metadata key under which an adapted file keeps its card.
const KEY: &str = "recyclable";
/// What the names of the tensors in such a file begin with.
const DELTA: &str = "delta.";
const MODULES: &str = "modules.";
const HEAD: &str = "head.";
const GROUPS: [&str; 3] = [DELTA, MODULES, HEAD];

/// Weights tuned for a task on one version of the model: Δ. Full fine-tuning fills `backbone`, adapters and LoRA fill
/// `modules`; the head belongs to the task and is always kept whole, never differenced.
#[derive(Debug)]
pub struct Adapted {
    /// Tuned − base, for methods that move the backbone.
    pub backbone: Option<Delta>,
    /// Adapters or LoRA maps, whole.
    pub modules: Option<Theta>,
    /// The classifier's head, whole.
    pub head: Theta,
    /// Where the weights come from.
    pub card: Card,
}

/// Where adapted weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// How they were tuned.
    pub method: Method,
    /// The task and its labels, in the order of the head's scores.
    pub task: String,
    /// The classes, in the order of the head's scores.
    pub labels: Vec<String>,
    /// The shape of the head, where it is not that of the family's classes in transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadShape>,
    /// Fingerprint of the backbone they were tuned on.
    pub base: String,
    /// Fingerprint of that backbone's layout (names and shapes): weights fit every base that shares it.
    pub base_layout: String,
    /// Fingerprint of the tokenizer they were tuned with; cards of older releases lack it.
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// Everything needed to repeat the tuning.
    pub recipe: Value,
    /// Scores by name, as `dev_accuracy`.
    pub scores: BTreeMap<String, f64>,
    /// Fingerprints of the bases that the weights were tuned on before and recycled from, oldest first.
    pub ancestry: Vec<String>,
}

impl Card {
    /// The card of weights for these classes, tuned on `base`.
    pub(crate) fn new(
        base: &Version,
        task: &str,
        method: Method,
        labels: Vec<String>,
        head: Option<HeadShape>,
        recipe: Value,
    ) -> Result<Card> {
        Ok(Card {
            method,
            task: task.to_string(),
            labels,
            head,
            base: base.fingerprint()?,
            base_layout: base.backbone.layout().fingerprint(),
            tokenizer: Some(base.tokenizer.fingerprint()?),
            recipe,
            scores: BTreeMap::new(),
            ancestry: Vec::new(),
        })
    }

    /// Reads the card alone, and no tensor.
    pub fn read(path: impl AsRef<Path>) -> Result<Card> {
        let path = path.as_ref();
        Card::of_file(&Stored::open(path)?, path)
    }

    /// The tool that the weights were taken in from; none for those that were tuned here.
    pub fn imported_from(&self) -> Option<&str> {
        self.recipe.get("imported")?.get("format")?.as_str()
    }

    /// The configuration of what these weights make of a base.
    pub(crate) fn config(&self, base: &Version) -> EncoderConfig {
        EncoderConfig { head: self.head, ..base.config.clone() }
    }

    /// Refuses a base of another layout or tokenizer.
    fn check_fit(&self, base: &Version) -> Result<()> {
        let layout = base.backbone.layout().fingerprint();
        ensure!(
            layout == self.base_layout,
            "these {} weights for task {} were tuned on a model of another architecture or vocabulary (layout {}, this base {layout}): \
             they can only move to a version of the same family",
            self.method.name(),
            self.task,
            self.base_layout
        );
        let Some(tuned_with) = &self.tokenizer else { return Ok(()) };
        let tokenizer = base.tokenizer.fingerprint()?;
        ensure!(
            tokenizer == *tuned_with,
            "these {} weights for task {} were tuned with another tokenizer (fingerprint {tuned_with}, this base's is {tokenizer}): the same \
             token ids mean other words to this base. Use a version whose tokenizer is the same",
            self.method.name(),
            self.task
        );
        Ok(())
    }

    fn of_file(file: &Stored, path: &Path) -> Result<Card> {
        match file.metadata().get(KEY) {
            None => bail!(
                "{} holds tensors but no card of adapted weights: it was not written by this library",
                path.display()
            ),
            Some(text) => {
                serde_json::from_str(text).with_context(|| format!("the card in {} is broken", path.display()))
            }
        }
    }
}

impl Adapted {
    /// What tuning changed: `model` is `base` after tuning.
    pub fn of(model: &Model, base: &Version, task: &str, recipe: Value) -> Result<Adapted> {
        let on_cpu = |theta: &Theta| theta.to_device(Device::Cpu);
        let backbone = match model.method().moves_backbone() {
            true => Some((&on_cpu(model.backbone())? - &base.backbone)?),
            false => None,
        };
        let labels = model.labels().to_vec();
        let card = Card::new(base, task, model.method().clone(), labels, model.config().head, recipe)?;
        Ok(Adapted { backbone, modules: model.modules().map(on_cpu).transpose()?, head: on_cpu(model.head())?, card })
    }

    /// M ⊕ Δ: the classifier these weights make of `base`, which may be another version than they were tuned on.
    ///
    /// Errors when the base has another layout or another tokenizer.
    pub fn apply(&self, base: &Version, device: Device) -> Result<Model> {
        self.check_base(base)?;
        let backbone = match &self.backbone {
            Some(delta) => (&base.backbone + delta)?,
            None => base.backbone.try_clone()?,
        };
        let modules = self.modules.as_ref().map(Theta::try_clone).transpose()?;
        let config = self.card.config(base);
        let head = self.head.try_clone()?;
        Model::from_parts(config, &self.card.labels, &self.card.method, backbone, modules, head, device)
    }

    /// Refuses a base of another layout or tokenizer; says whether it is the one the weights were tuned on.
    pub fn check_base(&self, base: &Version) -> Result<bool> {
        self.card.check_fit(base)?;
        Ok(base.fingerprint()? == self.card.base)
    }

    /// α·Δ: the backbone's difference times `alpha`; of adapters and LoRA the last linear map, which scales what they add to the
    /// network. The head stays as it is.
    ///
    /// Errors for adapters that are no addition to the model.
    pub fn scaled(&self, alpha: f64) -> Result<Adapted> {
        self.card.method.check_addition()?;
        let mut scaled = self.try_clone()?;
        scaled.backbone = self.backbone.as_ref().map(|delta| delta.scale(alpha)).transpose()?;
        if let Some(modules) = &mut scaled.modules {
            for entry in modules.layout().clone().entries() {
                if self.card.method.is_output(&entry.name) {
                    let value = modules.get(&entry.name)?.f_mul_scalar(alpha)?;
                    modules.set(&entry.name, &value)?;
                }
            }
        }
        Ok(scaled)
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Adapted> {
        Ok(Adapted {
            backbone: self.backbone.as_ref().map(Delta::try_clone).transpose()?,
            modules: self.modules.as_ref().map(Theta::try_clone).transpose()?,
            head: self.head.try_clone()?,
            card: self.card.clone(),
        })
    }

    /// Writes one safetensors file, atomically, with the card as its metadata.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut parts: Vec<(&str, &Theta)> = Vec::new();
        parts.extend(self.backbone.as_deref().map(|delta| (DELTA, delta)));
        parts.extend(self.modules.as_ref().map(|modules| (MODULES, modules)));
        parts.push((HEAD, &self.head));
        write_safetensors(path, &parts, KEY, &serde_json::to_string(&self.card)?)
    }

    /// Reads what [`Adapted::save`] wrote, for versions like `base`.
    pub fn load(path: impl AsRef<Path>, base: &Version) -> Result<Adapted> {
        let path = path.as_ref();
        let file = Stored::open(path)?;
        let card = Card::of_file(&file, path)?;
        let mut groups: HashMap<&str, BTreeMap<String, String>> = HashMap::new();
        for name in file.tensors().keys() {
            let group = GROUPS.iter().find_map(|group| Some((*group, name.strip_prefix(group)?)));
            let Some((group, rest)) = group else { bail!("{} holds an unexpected tensor {name}", path.display()) };
            groups.entry(group).or_default().insert(rest.to_string(), name.clone());
        }
        let config = &card.config(base);
        let mut fill = |group: &str, specs: Vec<TensorSpec>| -> Result<Option<Theta>> {
            let (layout, mut there) = (architecture::layout(config, &specs)?, groups.remove(group).unwrap_or_default());
            if specs.is_empty() && there.is_empty() {
                return Ok(None);
            }
            let wanted: BTreeMap<String, String> =
                specs.iter().filter_map(|spec| there.remove_entry(&spec.name)).collect();
            Theta::from_stored(Arc::new(layout), &file, &wanted, there.into_values().collect()).map(Some)
        };
        card.check_fit(base).with_context(|| path.display().to_string())?;
        let moves_backbone = card.method.moves_backbone();
        let delta = fill(DELTA, if moves_backbone { architecture::backbone(config) } else { Vec::new() })?;
        let modules = fill(MODULES, architecture::module_tensors(config, &card.method)?)?;
        let head = fill(HEAD, architecture::classifier(config, card.labels.len()))?.context("there is no head")?;
        Ok(Adapted { backbone: delta.map(Delta::new), modules, head, card })
    }
}
