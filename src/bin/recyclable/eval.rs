//! `recyclable eval`: how good tuned weights are at a task, or a version at predicting masked words.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use recyclable::display::{Cell, Column, Progress, Table};
use recyclable::experiment::Inputs;
use recyclable::files::{fingerprint, write_atomic};
use recyclable::lineage::Lineage;
use recyclable::model::Version;
use recyclable::text::{Corpus, Task, TaskData};
use recyclable::train::{PretrainConfig, evaluate, held_out_loss};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Device;

use crate::apply::{check_save, prediction_lines, save_classifier};
use crate::settings::{Scoring, check_length};
use crate::spec::{Machine, RunArgs, adapted_name, fill, fingerprints, required};
use crate::tuned::{push_scores, scores_table};

/// Score tuned weights on a task, or a version's masked-LM loss on corpora
#[derive(clap::Args)]
pub struct Eval {
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
    /// The version
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// The weights, tuned on that version (`apply` scores them on another one)
    #[arg(long, value_name = "ID")]
    adapted: Option<String>,
    /// Instead of a task: corpora on which to measure the version's masked-LM loss
    #[arg(long, value_name = "FILE", num_args = 1..)]
    corpus: Option<Vec<PathBuf>>,
    /// Measure on the share of documents that pre-training holds out alone; 1 is all [default: 1]
    #[arg(long, value_name = "SHARE")]
    held_out: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    #[serde(flatten)]
    machine: Machine,
}

pub fn run(arguments: &Eval) -> Result<ExitCode> {
    let mut spec = arguments.run.merged(&arguments.spec)?;
    let device = spec.machine.prepare()?;
    let root = required(&spec.lineage, "lineage")?;
    let name = required(&spec.version, "version")?;
    let on_task = spec.adapted.is_some() || spec.scoring.task.is_given();
    ensure!(
        on_task != spec.corpus.is_some(),
        "say what to evaluate on: --adapted ID --task DIR for tuned weights, or --corpus FILE… for the version itself"
    );
    let lineage = Lineage::existing(&root)?;
    let version = lineage.version(&name)?;
    match on_task {
        true => evaluate_task(arguments, &mut spec, &lineage, &name, &version, device),
        false => evaluate_corpora(arguments, &mut spec, &lineage, &name, &version, device),
    }
}

fn evaluate_task(
    arguments: &Eval,
    spec: &mut Spec,
    lineage: &Lineage,
    name: &str,
    version: &Version,
    device: Device,
) -> Result<ExitCode> {
    let (base, id) = adapted_name(&required(&spec.adapted, "adapted")?, name);
    ensure!(
        base == name,
        "{base}/{id} was tuned on {base}, not on {name}: `recyclable apply` scores it there, or use --version {base}"
    );
    let adapted = lineage.adapted(name, &id)?;
    let (task, max_length) = spec.scoring.load(&adapted, version)?;
    let precision = spec.scoring.precision();
    let saved = check_save(spec.scoring.save.as_ref(), &adapted, arguments.run.again)?;
    let mut inputs = spec.scoring.task.inputs()?;
    inputs.insert(format!("{name}/{id}"), fingerprint(lineage.adapted_path(name, &id))?);
    let (folder, state) = arguments.run.open_digest(lineage.root(), &format!("eval.{name}.{id}"), spec, &inputs)?;
    if let Some(result) = arguments.run.complete(&state)
        && saved
    {
        return arguments.run.recall(&folder, result, task_table);
    }
    folder.begin(spec, &inputs)?;
    let model = adapted.apply(version, device)?.with_precision(precision);
    let mut result = json!({"version": name, "id": id, "task": task.name, "precision": model.precision()});
    let mut metrics = Vec::new();
    for (split, examples) in [("dev", &task.dev), ("test", &task.test)] {
        let evaluation = evaluate(&model, &TaskData::new(examples, &version.tokenizer, max_length)?)?;
        let lines = prediction_lines(&evaluation, examples, &task.labels);
        write_atomic(folder.file(&format!("predictions.{split}.jsonl")), lines.as_bytes())?;
        result[split] = json!(evaluation.scores);
        metrics.push(json!({"split": split, "scores": evaluation.scores}));
    }
    result["chance"] = json!(Task::majority_share(&task.test));
    if let Some(save) = &spec.scoring.save {
        save_classifier(&model, version, save)?;
    }
    folder.write_metrics(&metrics)?;
    arguments.run.finish(&folder, &result, task_table)
}

fn evaluate_corpora(
    arguments: &Eval,
    spec: &mut Spec,
    lineage: &Lineage,
    name: &str,
    version: &Version,
    device: Device,
) -> Result<ExitCode> {
    ensure!(spec.scoring.save.is_none(), "--save writes a classifier: it needs --adapted and --task");
    let share = fill(&mut spec.held_out, 1.0);
    ensure!(share > 0.0 && share <= 1.0, "--held-out {share} must be a share above 0, up to 1");
    let trained = lineage.record(name)?.recipe["pretrain"]["max_length"].as_u64();
    let positions = version.config.max_length().max(0) as usize;
    let max_length = fill(&mut spec.scoring.max_length, trained.map_or(positions.min(64), |length| length as usize));
    check_length(max_length, version)?;
    let (precision, seed) = (spec.scoring.precision(), spec.scoring.seed());
    let paths = required(&spec.corpus, "corpus")?;
    let mut inputs: Inputs = fingerprints(&paths)?;
    inputs.insert(name.to_string(), version.fingerprint()?);
    let (folder, state) = arguments.run.open_digest(lineage.root(), &format!("eval.{name}"), spec, &inputs)?;
    if let Some(result) = arguments.run.complete(&state) {
        return arguments.run.recall(&folder, result, corpus_table);
    }
    folder.begin(spec, &inputs)?;
    let config = PretrainConfig { max_length, precision, seed, ..PretrainConfig::default() };
    let progress = Progress::jobs(format!("eval {name}"), paths.len(), "corpora");
    let mut losses = serde_json::Map::new();
    for path in &paths {
        let corpus = Corpus::load(path)?;
        let documents = corpus.by_hash(0.0, share);
        ensure!(
            !documents.is_empty(),
            "none of the {} documents of {} falls into the share {share}: raise --held-out",
            corpus.len(),
            path.display()
        );
        losses.insert(corpus.name, json!(held_out_loss(version, &documents, &config, device)?));
        progress.advance("");
    }
    progress.finish("");
    let metrics: Vec<Value> = losses.iter().map(|(corpus, loss)| json!({"corpus": corpus, "loss": loss})).collect();
    let result = json!({"version": name, "held_out": losses});
    folder.write_metrics(&metrics)?;
    arguments.run.finish(&folder, &result, corpus_table)
}

fn task_table(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap_or("?").to_string();
    let mut table = scores_table("eval", &format!("{}/{}: {}", text("version"), text("id"), text("task")));
    for split in ["dev", "test"] {
        push_scores(&mut table, split, &result[split]);
    }
    table.caption(format!("Majority class on test {:.3}.", result["chance"].as_f64().unwrap_or_default())).to_text()
}

fn corpus_table(result: &Value) -> String {
    let columns = vec![Column::text("corpus"), Column::number("masked-LM loss", 3)];
    let title = format!("{} on corpora", result["version"].as_str().unwrap_or("?"));
    let mut table = Table::new("eval", title, columns).caption("Nats a masked token.");
    for (corpus, loss) in result["held_out"].as_object().into_iter().flatten() {
        table.push([Cell::from(corpus.as_str()), Cell::from(loss.as_f64())]);
    }
    table.to_text()
}
