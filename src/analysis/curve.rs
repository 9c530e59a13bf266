//! Bent paths for ends that no straight line joins: a third point is trained so that the models on the way do well
//! (Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", 2018).

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use tch::{Device, Reduction, Tensor};

use super::ends::Tuned;
use super::path::{Path, Route, Split, walk};
use crate::display::Progress;
use crate::model::{Model, Pass, Rows};
use crate::params::Theta;
use crate::seed;
use crate::text::{TaskBatch, TaskData};
use crate::train::{AdamW, LossPoint, Objective, Optimisation, fit};

/// How a control point is trained.
#[derive(Clone, Debug)]
pub struct CurveConfig {
    /// [`Route::Bezier`] or [`Route::Chain`].
    pub route: Route,
    /// Updates of the control point.
    pub optimisation: Optimisation,
    /// Examples an update; each update draws one μ.
    pub batch_size: usize,
    /// Chooses the order of the examples and the μ.
    pub seed: u64,
}

impl Default for CurveConfig {
    fn default() -> CurveConfig {
        CurveConfig {
            route: Route::Bezier,
            optimisation: Optimisation { steps: 200, learning_rate: 1e-3, ..Optimisation::default() },
            batch_size: 32,
            seed: 0,
        }
    }
}

/// A curve between two tuned models.
#[derive(Debug)]
pub struct Curve {
    /// How it runs.
    pub route: Route,
    /// The training loss, each at a random point of the curve.
    pub losses: Vec<LossPoint>,
    ends: [Model; 2],
    control: Model,
}

/// Trains the control point c of a curve from `a` to `b` to minimise the expected loss of the models on it,
/// E over μ ~ U(0, 1) of L_task(φ(μ)), starting from the middle of the straight path. What the tuning method leaves frozen stays
/// in the middle.
///
/// Errors: ends without a common space, a route that has no control point, a loss that is not finite.
pub fn train_curve(
    a: Tuned,
    b: Tuned,
    train: &TaskData,
    config: &CurveConfig,
    device: Device,
    progress: &Progress,
) -> Result<Curve> {
    a.check_comparable(&b)?;
    ensure!(config.route != Route::Line, "a straight line has nothing to train: choose Bezier or Chain");
    ensure!(config.batch_size > 0, "batch_size is 0");
    let ends = [a.model(device)?, b.model(device)?];
    let mut control = ends[0].try_clone()?;
    control.write_sum(&[(0.5, &ends[0]), (0.5, &ends[1])])?;
    let mut optimizer = AdamW::new(&control, &config.optimisation)?;
    let bend = Bend { config, ends: &ends, train, device };
    let losses = fit(&control, &bend, &config.optimisation, config.seed, &mut optimizer, Vec::new(), |now| {
        if let Some(last) = now.losses.last() {
            progress.update(now.step, format!("loss {:.3}", last.loss));
        }
        Ok(())
    });
    let losses = losses.context("training the curve stopped")?;
    Ok(Curve { route: config.route, losses, ends, control })
}

impl Curve {
    /// Evaluates the curve at equally spaced points, as [`super::linear_path`] does the straight line.
    pub fn path(&self, points: usize, splits: &[Split]) -> Result<Path> {
        walk(self.route, [&self.ends[0], &self.control, &self.ends[1]], points, splits, |_, _| ())
    }
}

/// The loss of the labels at a random point of the curve.
struct Bend<'a> {
    config: &'a CurveConfig,
    ends: &'a [Model; 2],
    train: &'a TaskData,
    device: Device,
}

impl Objective for Bend<'_> {
    type Batch = (TaskBatch, f64);

    fn batch(&self, index: usize) -> Result<Self::Batch> {
        let batch = self.train.batch(index, self.config.batch_size, self.config.seed)?.to_device(self.device)?;
        Ok((batch, seed::rng(self.config.seed, "curve", index as u64).random()))
    }

    fn targets(&self, (batch, _): &Self::Batch) -> usize {
        batch.labels.numel()
    }

    fn tokens(&self, (batch, _): &Self::Batch) -> usize {
        batch.tokens.input_ids.numel()
    }

    fn loss(&self, control: &Model, (batch, mu): &Self::Batch, pass: Pass) -> Result<Tensor> {
        let [weight_a, scale, weight_b] = self.config.route.weights(*mu);
        let parts = self.ends[0].parts().zip(self.ends[1].parts()).map(|(a, b)| {
            let mut sum = Theta::zeros(a.theta.layout().clone(), self.device)?;
            sum.write_sum(&[(weight_a, &a.theta), (weight_b, &b.theta)])?;
            Ok(sum)
        });
        let network = control.network_at(scale, &parts.collect::<Result<Vec<_>>>()?)?;
        let (logits, _) = network.classify(&batch.tokens, Pass { rows: Rows::First, ..pass })?; // (b, classes)
        Ok(logits.f_cross_entropy_loss(&batch.labels, None::<Tensor>, Reduction::Sum, -100, 0.0)?)
    }
}
