//! The attention of a model on a set of texts.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::{Device, Tensor};

use super::HeadSimilarity;
use super::head_sums::{Sums, entropies};
use super::inputs::{BATCH_TOKENS, check_same_inputs, token_positions};
use crate::model::{EncoderConfig, Model};
use crate::params::Layout;
use crate::text::{TaskBatch, TaskData};

/// Bytes that [`AttentionRows`] may keep.
const MAX_BYTES: usize = 4 << 30;

/// The attention of one model on a set of texts, kept to be compared with that of others: layers · heads · Σ length² numbers
/// in float32, on the model's device.
#[derive(Debug)]
pub struct AttentionRows {
    config: EncoderConfig,
    layout: Arc<Layout>,
    blocks: Vec<Block>,
}

impl AttentionRows {
    /// Runs `model` over `data`, in evaluation mode.
    ///
    /// Errors: attention that is not finite, more than 4 GiB of it.
    pub fn of(model: &Model, data: &TaskData) -> Result<AttentionRows> {
        AttentionRows::of_batches(model, &data.evaluation_batches(BATCH_TOKENS)?)
    }

    fn of_batches(model: &Model, batches: &[TaskBatch]) -> Result<AttentionRows> {
        let (config, layout) = (model.config().clone(), model.backbone().layout().clone());
        let mut rows = AttentionRows { config, layout, blocks: Vec::with_capacity(batches.len()) };
        for batch in batches {
            rows.blocks.push(Block::new(model, batch)?);
            ensure!(
                rows.bytes() <= MAX_BYTES,
                "the attention of {} heads on {} texts takes more than {} GiB: take fewer or shorter texts, or \
                 `head_similarity`, which holds one batch at a time",
                all_heads(&rows.config),
                batches.iter().map(|batch| batch.rows.len()).sum::<usize>(),
                MAX_BYTES >> 30
            );
        }
        Ok(rows)
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| 4 * block.rows.numel()).sum()
    }

    /// As [`head_similarity`](super::head_similarity), with `self` as model a.
    ///
    /// Errors: models of different shapes or vocabularies, other texts.
    pub fn similarity(&self, other: &AttentionRows) -> Result<HeadSimilarity> {
        check_comparable((&self.config, &self.layout), (&other.config, &other.layout))?;
        let same = |(a, b): (&Block, &Block)| a.input_ids.size() == b.input_ids.size() && a.input_ids == b.input_ids;
        ensure!(
            self.blocks.len() == other.blocks.len() && self.blocks.iter().zip(&other.blocks).all(same),
            "the two models did not read the same texts: compute both AttentionRows on the same data"
        );
        let device = self.blocks.first().context("there are no texts to compare heads on")?.rows.device();
        let mut sums = Sums::new(&self.config, device)?;
        for (first, second) in self.blocks.iter().zip(&other.blocks) {
            sums.add(first, second)?;
        }
        sums.mean()
    }
}

/// Heads of all layers.
pub(super) fn all_heads(config: &EncoderConfig) -> i64 {
    config.num_hidden_layers as i64 * config.num_attention_heads
}

/// Refuses models whose heads cannot be paired.
pub(super) fn check_comparable(a: (&EncoderConfig, &Layout), b: (&EncoderConfig, &Layout)) -> Result<()> {
    check_same_inputs(a.0, b.0)?;
    let (first, second) = (a.0.num_attention_heads, b.0.num_attention_heads);
    ensure!(
        first == second,
        "the first model has {first} heads a layer (num_attention_heads), the second {second}: there are no corresponding heads"
    );
    a.1.same_as(b.1).context("the heads of these models cannot be compared")
}

/// The attention of all heads on one batch of texts.
#[derive(Debug)]
pub(super) struct Block {
    /// (b, t), on the CPU: which texts these are.
    pub(super) input_ids: Tensor,
    /// (heads of all layers, r, t) float32, r the query positions at which a token stands; padding keys are 0.
    pub(super) rows: Tensor,
    /// (r) float64: 1 / (tokens of the text).
    pub(super) weights: Tensor,
    /// (r) int64: which of the batch's texts a query position is of.
    pub(super) text_of: Tensor,
    /// (b): the numbers of the batch's texts in their split.
    pub(super) texts: Vec<i64>,
    /// (heads) float64: Σ_r weight · entropy in bits.
    pub(super) entropies: Tensor,
}

impl Block {
    pub(super) fn new(model: &Model, batch: &TaskBatch) -> Result<Block> {
        tch::no_grad(|| {
            let tokens = batch.tokens.to_device(model.device())?;
            let ((b, t), heads) = (tokens.size(), all_heads(model.config()));
            let (positions, weights) = token_positions(&tokens)?;
            let (_, attentions) = model.attentions(&tokens)?;
            let rows = Tensor::f_stack(&attentions, 0)?.f_permute([0, 2, 1, 3, 4])?; // (layers, n, b, t, t)
            let rows = rows.f_reshape([heads, b * t, t])?.f_index_select(1, &positions)?; // (heads, r, t)
            if !bool::try_from(rows.f_isfinite()?.f_all()?)? {
                let odd = rows.f_isfinite()?.f_logical_not()?.f_nonzero()?; // (some, 3)
                let (head, row) = (odd.f_int64_value(&[0, 0])?, odd.f_int64_value(&[0, 1])?);
                let text = batch.rows[(positions.f_int64_value(&[row])? / t) as usize];
                anyhow::bail!(
                    "head {} of layer {} gives attention that is not finite on text {text}: the model's parameters are \
                     damaged or overflow (`Theta::is_finite` tells)",
                    head % model.config().num_attention_heads,
                    head / model.config().num_attention_heads
                );
            }
            let text_of = positions.f_div_scalar_mode(t, "floor")?;
            Block::of_rows(tokens.input_ids.f_to_device(Device::Cpu)?, rows, weights, text_of, batch.rows.clone())
        })
    }

