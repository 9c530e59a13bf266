//! Two runs side by side.

use std::collections::BTreeSet;

use anyhow::Result;

use super::document::Report;
use crate::claims::Claim;
use crate::display::{Cell, Column, Table};
use crate::stats;

/// Two reports and their names.
#[derive(Clone, Debug)]
pub struct RunComparison {
    /// What the two runs are called, say their folders.
    pub names: [String; 2],
    /// The reports.
    pub reports: [Report; 2],
}

impl RunComparison {
    /// Puts two reports beside each other.
    pub fn new(a: (impl Into<String>, Report), b: (impl Into<String>, Report)) -> RunComparison {
        RunComparison { names: [a.0.into(), b.0.into()], reports: [a.1, b.1] }
    }

    /// What the two runs differ in: machine, commit, seeds and every setting, one row each.
    pub fn settings_table(&self) -> Table {
        let [a, b] = &self.names;
        let columns = vec![Column::text("setting"), Column::text(a.as_str()), Column::text(b.as_str())];
        let mut table = Table::new("settings", "What the runs differ in", columns);
        let [first, second] = &self.reports;
        let mut rows: Vec<(String, String, String)> = Vec::new();
        for ((name, one), (_, other)) in first.environment().into_iter().zip(second.environment()) {
            rows.push((name.to_string(), one, other));
        }
        differing(&first.settings, &second.settings, "settings", &mut rows);
        for (name, one, other) in rows.into_iter().filter(|(_, one, other)| one != other) {
            table.push([name, one, other]);
        }
        if table.rows.is_empty() { table.caption("They do not differ in anything that is recorded.") } else { table }
    }

    /// Every claim of either run: what was measured, what became of it, and the difference.
    ///
    /// Where both runs have as many lineages and seeds, drawn from the same base seed on the same texts, the difference is paired by unit with
    /// its 95 % Student-t interval, and called a change only when that interval leaves zero out. Ratios of updates are compared as they are.
    pub fn claims_table(&self) -> Result<Table> {
        let [a, b] = &self.names;
        let columns = vec![
            Column::text("claim"),
            Column::text("quantity"),
            Column::number(a.as_str(), 3),
            Column::text("verdict"),
            Column::number(b.as_str(), 3),
            Column::text("verdict"),
            Column::number("difference (second − first)", 3),
            Column::text("changed"),
        ];
        let [first, second] = &self.reports;
        // Units pair where they stand for the same random numbers on the same texts.
        let same = |name: &str| first.settings[name] == second.settings[name];
        let repeats = |report: &Report| (report.unit, report.lineages, report.seeds);
        let paired =
            first.profile == second.profile && repeats(first) == repeats(second) && same("seed") && same("source");
        let caption = match paired {
            true => "Differences are second − first, paired by unit, with 95 % Student-t intervals.",
            false => {
                "The runs differ in texts, base seed, lineages, seeds or profile, so their units do not pair and no difference is judged."
            }
        };
        let mut table = Table::new("compared-claims", "Claims side by side", columns).caption(caption);
        let find = |report: &Report, id: &str| report.claims.iter().find(|claim| claim.id == id).cloned();
        let ids: BTreeSet<String> = self.reports.iter().flat_map(|r| r.claims.iter().map(|c| c.id.clone())).collect();
        for id in ids {
            let both = [find(first, &id), find(second, &id)];
            let quantity = both.iter().flatten().next().map_or(String::new(), |claim| claim.quantity.clone());
            let shown =
                |claim: &Option<Claim>| claim.as_ref().map_or(Cell::Empty(()), |claim| Cell::from(&claim.interval()));
            let verdict =
                |claim: &Option<Claim>| claim.as_ref().map_or("not measured".to_string(), |claim| claim.outcome());
            let (difference, changed) = match &both {
                [Some(one), Some(other)] if paired && one.n == other.n => {
                    let interval = stats::paired_difference(&other.per_unit, &one.per_unit)?;
                    let changed =
                        interval.bounds().map_or("undecided (one unit)", |[lo, hi]| match (lo > 0.0, hi < 0.0) {
                            (true, _) => "higher",
                            (_, true) => "lower",
                            _ => "no",
                        });
                    (Cell::from(&interval), changed)
                }
                _ => (Cell::Empty(()), "–"),
            };
            let row: [Cell; 8] = [
                id.into(),
                quantity.into(),
                shown(&both[0]),
                verdict(&both[0]).into(),
                shown(&both[1]),
                verdict(&both[1]).into(),
                difference,
                changed.into(),
            ];
            table.push(row);
        }
        Ok(table)
    }
}

/// The leaves in which two JSON values differ, with their paths.
fn differing(a: &serde_json::Value, b: &serde_json::Value, path: &str, rows: &mut Vec<(String, String, String)>) {
    use serde_json::Value;
    match (a, b) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in names {
                let value = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                differing(&value(one), &value(other), &format!("{path}.{name}"), rows);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                differing(one, other, &format!("{path}[{at}]"), rows);
            }
        }
        _ if a != b => rows.push((path.to_string(), a.to_string(), b.to_string())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::testing::claim;
    use crate::stats::{Bound, Side};
    use serde_json::json;

    fn report(gains: &[f64], profile: &str, steps: usize) -> Result<Report> {
        let claims = vec![claim("C5", gains, Bound { side: Side::Above, value: 0.0 })?];
        let settings = json!({"steps": steps, "tasks": ["a", "b"], "seed": 0, "source": "world"});
        Ok(Report { claims, profile: profile.to_string(), settings, seeds: gains.len(), ..Report::default() })
    }

    fn compare(a: Report, b: Report) -> RunComparison {
        RunComparison::new(("one", a), ("two", b))
    }

    #[test]
    fn a_difference_is_a_change_only_when_its_interval_leaves_zero_out() -> Result<()> {
        let base = || report(&[0.1, 0.2, 0.3], "tiny", 5);
        let changed = |other: Report| -> Result<String> {
            let table = compare(base()?, other).claims_table()?;
            Ok(table.rows[0][7].show(3))
        };
        assert_eq!(changed(report(&[0.2, 0.31, 0.39], "tiny", 5)?)?, "higher");
        assert_eq!(changed(report(&[0.0, 0.1, 0.19], "tiny", 5)?)?, "lower");
        assert_eq!(changed(report(&[0.3, 0.1, 0.4], "tiny", 5)?)?, "no");
        assert_eq!(changed(report(&[0.3, 0.1, 0.4], "text", 5)?)?, "–", "units of other profiles do not pair");
        assert_eq!(changed(report(&[0.3, 0.1], "tiny", 5)?)?, "–", "nor do other numbers of seeds");
        Ok(())
    }

    #[test]
    fn settings_that_differ_are_named_by_their_path() -> Result<()> {
        let text = compare(report(&[0.1], "tiny", 5)?, report(&[0.1], "tiny", 7)?).settings_table().to_text();
        assert!(text.contains("settings.steps") && !text.contains("tasks"), "{text}");
        Ok(())
    }

    #[test]
    fn a_claim_that_one_run_lacks_is_shown_as_not_measured() -> Result<()> {
        let lacking = Report { claims: Vec::new(), ..report(&[0.1, 0.2], "tiny", 5)? };
        let text = compare(report(&[0.1, 0.2], "tiny", 5)?, lacking).claims_table()?.to_text();
        assert!(text.contains("not measured"), "{text}");
        Ok(())
    }
}
