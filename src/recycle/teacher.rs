//! The outdated model as a teacher: what it says about each text, computed once where memory allows.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::distill::{DistillConfig, HiddenTokens};
use crate::model::{Model, Network, Pass, Rows};
use crate::native::upload;
use crate::text::{TaskBatch, TaskData};

/// Remembered outputs take at most this many bytes; beyond, the teacher computes every batch again.
const REMEMBERED_BYTES: usize = 512 << 20;
const TOKENS_A_BATCH: usize = 4_096;

/// Class scores and hidden states of one model on one batch.
pub(super) struct Outputs {
    /// (b, classes)
    pub logits: Tensor,
    /// (b, layers, 1, h) at `<s>`, or (b, layers, t, h); nothing when hidden states play no role.
    pub hidden: Option<Tensor>,
}

/// A frozen model without dropout and its answers on a split.
pub(super) struct Teacher {
    model: Model,
    /// Answers by row of the split; `None` when they are computed batch by batch.
    remembered: Option<Outputs>,
}

impl Teacher {
    /// Asks `model` about every example of `data`, whose texts do not change from epoch to epoch.
    pub fn new(model: Model, data: &TaskData, config: &DistillConfig) -> Result<Teacher> {
        model.set_trainable(|_| false)?;
        let (rows, longest) = (data.len(), data.longest());
        let layers = config.layer_indices(model.config().num_hidden_layers)?.len();
        let tokens = if config.tokens == HiddenTokens::All { longest } else { 1 };
        let hidden = if config.beta > 0.0 { layers * tokens * model.config().hidden_size as usize } else { 0 };
        let mut teacher = Teacher { model, remembered: None };
        if 4 * rows * (hidden + teacher.model.labels().len()) <= REMEMBERED_BYTES {
            teacher.remembered = Some(teacher.ask_all(data, longest, config)?);
        }
        Ok(teacher)
    }

    /// How many layers the teacher has; the student has as many.
    pub fn layers(&self) -> usize {
        self.model.config().num_hidden_layers
    }

    /// What the teacher says about this batch.
    pub fn outputs(&self, batch: &TaskBatch, config: &DistillConfig) -> Result<Outputs> {
        let Some(remembered) = &self.remembered else {
            return tch::no_grad(|| outputs(self.model.network(), self.layers(), batch, Pass::evaluation(), config));
        };
        let rows = upload(&Tensor::f_from_slice(&batch.rows)?, remembered.logits.device())?;
        let hidden = remembered.hidden.as_ref().map(|hidden| -> Result<Tensor> {
            let hidden = hidden.f_index_select(0, &rows)?;
            let length = hidden.size()[2].min(batch.tokens.size().1);
            Ok(hidden.f_narrow(2, 0, length)?)
        });
        Ok(Outputs { logits: remembered.logits.f_index_select(0, &rows)?, hidden: hidden.transpose()? })
    }

