//! The claims and their decision rules, as pure functions from per-seed numbers to a verdict.
//!
//! The rules were fixed before any run. The unit is the seed: a score is first averaged over tasks, methods are paired by seed,
//! and the 95 % Student-t interval over seeds decides. A claim that fails is a result like any other; a single seed decides nothing.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::stats::{self, Interval};

/// C1: smallest mean retained share that counts as compatible.
pub const RETAINED_SHARE_AT_LEAST: f64 = 0.5;
/// C4: the share of conventional tuning's final dev score that is to be reached.
pub const TARGET_SHARE: f64 = 0.95;
/// C4: largest upper bound of the step ratio.
pub const STEP_RATIO_AT_MOST: f64 = 0.25;
/// C4: smallest lower bound of the best-score difference.
pub const BEST_SCORE_LOSS_AT_MOST: f64 = 0.01;

/// Differences below this are rounding: a bound is neither missed nor passed by it.
const ROUNDING: f64 = 1e-12;

const ONE_SEED: &str = "not decidable with one seed";

pub(super) fn at_least(value: f64, bound: f64) -> bool {
    value >= bound - ROUNDING
}

pub(super) fn above(value: f64, bound: f64) -> bool {
    value > bound + ROUNDING
}

/// One claim, measured and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Claim and tuning method, say `C1.full`.
    pub id: String,
    /// What is claimed, in a sentence.
    pub statement: String,
    /// The decision rule in words, fixed before the run.
    pub rule: String,
    /// What `measured` is, say `retained share`.
    pub quantity: String,
    /// The headline number: mean over seeds of `per_seed`.
    pub measured: f64,
    /// 95 % Student-t interval of `measured`; `null` with one seed.
    pub ci95: Option<[f64; 2]>,
    /// The headline number of each seed.
    pub per_seed: Vec<f64>,
    /// Further numbers by name; bounds end in `lo` and `hi`.
    pub parts: BTreeMap<String, f64>,
    /// Every seed's value of the parts that have one.
    pub part_seeds: BTreeMap<String, Vec<f64>>,
    /// Seeds.
    pub n: usize,
    /// Whether the rule is met. With one seed it never is: see [`Claim::verdict`].
    pub holds: bool,
    /// What a reader should know beside the numbers.
    pub note: String,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule is met.
    Holds,
    /// It is not.
    Fails,
    /// One seed has no interval.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::Fails => "fails",
            Verdict::Undecided => "undecided (n = 1)",
        })
    }
}

impl Claim {
    pub(super) fn new(id: String, quantity: &str, statement: &str, rule: String, headline: &[f64]) -> Result<Self> {
        let interval = stats::t_interval(headline).with_context(|| format!("claim {id} cannot be judged"))?;
        Ok(Self {
            id,
            statement: statement.to_owned(),
            rule,
            quantity: quantity.to_owned(),
            measured: interval.mean,
            ci95: interval.bounds(),
            per_seed: headline.to_vec(),
            parts: BTreeMap::new(),
            part_seeds: BTreeMap::new(),
            n: interval.n,
            holds: false,
            note: String::new(),
        })
    }

    /// Adds a part with a value for every seed: its mean, its bounds where there are any, and the values.
    pub(super) fn part(&mut self, name: &str, values: &[f64]) -> Result<Interval> {
        let interval =
            stats::t_interval(values).with_context(|| format!("part \"{name}\" of claim {} is no number", self.id))?;
        ensure!(
            values.len() == self.n,
            "part \"{name}\" of claim {} has {} seeds, not {}",
            self.id,
            values.len(),
            self.n
        );
        self.parts.insert(name.to_owned(), interval.mean);
        if let Some([lo, hi]) = interval.bounds() {
            self.parts.insert(format!("{name}, lo"), lo);
            self.parts.insert(format!("{name}, hi"), hi);
        }
        self.part_seeds.insert(name.to_owned(), values.to_vec());
        Ok(interval)
    }

    /// Sets the verdict: `rule` when there is more than one seed, otherwise none.
    pub(super) fn judge(mut self, rule: Option<bool>) -> Self {
        self.holds = rule.unwrap_or(false);
        if rule.is_none() {
            self.remark(ONE_SEED);
        }
        self
    }

    /// Appends a sentence to the note.
    pub fn remark(&mut self, text: &str) {
        if !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(text);
    }

    /// Sets a bootstrap over test texts of the headline number beside the seeds' interval (parts `bootstrap`, `bootstrap, lo` and
    /// `bootstrap, hi`); it decides nothing.
    pub fn with_bootstrap(self, interval: &Interval) -> Self {
        let quantity = self.quantity.clone();
        self.bootstrapped("bootstrap", &quantity, "test", interval)
    }

