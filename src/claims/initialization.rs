//! C4: does a recycled start save updates, at no loss in the end?

use anyhow::{Context, Result, ensure};

use super::claim::{Claim, Draft};
use super::evidence::{Evidence, Sample};
use super::texts;
use crate::experiment::Place;
use crate::experiment::results::{DevPoint, Recipe, Run};
use crate::stats::{self, Bound, Side};

/// C4a: the share of conventional tuning's final dev score that is to be reached.
pub const TARGET_SHARE: f64 = 0.95;
/// C4a: largest upper bound of the ratio of updates.
pub const UPDATE_RATIO_AT_MOST: f64 = 0.25;
/// C4b: how much test accuracy recycled weights may lose.
pub const LOSS_AT_MOST: f64 = 0.01;

/// The first number of updates at which a dev-score curve reaches `target`; twice the budget where it never does.
///
/// `curve` is in ascending order, 0 updates first. Errors: an empty or unordered curve, a score that is not finite, an evaluation
/// beyond the budget.
pub fn updates_to_reach(curve: &[DevPoint], target: f64, budget: usize) -> Result<usize> {
    let last = curve.last().context("a dev-score curve has no evaluations: evaluate at least once a run")?.updates;
    ensure!(target.is_finite(), "the score to reach is {target}");
    ensure!(last <= budget, "a dev-score curve goes to {last} updates, beyond the budget of {budget}");
    for pair in curve.windows(2) {
        let [before, after] = [pair[0].updates, pair[1].updates];
        ensure!(before < after, "a dev-score curve goes from {before} updates to {after}");
    }
    if let Some(point) = curve.iter().find(|point| !point.accuracy.is_finite()) {
        anyhow::bail!(
            "the dev score after {} updates is {}: the run has diverged and cannot be compared",
            point.updates,
            point.accuracy
        );
    }
    Ok(curve.iter().find(|point| point.accuracy >= target).map_or(2 * budget, |point| point.updates))
}

/// Two runs of one task at equal budgets: from outdated weights, and from nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Race {
    /// Updates until the recycled start reaches 95 % of conventional tuning's final dev score.
    pub recycled: usize,
    /// The same for conventional tuning itself.
    pub conventional: usize,
    /// Mean over the budget of the recycled curve − the conventional one: the area between them.
    pub area: f64,
}

impl Race {
    /// From the two runs. Errors as [`updates_to_reach`], where budgets differ, and where conventional tuning ends at a score of 0 or
    /// less, of which no share can be reached.
    pub fn of(recycled: &Run, conventional: &Run) -> Result<Race> {
        let budget = conventional.updates;
        ensure!(recycled.updates == budget, "budgets of {} and {budget} updates cannot be compared", recycled.updates);
        let last = conventional.curve.last().context("conventional tuning was never evaluated")?.accuracy;
        ensure!(last > 0.0, "conventional tuning ends at a dev score of {last}: there is nothing to reach");
        let reach = |run: &Run| updates_to_reach(&run.curve, TARGET_SHARE * last, budget);
        Ok(Race {
            recycled: reach(recycled).context("recycled initialization")?,
            conventional: reach(conventional).context("conventional tuning")?,
            area: (area(&recycled.curve) - area(&conventional.curve)) / budget.max(1) as f64,
        })
    }

    /// ln[(u_recycled + 1) / (u_conventional + 1)]: 0 updates are a number like any other.
    pub fn log_ratio(&self) -> f64 {
        ((self.recycled + 1) as f64 / (self.conventional + 1) as f64).ln()
    }
}

/// The area under a curve by the trapezoid rule, in score × updates.
fn area(curve: &[DevPoint]) -> f64 {
    curve
        .windows(2)
        .map(|pair| (pair[1].updates - pair[0].updates) as f64 * (pair[0].accuracy + pair[1].accuracy) / 2.0)
        .sum()
}

