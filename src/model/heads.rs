//! What stands on the encoder: the masked-LM head and the classification head.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::activation::gelu;
use super::encoder::Encoded;
use super::leaves::{Leaves, Weight};
use super::maps::{LayerNorm, Linear};
use super::pass::{Pass, linear};
use super::{Activation, EncoderConfig};

#[derive(Debug)]
pub(crate) enum Head {
    MaskedLm(LmHead),
    Classifier(ClassifierHead),
}

/// decoder(LayerNorm(gelu(W·x + b))) with the decoder tied to the word embeddings.
#[derive(Debug)]
pub(crate) struct LmHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Weight,
}

impl LmHead {
    pub fn new(leaves: &Leaves, config: &EncoderConfig) -> Result<LmHead> {
        let names = &config.architecture().masked_lm;
        let norm = LayerNorm::new(leaves, names.norm, config.layer_norm_eps)?;
        Ok(LmHead { dense: Linear::new(leaves, names.dense)?, norm, bias: leaves.weight(names.bias)? })
    }

    /// (…, h) to logits (…, vocabulary).
    pub fn forward(&self, x: &Tensor, word_embeddings: &Weight, pass: &Pass) -> Result<Tensor> {
        let x = self.norm.forward(&gelu(&self.dense.forward(x, pass)?)?)?;
        Ok(linear(&x, &[word_embeddings], &[&self.bias], pass)?.f_to_kind(Kind::Float)?)
    }
}

/// W_out · dropout(activation(W · x + b)) + b_out, where x is the last hidden state of the first token: `<s>` or `[CLS]`. RoBERTa's
/// head drops from x, too.
#[derive(Debug)]
pub(crate) struct ClassifierHead {
    dense: Option<Linear>,
    activation: Activation,
    out: Linear,
    dropout: f64,
    drops_first: bool,
}

impl ClassifierHead {
    pub fn new(leaves: &Leaves, config: &EncoderConfig) -> Result<ClassifierHead> {
        let (names, shape) = (&config.architecture().classifier, config.head_shape());
        Ok(ClassifierHead {
            dense: shape.dense.then(|| Linear::new(leaves, names.dense)).transpose()?,
            activation: shape.activation,
            out: Linear::new(leaves, names.out)?,
            dropout: config.classifier_dropout.unwrap_or(config.hidden_dropout_prob),
            drops_first: names.drops_first,
        })
    }

    /// Logits (b, classes).
    pub fn forward(&self, encoded: &Encoded, pass: &Pass) -> Result<Tensor> {
        let mut x = encoded.last.f_select(1, 0)?; // (b, h)
        if self.drops_first {
            x = pass.dropout(&x, self.dropout)?;
        }
        if let Some(dense) = &self.dense {
            x = self.activation.forward(&dense.forward(&x, pass)?)?;
        }
        let x = pass.dropout(&x, self.dropout)?;
        self.out.forward(&x, pass)?.f_to_kind(Kind::Float).context("cannot compute the class scores")
    }
}
