//! Paths between two tuned models: is there a barrier on the way?
//!
//! The straight path is θ(μ) = (1 − μ)·θ_a + μ·θ_b over *all* parameters: backbone, modules and head (the paper's
//! pilot study on mode connectivity; the 26 points are those of the authors' code). Bent ones go through a trained third
//! point, see [`super::curve`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::ends::Tuned;
use crate::display::{Axis, Cell, Column, Figure, Point, Table};
use crate::model::Model;
use crate::text::TaskData;
use crate::train::{Evaluation, Scores, evaluate};

/// How many points a path is evaluated at: 26 are 0, 0.04, …, 1.
pub const DEFAULT_POINTS: usize = 26;

/// Encoded examples with the name they are reported under, say `dev`.
pub type Split<'a> = (&'a str, &'a TaskData);

/// How a path runs between its ends a and b.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// (1 − μ)·a + μ·b
    #[default]
    Line,
    /// (1 − μ)²·a + 2μ(1 − μ)·c + μ²·b, a quadratic Bézier curve with control point c.
    Bezier,
    /// From a to c on the first half, from c to b on the second: a polygonal chain with one bend.
    Chain,
}

impl Route {
    /// The weights of a, c and b at μ; they sum to 1.
    pub fn weights(self, mu: f64) -> [f64; 3] {
        match self {
            Route::Line => [1.0 - mu, 0.0, mu],
            Route::Bezier => [(1.0 - mu).powi(2), 2.0 * mu * (1.0 - mu), mu * mu],
            Route::Chain if mu < 0.5 => [1.0 - 2.0 * mu, 2.0 * mu, 0.0],
            Route::Chain => [0.0, 2.0 - 2.0 * mu, 2.0 * mu - 1.0],
        }
    }
}

/// The scores at one point of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// From 0 at a to 1 at b.
    pub mu: f64,
    /// By split; `None` where the model's loss is not finite, so that nothing can be said of it.
    pub scores: BTreeMap<String, Option<Scores>>,
}

/// A path between two tuned models, and the scores along it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModePath {
    /// Names of the ends.
    pub ends: [String; 2],
    /// How it runs.
    pub route: Route,
    /// In ascending order of μ; the first and the last are the ends themselves.
    pub points: Vec<PathPoint>,
}

/// How far a path rises above the straight line between the scores of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    /// max over μ of loss(μ) − [(1 − μ)·loss(0) + μ·loss(1)], in nats; 0 where the path never rises above it.
    pub loss: f64,
    /// Where that is.
    pub loss_at: f64,
    /// max over μ of [(1 − μ)·accuracy(0) + μ·accuracy(1)] − accuracy(μ).
    pub accuracy: f64,
    /// Where that is.
    pub accuracy_at: f64,
}

/// Evaluates the straight path from `a` to `b` at `points` equally spaced points, ends included.
///
/// One spare set of parameters is written over from point to point. Errors: ends that have no common space
/// ([`Tuned::check_comparable`]), fewer than two points, no split.
pub fn linear_path(a: Tuned, b: Tuned, points: usize, splits: &[Split], device: Device) -> Result<ModePath> {
    a.check_comparable(&b)?;
    let ends = [a.model(device)?, b.model(device)?];
    walk(Route::Line, [&ends[0], &ends[0], &ends[1]], points, splits, |_, _| ())
}

/// Evaluates the models along a route; `through` are a, the control point and b. Every evaluation is shown to `see`, with its
/// split.
pub(crate) fn walk(
    route: Route,
    through: [&Model; 3],
    points: usize,
    splits: &[Split],
    mut see: impl FnMut(&Split, &Evaluation),
) -> Result<ModePath> {
    ensure!(points >= 2, "a path of {points} point shows nothing: its two ends are the least (26 is usual)");
    ensure!(!splits.is_empty(), "a path needs at least one split to be evaluated on");
    let mut spare = through[0].try_clone()?;
    let point = |at: usize| -> Result<PathPoint> {
        let mu = at as f64 / (points - 1) as f64;
        let weighted = route.weights(mu).into_iter().zip(through);
        // What has no weight is left out: at the ends the parameters are those of the end, to the bit.
        spare.write_sum(&weighted.filter(|(weight, _)| *weight != 0.0).collect::<Vec<_>>())?;
        let mut scores = BTreeMap::new();
        for split in splits {
            let evaluation = evaluate(&spare, split.1).with_context(|| format!("at μ = {mu:.2} on {}", split.0))?;
            see(split, &evaluation);
            scores.insert(split.0.to_string(), evaluation.scores.loss.is_finite().then_some(evaluation.scores));
        }
        Ok(PathPoint { mu, scores })
    };
    let points = (0..points).map(point).collect::<Result<Vec<_>>>()?;
    Ok(ModePath { ends: ["a".to_string(), "b".to_string()], route, points })
}

impl ModePath {
    /// The same path, its ends named for tables and figures: say `M_0 ⊕ Δ_0`.
    pub fn named(mut self, a: impl Into<String>, b: impl Into<String>) -> ModePath {
        self.ends = [a.into(), b.into()];
        self
    }

