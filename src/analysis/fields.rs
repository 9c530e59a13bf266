//! Matrices and maps as coloured fields.

use anyhow::Result;

use super::{AttentionMaps, HeadSimilarity};
use crate::display::{Axis, Field, Figure};

impl HeadSimilarity {
    /// Every head of model a (rows) against every head of model b (columns), by 1 − JS.
    pub fn matrix_figure(&self, a: &str, b: &str) -> Figure {
        let heads = self.js.heads();
        let name = |head: usize| format!("{}.{}", self.js.layer_of(head), head % self.heads_per_layer);
        let axis = |model: &str| Axis::new(format!("head of {model} (layer.head)")).names((0..heads).map(name));
        let rows = self.js.values.iter().map(|row| row.iter().copied());
        let field = Field::new("similarity of attention, 1 − JS", rows).range(0.0, 1.0).show_values();
        let share = self.js.matched_share();
        Figure::field("head-matrix", format!("Heads of {a} and {b}"), axis(b), axis(a), field).caption(format!(
            "On the diagonal stand corresponding heads. The best one-to-one matching pairs {:.0} % of the heads with the corresponding one.",
            100.0 * share
        ))
    }
}

impl AttentionMaps {
    /// One head's map: where each token (row) looks; `model` is what the title calls the model. Errors when there is no such head.
    pub fn figure(&self, model: &str, layer: usize, head: usize) -> Result<Figure> {
        let rows = self.map(layer, head)?.iter().map(|row| row.iter().map(|&weight| f64::from(weight)));
        let field = Field::new("attention weight", rows).range(0.0, 1.0);
        let axis = |label: &str| Axis::new(label).names(self.tokens.iter().map(String::as_str));
        let id = format!("attention-{layer}-{head}");
        let title = format!("Attention of {model}: layer {layer}, head {head}");
        let figure = Figure::field(id, title, axis("attended token"), axis("attending token"), field);
        Ok(match self.truncated {
            true => figure.caption("The text was cut off at the model's last position."),
            false => figure.caption("Every row adds up to 1."),
        })
    }
}