    pub(super) fn of_rows(
        input_ids: Tensor,
        rows: Tensor,
        weights: Tensor,
        text_of: Tensor,
        texts: Vec<i64>,
    ) -> Result<Block> {
        let entropies = entropies(&rows)?.f_matmul(&weights)?;
        Ok(Block { input_ids, rows, weights, text_of, texts, entropies })
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::analysis::inputs::testing;

    #[test]
    fn padding_changes_nothing_and_padded_keys_have_no_weight() -> Result<()> {
        let (a, b, data) =
            (testing::model(&testing::config(), 1)?, testing::model(&testing::config(), 2)?, testing::data()?);
        let alone = (0..data.len()).map(|row| data.rows(&[row])).collect::<Result<Vec<_>>>()?;
        let together = [data.rows(&(0..data.len()).collect::<Vec<_>>())?];
        assert!(
            together[0].tokens.attention_mask.is_some() && alone.iter().all(|one| one.tokens.attention_mask.is_none())
        );
        let similarity = |batches: &[TaskBatch]| {
            AttentionRows::of_batches(&a, batches)?.similarity(&AttentionRows::of_batches(&b, batches)?)
        };
        let (alone, padded, bucketed) =
            (similarity(&alone)?, similarity(&together)?, similarity(&data.evaluation_batches(64)?)?);
        for other in [&padded, &bucketed] {
            assert_eq!((other.texts, other.positions), (alone.texts, alone.positions));
            for (x, y) in [(&alone.js, &other.js), (&alone.cosine, &other.cosine)] {
                let (x, y) = (x.values.concat(), y.values.concat());
                assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-6), "{x:?} {y:?}");
            }
        }
        // Each text's gap is that of the text compared alone.
        for (row, gap) in bucketed.gaps.iter().enumerate() {
            let alone = similarity(&[data.rows(&[row])?])?.gap().context("a gap")?;
            assert!((gap - alone).abs() < 1e-6, "text {row}: {gap} {alone}");
        }
        assert_eq!(bucketed.gaps.len(), data.len());
        let block = Block::new(&a, &together[0])?;
        let sums: Vec<f64> = Vec::try_from(block.rows.sum_dim_intlist(-1, false, Kind::Double).view([-1]))?;
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        // The first text has three tokens: its queries give the eight keys behind them nothing.
        assert_eq!(f64::try_from(block.rows.narrow(1, 0, 3).narrow(2, 3, 8).abs().max())?, 0.0);
        Ok(())
    }

    #[test]
    fn other_texts_and_other_models_are_refused() -> Result<()> {
        let (config, data) = (testing::config(), testing::data()?);
        let rows = AttentionRows::of(&testing::model(&config, 1)?, &data)?;
        let fewer = AttentionRows::of_batches(&testing::model(&config, 1)?, &[data.rows(&[0, 1])?])?;
        assert!(rows.similarity(&fewer).unwrap_err().to_string().contains("the same texts"));
        assert!(AttentionRows::of_batches(&testing::model(&config, 1)?, &[]).and_then(|x| x.similarity(&x)).is_err());
        assert!(rows.bytes() > 0);
        let refused = |other: EncoderConfig| -> Result<String> {
            let other = AttentionRows::of(&testing::model(&other, 1)?, &data)?;
            Ok(format!("{:#}", rows.similarity(&other).unwrap_err()))
        };
        let error = refused(EncoderConfig { num_attention_heads: 8, ..config.clone() })?;
        assert!(error.contains("has 4 heads") && error.contains("second 8"), "{error}");
        assert!(refused(EncoderConfig { num_hidden_layers: 1, ..config.clone() })?.contains("second 1"));
        assert!(refused(EncoderConfig { hidden_size: 32, ..config.clone() })?.contains("[17, 32] there"));
        Ok(())
    }

    #[test]
    fn attention_that_is_not_finite_is_reported_with_its_place() -> Result<()> {
        let mut version = testing::version(&testing::config(), 1)?;
        let name = "roberta.encoder.layer.1.attention.self.query.bias";
        let bias = version.backbone.get(name)?;
        let _ = bias.narrow(0, 8, 4).fill_(f64::NAN); // head 2
        version.backbone.set(name, &bias)?;
        let model = Model::masked_lm(&version, Device::Cpu)?;
        let error = AttentionRows::of(&model, &testing::data()?).unwrap_err().to_string();
        assert!(error.contains("head 2 of layer 1") && error.contains("not finite"), "{error}");
        Ok(())
    }
}
