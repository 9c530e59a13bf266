//! The claims of recyclable tuning, judged: from a table of results to verdicts, by rules fixed before the run.
//!
//! A score is averaged over tasks; methods are paired within a repetition. The unit is the lineage (the mean over its seeds) where
//! there are three or more, else the seed. A claim *holds* where every 95 % Student-t interval lies on the right side of its bound,
//! is *refuted* where one lies on the wrong side, and is *undecided* otherwise. A claim that fails is a result like any other.

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
    correct(&mut claims);
    Verdicts { claims, unmeasured }
}

/// Holm's correction: whether a claim holds when all of the report are judged at once.
fn correct(claims: &mut [Claim]) {
    let tested: Vec<f64> = claims.iter().filter_map(|claim| claim.p).collect();
    let Ok(adjusted) = holm(&tested) else { return };
    let mut adjusted = adjusted.into_iter();
    for claim in claims.iter_mut().filter(|claim| claim.p.is_some()) {
        claim.holm = adjusted.next().map(|p| claim.verdict == Verdict::Holds && p <= ALPHA);
    }
}

/// How many claims there are for each tuning method.
pub const CLAIMS: usize = JUDGES.len();
