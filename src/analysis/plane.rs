//! The plane through three tuned models: where is the region of low loss, and do they lie in one?

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::ends::Tuned;
use super::path::Split;
use crate::display::{Axis, Field, Figure};
use crate::model::Model;
use crate::params::Delta;
use crate::train::{Scores, evaluate};

/// How a plane is sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaneConfig {
    /// Points along each side of the grid.
    pub resolution: usize,
    /// How far the grid goes beyond the three models, as a share of their extent.
    pub margin: f64,
}

impl Default for PlaneConfig {
    fn default() -> PlaneConfig {
        PlaneConfig { resolution: 21, margin: 0.2 }
    }
}

impl PlaneConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.resolution >= 2, "a plane of resolution {} has no inside: 21 is usual", self.resolution);
        ensure!(self.margin.is_finite() && self.margin >= 0.0, "the margin {} must not be negative", self.margin);
        Ok(())
    }
}

/// Scores over a plane in parameter space.
///
/// Its coordinates are distances (L2 over all parameters): the first model is the origin, the second lies on the x axis, the
/// third has a positive y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plane {
    /// Names of the three models.
    pub names: [String; 3],
    /// Where they lie.
    pub places: [(f64, f64); 3],
    /// Coordinates of the grid's columns.
    pub xs: Vec<f64>,
    /// Coordinates of its rows.
    pub ys: Vec<f64>,
    /// One row for each y, one column for each x; `None` where the loss is not finite.
    pub scores: Vec<Vec<Option<Scores>>>,
    /// What it was evaluated on.
    pub split: String,
}

/// Evaluates a grid of models on the plane through `models`.
///
/// Errors: a configuration that contradicts itself, models without a common space, three models on one line.
pub fn plane(models: [Tuned; 3], config: &PlaneConfig, (split, data): Split, device: Device) -> Result<Plane> {
    config.validate()?;
    let [a, b, c] = models;
    a.check_comparable(&b)?;
    a.check_comparable(&c)?;
    let through = [a.model(device)?, b.model(device)?, c.model(device)?];
    // u = b − a and v = c − a, their lengths and the part of v along u.
    let (u, v) = (difference(&through[1], &through[0])?, difference(&through[2], &through[0])?);
    let (uu, uv, vv) = (dot(&u, &u)?, dot(&u, &v)?, dot(&v, &v)?);
    let across = vv - uv * uv / uu;
    ensure!(
        uu > 0.0 && across > 1e-9 * vv.max(uu),
        "the three models lie on one line and span no plane: choose models that differ"
    );
    let (width, height, along) = (uu.sqrt(), across.sqrt(), uv / uu.sqrt());
    let places = [(0.0, 0.0), (width, 0.0), (along, height)];
    let side = |values: [f64; 3]| {
        let lo = values.into_iter().fold(f64::INFINITY, f64::min);
        let hi = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let (lo, hi) = (lo - config.margin * (hi - lo), hi + config.margin * (hi - lo));
        let at = |index: usize| lo + (hi - lo) * index as f64 / (config.resolution - 1) as f64;
        (0..config.resolution).map(at).collect::<Vec<f64>>()
    };
    let (xs, ys) = (side(places.map(|place| place.0)), side(places.map(|place| place.1)));
    let mut spare = through[0].try_clone()?;
    let mut at = |x: f64, y: f64| -> Result<Option<Scores>> {
        let third = y / height;
        let second = (x - third * along) / width;
        let weights = [1.0 - second - third, second, third];
        spare.write_sum(&weights.into_iter().zip(&through).collect::<Vec<_>>())?;
        let scores = evaluate(&spare, data).with_context(|| format!("at ({x:.2}, {y:.2}) of the plane"))?.scores;
        Ok(scores.loss.is_finite().then_some(scores))
    };
    let mut scores = Vec::with_capacity(ys.len());
    for &y in &ys {
        scores.push(xs.iter().map(|&x| at(x, y)).collect::<Result<Vec<_>>>()?);
    }
    let names = ["a", "b", "c"].map(String::from);
    Ok(Plane { names, places, xs, ys, scores, split: split.to_string() })
}

impl Plane {
    /// The same plane, its models named for figures.
    pub fn named(mut self, names: [&str; 3]) -> Plane {
        self.names = names.map(String::from);
        self
    }

    /// Accuracy over the plane, with contours.
    pub fn figure(&self) -> Figure {
        self.field("plane-accuracy", "accuracy", Some((0.0, 1.0)), |scores| scores.accuracy)
    }

    /// Loss over the plane, with contours.
    pub fn loss_figure(&self) -> Figure {
        self.field("plane-loss", "loss (nats)", None, |scores| scores.loss)
    }

    fn field(&self, id: &str, what: &str, range: Option<(f64, f64)>, value: impl Fn(&Scores) -> f64) -> Figure {
        let row = |row: &Vec<Option<Scores>>| row.iter().map(|scores| scores.as_ref().map(&value)).collect();
        let values: Vec<Vec<Option<f64>>> = self.scores.iter().map(row).collect();
        let known = || values.iter().flatten().flatten().copied();
        let (lo, hi) = range.unwrap_or((known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max)));
        let levels = (1..10).map(|tenth| lo + (hi - lo) * f64::from(tenth) / 10.0);
        let mut field = Field::new(format!("{what} on {}", self.split), values).contours(levels);
        for (&(x, y), name) in self.places.iter().zip(&self.names) {
            field = field.mark(name.as_str(), x, y);
        }
        let field = Field { range, ..field };
        let ends = |values: &[f64]| (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(1.0));
        let axis = |label: &str, values: &[f64]| {
            let (lo, hi) = ends(values);
            Axis::new(label).range(lo, hi)
        };
        let x = axis(&format!("distance along {} → {}", self.names[0], self.names[1]), &self.xs);
        let title = format!("The plane through {}, {} and {}", self.names[0], self.names[1], self.names[2]);
        Figure::field(id, title, x, axis("distance across", &self.ys), field)
    }
}

/// θ_a − θ_b of every part.
fn difference(a: &Model, b: &Model) -> Result<Vec<Delta>> {
    a.parts().zip(b.parts()).map(|(a, b)| &a.theta - &b.theta).collect()
}

fn dot(a: &[Delta], b: &[Delta]) -> Result<f64> {
    a.iter().zip(b).map(|(a, b)| a.dot(b)).sum()
}
