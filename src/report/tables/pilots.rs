//! C2 and C3 in tables: paths between tuned models, and what their heads and hidden states have in common.

use anyhow::{Context, Result};

use super::cells::cell_where;
use crate::claims::{Evidence, accuracy_barrier, gap, loss_barrier};
use crate::display::{Cell, Column, Table};
use crate::experiment::results::{Pair, Relation};
use crate::experiment::{Place, shown};
use crate::stats;

/// One row of these tables: pairs of the same two versions, compared for the same reason.
pub(crate) struct Kind {
    pub relation: Relation,
    pub from: String,
    pub to: String,
}

impl Kind {
    /// The pairs' name, say `M_0–M_1`.
    pub fn name(&self) -> String {
        match self.relation {
            Relation::Recycled | Relation::TwoSeeds => shown(&self.from),
            _ => format!("{}–{}", shown(&self.from), shown(&self.to)),
        }
    }

    /// What `value` reads from the pairs of this kind, over units, tasks averaged.
    pub fn sample(
        &self,
        evidence: &Evidence,
        method: &str,
        value: impl Fn(&Pair) -> Result<f64>,
    ) -> Result<crate::claims::Sample> {
        let of = |place: &Place| {
            let pairs = evidence.pairs(place, method, self.relation).into_iter();
            pairs
                .filter(|pair| pair.key.from.version == self.from && pair.key.to.version == self.to)
                .collect::<Vec<_>>()
        };
        let mean = |place: &Place| stats::mean(&of(place).into_iter().map(&value).collect::<Result<Vec<_>>>()?);
        evidence.sample_where(|place| !of(place).is_empty(), mean)
    }
}

/// The kinds of pairs that were compared, adjacent versions first.
pub(crate) fn kinds(evidence: &Evidence) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for pair in evidence.plan.pairs() {
        let known = |kind: &Kind| {
            (kind.relation, &kind.from, &kind.to) == (pair.relation, &pair.from.version, &pair.to.version)
        };
        if !kinds.iter().any(known) {
            kinds.push(Kind { relation: pair.relation, from: pair.from.version, to: pair.to.version });
        }
    }
    kinds.sort_by(|a, b| (a.relation, &a.from).cmp(&(b.relation, &b.from)));
    kinds
}

pub(super) fn paths(evidence: &Evidence) -> Result<Table> {
    let columns = vec![
        Column::text("method"),
        Column::text("pair"),
        Column::text("relation"),
        Column::number("accuracy barrier", 3),
        Column::number("loss barrier", 3),
        Column::number("accuracy at the ends", 3),
        Column::number("lowest on the way", 3),
        Column::number("distance", 1),
        Column::number("cosine of what tuning changed", 2),
    ];
    let caption = format!(
        "{} Straight paths of {} points between tuned models, on test, {}. Ends of adjacent, distant and control pairs are coupled: their heads, \
         modules and data order were drawn alike. Two seeds of one version: each seed with the next, so one pair fewer than seeds, and of three \
         or more seeds neighbouring pairs share a model. Distance: L2 over backbone and modules. A dash: not measurable, as where a loss is not \
         finite on the way.",
        evidence.basis(),
        evidence.plan.profile.pilot.points,
        evidence.compared_on()
    );
    let mut table = Table::new("paths", "Straight paths between tuned versions", columns).caption(caption);
    let accuracies = |pair: &Pair| -> Result<Vec<f64>> {
        pair.path.iter().map(|step| step.accuracy.context("a loss is not finite")).collect()
    };
    for method in evidence.methods() {
        for kind in kinds(evidence) {
            let read = |value: &dyn Fn(&Pair) -> Result<f64>| cell_where(kind.sample(evidence, method, value));
            table.push([
                Cell::from(method),
                kind.name().into(),
                kind.relation.name().into(),
                read(&accuracy_barrier),
                read(&loss_barrier),
                read(&|pair| {
                    let all = accuracies(pair)?;
                    Ok((all.first().context("no points")? + all.last().context("no points")?) / 2.0)
                }),
                read(&|pair| Ok(accuracies(pair)?.into_iter().fold(f64::INFINITY, f64::min))),
                read(&|pair| Ok(pair.distance)),
                read(&|pair| pair.cosine.context("nothing was tuned at one end")),
            ]);
        }
    }
    Ok(table)
}

pub(super) fn heads(evidence: &Evidence) -> Result<Table> {
    let columns = vec![
        Column::text("method"),
        Column::text("pair"),
        Column::text("relation"),
        Column::number("corresponding", 3),
        Column::number("mismatched", 3),
        Column::number("mismatched in its layer", 3),
        Column::number("gap", 3),
        Column::number("found by matching", 2),
        Column::number("CKA, last layer", 3),
        Column::number("untuned: corresponding", 3),
        Column::number("untuned: mismatched", 3),
    ];
    let caption = format!(
        "{} 1 − Jensen–Shannon divergence (base 2) of attention on up to {} test texts a task, {}. Found by matching: share of heads whose \
         partner in the best one-to-one matching is the corresponding head. CKA: debiased, linear, over tokens. Untuned: the versions \
         themselves, on the same texts.",
        evidence.basis(),
        evidence.plan.profile.pilot.texts,
        evidence.compared_on()
    );
    let mut table = Table::new("heads", "Do tuned versions look at the same words?", columns).caption(caption);
    for method in evidence.methods() {
        for kind in kinds(evidence) {
            let read = |value: &dyn Fn(&Pair) -> Result<f64>| cell_where(kind.sample(evidence, method, value));
            let untuned = |at: usize| {
                // Measured once a lineage, with the first method.
                let first = evidence.methods()[0];
                let values = evidence.places().flat_map(|place| evidence.pairs(place, first, kind.relation));
                let of_kind =
                    values.filter(|pair| pair.key.from.version == kind.from && pair.key.to.version == kind.to);
                let values: Vec<f64> = of_kind.filter_map(|pair| pair.untuned.map(|both| both[at])).collect();
                stats::mean(&values).map_or(Cell::Empty(()), Cell::from)
            };
            table.push([
                Cell::from(method),
                kind.name().into(),
                kind.relation.name().into(),
                read(&|pair| Ok(pair.corresponding)),
                read(&|pair| Ok(pair.mismatched)),
                read(&|pair| pair.mismatched_in_layer.context("one head a layer")),
                read(&gap),
                read(&|pair| Ok(pair.matched_share)),
                read(&|pair| pair.cka.context("hidden states do not vary")),
                untuned(0),
                untuned(1),
            ]);
        }
    }
    Ok(table)
}
