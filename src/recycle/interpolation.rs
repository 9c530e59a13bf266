//! Interpolation distillation: the models between student and teacher have to agree with the teacher as well.

use anyhow::{Result, ensure};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::Upgrade;
use crate::model::{Model, Network};
use crate::params::Theta;
use crate::seed;

/// Further points φ(x) = x·θ + (1 − x)·θ_teacher at which α·L_kd + β·L_hidden are taken; gradients reach the student θ alone.
///
/// This is `trainer_adapter_itp_KD_new` of the authors' repository with one weight for all inner points. No script there
/// runs it, and whether the paper's own objective has this term could not be confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Interpolation {
    /// Fixed x, strictly between 0 (the teacher) and 1 (the student).
    pub points: Vec<f64>,
    /// Further x drawn for every update, uniform in `[margin, 1 − margin]`.
    pub draws: usize,
    /// How far draws stay away from both ends.
    pub margin: f64,
    /// What each inner point counts beside the student itself (1).
    pub weight: f64,
}

impl Default for Interpolation {
    fn default() -> Interpolation {
        Interpolation { points: Vec::new(), draws: 1, margin: 0.1, weight: 1.0 }
    }
}

impl Interpolation {
    /// Says which value cannot be.
    pub fn validate(&self) -> Result<()> {
        if let Some(x) = self.points.iter().find(|x| !(**x > 0.0 && **x < 1.0)) {
            anyhow::bail!("interpolation point {x} is not strictly between 0 (the teacher) and 1 (the student)");
        }
        ensure!((0.0..0.5).contains(&self.margin), "interpolation margin {} is not in [0, 0.5)", self.margin);
        ensure!(
            self.weight.is_finite() && self.weight > 0.0,
            "interpolation weight {} must be positive: leave interpolation out instead",
            self.weight
        );
        ensure!(
            self.draws + self.points.len() > 0,
            "interpolation has neither points nor draws: leave it out, or set draws to 1"
        );
        Ok(())
    }

    /// The x of one update: a function of seed and update.
    pub(super) fn at(&self, seed: u64, index: usize) -> Vec<f64> {
        let mut rng = seed::rng(seed, "interpolation", index as u64);
        let mut draw = || self.margin + (1.0 - 2.0 * self.margin) * rng.random::<f64>();
        let drawn: Vec<f64> = (0..self.draws).map(|_| draw()).collect();
        self.points.iter().copied().chain(drawn).collect()
    }
}

/// The teacher as the fixed end of the line.
pub(super) struct FixedEnd(Model);

impl FixedEnd {
    pub fn new(upgrade: Upgrade, device: Device) -> Result<FixedEnd> {
        Ok(FixedEnd(upgrade.outdated.apply(upgrade.old, device)?))
    }

    /// The network at x·θ + (1 − x)·θ_teacher.
    pub fn network(&self, student: &Model, x: f64) -> Result<Network> {
        let offset = self.0.parts().map(|part| part.theta.scale(1.0 - x)).collect::<Result<Vec<Theta>>>()?;
        student.network_at(x, &offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_a_function_of_the_update_and_stay_off_the_ends() -> Result<()> {
        let inner = Interpolation { points: vec![0.5], draws: 3, ..Interpolation::default() };
        inner.validate()?;
        let first = inner.at(1, 0);
        assert_eq!(first, inner.at(1, 0));
        assert_ne!(first, inner.at(1, 1));
        assert!(first[0] == 0.5 && first.len() == 4 && first.iter().all(|x| (0.1..=0.9).contains(x)));
        Ok(())
    }

    #[test]
    fn what_is_no_inner_point_is_refused() {
        let refused = |inner: Interpolation| inner.validate().unwrap_err().to_string();
        assert!(refused(Interpolation { points: vec![1.0], ..Default::default() }).contains("point 1"));
        assert!(refused(Interpolation { draws: 0, ..Default::default() }).contains("neither points nor draws"));
        assert!(refused(Interpolation { margin: 0.5, ..Default::default() }).contains("margin"));
        assert!(refused(Interpolation { weight: 0.0, ..Default::default() }).contains("weight"));
    }
}