    /// Names of the splits it was evaluated on.
    pub fn splits(&self) -> Vec<&str> {
        self.points.first().map_or(Vec::new(), |point| point.scores.keys().map(String::as_str).collect())
    }

    /// The scores on a split: (μ, scores), `None` where they are not finite.
    pub fn scores(&self, split: &str) -> Result<Vec<(f64, Option<Scores>)>> {
        let read = |point: &PathPoint| {
            let scores = point.scores.get(split).copied();
            let known = || format!("the path was not evaluated on {split}, but on {}", self.splits().join(", "));
            Ok((point.mu, scores.with_context(known)?))
        };
        self.points.iter().map(read).collect()
    }

    /// The barriers on a split.
    ///
    /// Errors where the loss is not finite somewhere on the way, naming the places: such a path has no barrier that could be
    /// compared.
    pub fn barrier(&self, split: &str) -> Result<Barrier> {
        let scores = self.scores(split)?;
        let broken: Vec<String> =
            scores.iter().filter(|(_, scores)| scores.is_none()).map(|(mu, _)| format!("{mu:.2}")).collect();
        ensure!(
            broken.is_empty(),
            "the loss between {} and {} is not finite at μ = {}: there is no barrier to speak of",
            self.ends[0],
            self.ends[1],
            broken.join(", ")
        );
        let loss = scores.iter().filter_map(|(mu, scores)| Some((*mu, scores.as_ref()?.loss)));
        let accuracy = scores.iter().filter_map(|(mu, scores)| Some((*mu, -scores.as_ref()?.accuracy)));
        let (loss, loss_at) = rise(&loss.collect::<Vec<_>>())?;
        let (accuracy, accuracy_at) = rise(&accuracy.collect::<Vec<_>>())?;
        Ok(Barrier { loss, loss_at, accuracy, accuracy_at })
    }

    /// Accuracy and loss at every point, for each split.
    pub fn table(&self) -> Table {
        let mut columns = vec![Column::number("μ", 2)];
        for split in self.splits() {
            columns
                .extend([Column::number(format!("{split} accuracy"), 3), Column::number(format!("{split} loss"), 3)]);
        }
        let title = format!("From {} to {}", self.ends[0], self.ends[1]);
        let mut table = Table::new("path", title, columns).caption(self.caption());
        for point in &self.points {
            let scores = point.scores.values().flat_map(|scores| {
                [scores.map(|scores| scores.accuracy), scores.map(|scores| scores.loss)].map(Cell::from)
            });
            table.push([Cell::from(point.mu)].into_iter().chain(scores));
        }
        table
    }

    /// Accuracy along the path, a line for each split.
    pub fn figure(&self) -> Figure {
        self.lines("accuracy", |scores| scores.accuracy).caption(self.caption())
    }

    /// Loss along the path, a line for each split.
    pub fn loss_figure(&self) -> Figure {
        self.lines("loss (nats)", |scores| scores.loss).caption(self.caption())
    }

    /// Accuracy along this path and another one between the same ends, on one split.
    pub fn beside(&self, other: &ModePath, split: &str) -> Result<Figure> {
        self.two(other, split, "accuracy", |scores| scores.accuracy)
    }

    /// Loss along this path and another one between the same ends, on one split.
    pub fn loss_beside(&self, other: &ModePath, split: &str) -> Result<Figure> {
        self.two(other, split, "loss (nats)", |scores| scores.loss)
    }

    fn two(&self, other: &ModePath, split: &str, what: &str, value: impl Fn(&Scores) -> f64) -> Result<Figure> {
        let empty = ModePath { points: Vec::new(), ..self.clone() };
        let mut figure = empty.lines(what, &value);
        let mut captions = Vec::new();
        for path in [other, self] {
            let name = format!("{:?}", path.route).to_lowercase();
            for piece in unbroken(&path.scores(split)?, &value) {
                figure = figure.line(name.clone(), piece);
            }
            captions.push(match path.barrier(split) {
                Ok(barrier) => format!(
                    "{name}: loss barrier {:.3} nats, accuracy barrier {:.3} on {split}.",
                    barrier.loss, barrier.accuracy
                ),
                Err(error) => format!("{name}: {error}."),
            });
        }
        Ok(figure.caption(captions.join(" ")))
    }

    fn lines(&self, what: &str, value: impl Fn(&Scores) -> f64) -> Figure {
        let id = if what == "accuracy" { "path-accuracy" } else { "path-loss" };
        let title = format!("From {} to {}", self.ends[0], self.ends[1]);
        let axis = Axis::new(format!("μ: 0 is {}, 1 is {}", self.ends[0], self.ends[1])).range(0.0, 1.0);
        let mut figure = Figure::lines(id, title, axis, Axis::new(what));
        for split in self.splits() {
            for piece in unbroken(&self.scores(split).unwrap_or_default(), &value) {
                figure = figure.line(split, piece);
            }
        }
        figure
    }

    fn caption(&self) -> String {
        let of_split = |split: &str| match self.barrier(split) {
            Ok(barrier) => format!(
                "On {split} the loss barrier is {:.3} nats, the accuracy barrier {:.3}.",
                barrier.loss, barrier.accuracy
            ),
            Err(error) => format!("On {split}: {error}."),
        };
        self.splits().into_iter().map(of_split).collect::<Vec<_>>().join(" ")
    }
}

