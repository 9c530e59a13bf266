//! A row of `runs.jsonl`: one model and its scores on test.

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::ledger::Row;
use super::recipe::Recipe;

/// Everything that tells a run from every other one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey {
    /// Which world, or which data.
    pub data: String,
    /// The number of the lineage, from 0.
    pub lineage: usize,
    /// The number of the repetition within the lineage, from 0.
    pub seed: usize,
    /// The task.
    pub task: String,
    /// `full`, `adapter`, `lora`, `matching`; of classifiers without a network `bag_of_words`, `majority`.
    pub method: String,
    /// What is done.
    #[serde(flatten)]
    pub recipe: Recipe,
}

/// One run and what it gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What was run.
    #[serde(flatten)]
    pub key: RunKey,
    /// What the scores are of: `test`; dev only chooses.
    pub split: String,
    /// Texts scored.
    pub n: usize,
    /// Share of them that are right.
    pub accuracy: f64,
    /// Mean of the classes' F1.
    pub macro_f1: f64,
    /// Which texts are right, a character each: 1 or 0.
    pub answers: String,
    /// Dev accuracy of the weights that dev chose; `null` where nothing was chosen.
    pub dev_accuracy: Option<f64>,
    /// Dev accuracy over updates.
    pub curve: Vec<DevPoint>,
    /// The largest learning rate of the schedule; `null` without training.
    pub learning_rate: Option<f64>,
    /// Updates done: the budget.
    pub updates: usize,
    /// Updates after which dev chose the weights.
    pub best_at: usize,
    /// Wall time, on one worker of the run.
    pub seconds: f64,
    /// Commit of the program that wrote this row.
    pub commit: String,
}

/// One evaluation on dev.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevPoint {
    /// Updates done.
    pub updates: usize,
    /// Accuracy on dev.
    pub accuracy: f64,
}

impl RunKey {
    /// The name under which the lineage keeps this run's weights: those that others start from, learn from or are compared with.
    pub fn weights(&self) -> String {
        let RunKey { seed, task, method, recipe, .. } = self;
        format!("{task}.{method}.s{seed}.{}", recipe.start.name())
    }
}

impl Run {
    /// For every test text 1 where it was answered rightly, else 0.
    pub fn right(&self) -> Result<Vec<f64>> {
        ensure!(
            self.answers.len() == self.n,
            "the row of {} has answers to {} of {} texts",
            self.key,
            self.answers.len(),
            self.n
        );
        Ok(self.answers.bytes().map(|answer| f64::from(answer == b'1')).collect())
    }
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunKey { data, lineage, seed, task, method, recipe } = self;
        write!(f, "{data}, lineage {lineage}, seed {seed}: {task}, {method}, {recipe}")
    }
}

impl Row for Run {
    type Key = RunKey;
    const FILE: &'static str = "runs.jsonl";

    fn key(&self) -> &RunKey {
        &self.key
    }

    fn headline(&self) -> String {
        format!("test {:.3} in {:.1} s", self.accuracy, self.seconds)
    }
}
