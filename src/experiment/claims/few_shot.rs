//! C5 and C6: what do outdated weights add to few labels?

use anyhow::{Context, Result};

use super::{Claim, above, at_least};
use crate::stats;

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