    /// The same over the texts of another split.
    pub fn with_bootstrap_on(self, split: &str, interval: &Interval) -> Self {
        let quantity = self.quantity.clone();
        self.bootstrapped("bootstrap", &quantity, split, interval)
    }

    /// The same of a part: `PART, bootstrap`, with its bounds.
    pub fn with_bootstrap_of(self, part: &str, interval: &Interval) -> Self {
        self.bootstrapped(&format!("{part}, bootstrap"), part, "test", interval)
    }

    fn bootstrapped(mut self, name: &str, what: &str, split: &str, interval: &Interval) -> Self {
        self.parts.insert(name.to_owned(), interval.mean);
        if let Some([lo, hi]) = interval.bounds() {
            self.parts.insert(format!("{name}, lo"), lo);
            self.parts.insert(format!("{name}, hi"), hi);
        }
        self.remark(&format!("{what} when {split} texts are drawn anew (bootstrap): {interval}"));
        self
    }

    /// What became of the claim.
    pub fn verdict(&self) -> Verdict {
        match (self.holds, self.ci95) {
            (true, _) => Verdict::Holds,
            (false, Some(_)) => Verdict::Fails,
            (false, None) => Verdict::Undecided,
        }
    }
}

/// The retained share r(M) = (acc(M ⊕ Δ_0) − chance) / (acc(M_0 ⊕ Δ_0) − chance), chance being the majority class's share.
///
/// 1 means nothing is lost by moving the base, 0 that only chance is left; it may exceed 1 or be negative. Errors: an accuracy
/// that is not finite, or a denominator ≤ 0, where tuning M_0 did not beat the majority class and there is nothing to retain.
pub fn retained_share(moved: f64, original: f64, chance: f64) -> Result<f64> {
    ensure!(
        [moved, original, chance].iter().all(|value| value.is_finite()),
        "a retained share needs finite accuracies, got {moved} on the moved base, {original} on M_0 and {chance} for chance"
    );
    ensure!(
        original > chance,
        "tuned M_0 reaches {original:.3}, the majority class {chance:.3}: nothing was learnt that could be retained; \
         tune longer or on more examples"
    );
    Ok((moved - chance) / (original - chance))
}

/// C1's input from one seed, each value averaged over tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompatibilitySeed {
    /// r(M_1) … r(M_L).
    pub versions: Vec<f64>,
    /// r(M_IND), on the independently pre-trained model.
    pub independent: f64,
}

/// C1, compatibility. `method` is the tuning method's short name (`full`, `adapter`).
///
/// Parts: `r(M_i)` for every version (the decline), `r(M_IND)`, `margin` = mean r − r(M_IND), `decline` = r(M_1) − r(M_L).
pub fn compatibility(method: &str, seeds: &[CompatibilitySeed]) -> Result<Claim> {
    let length = seeds.first().map_or(0, |seed| seed.versions.len());
    ensure!(length > 0, "C1.{method} needs at least one seed and one upgraded version");
    if let Some(odd) = seeds.iter().find(|seed| seed.versions.len() != length) {
        anyhow::bail!("C1.{method}: one seed has {length} versions, another {}", odd.versions.len());
    }
    let means = seeds.iter().map(|seed| stats::mean(&seed.versions)).collect::<Result<Vec<f64>>>();
    let means = means.with_context(|| format!("claim C1.{method} cannot be judged"))?;
    let mut claim = Claim::new(
        format!("C1.{method}"),
        "mean retained share",
        "Weights tuned for M_0 keep working, untouched, on the versions it is upgraded to.",
        format!(
            "Holds when the retained share r, averaged over M_1 … M_{length}, is at least {RETAINED_SHARE_AT_LEAST}, and the \
             95 % interval of (that mean − r on the independently pre-trained model M_IND) has its lower bound above 0."
        ),
        &means,
    )?;
    for version in 0..length {
        let values: Vec<f64> = seeds.iter().map(|seed| seed.versions[version]).collect();
        claim.part(&format!("r(M_{})", version + 1), &values)?;
    }
    let independent: Vec<f64> = seeds.iter().map(|seed| seed.independent).collect();
    claim.part("r(M_IND)", &independent)?;
    let declines: Vec<f64> = seeds.iter().map(|seed| seed.versions[0] - seed.versions[length - 1]).collect();
    let decline = claim.part("decline", &declines)?;
    let margin = claim.part("margin", &stats::differences(&means, &independent)?)?;
    claim.remark(&format!("decline from M_1 to M_{length}: {decline}; margin over M_IND: {margin}"));
    let holds = margin.lo.map(|lo| at_least(claim.measured, RETAINED_SHARE_AT_LEAST) && above(lo, 0.0));
    Ok(claim.judge(holds))
}

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