impl Evidence<'_> {
    /// The race on a version between a recycled start and conventional tuning, both at the usual learning rate.
    pub(crate) fn race(&self, place: &Place, method: &str, task: &str, recycled: &Recipe) -> Result<Race> {
        let conventional = Recipe::conventional(&recycled.version);
        Race::of(self.run(place, method, task, recycled)?, self.run(place, method, task, &conventional)?)
    }

    /// The learning rate at which `recipe` does best on dev, averaged over repetitions: its place among the profile's.
    pub(crate) fn rate_by_dev(&self, method: &str, task: &str, recipe: &Recipe) -> Result<usize> {
        let mut best: Option<(f64, usize)> = None;
        for rate in 0..self.plan.profile.rates.len() {
            let dev = self.sample(|place| {
                let run = self.run(place, method, task, &recipe.clone().at_rate(rate))?;
                run.dev_accuracy.with_context(|| format!("{} has no score on dev", run.key))
            })?;
            let mean = stats::mean(&dev.values)?;
            if best.is_none_or(|(highest, _)| mean > highest) {
                best = Some((mean, rate));
            }
        }
        best.map(|(_, rate)| rate).context("the profile has no learning rate")
    }
}

/// C4a, convergence: the ratio of updates, formed per task, and its geometric mean over tasks and units.
pub(super) fn convergence(evidence: &Evidence, method: &str) -> Result<Claim> {
    let tasks = evidence.tasks();
    let of_task = |task: &str, read: &dyn Fn(&Race) -> f64| {
        evidence.sample(|place| Ok(read(&evidence.race(place, method, task, &Recipe::initialized("M1", task))?)))
    };
    let over = |read: &dyn Fn(&Race) -> f64| {
        evidence.sample(|place| {
            let races = tasks.iter().map(|task| evidence.race(place, method, task, &Recipe::initialized("M1", task)));
            stats::mean(&races.map(|race| Ok(read(&race?))).collect::<Result<Vec<_>>>()?)
        })
    };
    let statement = "Starting from recycled weights, tuning the upgraded model reaches conventional tuning's level in a fraction of the \
                     updates.";
    let rule = format!(
        "Holds when (u_recycled + 1) ÷ (u_conventional + 1), u being the updates to {:.0} % of conventional tuning's final dev score at \
         equal budgets and equal learning rates, has the upper bound of its geometric mean over tasks and units at or below \
         {UPDATE_RATIO_AT_MOST} (interval on the logarithm). A run that never gets there counts as twice the budget.",
        100.0 * TARGET_SHARE
    );
    let bound = Bound { side: Side::AtMost, value: UPDATE_RATIO_AT_MOST };
    let mut draft = Draft::new("C4a", method, evidence.unit, statement, rule)
        .geometric_condition("ratio of updates", &over(&Race::log_ratio)?, bound)?
        .part("updates, recycled", &over(&|race| race.recycled as f64)?)?
        .part("updates, conventional", &over(&|race| race.conventional as f64)?)?
        .part("dev accuracy over the budget, recycled − conventional", &over(&|race| race.area)?)?;
    for task in &tasks {
        draft = draft.geometric_task(task, of_task(task, &Race::log_ratio));
    }
    if draft.has_no_spread() {
        draft = draft.remark(format!(
            "all {} agree to the spacing of the evaluations, so that the interval's width says nothing",
            evidence.unit.counted(2)
        ));
    }
    Ok(draft.judged())
}

