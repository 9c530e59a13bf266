//! Results beside each other: which ends are joined without a barrier, whose layers hold the same?

use anyhow::{Result, bail, ensure};

use super::hidden_states::name as layer_name;
use super::path::unbroken;
use super::{LayerSimilarity, ModePath};
use crate::display::{Axis, Bundle, Cell, Column, Figure, Point, Table};

/// Accuracy along several paths on one split in one figure, and their barriers: say adjacent versions and the independent control.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// # let (near, far) = unimplemented!();
/// recyclable::analysis::compare_paths(&[("adjacent versions", near), ("independent model", far)], "dev")?
/// # ; Ok(()) }
/// ```
///
/// Errors: no paths, two of one name, a path that was not evaluated on this split. A path whose loss is not finite somewhere has
/// a gap there, and no barrier.
pub fn compare_paths(paths: &[(&str, &ModePath)], split: &str) -> Result<Bundle> {
    ensure!(!paths.is_empty(), "there are no paths to compare");
    let x = Axis::new("μ: from the first end (0) to the second (1)").range(0.0, 1.0);
    let mut figure = Figure::lines("paths", "Paths between tuned models", x, Axis::new(format!("accuracy on {split}")));
    let columns = vec![
        Column::text("path"),
        Column::text("from"),
        Column::text("to"),
        Column::number("accuracy barrier", 3),
        Column::number("at μ", 2),
        Column::number("loss barrier (nats)", 3),
        Column::number("at μ", 2),
    ];
    let mut table = Table::new("barriers", format!("Barriers on {split}"), columns);
    let mut notes = Vec::new();
    for (at, (name, path)) in paths.iter().enumerate() {
        ensure!(!paths[..at].iter().any(|(known, _)| known == name), "two paths are called {name:?}: rename one");
        for piece in unbroken(&path.scores(split)?, |scores| scores.accuracy) {
            figure = figure.line(*name, piece);
        }
        let barrier = path.barrier(split);
        let numbers = match &barrier {
            Ok(barrier) => [barrier.accuracy, barrier.accuracy_at, barrier.loss, barrier.loss_at].map(Some),
            Err(error) => {
                notes.push(format!("{name}: {error}."));
                [None; 4]
            }
        };
        let ends = [*name, path.ends[0].as_str(), path.ends[1].as_str()].map(Cell::from);
        table.push(ends.into_iter().chain(numbers.map(Cell::from)));
    }
    notes.insert(
        0,
        "A barrier is how far the path falls below (or its loss rises above) the straight line between its ends."
            .into(),
    );
    let caption =
        format!("On {split}. A flat line is a path without a barrier: both ends lie in one region of low loss.");
    Ok(Bundle::new().figure(figure.caption(caption)).table(table.caption(notes.join(" "))))
}

/// CKA over the layers of several comparisons in one figure: say one model against its successor and against a stranger.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// # let (near, far) = unimplemented!();
/// recyclable::analysis::compare_layers(&[("the next version", near), ("independent model", far)])?
/// # ; Ok(()) }
/// ```
///
/// Errors: nothing to compare, two of one name, models of other depths.
pub fn compare_layers(layers: &[(&str, &LayerSimilarity)]) -> Result<Figure> {
    let Some((first, known)) = layers.first() else { bail!("there are no layers to compare") };
    let (depth, tokens) = (known.cka.len(), layers.iter().map(|(_, found)| found.tokens).min().unwrap_or_default());
    let x = Axis::new("hidden state").names((0..depth).map(layer_name));
    let mut figure = Figure::lines("layers", "Similarity of hidden states", x, Axis::new("CKA"));
    let mut caption = format!("Debiased linear CKA over {tokens} tokens.");
    for (at, (name, found)) in layers.iter().enumerate() {
        ensure!(!layers[..at].iter().any(|(known, _)| known == name), "two models are called {name:?}: rename one");
        let states = found.cka.len();
        ensure!(states == depth, "{name} has {states} hidden states, {first} has {depth}: they cannot be compared");
        let points = found.cka.iter().enumerate().map(|(layer, &cka)| Point::new(layer as f64, cka)).collect();
        figure = figure.line(*name, points);
        if let Some(warning) = &found.warning {
            caption += &format!(" {name}: {warning}");
        }
    }
    Ok(figure.caption(caption))
}
