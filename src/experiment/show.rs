//! Runs, claims and studies in notebooks and terminals.

use anyhow::Result;

use super::baselines::Baseline;
use super::claims::{Claim, CompatibilitySeed, InitializationRun, Verdict};
use super::compare::RunComparison;
use super::report::Report;
use super::studies::VersionDistances;
use super::sweep::{Sweep, SweepPoint};
use super::world_check::{Finding, WorldCheck, WorldCheckConfig};
use super::{Compute, Profile};
use crate::device::device_name;
use crate::display::settings::settings;
use crate::display::{Bundle, Cell, Column, Show, Table};

impl Show for Report {
    /// The claims and the notes; figures and further tables are in the written report, and in `figures` and `tables`.
    fn show(&self) -> Result<Bundle> {
        let bundle = Bundle::new().table(self.claims_table());
        let bundle = self.notes.iter().fold(bundle, |bundle, note| bundle.text(note.as_str()));
        Ok(bundle.text(format!(
            "Profile {} on {}, {} in {:.0} s. It has {} figures and {} more tables.",
            self.profile,
            self.device,
            self.precision,
            self.seconds,
            self.figures.len(),
            self.tables.len()
        )))
    }
}

impl Show for Claim {
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("statement", Cell::from(self.statement.as_str())),
            ("rule", self.rule.as_str().into()),
            (self.quantity.as_str(), Cell::from(Cell::from(&self.interval()).show(3))),
            ("seeds", self.n.into()),
            ("verdict", self.verdict().to_string().into()),
        ];
        let note = (!self.note.is_empty()).then(|| ("note", Cell::from(self.note.as_str())));
        let parts = self.parts.iter().map(|(name, value)| (name.as_str(), Cell::from(*value)));
        let table = Table::facts(format!("Claim {}", self.id), facts.into_iter().chain(note).chain(parts));
        Ok(Bundle::new().table(table))
    }
}

impl Show for Verdict {
    fn show(&self) -> Result<Bundle> {
        self.to_string().show()
    }
}

impl Show for CompatibilitySeed {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Retained shares of one seed", self, None)?))
    }
}

impl Show for InitializationRun {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Recycled and conventional tuning of one seed", self, None)?))
    }
}

impl Show for RunComparison {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(self.claims_table()?).table(self.settings_table()))
    }
}

impl Show for Sweep {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().figure(self.figure()?).table(self.table()?.caption("")))
    }
}

impl Show for SweepPoint {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("One setting of the dial", self, None)?))
    }
}

impl Show for Finding {
    fn show(&self) -> Result<Bundle> {
        let mark = if self.holds { '✓' } else { '✗' };
        let facts = [("measured", Cell::from(self.measured)), ("rule", self.rule.as_str().into())];
        let parts = self.parts.iter().map(|(name, value)| (name.as_str(), Cell::from(*value)));
        Ok(Bundle::new().table(Table::facts(format!("{mark} {}", self.statement), facts.into_iter().chain(parts))))
    }
}

impl Show for WorldCheck {
    fn show(&self) -> Result<Bundle> {
        let columns = ["", "finding", "measured", "rule"].map(Column::text).to_vec();
        let failed = self.findings.iter().filter(|finding| !finding.holds).count();
        let title = match failed {
            0 => format!("All {} hold: this world is no toy", self.findings.len()),
            _ => format!("{failed} of {} fail", self.findings.len()),
        };
        let mut table =
            Table::new("world-check", title, columns).caption(format!("Seed {}, {:.0} s.", self.seed, self.seconds));
        for finding in &self.findings {
            let mark = if finding.holds { "✓" } else { "✗" };
            table.push([mark, finding.statement.as_str(), &format!("{:.3}", finding.measured), finding.rule.as_str()]);
        }
        Ok(Bundle::new().table(table))
    }
}

impl Show for WorldCheckConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("How the world is checked", self, Some(&Self::default()))?))
    }
}

impl Show for VersionDistances {
    fn show(&self) -> Result<Bundle> {
        let titled = |title: &str, distances: &crate::analysis::Distances| Table {
            title: title.to_string(),
            ..distances.table()
        };
        let mut bundle = Bundle::new().table(titled("Between the versions", &self.versions));
        if let Some(deltas) = &self.deltas {
            bundle = bundle.table(titled("Between what tuning left on each", deltas));
        }
        if let Some(angle) = &self.delta_and_upgrade {
            bundle = bundle.table(titled("Between Δ of the first (a) and the way to the second (b)", angle));
        }
        Ok(bundle)
    }
}

impl Show for Profile {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings(&format!("Profile {}", self.name), self, None)?))
    }
}

impl Show for Compute {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(format!("{}, {} threads", device_name(self.device), self.threads)))
    }
}

impl Show for Baseline {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(format!("accuracy {:.3} on {} texts", self.accuracy, self.predictions.len())))
    }
}

crate::displayable!(Report, Claim, CompatibilitySeed, InitializationRun, RunComparison, Sweep, SweepPoint, Finding);
crate::displayable!(WorldCheckConfig, VersionDistances, Profile, Compute, Baseline);
crate::displayable!(notebook: Verdict, WorldCheck);
