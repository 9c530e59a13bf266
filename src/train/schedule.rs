//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after a linear warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Falls linearly to 0 (`get_linear_schedule_with_warmup` in transformers).
    #[default]
    Linear,
    /// Stays at its peak.
    Constant,
}

impl Schedule {
    /// The factor on the peak learning rate for update `step` (from 0).
    pub fn factor(self, step: usize, warmup_steps: usize, steps: usize) -> f64 {
        if step < warmup_steps {
            return step as f64 / warmup_steps as f64;
        }
        match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => steps.saturating_sub(step) as f64 / steps.saturating_sub(warmup_steps).max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_zero() {
        let factor = |step| Schedule::Linear.factor(step, 4, 12);
        assert_eq!([0, 2, 4, 8, 12].map(factor), [0.0, 0.5, 1.0, 0.5, 0.0]);
        assert_eq!(Schedule::Linear.factor(0, 0, 10), 1.0);
        assert_eq!(Schedule::Constant.factor(11, 4, 12), 1.0);
    }
}
