//! C1: do outdated weights keep working on newer versions?

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Claim, above, at_least};
use crate::stats;

/// C1: smallest mean retained share that counts as compatible.
pub const RETAINED_SHARE_AT_LEAST: f64 = 0.5;

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

/// C1 by hand.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A pair (mean r over two versions, r(M_IND)) for every seed.
    pub fn compatible(pairs: &[(f64, f64)]) -> Result<Claim> {
        let seed = |&(r, independent): &(f64, f64)| CompatibilitySeed { versions: vec![r + 0.1, r - 0.1], independent };
        compatibility("full", &pairs.iter().map(seed).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::compatible;
    use super::*;
    use crate::experiment::claims::Verdict;

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
}
