//! Results and verdicts → tables, figures, `report.json`, `report.md` and `report.html`; comparisons of two reports.
//!
//! [`reproduce()`] is the main job: perform the experiment, judge the claims, write the report.

pub mod compare;
mod figures;
mod markdown;
mod page;
mod reproduce;
mod show;
mod sweep;
mod tables;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use compare::RunComparison;
pub use reproduce::{rejudge, reproduce};
pub use sweep::{SweepReport, report_sweep};

use crate::claims::{Claim, Verdict, basis};
use crate::device::{machine, peak_rss_mb};
use crate::display::{Cell, Column, Figure, Table};
use crate::experiment::Unit;
use crate::files::{read_json, write_atomic, write_json};

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
    /// Writes everything into `folder`: `figures/*.svg`, `figures/*.png`, `report.md`, `report.html` and, last, `report.json`, so that
    /// where it stands the rest does too. Each file is replaced whole.
    ///
    /// Errors: two figures of one name, a figure that cannot be drawn, an unwritable folder.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let mut names = BTreeSet::new();
        let mut drawings = Vec::new();
        for figure in &self.figures {
            ensure!(names.insert(&figure.id), "two figures of the report are called \"{}\": rename one", figure.id);
            let svg = figure.to_svg()?;
            write_atomic(folder.join(format!("figures/{}.svg", figure.id)), svg.as_bytes())?;
            write_atomic(folder.join(format!("figures/{}.png", figure.id)), &figure.to_png()?)?;
            drawings.push(svg);
        }
        write_atomic(folder.join("report.md"), markdown::markdown(self).as_bytes())?;
        write_atomic(folder.join("report.html"), page::html(self, &drawings).as_bytes())?;
        write_json(folder.join("report.json"), self)
    }

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
        basis(self.unit, self.lineages, self.seeds)
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

    /// The report as GitHub-flavoured Markdown; figures are linked from `figures/`.
    pub fn to_markdown(&self) -> String {
        markdown::markdown(self)
    }
}

/// The current time in UTC, to the second: `2025-01-31T12:00:00Z`.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::testing::claim;
    use crate::display::{Axis, Bar};
    use crate::stats::{Bound, Side};

    fn report() -> Result<Report> {
        let mut table =
            Table::new("few_shot.full", "Few-shot <b>", vec![Column::text("method"), Column::number("acc", 3)]);
        table.push([Cell::from("<script>alert(1)</script>"), Cell::from(0.5)]);
        let figure = Figure::grouped("C5.full", "Few-shot & more", ["topic"], Axis::new("accuracy"))
            .bars("labels only", vec![Some(Bar::of(&[0.4, 0.5])?)])
            .caption("<script>caption</script>");
        let above_zero = Bound { side: Side::Above, value: 0.0 };
        Ok(Report {
            profile: "tiny".into(),
            seeds: 2,
            claims: vec![
                claim("C5", &[0.2, 0.19], above_zero)?,
                claim("C5", &[0.2], above_zero)?,
                claim("C6", &[-0.1, -0.11], above_zero)?,
                claim("C6", &[-0.1, 0.2], above_zero)?,
            ],
            tables: vec![table],
            figures: vec![figure],
            notes: vec!["mind the <script>".into()],
            settings: serde_json::json!({"steps": 200, "name": "</pre><script>"}),
            ..Report::default()
        })
    }

    #[test]
    fn a_written_report_has_every_file_and_comes_back() -> Result<()> {
        let folder = tempfile::tempdir()?;
        report()?.write(folder.path())?;
        for file in ["report.json", "report.md", "report.html", "figures/C5.full.svg", "figures/C5.full.png"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        let back = Report::load(folder.path())?;
        assert_eq!((back.claims.len(), back.seeds, back.tables.len()), (4, 2, 1));
        assert_eq!(back.claims, report()?.claims);
        Ok(())
    }

    #[test]
    fn the_json_has_the_keys_that_others_rely_on() -> Result<()> {
        let json = serde_json::to_value(report()?)?;
        let keys = "schema commit profile device precision threads seconds peak_rss_mb claims tables";
        for key in keys.split(' ') {
            assert!(json.get(key).is_some(), "{key}");
        }
        for key in "id statement rule measured ci95 per_unit unit n verdict holm".split(' ') {
            assert!(json["claims"][0].get(key).is_some(), "claims[].{key}");
        }
        assert_eq!((&json["schema"], &json["claims"][0]["unit"]), (&2.into(), &"seed".into()));
        assert_eq!(json["claims"][0]["ci95"].as_array().map(Vec::len), Some(2));
        assert!(json["claims"][1]["ci95"].is_null(), "one unit has no interval");
        let verdicts = [0, 1, 2, 3].map(|at| json["claims"][at]["verdict"].as_str());
        assert_eq!(verdicts, ["holds", "undecided", "refuted", "undecided"].map(Some));
        Ok(())
    }

    #[test]
    fn a_page_stands_alone_and_runs_no_script() -> Result<()> {
        let report = report()?;
        let drawings = report.figures.iter().map(Figure::to_svg).collect::<Result<Vec<_>>>()?;
        let html = page::html(&report, &drawings);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
        for outside in ["src=", "href=\"http", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        for verdict in
            ["holds", "refuted", "undecided (one seed)", "more seeds would decide", "conditional on one lineage"]
        {
            assert!(html.contains(verdict), "{verdict}");
        }
        roxmltree::Document::parse(
            &html[html.find("<main").context("main")?..=html.rfind("</main>").context("end")? + 6],
        )?;
        Ok(())
    }

    #[test]
    fn markdown_names_verdicts_rules_and_figures() -> Result<()> {
        let text = report()?.to_markdown();
        assert!(text.contains("| C5.full |") && text.contains("| refuted |") && text.contains("undecided (one seed)"));
        assert!(text.contains("- **C6.full** Holds when") && text.contains("(figures/C5.full.svg)"));
        assert!(!text.split("```json").next().context("start")?.contains("<script"));
        Ok(())
    }

    #[test]
    fn two_figures_of_one_name_are_refused() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut report = report()?;
        report.figures.push(report.figures[0].clone());
        assert!(report.write(folder.path()).unwrap_err().to_string().contains("C5.full"));
        assert!(!folder.path().join("report.json").exists());
        Ok(())
    }

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