/// The largest rise of `values` above the straight line between the first and the last, and where it is.
pub(crate) fn rise(values: &[(f64, f64)]) -> Result<(f64, f64)> {
    let (first, last) = (values.first().context("an empty path")?.1, values.last().context("an empty path")?.1);
    let above = values.iter().map(|&(mu, value)| (value - ((1.0 - mu) * first + mu * last), mu));
    // The ends are on the line by definition, whatever rounding says.
    Ok(above.fold((0.0, 0.0), |highest, one| if one.0 > highest.0 + 1e-12 { one } else { highest }))
}

/// The runs of points that have scores: a line is not drawn across a gap.
pub(crate) fn unbroken(scores: &[(f64, Option<Scores>)], value: impl Fn(&Scores) -> f64) -> Vec<Vec<Point>> {
    let runs = scores.split(|(_, scores)| scores.is_none()).filter(|run| !run.is_empty());
    let point = |(mu, scores): &(f64, Option<Scores>)| Some(Point::new(*mu, value(scores.as_ref()?)));
    runs.map(|run| run.iter().filter_map(point).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path whose loss and accuracy are these functions of μ.
    fn path(loss: impl Fn(f64) -> f64, accuracy: impl Fn(f64) -> f64) -> ModePath {
        let point = |at: usize| {
            let mu = at as f64 / 25.0;
            let scores = Scores { accuracy: accuracy(mu), macro_f1: 0.0, loss: loss(mu), n: 100 };
            PathPoint { mu, scores: [("dev".to_string(), Some(scores))].into() }
        };
        ModePath { ends: ["a".into(), "b".into()], route: Route::Line, points: (0..26).map(point).collect() }
    }

    #[test]
    fn a_hill_between_unequal_ends_has_the_height_that_the_formula_gives() -> Result<()> {
        // loss = 1 + μ + 4μ(1 − μ): the straight line is 1 + μ, the rise 4μ(1 − μ), highest near one half.
        let barrier = path(|mu| 1.0 + mu + 4.0 * mu * (1.0 - mu), |mu| 0.9 - 0.1 * mu).barrier("dev")?;
        assert!((barrier.loss - 4.0 * 0.48 * 0.52).abs() < 1e-12 && (barrier.loss_at - 0.48).abs() < 1e-12);
        assert_eq!((barrier.accuracy, barrier.accuracy_at), (0.0, 0.0));
        Ok(())
    }

    #[test]
    fn a_convex_bowl_has_no_barrier_and_lost_accuracy_counts_as_one() -> Result<()> {
        // In a quadratic bowl L(θ) = ‖θ‖² the path from −1 to 3 runs below its chord everywhere: L = (4μ − 1)².
        let barrier = path(|mu| (4.0 * mu - 1.0).powi(2), |mu| 0.8 - 0.3 * f64::from(mu == 0.4)).barrier("dev")?;
        assert_eq!(barrier.loss, 0.0);
        assert!((barrier.accuracy - 0.3).abs() < 1e-12 && (barrier.accuracy_at - 0.4).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn routes_start_at_a_and_end_at_b_and_their_weights_sum_to_one() {
        for route in [Route::Line, Route::Bezier, Route::Chain] {
            assert_eq!((route.weights(0.0), route.weights(1.0)), ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]));
            for mu in [0.1, 0.5, 0.77] {
                assert!((route.weights(mu).iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        assert_eq!(Route::Bezier.weights(0.5), [0.25, 0.5, 0.25]);
        assert_eq!(Route::Chain.weights(0.5), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_bezier_curve_over_a_ring_stays_on_it_where_the_straight_line_falls_into_the_middle() -> Result<()> {
        // L(θ) = (‖θ‖² − 1)² in the plane, ends at angle 0 and 120°. The control point at the crossing of the tangents gives the
        // parabola whose largest deviation is known: at μ = ½ it is at (|chord middle| + |control|) / 2 = (½ + 2) / 2.
        let (a, b) = ((1.0, 0.0), (-0.5, 0.75_f64.sqrt()));
        let c = (1.0, 3.0_f64.sqrt());
        let loss = |route: Route, mu: f64| {
            let [wa, wc, wb] = route.weights(mu);
            let (x, y): (f64, f64) = (wa * a.0 + wc * c.0 + wb * b.0, wa * a.1 + wc * c.1 + wb * b.1);
            (x * x + y * y - 1.0).powi(2)
        };
        assert!((loss(Route::Bezier, 0.5) - (1.25_f64.powi(2) - 1.0).powi(2)).abs() < 1e-12);
        assert!((loss(Route::Line, 0.5) - (0.25_f64 - 1.0).powi(2)).abs() < 1e-12);
        let barrier = |route: Route| path(|mu| loss(route, mu), |_| 1.0).barrier("dev").map(|barrier| barrier.loss);
        assert!(barrier(Route::Bezier)? < barrier(Route::Line)?);
        Ok(())
    }
}
