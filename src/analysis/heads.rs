//! Functional similarity of attention heads: do the heads of two models look at the same tokens? (paper, section 7)
//!
//! The paper shows attention maps and gives no number. Here, for head i of model a and head j of model b, with p and q their
//! attention rows at one query position of one text (distributions over its tokens):
//!
//! ```text
//! 1 − JS(p, q),  JS(p, q) = H((p + q)/2) − (H(p) + H(q))/2 in bits, 0 ≤ JS ≤ 1
//! cosine(p, q) = ⟨p, q⟩ / (‖p‖·‖q‖)
//! ```
//!
//! averaged **first over the query positions of a text, then over texts**, so that a long text counts no more than a short one.
//! All tokens of a text count, `<s>` and `</s>` among them; padding is neither query nor key.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::HeadMatrix;
use super::attention_rows::{Block, check_comparable};
use super::head_sums::Sums;
use super::inputs::BATCH_TOKENS;
use crate::display::{Axis, Bar, Cell, Column, Figure, Table};
use crate::model::Model;
use crate::text::TaskData;

/// How alike the heads of model a are to those of model b on the same texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadSimilarity {
    /// Layers of each model.
    pub layers: usize,
    /// Heads of each layer.
    pub heads_per_layer: usize,
    /// Texts that the means are over.
    pub texts: usize,
    /// Query positions compared, over all texts.
    pub positions: usize,
    /// 1 − JS: 1 for heads that attend alike, 0 for heads that never look at the same token.
    pub js: HeadMatrix,
    /// Cosine of the attention rows.
    pub cosine: HeadMatrix,
    /// [`HeadSimilarity::gap`] on every text alone, in the order of the texts: their mean is the gap, and a bootstrap draws from
    /// them. Empty for models of one head.
    #[serde(default)]
    pub gaps: Vec<f64>,
}

/// Compares every head of `a` with every head of `b`, in evaluation mode, holding one batch in memory at a time. To compare
/// one model with many, compute each one's [`AttentionRows`](super::AttentionRows) once.
///
/// Errors: models of different shapes or vocabularies, attention that is not finite.
pub fn head_similarity(a: &Model, b: &Model, data: &TaskData) -> Result<HeadSimilarity> {
    check_comparable((a.config(), a.backbone().layout()), (b.config(), b.backbone().layout()))?;
    let mut sums = Sums::new(a.config(), a.device())?;
    for batch in data.evaluation_batches(BATCH_TOKENS)? {
        let first = Block::new(a, &batch).context("the first model cannot be compared")?;
        let second = Block::new(b, &batch).context("the second model cannot be compared")?;
        sums.add(&first, &second)?;
    }
    sums.mean()
}

impl HeadSimilarity {
    /// Claim C3's g: the mean 1 − JS of corresponding heads less that of mismatched ones; `None` for models of one head.
    pub fn gap(&self) -> Option<f64> {
        self.js.gap()
    }

    /// One row a layer of model a, and one for all layers: corresponding heads, heads of the same layer, all mismatched heads.
    pub fn table(&self) -> Table {
        let mut columns = vec![Column::text("layer")];
        for measure in ["1 − JS", "cosine"] {
            let names = ["corresponding", "same layer, other head", "mismatched", "gap"];
            columns.extend(names.map(|name| Column::number(format!("{measure}: {name}"), 3)));
            columns.push(Column::number(format!("{measure}: matched heads"), 2));
        }
        let mut table = Table::new("head_similarity", "Functional similarity of attention heads", columns)
            .caption(self.caption("Matched heads: share that the best one-to-one matching pairs with the same head."));
        for layer in (0..self.layers).map(Some).chain([None]) {
            let mut row = vec![Cell::from(layer.map_or("all".to_string(), |layer| layer.to_string()))];
            row.extend([&self.js, &self.cosine].into_iter().flat_map(|matrix| summary(matrix, layer)));
            table.push(row);
        }
        table
    }

    /// Bars of 1 − JS by layer, with a dot for every head.
    pub fn figure(&self) -> Figure {
        let layers = 0..self.layers;
        let bars = |chosen: &dyn Fn(usize, usize) -> bool| -> Vec<Option<Bar>> {
            let bar = |layer: usize| {
                let value = self.js.mean_over(|i, j| self.js.layer_of(i) == layer && chosen(i, j))?;
                let heads = layer * self.heads_per_layer..(layer + 1) * self.heads_per_layer;
                let observations = heads.filter_map(|head| self.js.mean_over(|i, j| i == head && chosen(i, j)));
                Some(Bar { observations: observations.collect(), ..Bar::new(value) })
            };
            layers.clone().map(bar).collect()
        };
        let groups = layers.clone().map(|layer| format!("layer {layer}"));
        Figure::grouped("head_similarity", "Functional similarity of attention heads", groups, Axis::new("1 − JS"))
            .bars("corresponding heads", bars(&|i, j| i == j))
            .bars("same layer, other head", bars(&|i, j| i != j && self.js.layer_of(i) == self.js.layer_of(j)))
            .bars("all mismatched heads", bars(&|i, j| i != j))
            .caption(self.caption("Dots are heads."))
    }

    fn caption(&self, more: &str) -> String {
        let (texts, positions) = (self.texts, self.positions);
        format!("Means over the query positions of a text, then over {texts} texts ({positions} positions). {more}")
    }
}

