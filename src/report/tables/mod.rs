//! The tables of a report.

mod baselines;
mod cells;
mod compatibility;
mod few_shot;
mod initialization;
mod pilots;
mod worlds;

use anyhow::Result;

pub(super) use cells::cell_where;
pub(super) use pilots::{Kind, kinds};

use crate::claims::{Claim, Evidence};
use crate::display::Table;

/// Compatibility, controls, flips, paths, heads, initialization, few-shot, baselines, forgetting, variance, worlds; why one of them cannot
/// be made is added to `problems`.
pub(super) fn tables(evidence: &Evidence, claims: &[Claim], problems: &mut Vec<String>) -> Vec<Table> {
    let tables = [
        compatibility::compatibility(evidence).map(Some),
        compatibility::controls(evidence).map(Some),
        compatibility::flips(evidence).map(Some),
        pilots::paths(evidence).map(Some),
        pilots::heads(evidence).map(Some),
        initialization::initialization(evidence).map(Some),
        initialization::rates(evidence),
        few_shot::few_shot(evidence).map(Some),
        baselines::baselines(evidence, false).map(Some),
        baselines::baselines(evidence, true).map(Some),
        Ok(Some(baselines::forgetting(evidence))),
        Ok(worlds::variance(evidence, claims)),
        worlds::worlds(evidence.experiment),
    ];
    kept(tables, "a table", problems).into_iter().flatten().collect()
}

/// What could be made; the reasons why the rest could not are added to `problems`.
pub(super) fn kept<T>(made: impl IntoIterator<Item = Result<T>>, what: &str, problems: &mut Vec<String>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in made {
        match one {
            Ok(one) => kept.push(one),
            Err(error) => problems.push(format!("{what} is missing: {error:#}")),
        }
    }
    kept
}
