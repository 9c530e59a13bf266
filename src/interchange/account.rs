//! The tensors of a file, taken one by one, so that none is forgotten.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::params::{Stored, few};

/// What a file holds, by our names for it, and what of it has not been used yet.
pub(super) struct Account {
    stored: Stored,
    /// Ours, and the file's.
    left: BTreeMap<String, String>,
}

impl Account {
    /// Opens `NAME.safetensors` in a folder; `ours` translates its names. Tensors that get one name must be equal.
    ///
    /// Errors where there is only `pickled`, with the line that converts it.
    pub fn open(folder: &Path, name: &str, pickled: &str, ours: impl Fn(&str) -> Result<String>) -> Result<Account> {
        let path = folder.join(format!("{name}.safetensors"));
        if !path.is_file() {
            let old = folder.join(pickled);
            ensure!(
                !old.is_file(),
                "{0} is a pickled file, which this program never opens: it could run anything. Convert it once, in Python: \
                 import torch; from safetensors.torch import save_file; \
                 save_file({{k: v.contiguous().clone() for k, v in torch.load({0:?}, weights_only=True).items()}}, {1:?})",
                old.display(),
                path.display()
            );
            bail!("{} is missing", path.display());
        }
        let stored = Stored::open(path)?;
        let mut left: BTreeMap<String, String> = BTreeMap::new();
        for theirs in stored.tensors().keys() {
            let name = ours(theirs)?;
            if let Some(other) = left.get(&name) {
                ensure!(
                    stored.same(other, theirs)?,
                    "{other} and {theirs} in {} are two values of one parameter, and differ",
                    stored.source().display()
                );
                continue;
            }
            left.insert(name, theirs.clone());
        }
        Ok(Account { stored, left })
    }

    /// The file.
    pub fn source(&self) -> String {
        self.stored.source().display().to_string()
    }

    /// A pair of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.stored.metadata().get(key).map(String::as_str)
    }

    /// Names that have not been taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left.keys().map(String::as_str)
    }

    /// The shape of a tensor that has not been taken.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.stored.tensors().get(self.left.get(name)?)?.shape)
    }

    /// Takes a tensor of this shape, as `f32`; none where there is none.
    ///
    /// Errors on another shape, on numbers that are no floating-point ones, and on NaN or infinity.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let Some(theirs) = self.left.remove(name) else { return Ok(None) };
        let source = self.stored.source().display();
        let there = &self.stored.tensors().get(&theirs).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        ensure!(there == shape, "{theirs} in {source} has the shape {there:?}, expected {shape:?}");
        let value = self.stored.read(&theirs)?;
        ensure!(value.is_floating_point(), "{theirs} in {source} is of whole numbers, expected floating-point ones");
        let value = value.f_to_kind(Kind::Float)?;
        ensure!(
            bool::try_from(value.f_isfinite()?.f_all()?)?,
            "{theirs} in {source} holds NaN or infinity: the weights are ruined"
        );
        Ok(Some(value))
    }

    /// Takes whatever has such a name: the file's names for it.
    pub fn take_where(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let names: Vec<String> = self.left.keys().filter(|name| wanted(name)).cloned().collect();
        names.iter().filter_map(|name| self.left.remove(name)).collect()
    }

    /// Errors where something is left.
    pub fn close(self) -> Result<()> {
        let names: Vec<String> = self.left.into_values().collect();
        ensure!(
            names.is_empty(),
            "{} holds {} tensors that have no place here ({}): nothing was loaded",
            self.stored.source().display(),
            names.len(),
            few(&names)
        );
        Ok(())
    }
}
