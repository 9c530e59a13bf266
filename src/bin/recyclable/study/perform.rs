//! How a study is made and where its results go.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use recyclable::analysis::{CurveConfig, PlaneConfig};
use recyclable::device::{default_device, device};
use recyclable::display::{Figure, Progress, Table};
use recyclable::experiment::studies::{Chosen, Studies};
use recyclable::experiment::sweep::{SweepConfig, sweep};
use recyclable::experiment::{Compute, Profile};
use recyclable::files::{read_json, write_atomic, write_json};
use recyclable::report::report_sweep;
use recyclable::train::Optimisation;
use serde::Serialize;
use serde_json::json;
use tch::Device;

use super::{Common, Study, What};

impl Common {
    fn open(&self) -> Result<(Studies, Output)> {
        let device = chosen_device(&self.device)?;
        tch::set_num_threads(threads(self.threads)? as i32);
        let (task, method) = (self.task.clone(), self.method.clone());
        let chosen = Chosen { task, method, seed: self.seed, lineage: self.lineage };
        let studies = Studies::open(&self.run, &chosen, device)?;
        let folder = self.out.clone().unwrap_or_else(|| studies.folder(&self.run));
        let basis = studies.basis();
        Ok((studies, Output { folder, basis }))
    }
}

fn chosen_device(asked: &Option<String>) -> Result<Device> {
    asked.as_deref().map_or_else(default_device, device)
}

fn threads(asked: Option<usize>) -> Result<usize> {
    let threads = asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    ensure!(threads > 0, "--threads 0: at least one thread computes");
    Ok(threads)
}

/// Where a study's results go, and what they rest on.
struct Output {
    folder: PathBuf,
    basis: String,
}

