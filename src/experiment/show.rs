//! Runs, claims and studies in notebooks and terminals.

use anyhow::Result;

use super::baselines::Baseline;
use super::studies::VersionDistances;
use super::sweep::SweepConfig;
use super::world_check::{Finding, WorldCheck, WorldCheckConfig};
use super::{Compute, Experiment, Profile};
use crate::device::device_name;
use crate::display::settings::settings;
use crate::display::{Bundle, Cell, Column, Show, Table};

impl Show for Experiment {
    /// How much was measured; what it says of the claims is for [`judge`](crate::claims::judge) to tell.
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("runs", Cell::from(self.results.runs.len())),
            ("comparisons", self.results.pairs.len().into()),
            ("lineages", self.profile.lineages.into()),
            ("seconds", self.seconds.into()),
        ];
        Ok(Bundle::new().table(Table::facts(format!("Experiment {}", self.profile.name), facts)))
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

impl Show for SweepConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("What is swept", self, Some(&Self::default()))?))
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

crate::displayable!(Experiment, Finding, WorldCheckConfig, SweepConfig, VersionDistances, Profile, Compute, Baseline);
crate::displayable!(notebook: WorldCheck);
