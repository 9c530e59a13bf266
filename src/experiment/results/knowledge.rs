//! A row of `versions.jsonl`: what a version knows of a domain.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ledger::Row;

/// Everything that tells a row from every other one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KnowledgeKey {
    /// Which world, or which data.
    pub data: String,
    /// The number of the lineage, from 0.
    pub lineage: usize,
    /// The version.
    pub version: String,
    /// The domain of the held-out texts.
    pub domain: String,
}

/// The masked-LM loss of a version on a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    /// Of what.
    #[serde(flatten)]
    pub key: KnowledgeKey,
    /// What the version was pre-trained on last.
    pub corpus: String,
    /// Mean cross-entropy of masked tokens, in nats.
    pub loss: f64,
    /// How long the version's last pre-training took.
    pub seconds: f64,
    /// Tokens it read a second.
    pub tokens_per_second: f64,
    /// Commit of the program that wrote this row.
    pub commit: String,
}

impl fmt::Display for KnowledgeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, lineage {}: {} on {}", self.data, self.lineage, self.version, self.domain)
    }
}

impl Row for Knowledge {
    type Key = KnowledgeKey;
    const FILE: &'static str = "versions.jsonl";

    fn key(&self) -> &KnowledgeKey {
        &self.key
    }

    fn headline(&self) -> String {
        format!("{:.3} nats", self.loss)
    }
}
