//! C1: do outdated weights keep working on newer versions?

use anyhow::{Context, Result, ensure};

use super::claim::{Claim, Draft};
use super::evidence::{Evidence, Sample};
use super::texts;
use crate::experiment::results::{Recipe, Start};
use crate::experiment::{INDEPENDENT, PERMUTED, PERMUTED_INNER, Place, shown};
use crate::stats::{self, Bound, Side};

/// C1: smallest mean retained share that counts as compatible.
pub const RETAINED_SHARE_AT_LEAST: f64 = 0.5;

/// The retained share r(M) = (acc(M ⊕ Δ_0) − chance) / (acc(M_0 ⊕ Δ_0) − chance), chance being the majority class's share.
///
/// 1 means nothing is lost by moving the base, 0 that only chance is left; it may exceed 1 or be negative. Errors: an accuracy
/// that is not finite, or a denominator ≤ 0, where tuning M_0 did not beat the majority class and there is nothing to retain.
pub fn retained_share(moved: f64, original: f64, chance: f64) -> Result<f64> {
    ensure!(
        [moved, original, chance].iter().all(|value| value.is_finite()),
        "a retained share needs finite accuracies, got {moved} on the moved base, {original} where it was tuned and {chance} for chance"
    );
    ensure!(
        original > chance,
        "tuning reaches {original:.3}, the majority class {chance:.3}: nothing was learnt that could be retained; \
         tune longer or on more examples"
    );
    Ok((moved - chance) / (original - chance))
}

/// C1, compatibility. A share is formed of accuracies averaged over tasks: a task that M_0 hardly learns would otherwise rule by its
/// tiny denominator.
///
/// Errors where tuning M_0 did not clearly beat the majority class, in any unit.
pub(super) fn compatibility(evidence: &Evidence, method: &str) -> Result<Claim> {
    let tasks = evidence.tasks();
    let chance = evidence.mean_chance(&tasks)?;
    let upgraded = evidence.upgraded();
    let last = upgraded.len();
    let share = |version: &str, start| Shares { evidence, method, start, version }.over(&tasks);
    let versions = upgraded.iter().map(|version| share(version, Start::Delta)).collect::<Result<Vec<_>>>()?;
    let heads = upgraded.iter().map(|version| share(version, Start::HeadOnly)).collect::<Result<Vec<_>>>()?;
    let (retained, head_alone) = (mean_of(&versions)?, mean_of(&heads)?);
    let permuted = share(PERMUTED, Start::Delta)?;
    let independent = match evidence.plan.profile.independent {
        true => share(INDEPENDENT, Start::Delta),
        false => Ok(Sample::default()),
    };
    let statement = "Untouched, weights tuned for M_0 keep at least half of what they are worth, averaged over tasks and over the versions it is upgraded to.";
    let over = if last > 1 { format!("M_1 … M_{last}") } else { "M_1".to_string() };
    let rule = format!(
        "Holds when the retained share r, averaged over {over}, is at least {RETAINED_SHARE_AT_LEAST}, and exceeds both r on \
         M_PERM (M_0 itself in other coordinates) and r of the head alone on the same versions: lower bounds of the 95 % intervals at or \
         above {RETAINED_SHARE_AT_LEAST}, and above 0."
    );
    let above_zero = Bound { side: Side::Above, value: 0.0 };
    let mut draft = Draft::new("C1", method, evidence.unit, statement, rule)
        .condition("mean retained share", &retained, Bound { side: Side::AtLeast, value: RETAINED_SHARE_AT_LEAST })?
        .condition("mean r − r(M_PERM)", &retained.minus(&permuted)?, above_zero)?
        .condition("mean r − r(head alone)", &retained.minus(&head_alone)?, above_zero)?;
    for (version, sample) in upgraded.iter().zip(&versions) {
        draft = draft.part(&format!("r({})", shown(version)), sample)?;
    }
    if last > 1 {
        draft = draft.part("decline from M_1 to the last version", &versions[0].minus(&versions[last - 1])?)?;
    }
    if let Some(placebo) = evidence.plan.placebo() {
        draft = draft.part("r(M_PLACEBO), an upgrade to nothing new", &share(placebo, Start::Delta)?)?;
    }
    draft = draft
        .part("r(M_PERM)", &permuted)?
        .part("r(M_PERM), heads and neurons alone permuted", &share(PERMUTED_INNER, Start::Delta)?)?
        .part("r(head alone)", &head_alone)?
        .part("r(random Δ of the same norm), on M_1", &share("M1", Start::RandomDelta)?)?
        .part_where("r(M_IND)", independent)?
        .part_where("share of what M_1 reaches when it is tuned itself", own_share(evidence, method, &tasks))?;
    for task in &tasks {
        let of_task = |version: &String| Shares { evidence, method, start: Start::Delta, version }.over(&[task]);
        let shares = upgraded.iter().map(of_task).collect::<Result<Vec<_>>>();
        draft = draft.task(task, shares.and_then(|shares| mean_of(&shares)));
    }
    if evidence.plan.profile.is_real_text() {
        // A share is a ratio: where M_0 learnt little, some draw of the texts has nothing below the line.
        draft = match texts::shares(evidence, method, &upgraded, chance) {
            Ok([share, margin]) => draft.texts("mean retained share", &share).texts("mean r − r(M_PERM)", &margin),
            Err(error) => draft.remark(format!("no interval over texts: {error}")),
        };
    }
    Ok(draft.judged())
}

