//! What stands on the encoder: the masked-LM head and the classification head.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::RobertaConfig;
use super::leaves::{Leaves, Weight};
use super::roberta::{Encoded, LayerNorm, Linear, Pass, gelu, linear};

/// Names and shapes of the masked-LM head; its decoder is the word embedding matrix.
pub(crate) fn lm_head_tensors(config: &RobertaConfig) -> Vec<(String, Vec<i64>)> {
    let h = config.hidden_size;
    let named = [
        ("lm_head.dense.weight", vec![h, h]),
        ("lm_head.dense.bias", vec![h]),
        ("lm_head.layer_norm.weight", vec![h]),
        ("lm_head.layer_norm.bias", vec![h]),
        ("lm_head.bias", vec![config.vocab_size]),
    ];
    named.map(|(name, shape)| (name.to_string(), shape)).to_vec()
}

/// Names and shapes of a classification head for this many classes.
pub(crate) fn classifier_tensors(config: &RobertaConfig, classes: usize) -> Vec<(String, Vec<i64>)> {
    let (h, classes) = (config.hidden_size, classes as i64);
    let named = [
        ("classifier.dense.weight", vec![h, h]),
        ("classifier.dense.bias", vec![h]),
        ("classifier.out_proj.weight", vec![classes, h]),
        ("classifier.out_proj.bias", vec![classes]),
    ];
    named.map(|(name, shape)| (name.to_string(), shape)).to_vec()
}

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
    pub fn new(leaves: &Leaves, eps: f64) -> Result<LmHead> {
        let norm = LayerNorm::new(leaves, "lm_head.layer_norm", eps)?;
        Ok(LmHead { dense: Linear::new(leaves, "lm_head.dense")?, norm, bias: leaves.weight("lm_head.bias")? })
    }

    /// (…, h) to logits (…, vocabulary).
    pub fn forward(&self, x: &Tensor, word_embeddings: &Weight, pass: &Pass) -> Result<Tensor> {
        let x = self.norm.forward(&gelu(&self.dense.forward(x, pass)?)?)?;
        Ok(linear(&x, &[word_embeddings], &[&self.bias], pass)?.f_to_kind(Kind::Float)?)
    }
}

/// W_out · dropout(tanh(W · dropout(x) + b)) + b_out of the last hidden state of `<s>`.
#[derive(Debug)]
pub(crate) struct ClassifierHead {
    dense: Linear,
    out_proj: Linear,
    dropout: f64,
}

impl ClassifierHead {
    pub fn new(leaves: &Leaves, config: &RobertaConfig) -> Result<ClassifierHead> {
        let dropout = config.classifier_dropout.unwrap_or(config.hidden_dropout_prob);
        let (dense, out_proj) = (Linear::new(leaves, "classifier.dense")?, Linear::new(leaves, "classifier.out_proj")?);
        Ok(ClassifierHead { dense, out_proj, dropout })
    }

    /// Logits (b, classes).
    pub fn forward(&self, encoded: &Encoded, pass: &Pass) -> Result<Tensor> {
        let x = pass.dropout(&encoded.last.f_select(1, 0)?, self.dropout)?; // (b, h)
        let x = pass.dropout(&self.dense.forward(&x, pass)?.f_tanh()?, self.dropout)?;
        self.out_proj.forward(&x, pass)?.f_to_kind(Kind::Float).context("cannot compute the class scores")
    }
}
