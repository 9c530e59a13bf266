//! What `tune` and `recycle` do once weights are tuned: test, store, report.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use recyclable::display::{Cell, Column, Progress, Table, progress::say};
use recyclable::experiment::{BEST_BEFORE_STOP, RunFolder, RunState};
use recyclable::files::fingerprint;
use recyclable::lineage::Lineage;
use recyclable::model::Version;
use recyclable::text::{Task, TaskData};
use recyclable::train::{Scores, TuneConfig, TuneRun, TuningStopped, evaluate};
use serde_json::{Value, json};
use tch::Device;

use crate::spec::RunArgs;

/// A tuning run: where its weights go, and what they were tuned on and for.
pub struct Tuned<'a> {
    pub run: &'a RunArgs,
    pub lineage: &'a Lineage,
    pub version: &'a str,
    pub base: &'a Version,
    pub id: &'a str,
    pub task: &'a Task,
}

/// Whether the run has to be made; a complete one is shown instead.
pub fn is_due(tuned: &Tuned, folder: &RunFolder, state: &RunState) -> Result<bool> {
    let Tuned { run, lineage, version, id, .. } = tuned;
    let there = lineage.has_adapted(version, id);
    match state {
        RunState::Complete(result) if there && !run.again => {
            ensure!(
                result["fingerprint"] == fingerprint(lineage.adapted_path(version, id))?.as_str(),
                "the weights {id} of {version} have been replaced since {} made them: --again makes them anew",
                folder.path().display()
            );
            run.recall(folder, result, table)?;
            return Ok(false);
        }
        RunState::New => ensure!(
            !there || run.again,
            "{version} has weights {id} already, from another run: choose another --id, or --again to replace them"
        ),
        _ => {}
    }
    Ok(true)
}

/// Hands a run on. The best weights of one that stopped stay in its folder, and the error says so.
pub fn keep_best(run: Result<TuneRun>, folder: &RunFolder) -> Result<TuneRun> {
    run.map_err(|error| {
        let Some(best) = error.downcast_ref::<TuningStopped>().and_then(TuningStopped::take_best) else { return error };
        let path = folder.file(BEST_BEFORE_STOP);
        match best.save(&path) {
            Ok(()) => error.context(format!("the best weights until then are kept in {}", path.display())),
            Err(unsaved) => error.context(format!("the best weights until then are lost ({unsaved:#})")),
        }
    })
}

impl Tuned<'_> {
    /// Scores the best weights on the test split, stores them, and completes the run.
    pub fn finish(
        &self,
        mut run: TuneRun,
        config: &TuneConfig,
        device: Device,
        progress: &Progress,
        folder: &RunFolder,
        more: Value,
    ) -> Result<ExitCode> {
        let test = TaskData::new(&self.task.test, &self.base.tokenizer, config.max_length)?;
        let model = run.best.apply(self.base, device)?.with_precision(config.precision);
        let scores = evaluate(&model, &test)?.scores;
        progress.finish(format!("test accuracy {:.3}", scores.accuracy));
        let named =
            [("test_accuracy", scores.accuracy), ("test_macro_f1", scores.macro_f1), ("test_loss", scores.loss)];
        run.best.card.scores.extend(named.map(|(name, score)| (name.to_string(), score)));
        let losses = run.losses.iter().map(|point| json!({"step": point.step, "loss": point.loss}));
        let curve = run.curve.iter().map(|point| json!({"step": point.step, "dev": point.dev}));
        folder.write_metrics(&losses.chain(curve).collect::<Vec<_>>())?;
        run.last.save(folder.file("last.safetensors"))?;
        self.lineage.save_adapted(self.version, self.id, &run.best)?;
        let path = self.lineage.adapted_path(self.version, self.id);
        let dev = run.curve.iter().find(|point| point.step == run.best_step).map(|point| point.dev);
        let leaks = self.leaks()?;
        let mut result = json!({
            "version": self.version,
            "id": self.id,
            "weights": path,
            "fingerprint": fingerprint(&path)?,
            "task": self.task.name,
            "labels": self.task.labels,
            "method": config.method.name(),
            "best_step": run.best_step,
            "dev": dev,
            "test": scores,
            "chance": Task::majority_share(&self.task.test),
            "examples": {"train": self.task.train.len(), "dev": self.task.dev.len(), "test": self.task.test.len()},
            "truncated": run.truncated + test.truncated(),
            "overlaps": self.task.overlaps(),
            "leaks": leaks,
            "precision": model.precision(),
            "seconds": run.seconds,
        });
        if let (Some(result), Some(more)) = (result.as_object_mut(), more.as_object()) {
            result.extend(more.clone());
        }
        self.run.finish(folder, &result, table)
    }

    /// Dev and test texts found in what this version and its ancestors were pre-trained on, as far as those files still lie
    /// where they lay.
    fn leaks(&self) -> Result<Vec<Value>> {
        let (mut reports, mut next) = (Vec::new(), Some(self.version.to_string()));
        while let Some(name) = next {
            let record = self.lineage.record(&name)?;
            let paths: Vec<std::path::PathBuf> =
                serde_json::from_value(record.recipe["pretrain"]["corpus"].clone()).unwrap_or_default();
            for path in paths.iter().filter(|path| path.is_file()) {
                let report = recyclable::text::Corpus::load(path)?.leaks(self.task)?;
                if report.total() > 0 {
                    say(&format!("note: {name} was pre-trained on texts of this task: {report}"));
                }
                reports.push(json!({"version": name, "corpus": report.corpus, "dev": report.dev, "test": report.test}));
            }
            next = record.parent;
        }
        Ok(reports)
    }
}

/// Dev and test scores.
fn table(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap_or("?").to_string();
    let title = format!("{}/{}: {} by {}", text("version"), text("id"), text("task"), text("method"));
    let mut table = scores_table("tuned", &title);
    for split in ["dev", "test"] {
        push_scores(&mut table, split, &result[split]);
    }
    let chance = result["chance"].as_f64().unwrap_or_default();
    let caption = format!("Best on dev after {} updates; majority class on test {chance:.3}.", result["best_step"]);
    table.caption(caption).to_text()
}

/// An empty table of scores.
pub fn scores_table(id: &str, title: &str) -> Table {
    let columns = vec![
        Column::text(""),
        Column::number("accuracy", 3),
        Column::number("macro F1", 3),
        Column::number("loss", 3),
        Column::number("texts", 0),
    ];
    Table::new(id, title, columns)
}

/// A row of it, from scores in JSON.
pub fn push_scores(table: &mut Table, what: &str, scores: &Value) {
    let Ok(scores) = serde_json::from_value::<Scores>(scores.clone()) else { return };
    let numbers = [scores.accuracy, scores.macro_f1, scores.loss].map(Cell::from);
    table.push([Cell::from(what)].into_iter().chain(numbers).chain([Cell::from(scores.n)]));
}
