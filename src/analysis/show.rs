//! Analyses in notebooks and terminals: a figure with what to see in it, and the numbers behind it.

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    AttentionMaps, AttentionRows, Barrier, Curve, CurveConfig, Distance, Distances, Flips, HeadMatrix, HeadSimilarity,
    InsideUpgrade, LayerSimilarity, ModePath, PartDistance, PathPoint, Plane, PlaneConfig, ScaleSearch, Triangle,
};
use crate::display::settings::settings;
use crate::display::{Axis, Bundle, Cell, Column, Field, Figure, Plot, Show, Table, thousands};
use crate::train::loss_figure;

impl Show for ModePath {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure()).figure(self.loss_figure()))
    }
}

impl Show for PathPoint {
    fn show(&self) -> Result<Bundle> {
        let columns = vec![Column::text("split"), Column::number("accuracy", 3), Column::number("loss (nats)", 3)];
        let mut table = Table::new("path-point", format!("At μ = {:.2}", self.mu), columns);
        for (split, scores) in &self.scores {
            let numbers = [scores.map(|scores| scores.accuracy), scores.map(|scores| scores.loss)];
            table.push([Cell::from(split.as_str())].into_iter().chain(numbers.map(Cell::from)));
        }
        Ok(Bundle::new().table(table))
    }
}

impl Show for Barrier {
    fn show(&self) -> Result<Bundle> {
        let columns = vec![Column::text("barrier"), Column::number("height", 4), Column::number("at μ", 2)];
        let mut table = Table::new("barrier", "The way between two models", columns).caption(
            "Height above the straight line between the scores of the ends; 0 where the path never rises above it.",
        );
        table.push([Cell::from("loss (nats)"), self.loss.into(), self.loss_at.into()]);
        table.push([Cell::from("lost accuracy"), self.accuracy.into(), self.accuracy_at.into()]);
        Ok(Bundle::new().table(table))
    }
}

impl Show for Curve {
    fn show(&self) -> Result<Bundle> {
        let title = format!("Training the control point of a {} curve", format!("{:?}", self.route).to_lowercase());
        let figure = loss_figure(&title, &self.losses).caption("Each update is taken at a random point of the curve.");
        Ok(Bundle::new().figure(figure))
    }
}

impl Show for CurveConfig {
    fn show(&self) -> Result<Bundle> {
        let listed = |config: &CurveConfig| {
            json!({
                "route": config.route, "optimisation": config.optimisation,
                "batch_size": config.batch_size, "seed": config.seed,
            })
        };
        Ok(Bundle::new().table(settings("A curve between two models", &listed(self), Some(&listed(&Self::default())))?))
    }
}

impl Show for Plane {
    fn show(&self) -> Result<Bundle> {
        let caption = format!(
            "Each cell is a model on the plane through the three, scored on {}. Where no dark wall stands between them, one region holds all.",
            self.split
        );
        Ok(Bundle::new().figure(self.figure().caption(caption)))
    }
}

impl Show for PlaneConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("A plane through three models", self, Some(&Self::default()))?))
    }
}

/// Corresponding heads, others of the layer, mismatched, gap, matched: over all layers.
fn head_table(matrices: &[(&str, &HeadMatrix)]) -> Table {
    let columns = ["corresponding", "same layer, other head", "mismatched", "gap", "matched"];
    let columns = columns.iter().map(|name| Column::number(*name, 3));
    let columns = [Column::text("similarity")].into_iter().chain(columns).collect();
    let mut table = Table::new("heads", "Over all layers", columns).caption(
        "Gap: corresponding less mismatched. Matched: share of heads that the best one-to-one matching pairs with the same head.",
    );
    for (name, matrix) in matrices {
        let means = [matrix.corresponding(), matrix.mismatched_in_layer(), matrix.mismatched(), matrix.gap()];
        let numbers = means.map(Cell::from).into_iter().chain([Cell::from(matrix.matched_share())]);
        table.push([Cell::from(*name)].into_iter().chain(numbers));
    }
    table
}

impl Show for HeadSimilarity {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure()).table(head_table(&[("1 − JS", &self.js), ("cosine", &self.cosine)])))
    }
}

impl Show for HeadMatrix {
    fn show(&self) -> Result<Bundle> {
        let name = |head: usize| format!("{}.{}", self.layer_of(head), head % self.heads_per_layer.max(1));
        let axis = |model: &str| Axis::new(format!("head of {model} (layer.head)")).names((0..self.heads()).map(name));
        let field = Field::new("similarity", self.values.iter().map(|row| row.iter().copied())).show_values();
        let figure =
            Figure::field("head-matrix", "Every head against every head", axis("model b"), axis("model a"), field)
                .caption("On the diagonal stand corresponding heads.");
        Ok(Bundle::new().figure(figure).table(head_table(&[("", self)])))
    }
}

