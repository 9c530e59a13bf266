//! Reports in notebooks and terminals.

use anyhow::Result;

use super::compare::RunComparison;
use super::document::Report;
use super::sweep::SweepReport;
use crate::display::{Bundle, Show};

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

impl Show for RunComparison {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(self.claims_table()?).table(self.settings_table()))
    }
}

impl Show for SweepReport {
    fn show(&self) -> Result<Bundle> {
        let bundle = self.figures.iter().fold(Bundle::new(), |bundle, figure| bundle.figure(figure.clone()));
        Ok(bundle.table(self.table.clone()))
    }
}

crate::displayable!(Report, RunComparison, SweepReport);
