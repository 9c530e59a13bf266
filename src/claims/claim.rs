//! A claim, measured and judged.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::evidence::Sample;
use crate::experiment::Unit;
use crate::stats::{self, Bound, Interval, Standing, VarianceShares};

/// One claim about one tuning method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Claim and tuning method, say `C1.full`.
    pub id: String,
    /// What is claimed, in a sentence.
    pub statement: String,
    /// The decision rule in words, fixed before the run.
    pub rule: String,
    /// What `measured` is, say `mean retained share`.
    pub quantity: String,
    /// The headline number: the mean over units.
    pub measured: f64,
    /// Its 95 % interval; `null` with one unit.
    pub ci95: Option<[f64; 2]>,
    /// The headline number of each unit.
    pub per_unit: Vec<f64>,
    /// What a unit is.
    pub unit: Unit,
    /// Units.
    pub n: usize,
    /// What became of the claim.
    pub verdict: Verdict,
    /// How many further units would decide it if means and spreads stayed; 0 where it is decided, `null` where no number would.
    pub further_units: Option<usize>,
    /// The p-value of the weakest condition: at most 0.05 exactly where the claim holds. `null` with one unit.
    pub p: Option<f64>,
    /// Whether it also holds with Holm's correction over all claims of the report; `null` with one unit.
    pub holm: Option<bool>,
    /// How the headline number's variance is shared between lineages and seeds; `null` where one of them is not repeated.
    pub variance: Option<VarianceShares>,
    /// What has to be the case, the headline number first.
    pub conditions: Vec<Condition>,
    /// The headline number of each task, where it can be formed of one.
    pub tasks: Vec<Part>,
    /// Further numbers, which decide nothing.
    pub parts: Vec<Part>,
    /// On real text, intervals when the texts of a split are drawn anew (bootstrap), which decide nothing.
    pub texts: Vec<Part>,
    /// What a reader should know beside the numbers.
    pub note: String,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every condition's interval lies on the right side of its bound.
    Holds,
    /// The interval of at least one lies on the wrong side.
    Refuted,
    /// Neither.
    Undecided,
}

/// One bound that a number has to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The number.
    pub part: Part,
    /// What it has to keep.
    pub bound: Bound,
    /// Whether it is judged on a logarithmic scale: the number is a geometric mean then.
    pub logarithmic: bool,
    /// The p-value of its being on the wrong side, in agreement with the interval; `null` with one unit.
    pub p: Option<f64>,
    /// How many further units would decide it if mean and spread stayed.
    pub further_units: Option<usize>,
}

/// A number with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What it is.
    pub name: String,
    /// The mean over units.
    pub mean: f64,
    /// Its 95 % interval; `null` with one unit.
    pub ci95: Option<[f64; 2]>,
    /// Units.
    pub n: usize,
}

impl Part {
    pub(super) fn new(name: impl Into<String>, interval: &Interval) -> Part {
        Part { name: name.into(), mean: interval.mean, ci95: interval.bounds(), n: interval.n }
    }

    /// Mean and bounds.
    pub fn interval(&self) -> Interval {
        let [lo, hi] = self.ci95.map_or([None; 2], |bounds| bounds.map(Some));
        Interval { n: self.n, mean: self.mean, sd: None, lo, hi }
    }

    /// e to the number: back from a logarithm.
    fn exponential(mut self) -> Part {
        self.mean = self.mean.exp();
        self.ci95 = self.ci95.map(|bounds| bounds.map(f64::exp));
        self
    }
}

impl Condition {
    /// Of a number as it is.
    fn linear(name: &str, sample: &Sample, bound: Bound) -> Result<Condition> {
        let interval = sample.interval()?;
        Ok(Condition {
            part: Part::new(name, &interval),
            bound,
            logarithmic: false,
            p: stats::p_value(&sample.values, bound)?,
            further_units: stats::units_to_decide(&interval, bound),
        })
    }

