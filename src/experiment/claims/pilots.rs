//! C2 and C3, the claims of the pilot studies, as pure functions from per-seed numbers to a verdict.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{Claim, above, at_least};
use crate::stats;

/// C2: largest upper bound of the accuracy barrier between adjacent versions.
pub const ADJACENT_BARRIER_AT_MOST: f64 = 0.02;
/// C2: smallest lower bound of the accuracy barrier to the independent model.
pub const INDEPENDENT_BARRIER_AT_LEAST: f64 = 0.10;

/// A number for every seed, by pair of models, say `M_0–M_1`.
pub type ByPair = BTreeMap<String, Vec<f64>>;

/// The mean over pairs, for every seed. Errors: no pair, pairs of different numbers of seeds.
fn over_pairs(pairs: &ByPair, what: &str) -> Result<Vec<f64>> {
    let seeds = pairs.values().next().with_context(|| format!("there is no pair of {what} versions"))?.len();
    ensure!(pairs.values().all(|values| values.len() == seeds), "pairs of {what} versions have different seeds");
    (0..seeds).map(|seed| stats::mean(&pairs.values().map(|values| values[seed]).collect::<Vec<_>>())).collect()
}

/// C2, linear connectivity: accuracy barriers on the straight path between tuned models, each averaged over tasks.
///
/// `adjacent` are the pairs M_i, M_{i+1} of the lineage, `others` further pairs that are reported and decide nothing. Parts: the
/// barrier to M_IND, and of every pair. `loss` holds loss barriers, reported too.
pub fn connectivity(
    method: &str,
    adjacent: &ByPair,
    independent: &[f64],
    others: &ByPair,
    loss: &ByPair,
) -> Result<Claim> {
    let mut claim = Claim::new(
        format!("C2.{method}"),
        "accuracy barrier, adjacent versions",
        "Tuned models of successive versions are joined by a straight path of high accuracy; an unrelated model is not.",
        format!(
            "Holds when the accuracy barrier on the straight path between tuned adjacent versions, averaged over pairs, has its \
             upper bound at or below {ADJACENT_BARRIER_AT_MOST}, and that to the independently pre-trained M_IND has its lower bound at or \
             above {INDEPENDENT_BARRIER_AT_LEAST}."
        ),
        &over_pairs(adjacent, "adjacent")?,
    )?;
    let control = claim.part("barrier to M_IND", independent)?;
    for (pair, values) in adjacent.iter().chain(others) {
        claim.part(&format!("barrier {pair}"), values)?;
    }
    for (pair, values) in loss {
        claim.part(&format!("loss barrier {pair}"), values)?;
    }
    claim.remark(&format!("barrier to M_IND: {control}"));
    let holds = claim.ci95.zip(control.lo).map(|([_, adjacent], independent)| {
        at_least(ADJACENT_BARRIER_AT_MOST, adjacent) && at_least(independent, INDEPENDENT_BARRIER_AT_LEAST)
    });
    Ok(claim.judge(holds))
}

