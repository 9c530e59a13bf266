//! The claims and their decision rules, as pure functions from per-seed numbers to a verdict.
//!
//! The rules were fixed before any run. The unit is the seed: a score is first averaged over tasks, methods are paired by seed,
//! and the 95 % Student-t interval over seeds decides. A claim that fails is a result like any other; a single seed decides nothing.

mod compatibility;
mod few_shot;
mod initialization;
mod pilots;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use compatibility::{CompatibilitySeed, RETAINED_SHARE_AT_LEAST, compatibility, retained_share};
pub use few_shot::{combined, distillation};
pub use initialization::{
    BEST_SCORE_LOSS_AT_MOST, InitializationRun, STEP_RATIO_AT_MOST, TARGET_SHARE, initialization, steps_to_reach,
};
pub use pilots::{ADJACENT_BARRIER_AT_MOST, ByPair, INDEPENDENT_BARRIER_AT_LEAST, connectivity, similarity};

use crate::stats::{self, Interval};

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

    /// Sets a bootstrap over the texts of a split of the headline number beside the seeds' interval (parts `bootstrap`,
    /// `bootstrap, lo` and `bootstrap, hi`); it decides nothing.
    pub fn with_bootstrap(self, split: &str, interval: &Interval) -> Self {
        let quantity = self.quantity.clone();
        self.bootstrapped("bootstrap", &quantity, split, interval)
    }

    /// The same of a part: `PART, bootstrap`, with its bounds.
    pub fn with_bootstrap_of(self, part: &str, split: &str, interval: &Interval) -> Self {
        self.bootstrapped(&format!("{part}, bootstrap"), part, split, interval)
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

    /// The headline number with its bounds, where it has any.
    pub fn interval(&self) -> Interval {
        let [lo, hi] = self.ci95.map_or([None; 2], |bounds| bounds.map(Some));
        Interval { n: self.n, mean: self.measured, sd: None, lo, hi }
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

#[cfg(test)]
mod tests {
    use super::compatibility::testing::compatible;
    use super::*;

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
    fn a_bootstrap_stands_beside_the_number_it_is_of_and_decides_nothing() -> Result<()> {
        let interval = Interval { n: 40, mean: -0.02, sd: None, lo: Some(-0.05), hi: Some(0.01) };
        let claim = distillation("full", &[0.6, 0.61], &[0.4, 0.42])?;
        let verdict = claim.verdict();
        let claim = claim.with_bootstrap("test", &interval);
        assert_eq!((claim.parts["bootstrap"], claim.parts["bootstrap, hi"], claim.verdict()), (-0.02, 0.01, verdict));
        assert!(claim.note.contains("gain over labels only when test texts are drawn anew"), "{}", claim.note);
        let run = InitializationRun { steps_init: 1, steps_conventional: 9, best_init: 0.9, best_conventional: 0.92 };
        let claim = initialization("full", &[vec![run], vec![run]])?;
        let claim = claim.with_bootstrap_of("best-score difference", "test", &interval);
        assert_eq!(claim.parts["best-score difference, bootstrap, lo"], -0.05);
        assert!(!claim.parts.contains_key("bootstrap"), "that would be the step ratio's");
        assert!(claim.note.contains("best-score difference when test texts are drawn anew"), "{}", claim.note);
        Ok(())
    }
}