/// C5, distillation: few-shot scores per seed of training with the published distillation loss and of training on labels only.
pub fn distillation(method: &str, distilled: &[f64], labels_only: &[f64]) -> Result<Claim> {
    let mut claim = Claim::new(
        format!("C5.{method}"),
        "gain over labels only",
        "With few labels, distilling from the old tuned model teaches the upgraded one more than the labels alone.",
        "Holds when the few-shot score distilled with the published loss (logits and hidden states of <s>) minus that from labels \
         only has the lower bound of its 95 % interval above 0."
            .to_owned(),
        &stats::differences(distilled, labels_only)?,
    )?;
    claim.part("distilled", distilled)?;
    claim.part("labels only", labels_only)?;
    let holds = claim.ci95.map(|[lo, _]| above(lo, 0.0));
    Ok(claim.judge(holds))
}

/// C6, combined: few-shot scores per seed of both ways together, against the one of the two that is better on average.
pub fn combined(method: &str, combined: &[f64], init: &[f64], distilled: &[f64]) -> Result<Claim> {
    let named = || format!("claim C6.{method} cannot be judged");
    let (init_mean, distilled_mean) =
        (stats::mean(init).with_context(named)?, stats::mean(distilled).with_context(named)?);
    let (name, better) = if distilled_mean > init_mean { ("distilled", distilled) } else { ("init", init) };
    let mut claim = Claim::new(
        format!("C6.{method}"),
        "gain over the better one",
        "Recycled initialization and distillation together are no worse than the better of the two.",
        "Holds when the few-shot score of both together minus that of the better one (by its mean over seeds) has the lower bound \
         of its 95 % interval at or above 0."
            .to_owned(),
        &stats::differences(combined, better)?,
    )?;
    claim.part("combined", combined)?;
    claim.part("init", init)?;
    claim.part("distilled", distilled)?;
    claim.remark(&format!("the better of the two: {name}"));
    let holds = claim.ci95.map(|[lo, _]| at_least(lo, 0.0));
    Ok(claim.judge(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compatible(pairs: &[(f64, f64)]) -> Result<Claim> {
        let seed = |&(r, independent): &(f64, f64)| CompatibilitySeed { versions: vec![r + 0.1, r - 0.1], independent };
        compatibility("full", &pairs.iter().map(seed).collect::<Vec<_>>())
    }

    #[test]
    fn a_retained_share_is_measured_from_chance() -> Result<()> {
        assert!((retained_share(0.825, 0.927, 0.25)? - 0.575 / 0.677).abs() < 1e-12);
        assert_eq!(retained_share(0.9, 0.9, 0.25)?, 1.0);
        assert!(retained_share(0.2, 0.9, 0.25)? < 0.0);
        for (moved, original) in [(0.5, 0.25), (0.5, 0.2), (f64::NAN, 0.9)] {
            assert!(retained_share(moved, original, 0.25).is_err());
        }
        Ok(())
    }

    #[test]
    fn weights_that_keep_working_make_c1_hold() -> Result<()> {
        let claim = compatible(&[(0.8, 0.05), (0.7, 0.0), (0.75, 0.1)])?;
        assert_eq!((claim.id.as_str(), claim.verdict(), claim.n), ("C1.full", Verdict::Holds, 3));
        assert!((claim.measured - 0.75).abs() < 1e-12);
        assert!((claim.parts["r(M_1)"] - 0.85).abs() < 1e-12 && (claim.parts["r(M_2)"] - 0.65).abs() < 1e-12);
        assert!((claim.parts["decline"] - 0.2).abs() < 1e-12);
        // margins 0.75, 0.70, 0.65: mean 0.70, s = 0.05, t(2) = 4.302653, half = 0.124207
        assert!((claim.parts["margin, lo"] - (0.70 - 0.124207)).abs() < 1e-5);
        assert_eq!(claim.part_seeds["r(M_IND)"], [0.05, 0.0, 0.1]);
        Ok(())
    }

    #[test]
    fn c1_fails_below_half_and_where_the_independent_model_does_as_well() -> Result<()> {
        assert_eq!(compatible(&[(0.45, 0.0), (0.47, 0.0)])?.verdict(), Verdict::Fails);
        assert_eq!(compatible(&[(0.8, 0.7), (0.7, 0.8), (0.8, 0.75)])?.verdict(), Verdict::Fails);
        Ok(())
    }

    #[test]
    fn one_seed_leaves_every_claim_undecided() -> Result<()> {
        let run = InitializationRun { steps_init: 1, steps_conventional: 100, best_init: 0.9, best_conventional: 0.9 };
        let claims = [
            compatible(&[(0.9, 0.0)])?,
            initialization("full", &[vec![run]])?,
            distillation("full", &[0.9], &[0.5])?,
            combined("full", &[0.9], &[0.8], &[0.7])?,
        ];
        for claim in claims {
            assert_eq!((claim.verdict(), claim.ci95, claim.holds), (Verdict::Undecided, None, false));
            assert!(claim.note.contains(ONE_SEED), "{}", claim.note);
            assert!(
                claim.statement.ends_with('.') && claim.rule.ends_with('.') && claim.rule.starts_with("Holds when")
            );
        }
        Ok(())
    }

    #[test]
    fn numbers_that_are_none_are_refused_with_the_claim_named() {
        let nan = f64::NAN;
        assert!(format!("{:#}", compatible(&[(nan, 0.0), (0.5, 0.0)]).unwrap_err()).contains("C1.full"));
        assert!(format!("{:#}", compatible(&[(0.5, nan), (0.5, 0.0)]).unwrap_err()).contains("r(M_IND)"));
        assert!(format!("{:#}", distillation("full", &[nan, 0.1], &[0.0, 0.0]).unwrap_err()).contains("C5.full"));
        assert!(format!("{:#}", combined("full", &[0.1], &[nan], &[0.0]).unwrap_err()).contains("C6.full"));
        assert!(distillation("full", &[0.1], &[0.0, 0.0]).is_err());
        let run = InitializationRun { steps_init: 1, steps_conventional: 9, best_init: nan, best_conventional: 0.9 };
        assert!(initialization("full", &[vec![run], vec![run]]).is_err());
        assert!(compatibility("full", &[]).is_err() && initialization("full", &[vec![]]).is_err());
        let ragged = [1, 2].map(|length| CompatibilitySeed { versions: vec![0.5; length], independent: 0.0 });
        assert!(compatibility("full", &ragged).is_err());
    }

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

    #[test]
    fn a_bootstrap_stands_beside_the_number_it_is_of_and_decides_nothing() -> Result<()> {
        let interval = Interval { n: 40, mean: -0.02, sd: None, lo: Some(-0.05), hi: Some(0.01) };
        let claim = distillation("full", &[0.6, 0.61], &[0.4, 0.42])?;
        let verdict = claim.verdict();
        let claim = claim.with_bootstrap(&interval);
        assert_eq!((claim.parts["bootstrap"], claim.parts["bootstrap, hi"], claim.verdict()), (-0.02, 0.01, verdict));
        assert!(claim.note.contains("gain over labels only when test texts are drawn anew"), "{}", claim.note);
        let run = InitializationRun { steps_init: 1, steps_conventional: 9, best_init: 0.9, best_conventional: 0.92 };
        let claim =
            initialization("full", &[vec![run], vec![run]])?.with_bootstrap_of("best-score difference", &interval);
        assert_eq!(claim.parts["best-score difference, bootstrap, lo"], -0.05);
        assert!(!claim.parts.contains_key("bootstrap"), "that would be the step ratio's");
        assert!(claim.note.contains("best-score difference when test texts are drawn anew"), "{}", claim.note);
        Ok(())
    }

    #[test]
    fn c5_holds_only_clear_of_zero() -> Result<()> {
        let holds =
            |distilled: &[f64], labels: &[f64]| Ok::<_, anyhow::Error>(distillation("full", distilled, labels)?.holds);
        assert!(holds(&[0.6, 0.65, 0.62], &[0.5, 0.52, 0.5])?);
        assert!(!holds(&[0.6, 0.45, 0.62], &[0.5, 0.52, 0.5])?, "the interval crosses zero");
        assert!(!holds(&[0.5, 0.5], &[0.5, 0.5])?, "exactly zero is not above zero");
        Ok(())
    }

    #[test]
    fn c6_compares_with_the_better_one_on_average() -> Result<()> {
        let claim = combined("full", &[0.91, 0.92, 0.93], &[0.90, 0.90, 0.91], &[0.5, 0.95, 0.5])?;
        assert!(claim.holds && claim.note.contains("init"), "{claim:?}");
        let wanted = [0.01, 0.02, 0.02];
        assert!(claim.per_seed.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-12));
        assert!(combined("full", &[0.9, 0.9], &[0.9, 0.9], &[0.8, 0.8])?.holds, "no worse is enough");
        let worse = combined("full", &[0.90, 0.85], &[0.5, 0.5], &[0.91, 0.90])?;
        assert!(!worse.holds && worse.note.contains("distilled"));
        Ok(())
    }
}
