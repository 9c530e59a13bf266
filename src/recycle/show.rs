//! Recycling methods in notebooks and terminals. What they give is a tuning run, which shows itself.

use anyhow::Result;

use super::{Combined, Distill, DistillConfig, Init, Interpolation, Recycle};
use crate::display::settings::settings;
use crate::display::{Bundle, Show, thousands};
use crate::text::Text;

impl Show for Init {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text("Initialization: starts from M_{i+1} ⊕ Δ_i and learns from the labels."))
    }
}

impl Show for Distill {
    fn show(&self) -> Result<Bundle> {
        let how =
            "Distillation: starts fresh on M_{i+1} and learns from the labels and from the outdated model M_i ⊕ Δ_i.";
        Ok(Bundle::new().text(how).with(&self.distill).text(unlabelled(self.name(), &self.unlabelled)))
    }
}

impl Show for Combined {
    fn show(&self) -> Result<Bundle> {
        let how = "Both: starts from M_{i+1} ⊕ Δ_i and learns from the labels and from the outdated model M_i ⊕ Δ_i.";
        Ok(Bundle::new().text(how).with(&self.distill).text(unlabelled(self.name(), &self.unlabelled)))
    }
}

fn unlabelled(method: &str, texts: &[Text]) -> String {
    match texts.len() {
        0 => format!("The teacher of \"{method}\" is asked about the labelled texts alone."),
        count => format!(
            "The teacher of \"{method}\" is asked about {} texts without labels as well.",
            thousands(count as i64)
        ),
    }
}

impl Show for DistillConfig {
    fn show(&self) -> Result<Bundle> {
        let table = settings("The distillation loss", self, Some(&Self::default()))?;
        Ok(Bundle::new().table(table.caption("L = (1 − alpha)·L_task + alpha·L_kd + beta·L_hidden")))
    }
}

impl Show for Interpolation {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Points between student and teacher", self, Some(&Self::default()))?))
    }
}

crate::displayable!(Init, Distill, Combined, DistillConfig, Interpolation);
