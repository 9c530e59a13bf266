//! `recyclable apply`: outdated weights on a newer version, untrained.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use recyclable::display::{Progress, progress::say};
use recyclable::files::fingerprint;
use recyclable::lineage::Lineage;
use recyclable::model::{Adapted, EncoderConfig, Model, Version};
use recyclable::text::{Task, TaskData};
use recyclable::train::{Evaluation, evaluate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::settings::Scoring;
use crate::spec::{Machine, RunArgs, adapted_name, required};
use crate::tuned::{push_scores, scores_table};

/// Apply weights to another version than they were tuned on, without training, and score them
#[derive(clap::Args)]
pub struct Apply {
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
    /// The version to apply the weights to
    #[arg(long, value_name = "NAME")]
    version: Option<String>,
    /// The weights, and the version they were tuned on
    #[arg(long, value_name = "VERSION/ID")]
    adapted: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    #[serde(flatten)]
    machine: Machine,
}

pub fn run(arguments: &Apply) -> Result<ExitCode> {
    let mut spec = arguments.run.merged(&arguments.spec)?;
    let device = spec.machine.prepare()?;
    let root = required(&spec.lineage, "lineage")?;
    let name = required(&spec.version, "version")?;
    let (old_name, id) = adapted_name(&required(&spec.adapted, "adapted")?, &name);
    let lineage = Lineage::existing(&root)?;
    let (new, old) = (lineage.version(&name)?, lineage.version(&old_name)?);
    let adapted = lineage.adapted(&old_name, &id)?;
    let (task, max_length) = spec.scoring.load(&adapted, &new)?;
    let precision = spec.scoring.precision();
    let saved = check_save(spec.scoring.save.as_ref(), &adapted, arguments.run.again)?;
    let mut inputs = spec.scoring.task.inputs()?;
    inputs.insert(name.clone(), new.fingerprint()?);
    inputs.insert(format!("{old_name}/{id}"), fingerprint(lineage.adapted_path(&old_name, &id))?);
    let (folder, state) = arguments.run.open_digest(&root, &format!("apply.{name}.{old_name}.{id}"), &spec, &inputs)?;
    if let Some(result) = arguments.run.complete(&state)
        && saved
    {
        return arguments.run.recall(&folder, result, table);
    }
    folder.begin(&spec, &inputs)?;
    let model = adapted.apply(&new, device)?.with_precision(precision);
    let own = adapted.apply(&old, device)?.with_precision(precision);
    let mut result = json!({
        "version": name,
        "adapted": format!("{old_name}/{id}"),
        "tuned_on": old_name,
        "own_base": adapted.check_base(&new)?,
        "task": task.name,
        "precision": model.precision(),
    });
    let progress = Progress::new(format!("apply {old_name}/{id} to {name}"), 2);
    let mut metrics = Vec::new();
    for (at, (split, examples)) in [("dev", &task.dev), ("test", &task.test)].into_iter().enumerate() {
        let data = TaskData::new(examples, &new.tokenizer, max_length)?;
        let (here, there) = (evaluate(&model, &data)?.scores, evaluate(&own, &data)?.scores);
        let chance = Task::majority_share(examples);
        let (gained, had) = (here.accuracy - chance, there.accuracy - chance);
        let retained = (had != 0.0).then(|| gained / had);
        result[split] = json!({"applied": here, "own_base": there, "chance": chance, "retained": retained});
        metrics.push(json!({"split": split, "version": name, "scores": here}));
        metrics.push(json!({"split": split, "version": old_name, "scores": there}));
        progress.update(at + 1, "");
    }
    progress.finish("");
    if let Some(save) = &spec.scoring.save {
        save_classifier(&model, &new, save)?;
    }
    folder.write_metrics(&metrics)?;
    arguments.run.finish(&folder, &result, table)
}

/// Writes the folder that transformers loads. Only an older classifier is replaced, and only with `--again`.
pub fn save_classifier(model: &Model, version: &Version, folder: &Path) -> Result<()> {
    model.save(folder, &version.tokenizer).with_context(|| format!("cannot save to {}", folder.display()))?;
    say(&format!("saved as a {} classifier in {}", version.config.model_type, folder.display()));
    Ok(())
}

/// Whether the classifier that `--save` asks for lies there already.
///
/// Errors where something else does, and where the weights do not fit such a folder.
pub fn check_save(save: Option<&PathBuf>, adapted: &Adapted, again: bool) -> Result<bool> {
    let Some(folder) = save else { return Ok(true) };
    ensure!(
        adapted.modules.is_none(),
        "--save writes a whole classifier, in which {} modules have no place: the weights stay in the lineage",
        adapted.card.method.name()
    );
    let empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !folder.exists(),
    };
    if empty {
        return Ok(false);
    }
    let config = EncoderConfig::load(folder.join("config.json")).ok();
    let ours = config.is_some_and(|config| config.other.contains_key("id2label"));
    ensure!(ours, "{} exists and is not the folder of a classifier: choose another --save", folder.display());
    Ok(!again)
}

/// Predictions with the true labels, one a line.
pub fn prediction_lines(evaluation: &Evaluation, examples: &[recyclable::text::Example], labels: &[String]) -> String {
    let name = |label: usize| labels.get(label).map_or("?", String::as_str);
    let pairs = evaluation.predictions.iter().zip(examples);
    pairs
        .map(|(&predicted, example)| {
            format!("{}\n", json!({"predicted": name(predicted), "label": name(example.label)}))
        })
        .collect()
}

fn table(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap_or("?").to_string();
    let mut table = scores_table("applied", &format!("{} applied to {}, untrained", text("adapted"), text("version")));
    for split in ["dev", "test"] {
        push_scores(&mut table, &format!("{split}, on {}", text("version")), &result[split]["applied"]);
        push_scores(&mut table, &format!("{split}, on {} (own base)", text("tuned_on")), &result[split]["own_base"]);
    }
    let chance = result["test"]["chance"].as_f64().unwrap_or_default();
    let retained = match result["test"]["retained"].as_f64() {
        Some(share) => format!("{:.0} %", 100.0 * share),
        None => "undefined (no better than chance on its own base)".to_string(),
    };
    table.caption(format!("Majority class on test {chance:.3}; retained share on test {retained}.")).to_text()
}
