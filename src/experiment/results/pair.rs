//! A row of `pairs.jsonl`: two tuned models of one task and method, compared.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ledger::Row;
use super::recipe::Start;

/// One of the two models: tuned by all labels on a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// The version.
    pub version: String,
    /// What its tuning started from.
    pub start: Start,
    /// The number of its repetition.
    pub seed: usize,
}

/// Why two tuned models are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// M_i and M_{i+1}: the claims rest on these. Ends coupled.
    Adjacent,
    /// M_0 and the last version. Ends coupled.
    Distant,
    /// M_0 and itself in other coordinates: a control. Ends coupled.
    Permuted,
    /// M_0 and an independently pre-trained model: a control. Ends coupled.
    Independent,
    /// M_0 and M_1, whose heads, modules and data order have nothing to do with each other.
    Uncoupled,
    /// M_1 tuned conventionally, and from outdated weights.
    Recycled,
    /// M_1 tuned with two seeds: what a path costs that no upgrade lies on.
    TwoSeeds,
}

/// Everything that tells a comparison from every other one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PairKey {
    /// Which world, or which data.
    pub data: String,
    /// The number of the lineage, from 0.
    pub lineage: usize,
    /// The number of the repetition within the lineage, from 0.
    pub seed: usize,
    /// The task both are tuned on.
    pub task: String,
    /// The method of both.
    pub method: String,
    /// Why they are compared.
    pub relation: Relation,
    /// One model.
    pub from: End,
    /// The other.
    pub to: End,
}

/// Two tuned models and what lies between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What was compared.
    #[serde(flatten)]
    pub key: PairKey,
    /// What the path was scored on: `test`.
    pub split: String,
    /// Texts scored.
    pub n: usize,
    /// The straight path, both ends included.
    pub path: Vec<PathStep>,
    /// Similarity (1 − Jensen–Shannon divergence of attention) of corresponding heads.
    pub corresponding: f64,
    /// The same of all mismatched heads.
    pub mismatched: f64,
    /// The same of mismatched heads within a layer; `null` where a layer has one head.
    pub mismatched_in_layer: Option<f64>,
    /// The share of heads whose partner in the best one-to-one matching is the corresponding head.
    pub matched_share: f64,
    /// On real text, `corresponding − mismatched` for every text, for the bootstrap; empty elsewhere.
    pub gaps: Vec<f64>,
    /// Similarities of the two versions before tuning, corresponding and mismatched; measured once a lineage.
    pub untuned: Option<[f64; 2]>,
    /// Debiased linear CKA of the last layer's hidden states; `null` where they do not vary.
    pub cka: Option<f64>,
    /// ‖θ_a − θ_b‖ over backbone and modules.
    pub distance: f64,
    /// Cosine between what tuning changed: the two Δ, or what was added to fresh modules; `null` where nothing was.
    pub cosine: Option<f64>,
    /// Wall time, on one worker of the run.
    pub seconds: f64,
    /// Commit of the program that wrote this row.
    pub commit: String,
}

/// One point of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathStep {
    /// From 0 at one model to 1 at the other.
    pub mu: f64,
    /// Accuracy there; `null` where the loss is not finite.
    pub accuracy: Option<f64>,
    /// Mean cross-entropy there, in nats; `null` where it is not finite.
    pub loss: Option<f64>,
    /// On real text which texts are right, a character each, for the bootstrap; empty elsewhere.
    pub answers: String,
}

impl Relation {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Adjacent => "adjacent",
            Relation::Distant => "distant",
            Relation::Permuted => "permuted (control)",
            Relation::Independent => "independent (control)",
            Relation::Uncoupled => "adjacent, uncoupled",
            Relation::Recycled => "conventional, recycled",
            Relation::TwoSeeds => "two seeds",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} seed {}", self.version, self.start.name(), self.seed)
    }
}

impl fmt::Display for PairKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PairKey { data, lineage, seed, task, method, relation, from, to } = self;
        write!(f, "{data}, lineage {lineage}, seed {seed}: {task}, {method}, {from} to {to} ({})", relation.name())
    }
}

impl Row for Pair {
    type Key = PairKey;
    const FILE: &'static str = "pairs.jsonl";

    fn key(&self) -> &PairKey {
        &self.key
    }

    fn headline(&self) -> String {
        format!("heads {:.3} against {:.3}, {:.1} s", self.corresponding, self.mismatched, self.seconds)
    }
}
