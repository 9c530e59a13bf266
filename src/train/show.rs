//! Training runs and scores in notebooks and terminals.

use anyhow::Result;

use super::{
    EncodedTask, Evaluation, LossPoint, Optimisation, PretrainConfig, PretrainRun, Scores, TuneConfig, TuneRun,
};
use crate::display::settings::settings;
use crate::display::{Axis, Bundle, Cell, Figure, Point, Show, Table, thousands};

/// Training loss over updates.
pub(crate) fn loss_figure(title: &str, losses: &[LossPoint]) -> Figure {
    let points = losses.iter().filter(|point| point.loss.is_finite());
    let points = points.map(|point| Point::new(point.step as f64, point.loss)).collect();
    Figure::lines("training-loss", title, Axis::new("updates"), Axis::new("training loss (nats)")).line("loss", points)
}

impl PretrainRun {
    /// Training loss over updates.
    pub fn figure(&self) -> Figure {
        loss_figure("Masked-LM pre-training", &self.losses)
            .caption("Nats a masked token, each point the mean of the updates before it.")
    }
}

impl Show for PretrainRun {
    fn show(&self) -> Result<Bundle> {
        let last = self.losses.last();
        let facts = [
            ("updates", Cell::from(last.map(|point| point.step))),
            ("first loss read", self.losses.first().map(|point| point.loss).into()),
            ("last loss read", last.map(|point| point.loss).into()),
            ("seconds", format!("{:.1}", self.seconds).into()),
            ("tokens a second", (self.tokens_per_second.max(0.0) as usize).into()),
            ("documents cut off", self.truncated.into()),
            ("fingerprint", self.version.fingerprint()?.chars().take(12).collect::<String>().into()),
        ];
        let table = Table::facts("The run", facts);
        // A run that was complete when it was taken up again has read no loss.
        Ok(if self.losses.is_empty() { Bundle::new() } else { Bundle::new().figure(self.figure()) }.table(table))
    }
}

impl TuneRun {
    /// Accuracy and macro-F1 on dev over updates.
    pub fn figure(&self) -> Figure {
        let line = |of: &dyn Fn(&Scores) -> f64| {
            self.curve.iter().map(|point| Point::new(point.step as f64, of(&point.dev))).collect::<Vec<_>>()
        };
        let title = format!("Tuning on {}", self.best.card.task);
        Figure::lines("tuning", title, Axis::new("updates"), Axis::new("score on dev"))
            .line("accuracy", line(&|scores| scores.accuracy))
            .line("macro-F1", line(&|scores| scores.macro_f1))
            .caption(format!(
                "Best on dev, and kept, are the weights after {} updates.",
                thousands(self.best_step as i64)
            ))
    }
}

impl Show for TuneRun {
    fn show(&self) -> Result<Bundle> {
        let dev = |step: usize| self.curve.iter().find(|point| point.step == step).map(|point| point.dev);
        let (best, last) = (dev(self.best_step), self.curve.last().map(|point| point.dev));
        let facts = [
            ("method", Cell::from(self.best.card.method.name())),
            ("recycled from older versions", self.best.card.ancestry.len().into()),
            ("best dev accuracy", best.map(|scores| scores.accuracy).into()),
            ("best dev macro-F1", best.map(|scores| scores.macro_f1).into()),
            ("dev accuracy at the end", last.map(|scores| scores.accuracy).into()),
            ("training loss at the end", self.losses.last().map(|point| point.loss).into()),
            ("seconds", format!("{:.1}", self.seconds).into()),
            ("texts cut off", self.truncated.into()),
        ];
        let table = Table::facts("The run", facts);
        Ok(if self.curve.is_empty() { Bundle::new() } else { Bundle::new().figure(self.figure()) }.table(table))
    }
}

impl Show for Scores {
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("accuracy", Cell::from(self.accuracy)),
            ("macro-F1", self.macro_f1.into()),
            ("loss (nats)", self.loss.into()),
            ("examples", self.n.into()),
        ];
        Ok(Bundle::new().table(Table::facts("Scores", facts)))
    }
}

impl Show for Evaluation {
    fn show(&self) -> Result<Bundle> {
        let classes = self.predictions.iter().max().map_or(0, |largest| largest + 1);
        let count = |class: usize| self.predictions.iter().filter(|&&said| said == class).count();
        let counts: Vec<String> =
            (0..classes).map(|class| format!("{class}: {}", thousands(count(class) as i64))).collect();
        Ok(self.scores.show()?.text(format!("Predictions by class: {}", counts.join(", "))))
    }
}

impl Show for EncodedTask {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text("Train:").with(&self.train).text("Dev:").with(&self.dev))
    }
}

impl Show for PretrainConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("How a version is pre-trained", self, Some(&Self::default()))?))
    }
}

impl Show for TuneConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("How a version is tuned", self, Some(&Self::default()))?))
    }
}

impl Show for Optimisation {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("How parameters are moved", self, Some(&Self::default()))?))
    }
}

crate::displayable!(PretrainRun, TuneRun, Scores, Evaluation, EncodedTask, PretrainConfig, TuneConfig, Optimisation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_dial_stands_beside_its_default() {
        let config = TuneConfig { batch_size: 8, ..TuneConfig::default() };
        let text = config.to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(
            rows.contains(&vec!["batch_size", "8", "32"]) && rows.contains(&vec!["optimisation.steps", "200"]),
            "{text}"
        );
        assert!(rows.contains(&vec!["method", "full"]), "{text}");
    }

    #[test]
    fn an_evaluation_shows_scores_and_what_was_said() -> Result<()> {
        let scores = Scores { accuracy: 0.75, macro_f1: 0.7, loss: f64::NAN, n: 4 };
        let text = Evaluation { scores, predictions: vec![0, 2, 2, 2] }.to_string();
        assert!(text.contains("0.7500") && text.contains("0: 1, 1: 0, 2: 3"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("loss") && line.ends_with('–')), "{text}");
        Ok(())
    }
}
