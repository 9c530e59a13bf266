//! What two models must share to be compared on the same texts, and which positions of a batch count.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use crate::model::EncoderConfig;
use crate::text::TokenBatch;

/// Tokens a batch holds at most. Attention grows with tokens × length × heads, so this is less than an evaluation takes.
pub(super) const BATCH_TOKENS: usize = 2_048;

/// Refuses models that do not read the same token ids, or have no layers to pair. Two tokenizers of one size look alike here:
/// that both models were trained with the one that made the ids is the caller's business.
pub(super) fn check_same_inputs(a: &EncoderConfig, b: &EncoderConfig) -> Result<()> {
    let pairs = [
        ("layers (num_hidden_layers)", a.num_hidden_layers as i64, b.num_hidden_layers as i64),
        ("tokens in the vocabulary (vocab_size)", a.vocab_size, b.vocab_size),
        ("as the id of padding (pad_token_id)", a.pad_token_id, b.pad_token_id),
    ];
    for (what, first, second) in pairs {
        ensure!(
            first == second,
            "the first model has {first} {what}, the second {second}: compare versions of one lineage"
        );
    }
    Ok(())
}

/// The positions of a batch (b, t) at which a token stands, as indices into b·t (r) int64, and 1 / (tokens of its text) for
/// each (r) float64: the weights of one text add up to 1.
pub(super) fn token_positions(tokens: &TokenBatch) -> Result<(Tensor, Tensor)> {
    let (b, t) = tokens.size();
    let mask = match &tokens.attention_mask {
        Some(mask) => mask.f_to_kind(Kind::Double)?,
        None => Tensor::f_ones([b, t], (Kind::Double, tokens.input_ids.device()))?,
    };
    let lengths = mask.f_sum_dim_intlist(1, true, Kind::Double)?; // (b, 1)
    ensure!(f64::try_from(lengths.f_min()?)? > 0.0, "a text of the batch has no tokens at all: leave it out");
    let weights = mask.f_div(&lengths)?.f_reshape([b * t])?;
    let positions = mask.f_reshape([b * t])?.f_nonzero()?.f_squeeze_dim(1)?; // (r)
    let weights = weights.f_index_select(0, &positions)?; // (r)
    Ok((positions, weights))
}

/// Small random models and texts of different lengths.
#[cfg(test)]
pub(super) mod testing {
    use anyhow::Result;
    use tch::Device;

    use crate::model::{EncoderConfig, Method, Model, Version};
    use crate::text::{Example, TaskData, Tokenizer};

    pub fn tokenizer() -> Result<Tokenizer> {
        Tokenizer::word_level(&(0..12).map(|word| format!("w{word}")).collect::<Vec<_>>())
    }

    /// Large initial weights, so that heads attend to few tokens and differ; dropout, which must play no role.
    pub fn config() -> EncoderConfig {
        EncoderConfig {
            initializer_range: 0.5,
            hidden_dropout_prob: 0.5,
            attention_probs_dropout_prob: 0.5,
            ..EncoderConfig::tiny(17, 16, 12)
        }
    }

    pub fn version(config: &EncoderConfig, seed: u64) -> Result<Version> {
        Version::new(config, &tokenizer()?, seed)
    }

    pub fn model(config: &EncoderConfig, seed: u64) -> Result<Model> {
        let labels = ["a".to_string(), "b".to_string()];
        Model::classifier(&version(config, seed)?, &labels, &Method::Full, 1, Device::Cpu)
    }

    /// 23 texts of three to eleven tokens, 155 in all.
    pub fn data() -> Result<TaskData> {
        let text = |row: usize| (0..1 + row * 5 % 9).map(|at| format!("w{}", (row + at * 3) % 12)).collect::<Vec<_>>();
        let example = |row: usize| Example { text: text(row).join(" "), text_pair: None, label: row % 2 };
        TaskData::new(&(0..23).map(example).collect::<Vec<_>>(), &tokenizer()?, 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_weighs_the_same_and_padding_nothing() -> Result<()> {
        let (positions, weights) = token_positions(&TokenBatch::new(&[vec![0, 5, 6, 2], vec![0, 2]], 1)?)?;
        assert_eq!(Vec::<i64>::try_from(positions)?, [0, 1, 2, 3, 4, 5]);
        assert_eq!(Vec::<f64>::try_from(weights)?, [0.25, 0.25, 0.25, 0.25, 0.5, 0.5]);
        let (positions, _) = token_positions(&TokenBatch::new(&[vec![0, 2], vec![0, 5, 2]], 1)?)?;
        assert_eq!(Vec::<i64>::try_from(positions)?, [0, 1, 3, 4, 5]);
        Ok(())
    }

    #[test]
    fn models_that_read_other_tokens_are_refused_with_both_numbers() {
        let tiny = EncoderConfig::tiny(17, 16, 12);
        let refused = |other: EncoderConfig| check_same_inputs(&tiny, &other).unwrap_err().to_string();
        let error = refused(EncoderConfig { num_hidden_layers: 3, ..tiny.clone() });
        assert!(error.contains("has 2 layers") && error.contains("second 3"), "{error}");
        assert!(refused(EncoderConfig { vocab_size: 18, ..tiny.clone() }).contains("second 18"));
        assert!(refused(EncoderConfig { pad_token_id: 0, ..tiny.clone() }).contains("padding"));
    }
}
