//! What differs between families of encoders, each as one value.
//!
//! All families compute the same: embeddings, post-LayerNorm layers of attention and a feed-forward map, a masked-LM head tied to the
//! word embeddings, a classifier that reads the first token. They differ in what their tensors and settings are called, how positions
//! are counted, whether there are token types, and how the classifier is built. Nothing outside this room knows a tensor's name.

mod families;
mod modules;
mod names;
mod tensors;

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::Activation;

pub(crate) use modules::{
    ADAPTER_DOWN, ADAPTER_NORM_AFTER, ADAPTER_NORM_BEFORE, ADAPTER_SCALING, ADAPTER_UP, LORA_A, LORA_B, adapter_places,
    module_tensors, names_module,
};
pub(crate) use names::{Named, OtherHead, whole_names};
pub(crate) use tensors::{
    Axis, Role, TensorSpec, backbone, classifier, head_map_shapes, head_modules, layout, linear_maps, map_shapes,
    masked_lm, pooler, scores,
};

/// A family of encoders, named as in `model_type` of a `config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// RoBERTa.
    #[default]
    Roberta,
    /// XLM-RoBERTa: RoBERTa's network over a multilingual vocabulary.
    XlmRoberta,
    /// CamemBERT: RoBERTa's network over a French vocabulary.
    Camembert,
    /// BERT, MiniLM among it.
    Bert,
    /// DistilBERT: without token types and pooler.
    Distilbert,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 5] =
        [Family::Roberta, Family::XlmRoberta, Family::Camembert, Family::Bert, Family::Distilbert];

    /// What sets this family apart.
    pub(crate) fn architecture(self) -> &'static Architecture {
        match self {
            Family::Roberta => &families::ROBERTA,
            Family::XlmRoberta => &families::XLM_ROBERTA,
            Family::Camembert => &families::CAMEMBERT,
            Family::Bert => &families::BERT,
            Family::Distilbert => &families::DISTILBERT,
        }
    }

    /// The name in transformers of this family with that head: `BertForMaskedLM`.
    pub(crate) fn class(self, head: &str) -> String {
        format!("{}{head}", self.architecture().class)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.architecture().model_type)
    }
}

impl FromStr for Family {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Family> {
        let known = || Family::ALL.iter().map(Family::to_string).collect::<Vec<_>>().join(", ");
        match Family::ALL.iter().find(|family| family.architecture().model_type == name) {
            Some(family) => Ok(*family),
            None => bail!("model_type {name:?} is not supported: {} are", known()),
        }
    }
}

/// All that differs between families.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `model_type` in config.json.
    pub model_type: &'static str,
    /// What its classes in transformers begin with: `Roberta` as in `RobertaForMaskedLM`.
    pub class: &'static str,
    /// What the names of the encoder's tensors begin with.
    pub prefix: &'static str,
    /// How positions are counted.
    pub positions: Positions,
    /// The embeddings, below the prefix.
    pub embeddings: Embeddings,
    /// What comes before a layer's number, below the prefix.
    pub layers: &'static str,
    /// What is in a layer, below its number.
    pub layer: Layer,
    /// Where AdapterHub puts its adapters in a layer: behind attention, behind the feed-forward map.
    pub hub_places: [&'static str; 2],
    /// Whether dropout stands behind attention, as it does behind the feed-forward map.
    pub drops_attention_output: bool,
    /// The masked-LM head.
    pub masked_lm: MaskedLm,
    /// The classification head.
    pub classifier: Classifier,
    /// Its settings where their names are not those of [`super::EncoderConfig`]: (theirs, ours).
    pub settings: &'static [(&'static str, &'static str)],
    /// Settings of [`super::EncoderConfig`] that it does not have.
    pub absent_settings: &'static [&'static str],
}

/// How positions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// 0, 1, 2, … in every row of the table.
    FromZero,
    /// Over tokens that are no padding, from behind the row that padding has.
    BehindPadding,
}

#[derive(Debug)]
pub(crate) struct Embeddings {
    pub words: &'static str,
    pub positions: &'static str,
    pub token_types: Option<&'static str>,
    pub norm: &'static str,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub intermediate: &'static str,
    pub output: &'static str,
    pub output_norm: &'static str,
}

/// decoder(LayerNorm(gelu(dense(x)))), the decoder's matrix being the word embeddings.
#[derive(Debug)]
pub(crate) struct MaskedLm {
    pub dense: &'static str,
    pub norm: &'static str,
    /// The decoder's bias; where two names are in use, that of the older one.
    pub bias: &'static str,
    /// The decoder, as files name it that keep its matrix or bias apart.
    pub decoder: &'static str,
}

/// out(dropout(activation(dense(dropout(first token)))))
#[derive(Debug)]
pub(crate) struct Classifier {
    pub dense: &'static str,
    /// Whether the dense map belongs to the encoder: BERT's pooler, which may be pre-trained.
    pub pooler: bool,
    /// Whether the first token is dropped from before that map, too.
    pub drops_first: bool,
    pub activation: Activation,
    pub out: &'static str,
}

impl Architecture {
    /// What the names in the layer with this number begin with.
    pub fn layer_prefix(&self, layer: usize) -> String {
        format!("{}.{}.{layer}", self.prefix, self.layers)
    }

    /// The full name of something in the embeddings.
    pub fn embedding(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_its_name_and_others_are_refused_with_the_choices() -> Result<()> {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse::<Family>()?, family);
            assert_eq!(serde_json::to_value(family)?, family.to_string());
        }
        assert_eq!(Family::XlmRoberta.class("ForMaskedLM"), "XLMRobertaForMaskedLM");
        let error = "gpt2".parse::<Family>().unwrap_err().to_string();
        assert!(error.contains("gpt2") && error.contains("xlm-roberta, camembert, bert, distilbert"), "{error}");
        Ok(())
    }
}
