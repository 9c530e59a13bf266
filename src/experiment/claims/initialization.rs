//! C4: does a recycled start save steps, at no loss in the end?

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Claim, at_least};

/// C4: the share of conventional tuning's final dev score that is to be reached.
pub const TARGET_SHARE: f64 = 0.95;
/// C4: largest upper bound of the step ratio.
pub const STEP_RATIO_AT_MOST: f64 = 0.25;
/// C4: smallest lower bound of the best-score difference.
pub const BEST_SCORE_LOSS_AT_MOST: f64 = 0.01;

/// The first step at which a dev-score curve reaches `target`.
///
/// `curve` holds (step, score) in ascending order of steps, step 0 being before the first update. A run that never gets there counts as
/// more than the budget: `budget` + its last evaluation interval. Errors: an empty or unordered curve, a score that is not
/// finite, an evaluation beyond the budget.
pub fn steps_to_reach(curve: &[(usize, f64)], target: f64, budget: usize) -> Result<usize> {
    let last = curve.last().context("a dev-score curve has no evaluations: evaluate at least once a run")?.0;
    ensure!(target.is_finite(), "the score to reach is {target}");
    ensure!(last <= budget, "a dev-score curve goes to step {last}, beyond the budget of {budget} steps");
    for pair in curve.windows(2) {
        ensure!(pair[0].0 < pair[1].0, "a dev-score curve goes from step {} to step {}", pair[0].0, pair[1].0);
    }
    if let Some((step, score)) = curve.iter().find(|(_, score)| !score.is_finite()) {
        anyhow::bail!("the dev score at step {step} is {score}: the run has diverged and cannot be compared");
    }
    let interval = match curve {
        [.., before, _] => last - before.0,
        _ => last.max(1),
    };
    Ok(curve.iter().find(|(_, score)| *score >= target).map_or(budget + interval, |(step, _)| *step))
}

/// C4's input from one task of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InitializationRun {
    /// Steps until recycled tuning reaches 95 % of conventional tuning's final dev score.
    pub steps_init: usize,
    /// The same for conventional tuning itself.
    pub steps_conventional: usize,
    /// Best scores of the two runs: the caller sets the test scores of the models that dev chose.
    pub best_init: f64,
    /// The same of conventional tuning.
    pub best_conventional: f64,
}

impl InitializationRun {
    /// From two dev-score curves with equal budgets; the best scores are the curves' maxima. Errors as [`steps_to_reach`], and
    /// when conventional tuning ends at a score of 0 or less, of which no share can be reached.
    pub fn from_curves(init: &[(usize, f64)], conventional: &[(usize, f64)], budget: usize) -> Result<Self> {
        let last = conventional.last().context("conventional tuning was never evaluated")?.1;
        ensure!(last > 0.0, "conventional tuning ends at a dev score of {last}: there is nothing to reach");
        let target = TARGET_SHARE * last;
        let best = |curve: &[(usize, f64)]| curve.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        Ok(Self {
            steps_init: steps_to_reach(init, target, budget).context("recycled initialization")?,
            steps_conventional: steps_to_reach(conventional, target, budget).context("conventional tuning")?,
            best_init: best(init),
            best_conventional: best(conventional),
        })
    }

    /// Steps recycled / steps conventional, both at least 1: where both are there before the first update, nothing is saved.
    pub fn ratio(&self) -> f64 {
        self.steps_init.max(1) as f64 / self.steps_conventional.max(1) as f64
    }
}

