//! C2 and C3, the claims of the pilot studies: are tuned versions joined by a straight path, and do their heads keep their roles?

use anyhow::{Context, Result, ensure};

use super::claim::{Claim, Draft};
use super::evidence::{Evidence, Sample};
use super::texts;
use crate::analysis::rise;
use crate::experiment::Place;
use crate::experiment::results::{Pair, Relation};
use crate::stats::{self, Bound, Side};

/// C2: largest upper bound of the accuracy barrier between adjacent versions.
pub const ADJACENT_BARRIER_AT_MOST: f64 = 0.02;
/// C2: smallest lower bound of the accuracy barrier to the control.
pub const CONTROL_BARRIER_AT_LEAST: f64 = 0.10;

/// How far accuracy falls below the straight line between a path's ends: max over μ of (1 − μ)·acc(0) + μ·acc(1) − acc(μ), at least 0.
///
/// Errors where the loss is not finite somewhere on the way: such a path has no barrier that could be compared.
pub(crate) fn accuracy_barrier(pair: &Pair) -> Result<f64> {
    let fall =
        |value: Option<f64>, mu: f64| Ok((mu, -value.with_context(|| format!("no finite loss at μ = {mu:.2}"))?));
    let points = pair.path.iter().map(|step| fall(step.accuracy, step.mu)).collect::<Result<Vec<_>>>();
    Ok(rise(&points.with_context(|| pair.key.to_string())?)?.0)
}

/// How far the loss rises above that line, in nats. Errors likewise.
pub(crate) fn loss_barrier(pair: &Pair) -> Result<f64> {
    let rising =
        |value: Option<f64>, mu: f64| Ok((mu, value.with_context(|| format!("no finite loss at μ = {mu:.2}"))?));
    let points = pair.path.iter().map(|step| rising(step.loss, step.mu)).collect::<Result<Vec<_>>>();
    Ok(rise(&points.with_context(|| pair.key.to_string())?)?.0)
}

/// The gap of head similarity, corresponding − mismatched.
pub(crate) fn gap(pair: &Pair) -> Result<f64> {
    Ok(pair.corresponding - pair.mismatched)
}

impl Evidence<'_> {
    /// A number for every unit: the mean over the pairs of a relation, on all tasks that versions are compared on. Units without such
    /// a pair are left out; where no unit has one, that is an error.
    pub(crate) fn compared(
        &self,
        method: &str,
        relation: Relation,
        value: impl Fn(&Pair) -> Result<f64>,
    ) -> Result<Sample> {
        let sample = self.compared_where(method, relation, value)?;
        ensure!(!sample.values.is_empty(), "no pair of tuned models ({}) was compared", relation.name());
        Ok(sample)
    }

    /// The same of a relation that the plan may not ask for: empty where it does not.
    fn compared_where(&self, method: &str, relation: Relation, value: impl Fn(&Pair) -> Result<f64>) -> Result<Sample> {
        let mean = |place: &Place| {
            let pairs = self.pairs(place, method, relation).into_iter();
            stats::mean(&pairs.map(&value).collect::<Result<Vec<_>>>()?)
        };
        self.sample_where(|place| !self.pairs(place, method, relation).is_empty(), mean)
    }

    /// The tasks that versions are compared on, in words.
    pub(crate) fn compared_on(&self) -> String {
        match self.plan.profile.pilot_tasks().as_slice() {
            [task] => format!("on the task {task}"),
            tasks => format!("averaged over {}", tasks.join(", ")),
        }
    }

    /// Adjacent − another relation, over those units that have both.
    fn excess(&self, method: &str, relation: Relation, value: impl Fn(&Pair) -> Result<f64>) -> Result<Sample> {
        let mean = |place: &Place, relation| {
            let pairs = self.pairs(place, method, relation).into_iter();
            stats::mean(&pairs.map(&value).collect::<Result<Vec<_>>>()?)
        };
        self.sample_where(
            |place| !self.pairs(place, method, relation).is_empty(),
            |place| Ok(mean(place, Relation::Adjacent)? - mean(place, relation)?),
        )
    }
}

/// What stands beside the adjacent pairs.
const BESIDE: [(Relation, &str); 5] = [
    (Relation::Distant, "M_0 to the last version"),
    (Relation::Independent, "M_0 to M_IND"),
    (Relation::Uncoupled, "M_0 to M_1, ends uncoupled"),
    (Relation::Recycled, "M_1 conventional to recycled"),
    (Relation::TwoSeeds, "two seeds of M_1"),
];

