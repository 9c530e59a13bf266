//! What the parity tests share: golden files, the error measure, and the Python that some of them need.

#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use recyclable::params::read_safetensors;
use tch::{Kind, Tensor};

/// How far apart the same numbers of two programs may be: fp32, evaluation mode, positions that are attended.
pub const TOLERANCE: f64 = 1e-4;

/// `tests/parity/golden/…`
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/golden").join(path)
}

/// The tensors of one golden file, and the largest error seen so far against them.
pub struct Golden {
    source: PathBuf,
    tensors: HashMap<String, Tensor>,
    pub metadata: HashMap<String, String>,
    worst: std::cell::RefCell<(f64, String)>,
}

impl Golden {
    pub fn load(path: impl Into<PathBuf>) -> Result<Golden> {
        let source = path.into();
        let file = read_safetensors(&source)?;
        Ok(Golden { source, tensors: file.tensors, metadata: file.metadata, worst: Default::default() })
    }

    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.find(name).with_context(|| format!("{} has no {name}", self.source.display()))
    }

    /// Names below `prefix/`, without it, in alphabetical order.
    pub fn below(&self, prefix: &str) -> Vec<String> {
        let prefix = format!("{prefix}/");
        let mut names: Vec<String> =
            self.tensors.keys().filter_map(|name| name.strip_prefix(&prefix)).map(String::from).collect();
        names.sort();
        names
    }

    /// Compares with the golden tensor `name`: the largest difference over the largest golden value (or `floor`, where
    /// the golden values are but rounding noise around zero).
    pub fn compare(&self, name: &str, ours: &Tensor, mask: Option<&Tensor>, floor: f64) -> Result<()> {
        self.compare_within(name, ours, mask, floor, TOLERANCE)
    }

    pub fn compare_within(
        &self,
        name: &str,
        ours: &Tensor,
        mask: Option<&Tensor>,
        floor: f64,
        tolerance: f64,
    ) -> Result<()> {
        let error = relative_error(ours, &self.get(name)?, mask, floor).with_context(|| name.to_string())?;
        let mut worst = self.worst.borrow_mut();
        if error > worst.0 {
            *worst = (error, name.to_string());
        }
        ensure!(error <= tolerance, "{}: {name} is off by {error:.1e}, {tolerance:.0e} allowed", self.source.display());
        Ok(())
    }

    /// The largest error so far, for the test's output.
    pub fn worst(&self) -> String {
        let worst = self.worst.borrow();
        format!("largest error {:.1e} ({})", worst.0, worst.1)
    }
}

/// Compares gradients by name, both ways: no parameter of theirs may be absent. Gradients that are zero but for rounding
/// (that of the key's bias always is) are measured against the largest gradient of all.
pub fn compare_gradients(golden: &Golden, prefix: &str, ours: Vec<(String, Tensor)>) -> Result<()> {
    let theirs = golden.below(prefix);
    let mut names: Vec<_> = ours.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    assert_eq!(names, theirs, "{prefix}");
    let largest = |name: &String| Ok(f64::try_from(golden.get(&format!("{prefix}/{name}"))?.abs().max())?);
    let scale = theirs.iter().map(largest).collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
    for (name, gradient) in ours {
        golden.compare(&format!("{prefix}/{name}"), &gradient, None, 1e-2 * scale)?;
    }
    Ok(())
}

/// max |ours − theirs| / max(max |theirs|, floor), over the positions of `mask` `(b, t)`, which leads the shape.
pub fn relative_error(ours: &Tensor, theirs: &Tensor, mask: Option<&Tensor>, floor: f64) -> Result<f64> {
    ensure!(ours.size() == theirs.size(), "ours is {:?}, theirs {:?}", ours.size(), theirs.size());
    let flat = |tensor: &Tensor| -> Result<Tensor> {
        let tensor = tensor.f_detach()?.f_to_kind(Kind::Double)?;
        match mask {
            None => Ok(tensor),
            Some(mask) => Ok(tensor.f_index(&[Some(mask.f_to_kind(Kind::Bool)?)])?),
        }
    };
    let (ours, theirs) = (flat(ours)?, flat(theirs)?);
    if theirs.numel() == 0 {
        bail!("nothing to compare");
    }
    let difference = f64::try_from((&ours - &theirs).abs().max())?;
    ensure!(!difference.is_nan(), "not a number");
    let size = f64::try_from(theirs.abs().max())?.max(floor).max(1e-30);
    Ok(difference / size)
}

/// The Python of the test environment with torch and transformers. Where there is none, prints why and returns nothing; with `CI=true`
/// that is an error.
pub fn python() -> Result<Option<PathBuf>> {
    python_with("import torch, transformers, safetensors")
}

/// The Python of the test environment, where these imports succeed; otherwise as [`python`].
pub fn python_with(imports: &str) -> Result<Option<PathBuf>> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-test/bin/python");
    python_at("RECYCLABLE_TEST_PYTHON", own, imports)
}

/// The Python that a variable names, else `own`, where these imports succeed; otherwise as [`python`].
pub fn python_at(variable: &str, own: PathBuf, imports: &str) -> Result<Option<PathBuf>> {
    let python = std::env::var_os(variable).map_or(own, PathBuf::from);
    // One attempt to import, so that a broken environment is told from a failing test.
    let probe = Command::new(&python).args(["-c", imports]).env_remove("LD_LIBRARY_PATH").output();
    let problem = match probe {
        Ok(output) if output.status.success() => return Ok(Some(python)),
        Ok(output) => String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("no reason given").to_string(),
        Err(error) => error.to_string(),
    };
    let advice = format!("`make test` makes it, or set {variable}");
    let reason = format!("{} cannot run `{imports}` ({problem}): {advice}", python.display());
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("{reason}");
    }
    println!("skipped: {reason}");
    Ok(None)
}

/// Runs a script of tests/parity; its last line of output is JSON.
pub fn run_python(python: &Path, script: &str, arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(script);
    let mut command = Command::new(python);
    // libtorch of the crate and torch of this Python must not meet in one process.
    command.arg(&script).args(arguments).env_remove("LD_LIBRARY_PATH").env("HF_HUB_OFFLINE", "1");
    let output = command.output().with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        bail!("{} failed:\n{}", script.display(), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().unwrap_or_default().to_string())
}