impl Show for LayerSimilarity {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure()))
    }
}

impl Show for AttentionRows {
    fn show(&self) -> Result<Bundle> {
        let bytes = self.bytes() as f64 / 1e6;
        Ok(Bundle::new()
            .text(format!("Attention of a model on a set of texts, kept to be compared with others: {bytes:.1} MB")))
    }
}

/// Mean share of attention that goes to the first token, to the token before, to itself, and to the token after.
fn directions(map: &[Vec<f32>]) -> [f64; 4] {
    let share = |to: &dyn Fn(usize) -> Option<usize>| {
        let weights =
            map.iter().enumerate().map(|(from, row)| to(from).and_then(|to| row.get(to)).copied().unwrap_or(0.0));
        weights.map(f64::from).sum::<f64>() / map.len().max(1) as f64
    };
    [share(&|_| Some(0)), share(&|from| from.checked_sub(1)), share(&Some), share(&|from| Some(from + 1))]
}

/// Mean entropy of a head's rows, in bits: 0 where every token looks at one token alone.
fn entropy(map: &[Vec<f32>]) -> f64 {
    let term = |weight: &f32| if *weight > 0.0 { -f64::from(*weight) * f64::from(*weight).log2() } else { 0.0 };
    map.iter().flatten().map(term).sum::<f64>() / map.len().max(1) as f64
}

impl Show for AttentionMaps {
    fn show(&self) -> Result<Bundle> {
        let columns = ["to the first token", "to the token before", "to itself", "to the token after"];
        let columns = columns.iter().map(|name| Column::number(*name, 2));
        let columns: Vec<Column> = [Column::text("layer.head")].into_iter().chain(columns).collect();
        let mut table = Table::new("attention", "Where the heads look, on average over the tokens", columns);
        table.columns.push(Column::number("entropy (bits)", 2));
        let heads = || {
            self.maps
                .iter()
                .enumerate()
                .flat_map(|(l, heads)| heads.iter().enumerate().map(move |(h, map)| (l, h, map)))
        };
        for (layer, head, map) in heads() {
            let shares = directions(map).into_iter().chain([entropy(map)]).map(Cell::from);
            table.push([Cell::from(format!("{layer}.{head}"))].into_iter().chain(shares));
        }
        let sharpest = heads().min_by(|a, b| entropy(a.2).total_cmp(&entropy(b.2)));
        let (layer, head, _) = sharpest.context("there is no attention to show: the model has no heads")?;
        let mut figure = self.figure("this model", layer, head)?;
        if let Plot::Field(field) = &mut figure.plot {
            // Over many tokens no weight is near 1: the largest is the lightest.
            field.range = None;
        }
        let caption = format!(
            "The head whose attention is sharpest; `figure(model, layer, head)` draws any other. {}",
            figure.caption
        );
        Ok(Bundle::new().figure(figure.caption(caption)).table(table))
    }
}

impl Show for Distance {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(Distances { whole: *self, parts: Vec::new() }.table()))
    }
}

impl Show for PartDistance {
    fn show(&self) -> Result<Bundle> {
        let mut table = Distances { whole: self.distance, parts: vec![self.clone()] }.table();
        table.rows.truncate(1);
        Ok(Bundle::new().table(table))
    }
}

impl Show for Distances {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(self.table()))
    }
}

impl Show for Triangle {
    fn show(&self) -> Result<Bundle> {
        let bundle = Bundle::new().figure(self.figure());
        Ok(if self.versions.len() > 1 { bundle.table(self.flips_table()) } else { bundle })
    }
}

impl Show for Flips {
    fn show(&self) -> Result<Bundle> {
        let columns = vec![Column::text("answers"), Column::number("right now", 0), Column::number("wrong now", 0)];
        let caption = format!(
            "Of {} examples {:.1} % are negative flips (right before, wrong now), {:.1} % positive ones.",
            thousands(self.n() as i64),
            100.0 * self.negative_rate(),
            100.0 * self.positive_rate()
        );
        let mut table = Table::new("flips", "How answers change", columns).caption(caption);
        table.push([Cell::from("right before"), self.both_right.into(), self.negative.into()]);
        table.push([Cell::from("wrong before"), self.positive.into(), self.both_wrong.into()]);
        Ok(Bundle::new().table(table))
    }
}