/// C3, functional similarity: gaps g = mean 1 − JS of corresponding heads − of mismatched ones, each averaged over tasks.
pub fn similarity(method: &str, adjacent: &ByPair, independent: &[f64], others: &ByPair) -> Result<Claim> {
    let gaps = over_pairs(adjacent, "adjacent")?;
    let mut claim = Claim::new(
        format!("C3.{method}"),
        "gap of head similarity, adjacent versions",
        "Corresponding attention heads of tuned successive versions look at the same words; those of an unrelated model do not.",
        "Holds when the gap g = mean similarity (1 − Jensen–Shannon divergence of attention) of corresponding heads − of mismatched \
         heads, over adjacent versions, and g − g(M_IND) both have the lower bounds of their 95 % intervals above 0."
            .to_owned(),
        &gaps,
    )?;
    claim.part("g(M_IND)", independent)?;
    for (pair, values) in adjacent.iter().chain(others) {
        claim.part(&format!("g {pair}"), values)?;
    }
    let margin = claim.part("margin", &stats::differences(&gaps, independent)?)?;
    claim.remark(&format!("margin over M_IND: {margin}"));
    let holds = claim.ci95.zip(margin.lo).map(|([gap, _], margin)| above(gap, 0.0) && above(margin, 0.0));
    Ok(claim.judge(holds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::claims::Verdict;

    fn pairs(values: &[(&str, [f64; 3])]) -> ByPair {
        values.iter().map(|(name, values)| (name.to_string(), values.to_vec())).collect()
    }

    #[test]
    fn a_lineage_without_barriers_and_a_far_stranger_make_c2_hold() -> Result<()> {
        let adjacent = pairs(&[("M_0–M_1", [0.0, 0.01, 0.005]), ("M_1–M_2", [0.01, 0.01, 0.015])]);
        let others = pairs(&[("M_0–M_4", [0.05, 0.06, 0.07])]);
        let claim = connectivity("full", &adjacent, &[0.3, 0.32, 0.31], &others, &ByPair::new())?;
        assert_eq!((claim.verdict(), claim.n), (Verdict::Holds, 3));
        // Seeds: 0.005, 0.010, 0.010; mean 0.00833, s = 0.0028868, t(2) = 4.302653, half = 0.0071711
        assert!((claim.measured - 0.025 / 3.0).abs() < 1e-12);
        assert!((claim.ci95.unwrap()[1] - (0.025 / 3.0 + 0.0071711)).abs() < 1e-6);
        assert!((claim.parts["barrier M_0–M_4"] - 0.06).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn c2_fails_for_a_barrier_in_the_lineage_and_for_a_near_stranger() -> Result<()> {
        let (low, high) = (pairs(&[("M_0–M_1", [0.0, 0.0, 0.0])]), pairs(&[("M_0–M_1", [0.03, 0.04, 0.05])]));
        let judge = |adjacent: &ByPair, independent: [f64; 3]| {
            connectivity("full", adjacent, &independent, &ByPair::new(), &ByPair::new()).map(|claim| claim.verdict())
        };
        assert_eq!(judge(&low, [0.1, 0.1, 0.1])?, Verdict::Holds);
        assert_eq!(judge(&high, [0.3, 0.31, 0.32])?, Verdict::Fails);
        assert_eq!(judge(&low, [0.05, 0.1, 0.15])?, Verdict::Fails);
        Ok(())
    }

    #[test]
    fn c3_needs_a_gap_and_a_larger_one_than_the_stranger_has() -> Result<()> {
        let adjacent = pairs(&[("M_0–M_1", [0.2, 0.21, 0.19])]);
        let judge = |independent: [f64; 3]| similarity("full", &adjacent, &independent, &ByPair::new());
        assert_eq!(judge([0.05, 0.06, 0.04])?.verdict(), Verdict::Holds);
        assert_eq!(judge([0.2, 0.3, 0.1])?.verdict(), Verdict::Fails);
        let flat = pairs(&[("M_0–M_1", [0.1, -0.1, 0.0])]);
        assert_eq!(similarity("full", &flat, &[-0.5, -0.5, -0.5], &ByPair::new())?.verdict(), Verdict::Fails);
        Ok(())
    }

    #[test]
    fn one_seed_decides_neither() -> Result<()> {
        let one = ByPair::from([("M_0–M_1".to_string(), vec![0.1])]);
        assert_eq!(connectivity("full", &one, &[0.5], &ByPair::new(), &ByPair::new())?.verdict(), Verdict::Undecided);
        assert_eq!(similarity("full", &one, &[0.0], &ByPair::new())?.verdict(), Verdict::Undecided);
        assert!(connectivity("full", &ByPair::new(), &[0.5], &ByPair::new(), &ByPair::new()).is_err());
        Ok(())
    }
}
