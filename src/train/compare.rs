//! Tuning runs beside each other: who learns faster?

use anyhow::{Context, Result, ensure};

use super::TuneRun;
use crate::display::{Axis, Bundle, Cell, Column, Figure, Point, Table};

/// The share of the first run's last score that has to be reached, as in claim C4.
const SHARE: f64 = 0.95;

/// Learning curves of several runs in one figure, and a row of numbers for each: say tuning from scratch and from recycled weights.
/// Speed is measured against the first run.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// # let (run, recycled): (recyclable::train::TuneRun, recyclable::train::TuneRun) = unimplemented!();
/// recyclable::train::compare_runs(&[("from scratch", &run), ("recycled", &recycled)])?
/// # ; Ok(()) }
/// ```
///
/// Errors: no runs, one that was never evaluated, two of one name.
pub fn compare_runs(runs: &[(&str, &TuneRun)]) -> Result<Bundle> {
    let (first, reference) = runs.first().context("there are no runs to compare")?;
    let target = SHARE * reference.curve.last().with_context(|| format!("{first} was never evaluated"))?.dev.accuracy;
    let mut figure = Figure::lines("learning-curves", title(runs), Axis::new("updates"), Axis::new("dev accuracy"));
    let columns = vec![
        Column::text("run"),
        Column::number("best dev accuracy", 3),
        Column::number("after updates", 0),
        Column::number("dev accuracy at the end", 3),
        Column::number(format!("updates to reach {target:.3}"), 0),
        Column::number("seconds", 1),
    ];
    let mut table = Table::new("compared-runs", "The runs side by side", columns);
    for (at, (name, run)) in runs.iter().enumerate() {
        ensure!(!runs[..at].iter().any(|(known, _)| known == name), "two runs are called {name:?}: rename one");
        let last = run.curve.last().with_context(|| format!("{name} was never evaluated"))?;
        let best = run.curve.iter().map(|point| point.dev.accuracy).fold(f64::NEG_INFINITY, f64::max);
        let reached = run.curve.iter().find(|point| point.dev.accuracy >= target).map(|point| point.step);
        let points = run.curve.iter().map(|point| Point::new(point.step as f64, point.dev.accuracy)).collect();
        figure = figure.line(*name, points);
        table.push([
            Cell::from(*name),
            best.into(),
            run.best_step.into(),
            last.dev.accuracy.into(),
            reached.into(),
            run.seconds.into(),
        ]);
    }
    let figure = figure
        .reference("to reach", target)
        .caption(format!("Dashed: {:.0} % of the accuracy that \"{first}\" ends with.", 100.0 * SHARE));
    Ok(Bundle::new().figure(figure).table(table))
}

/// Names the task where all runs are on one.
fn title(runs: &[(&str, &TuneRun)]) -> String {
    let task = |run: &TuneRun| run.best.card.task.clone();
    let first = runs.first().map_or(String::new(), |(_, run)| task(run));
    match runs.iter().all(|(_, run)| task(run) == first) {
        true => format!("Learning curves on {first}"),
        false => "Learning curves".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::model::{Adapted, EncoderConfig, Method, Model, Version};
    use crate::text::Tokenizer;
    use crate::train::{CurvePoint, LossPoint, Scores};

    /// A run with these dev accuracies after 10, 20, … updates.
    fn run(task: &str, accuracies: &[f64]) -> Result<TuneRun> {
        let version = Version::new(&EncoderConfig::tiny(8, 16, 12), &Tokenizer::word_level(&["a", "b", "c"])?, 0)?;
        let model = Model::classifier(&version, &["x".into(), "y".into()], &Method::Full, 0, Device::Cpu)?;
        let adapted = || Adapted::of(&model, &version, task, serde_json::Value::Null);
        let point = |(at, &accuracy): (usize, &f64)| CurvePoint {
            step: 10 * (at + 1),
            dev: Scores { accuracy, macro_f1: accuracy / 2.0, loss: 1.0, n: 50 },
        };
        let curve: Vec<CurvePoint> = accuracies.iter().enumerate().map(point).collect();
        let losses = vec![LossPoint { step: 10, loss: 1.5 }, LossPoint { step: 20, loss: 0.5 }];
        let best_step =
            curve.iter().max_by(|a, b| a.dev.accuracy.total_cmp(&b.dev.accuracy)).map_or(0, |best| best.step);
        Ok(TuneRun { best: adapted()?, best_step, last: adapted()?, curve, losses, seconds: 2.5, truncated: 0 })
    }

    #[test]
    fn the_faster_learner_is_seen_to_be_faster() -> Result<()> {
        let (slow, fast) = (run("topic", &[0.3, 0.6, 0.8])?, run("topic", &[0.77, 0.82, 0.81])?);
        let bundle = compare_runs(&[("from scratch", &slow), ("recycled", &fast)])?;
        let text = bundle.to_text();
        let numbers = |name: &str| {
            let row = text.lines().rfind(|line| line.starts_with(name)).unwrap_or_default();
            row.trim_start_matches(name).split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        assert!(text.contains("Learning curves on topic") && text.contains("updates to reach 0.760"), "{text}");
        assert_eq!(numbers("from scratch"), ["0.800", "30", "0.800", "30", "2.5"], "{text}");
        assert_eq!(numbers("recycled"), ["0.820", "20", "0.810", "10", "2.5"], "{text}");
        assert!(bundle.to_svg()?.contains("from scratch"));
        Ok(())
    }

    #[test]
    fn a_run_shows_its_curve_and_its_numbers() -> Result<()> {
        let shown = run("topic", &[0.3, 0.9, 0.8])?;
        let text = shown.to_string();
        for wanted in ["Tuning on topic", "accuracy", "macro-F1", "after 20 updates", "0.9000", "0.5000"] {
            assert!(text.contains(wanted), "{wanted:?} is not in {text}");
        }
        Ok(())
    }

    #[test]
    fn runs_that_cannot_be_told_apart_or_were_never_evaluated_are_refused() -> Result<()> {
        let (one, empty) = (run("topic", &[0.5])?, run("topic", &[])?);
        let refused = |runs: &[(&str, &TuneRun)]| compare_runs(runs).unwrap_err().to_string();
        assert!(refused(&[]).contains("no runs"));
        assert!(refused(&[("a", &one), ("a", &one)]).contains("two runs are called \"a\""));
        assert!(refused(&[("a", &one), ("b", &empty)]).contains("b was never evaluated"));
        Ok(())
    }
}
