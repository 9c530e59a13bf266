//! Encoder and head wired to tensors: what computes, as opposed to what is stored.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::encoder::{Encoded, Encoder};
use super::heads::{ClassifierHead, Head, LmHead};
use super::leaves::{Leaves, Rounded};
use super::pass::{Pass, Rows};
use super::{EncoderConfig, Method};
use crate::text::TokenBatch;

/// A network over the tensors of three parts. A [`super::Model`] has one over its own parameters; [`super::Model::network_at`]
/// wires another to points that depend on them.
#[derive(Debug)]
pub(crate) struct Network {
    encoder: Encoder,
    head: Head,
    /// The kind of the tensors that enter a matrix product.
    kind: Kind,
    /// What is to be rounded before a pass in bfloat16.
    rounded: Vec<Rounded>,
}

impl Network {
    pub fn new(
        config: &EncoderConfig,
        method: &Method,
        is_classifier: bool,
        backbone: &Leaves,
        modules: Option<&Leaves>,
        head: &Leaves,
    ) -> Result<Network> {
        let encoder = Encoder::new(config, backbone, method, modules)?;
        let head = match is_classifier {
            true => Head::Classifier(ClassifierHead::new(head, config)?),
            false => Head::MaskedLm(LmHead::new(head, config)?),
        };
        Ok(Network { encoder, head, kind: Kind::Float, rounded: Vec::new() })
    }

    pub fn with_kind(self, kind: Kind) -> Network {
        Network { kind, ..self }
    }

    /// Computing in bfloat16 with the rounded copies that its leaves have.
    pub fn with_rounded(self, rounded: Vec<Rounded>) -> Network {
        Network { kind: Kind::BFloat16, rounded, ..self }
    }

    /// Runs the encoder.
    pub fn encode(&self, tokens: &TokenBatch, mut pass: Pass) -> Result<(Encoded, Pass)> {
        pass.kind = self.kind;
        if pass.kind == Kind::BFloat16 {
            self.rounded.iter().try_for_each(Rounded::refresh)?;
        }
        let encoded = self.encoder.forward(tokens, &pass)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::model::{EncoderConfig, Model, Version};
    use crate::seed;
    use crate::text::Tokenizer;
    use tch::Device;

    /// What masked positions are predicted to be in a training pass, and the gradients of one score of each.
    fn training_pass(precision: Precision, dropout: f64) -> Result<(Tensor, Tensor)> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d"])?;
        let mut config = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 32, 12);
        (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (dropout, dropout);
        let model = Model::masked_lm(&Version::new(&config, &tokenizer, 1)?, Device::Cpu)?.with_precision(precision);
        let input_ids = Tensor::arange(4 * 9, (Kind::Int64, Device::Cpu)).remainder(4).view([4, 9]) + 4;
        let lengths = Tensor::from_slice(&[9_i64, 9, 7, 6]).view([4, 1]);
        let mask = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]).lt_tensor(&lengths);
        let tokens = TokenBatch { input_ids, attention_mask: Some(mask), token_types: None };
        let pass = Pass::training(seed::rng(1, "dropout", 0), Device::Cpu);
        let positions = Tensor::from_slice(&[1_i64, 5, 12, 20, 31]);
        let logits = model.network().predict(&tokens, Some(&positions), pass)?;
        let loss = logits.f_log_softmax(-1, Kind::Float)?.f_select(1, 5)?.f_sum(Kind::Float)?;
        let gradients: Vec<Tensor> = model.gradients(&loss)?.iter().map(|(_, g)| g.flatten(0, -1)).collect();
        Ok((logits, Tensor::f_cat(&gradients, 0)?))
    }

    #[test]
    fn bf16_drops_what_fp32_drops_and_predicts_masked_words_alike() -> Result<()> {
        for dropout in [0.0, 0.1] {
            let pass = |precision| training_pass(precision, dropout);
            let ((exact, slopes), (rounded, ours)) = (pass(Precision::Fp32)?, pass(Precision::Bf16)?);
            let off = f64::try_from((&rounded - &exact).abs().max() / exact.abs().max())?;
            assert!(off > 0.0 && off < 0.03, "dropout {dropout}: scores are off by {off:.1e}");
            let cosine = f64::try_from(slopes.dot(&ours) / (slopes.norm() * ours.norm()))?;
            assert!(cosine > 0.999, "dropout {dropout}: the gradients' cosine is {cosine}");
        }
        Ok(())
    }

    /// Mean, deviation (n − 1) and the standard error of each over the first axis of (n, …).
    fn moments(x: &Tensor) -> [(Tensor, Tensor); 2] {
        let (n, x) = (x.size()[0] as f64, x.to_kind(Kind::Double));
        let (mean, deviation) = (x.mean_dim(0, false, None), x.std_dim(0, true, false));
        let fourth = (x - &mean).pow_tensor_scalar(4).mean_dim(0, false, None) / deviation.pow_tensor_scalar(4);
        let error = &deviation * ((fourth - 1.0) / (4.0 * n)).sqrt();
        let of_mean = &deviation / n.sqrt();
        [(mean, of_mean), (deviation, error)]
    }

    /// Masks are each library's own, so a training pass is compared by its moments over 8,192 copies of one text: a dropout too many, too
    /// few or at another place moves them by many standard errors.
    #[test]
    fn training_drops_where_transformers_drops_in_every_layer_and_in_the_head() -> Result<()> {
        for family in ["roberta", "bert", "distilbert"] {
            let at = format!("{}/tests/parity/golden/dropout/{family}", env!("CARGO_MANIFEST_DIR"));
            let expected = crate::params::read_safetensors(format!("{at}/expected.safetensors"))?.tensors;
            let (model, _) = Model::load_classifier(at, Device::Cpu)?;
            let input_ids = expected["input_ids"].repeat([8_192, 1]); // (n, t)
            let tokens = TokenBatch { input_ids, attention_mask: None, token_types: None };
            let pass = |name| Pass::training(seed::rng(1, name, 0), Device::Cpu);
            let all = Pass { hidden_states: true, ..pass("all") };
            let (logits, encoded) = tch::no_grad(|| model.network().classify(&tokens, all))?;
            let first = Pass { rows: Rows::First, ..pass("first") };
            let alone = tch::no_grad(|| model.network().classify(&tokens, first))?.0;
            let states = encoded.hidden_states.into_iter().enumerate().map(|(at, x)| (format!("hidden.{at}"), x));
            for (name, ours) in states.chain([("logits".to_string(), logits), ("logits".to_string(), alone)]) {
                for (what, (ours, error)) in ["mean", "deviation"].into_iter().zip(moments(&ours)) {
                    let off = (ours - &expected[&format!("{what}.{name}")]).abs() / (error * 2_f64.sqrt());
                    let off = f64::try_from(off.max())?;
                    assert!(off < 5.0, "{family}: the {what} of {name} is off by {off:.1} standard errors");
                }
            }
        }
        Ok(())
    }
}
