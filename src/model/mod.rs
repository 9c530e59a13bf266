//! Encoders with their heads, adapters and LoRA, over flat parameters.

mod absorbed;
mod activation;
mod adapted;
mod adapter;
pub(crate) mod architecture;
mod config;
mod controls;
mod encoder;
mod heads;
mod leaves;
mod load;
mod lora;
mod maps;
mod method;
mod network;
mod pass;
mod permutation;
mod permuted;
mod show;
#[cfg(test)]
mod testing;
mod version;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

pub use activation::Activation;
pub use adapted::{Adapted, Card};
pub use architecture::Family;
pub use config::{EncoderConfig, HeadShape};
pub use method::{AdapterConfig, AdapterPosition, LoraBias, LoraConfig, Method, Scaling, Signal, Sublayers, Wiring};
pub use permutation::{Coordinates, Permutation};
pub use version::Version;

use crate::device::Precision;
use crate::params::{Theta, write_safetensors};
use crate::seed;
use crate::text::{TokenBatch, Tokenizer};
pub(crate) use encoder::Encoded;
use leaves::Leaves;
pub(crate) use network::Network;
pub(crate) use pass::{Pass, Rows};
use version::{initialised, save_tokenizer};

/// The pattern that trains no parameter of the backbone, on purpose.
const HEAD_ALONE: &str = "^$";

/// A model ready to compute: three flat parameter vectors and the network wired to them.
#[derive(Debug)]
pub struct Model {
    config: EncoderConfig,
    method: Method,
    labels: Vec<String>,
    precision: Precision,
    backbone: Part,
    modules: Option<Part>,
    head: Part,
    network: Network,
}

/// Parameters and the leaves that share their memory.
#[derive(Debug)]
pub(crate) struct Part {
    pub theta: Theta,
    pub leaves: Leaves,
}

impl Part {
    fn new(theta: Theta) -> Result<Part> {
        Ok(Part { leaves: Leaves::of(&theta)?, theta })
    }
}

impl Model {
    /// The masked language model of a version, all of it trained.
    pub fn masked_lm(version: &Version, device: Device) -> Result<Model> {
        let (backbone, head) = (version.backbone.to_device(device)?, version.lm_head.to_device(device)?);
        Model::wire(version.config.clone(), Method::Full, Vec::new(), backbone, None, head)
    }

    /// A classifier on this version with fresh modules and head, both drawn from `seed` alone: equal seeds give equal heads
    /// and modules on every version of a family.
    pub fn classifier(
        version: &Version,
        labels: &[String],
        method: &Method,
        seed: u64,
        device: Device,
    ) -> Result<Model> {
        let modules = fresh_modules(&version.config, method, seed)?;
        let head = fresh_head(version, labels, seed)?;
        let config = version.config.clone();
        Model::from_parts(config, labels, method, version.backbone.try_clone()?, modules, head, device)
    }

    /// A classifier made of these parts.
    pub(crate) fn from_parts(
        config: EncoderConfig,
        labels: &[String],
        method: &Method,
        backbone: Theta,
        modules: Option<Theta>,
        head: Theta,
        device: Device,
    ) -> Result<Model> {
        ensure!(labels.len() >= 2, "a classifier needs at least two labels, there are {}: {labels:?}", labels.len());
        let modules = modules.map(|modules| modules.to_device(device)).transpose()?;
        let (backbone, head) = (backbone.to_device(device)?, head.to_device(device)?);
        Model::wire(config, method.clone(), labels.to_vec(), backbone, modules, head)
    }

