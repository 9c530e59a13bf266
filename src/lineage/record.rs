//! Where a version comes from.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The provenance of a version: the contents of its `version.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRecord {
    /// What the version is called: its folder's name.
    pub name: String,
    /// The version whose pre-training it continues.
    pub parent: Option<String>,
    /// Of its backbone. Filled in when the version is saved.
    pub fingerprint: String,
    /// Of its parent's backbone. Filled in when the version is saved.
    #[serde(default)]
    pub parent_fingerprint: Option<String>,
    /// What it was pre-trained on.
    pub corpus: String,
    /// Everything needed to repeat the pre-training.
    pub recipe: Value,
    /// Of all that was random in the pre-training.
    pub seed: u64,
    /// Held-out masked-LM loss by corpus, in nats a masked token: one row of the forgetting matrix.
    pub held_out: BTreeMap<String, f64>,
    /// How long the pre-training took.
    pub seconds: f64,
    /// Tokens read a second.
    pub tokens_per_second: f64,
    /// Fingerprints of its files. Filled in when the version is saved.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Names of versions and weights become names of files, and are joined by `/` on the command line.
pub(super) fn check_name(name: &str) -> Result<()> {
    let odd = |c: char| c == '/' || c == '\\' || c.is_control() || c.is_whitespace();
    ensure!(
        !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(odd) && name.len() <= 200,
        "{name:?} cannot name a version or weights: use up to 200 letters, digits and _ - . + =, not starting with . or -"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_leave_the_lineage_is_refused() {
        for name in ["", "..", "../M_0", "a/b", ".writing-x", "a b", "-x", "a\\b", "x\n"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["M_0", "topic.full.seed=3", "M_IND", "Überschrift", "a+b,c"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
