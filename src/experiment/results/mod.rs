//! The table of results: what jobs write, statistics read and reports show.
//!
//! Three kinds of rows, a file of JSON Lines each, one row a line, so that polars, pandas and DuckDB read them as they are:
//!
//! | file | a row | tells |
//! | --- | --- | --- |
//! | `runs.jsonl` | [`Run`] | one tuned (or untouched) model: what it started from, what it learnt from, its scores on test, its cost |
//! | `pairs.jsonl` | [`Pair`] | two tuned models compared: the straight path between them, their attention heads, their distance |
//! | `versions.jsonl` | [`Knowledge`] | what a version knows of a domain: its masked-LM loss on held-out texts |
//!
//! `answers` is text (a digit a test text), which pandas has to be told: `read_json(…, lines=True, dtype={"answers": str})`.
//!
//! Every row names the data, lineage, seed and commit it is of, so tables of several runs can be put together.

mod knowledge;
mod ledger;
mod pair;
mod recipe;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use knowledge::{Knowledge, KnowledgeKey};
pub(crate) use ledger::Ledger;
pub use pair::{End, Pair, PairKey, PathStep, Relation};
pub use recipe::{Lesson, Recipe, Source, Start};
pub use run::{DevPoint, Run, RunKey};

/// The folder of the table within that of a run.
pub(crate) fn folder(out: &Path) -> PathBuf {
    out.join("results")
}

/// Commit of the sources this program was built from, empty where unknown: every row names it.
pub fn commit() -> String {
    env!("RECYCLABLE_COMMIT").to_string()
}

/// All rows of one run of an experiment, sorted by their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Tuned and untouched models.
    pub runs: Vec<Run>,
    /// Tuned models compared.
    pub pairs: Vec<Pair>,
    /// Versions and what they know.
    pub versions: Vec<Knowledge>,
}

/// Writes the rows of `versions.jsonl`, sorted.
pub(crate) fn write_knowledge(folder: &Path, rows: Vec<Knowledge>) -> Result<Vec<Knowledge>> {
    let keys: Vec<KnowledgeKey> = rows.iter().map(|row| row.key.clone()).collect();
    let ledger = Ledger::<Knowledge>::open(folder, |_| false)?;
    rows.into_iter().try_for_each(|row| ledger.add(row))?;
    ledger.finish(&keys)
}

impl Results {
    /// Reads the table in the folder of a run.
    ///
    /// Errors: a folder without one, a line that is not a row.
    pub fn load(out: impl AsRef<Path>) -> Result<Results> {
        let folder = folder(out.as_ref());
        Ok(Results {
            runs: ledger::read::<Run>(&folder)?,
            pairs: ledger::read::<Pair>(&folder)?,
            versions: ledger::read::<Knowledge>(&folder)?,
        })
    }

    /// The row of this run.
    pub fn run(&self, key: &RunKey) -> Result<&Run> {
        let at = self.runs.binary_search_by(|row| row.key.cmp(key));
        at.ok().map(|at| &self.runs[at]).with_context(|| format!("there is no result of {key}"))
    }

    /// The row of this comparison.
    pub fn pair(&self, key: &PairKey) -> Result<&Pair> {
        let at = self.pairs.binary_search_by(|row| row.key.cmp(key));
        at.ok().map(|at| &self.pairs[at]).with_context(|| format!("there is no result of {key}"))
    }

    /// How many rows are of which commit, the most frequent first. More than one: the run went on with another program.
    pub fn commits(&self) -> Vec<(String, usize)> {
        let runs = self.runs.iter().map(|row| &row.commit);
        let all =
            runs.chain(self.pairs.iter().map(|row| &row.commit)).chain(self.versions.iter().map(|row| &row.commit));
        let mut counts: Vec<(String, usize)> = Vec::new();
        for commit in all {
            match counts.iter_mut().find(|(known, _)| known == commit) {
                Some((_, count)) => *count += 1,
                None => counts.push((commit.clone(), 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}
