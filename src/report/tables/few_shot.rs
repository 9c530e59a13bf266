//! C5 and C6 in a table: few labels on the upgraded version.

use anyhow::Result;

use super::cells::{cell, cell_where};
use crate::claims::{CLAIMED, Evidence, VARIANTS, old_model};
use crate::display::{Cell, Column, Table};
use crate::experiment::results::Recipe;
use crate::experiment::{BAG_OF_WORDS, shown};

/// What a row's run is, task by task.
type Of<'a> = Box<dyn Fn(&str) -> Recipe + 'a>;

pub(super) fn few_shot(evidence: &Evidence) -> Result<Table> {
    let (tasks, profile) = (evidence.tasks(), &evidence.plan.profile);
    let mut columns = vec![Column::text("method"), Column::text("model")];
    columns.extend(tasks.iter().map(|&task| Column::number(task, 3)));
    columns.push(Column::number("mean", 3));
    let old = evidence.methods().into_iter().map(|method| Ok(format!("{method}: {}", old_model(evidence, method)?)));
    let caption = format!(
        "{} Test accuracy; students on M_1 have {} labelled texts a class, in train and in dev, and the old model, tuned on all labels, as \
         their teacher or start.{} {}.",
        evidence.basis(),
        profile.few_shot.shots,
        if profile.variants && evidence.runs_first_seeds_alone() { " Other losses: first seeds." } else { "" },
        old.collect::<Result<Vec<_>>>()?.join("; ")
    );
    let mut table = Table::new("few-shot", "Few labels on the upgraded version", columns).caption(caption);
    for method in evidence.methods() {
        let words = Recipe { shots: Some(profile.few_shot.shots), ..Recipe::conventional(BAG_OF_WORDS) };
        let mut rows: Vec<(String, &str, Of)> = vec![
            ("the old model, kept as it is: M_0 ⊕ Δ_0".into(), method, Box::new(|_| Recipe::conventional("M0"))),
            ("Δ_0 applied, no training: M_1 ⊕ Δ_0".into(), method, Box::new(|task| Recipe::applied("M1", task))),
        ];
        for (way, name) in CLAIMED.into_iter().chain(VARIANTS) {
            rows.push((name.into(), method, Box::new(move |task| evidence.student("M1", task, way))));
        }
        rows.push(("bag of words".into(), BAG_OF_WORDS, Box::new(move |_| words.clone())));
        for (label, by, of) in rows {
            let over = tasks.iter().map(|&task| vec![task]).chain([tasks.clone()]);
            let scores: Vec<Cell> = over.map(|over| cell_where(evidence.accuracy_beside(by, &over, &of))).collect();
            if scores.iter().any(|score| !matches!(score, Cell::Empty(_))) {
                table.push([Cell::from(method), label.into()].into_iter().chain(scores));
            }
        }
        for task in &profile.tasks {
            for version in task.targets[1..].iter().map(|target| format!("M{target}")) {
                for (way, name) in CLAIMED {
                    let of = |task: &str| evidence.student(&version, task, way);
                    let score = cell(&evidence.accuracy(method, &[&task.name], of)?)?;
                    let label = format!("{name}, on {} (own domain)", shown(&version));
                    let cells =
                        tasks.iter().map(|other| if **other == task.name { score.clone() } else { Cell::Empty(()) });
                    table.push([Cell::from(method), label.into()].into_iter().chain(cells));
                }
            }
        }
    }
    Ok(table)
}
