//! A lineage in notebooks and terminals.

use anyhow::Result;

use super::{Finding, Lineage, VersionRecord};
use crate::display::settings::settings;
use crate::display::{Bundle, Show};

impl Show for Lineage {
    fn show(&self) -> Result<Bundle> {
        let mut bundle = Bundle::new().table(self.table()?);
        let versions = self.versions()?;
        if versions.iter().any(|(_, record)| !record.held_out.is_empty()) {
            bundle = bundle.table(self.forgetting()?);
        }
        for (name, _) in versions {
            if !self.adapted_ids(&name)?.is_empty() {
                bundle = bundle.table(self.adapted_table(&name)?);
            }
        }
        Ok(bundle)
    }
}

impl Show for VersionRecord {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings(&format!("Where {} comes from", self.name), self, None)?))
    }
}

impl Show for Finding {
    fn show(&self) -> Result<Bundle> {
        self.to_string().show()
    }
}

crate::displayable!(Lineage, VersionRecord);
crate::displayable!(notebook: Finding);