/// C4, initialization: one inner list of tasks a seed.
///
/// The ratio is formed per task and averaged over tasks, so one slow task cannot hide another. Parts: `steps, init`,
/// `steps, conventional`, `best-score difference`. Bootstrapped is the latter, the ratio resting on dev alone.
pub fn initialization(method: &str, seeds: &[Vec<InitializationRun>]) -> Result<Claim> {
    ensure!(!seeds.is_empty(), "C4.{method} needs at least one seed");
    ensure!(seeds.iter().all(|runs| !runs.is_empty()), "C4.{method}: a seed has no tasks");
    let over_tasks = |value: &dyn Fn(&InitializationRun) -> f64| -> Vec<f64> {
        seeds.iter().map(|runs| runs.iter().map(value).sum::<f64>() / runs.len() as f64).collect()
    };
    let mut claim = Claim::new(
        format!("C4.{method}"),
        "step ratio",
        "Starting from recycled weights, tuning the upgraded model reaches conventional tuning's level in a fraction of the steps, \
         at no loss in the end.",
        format!(
            "Holds when the ratio of steps (recycled ÷ conventional) to {:.0} % of conventional tuning's final dev score has its upper \
             bound at or below {STEP_RATIO_AT_MOST}, with equal step budgets and a run that never gets there counted as more than the \
             budget, and the difference of test scores, each of the model that dev chose, has its lower bound at or above −{BEST_SCORE_LOSS_AT_MOST}.",
            100.0 * TARGET_SHARE
        ),
        &over_tasks(&InitializationRun::ratio),
    )?;
    claim.part("steps, init", &over_tasks(&|run| run.steps_init as f64))?;
    claim.part("steps, conventional", &over_tasks(&|run| run.steps_conventional as f64))?;
    let difference = claim.part("best-score difference", &over_tasks(&|run| run.best_init - run.best_conventional))?;
    claim.remark(&format!("best-score difference: {difference}"));
    let holds = claim.ci95.zip(difference.lo);
    let holds =
        holds.map(|([_, ratio], loss)| at_least(STEP_RATIO_AT_MOST, ratio) && at_least(loss, -BEST_SCORE_LOSS_AT_MOST));
    Ok(claim.judge(holds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::claims::Verdict;

    #[test]
    fn steps_are_counted_to_the_first_evaluation_at_the_target() -> Result<()> {
        let curve = [(0, 0.2), (10, 0.5), (20, 0.8), (40, 0.7)];
        assert_eq!(steps_to_reach(&curve, 0.5, 40)?, 10);
        assert_eq!(steps_to_reach(&curve, 0.1, 40)?, 0);
        assert_eq!(steps_to_reach(&curve, 0.9, 40)?, 60, "never: the budget and the last interval");
        assert_eq!(steps_to_reach(&[(50, 0.1)], 0.9, 50)?, 100);
        for bad in [&[][..], &[(5, 0.1), (5, 0.2)], &[(0, 0.1), (50, 0.2)], &[(0, f64::NAN)]] {
            assert!(steps_to_reach(bad, 0.5, 40).is_err(), "{bad:?}");
        }
        Ok(())
    }

    #[test]
    fn curves_give_steps_to_95_percent_of_the_conventional_end() -> Result<()> {
        let conventional = [(0, 0.2), (50, 0.6), (100, 0.97), (150, 0.9), (200, 1.0)];
        let run = InitializationRun::from_curves(&[(0, 0.9), (10, 0.96), (200, 0.98)], &conventional, 200)?;
        assert_eq!((run.steps_init, run.steps_conventional), (10, 100));
        assert_eq!((run.best_init, run.best_conventional, run.ratio()), (0.98, 1.0, 0.1));
        let at_once = InitializationRun::from_curves(&[(0, 1.0)], &[(0, 1.0)], 200)?;
        assert_eq!(at_once.ratio(), 1.0, "both there before the first update: nothing is saved");
        assert!(InitializationRun::from_curves(&[(0, 1.0)], &[(0, 0.0)], 200).is_err());
        Ok(())
    }

    #[test]
    fn c4_needs_both_speed_and_an_equal_end() -> Result<()> {
        let run = |steps_init, best_init| InitializationRun {
            steps_init,
            steps_conventional: 100,
            best_init,
            best_conventional: 0.9,
        };
        let verdict = |a, b| Ok::<_, anyhow::Error>(initialization("adapter", &[vec![a], vec![b]])?.verdict());
        assert_eq!(verdict(run(10, 0.9), run(11, 0.9))?, Verdict::Holds);
        assert_eq!(verdict(run(25, 0.89), run(25, 0.89))?, Verdict::Holds, "the bounds themselves count");
        assert_eq!(verdict(run(10, 0.9), run(20, 0.9))?, Verdict::Fails, "mean 0.15, but the upper bound is 0.79");
        assert_eq!(verdict(run(10, 0.85), run(10, 0.85))?, Verdict::Fails, "fast, but worse in the end");
        // Ratios are averaged over tasks within the seed.
        let claim = initialization("full", &[vec![run(10, 0.9), run(30, 0.9)], vec![run(20, 0.9), run(20, 0.9)]])?;
        assert_eq!((claim.per_seed.as_slice(), claim.ci95), (&[0.2, 0.2][..], Some([0.2, 0.2])));
        Ok(())
    }
}
