//! What the commands that run something share: settings from flags and from a JSON file, and the folder of the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use recyclable::device;
use recyclable::display::progress::say;
use recyclable::experiment::{Inputs, RunFolder, RunState};
use recyclable::files::{fingerprint, read_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Device;

/// Flags about the run itself, not part of its settings.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Settings as JSON, their names those of the flags with _ for - (a run's spec.json will do); flags win
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The folder of the run: spec.json, metrics.jsonl, result.json [default: runs/ in the lineage]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Repeat a run that is complete
    #[arg(long)]
    pub again: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// The settings in `--spec`, overlaid with the flags given.
    pub fn merged<T: Serialize + DeserializeOwned + Default>(&self, flags: &T) -> Result<T> {
        let Some(path) = &self.spec else { return from_value(object(flags)?, Path::new("the flags")) };
        let value: Value = read_json(path)?;
        let mut settings =
            value.as_object().cloned().with_context(|| format!("{}: expected an object", path.display()))?;
        let known = object(&T::default())?;
        for name in settings.keys() {
            ensure!(
                known.contains_key(name),
                "{}: unknown field {name:?}; there are {}",
                path.display(),
                known.keys().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        settings.extend(object(flags)?.into_iter().filter(|(_, value)| !value.is_null()));
        from_value(settings, path)
    }

    /// Opens the run's folder: `--out`, or `name` under the lineage's `runs`.
    pub fn open(
        &self,
        lineage: &Path,
        name: &str,
        spec: &impl Serialize,
        inputs: &Inputs,
    ) -> Result<(RunFolder, RunState)> {
        let path = self.out.clone().unwrap_or_else(|| lineage.join("runs").join(name));
        RunFolder::open(path, spec, inputs)
    }

    /// As [`RunArgs::open`] for what can be measured in many ways: the default name ends in a digest of the settings.
    pub fn open_digest(
        &self,
        lineage: &Path,
        name: &str,
        spec: &impl Serialize,
        inputs: &Inputs,
    ) -> Result<(RunFolder, RunState)> {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(serde_json::to_vec(&(spec, inputs))?);
        let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.open(lineage, &format!("{name}.{digest}"), spec, inputs)
    }

    /// The result of a run that is complete and not to be repeated.
    pub fn complete<'a>(&self, state: &'a RunState) -> Option<&'a Value> {
        match state {
            RunState::Complete(result) if !self.again => Some(result),
            _ => None,
        }
    }

    /// Shows a complete run instead of repeating it.
    pub fn recall(&self, folder: &RunFolder, result: &Value, table: fn(&Value) -> String) -> Result<ExitCode> {
        say(&format!("{} is complete; nothing was run (--again repeats it)", folder.path().display()));
        self.show(folder, result, table)
    }

    /// Completes a run and shows it.
    pub fn finish(&self, folder: &RunFolder, result: &Value, table: fn(&Value) -> String) -> Result<ExitCode> {
        folder.finish(result)?;
        self.show(folder, result, table)
    }

    /// Prints a result as a table or as JSON.
    fn show(&self, folder: &RunFolder, result: &Value, table: fn(&Value) -> String) -> Result<ExitCode> {
        crate::print(&match self.json {
            true => serde_json::to_string_pretty(result)? + "\n",
            false => format!("{}run: {}\n", table(result), folder.path().display()),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn object(value: &impl Serialize) -> Result<Map<String, Value>> {
    serde_json::to_value(value)?.as_object().cloned().context("settings are an object")
}

/// Reads settings; the field that does not fit is named.
fn from_value<T: DeserializeOwned>(settings: Map<String, Value>, path: &Path) -> Result<T> {
    for (name, value) in &settings {
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        serde_json::from_value::<T>(alone).with_context(|| format!("{}: field {name:?}", path.display()))?;
    }
    serde_json::from_value(Value::Object(settings)).with_context(|| path.display().to_string())
}

/// A setting, which becomes its default where it was not given.
pub fn fill<T: Clone>(setting: &mut Option<T>, default: T) -> T {
    setting.get_or_insert(default).clone()
}

/// A setting that has no default.
pub fn required<T: Clone>(setting: &Option<T>, name: &str) -> Result<T> {
    let flag = name.replace('_', "-");
    setting.clone().with_context(|| format!("--{flag} is missing: give it, or {name:?} in the file of --spec"))
}

/// Parses a value that JSON spells as a word.
pub fn named<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(word)).map_err(|error| error.to_string())
}

/// Where a run computes.
#[derive(clap::Args, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// cpu, cuda, cuda:N or auto [default: $RECYCLABLE_DEVICE, or cpu]
    #[arg(long)]
    device: Option<String>,
    /// Threads libtorch computes with [default: as many as there are cores]
    #[arg(long)]
    threads: Option<usize>,
}

impl Machine {
    /// Sets the threads and finds the device.
    pub fn prepare(&mut self) -> Result<Device> {
        let threads = fill(&mut self.threads, tch::get_num_threads().max(1) as usize);
        ensure!((1..=1024).contains(&threads), "--threads {threads}: choose 1 or more, up to the number of cores");
        tch::set_num_threads(threads as i32);
        let name = std::env::var("RECYCLABLE_DEVICE").unwrap_or_else(|_| "cpu".to_string());
        device::device(&fill(&mut self.device, name))
    }
}

/// `VERSION/ID` of adapted weights; an ID alone belongs to `version`.
pub fn adapted_name(name: &str, version: &str) -> (String, String) {
    match name.split_once('/') {
        Some((base, id)) => (base.to_string(), id.to_string()),
        None => (version.to_string(), name.to_string()),
    }
}

/// Fingerprints of files.
pub fn fingerprints<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Inputs> {
    paths
        .into_iter()
        .map(|path| Ok((path.display().to_string(), fingerprint(path)?)))
        .collect::<Result<BTreeMap<_, _>>>()
}