impl Show for ScaleSearch {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure()))
    }
}

impl Show for InsideUpgrade {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure().caption(self.table().caption)))
    }
}

crate::displayable!(ModePath, PathPoint, Barrier, Curve, CurveConfig, Plane, PlaneConfig, HeadSimilarity, HeadMatrix);
crate::displayable!(LayerSimilarity, AttentionRows, AttentionMaps, Distance, PartDistance, Distances, Triangle, Flips);
crate::displayable!(ScaleSearch, InsideUpgrade);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Route, compare_layers, compare_paths};
    use crate::train::Scores;

    /// A path whose accuracy is this function of μ.
    fn path(accuracy: impl Fn(f64) -> f64) -> ModePath {
        let point = |at: usize| {
            let mu = at as f64 / 10.0;
            let scores = Scores { accuracy: accuracy(mu), macro_f1: 0.0, loss: 1.0 - accuracy(mu), n: 100 };
            PathPoint { mu, scores: [("dev".to_string(), scores.loss.is_finite().then_some(scores))].into() }
        };
        ModePath { ends: ["M_0".into(), "<M_1>".into()], route: Route::Line, points: (0..11).map(point).collect() }
    }

    #[test]
    fn paths_beside_each_other_name_their_barriers_and_gaps() -> Result<()> {
        let flat = path(|_| 0.9);
        let valley = path(|mu| 0.9 - 2.0 * mu * (1.0 - mu));
        let torn = path(|mu| if mu == 0.5 { f64::NAN } else { 0.8 });
        let bundle = compare_paths(&[("flat", &flat), ("valley", &valley), ("torn", &torn)], "dev")?;
        let text = bundle.to_text();
        assert!(
            text.lines().any(|line| line.starts_with("valley") && line.contains("0.500") && line.contains("<M_1>")),
            "{text}"
        );
        assert!(text.contains("torn: the loss between M_0 and <M_1> is not finite at μ = 0.50"), "{text}");
        assert!(bundle.to_svg()?.contains("&lt;M_1&gt;"));
        let refused = |paths: &[(&str, &ModePath)], split: &str| compare_paths(paths, split).unwrap_err().to_string();
        assert!(refused(&[("a", &flat), ("a", &valley)], "dev").contains("two paths are called \"a\""));
        assert!(refused(&[], "dev").contains("no paths"));
        assert!(refused(&[("a", &flat)], "test").contains("not evaluated on test"));
        Ok(())
    }

    #[test]
    fn layers_of_several_models_share_a_figure_and_keep_their_warnings() -> Result<()> {
        let layers = |cka: &[f64], warning: Option<&str>| LayerSimilarity {
            cka: cka.to_vec(),
            tokens: 500,
            hidden_sizes: [32, 32],
            warning: warning.map(String::from),
        };
        let (near, far) = (layers(&[0.9, 0.8], None), layers(&[0.7, 0.2], Some("Only a few tokens.")));
        let figure = compare_layers(&[("M_1", &near), ("M_IND", &far)])?;
        assert!(figure.caption.contains("500 tokens") && figure.caption.contains("M_IND: Only a few tokens."));
        let text = figure.show()?.to_text();
        assert!(text.lines().any(|line| line.starts_with("M_IND") && line.contains("0.2")), "{text}");
        let refused = |layers: &[(&str, &LayerSimilarity)]| compare_layers(layers).unwrap_err().to_string();
        assert!(refused(&[]).contains("no layers"));
        assert!(refused(&[("a", &near), ("a", &far)]).contains("two models are called \"a\""));
        assert!(refused(&[("a", &near), ("b", &layers(&[0.5], None))]).contains("b has 1 hidden states, a has 2"));
        Ok(())
    }

    #[test]
    fn heads_are_summed_up_by_where_they_look() {
        let before = vec![vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0]];
        assert_eq!(directions(&before).map(|share| (share * 3.0).round()), [2.0, 2.0, 1.0, 0.0]);
        assert_eq!(entropy(&before), 0.0);
        assert_eq!(entropy(&[vec![0.5, 0.5], vec![0.25, 0.75]]).max(0.9), entropy(&[vec![0.5, 0.5], vec![0.25, 0.75]]));
    }

    #[test]
    fn flips_are_a_two_by_two_table() {
        let text = Flips { positive: 3, negative: 1, both_right: 10, both_wrong: 6 }.to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[3], ["right", "before", "10", "1"]);
        assert_eq!(rows[4], ["wrong", "before", "3", "6"]);
        assert!(text.contains("5.0 % are negative"), "{text}");
    }
}
