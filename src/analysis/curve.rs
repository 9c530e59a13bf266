//! Bent paths for ends that no straight line joins: a third point is trained so that the models on the way do well
//! (Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", 2018).

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::{Device, Reduction, Tensor};

use super::ends::Tuned;
use super::path::{ModePath, Route, Split, walk};
use crate::display::Progress;
use crate::model::{Model, Pass, Rows};
use crate::params::Theta;
use crate::seed;
use crate::text::{TaskBatch, TaskData};
use crate::train::{AdamW, LossPoint, Objective, Optimisation, fit};

/// How a control point is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

impl CurveConfig {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.route != Route::Line, "a straight line has nothing to train: choose Bezier or Chain");
        ensure!(self.batch_size > 0, "batch_size is 0: every update of the control point needs an example");
        self.optimisation.validate()
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
/// Errors: a configuration that contradicts itself, ends without a common space, a loss that is not finite.
pub fn train_curve(
    a: Tuned,
    b: Tuned,
    train: &TaskData,
    config: &CurveConfig,
    device: Device,
    progress: &Progress,
) -> Result<Curve> {
    config.validate()?;
    a.check_comparable(&b)?;
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
    pub fn path(&self, points: usize, splits: &[Split]) -> Result<ModePath> {
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::analysis::inputs::testing;
    use crate::model::{Adapted, Method, Version};
    use crate::text::Example;

    /// Weights whose scores are their output bias alone, (−z/2, z/2), whatever the text: all else in the head is 0. No other parameter
    /// then has a gradient, and on as many texts of one label as of the other the loss is ln(2·cosh(z/2)) = ln 2 + z²/8 + O(z⁴),
    /// a bowl.
    fn in_the_bowl(version: &Version, z: f32) -> Result<Adapted> {
        let labels = ["a".to_string(), "b".to_string()];
        let fresh = Model::classifier(version, &labels, &Method::Full, 1, Device::Cpu)?;
        let mut adapted = Adapted::of(&fresh, version, "bowl", Value::Null)?;
        adapted.head = Theta::zeros(adapted.head.layout().clone(), Device::Cpu)?;
        adapted.head.set("classifier.out_proj.bias", &Tensor::from_slice(&[-z / 2.0, z / 2.0]))?;
        Ok(adapted)
    }

    /// With z(μ) = w_a·z_a + w_c·c + w_b·z_b the expected loss E z²/8 is least where E[w_c·z] = 0. Over μ ~ U(0, 1):
    /// Bézier: E[w_c·w_a] = E[w_c·w_b] = 2·B(2, 4) = 1/10 and E[w_c²] = 4·B(3, 3) = 2/15, so c = −¾·(z_a + z_b).
    /// Chain: w_c is uniform on both halves, E[w_c·w_a] = E[w_c·w_b] = ½·(½ − ⅓) = 1/12 and E[w_c²] = ⅓, so c = −¼·(z_a + z_b).
    /// What is left is the noise of drawing μ: other seeds end within 0.013.
    #[test]
    fn in_a_quadratic_bowl_the_control_point_goes_where_calculus_puts_it() -> Result<()> {
        let version = testing::version(&testing::config(), 3)?;
        let example = |row: usize| Example { text: format!("w{row}"), text_pair: None, label: row % 2 };
        let train = TaskData::new(&(0..4).map(example).collect::<Vec<_>>(), &testing::tokenizer()?, 12)?;
        let (za, zb) = (0.6, 0.2);
        let (a, b) = (in_the_bowl(&version, za)?, in_the_bowl(&version, zb)?);
        for (route, share) in [(Route::Bezier, -0.75), (Route::Chain, -0.25)] {
            let optimisation = Optimisation { steps: 600, learning_rate: 6e-3, beta2: 0.99, ..Optimisation::default() };
            let config = CurveConfig { route, optimisation, batch_size: 4, seed: 0 };
            let (a, b) = (Tuned::new(&version, &a), Tuned::new(&version, &b));
            let curve = train_curve(a, b, &train, &config, Device::Cpu, &Progress::silent())?;
            let bias = Vec::<f64>::try_from(&curve.control.head().get("classifier.out_proj.bias")?)?;
            let (found, wanted) = (bias[1] - bias[0], share * f64::from(za + zb));
            assert!(
                (found - wanted).abs() < 0.03,
                "{route:?}: the control point is at {found}, calculus says {wanted}"
            );
            // Nothing but the bias has moved, so it is this bowl that was descended.
            assert_eq!(curve.control.backbone().fingerprint()?, version.backbone.fingerprint()?);
            let middle = route.weights(0.5);
            let z = middle[0] * f64::from(za) + middle[1] * found + middle[2] * f64::from(zb);
            let loss = curve.path(3, &[("train", &train)])?.scores("train")?[1].1.context("a loss")?.loss;
            assert!((loss - (2.0 * (z / 2.0).cosh()).ln()).abs() < 1e-6, "{route:?}: {loss} at z = {z}");
        }
        Ok(())
    }
}
