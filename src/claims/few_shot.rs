//! C5 and C6: what do outdated weights add to few labels?

use anyhow::{Context, Result};

use super::claim::{Claim, Draft};
use super::evidence::{Evidence, Sample};
use super::texts;
use crate::experiment::Place;
use crate::experiment::results::{Lesson, Recipe, Start};
use crate::stats::{self, Bound, Interval, Side};

/// C6: how much worse than the better of the two both ways together may be.
pub const COMBINED_LOSS_AT_MOST: f64 = 0.01;

/// A few-shot student on M_1 by its start and lesson.
pub(crate) type Way = (Start, Lesson);

pub(crate) const LABELS_ONLY: Way = (Start::Fresh, Lesson::Labels);
pub(crate) const DISTILLED: Way = (Start::Fresh, Lesson::Published);
pub(crate) const INIT: Way = (Start::Delta, Lesson::Labels);
pub(crate) const COMBINED: Way = (Start::Delta, Lesson::Published);

/// The ways that claims are about, with their names in tables.
pub(crate) const CLAIMED: [(Way, &str); 4] =
    [(LABELS_ONLY, "labels only"), (DISTILLED, "distilled (published loss)"), (INIT, "init"), (COMBINED, "combined")];

/// Other losses, tried beside.
pub(crate) const VARIANTS: [(Way, &str); 3] = [
    ((Start::Fresh, Lesson::Logits), "distilled: scores alone"),
    ((Start::Fresh, Lesson::AllTokens), "distilled: hidden states of all tokens"),
    ((Start::Fresh, Lesson::Unlabelled), "distilled: scores, on unlabelled texts too"),
];

impl Evidence<'_> {
    /// What a student of this way does with a task.
    pub(crate) fn student(&self, version: &str, task: &str, (start, lesson): Way) -> Recipe {
        Recipe::few_shot(version, task, start, lesson, self.plan.profile.few_shot.shots)
    }

    /// Test accuracy of few-shot students on M_1.
    pub(crate) fn few_shot(&self, method: &str, tasks: &[&str], way: Way) -> Result<Sample> {
        self.accuracy(method, tasks, |task| self.student("M1", task, way))
    }
}

/// C5, distillation: training with the published distillation loss − training on labels only.
pub(super) fn distillation(evidence: &Evidence, method: &str) -> Result<Claim> {
    let tasks = evidence.tasks();
    let of = |way| evidence.few_shot(method, &tasks, way);
    let (distilled, labels) = (of(DISTILLED)?, of(LABELS_ONLY)?);
    let statement =
        "With few labels, distilling from the old tuned model teaches the upgraded one more than the labels alone.";
    let rule = "Holds when the few-shot score distilled with the published loss (scores and hidden states of <s>) minus that from labels \
                only has the lower bound of its 95 % interval above 0.";
    let mut draft = Draft::new("C5", method, evidence.unit, statement, rule.to_string())
        .condition("gain over labels only", &distilled.minus(&labels)?, Bound { side: Side::Above, value: 0.0 })?
        .part("distilled", &distilled)?
        .part("labels only", &labels)?;
    for (way, name) in VARIANTS {
        let has = |place: &Place| {
            tasks.iter().all(|task| evidence.run(place, method, task, &evidence.student("M1", task, way)).is_ok())
        };
        let gain = evidence.sample_where(has, |place| {
            let score = |way| evidence.accuracy_at(place, method, &tasks, |task| evidence.student("M1", task, way));
            Ok(score(way)? - score(LABELS_ONLY)?)
        });
        draft = draft.part_where(&format!("gain over labels only, {name}"), gain)?;
    }
    for task in &tasks {
        let of = |way| evidence.few_shot(method, &[task], way);
        draft = draft.task(task, of(DISTILLED).and_then(|distilled| distilled.minus(&of(LABELS_ONLY)?)));
    }
    if evidence.plan.profile.is_real_text() {
        let interval = texts_drawn_anew(evidence, method, DISTILLED, LABELS_ONLY)?;
        draft = draft.texts("gain over labels only", &interval);
    }
    Ok(draft.remark(old_model(evidence, method)?).judged())
}

