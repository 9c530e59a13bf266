//! A report as files.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};

use super::document::Report;
use super::{markdown, page};
use crate::files::{write_atomic, write_json};

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

    /// The report as GitHub-flavoured Markdown; figures are linked from `figures/`.
    pub fn to_markdown(&self) -> String {
        markdown::markdown(self)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::claims::testing::claim;
    use crate::display::{Axis, Bar, Cell, Column, Figure, Table};
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
}
