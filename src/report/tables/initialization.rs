//! C4 in tables: tuning upgraded versions with all labels, from recycled weights and from nothing.

use anyhow::{Context, Result};

use super::cells::{cell, cell_where};
use crate::claims::{Evidence, Race, Sample, TARGET_SHARE};
use crate::display::{Cell, Column, Table};
use crate::experiment::Place;
use crate::experiment::results::{Recipe, Start};
use crate::stats;

/// Recycled and conventional tuning of one version: a row each.
struct Rows<'a> {
    evidence: &'a Evidence<'a>,
    method: &'a str,
    label: &'a str,
    tasks: &'a [&'a str],
    version: &'a str,
}

pub(super) fn initialization(evidence: &Evidence) -> Result<Table> {
    let columns = vec![
        Column::text("method"),
        Column::text("tasks"),
        Column::text("on"),
        Column::text("start"),
        Column::number("updates to 95 %", 0),
        Column::number("ratio to conventional", 2),
        Column::number("dev area above conventional", 3),
        Column::number("test accuracy", 3),
    ];
    let profile = &evidence.plan.profile;
    let mut caption = format!(
        "{} Updates until the dev score reaches {:.0} % of conventional tuning's final one, on equal budgets and at the usual learning rate; a \
         run that never gets there counts as twice the budget. The ratio is (u + 1) ÷ (u_conventional + 1), a geometric mean, the area the mean \
         over the budget of the difference on dev. Test accuracy of the weights that dev chose.",
        evidence.basis(),
        100.0 * TARGET_SHARE,
    );
    if profile.variants {
        caption += &format!(" α = {}.", profile.shrink);
    }
    if evidence.runs_first_seeds_alone() && (profile.variants || profile.twice || !profile.sources.is_empty()) {
        caption += " First seeds alone: starts other than Δ_0 of the same task, and all of the first task on M_2.";
    }
    let mut table = Table::new("initialization", "Tuning upgraded versions with all labels", columns).caption(caption);
    let (tasks, first) = (evidence.tasks(), profile.tasks[0].name.as_str());
    let same = |version: &'static str| move |task: &str| Recipe::initialized(version, task);
    for method in evidence.methods() {
        let singles = tasks.iter().map(|task| (*task, vec![*task]));
        for (label, over) in [("all", tasks.clone())].into_iter().chain(singles) {
            let rows = Rows { evidence, method, label, tasks: &over, version: "M1" };
            table.push(rows.conventional()?);
            table.push(rows.recycled("Δ_0, same task", same("M1"))?);
            if profile.variants {
                table.push(rows.recycled("α·Δ_0, shrunk", |task| same("M1")(task).from(Start::ShrunkDelta))?);
            }
        }
        for plan in &profile.tasks {
            for target in &plan.targets[1..] {
                let (version, over) = (format!("M{target}"), [plan.name.as_str()]);
                let rows = Rows { evidence, method, label: &plan.name, tasks: &over, version: &version };
                table.push(rows.conventional()?);
                table.push(rows.recycled("Δ_0, same task", |task| Recipe::initialized(&version, task))?);
            }
        }
        let over = [first];
        for source in &profile.sources {
            let rows = Rows { evidence, method, label: first, tasks: &over, version: "M1" };
            let label = format!("Δ_0, {} task ({})", source.relation, source.task);
            table.push(rows.recycled(&label, |_| Recipe::initialized("M1", &source.task))?);
        }
        if profile.twice {
            let rows = Rows { evidence, method, label: first, tasks: &over, version: "M2" };
            table.push(rows.conventional()?);
            table.push(rows.recycled("Δ_0, same task", same("M2"))?);
            table.push(rows.recycled("Δ_1, conventional", |task| same("M2")(task).tuned_on("M1"))?);
            let twice = |task: &str| same("M2")(task).tuned_on("M1").from(Start::RecycledDelta);
            table.push(rows.recycled("Δ_1, itself recycled", twice)?);
        }
    }
    Ok(table)
}