/// C4b, no loss: test accuracy of best-on-dev weights, recycled − conventional, each at the learning rate that dev prefers.
pub(super) fn no_loss(evidence: &Evidence, method: &str) -> Result<Claim> {
    let tasks = evidence.tasks();
    let at_best = |task: &str, recipe: Recipe| -> Result<Recipe> {
        let rate = evidence.rate_by_dev(method, task, &recipe)?;
        Ok(recipe.at_rate(rate))
    };
    let both =
        |task: &&str| Ok([at_best(task, Recipe::initialized("M1", task))?, at_best(task, Recipe::conventional("M1"))?]);
    let rates: Vec<[Recipe; 2]> = tasks.iter().map(both).collect::<Result<_>>()?;
    let score = |place: &Place, task: &str, recipe: &Recipe| Ok(evidence.run(place, method, task, recipe)?.accuracy);
    let difference = |place: &Place, at: usize| -> Result<f64> {
        let [recycled, conventional] = &rates[at];
        Ok(score(place, tasks[at], recycled)? - score(place, tasks[at], conventional)?)
    };
    let over = |of: usize| -> Result<Sample> {
        evidence.sample(|place| {
            let scores = (0..tasks.len()).map(|at| score(place, tasks[at], &rates[at][of]));
            stats::mean(&scores.collect::<Result<Vec<_>>>()?)
        })
    };
    let (recycled, conventional) = (over(0)?, over(1)?);
    let grid = evidence.plan.profile.rates.len();
    let longer = match evidence.plan.profile.further_updates {
        1.0 => String::new(),
        factor => format!(" (with {factor} times the updates at all but the usual one)"),
    };
    let rate = match grid {
        1 => "both at the usual learning rate".to_string(),
        _ => format!(
            "each at that of {grid} learning rates{longer} which does best on dev (per task, averaged over repetitions)"
        ),
    };
    let statement = "Tuned from recycled weights, the upgraded model ends no worse than tuned from nothing.";
    let rule = format!(
        "Holds when the test accuracy of the weights that dev chose, recycled − conventional, {rate}, has the lower bound \
         of its 95 % interval at or above −{LOSS_AT_MOST}; it is a gain where that bound lies above 0. The budget is meant to be one at which \
         conventional tuning has levelled off: what its dev score gains in the second half stands beside."
    );
    let gain = recycled.minus(&conventional)?;
    let bound = Bound { side: Side::AtLeast, value: -LOSS_AT_MOST };
    let mut draft = Draft::new("C4b", method, evidence.unit, statement, rule)
        .condition("test accuracy, recycled − conventional", &gain, bound)?
        .part("recycled", &recycled)?
        .part("conventional", &conventional)?
        .part("conventional on dev, the end − half the budget", &over_second_half(evidence, method, &tasks, &rates)?)?;
    let usual = |place: &Place| -> Result<f64> {
        let of = |task: &str, recipe: Recipe| score(place, task, &recipe);
        let differences = tasks
            .iter()
            .map(|task| Ok(of(task, Recipe::initialized("M1", task))? - of(task, Recipe::conventional("M1"))?));
        stats::mean(&differences.collect::<Result<Vec<_>>>()?)
    };
    draft = draft.part("recycled − conventional, both at the usual learning rate", &evidence.sample(usual)?)?;
    for (at, task) in tasks.iter().enumerate() {
        draft = draft.task(task, evidence.sample(|place| difference(place, at)));
    }
    if evidence.plan.profile.is_real_text() {
        let [one, other] = [0, 1].map(|which| {
            texts::weighted_right(evidence, method, |task| {
                let at = tasks.iter().position(|known| *known == task).unwrap_or(0);
                rates[at][which].clone()
            })
        });
        let interval = texts::of_differences(evidence, &one?, &other?)?;
        draft = draft.texts("test accuracy, recycled − conventional", &interval);
    }
    if gain.interval()?.lo.is_some_and(|lo| lo > 0.0) {
        draft = draft.remark("recycled weights end higher");
    }
    if let Some(p) = stats::equivalence(&gain.values, -LOSS_AT_MOST, LOSS_AT_MOST)? {
        let says = if p <= 0.05 { "the same" } else { "not shown to be the same" };
        draft = draft.remark(format!("within ±{LOSS_AT_MOST} both ends are {says} (two one-sided tests, p = {p:.3})"));
    }
    if grid > 1 {
        let factor = |recipe: &Recipe| evidence.plan.profile.rates[recipe.rate];
        let chosen = tasks.iter().zip(&rates);
        let chosen = chosen.map(|(task, [a, b])| format!("{task} {} and {}", factor(a), factor(b)));
        let list = chosen.collect::<Vec<_>>().join(", ");
        draft = draft.remark(format!("chosen multiples of the usual learning rate, recycled and conventional: {list}"));
    }
    Ok(draft.judged())
}

/// What conventional tuning's dev score still gains in the second half of its budget, at the learning rate that dev prefers, averaged over
/// tasks.
fn over_second_half(evidence: &Evidence, method: &str, tasks: &[&str], rates: &[[Recipe; 2]]) -> Result<Sample> {
    evidence.sample(|place| {
        let gains = tasks
            .iter()
            .zip(rates)
            .map(|(task, [_, conventional])| late_gain(&evidence.run(place, method, task, conventional)?.curve));
        stats::mean(&gains.collect::<Result<Vec<_>>>()?)
    })
}