    /// Of the geometric mean of a number whose logarithms are given.
    fn geometric(name: &str, logarithms: &Sample, bound: Bound) -> Result<Condition> {
        let on_logarithms = Bound { value: bound.value.ln(), ..bound };
        let condition = Condition::linear(name, logarithms, on_logarithms)?;
        Ok(Condition { part: condition.part.exponential(), bound, logarithmic: true, ..condition })
    }

    /// Where the interval stands; `None` with one unit.
    pub fn standing(&self) -> Option<Standing> {
        self.bound.standing(&self.part.interval())
    }

    fn mean_is_right(&self) -> bool {
        let alone = [self.part.mean; 2].map(Some);
        let point = Interval { n: 2, mean: self.part.mean, sd: None, lo: alone[0], hi: alone[1] };
        self.bound.standing(&point) == Some(Standing::Right)
    }
}

/// A claim while its numbers are gathered.
pub(super) struct Draft {
    claim: Claim,
}

impl Draft {
    /// `id` is that of the claim, say `C1`.
    pub fn new(id: &str, method: &str, unit: Unit, statement: &str, rule: String) -> Draft {
        Draft {
            claim: Claim {
                id: format!("{id}.{method}"),
                statement: statement.to_string(),
                rule,
                quantity: String::new(),
                measured: f64::NAN,
                ci95: None,
                per_unit: Vec::new(),
                unit,
                n: 0,
                verdict: Verdict::Undecided,
                further_units: None,
                p: None,
                holm: None,
                variance: None,
                conditions: Vec::new(),
                tasks: Vec::new(),
                parts: Vec::new(),
                texts: Vec::new(),
                note: String::new(),
            },
        }
    }

    /// A number and the bound it has to keep. The first one is the headline number.
    pub fn condition(self, name: &str, sample: &Sample, bound: Bound) -> Result<Draft> {
        let condition = Condition::linear(name, sample, bound).with_context(|| self.failed(name))?;
        self.with(condition, sample.values.clone(), sample)
    }

    /// A geometric mean and its bound; the sample holds logarithms.
    pub fn geometric_condition(self, name: &str, logarithms: &Sample, bound: Bound) -> Result<Draft> {
        let condition = Condition::geometric(name, logarithms, bound).with_context(|| self.failed(name))?;
        let values = logarithms.values.iter().map(|value| value.exp()).collect();
        self.with(condition, values, logarithms)
    }

    fn with(mut self, condition: Condition, per_unit: Vec<f64>, sample: &Sample) -> Result<Draft> {
        let claim = &mut self.claim;
        if claim.conditions.is_empty() {
            claim.quantity = condition.part.name.clone();
            (claim.measured, claim.ci95, claim.n) = (condition.part.mean, condition.part.ci95, condition.part.n);
            claim.per_unit = per_unit;
            claim.variance = sample.variance()?;
        }
        ensure!(
            condition.part.n == claim.n,
            "{} of claim {} has {} units, the headline number {}",
            condition.part.name,
            claim.id,
            condition.part.n,
            claim.n
        );
        claim.conditions.push(condition);
        Ok(self)
    }

    fn failed(&self, name: &str) -> String {
        format!("{name} of claim {}", self.claim.id)
    }

    /// A number that is reported and decides nothing.
    pub fn part(mut self, name: &str, sample: &Sample) -> Result<Draft> {
        let interval = sample.interval().with_context(|| self.failed(name))?;
        self.claim.parts.push(Part::new(name, &interval));
        Ok(self)
    }

    /// The same of what the plan may lack: an empty sample says that it does. Where it could not be measured, the note says why.
    pub fn part_where(self, name: &str, sample: Result<Sample>) -> Result<Draft> {
        match sample {
            Ok(sample) if sample.values.is_empty() => Ok(self),
            Ok(sample) => self.part(name, &sample),
            Err(error) => Ok(self.lacking(name, &error)),
        }
    }

    /// The headline number of one task. Where it could not be measured, the note says why.
    pub fn task(mut self, name: &str, sample: Result<Sample>) -> Draft {
        match sample.and_then(|sample| sample.interval()) {
            Ok(interval) => self.claim.tasks.push(Part::new(name, &interval)),
            Err(error) => return self.lacking(name, &error),
        }
        self
    }

