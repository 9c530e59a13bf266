//! The tensors of a model: names, what their axes count, and what follows from their role.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::super::EncoderConfig;
use crate::params::{Layout, Part, Slot};

/// What is counted along an axis of a tensor: this gives its size, and says what an order of coordinates does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// So many of what nobody permutes: tokens, positions, classes, the inside of modules and of the classifier.
    Fixed(i64),
    /// Hidden dimensions.
    Hidden,
    /// Heads, in blocks of `hidden_size / num_attention_heads`.
    Heads,
    /// Neurons of a feed-forward map.
    Neurons,
}

impl Axis {
    pub fn size(self, config: &EncoderConfig) -> i64 {
        match self {
            Axis::Fixed(size) => size,
            Axis::Hidden | Axis::Heads => config.hidden_size,
            Axis::Neurons => config.intermediate_size,
        }
    }
}

/// What a tensor is, which says how it begins and whether it decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Vectors by number: normal at first, decays. The row of this number, if any, is zero at first.
    Table { zero: Option<i64> },
    /// The matrix of a linear map: normal at first, decays.
    Weight,
    /// Zero at first.
    Bias,
    /// The scale of a LayerNorm: one at first.
    Scale,
}

/// One tensor of a model.
#[derive(Clone, Debug)]
pub(crate) struct TensorSpec {
    pub name: String,
    pub role: Role,
    pub part: Part,
    /// What each axis counts: of a linear map what it writes, then what it reads.
    pub axes: Vec<Axis>,
}

impl TensorSpec {
    pub fn shape(&self, config: &EncoderConfig) -> Vec<i64> {
        self.axes.iter().map(|axis| axis.size(config)).collect()
    }
}

/// Where these tensors lie in a flat buffer.
pub(crate) fn layout(config: &EncoderConfig, specs: &[TensorSpec]) -> Result<Layout> {
    let decay = |role| matches!(role, Role::Table { .. } | Role::Weight);
    Layout::new(specs.iter().map(|spec| Slot {
        name: spec.name.clone(),
        shape: spec.shape(config),
        decay: decay(spec.role),
        part: spec.part,
    }))
    .context("the sizes in config.json cannot be")
}

impl EncoderConfig {
    /// A hash of the names and shapes of the backbone's tensors: weights move between encoders that share it.
    pub(crate) fn layout_fingerprint(&self) -> Result<String> {
        Ok(layout(self, &backbone(self))?.fingerprint())
    }
}

/// Weight and bias of a linear map that writes and reads these.
pub(super) fn linear(name: String, part: Part, writes: Axis, reads: Axis) -> [TensorSpec; 2] {
    let weight = TensorSpec { name: format!("{name}.weight"), role: Role::Weight, part, axes: vec![writes, reads] };
    [weight, TensorSpec { name: format!("{name}.bias"), role: Role::Bias, part, axes: vec![writes] }]
}

pub(super) fn norm(name: String, part: Part) -> [TensorSpec; 2] {
    let tensor = |end: &str, role| TensorSpec { name: format!("{name}.{end}"), role, part, axes: vec![Axis::Hidden] };
    [tensor("weight", Role::Scale), tensor("bias", Role::Bias)]
}

/// A linear map of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearMap {
    /// Below the layer's prefix.
    pub name: &'static str,
    pub writes: Axis,
    pub reads: Axis,
}

/// The linear maps of one layer, in the order of computation.
pub(crate) fn linear_maps(config: &EncoderConfig) -> [LinearMap; 6] {
    let layer = &config.architecture().layer;
    let map = |name, writes, reads| LinearMap { name, writes, reads };
    [
        map(layer.query, Axis::Heads, Axis::Hidden),
        map(layer.key, Axis::Heads, Axis::Hidden),
        map(layer.value, Axis::Heads, Axis::Hidden),
        map(layer.attention_output, Axis::Hidden, Axis::Heads),
        map(layer.intermediate, Axis::Neurons, Axis::Hidden),
        map(layer.output, Axis::Hidden, Axis::Neurons),
    ]
}

/// What every linear map of the encoder writes and reads, by its whole name.
pub(crate) fn map_shapes(config: &EncoderConfig) -> BTreeMap<String, [i64; 2]> {
    let of_layer = |layer| {
        let prefix = config.architecture().layer_prefix(layer);
        let shape = |map: &LinearMap| [map.writes.size(config), map.reads.size(config)];
        linear_maps(config).map(|map| (format!("{prefix}.{}", map.name), shape(&map)))
    };
    (0..config.num_hidden_layers).flat_map(of_layer).collect()
}