    fn ask_all(&self, data: &TaskData, longest: usize, config: &DistillConfig) -> Result<Outputs> {
        let device = self.model.device();
        let (mut rows, mut logits, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for batch in data.evaluation_batches(TOKENS_A_BATCH)? {
            let batch = batch.to_device(device)?;
            let network = self.model.network();
            let said = tch::no_grad(|| outputs(network, self.layers(), &batch, Pass::evaluation(), config))?;
            if let Some(states) = said.hidden {
                let short = if config.tokens == HiddenTokens::All { longest as i64 - states.size()[2] } else { 0 };
                hidden.push(states.f_constant_pad_nd([0, 0, 0, short])?); // (b, layers, longest, h)
            }
            logits.push(said.logits);
            rows.extend(batch.rows);
        }
        let mut place = vec![0_i64; rows.len()];
        for (at, &row) in rows.iter().enumerate() {
            place[row as usize] = at as i64;
        }
        let place = Tensor::f_from_slice(&place)?.f_to_device(device)?;
        let in_order = |parts: &[Tensor]| Tensor::f_cat(parts, 0)?.f_index_select(0, &place);
        let hidden = if hidden.is_empty() { None } else { Some(in_order(&hidden)?) };
        Ok(Outputs { logits: in_order(&logits)?, hidden })
    }
}

/// Runs a network of so many layers on `batch` and keeps what the distillation loss compares.
pub(super) fn outputs(
    network: &Network,
    layers: usize,
    batch: &TaskBatch,
    mut pass: Pass,
    config: &DistillConfig,
) -> Result<Outputs> {
    let (last, layers) = (layers, config.layer_indices(layers)?);
    pass.hidden_states = config.beta > 0.0;
    let reads_last = layers.contains(&last);
    if !(pass.hidden_states && reads_last && config.tokens == HiddenTokens::All) {
        pass.rows = Rows::First;
    }
    let (logits, encoded) = network.classify(&batch.tokens, pass)?;
    if encoded.hidden_states.is_empty() {
        return Ok(Outputs { logits, hidden: None });
    }
    let chosen = layers.iter().map(|&layer| {
        let states = encoded.hidden_states.get(layer).context("a layer is missing")?;
        let states =
            if config.tokens == HiddenTokens::First { states.f_narrow(1, 0, 1)? } else { states.shallow_clone() };
        Ok(states.f_to_kind(Kind::Float)?)
    });
    let hidden = Tensor::f_stack(&chosen.collect::<Result<Vec<_>>>()?, 1)?; // (b, layers, 1 or t, h)
    Ok(Outputs { logits, hidden: Some(hidden) })
}

/// 1 where a token counts for the hidden-state term, shaped to fit (b, layers, t, h).
pub(super) fn token_weights(batch: &TaskBatch, hidden: &Tensor, device: Device) -> Result<Tensor> {
    let (b, t) = (hidden.size()[0], hidden.size()[2]);
    match &batch.tokens.attention_mask {
        Some(mask) if t > 1 => Ok(mask.f_to_kind(Kind::Float)?.f_view([b, 1, t, 1])?),
        _ => Ok(Tensor::f_ones([b, 1, t, 1], (Kind::Float, device))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EncoderConfig, Method, Version};
    use crate::recycle::LayerSet;
    use crate::text::{Example, Tokenizer};

    /// Texts of one to nine words, so that batches are padded.
    fn texts() -> Vec<Example> {
        let text = |row: usize| (0..1 + row * 5 % 9).map(|at| format!("w{}", (row + at * 3) % 12)).collect::<Vec<_>>();
        (0..23).map(|row| Example { text: text(row).join(" "), text_pair: None, label: row % 2 }).collect()
    }

    fn teacher(config: &DistillConfig, data: &TaskData, remember: bool) -> Result<Teacher> {
        let words: Vec<String> = (0..12).map(|word| format!("w{word}")).collect();
        let tokenizer = Tokenizer::word_level(&words)?;
        let shape = EncoderConfig {
            hidden_dropout_prob: 0.5,
            attention_probs_dropout_prob: 0.5,
            initializer_range: 0.5,
            ..EncoderConfig::tiny(17, 16, 12)
        };
        let version = Version::new(&shape, &tokenizer, 1)?;
        let model = Model::classifier(&version, &["a".into(), "b".into()], &Method::Full, 1, Device::Cpu)?;
        let mut teacher = Teacher::new(model, data, config)?;
        if !remember {
            teacher.remembered = None;
        }
        Ok(teacher)
    }

    #[test]
    fn remembered_answers_equal_those_computed_batch_by_batch() -> Result<()> {
        let words: Vec<String> = (0..12).map(|word| format!("w{word}")).collect();
        let data = TaskData::new(&texts(), &Tokenizer::word_level(&words)?, 12)?;
        let settings = [
            (HiddenTokens::First, LayerSet::AllButLast, 10.0),
            (HiddenTokens::All, LayerSet::All, 10.0),
            (HiddenTokens::All, LayerSet::Last, 10.0),
            (HiddenTokens::First, LayerSet::AllButLast, 0.0),
        ];
        for (tokens, layers, beta) in settings {
            let config = DistillConfig { tokens, layers, beta, ..DistillConfig::default() };
            let (cached, live) = (teacher(&config, &data, true)?, teacher(&config, &data, false)?);
            assert!(cached.remembered.is_some());
            for step in 0..12 {
                let batch = data.batch(step, 5, 3)?;
                let (cached, live) = (cached.outputs(&batch, &config)?, live.outputs(&batch, &config)?);
                let error = f64::try_from((cached.logits - live.logits).abs().max())?;
                assert!(error < 1e-5, "scores differ by {error}");
                assert_eq!(cached.hidden.is_some(), beta > 0.0);
                if let (Some(cached), Some(live)) = (cached.hidden, live.hidden) {
                    assert_eq!(cached.size(), live.size());
                    // What stands at padding plays no role in the loss.
                    let weights = token_weights(&batch, &live, Device::Cpu)?;
                    let error = f64::try_from(((cached - live) * weights).abs().max())?;
                    assert!(error < 1e-5, "hidden states differ by {error}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_teacher_is_asked_without_dropout_and_learns_nothing() -> Result<()> {
        let words: Vec<String> = (0..12).map(|word| format!("w{word}")).collect();
        let data = TaskData::new(&texts(), &Tokenizer::word_level(&words)?, 12)?;
        let config = DistillConfig::default();
        let teacher = teacher(&config, &data, false)?;
        let batch = data.batch(0, 5, 3)?;
        let (once, twice) = (teacher.outputs(&batch, &config)?, teacher.outputs(&batch, &config)?);
        assert_eq!(once.logits, twice.logits);
        assert!(!once.logits.requires_grad() && teacher.model.trainable().is_empty());
        Ok(())
    }
}
