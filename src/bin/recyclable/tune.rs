//! `recyclable tune`: adapted weights for a task, from a fresh start.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use recyclable::display::Progress;
use recyclable::lineage::Lineage;
use recyclable::train::{Start, tune};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::settings::{MethodArgs, Selection, TaskArgs, Training, tune_config};
use crate::spec::{Machine, RunArgs, fill, required};
use crate::tuned::{Tuned, is_due, keep_best};

/// Tune a version on a task, from a fresh start
#[derive(clap::Args)]
pub struct Tune {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    spec: Spec,
}

#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Spec {
    /// The folder that keeps versions and adapted weights
    #[arg(long, value_name = "DIR")]
    lineage: Option<PathBuf>,
    /// The version to tune
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// What the weights are called [default: TASK.METHOD.SEED]
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: Training,
    #[command(flatten)]
    #[serde(flatten)]
    selection: Selection,
    #[command(flatten)]
    #[serde(flatten)]
    machine: Machine,
}

pub fn run(arguments: &Tune) -> Result<ExitCode> {
    let mut spec = arguments.run.merged(&arguments.spec)?;
    let device = spec.machine.prepare()?;
    let root = required(&spec.lineage, "lineage")?;
    let name = required(&spec.version, "version")?;
    let method = spec.method.method()?;
    let lineage = Lineage::existing(&root)?;
    let base = lineage.version(&name)?;
    let config = tune_config(method, &mut spec.training, &mut spec.selection, &base)?;
    let task = spec.task.load(config.seed)?;
    let id = fill(&mut spec.id, format!("{}.{}.{}", task.name, config.method.name(), config.seed));
    let mut inputs = spec.task.inputs()?;
    inputs.insert(name.clone(), base.fingerprint()?);
    let (folder, state) = arguments.run.open(&root, &format!("tune.{name}.{id}"), &spec, &inputs)?;
    let tuned = Tuned { run: &arguments.run, lineage: &lineage, version: &name, base: &base, id: &id, task: &task };
    if !is_due(&tuned, &folder, &state)? {
        return Ok(ExitCode::SUCCESS);
    }
    folder.begin(&spec, &inputs)?;
    let progress = Progress::new(format!("tune {id} on {name}"), config.optimisation.steps);
    let run = keep_best(tune(&base, &task, Start::Fresh, &config, device, &progress), &folder)?;
    tuned.finish(run, &config, device, &progress, &folder, json!({"start": "fresh"}))
}
