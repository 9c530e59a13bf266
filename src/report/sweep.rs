//! The phase pictures of a sweep: where outdated weights keep working, and where they are overtaken.

use std::path::Path;

use anyhow::Result;

use super::tables::cell_where;
use crate::claims::{Evidence, Race, Sample, Shares};
use crate::display::{Axis, Cell, Column, Field, Figure, Table};
use crate::experiment::results::{Recipe, Start};
use crate::experiment::sweep::{Setting, Sweep};
use crate::files::write_atomic;
use crate::stats;

/// The tables and figures of a sweep.
#[derive(Clone, Debug)]
pub struct SweepReport {
    /// Every setting, task and method.
    pub table: Table,
    /// For every method the retained share, the ratio of updates and what is gained in the end, over both dials.
    pub figures: Vec<Figure>,
}

/// What is read from a setting.
#[derive(Clone, Copy)]
enum Number {
    /// r of Δ_0 on M_1.
    Retained,
    /// (u_recycled + 1) ÷ (u_conventional + 1), from this start.
    Ratio(Start),
    /// Test accuracy in the end, from this start − conventional.
    Gain(Start),
}

impl Number {
    fn sample(self, setting: &Setting, sweep: &Sweep, method: &str, tasks: &[&str]) -> Result<Sample> {
        let evidence = Evidence::on(&sweep.experiment, setting.plan.clone());
        let init = |task: &str, start| Recipe::initialized("M1", task).from(start);
        match self {
            Number::Retained => Shares { evidence: &evidence, method, start: Start::Delta, version: "M1" }.over(tasks),
            Number::Ratio(start) => evidence.sample(|place| {
                let races = tasks.iter().map(|task| evidence.race(place, method, task, &init(task, start)));
                stats::mean(&races.map(|race| Ok(Race::log_ratio(&race?))).collect::<Result<Vec<_>>>()?)
            }),
            Number::Gain(start) => evidence
                .accuracy(method, tasks, |task| init(task, start))?
                .minus(&evidence.accuracy(method, tasks, |_| Recipe::conventional("M1"))?),
        }
    }

    /// The mean, back from the logarithm where it is one.
    fn mean(self, setting: &Setting, sweep: &Sweep, method: &str, tasks: &[&str]) -> Option<f64> {
        let mean = stats::mean(&self.sample(setting, sweep, method, tasks).ok()?.values).ok()?;
        Some(if matches!(self, Number::Ratio(_)) { mean.exp() } else { mean })
    }
}

/// A method's name for readers.
fn named(method: &str) -> &str {
    if method == "matching" { "full, embeddings frozen" } else { method }
}

impl SweepReport {
    /// What a sweep found.
    pub fn of(sweep: &Sweep) -> Result<SweepReport> {
        Ok(SweepReport { table: table(sweep)?, figures: figures(sweep)? })
    }

    /// Writes `sweep.md` and the figures into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut text = "# Where outdated weights keep working, and where they are overtaken\n".to_string();
        for figure in &self.figures {
            write_atomic(folder.join(format!("figures/{}.svg", figure.id)), figure.to_svg()?.as_bytes())?;
            write_atomic(folder.join(format!("figures/{}.png", figure.id)), &figure.to_png()?)?;
            text += &format!("\n![{}](figures/{}.svg)\n\n*{}*\n", figure.title, figure.id, figure.caption);
        }
        text += &format!("\n{}", self.table.to_markdown());
        write_atomic(folder.join("sweep.md"), text.as_bytes())
    }
}

/// Makes and writes the report of a sweep.
pub fn report_sweep(sweep: &Sweep, folder: &Path) -> Result<SweepReport> {
    let report = SweepReport::of(sweep)?;
    report.write(folder)?;
    Ok(report)
}

fn basis(sweep: &Sweep) -> String {
    sweep
        .settings
        .first()
        .map_or(String::new(), |setting| Evidence::on(&sweep.experiment, setting.plan.clone()).basis())
}

