//! Similarity of the hidden states of two models, layer by layer.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::cka::Alignment;
use super::inputs::{BATCH_TOKENS, check_same_inputs, token_positions};
use crate::display::{Axis, Cell, Column, Figure, Point, Table};
use crate::model::Model;
use crate::text::TaskData;

/// Similarity of the hidden states of two models, layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSimilarity {
    /// Debiased linear CKA: the embeddings' output first, then every layer's.
    pub cka: Vec<f64>,
    /// Tokens compared, padding excluded.
    pub tokens: usize,
    /// Hidden sizes of the two models.
    pub hidden_sizes: [i64; 2],
    /// What stands against trusting the numbers.
    pub warning: Option<String>,
}

/// Debiased linear CKA between the hidden states of `a` and `b` after the embeddings and after each layer, in evaluation mode,
/// over all tokens of all texts (padding excluded). The hidden sizes may differ. In one pass, holding one batch in memory and
/// 3·d² numbers a layer.
///
/// Tokens of one text depend on each other, which the estimator knows nothing of; many texts make up for it.
///
/// Errors: models of other depths or vocabularies, fewer than 4 tokens, hidden states that are not finite or do not vary.
pub fn hidden_state_similarity(a: &Model, b: &Model, data: &TaskData) -> Result<LayerSimilarity> {
    check_same_inputs(a.config(), b.config())?;
    let layers = a.config().num_hidden_layers + 1;
    let mut alignments: Vec<Alignment> = (0..layers).map(|_| Alignment::default()).collect();
    let mut tokens = 0;
    for batch in data.evaluation_batches(BATCH_TOKENS)? {
        tch::no_grad(|| -> Result<()> {
            let of = |model: &Model| -> Result<Vec<Tensor>> {
                let tokens = batch.tokens.to_device(model.device())?;
                let (positions, _) = token_positions(&tokens)?;
                let states = model.hidden_states(&tokens)?; // each (b, t, h)
                let h = model.config().hidden_size;
                let kept = |state: &Tensor| Ok(state.f_reshape([-1, h])?.f_index_select(0, &positions)?); // (r, h)
                states.iter().map(kept).collect()
            };
            let (first, second) = (of(a)?, of(b)?);
            tokens += first.first().map_or(0, |state| state.size()[0]);
            for (layer, (x, y)) in first.iter().zip(&second).enumerate() {
                let y = y.f_to_device(x.device())?;
                alignments[layer].add(x, &y).with_context(|| format!("hidden state {layer}"))?;
            }
            Ok(())
        })?;
    }
    let cka = |(layer, alignment): (usize, &Alignment)| {
        alignment.cka().with_context(|| format!("hidden state {layer} (0 is the embeddings' output)"))
    };
    let hidden_sizes = [a.config().hidden_size, b.config().hidden_size];
    let wanted = 4 * hidden_sizes[0].max(hidden_sizes[1]);
    let warning = (tokens < wanted).then(|| {
        format!(
            "Only {tokens} tokens for hidden states of size {hidden_sizes:?}: take at least {wanted} to trust them."
        )
    });
    Ok(LayerSimilarity {
        cka: alignments.iter().enumerate().map(cka).collect::<Result<_>>()?,
        tokens: tokens as usize,
        hidden_sizes,
        warning,
    })
}

impl LayerSimilarity {
    /// One row a hidden state.
    pub fn table(&self) -> Table {
        let columns = vec![Column::text("hidden state"), Column::number("CKA", 3)];
        let mut table =
            Table::new("hidden_state_similarity", "Similarity of hidden states", columns).caption(self.caption());
        for (layer, &cka) in self.cka.iter().enumerate() {
            table.push([Cell::from(name(layer)), Cell::from(cka)]);
        }
        table
    }