/// C6, combined: both ways together − the one of the two that is better on average.
pub(super) fn combined(evidence: &Evidence, method: &str) -> Result<Claim> {
    let tasks = evidence.tasks();
    let of = |way| evidence.few_shot(method, &tasks, way);
    let (combined, init, distilled) = (of(COMBINED)?, of(INIT)?, of(DISTILLED)?);
    let is_init = stats::mean(&init.values)? >= stats::mean(&distilled.values)?;
    let (name, way, better) = if is_init { ("init", INIT, &init) } else { ("distilled", DISTILLED, &distilled) };
    let statement = "Recycled initialization and distillation together are no worse than the better of the two.";
    let rule = format!(
        "Holds when the few-shot score of both together minus that of the better one (by its mean on test) has the lower bound of its 95 % \
         interval at or above −{COMBINED_LOSS_AT_MOST}; it is better where that bound lies above 0."
    );
    let gain = combined.minus(better)?;
    let mut draft = Draft::new("C6", method, evidence.unit, statement, rule)
        .condition("gain over the better one", &gain, Bound { side: Side::AtLeast, value: -COMBINED_LOSS_AT_MOST })?
        .part("combined", &combined)?
        .part("init", &init)?
        .part("distilled", &distilled)?;
    for task in &tasks {
        let of = |way| evidence.few_shot(method, &[task], way);
        draft = draft.task(task, of(COMBINED).and_then(|combined| combined.minus(&of(way)?)));
    }
    if evidence.plan.profile.is_real_text() {
        draft = draft.texts("gain over the better one", &texts_drawn_anew(evidence, method, COMBINED, way)?);
    }
    let better_too = if gain.interval()?.lo.is_some_and(|lo| lo > 0.0) { "; both together are better" } else { "" };
    Ok(draft.remark(format!("the better of the two: {name}{better_too}")).remark(old_model(evidence, method)?).judged())
}

/// The difference of two students' accuracy when each task's test texts are drawn anew.
fn texts_drawn_anew(evidence: &Evidence, method: &str, one: Way, other: Way) -> Result<Interval> {
    let right = |way| texts::weighted_right(evidence, method, |task| evidence.student("M1", task, way));
    texts::of_differences(evidence, &right(one)?, &right(other)?)
}

/// What the old model, kept as it is, reaches beside the best student: no student need be trained where it is better.
pub(crate) fn old_model(evidence: &Evidence, method: &str) -> Result<String> {
    let tasks = evidence.tasks();
    let kept = |_: &str| Recipe::conventional("M0");
    let mut best: Option<(f64, &str, Way)> = None;
    for (way, name) in CLAIMED.into_iter().chain(VARIANTS) {
        let Ok(sample) = evidence.accuracy_beside(method, &tasks, |task| evidence.student("M1", task, way)) else {
            continue;
        };
        let mean = sample.interval()?.mean;
        if best.is_none_or(|(highest, _, _)| mean > highest) {
            best = Some((mean, name, way));
        }
    }
    let (highest, name, way) = best.context("there is no student")?;
    // Where the student was run with the first seeds alone, so is the old model that it is compared with.
    let student = |task: &str| evidence.student("M1", task, way);
    let has = |place: &Place| tasks.iter().all(|task| evidence.run(place, method, task, &student(task)).is_ok());
    let lead = evidence.sample_where(has, |place| {
        Ok(evidence.accuracy_at(place, method, &tasks, kept)? - evidence.accuracy_at(place, method, &tasks, student)?)
    })?;
    let lead = lead.interval()?;
    let says = match lead.bounds() {
        Some([lo, _]) if lo > 0.0 => "clearly more than any student",
        Some([_, hi]) if hi < 0.0 => "less than the best student",
        _ if lead.mean > 0.0 => "and no student is clearly better",
        _ => "and no student is clearly better, though one is ahead",
    };
    Ok(format!(
        "the untouched old model M_0 ⊕ Δ_0, kept as it is, reaches {:.3}, {says} (the best: {name}, {highest:.3}; old model − it {lead})",
        evidence.accuracy(method, &tasks, kept)?.interval()?.mean
    ))
}