/// The same of the classification head, but for the last map, which writes classes.
pub(crate) fn head_map_shapes(config: &EncoderConfig) -> BTreeMap<String, [i64; 2]> {
    let dense = config.architecture().classifier.dense.to_string();
    BTreeMap::from([(dense, [config.hidden_size, config.hidden_size])])
}

/// The last map of the classification head, which scores the classes.
pub(crate) fn scores(config: &EncoderConfig) -> &'static str {
    config.architecture().classifier.out
}

/// The modules that the classification head is made of, as another tool names them to save them whole.
pub(crate) fn head_modules(config: &EncoderConfig) -> Vec<&'static str> {
    let names = &config.architecture().classifier;
    let outer = |name: &'static str| name.split_once('.').map_or(name, |(first, _)| first);
    // BERT's pooler is of the encoder.
    let dense = if names.pooler { "pooler" } else { outer(names.dense) };
    let mut modules = vec![dense, outer(names.out)];
    modules.dedup();
    modules
}

/// The backbone: embeddings and layers.
pub(crate) fn backbone(config: &EncoderConfig) -> Vec<TensorSpec> {
    let (family, part) = (config.architecture(), Part::Embeddings);
    let mut specs = Vec::new();
    let mut table = |name: &str, rows: i64, zero: Option<i64>| {
        let (name, axes) = (format!("{}.weight", family.embedding(name)), vec![Axis::Fixed(rows), Axis::Hidden]);
        specs.push(TensorSpec { name, role: Role::Table { zero }, part, axes });
    };
    table(family.embeddings.words, config.vocab_size, Some(config.pad_token_id));
    let behind = family.positions == super::Positions::BehindPadding;
    table(family.embeddings.positions, config.max_position_embeddings, behind.then_some(config.pad_token_id));
    if let Some(name) = family.embeddings.token_types {
        table(name, config.type_vocab_size, None);
    }
    specs.extend(norm(family.embedding(family.embeddings.norm), part));
    for layer in 0..config.num_hidden_layers {
        let (prefix, part) = (family.layer_prefix(layer), Part::Layer(layer));
        for map in linear_maps(config) {
            specs.extend(linear(format!("{prefix}.{}", map.name), part, map.writes, map.reads));
        }
        for name in [family.layer.attention_norm, family.layer.output_norm] {
            specs.extend(norm(format!("{prefix}.{name}"), part));
        }
    }
    specs
}

/// The masked-LM head; its decoder's matrix is the word embeddings.
pub(crate) fn masked_lm(config: &EncoderConfig) -> Vec<TensorSpec> {
    let (names, part) = (&config.architecture().masked_lm, Part::Other);
    // What the decoder reads is hidden too: it is the word embeddings.
    let mut specs = linear(names.dense.to_string(), part, Axis::Hidden, Axis::Hidden).to_vec();
    specs.extend(norm(names.norm.to_string(), part));
    let axes = vec![Axis::Fixed(config.vocab_size)];
    specs.push(TensorSpec { name: names.bias.to_string(), role: Role::Bias, part, axes });
    specs
}

/// The map of the classification head that may be pre-trained: BERT's pooler. Other families have none.
pub(crate) fn pooler(config: &EncoderConfig) -> Vec<TensorSpec> {
    let names = &config.architecture().classifier;
    if !names.pooler {
        return Vec::new();
    }
    linear(names.dense.to_string(), Part::Pooler, Axis::Fixed(config.hidden_size), Axis::Hidden).to_vec()
}

/// The classification head for this many classes, with a pooler where the family has one; of another shape where the configuration says so.
pub(crate) fn classifier(config: &EncoderConfig, classes: usize) -> Vec<TensorSpec> {
    let (names, part, inside) = (&config.architecture().classifier, Part::Other, Axis::Fixed(config.hidden_size));
    let (classes, out) = (Axis::Fixed(classes as i64), names.out.to_string());
    if !config.head_shape().dense {
        return linear(out, part, classes, Axis::Hidden).to_vec();
    }
    let mut specs = pooler(config);
    if specs.is_empty() {
        specs.extend(linear(names.dense.to_string(), part, inside, Axis::Hidden));
    }
    specs.extend(linear(out, part, classes, inside));
    specs
}
