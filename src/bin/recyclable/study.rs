//! `recyclable study`: what `reproduce` does not do by default, on the versions of a finished run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use recyclable::analysis::{CurveConfig, PlaneConfig, Route};
use recyclable::device::{default_device, device};
use recyclable::display::{Figure, Progress, Table};
use recyclable::experiment::studies::{Chosen, Studies};
use recyclable::experiment::{Compute, Profile, sweep::sweep};
use recyclable::files::{read_json, write_atomic, write_json};
use recyclable::train::Optimisation;
use serde::Serialize;
use serde_json::json;
use tch::Device;

/// Look closer at a finished run: paths, curves, planes, heads, distances, the inside of an upgrade, the world's dial
///
/// Versions are named M0, M1, …, IND; M1+recycled are weights started from Δ_0 (where the run recycled to that version), M1+seed1
/// those of another seed. Tables are printed; figures (SVG and PNG) and numbers (JSON) go to a folder in RUN/studies, or to --out. A run
/// of real text names its data folder as it was called: study it from the same working directory.
#[derive(clap::Args)]
pub struct Study {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Args)]
struct Common {
    /// The folder of a run of `reproduce`
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// A task of the run [default: its first]
    #[arg(long)]
    task: Option<String>,
    /// A tuning method of the run [default: its first]
    #[arg(long)]
    method: Option<String>,
    /// Which of the run's seeds, from 0
    #[arg(long, default_value_t = 0)]
    seed: usize,
    /// Which of the run's lineages, from 0
    #[arg(long, default_value_t = 0)]
    lineage: usize,
    /// Where figures and numbers go [default: RUN/studies/TASK.METHOD.SEED.LINEAGE]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// cpu, cuda, cuda:N or auto; RECYCLABLE_DEVICE by default, else cpu
    #[arg(long)]
    device: Option<String>,
    /// Threads; every core by default
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Subcommand)]
enum What {
    /// Weights of every version on every later one, with negative flips
    Triangle(Common),
    /// Outdated weights along the inside of an upgrade (its pre-training is done again)
    Inside {
        #[command(flatten)]
        common: Common,
        /// The number of the upgraded version
        #[arg(long, default_value_t = 1)]
        to: usize,
        /// Moments of the upgrade, besides its start
        #[arg(long, default_value_t = 10)]
        points: usize,
    },
    /// Scaled weights α·Δ_0 on a version, the best α by line search on dev
    Scale {
        #[command(flatten)]
        common: Common,
        /// The version that the weights are applied to
        #[arg(long, default_value = "M1")]
        to: String,
        /// The α to try
        #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "0,0.25,0.5,0.75,1,1.25,1.5,2")]
        alphas: Vec<f64>,
    },
    /// The straight path between two tuned versions
    Path {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Points along a path, ends included
        #[arg(long, default_value_t = recyclable::analysis::DEFAULT_POINTS)]
        points: usize,
    },
    /// A trained curve between two tuned versions, beside the straight path
    Curve {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Points along a path, ends included
        #[arg(long, default_value_t = recyclable::analysis::DEFAULT_POINTS)]
        points: usize,
        /// bezier or chain
        #[arg(long, value_parser = crate::spec::named::<Route>, default_value = "bezier")]
        route: Route,
        /// Updates of the control point
        #[arg(long, default_value_t = 200)]
        steps: usize,
        /// Peak learning rate
        #[arg(long, default_value_t = 1e-3)]
        learning_rate: f64,
    },
    /// Accuracy and loss over the plane through three tuned versions
    Plane {
        #[command(flatten)]
        common: Common,
        /// Three versions: M0,M1,IND
        #[arg(long, value_delimiter = ',', default_value = "M0,M1,IND")]
        through: Vec<String>,
        /// Points along each side
        #[arg(long, default_value_t = 21)]
        resolution: usize,
        /// Dev texts at most
        #[arg(long, default_value_t = 200)]
        texts: usize,
    },
    /// Attention heads and hidden states of two tuned versions
    Heads {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
        /// Dev texts at most
        #[arg(long, default_value_t = 200)]
        texts: usize,
    },
    /// Where the heads of a tuned version look in a sentence
    Attention {
        #[command(flatten)]
        common: Common,
        /// The version
        #[arg(long, default_value = "M0")]
        version: String,
        /// The sentence [default: the task's first dev text]
        #[arg(long)]
        text: Option<String>,
        /// The layer, from 0
        #[arg(long, default_value_t = 0)]
        layer: usize,
        /// The head, from 0
        #[arg(long, default_value_t = 0)]
        head: usize,
    },
    /// Distances between two versions, and the angle between Δ and the upgrade
    Distance {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ends: Ends,
    },
    /// Compatibility by domain distance: worlds made and pre-trained anew for every setting of the dial
    Sweep {
        /// Where everything goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A profile as JSON (see `reproduce --show`) [default: tiny]
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// Settings of the dial
        #[arg(long, value_delimiter = ',', default_value = "0,0.25,0.5,0.75,1")]
        distances: Vec<f64>,
        /// A task of the world's first upgrade
        #[arg(long, default_value = "bio_topic")]
        task: String,
        /// A tuning method of the profile [default: its first]
        #[arg(long)]
        method: Option<String>,
        /// How often tuning is repeated
        #[arg(long, default_value_t = 3)]
        seeds: usize,
        /// Threads; every core by default
        #[arg(long)]
        threads: Option<usize>,
    },
}

#[derive(clap::Args)]
struct Ends {
    /// The first version
    #[arg(long, default_value = "M0")]
    from: String,
    /// The second version
    #[arg(long, default_value = "M1")]
    to: String,
}

impl Common {
    fn open(&self) -> Result<(Studies, Output)> {
        let device = match &self.device {
            Some(name) => device(name)?,
            None => default_device()?,
        };
        tch::set_num_threads(threads(self.threads)? as i32);
        let (task, method) = (self.task.clone(), self.method.clone());
        let chosen = Chosen { task, method, seed: self.seed, lineage: self.lineage };
        let studies = Studies::open(&self.run, &chosen, device)?;
        let folder = self.out.clone().unwrap_or_else(|| studies.folder(&self.run));
        let basis = studies.basis();
        Ok((studies, Output { folder, basis }))
    }
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
            output.show(&name, &found, vec![found.table(*layer, *head)?], vec![found.figure(*layer, *head)?])
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
        What::Sweep { out, spec, distances, task, method, seeds, threads: asked } => {
            let profile = match spec {
                Some(path) => read_json(path)?,
                None => Profile::tiny(),
            };
            let profile = Profile { seeds: *seeds, ..profile };
            let place = Compute { device: Device::Cpu, threads: threads(*asked)? };
            let names = profile.method_names();
            let method = match method {
                None => 0,
                Some(name) => names
                    .iter()
                    .position(|known| known == name)
                    .with_context(|| format!("the profile has no method {name}: it has {}", names.join(", ")))?,
            };
            let found = sweep(&profile, distances, task, method, place, out)?;
            let output = Output { folder: Path::new(out).to_path_buf(), basis: String::new() };
            output.show("sweep", &found, vec![found.table()?], vec![found.figure()?])
        }
    }
}

fn titled(table: Table, title: String) -> Table {
    Table { title, ..table }
}