    /// The same of a geometric mean.
    pub fn geometric_task(mut self, name: &str, logarithms: Result<Sample>) -> Draft {
        match logarithms.and_then(|sample| sample.interval()) {
            Ok(interval) => self.claim.tasks.push(Part::new(name, &interval).exponential()),
            Err(error) => return self.lacking(name, &error),
        }
        self
    }

    /// Whether all units give the same headline number.
    pub fn has_no_spread(&self) -> bool {
        self.claim.n > 1 && self.claim.ci95.is_some_and(|[lo, hi]| hi - lo < stats::ROUNDING)
    }

    fn lacking(self, name: &str, error: &anyhow::Error) -> Draft {
        self.remark(format!("{name} could not be measured: {error:#}"))
    }

    /// The interval of a number when texts are drawn anew.
    pub fn texts(mut self, name: &str, interval: &Interval) -> Draft {
        self.claim.texts.push(Part::new(name, interval));
        self
    }

    /// Adds a sentence to the note.
    pub fn remark(mut self, text: impl Into<String>) -> Draft {
        if !self.claim.note.is_empty() {
            self.claim.note.push_str("; ");
        }
        self.claim.note.push_str(&text.into());
        self
    }

    /// Holds where every condition stands right, is refuted where one stands wrong, and is undecided otherwise.
    pub fn judged(self) -> Claim {
        let mut claim = self.claim;
        let standings: Vec<Option<Standing>> = claim.conditions.iter().map(Condition::standing).collect();
        claim.verdict = if standings.contains(&Some(Standing::Wrong)) {
            Verdict::Refuted
        } else if standings.iter().all(|standing| *standing == Some(Standing::Right)) {
            Verdict::Holds
        } else {
            Verdict::Undecided
        };
        claim.further_units = match claim.verdict {
            Verdict::Holds | Verdict::Refuted => Some(0),
            Verdict::Undecided => further_units(&claim.conditions),
        };
        let weakest = |a: Option<f64>, b: Option<f64>| Some(a?.max(b?));
        claim.p = claim.conditions.iter().map(|condition| condition.p).reduce(weakest).flatten();
        claim
    }
}

/// If means stay where they are, the first condition that stands wrong refutes the claim, or the last one that comes to stand
/// right makes it hold.
fn further_units(conditions: &[Condition]) -> Option<usize> {
    let wrong: Vec<&Condition> = conditions.iter().filter(|condition| !condition.mean_is_right()).collect();
    match wrong.is_empty() {
        true => conditions.iter().map(|condition| condition.further_units).reduce(|a, b| Some(a?.max(b?))).flatten(),
        false => wrong.iter().filter_map(|condition| condition.further_units).min(),
    }
}

impl Claim {
    /// The headline number with its bounds, where it has any.
    pub fn interval(&self) -> Interval {
        let [lo, hi] = self.ci95.map_or([None; 2], |bounds| bounds.map(Some));
        Interval { n: self.n, mean: self.measured, sd: None, lo, hi }
    }

    /// A condition or part by name.
    pub fn find(&self, name: &str) -> Option<&Part> {
        let conditions = self.conditions.iter().map(|condition| &condition.part);
        conditions.chain(&self.parts).find(|part| part.name == name)
    }

    /// What became of the claim, and where that is open, how many further units would decide it.
    pub fn outcome(&self) -> String {
        let unit = |count| self.unit.counted(count);
        match (self.verdict, self.further_units) {
            (Verdict::Undecided, _) if self.n == 1 => format!("undecided (one {})", unit(1)),
            (Verdict::Undecided, Some(more)) => format!("undecided (some {more} more {} would decide)", unit(more)),
            (verdict, _) => verdict.to_string(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::Refuted => "refuted",
            Verdict::Undecided => "undecided",
        })
    }
}