/// Refuses a unit in which a tuned version beats the majority class by no more than guessing it would on that many test texts, in one of
/// 40 draws: nothing is retained of nothing.
fn learnt_enough(evidence: &Evidence, method: &str, tasks: &[&str], version: &str) -> Result<()> {
    let gains = evidence.sample(|place| {
        let (mut gain, mut variance) = (0.0, 0.0);
        for task in tasks {
            let (run, chance) =
                (evidence.run(place, method, task, &Recipe::conventional(version))?, evidence.chance(task)?);
            gain += (run.accuracy - chance) / tasks.len() as f64;
            variance += chance * (1.0 - chance) / run.n as f64 / (tasks.len() as f64).powi(2);
        }
        Ok(gain - 1.96 * variance.sqrt())
    })?;
    let failing = gains.values.iter().filter(|gain| **gain <= 0.0).count();
    ensure!(
        failing == 0,
        "tuned {} does not clearly beat the majority class on {}, in {failing} of {} {}: there is nothing that could be retained",
        shown(version),
        tasks.join(", "),
        gains.values.len(),
        evidence.unit.counted(gains.values.len())
    );
    Ok(())
}

/// Retained shares of one treatment of Δ_0 on one version.
pub(crate) struct Shares<'a> {
    pub evidence: &'a Evidence<'a>,
    pub method: &'a str,
    pub start: Start,
    pub version: &'a str,
}

impl Shares<'_> {
    /// Of accuracies averaged over these tasks. Errors where tuning M_0 did not clearly beat the majority class on them, in any unit.
    pub fn over(&self, tasks: &[&str]) -> Result<Sample> {
        let Shares { evidence, method, start, version } = self;
        learnt_enough(evidence, method, tasks, "M0")?;
        let chance = evidence.mean_chance(tasks)?;
        evidence.sample(|place: &Place| {
            let moved =
                evidence.accuracy_at(place, method, tasks, |task| Recipe::applied(version, task).from(*start))?;
            let original = evidence.accuracy_at(place, method, tasks, |_| Recipe::conventional("M0"))?;
            retained_share(moved, original, chance)
        })
    }
}

/// (acc(M_1 ⊕ Δ_0) − chance) / (acc(M_1 ⊕ Δ_1) − chance): what Δ_0 is worth on M_1 beside weights tuned there.
fn own_share(evidence: &Evidence, method: &str, tasks: &[&str]) -> Result<Sample> {
    learnt_enough(evidence, method, tasks, "M1")?;
    let chance = evidence.mean_chance(tasks)?;
    evidence.sample(|place| {
        let moved = evidence.accuracy_at(place, method, tasks, |task| Recipe::applied("M1", task))?;
        let own = evidence.accuracy_at(place, method, tasks, |_| Recipe::conventional("M1"))?;
        retained_share(moved, own, chance)
    })
}

/// The mean of several numbers, repetition by repetition.
pub(super) fn mean_of(samples: &[Sample]) -> Result<Sample> {
    let first = samples.first().context("the mean of nothing was asked for")?;
    let at = |get: &dyn Fn(&Sample) -> f64| stats::mean(&samples.iter().map(get).collect::<Vec<_>>());
    let values = (0..first.values.len()).map(|unit| at(&|sample: &Sample| sample.values[unit]));
    let lineage = |(number, seeds): (usize, &Vec<f64>)| {
        (0..seeds.len()).map(|seed| at(&|sample: &Sample| sample.by_lineage[number][seed])).collect::<Result<Vec<_>>>()
    };
    Ok(Sample {
        values: values.collect::<Result<_>>()?,
        by_lineage: first.by_lineage.iter().enumerate().map(lineage).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
