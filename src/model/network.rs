//! Encoder and head wired to tensors: what computes, as opposed to what is stored.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::heads::{ClassifierHead, Head, LmHead};
use super::leaves::Leaves;
use super::roberta::{Encoded, Pass, Roberta, Rows};
use super::{Method, RobertaConfig};
use crate::text::TokenBatch;

/// A network over the tensors of three parts. A [`super::Model`] has one over its own parameters; [`super::Model::network_at`]
/// wires another to points that depend on them.
#[derive(Debug)]
pub(crate) struct Network {
    encoder: Roberta,
    head: Head,
    /// The kind of the tensors that enter a matrix product.
    kind: Kind,
}

impl Network {
    pub fn new(
        config: &RobertaConfig,
        method: &Method,
        is_classifier: bool,
        backbone: &Leaves,
        modules: Option<&Leaves>,
        head: &Leaves,
    ) -> Result<Network> {
        let encoder = Roberta::new(config, backbone, method, modules)?;
        let head = match is_classifier {
            true => Head::Classifier(ClassifierHead::new(head, config)?),
            false => Head::MaskedLm(LmHead::new(head, config.layer_norm_eps)?),
        };
        Ok(Network { encoder, head, kind: Kind::Float })
    }

    pub fn with_kind(self, kind: Kind) -> Network {
        Network { kind, ..self }
    }

    /// Runs the encoder.
    pub fn encode(&self, tokens: &TokenBatch, mut pass: Pass) -> Result<(Encoded, Pass)> {
        pass.kind = self.kind;
        let encoded = self.encoder.forward(&tokens.input_ids, tokens.attention_mask.as_ref(), &pass)?;
        Ok((encoded, pass))
    }

    /// Class scores (b, classes) and whatever else the pass asked for.
    pub fn classify(&self, tokens: &TokenBatch, pass: Pass) -> Result<(Tensor, Encoded)> {
        let Head::Classifier(head) = &self.head else { bail!("this is a masked language model, not a classifier") };
        let (encoded, pass) = self.encode(tokens, pass)?;
        Ok((head.forward(&encoded, &pass)?, encoded))
    }

    /// Vocabulary scores: (b, t, vocabulary), or (m, vocabulary) for the flat positions (m) given as indices into b·t.
    pub fn predict(&self, tokens: &TokenBatch, positions: Option<&Tensor>, mut pass: Pass) -> Result<Tensor> {
        let Head::MaskedLm(head) = &self.head else { bail!("this is a classifier, not a masked language model") };
        if let Some(positions) = positions {
            pass.rows = Rows::At(positions.shallow_clone());
        }
        let (encoded, pass) = self.encode(tokens, pass)?;
        let logits = head.forward(&encoded.last, self.encoder.word_embeddings(), &pass)?;
        Ok(if positions.is_some() { logits.f_squeeze_dim(0)? } else { logits })
    }
}