impl Output {
    fn show(&self, name: &str, value: &impl Serialize, tables: Vec<Table>, figures: Vec<Figure>) -> Result<ExitCode> {
        let value = json!({"basis": self.basis, "commit": env!("RECYCLABLE_COMMIT"), "result": value});
        write_json(self.folder.join(format!("{name}.json")), &value)?;
        for (at, figure) in figures.into_iter().enumerate() {
            let id = if at == 0 { name.to_string() } else { format!("{name}-{}", at + 1) };
            let caption = format!("{} {}", figure.caption, self.basis).trim().to_string();
            let figure = Figure { id, caption, ..figure };
            write_atomic(self.folder.join(format!("{}.svg", figure.id)), figure.to_svg()?.as_bytes())?;
            write_atomic(self.folder.join(format!("{}.png", figure.id)), &figure.to_png()?)?;
        }
        for table in tables {
            let caption = format!("{} {}", table.caption, self.basis).trim().to_string();
            crate::print(&format!("{}\n", table.caption(caption).to_text()))?;
        }
        crate::print(&format!("Numbers and figures: {}\n", self.folder.join(format!("{name}.*")).display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

pub fn run(arguments: &Study) -> Result<ExitCode> {
    match &arguments.what {
        What::Triangle(common) => {
            let (studies, output) = common.open()?;
            let found = studies.triangle()?;
            output.show("triangle", &found, vec![found.table(), found.flips_table()], vec![found.figure()])
        }
        What::Inside { common, to, points } => {
            let (studies, output) = common.open()?;
            let progress = Progress::new(format!("upgrade to M{to}"), studies.upgrade_steps());
            let found = studies.inside(*to, *points, &progress)?;
            progress.finish("");
            output.show(&format!("inside-M{to}"), &found, vec![found.table()], vec![found.figure()])
        }
        What::Scale { common, to, alphas } => {
            let (studies, output) = common.open()?;
            let found = studies.scale(to, alphas)?;
            output.show(&format!("scale-{to}"), &found, vec![found.table()], vec![found.figure()])
        }
        What::Path { common, ends, points } => {
            let (studies, output) = common.open()?;
            let found = studies.path(&ends.from, &ends.to, *points)?;
            let name = format!("path-{}-{}", ends.from, ends.to);
            output.show(&name, &found, vec![found.table()], vec![found.figure(), found.loss_figure()])
        }
        What::Curve { common, ends, points, route, steps, learning_rate } => {
            let (studies, output) = common.open()?;
            let defaults = CurveConfig::default();
            let optimisation =
                Optimisation { steps: *steps, learning_rate: *learning_rate, ..defaults.optimisation.clone() };
            let config = CurveConfig { route: *route, optimisation, seed: common.seed as u64, ..defaults };
            let progress = Progress::new("train the curve", *steps);
            let line = studies.path(&ends.from, &ends.to, *points)?;
            let (curve, found) = studies.curve(&ends.from, &ends.to, &config, *points, &progress)?;
            progress.finish("");
            let name = format!("curve-{}-{}-{}", format!("{route:?}").to_lowercase(), ends.from, ends.to);
            let figures = vec![found.beside(&line, "test")?, found.loss_beside(&line, "test")?];
            let value = json!({"line": line, "curve": found, "losses": curve.losses});
            output.show(&name, &value, vec![found.table()], figures)
        }
        What::Plane { common, through, resolution, texts } => {
            let (studies, output) = common.open()?;
            let names: [&str; 3] = match through.as_slice() {
                [a, b, c] => [a, b, c],
                _ => anyhow::bail!("--through names {} versions: a plane goes through three", through.len()),
            };
            let config = PlaneConfig { resolution: *resolution, ..PlaneConfig::default() };
            let found = studies.plane(names, &config, *texts)?;
            output.show(
                &format!("plane-{}", through.join("-")),
                &found,
                Vec::new(),
                vec![found.figure(), found.loss_figure()],
            )
        }
        What::Heads { common, ends, texts } => {
            let (studies, output) = common.open()?;
            let (heads, layers) = studies.heads(&ends.from, &ends.to, *texts)?;
            let name = format!("heads-{}-{}", ends.from, ends.to);
            let figures = vec![heads.matrix_figure(&ends.from, &ends.to), heads.figure(), layers.figure()];
            let value = json!({"heads": heads, "layers": layers});
            output.show(&name, &value, vec![heads.table(), layers.table()], figures)
        }
        What::Attention { common, version, text, layer, head } => {
            let (studies, output) = common.open()?;
            let first = studies.task()?.dev.first().map(|example| example.text.clone());
            let text = text.clone().or(first).context("the task has no dev text: give one with --text")?;
            let found = studies.attention(version, &text)?;
            let name = format!("attention-{version}-{layer}-{head}");
            output.show(&name, &found, vec![found.table(*layer, *head)?], vec![found.figure(version, *layer, *head)?])
        }
        What::Distance { common, ends } => {
            let (studies, output) = common.open()?;
            let found = studies.distances(&ends.from, &ends.to)?;
            let (from, to) = (&ends.from, &ends.to);
            let mut tables = vec![titled(found.versions.table(), format!("Versions: from {from} (a) to {to} (b)"))];
            let others = [
                (&found.deltas, format!("What was tuned on {from} (a) and on {to} (b)")),
                (&found.delta_and_upgrade, format!("Δ of {from} (a) and the way from {from} to {to} (b)")),
            ];
            tables.extend(others.into_iter().filter_map(|(found, title)| Some(titled(found.as_ref()?.table(), title))));
            output.show(&format!("distance-{from}-{to}"), &found, tables, Vec::new())
        }
        What::Sweep { out, spec, distances, new_words, tasks, lineages, seeds, precision, device, threads: asked } => {
            let profile = match spec {
                Some(path) => read_json(path)?,
                None => Profile::world(),
            };
            let profile = Profile { precision: precision.unwrap_or(profile.precision), ..profile };
            let place = Compute { device: chosen_device(device)?, threads: threads(*asked)? };
            let usual = SweepConfig::default();
            let config = SweepConfig {
                distances: given(distances, usual.distances),
                new_words: given(new_words, usual.new_words),
                tasks: given(tasks, usual.tasks),
                lineages: lineages.unwrap_or(usual.lineages),
                seeds: seeds.unwrap_or(usual.seeds),
            };
            let report = report_sweep(&sweep(&profile, &config, place, out)?, out)?;
            let place = out.join("sweep.md");
            crate::print(&format!("{}\nTables and pictures: {}\n", report.table.to_text(), place.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A list that was given, or the usual one.
fn given<T: Clone>(asked: &[T], usual: Vec<T>) -> Vec<T> {
    if asked.is_empty() { usual } else { asked.to_vec() }
}

fn titled(table: Table, title: String) -> Table {
    Table { title, ..table }
}