/// C2, linear connectivity: accuracy barriers on the straight path between tuned models.
pub(super) fn connectivity(evidence: &Evidence, method: &str) -> Result<Claim> {
    let statement = "Tuned models of successive versions are joined by a straight path of high accuracy; models that share no \
                     coordinates are not.";
    let rule = format!(
        "Holds when the accuracy barrier on the straight path between tuned adjacent versions, averaged over pairs, has its upper bound \
         at or below {ADJACENT_BARRIER_AT_MOST}, and that from M_0 to M_PERM (M_0 itself in other coordinates, tuned) has its lower bound \
         at or above {CONTROL_BARRIER_AT_LEAST}. Ends are coupled: their heads, modules and data order are drawn alike."
    );
    let barrier = |relation| evidence.compared(method, relation, accuracy_barrier);
    let mut draft = Draft::new("C2", method, evidence.unit, statement, rule)
        .condition(
            "accuracy barrier, adjacent versions",
            &barrier(Relation::Adjacent)?,
            Bound { side: Side::AtMost, value: ADJACENT_BARRIER_AT_MOST },
        )?
        .condition(
            "accuracy barrier to M_PERM",
            &barrier(Relation::Permuted)?,
            Bound { side: Side::AtLeast, value: CONTROL_BARRIER_AT_LEAST },
        )?;
    for (relation, name) in BESIDE {
        draft = draft
            .part_where(&format!("barrier, {name}"), evidence.compared_where(method, relation, accuracy_barrier))?;
    }
    for (relation, than) in [(Relation::TwoSeeds, "two seeds of M_1"), (Relation::Uncoupled, "uncoupled ends")] {
        let excess = evidence.excess(method, relation, accuracy_barrier);
        draft = draft.part_where(&format!("barrier of adjacent versions − that of {than}"), excess)?;
    }
    draft = draft
        .part_where("loss barrier, adjacent versions", evidence.compared(method, Relation::Adjacent, loss_barrier))?;
    for task in evidence.plan.profile.pilot_tasks() {
        draft = draft.task(task, on_task(evidence, method, task, accuracy_barrier));
    }
    if evidence.plan.profile.is_real_text() {
        // The barrier is a maximum, so that texts drawn anew rather raise it.
        draft = draft
            .texts("accuracy barrier, adjacent versions", &texts::barrier(evidence, method, Relation::Adjacent)?)
            .texts("accuracy barrier to M_PERM", &texts::barrier(evidence, method, Relation::Permuted)?);
    }
    let points = evidence.plan.profile.pilot.points;
    Ok(draft.remark(format!("{points} points a path, on test, {}", evidence.compared_on())).judged())
}

/// C3, functional similarity: gaps g = mean 1 − JS of corresponding heads − of mismatched ones.
pub(super) fn similarity(evidence: &Evidence, method: &str) -> Result<Claim> {
    let statement = "Corresponding attention heads of tuned successive versions look at the same words; those of a model in other \
                     coordinates do not.";
    let rule = "Holds when the gap g = mean similarity (1 − Jensen–Shannon divergence of attention) of corresponding heads − of \
                mismatched heads, over adjacent versions, and g − g(M_PERM) both have the lower bounds of their 95 % intervals above 0.";
    let above_zero = Bound { side: Side::Above, value: 0.0 };
    let gaps = |relation| evidence.compared(method, relation, gap);
    let (adjacent, permuted) = (gaps(Relation::Adjacent)?, gaps(Relation::Permuted)?);
    let mut draft = Draft::new("C3", method, evidence.unit, statement, rule.to_string())
        .condition("gap of head similarity, adjacent versions", &adjacent, above_zero)?
        .condition("g − g(M_PERM)", &adjacent.minus(&permuted)?, above_zero)?
        .part("g, M_0 to M_PERM", &permuted)?;
    for (relation, name) in BESIDE {
        draft = draft.part_where(&format!("g, {name}"), evidence.compared_where(method, relation, gap))?;
    }
    for task in evidence.plan.profile.pilot_tasks() {
        draft = draft.task(task, on_task(evidence, method, task, gap));
    }
    if evidence.plan.profile.is_real_text() {
        let [gap, margin] = texts::gaps(evidence, method)?;
        draft = draft.texts("gap of head similarity, adjacent versions", &gap).texts("g − g(M_PERM)", &margin);
    }
    Ok(draft.remark(evidence.compared_on()).judged())
}

/// The mean over adjacent pairs on one task.
fn on_task(evidence: &Evidence, method: &str, task: &str, value: impl Fn(&Pair) -> Result<f64>) -> Result<Sample> {
    evidence.sample(|place| {
        let pairs = evidence.pairs(place, method, Relation::Adjacent).into_iter().filter(|pair| pair.key.task == task);
        stats::mean(&pairs.map(&value).collect::<Result<Vec<_>>>()?)
    })
}