    /// CKA over the layers.
    pub fn figure(&self) -> Figure {
        let points = self.cka.iter().enumerate().map(|(layer, &cka)| Point::new(layer as f64, cka)).collect();
        let x = Axis::new("hidden state").names((0..self.cka.len()).map(name));
        Figure::lines("hidden_state_similarity", "Similarity of hidden states", x, Axis::new("CKA"))
            .line("debiased linear CKA", points)
            .caption(self.caption())
    }

    fn caption(&self) -> String {
        let warning = self.warning.as_ref().map_or(String::new(), |warning| format!(" {warning}"));
        format!("Debiased linear CKA over {} tokens.{warning}", self.tokens)
    }
}

/// What the axis calls a hidden state: 0 is the embeddings' output.
pub(super) fn name(layer: usize) -> String {
    if layer == 0 { "embeddings".to_string() } else { format!("layer {}", layer - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::inputs::testing;
    use crate::analysis::linear_cka;
    use crate::model::EncoderConfig;

    #[test]
    fn a_model_is_similar_to_itself_and_less_to_another() -> Result<()> {
        let (config, data) = (testing::config(), testing::data()?);
        let (a, b) = (testing::model(&config, 1)?, testing::model(&config, 2)?);
        let itself = hidden_state_similarity(&a, &a, &data)?;
        assert!(itself.cka.len() == 3 && itself.cka.iter().all(|cka| (cka - 1.0).abs() < 1e-9), "{itself:?}");
        let other = hidden_state_similarity(&a, &b, &data)?;
        assert!(other.cka.iter().all(|&cka| cka < 0.9), "{other:?}");
        assert_eq!((other.tokens, other.warning.is_none()), (155, true));
        Ok(())
    }

    #[test]
    fn padded_batches_give_what_the_texts_one_by_one_give() -> Result<()> {
        let (wide, data) = (EncoderConfig { hidden_size: 24, ..testing::config() }, testing::data()?);
        let (a, b) = (testing::model(&testing::config(), 1)?, testing::model(&wide, 2)?);
        let similarity = hidden_state_similarity(&a, &b, &data)?;
        assert_eq!(similarity.hidden_sizes, [16, 24]);
        for (layer, &cka) in similarity.cka.iter().enumerate() {
            let states = |model: &Model| -> Result<Tensor> {
                let one = |row: usize| Ok(model.hidden_states(&data.rows(&[row])?.tokens)?[layer].squeeze_dim(0));
                Ok(Tensor::cat(&(0..data.len()).map(one).collect::<Result<Vec<_>>>()?, 0))
            };
            let (x, y) = (states(&a)?, states(&b)?);
            assert_eq!(x.size(), [similarity.tokens as i64, 16]);
            assert!((linear_cka(&x, &y)? - cka).abs() < 1e-6, "hidden state {layer}");
        }
        Ok(())
    }

    #[test]
    fn too_few_tokens_are_warned_about_and_the_result_shows_itself() -> Result<()> {
        let (config, data) = (EncoderConfig { hidden_size: 64, ..testing::config() }, testing::data()?);
        let similarity = hidden_state_similarity(&testing::model(&config, 1)?, &testing::model(&config, 2)?, &data)?;
        let warning = similarity.warning.clone().context("no warning")?;
        assert!(warning.contains("155 tokens") && warning.contains("at least 256"), "{warning}");
        assert!(similarity.table().to_text().contains("155 tokens"));
        assert_eq!(similarity.table().rows.len(), 3);
        similarity.figure().to_svg()?;
        assert_eq!(serde_json::from_str::<LayerSimilarity>(&serde_json::to_string(&similarity)?)?, similarity);
        Ok(())
    }

    #[test]
    fn a_model_of_another_depth_is_refused() -> Result<()> {
        let deep = EncoderConfig { num_hidden_layers: 3, ..testing::config() };
        let (a, b) = (testing::model(&testing::config(), 1)?, testing::model(&deep, 1)?);
        assert!(hidden_state_similarity(&a, &b, &testing::data()?).unwrap_err().to_string().contains("second 3"));
        Ok(())
    }
}