/// Claims by hand.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A claim of full fine-tuning with one condition on these values, one a seed.
    pub fn claim(id: &str, values: &[f64], bound: Bound) -> Result<Claim> {
        let sample = Sample { values: values.to_vec(), by_lineage: vec![values.to_vec()] };
        let draft = Draft::new(id, "full", Unit::Seed, "Something is the case.", "Holds when it is.".to_string());
        Ok(draft.condition("a gain", &sample, bound)?.judged())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::claim;
    use super::*;
    use crate::stats::Side;

    const ABOVE_ZERO: Bound = Bound { side: Side::Above, value: 0.0 };

    fn sample(values: &[f64]) -> Sample {
        Sample { values: values.to_vec(), by_lineage: vec![values.to_vec()] }
    }

    #[test]
    fn a_claim_holds_is_refuted_or_undecided_by_where_its_interval_lies() -> Result<()> {
        let verdict = |values: &[f64]| Ok::<_, anyhow::Error>(claim("C5", values, ABOVE_ZERO)?.verdict);
        assert_eq!(verdict(&[0.1, 0.11, 0.12])?, Verdict::Holds);
        assert_eq!(verdict(&[-0.1, -0.11, -0.12])?, Verdict::Refuted);
        assert_eq!(verdict(&[-0.1, 0.11, 0.12])?, Verdict::Undecided);
        assert_eq!(verdict(&[0.1])?, Verdict::Undecided, "one unit decides nothing");
        Ok(())
    }

    #[test]
    fn one_wrong_condition_refutes_what_the_others_would_hold() -> Result<()> {
        let (good, bad, open) =
            (sample(&[0.5, 0.51, 0.52]), sample(&[-0.5, -0.51, -0.52]), sample(&[-0.5, 0.51, 0.52]));
        let judge = |second: &Sample| -> Result<Claim> {
            let draft = Draft::new("C1", "full", Unit::Seed, "It is.", "Holds when.".into());
            Ok(draft.condition("a", &good, ABOVE_ZERO)?.condition("b", second, ABOVE_ZERO)?.judged())
        };
        assert_eq!(judge(&good)?.verdict, Verdict::Holds);
        assert_eq!(judge(&bad)?.verdict, Verdict::Refuted);
        let undecided = judge(&open)?;
        assert_eq!(undecided.verdict, Verdict::Undecided);
        // The weakest condition decides how likely chance is, and how many units are lacking.
        assert!(undecided.p.is_some_and(|p| p > 0.05) && undecided.further_units.is_some_and(|more| more > 0));
        assert!(judge(&sample(&[0.1, 0.2])).is_err(), "conditions of different units cannot be judged together");
        Ok(())
    }

    #[test]
    fn a_geometric_mean_is_judged_on_the_logarithm_and_shown_as_it_is() -> Result<()> {
        let logarithms = sample(&[0.1_f64.ln(), 0.1_f64.ln(), 0.2_f64.ln(), 0.05_f64.ln()]);
        let draft = Draft::new("C4a", "full", Unit::Seed, "It is.", "Holds when.".into());
        let bound = Bound { side: Side::AtMost, value: 0.25 };
        let claim = draft.geometric_condition("ratio", &logarithms, bound)?.judged();
        assert!((claim.measured - 0.1).abs() < 1e-12 && (claim.per_unit[2] - 0.2).abs() < 1e-12);
        // ln: mean ln 0.1, s = ln 2 · √(2/3) = 0.565952, t(3) = 3.182446, half = 0.900556: [0.0406, 0.2461].
        let [lo, hi] = claim.ci95.context("bounds")?;
        assert!((lo - 0.1 * (-0.900556_f64).exp()).abs() < 1e-6 && (hi - 0.1 * 0.900556_f64.exp()).abs() < 1e-6);
        assert_eq!(claim.verdict, Verdict::Holds);
        Ok(())
    }

    #[test]
    fn a_verdict_says_how_many_more_units_would_decide_it() -> Result<()> {
        let claim = claim("C5", &[-0.05, 0.11, 0.12], ABOVE_ZERO)?;
        let more = claim.further_units.context("a number")?;
        assert_eq!(claim.outcome(), format!("undecided (some {more} more seeds would decide)"));
        Ok(())
    }
}