impl Rows<'_> {
    fn conventional(&self) -> Result<[Cell; 8]> {
        let recipe = |_: &str| Recipe::conventional(self.version);
        let updates = self.races(recipe, |race| race.conventional as f64)?;
        let accuracy = self.evidence.accuracy_beside(self.method, self.tasks, recipe)?;
        Ok(self.row("conventional", cell(&updates)?, 1.0.into(), Cell::Empty(()), cell(&accuracy)?))
    }

    fn recycled(&self, start: &str, recipe: impl Fn(&str) -> Recipe) -> Result<[Cell; 8]> {
        let updates = self.races(&recipe, |race| race.recycled as f64)?;
        let ratio = geometric(&self.races(&recipe, Race::log_ratio)?)?;
        let area = self.races(&recipe, |race| race.area)?;
        let accuracy = self.evidence.accuracy_beside(self.method, self.tasks, &recipe)?;
        Ok(self.row(start, cell(&updates)?, ratio, cell(&area)?, cell(&accuracy)?))
    }

    fn row(&self, start: &str, updates: Cell, ratio: Cell, area: Cell, accuracy: Cell) -> [Cell; 8] {
        let on = crate::experiment::shown(self.version);
        [self.method.into(), self.label.into(), on.into(), start.into(), updates, ratio, area, accuracy]
    }

    /// What `read` finds in the races of those repetitions that were run.
    fn races(&self, recipe: impl Fn(&str) -> Recipe, read: impl Fn(&Race) -> f64) -> Result<Sample> {
        let at = |place: &Place| {
            let race = |task: &&str| self.evidence.race(place, self.method, task, &recipe(task));
            let races = self.tasks.iter().map(|task| Ok(read(&race(task)?)));
            stats::mean(&races.collect::<Result<Vec<_>>>()?)
        };
        let was_run = |place: &Place| {
            self.tasks.iter().all(|task| self.evidence.run(place, self.method, task, &recipe(task)).is_ok())
        };
        self.evidence.sample_where(was_run, at)
    }
}

/// A geometric mean with its interval, from logarithms.
fn geometric(logarithms: &Sample) -> Result<Cell> {
    let mut interval = logarithms.interval()?;
    interval.mean = interval.mean.exp();
    (interval.lo, interval.hi) = (interval.lo.map(f64::exp), interval.hi.map(f64::exp));
    Ok(Cell::from(&interval))
}

/// Test accuracy at every learning rate, and which one dev prefers; nothing where there is one.
pub(super) fn rates(evidence: &Evidence) -> Result<Option<Table>> {
    let profile = &evidence.plan.profile;
    if profile.rates.len() < 2 {
        return Ok(None);
    }
    let mut columns = vec![Column::text("method"), Column::text("task"), Column::text("start")];
    columns.extend(profile.rates.iter().map(|rate| Column::number(format!("× {rate}"), 3)));
    columns.push(Column::text("dev prefers"));
    let longer = match profile.further_updates {
        1.0 => String::new(),
        factor => format!(", with {factor} times the updates at all but the usual one"),
    };
    let caption = format!(
        "{} Test accuracy on M_1 of the weights that dev chose, at multiples of the usual learning rate{longer}. The rate is chosen by the mean \
         of the best dev scores.",
        evidence.basis()
    );
    let mut table = Table::new("rates", "Learning rates", columns).caption(caption);
    for method in evidence.methods() {
        for task in evidence.tasks() {
            for (label, recipe) in
                [("conventional", Recipe::conventional("M1")), ("Δ_0, same task", Recipe::initialized("M1", task))]
            {
                let mut row = vec![Cell::from(method), task.into(), label.into()];
                let scores = (0..profile.rates.len()).map(|rate| recipe.clone().at_rate(rate));
                row.extend(scores.map(|recipe| cell_where(evidence.accuracy(method, &[task], |_| recipe.clone()))));
                let chosen = evidence.rate_by_dev(method, task, &recipe)?;
                let factor = profile.rates.get(chosen).context("a learning rate")?;
                row.push(format!("× {factor}").into());
                table.push(row);
            }
        }
    }
    Ok(Some(table))
}