/// The last score of a curve − the last one of its first half.
fn late_gain(curve: &[DevPoint]) -> Result<f64> {
    let last = curve.last().context("conventional tuning was never evaluated")?;
    let half = curve.iter().rev().find(|point| 2 * point.updates <= last.updates);
    Ok(last.accuracy - half.context("conventional tuning was not evaluated before half of its budget")?.accuracy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::RunKey;

    fn run(curve: &[(usize, f64)], updates: usize) -> Run {
        let key = RunKey {
            data: "world-0".into(),
            lineage: 0,
            seed: 0,
            task: "topic".into(),
            method: "full".into(),
            recipe: Recipe::conventional("M1"),
        };
        Run {
            key,
            split: "test".into(),
            n: 0,
            accuracy: 0.0,
            macro_f1: 0.0,
            answers: String::new(),
            dev_accuracy: None,
            curve: curve.iter().map(|&(updates, accuracy)| DevPoint { updates, accuracy }).collect(),
            learning_rate: None,
            updates,
            best_at: 0,
            seconds: 0.0,
            commit: String::new(),
        }
    }

    #[test]
    fn a_run_that_never_gets_there_counts_as_twice_the_budget() -> Result<()> {
        let reach = |curve: &[(usize, f64)], target| updates_to_reach(&run(curve, 200).curve, target, 200);
        let curve = [(0, 0.2), (50, 0.6), (100, 0.9), (200, 0.95)];
        assert_eq!((reach(&curve, 0.6)?, reach(&curve, 0.1)?, reach(&curve, 0.99)?), (50, 0, 400));
        assert!(reach(&[], 0.5).is_err() && reach(&[(0, f64::NAN)], 0.5).is_err());
        assert!(reach(&[(0, 0.1), (0, 0.2)], 0.5).is_err() && reach(&[(0, 0.1), (300, 0.2)], 0.5).is_err());
        Ok(())
    }

    #[test]
    fn what_tuning_still_gains_late_is_read_from_half_of_its_budget_on() -> Result<()> {
        let curve = |points: &[(usize, f64)]| run(points, 200).curve;
        assert!((late_gain(&curve(&[(0, 0.2), (50, 0.6), (90, 0.7), (150, 0.8), (200, 0.75)]))? - 0.05).abs() < 1e-12);
        assert!((late_gain(&curve(&[(0, 0.2), (100, 0.6), (200, 0.55)]))? + 0.05).abs() < 1e-12);
        assert!(late_gain(&[]).is_err());
        Ok(())
    }

    #[test]
    fn a_race_is_run_to_95_percent_of_the_conventional_end() -> Result<()> {
        let conventional = run(&[(0, 0.2), (50, 0.6), (100, 0.97), (150, 0.9), (200, 1.0)], 200);
        let race = Race::of(&run(&[(0, 0.9), (10, 0.96), (200, 0.98)], 200), &conventional)?;
        assert_eq!((race.recycled, race.conventional), (10, 100));
        assert!((race.log_ratio() - (11.0_f64 / 101.0).ln()).abs() < 1e-12);
        let at_once = Race::of(&run(&[(0, 1.0)], 200), &run(&[(0, 1.0)], 200))?;
        assert_eq!(at_once.log_ratio(), 0.0, "both there before the first update: nothing is saved");
        // By hand: 0.9→0.96 over 10, 0.96→0.98 over 190; against 20 + 39.25 + 46.75 + 47.5.
        assert!((race.area - ((9.3 + 184.3) - 153.5) / 200.0).abs() < 1e-12, "{}", race.area);
        assert!(Race::of(&run(&[(0, 1.0)], 100), &run(&[(0, 1.0)], 200)).is_err(), "unequal budgets");
        assert!(Race::of(&run(&[(0, 1.0)], 200), &run(&[(0, 0.0)], 200)).is_err(), "nothing to reach");
        Ok(())
    }
}
