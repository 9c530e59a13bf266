//! What other classifiers reach with all labels, and what each version knows of each domain.

use anyhow::Result;

use super::cells::cell_where;
use crate::claims::{Evidence, Sample};
use crate::display::{Cell, Column, Table};
use crate::experiment::results::Recipe;
use crate::experiment::{BAG_OF_WORDS, MAJORITY, Place, UNTRAINED};
use crate::stats;

/// What a row's run is, task by task.
type Of<'a> = Box<dyn Fn(&str) -> Recipe + 'a>;

pub(super) fn baselines(evidence: &Evidence, macro_f1: bool) -> Result<Table> {
    let (tasks, profile) = (evidence.tasks(), &evidence.plan.profile);
    let mut columns = vec![Column::text("classifier")];
    columns.extend(tasks.iter().map(|&task| Column::number(task, 3)));
    columns.push(Column::number("mean", 3));
    let (id, title, what) = match macro_f1 {
        false => ("baselines", "With all labels: accuracy", "accuracy"),
        true => ("baselines-macro-f1", "With all labels: macro-F1", "macro-F1"),
    };
    let has_own = profile.tasks.iter().any(|task| task.targets.len() > 1);
    let caption = format!(
        "{} Test {what}, at most {} training texts a task{}. The untrained network is run on the first lineage, and what draws nothing at \
         random once.",
        evidence.basis(),
        profile.limits.train,
        if has_own { "; the own version is the one whose domain the task is from" } else { "" }
    );
    let mut table = Table::new(id, title, columns).caption(caption);
    let own = |task: &str| {
        let plan = profile.tasks.iter().find(|plan| plan.name == task);
        plan.and_then(|plan| plan.targets.last().copied()).unwrap_or(1)
    };
    let first = evidence.methods()[0];
    let mut rows: Vec<(String, &str, Of)> = vec![
        ("majority class".into(), MAJORITY, Box::new(|_| Recipe::conventional(MAJORITY))),
        ("TF-IDF + logistic regression".into(), BAG_OF_WORDS, Box::new(|_| Recipe::conventional(BAG_OF_WORDS))),
        (format!("untrained network, {first}"), first, Box::new(|_| Recipe::conventional(UNTRAINED))),
    ];
    for method in evidence.methods() {
        rows.push((format!("M_0, {method}"), method, Box::new(|_| Recipe::conventional("M0"))));
        rows.push((format!("M_1, {method}"), method, Box::new(|_| Recipe::conventional("M1"))));
        if has_own {
            let of = Box::new(move |task: &str| Recipe::conventional(&format!("M{}", own(task))));
            rows.push((format!("own version (or M_1), {method}"), method, of));
        }
    }
    for (label, method, of) in rows {
        let over = tasks.iter().map(|&task| vec![task]).chain([tasks.clone()]);
        let scores = over.map(|over| cell_where(score(evidence, method, &over, &of, macro_f1)));
        table.push([Cell::from(label)].into_iter().chain(scores));
    }
    Ok(table)
}

fn score(evidence: &Evidence, method: &str, tasks: &[&str], of: &Of, macro_f1: bool) -> Result<Sample> {
    let run = |place: &Place, task: &str| evidence.run(place, method, task, &of(task));
    evidence.sample_where(
        |place| tasks.iter().all(|task| run(place, task).is_ok()),
        |place| {
            let scores = tasks.iter().map(|task| {
                let run = run(place, task)?;
                Ok(if macro_f1 { run.macro_f1 } else { run.accuracy })
            });
            stats::mean(&scores.collect::<Result<Vec<_>>>()?)
        },
    )
}

pub(super) fn forgetting(evidence: &Evidence) -> Table {
    let domains = &evidence.experiment.domains;
    let mut columns = vec![Column::text("version"), Column::text("pre-trained on")];
    columns.extend(domains.iter().map(|name| Column::number(name.as_str(), 3)));
    columns.extend([Column::number("seconds", 0), Column::number("tokens/s", 0)]);
    let over =
        if evidence.plan.profile.lineages > 1 { ", averaged over lineages with intervals over them" } else { "" };
    let caption = format!(
        "Masked-LM loss (nats a masked token) on held-out texts of every domain after every stage{over}; time is what the version's own pre-training took, side by side with others."
    );
    let mut table = Table::new("forgetting", "What each version knows of each domain", columns).caption(caption);
    let of_data: Vec<_> = evidence.results().versions.iter().filter(|row| row.key.data == evidence.plan.name).collect();
    let versions: std::collections::BTreeSet<&str> = of_data.iter().map(|row| row.key.version.as_str()).collect();
    for version in versions {
        let rows: Vec<_> = of_data.iter().filter(|row| row.key.version == version).collect();
        let mean = |values: Vec<f64>| match stats::t_interval(&values) {
            Ok(interval) => Cell::from(&interval),
            Err(_) => Cell::Empty(()),
        };
        let loss =
            |domain: &String| mean(rows.iter().filter(|row| row.key.domain == *domain).map(|row| row.loss).collect());
        let average = |values: Vec<f64>| stats::mean(&values).map_or(Cell::Empty(()), Cell::from);
        let corpus = rows.first().map_or("", |row| row.corpus.as_str());
        let mut row = vec![Cell::from(crate::experiment::shown(version)), corpus.into()];
        row.extend(domains.iter().map(loss));
        row.push(average(rows.iter().map(|row| row.seconds).collect()));
        row.push(average(rows.iter().map(|row| row.tokens_per_second).collect()));
        table.push(row);
    }
    table
}
