//! C1 in tables: outdated weights on newer versions, beside controls.

use anyhow::Result;

use super::cells::{cell, cell_where};
use crate::analysis::Flips;
use crate::claims::{Evidence, Shares};
use crate::display::{Cell, Column, Table};
use crate::experiment::results::{Recipe, Start};
use crate::experiment::{Place, shown};

/// Δ_0, put on a version untouched; on M_0 it is where it was tuned.
fn applied(version: &str, task: &str) -> Recipe {
    if version == "M0" { Recipe::conventional("M0") } else { Recipe::applied(version, task) }
}

pub(super) fn compatibility(evidence: &Evidence) -> Result<Table> {
    let besides = evidence.plan.placebo().into_iter().chain(evidence.plan.controls()).map(String::from);
    let versions: Vec<String> = ["M0".to_string()].into_iter().chain(evidence.upgraded()).chain(besides).collect();
    let mut columns = vec![Column::text("method"), Column::text("task")];
    columns.extend(versions.iter().map(|name| Column::number(shown(name), 3)));
    columns.push(Column::number("chance", 3));
    let caption = format!(
        "{} Test accuracy of Δ_0, tuned on M_0, applied to every version without any training; chance is the majority class. M_PERM is M_0 in \
         other coordinates (M_PERM-inner: heads and neurons alone){}.",
        evidence.basis(),
        evidence.plan.placebo().map_or("", |_| "; M_PLACEBO is M_0 pre-trained on with the general corpus once more")
    );
    let mut table = Table::new("compatibility", "Outdated weights on newer versions", columns).caption(caption);
    let tasks = evidence.tasks();
    for method in evidence.methods() {
        for (label, over) in tasks.iter().map(|&task| (task, vec![task])).chain([("mean", tasks.clone())]) {
            let mut row = vec![Cell::from(method), Cell::from(label)];
            for version in &versions {
                row.push(cell(&evidence.accuracy(method, &over, |task| applied(version, task))?)?);
            }
            row.push(evidence.mean_chance(&over)?.into());
            table.push(row);
        }
    }
    Ok(table)
}

/// What Δ_0 retains, beside what its head alone, or a random direction of its length, retains.
pub(super) fn controls(evidence: &Evidence) -> Result<Table> {
    let versions = evidence.upgraded();
    let mut columns = vec![Column::text("method"), Column::text("put on the version")];
    columns.extend(versions.iter().map(|name| Column::number(shown(name), 3)));
    let caption = format!(
        "{} Retained share r of accuracies averaged over tasks. A random Δ has, tensor by tensor, the norm of Δ_0, and its head.",
        evidence.basis()
    );
    let mut table = Table::new("controls", "Is it the weights?", columns).caption(caption);
    let tasks = evidence.tasks();
    for method in evidence.methods() {
        for (label, start) in
            [("Δ_0", Start::Delta), ("its head alone", Start::HeadOnly), ("a random Δ", Start::RandomDelta)]
        {
            let shares = versions.iter().map(|version| Shares { evidence, method, start, version }.over(&tasks));
            table.push([Cell::from(method), label.into()].into_iter().chain(shares.map(cell_where)));
        }
    }
    Ok(table)
}

pub(super) fn flips(evidence: &Evidence) -> Result<Table> {
    let columns = vec![
        Column::text("method"),
        Column::text("applied to"),
        Column::number("accuracy", 3),
        Column::number("positive flips", 3),
        Column::number("negative flips", 3),
    ];
    let caption = format!(
        "{} Test texts that Δ_0 gets wrong on M_0 and right on the version (positive), or right on M_0 and wrong on the version (negative), \
         as shares of all texts, averaged over tasks.",
        evidence.basis()
    );
    let mut table = Table::new("flips", "How answers change with the upgrade", columns).caption(caption);
    let tasks = evidence.tasks();
    for method in evidence.methods() {
        for version in evidence.upgraded() {
            let share = |rate: fn(&Flips) -> f64| {
                evidence.sample(|place| {
                    let rates = tasks.iter().map(|task| Ok(rate(&flipped(evidence, place, method, task, &version)?)));
                    crate::stats::mean(&rates.collect::<Result<Vec<_>>>()?)
                })
            };
            table.push([
                Cell::from(method),
                shown(&version).into(),
                cell(&evidence.accuracy(method, &tasks, |task| Recipe::applied(&version, task))?)?,
                cell(&share(Flips::positive_rate)?)?,
                cell(&share(Flips::negative_rate)?)?,
            ]);
        }
    }
    Ok(table)
}

fn flipped(evidence: &Evidence, place: &Place, method: &str, task: &str, version: &str) -> Result<Flips> {
    let right = |recipe: Recipe| {
        let right = evidence.run(place, method, task, &recipe)?.right()?;
        Ok::<_, anyhow::Error>(right.into_iter().map(|right| right > 0.5).collect::<Vec<bool>>())
    };
    Flips::count(&right(Recipe::conventional("M0"))?, &right(Recipe::applied(version, task))?)
}