    fn wire(
        config: EncoderConfig,
        method: Method,
        labels: Vec<String>,
        backbone: Theta,
        modules: Option<Theta>,
        head: Theta,
    ) -> Result<Model> {
        let (backbone, head) = (Part::new(backbone)?, Part::new(head)?);
        let modules = modules.map(Part::new).transpose()?;
        let module_leaves = modules.as_ref().map(|part| &part.leaves);
        let network =
            Network::new(&config, &method, !labels.is_empty(), &backbone.leaves, module_leaves, &head.leaves)?;
        let trains = method.trains_backbone()?;
        backbone.leaves.set_trainable(&trains)?;
        if let Method::Matching(pattern) = &method {
            ensure!(
                pattern == HEAD_ALONE || !backbone.leaves.trainable().is_empty(),
                "{pattern:?} matches no parameter of the backbone: train the head alone with {HEAD_ALONE:?}, or choose among {}",
                backbone
                    .theta
                    .layout()
                    .entries()
                    .iter()
                    .map(|entry| entry.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
        for part in modules.iter().chain([&head]) {
            part.leaves.set_trainable(|_| true)?;
        }
        let precision = Precision::Fp32;
        Ok(Model { config, method, labels, precision, backbone, modules, head, network })
    }

    /// The same model computing its matrix products in another precision.
    pub fn with_precision(mut self, precision: Precision) -> Model {
        self.precision = precision.resolve(self.device());
        let rounding = (self.precision == Precision::Bf16).then(|| self.rounding_network());
        self.network = match rounding {
            Some(Ok(network)) => network,
            // Without room for a rounded copy of the weights, they are rounded for every product.
            _ => self.network.with_kind(self.precision.kind(self.backbone.theta.device())),
        };
        self
    }

    /// The network, with weights that are rounded to bfloat16 once they have changed, and not for every product.
    fn rounding_network(&self) -> Result<Network> {
        let rounded = |part: &Part| part.leaves.rounded(&part.theta);
        let (backbone, head) = (rounded(&self.backbone)?, rounded(&self.head)?);
        let modules = self.modules.as_ref().map(rounded).transpose()?;
        let (leaves, modules) = modules.unzip();
        let network =
            Network::new(&self.config, &self.method, !self.labels.is_empty(), &backbone.0, leaves.as_ref(), &head.0)?;
        Ok(network.with_rounded([Some(backbone.1), modules, Some(head.1)].into_iter().flatten().collect()))
    }

    /// The precision matrix products are computed in: never `Auto`.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The shape of the network.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The class names of a classifier, in the order of its scores.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The tuning method it is made for.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where its tensors lie.
    pub fn device(&self) -> Device {
        self.backbone.theta.device()
    }

    /// The encoder's parameters.
    pub fn backbone(&self) -> &Theta {
        &self.backbone.theta
    }

    /// The adapters' or LoRA's parameters.
    pub fn modules(&self) -> Option<&Theta> {
        self.modules.as_ref().map(|part| &part.theta)
    }

    /// The head's parameters.
    pub fn head(&self) -> &Theta {
        &self.head.theta
    }

    /// Backbone, modules, head: the parts that exist, mutably.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        [Some(&mut self.backbone), self.modules.as_mut(), Some(&mut self.head)].into_iter().flatten()
    }

    /// Backbone, modules, head: the parts that exist.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        [Some(&self.backbone), self.modules.as_ref(), Some(&self.head)].into_iter().flatten()
    }

    /// The network over this model's own parameters.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The network at the point scale · θ + offset, where θ are this model's parameters: gradients of what it computes reach θ.
    ///
    /// `offset` has one vector for each part of the model, in their order.
    pub(crate) fn network_at(&self, scale: f64, offset: &[Theta]) -> Result<Network> {
        let moved = self.parts().zip(offset).map(|(part, offset)| part.leaves.affine(scale, offset));
        let moved = moved.collect::<Result<Vec<_>>>()?;
        let (backbone, modules, head) = match moved.as_slice() {
            [backbone, head] if self.modules.is_none() => (backbone, None, head),
            [backbone, modules, head] => (backbone, Some(modules), head),
            _ => bail!("a model of {} parts cannot be moved by {} vectors", self.parts().count(), offset.len()),
        };
        let network = Network::new(&self.config, &self.method, !self.labels.is_empty(), backbone, modules, head)?;
        Ok(network.with_kind(self.precision.kind(self.device())))
    }

    /// Overwrites every parameter with Σ weight · θ over `terms`, models of the same shape on the same device.
    pub(crate) fn write_sum(&mut self, terms: &[(f64, &Model)]) -> Result<()> {
        let parts: Vec<Vec<&Part>> = terms.iter().map(|(_, model)| model.parts().collect()).collect();
        for (at, part) in self.parts_mut().enumerate() {
            let of_part = terms.iter().zip(&parts).map(|((weight, _), parts)| {
                Ok((*weight, &parts.get(at).context("the models have different parts")?.theta))
            });
            part.theta.write_sum(&of_part.collect::<Result<Vec<_>>>()?)?;
        }
        Ok(())
    }

    /// A copy with parameters of its own.
    pub(crate) fn try_clone(&self) -> Result<Model> {
        let modules = self.modules.as_ref().map(|part| part.theta.try_clone()).transpose()?;
        let (backbone, head) = (self.backbone.theta.try_clone()?, self.head.theta.try_clone()?);
        let (config, method, labels) = (self.config.clone(), self.method.clone(), self.labels.clone());
        Ok(Model::wire(config, method, labels, backbone, modules, head)?.with_precision(self.precision))
    }

    /// Names of the parameters that training moves.
    pub fn trainable(&self) -> Vec<String> {
        self.parts().flat_map(|part| part.leaves.trainable()).collect()
    }

    /// Chooses what training moves: the parameters for which `trainable` says so.
    pub fn set_trainable(&self, trainable: impl Fn(&str) -> bool) -> Result<()> {
        self.parts().try_for_each(|part| part.leaves.set_trainable(&trainable))
    }

    /// ∂loss/∂θ of every trained parameter, by name; zero where the loss does not depend on it.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let names = self.trainable();
        let find = |name: &String| self.parts().find_map(|part| part.leaves.get(name).ok());
        let leaves: Vec<Tensor> = names.iter().filter_map(find).collect();
        let zero =
            leaves.iter().map(|leaf| leaf.f_sum(Kind::Float)?.f_mul_scalar(0.0)).collect::<Result<Vec<_>, _>>()?;
        let loss = loss.f_add(&Tensor::f_stack(&zero, 0)?.f_sum(Kind::Float)?)?;
        let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
        Ok(names.into_iter().zip(gradients).collect())
    }