/// Corresponding, same layer, mismatched, gap, matched share: of the heads of one layer of a, or of all.
fn summary(matrix: &HeadMatrix, layer: Option<usize>) -> [Cell; 5] {
    let inside = |head: usize| layer.is_none_or(|layer| matrix.layer_of(head) == layer);
    let corresponding = matrix.mean_over(|i, j| inside(i) && i == j);
    let in_layer = matrix.mean_over(|i, j| inside(i) && i != j && matrix.layer_of(i) == matrix.layer_of(j));
    let mismatched = matrix.mean_over(|i, j| inside(i) && i != j);
    let gap = corresponding.zip(mismatched).map(|(same, other)| same - other);
    let partners: Vec<bool> =
        matrix.matching().iter().enumerate().filter(|&(i, _)| inside(i)).map(|(i, &j)| i == j).collect();
    let share = partners.iter().filter(|&&kept| kept).count() as f64 / partners.len() as f64;
    [corresponding.into(), in_layer.into(), mismatched.into(), gap.into(), share.into()]
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::analysis::AttentionRows;
    use crate::analysis::inputs::testing;
    use crate::model::{Coordinates, Method, Permutation, Version};

    /// Biases are 0 at the start; random ones show that they move along.
    fn version() -> Result<Version> {
        let mut version = testing::version(&testing::config(), 3)?;
        for entry in version.backbone.layout().clone().entries().iter().filter(|entry| entry.name.ends_with("bias")) {
            let numbers = Tensor::arange(entry.len, (Kind::Float, Device::Cpu)).sin() * 0.3;
            version.backbone.set(&entry.name, &numbers)?;
        }
        Ok(version)
    }

    #[test]
    fn a_model_is_wholly_similar_to_itself() -> Result<()> {
        let (model, data) = (testing::model(&testing::config(), 1)?, testing::data()?);
        let similarity = head_similarity(&model, &model, &data)?;
        for matrix in [&similarity.js, &similarity.cosine] {
            for (i, row) in matrix.values.iter().enumerate() {
                assert!((row[i] - 1.0).abs() < 1e-7, "head {i}: {}", row[i]);
                assert!(row.iter().enumerate().all(|(j, &value)| (0.0..0.999).contains(&value) || i == j), "{row:?}");
            }
            assert_eq!(matrix.matched_share(), 1.0);
        }
        assert!(similarity.gap().unwrap() > 0.1);
        assert_eq!((similarity.layers, similarity.heads_per_layer, similarity.texts), (2, 4, 23));
        Ok(())
    }

    #[test]
    fn heads_permuted_on_purpose_are_found_again() -> Result<()> {
        let (version, data) = (version()?, testing::data()?);
        let labels = ["a".to_string(), "b".to_string()];
        let classifier = |version: &Version| Model::classifier(version, &labels, &Method::Full, 1, Device::Cpu);
        for coordinates in [Coordinates::Inner, Coordinates::All] {
            let permutation = Permutation::random(&version.config, coordinates, 5)?;
            let (model, moved) = (classifier(&version)?, classifier(&version.permuted_by(&permutation)?)?);
            let similarity = head_similarity(&moved, &model, &data)?;
            // Head h of the moved model does what head `order[h]` of the same layer did.
            let layers = permutation.heads.iter().enumerate();
            let expected: Vec<usize> =
                layers.flat_map(|(layer, order)| order.iter().map(move |head| layer * 4 + head)).collect();
            for matrix in [&similarity.js, &similarity.cosine] {
                assert_eq!(matrix.matching(), expected);
                assert_eq!(matrix.matching_in_layers(), expected);
                assert_eq!(matrix.matched_share(), 0.0);
                assert!(expected.iter().enumerate().all(|(i, &j)| (matrix.values[i][j] - 1.0).abs() < 1e-5));
            }
            assert!(similarity.gap().unwrap() < 0.0, "corresponding heads are the wrong ones now");
        }
        Ok(())
    }

    #[test]
    fn exchanging_the_models_transposes_the_result() -> Result<()> {
        let (a, b, data) =
            (testing::model(&testing::config(), 1)?, testing::model(&testing::config(), 2)?, testing::data()?);
        let (forth, back) = (head_similarity(&a, &b, &data)?, head_similarity(&b, &a, &data)?);
        for (forth, back) in [(&forth.js, &back.js), (&forth.cosine, &back.cosine)] {
            for i in 0..8 {
                assert!((0..8).all(|j| (forth.values[i][j] - back.values[j][i]).abs() < 1e-9));
            }
        }
        // Kept attention gives the very same numbers.
        assert_eq!(AttentionRows::of(&a, &data)?.similarity(&AttentionRows::of(&b, &data)?)?, forth);
        Ok(())
    }

    #[test]
    fn a_result_prints_draws_and_comes_back_from_json() -> Result<()> {
        let (a, b) = (testing::model(&testing::config(), 1)?, testing::model(&testing::config(), 2)?);
        let similarity = head_similarity(&a, &b, &testing::data()?)?;
        let table = similarity.table();
        assert_eq!((table.rows.len(), table.columns.len()), (3, 11));
        assert_eq!(table.rows[2][4], Cell::from(similarity.gap()));
        assert!(table.to_text().contains("23 texts"));
        assert!(similarity.figure().to_svg()?.contains("corresponding heads"));
        assert_eq!(serde_json::from_str::<HeadSimilarity>(&serde_json::to_string(&similarity)?)?, similarity);
        Ok(())
    }
}