fn table(sweep: &Sweep) -> Result<Table> {
    let columns = vec![
        Column::text("method"),
        Column::text("task"),
        Column::number("new words", 2),
        Column::number("domain distance", 2),
        Column::number("r on M_1", 3),
        Column::number("ratio of updates, Δ_0", 2),
        Column::number("ratio of updates, α·Δ_0", 2),
        Column::number("conventional, test", 3),
        Column::number("Δ_0 − conventional", 3),
        Column::number("α·Δ_0 − conventional", 3),
    ];
    let caption = format!(
        "{} A world for every setting; M_0 is upgraded once, to the new domain. Settings share the random numbers of their lineages, and those of one \
         distance the models themselves, so that neighbours move together. α = {}. Ratios of updates are geometric means. A dash: tuned M_0 does \
         not clearly beat the majority class.",
        basis(sweep),
        sweep.experiment.profile.shrink
    );
    let mut table =
        Table::new("sweep", "Compatibility and convergence over two dials of the world", columns).caption(caption);
    for method in sweep.experiment.profile.method_names() {
        for task in &sweep.config.tasks {
            for setting in &sweep.settings {
                let tasks = [task.as_str()];
                let number = |number: Number| cell_where(number.sample(setting, sweep, method, &tasks));
                let ratio = |start| Cell::from(Number::Ratio(start).mean(setting, sweep, method, &tasks));
                let evidence = Evidence::on(&sweep.experiment, setting.plan.clone());
                table.push([
                    Cell::from(named(method)),
                    task.as_str().into(),
                    setting.new_words.into(),
                    setting.distance.into(),
                    number(Number::Retained),
                    ratio(Start::Delta),
                    ratio(Start::ShrunkDelta),
                    cell_where(evidence.accuracy(method, &tasks, |_| Recipe::conventional("M1"))),
                    number(Number::Gain(Start::Delta)),
                    number(Number::Gain(Start::ShrunkDelta)),
                ]);
            }
        }
    }
    Ok(table)
}

fn figures(sweep: &Sweep) -> Result<Vec<Figure>> {
    let tasks: Vec<&str> = sweep.config.tasks.iter().map(String::as_str).collect();
    let pictures = [
        ("retained", "Does Δ_0 keep working on M_1?", "retained share r", Number::Retained),
        ("ratio", "Is recycled tuning faster?", "updates, recycled ÷ conventional", Number::Ratio(Start::Delta)),
        ("gain", "Does it end as high?", "test accuracy, recycled − conventional", Number::Gain(Start::Delta)),
        (
            "gain-shrunk",
            "Does a shrunk start end as high?",
            "test accuracy, α·Δ_0 − conventional",
            Number::Gain(Start::ShrunkDelta),
        ),
    ];
    let mut figures = Vec::new();
    for (id, question, label, number) in pictures {
        let of_method = |method: &'static str| -> (&'static str, Vec<Vec<Option<f64>>>) {
            let of_row = |words: &f64| {
                let settings = sweep.settings.iter().filter(|setting| setting.new_words == *words);
                settings.map(|setting| number.mean(setting, sweep, method, &tasks)).collect::<Vec<_>>()
            };
            (method, sweep.config.new_words.iter().rev().map(of_row).collect())
        };
        let fields: Vec<_> = sweep.experiment.profile.method_names().into_iter().map(of_method).collect();
        // One scale for all methods, so that their pictures can be compared.
        let measured: Vec<f64> = fields.iter().flat_map(|(_, rows)| rows.iter().flatten().flatten().copied()).collect();
        let ends = (
            measured.iter().copied().fold(f64::INFINITY, f64::min),
            measured.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        );
        for (method, rows) in fields {
            // Where nothing could be measured, as where tuning taught nothing, the table says so.
            if rows.iter().flatten().all(Option::is_none) {
                continue;
            }
            let mut field = Field::new(label, rows).show_values();
            if ends.0 < ends.1 {
                field = field.range(ends.0, ends.1);
            }
            let share = |values: &[f64]| values.iter().map(|value| format!("{value}")).collect::<Vec<_>>();
            let x = Axis::new("domain distance").names(share(&sweep.config.distances));
            let mut words = share(&sweep.config.new_words);
            words.reverse();
            let y = Axis::new("new words").names(words);
            let title = format!("{question} ({})", named(method));
            let tasks = sweep.config.tasks.join(", ");
            let caption = format!("{} Averaged over {tasks}. All methods have one scale.", basis(sweep));
            figures.push(Figure::field(format!("sweep-{id}-{method}"), title, x, y, field).caption(caption));
        }
    }
    Ok(figures)
}