    /// Class scores (b, classes).
    pub fn logits(&self, tokens: &TokenBatch) -> Result<Tensor> {
        Ok(self.classify(tokens, Pass { rows: Rows::First, ..Pass::evaluation() })?.0)
    }

    pub(crate) fn classify(&self, tokens: &TokenBatch, pass: Pass) -> Result<(Tensor, Encoded)> {
        self.network.classify(tokens, pass)
    }

    /// Vocabulary scores: (b, t, vocabulary), or (m, vocabulary) for the flat positions (m) given as indices into b·t.
    pub fn mlm_logits(&self, tokens: &TokenBatch, positions: Option<&Tensor>) -> Result<Tensor> {
        self.network.predict(tokens, positions, Pass::evaluation())
    }

    /// The embeddings' output and every layer's, each (b, t, h).
    pub fn hidden_states(&self, tokens: &TokenBatch) -> Result<Vec<Tensor>> {
        Ok(self.network.encode(tokens, Pass { hidden_states: true, ..Pass::evaluation() })?.0.hidden_states)
    }

    /// Every layer's hidden states and attention weights (b, heads, t, t), by the explicit formula instead of the fused kernel.
    pub fn attentions(&self, tokens: &TokenBatch) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        let pass = Pass { hidden_states: true, attentions: true, ..Pass::evaluation() };
        let encoded = self.network.encode(tokens, pass)?.0;
        Ok((encoded.hidden_states, encoded.attentions))
    }

    /// Writes a classifier as a `…ForSequenceClassification` folder of its family. Adapters and LoRA have no place in one: save the
    /// [`Adapted`] weights instead.
    pub fn save(&self, folder: impl AsRef<Path>, tokenizer: &Tokenizer) -> Result<()> {
        let folder = folder.as_ref();
        ensure!(
            !self.labels.is_empty(),
            "only a classifier is saved this way; save a `Version` for a masked language model"
        );
        ensure!(
            self.modules.is_none(),
            "a model with {} modules does not fit a {} folder: save the adapted weights",
            self.method.name(),
            self.config.model_type.class("ForSequenceClassification")
        );
        ensure!(
            self.config.head.is_none(),
            "this model's classification head is not of the shape that a {} has: export the adapted weights for AdapterHub",
            self.config.model_type.class("ForSequenceClassification")
        );
        let parts = [("", &self.backbone.theta), ("", &self.head.theta)];
        write_safetensors(folder.join("model.safetensors"), &parts, "format", "pt")?;
        save_tokenizer(tokenizer, &self.config, folder)?;
        self.config.save_classifier(folder.join("config.json"), &self.labels)
    }
}

/// A fresh classification head; its pooler, where the version has one, is that.
pub(crate) fn fresh_head(version: &Version, labels: &[String], seed: u64) -> Result<Theta> {
    let (config, mut rng) = (&version.config, seed::rng(seed, "classification-head", 0));
    let specs = architecture::classifier(config, labels.len());
    let mut head = initialised(config, &specs, config.initializer_range, &mut rng)?;
    if let Some(pooler) = &version.pooler {
        for entry in pooler.layout().entries() {
            head.set(&entry.name, &pooler.view(&entry.name)?)?;
        }
    }
    Ok(head)
}

/// Fresh modules of a method, or nothing where it has none.
pub(crate) fn fresh_modules(config: &EncoderConfig, method: &Method, seed: u64) -> Result<Option<Theta>> {
    method.validate()?;
    let specs = architecture::module_tensors(config, method)?;
    if specs.is_empty() {
        return Ok(None);
    }
    let mut rng = seed::rng(seed, "modules", 0);
    let std = if let Method::Adapter(adapter) = method { adapter.initializer_range } else { 1.0 };
    let mut modules = initialised(config, &specs, std, &mut rng).context("cannot make the modules")?;
    if let Method::Lora(_) = method {
        initialise_lora(method, &mut modules, &mut rng)?;
    }
    Ok(Some(modules))
}

/// A uniform in ±1/√in (Kaiming with a = √5, as in peft), B zero.
fn initialise_lora(method: &Method, modules: &mut Theta, rng: &mut rand_xoshiro::Xoshiro256PlusPlus) -> Result<()> {
    use rand::RngExt;
    for entry in modules.layout().clone().entries() {
        let bound = if method.is_output(&entry.name) { 0.0 } else { 1.0 / (entry.shape[1] as f32).sqrt() };
        let numbers: Vec<f32> = (0..entry.len).map(|_| (rng.random::<f32>() * 2.0 - 1.0) * bound).collect();
        modules.set(
            &entry.name,
            &Tensor::f_from_slice(&numbers)?.f_to_kind(Kind::Float)?.f_view(entry.shape.as_slice())?,
        )?;
    }
    Ok(())
}
