//! The claims of recyclable tuning, judged: from a table of results to verdicts, by rules fixed before the run.
//!
//! A score is averaged over tasks; methods are paired within a repetition. The unit is the lineage (the mean over its seeds) where
//! there are three or more, else the seed. A claim *holds* where every 95 % Student-t interval lies on the right side of its bound,
//! is *refuted* where one lies on the wrong side, and is *undecided* otherwise. A claim that fails is a result like any other.
//!
//! "No dip" (C2), "no loss" (C4b, C6) ask for one side each: at most so much worse. Better is welcome, so the bound is one-sided;
//! whether the ends are the *same* but for that margin stands beside C4b (two one-sided tests).

mod claim;
mod compatibility;
mod connectivity;
mod evidence;
mod few_shot;
mod initialization;
mod show;
mod texts;
mod worlds;

use anyhow::Result;

#[cfg(test)]
pub(crate) use claim::testing;
pub use claim::{Claim, Condition, Part, Verdict};
pub(crate) use compatibility::Shares;
pub use compatibility::{RETAINED_SHARE_AT_LEAST, retained_share};
pub use connectivity::{ADJACENT_BARRIER_AT_MOST, CONTROL_BARRIER_AT_LEAST};
pub(crate) use connectivity::{accuracy_barrier, gap, loss_barrier};
pub(crate) use evidence::Evidence;
pub use evidence::{Sample, basis};
pub use few_shot::COMBINED_LOSS_AT_MOST;
pub(crate) use few_shot::{CLAIMED, VARIANTS, old_model};
pub use initialization::{LOSS_AT_MOST, Race, TARGET_SHARE, UPDATE_RATIO_AT_MOST, updates_to_reach};
pub(crate) use worlds::world_numbers;

use crate::experiment::Experiment;
use crate::stats::holm;

/// Below this a p-value decides.
const ALPHA: f64 = 0.05;

/// Judges one claim for one tuning method.
type Judge = fn(&Evidence, &str) -> Result<Claim>;

/// The claims by name.
const JUDGES: [(&str, Judge); 7] = [
    ("C1", compatibility::compatibility),
    ("C2", connectivity::connectivity),
    ("C3", connectivity::similarity),
    ("C4a", initialization::convergence),
    ("C4b", initialization::no_loss),
    ("C5", few_shot::distillation),
    ("C6", few_shot::combined),
];

/// What became of the claims of an experiment.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// Every claim for every tuning method, as far as they could be measured.
    pub claims: Vec<Claim>,
    /// Why the others could not.
    pub unmeasured: Vec<String>,
}

/// Judges every claim for every tuning method.
pub fn judge(experiment: &Experiment) -> Verdicts {
    judge_on(&Evidence::of(experiment))
}

pub(crate) fn judge_on(evidence: &Evidence) -> Verdicts {
    let (mut claims, mut unmeasured) = (Vec::new(), Vec::new());
    for (id, judge) in JUDGES {
        for method in evidence.methods() {
            match judge(evidence, method) {
                Ok(claim) => claims.push(claim),
                Err(error) => unmeasured.push(format!("{id}.{method} was not measured: {error:#}")),
            }
        }
    }
    correct(&mut claims, unmeasured.len());
    Verdicts { claims, unmeasured }
}

/// Holm's correction: whether a claim holds when all of the report are judged at once, those `unmeasured` among them, which do not hold.
fn correct(claims: &mut [Claim], unmeasured: usize) {
    let mut asked: Vec<f64> = claims.iter().map(|claim| claim.p.unwrap_or(1.0)).collect();
    asked.resize(claims.len() + unmeasured, 1.0);
    let Ok(adjusted) = holm(&asked) else { return };
    for (claim, p) in claims.iter_mut().zip(adjusted) {
        claim.holm = claim.p.map(|_| claim.verdict == Verdict::Holds && p <= ALPHA);
    }
}

/// How many claims there are for each tuning method.
pub const CLAIMS: usize = JUDGES.len();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Bound, Side};

    #[test]
    fn a_claim_that_was_not_measured_counts_among_those_that_are_corrected_for() -> Result<()> {
        let above_zero = Bound { side: Side::Above, value: 0.0 };
        // t = 5.28, p = 2 · P(t(2) ≥ 5.28) = 0.034: below 0.05, and twice it is not.
        let mut claims = vec![claim::testing::claim("C5", &[0.1, 0.16, 0.2], above_zero)?];
        correct(&mut claims, 0);
        assert_eq!((claims[0].verdict, claims[0].holm), (Verdict::Holds, Some(true)), "{:?}", claims[0].p);
        correct(&mut claims, 1);
        assert_eq!(claims[0].holm, Some(false));
        // Nor does one unit, which has no p.
        claims.push(claim::testing::claim("C6", &[0.1], above_zero)?);
        correct(&mut claims, 0);
        assert_eq!([claims[0].holm, claims[1].holm], [Some(false), None]);
        Ok(())
    }
}
