//! A run's folder: what was asked for, what was measured on the way, what came out.
//!
//! ```text
//! RUN/spec.json      every setting, defaults filled in; can be given to the same command again
//!     inputs.json    fingerprints of what the run read
//!     metrics.jsonl  one measurement a line
//!     result.json    written last: it marks the run as complete
//!     best-before-stop.safetensors   only of a tuning run that failed: its best weights until then
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::files::{read_json, write_atomic, write_json};

/// Fingerprints of what a run reads, by name.
pub type Inputs = BTreeMap<String, String>;

/// The file for the best weights of a tuning run that stopped before its end.
pub const BEST_BEFORE_STOP: &str = "best-before-stop.safetensors";

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// What was found in a run's folder.
#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// Nothing: the run is yet to begin.
    New,
    /// The same run, begun and not finished.
    Interrupted,
    /// The same run, finished, with its result.
    Complete(Value),
}

impl RunFolder {
    /// Looks for this run in `path`; nothing is written.
    ///
    /// Errors when the folder holds a run with other settings or inputs (naming the differences), or something else.
    pub fn open(path: impl Into<PathBuf>, spec: &impl Serialize, inputs: &Inputs) -> Result<(RunFolder, RunState)> {
        let folder = RunFolder { path: path.into() };
        let spec = serde_json::to_value(spec).context("the settings cannot be written as JSON")?;
        let there = folder.file("spec.json");
        if there.is_file() {
            folder.same(&spec, &read_json(&there)?, "other settings")?;
            if folder.file("inputs.json").is_file() {
                let (new, old) = (serde_json::to_value(inputs)?, read_json(folder.file("inputs.json"))?);
                folder.same(&new, &old, "inputs that have changed since")?;
            }
            let result = folder.file("result.json");
            let state = if result.is_file() { RunState::Complete(read_json(result)?) } else { RunState::Interrupted };
            return Ok((folder, state));
        }
        let shown = folder.path.display();
        if folder.path.exists() {
            let mut entries = std::fs::read_dir(&folder.path).with_context(|| format!("{shown} is not a folder"))?;
            ensure!(
                entries.next().is_none(),
                "{shown} exists and is not the folder of a run (it has no spec.json): choose another --out"
            );
        }
        Ok((folder, RunState::New))
    }

    /// Writes down what the run is; from now on, until it is finished, it counts as interrupted.
    ///
    /// Errors when the folder cannot be made or written.
    pub fn begin(&self, spec: &impl Serialize, inputs: &Inputs) -> Result<()> {
        for name in ["result.json", "metrics.jsonl", BEST_BEFORE_STOP] {
            let path = self.file(name);
            if path.exists() {
                std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        write_json(self.file("inputs.json"), inputs)?;
        write_json(self.file("spec.json"), spec)
    }

    /// Writes the measurements, one a line.
    pub fn write_metrics(&self, metrics: &[Value]) -> Result<()> {
        let lines: String = metrics.iter().map(|metric| format!("{metric}\n")).collect();
        write_atomic(self.file("metrics.jsonl"), lines.as_bytes())
    }

    /// Writes the result, which completes the run.
    pub fn finish(&self, result: &Value) -> Result<()> {
        write_json(self.file("result.json"), result)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn same(&self, new: &Value, old: &Value, what: &str) -> Result<()> {
        // A setting that is not given may be missing or null: programs of other ages write either.
        let given = |value: &Value| {
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                object.retain(|_, value| !value.is_null());
            }
            value
        };
        let (new, old) = (&given(new), &given(old));
        if new == old {
            return Ok(());
        }
        let none = Map::new();
        let (new, old) = (new.as_object().unwrap_or(&none), old.as_object().unwrap_or(&none));
        let show = |value: Option<&Value>| value.map_or("nothing".to_string(), Value::to_string);
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        let differences = names.filter(|name| new.get(*name) != old.get(*name));
        let differences: Vec<String> = differences
            .map(|name| format!("{name} (there {}, now {})", show(old.get(name)), show(new.get(name))))
            .collect();
        bail!(
            "{} holds a run with {what}: {}; choose another --out, or delete the folder",
            self.path.display(),
            differences.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_begun_interrupted_and_completed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("run");
        let (spec, inputs) = (json!({"steps": 3}), Inputs::from([("M_0".into(), "ab".into())]));
        let (run, state) = RunFolder::open(&path, &spec, &inputs)?;
        assert_eq!(state, RunState::New);
        assert!(!path.exists());
        run.begin(&spec, &inputs)?;
        assert_eq!(RunFolder::open(&path, &spec, &inputs)?.1, RunState::Interrupted);
        run.write_metrics(&[json!({"step": 1}), json!({"step": 2})])?;
        run.finish(&json!({"accuracy": 0.5}))?;
        assert_eq!(std::fs::read_to_string(run.file("metrics.jsonl"))?, "{\"step\":1}\n{\"step\":2}\n");
        assert_eq!(RunFolder::open(&path, &spec, &inputs)?.1, RunState::Complete(json!({"accuracy": 0.5})));
        run.begin(&spec, &inputs)?;
        assert_eq!(RunFolder::open(&path, &spec, &inputs)?.1, RunState::Interrupted);
        Ok(())
    }

    #[test]
    fn another_run_and_other_folders_are_left_alone() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("run");
        let spec = json!({"steps": 3, "seed": 0});
        RunFolder::open(&path, &spec, &Inputs::new())?.0.begin(&spec, &Inputs::new())?;
        let error = RunFolder::open(&path, &json!({"steps": 4, "seed": 0}), &Inputs::new()).unwrap_err().to_string();
        assert!(error.contains("other settings: steps (there 3, now 4); choose another --out"), "{error}");
        let inputs = Inputs::from([("M_0".into(), "ab".into())]);
        let error = RunFolder::open(&path, &spec, &inputs).unwrap_err().to_string();
        assert!(error.contains("inputs that have changed since: M_0"), "{error}");
        std::fs::write(folder.path().join("letter.txt"), "dear")?;
        let error = RunFolder::open(folder.path(), &json!({}), &inputs).unwrap_err().to_string();
        assert!(error.contains("is not the folder of a run"), "{error}");
        assert!(RunFolder::open("/proc/nowhere/run", &spec, &inputs)?.0.begin(&spec, &inputs).is_err());
        Ok(())
    }
}
