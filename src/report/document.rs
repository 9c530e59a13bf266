//! The report itself: what a run found out.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::claims::{Claim, Verdict, basis};
use crate::device::{machine, peak_rss_mb};
use crate::display::{Cell, Column, Figure, Table};
use crate::experiment::Unit;
use crate::files::read_json;

/// The version of the layout of `report.json`.
pub const SCHEMA: u32 = 2;

/// Everything a run found out, and what a reader needs to judge and repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The layout of this report: [`SCHEMA`].
    pub schema: u32,
    /// Commit of the sources, empty where unknown.
    pub commit: String,
    /// The profile that was run.
    pub profile: String,
    /// Where it computed.
    pub device: String,
    /// What it computed in: `fp32` or `bf16`.
    pub precision: String,
    /// Threads in all.
    pub threads: usize,
    /// Wall time of the run.
    pub seconds: f64,
    /// The largest resident set in MB, where it is known.
    pub peak_rss_mb: Option<f64>,
    /// When the report was made (UTC).
    pub date: String,
    /// Processor, cores and memory.
    pub machine: String,
    /// How often tuning, sampling and order were repeated on each lineage.
    pub seeds: usize,
    /// How many times pre-training was repeated.
    pub lineages: usize,
    /// What counts as an independent repetition.
    pub unit: Unit,
    /// The claims, measured and judged.
    pub claims: Vec<Claim>,
    /// Further numbers.
    pub tables: Vec<Table>,
    /// What the numbers look like.
    pub figures: Vec<Figure>,
    /// What a reader should know beside the numbers.
    pub notes: Vec<String>,
    /// The whole profile.
    pub settings: serde_json::Value,
}

impl Default for Report {
    /// An empty report of here and now: date, machine and peak memory are filled in.
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            commit: String::new(),
            profile: String::new(),
            device: "cpu".to_owned(),
            precision: "fp32".to_owned(),
            threads: 1,
            seconds: 0.0,
            peak_rss_mb: peak_rss_mb(),
            date: now(),
            machine: machine(),
            seeds: 0,
            lineages: 1,
            unit: Unit::Seed,
            claims: Vec::new(),
            tables: Vec::new(),
            figures: Vec::new(),
            notes: Vec::new(),
            settings: serde_json::Value::Null,
        }
    }
}

impl Report {
    /// Reads `report.json` back from `folder`.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join("report.json");
        let value: serde_json::Value = read_json(&path)?;
        let schema = value["schema"].as_u64();
        ensure!(
            schema == Some(u64::from(SCHEMA)),
            "{} has schema {schema:?}, this program reads {SCHEMA}, which judges by other rules: repeat the run or use the version that wrote it",
            path.display()
        );
        serde_json::from_value(value).with_context(|| format!("{} is not a report", path.display()))
    }

    /// On how many lineages and seeds everything rests, for captions.
    pub fn basis(&self) -> String {
        basis(self.unit, self.lineages, self.seeds, self.settings.pointer("/source/folder").is_some())
    }

    /// The claims at a glance: what was measured and what became of them.
    pub fn claims_table(&self) -> Table {
        let columns = vec![
            Column::text("claim"),
            Column::text("statement"),
            Column::text("quantity"),
            Column::number("measured [95 % interval]", 3),
            Column::number("n", 0),
            Column::text("verdict"),
            Column::text("with Holm"),
        ];
        let caption = format!("{} Student-t intervals over {}.", self.basis(), self.unit.counted(2));
        let mut table = Table::new("claims", "Claims", columns).caption(caption);
        for claim in &self.claims {
            table.push([
                Cell::from(claim.id.as_str()),
                claim.statement.as_str().into(),
                claim.quantity.as_str().into(),
                Cell::from(&claim.interval()),
                claim.n.into(),
                claim.outcome().into(),
                match (claim.verdict, claim.holm) {
                    (Verdict::Holds, Some(holds)) => Cell::from(if holds { "holds" } else { "undecided" }),
                    _ => Cell::from("–"),
                },
            ]);
        }
        table
    }

    /// For a terminal: the claims without their statements, which a narrow window would break.
    pub fn to_text(&self) -> String {
        let mut table = self.claims_table();
        table.columns.remove(1);
        table.rows.iter_mut().for_each(|row| {
            row.remove(1);
        });
        table.to_text()
    }

    /// What the run was: name and value of each line of the environment table.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let memory = self.peak_rss_mb.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MB"));
        let unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        vec![
            ("profile", unknown(&self.profile)),
            ("date", unknown(&self.date)),
            ("commit", unknown(&self.commit)),
            ("machine", unknown(&self.machine)),
            ("device", format!("{}, {}, {} threads", self.device, self.precision, self.threads)),
            (
                "wall time",
                crate::display::progress::for_humans(std::time::Duration::from_secs_f64(self.seconds.max(0.0))),
            ),
            ("peak memory", memory),
            ("seeds, lineages", format!("{}, {}", self.seeds, self.lineages)),
        ]
    }
}

/// The current time in UTC, to the second: `2025-01-31T12:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_another_schema_is_not_misread() -> Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("report.json"), "{\"schema\": 1}")?;
        let error = Report::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("Some(1)") && error.contains("other rules"), "{error}");
        Ok(())
    }

    #[test]
    fn the_present_is_written_in_utc() {
        assert!(now().ends_with('Z') && now().len() == 20);
    }
}
