//! The figures of a report, one a claim.

use anyhow::{Context, Result};

use super::tables::{Kind, kept, kinds};
use crate::claims::{CLAIMED, Evidence, Sample, TARGET_SHARE};
use crate::display::{Axis, Bar, Figure, Point};
use crate::experiment::results::{Pair, Recipe, Relation};
use crate::experiment::{PERMUTED_INNER, shown};
use crate::stats;

/// C1; C2, C3 and C4 for each method; and C5 with C6. Why one of them cannot be drawn is added to `problems`.
pub(super) fn figures(evidence: &Evidence, problems: &mut Vec<String>) -> Vec<Figure> {
    let methods = || evidence.methods().into_iter();
    let paths = methods().map(|method| paths(evidence, method));
    let heads = methods().map(|method| heads(evidence, method));
    let curves = methods().map(|method| learning_curves(evidence, method));
    let studies = paths.chain(heads).chain(curves);
    let figures = [compatibility(evidence)].into_iter().chain(studies).chain([few_shot(evidence)]);
    kept(figures.collect::<Vec<_>>(), "a figure", problems)
}

fn caption(evidence: &Evidence, what: &str) -> String {
    format!("{what} {}", evidence.basis())
}

fn point(x: f64, sample: &Sample) -> Result<Point> {
    Ok(Point::interval(x, &sample.interval()?))
}

fn compatibility(evidence: &Evidence) -> Result<Figure> {
    let (tasks, mut controls) = (evidence.tasks(), evidence.plan.controls());
    // The longest name stands at the edge, where there is room for it.
    controls.sort_by_key(|control| *control == PERMUTED_INNER);
    let versions: Vec<String> = ["M0".to_string()].into_iter().chain(evidence.upgraded()).collect();
    let names = versions.iter().map(String::as_str).chain(controls.iter().copied()).map(shown);
    let mut figure = Figure::lines(
        "C1-compatibility",
        "Outdated weights on newer versions",
        Axis::new("version that Δ_0 is applied to").names(names),
        Axis::new("test accuracy").range(0.0, 1.0),
    );
    for method in evidence.methods() {
        let at = |(place, version): (usize, &str)| {
            let recipe = |task: &str| match version {
                "M0" => Recipe::conventional("M0"),
                _ => Recipe::applied(version, task),
            };
            point(place as f64, &evidence.accuracy(method, &tasks, recipe)?)
        };
        let line = versions.iter().map(String::as_str).enumerate().map(at).collect::<Result<Vec<_>>>()?;
        figure = figure.line(method, line);
        for (number, control) in controls.iter().enumerate() {
            figure = figure.line(method, vec![at((versions.len() + number, control))?]);
        }
    }
    for method in evidence.methods() {
        let ceiling = evidence.accuracy(method, &tasks, |_| Recipe::conventional("M0"))?.interval()?.mean;
        figure = figure.reference(format!("M_0, {method}"), ceiling);
    }
    let what = "Δ_0, tuned on M_0, applied to every version without any training: how far does it fall from where it was tuned (the dashed \
                lines) towards chance? M_PERM is M_0 itself in other coordinates (M_PERM-inner: heads and neurons alone).";
    Ok(figure.reference("chance", evidence.mean_chance(&tasks)?).caption(caption(evidence, what)))
}

/// Accuracy along the paths of adjacent versions, of the whole lineage, and to the controls.
fn paths(evidence: &Evidence, method: &str) -> Result<Figure> {
    let groups = [
        ("adjacent versions", Relation::Adjacent),
        ("M_0 to the last version", Relation::Distant),
        ("M_0 to M_PERM", Relation::Permuted),
        ("M_0 to M_IND", Relation::Independent),
        ("two seeds of M_1", Relation::TwoSeeds),
    ];
    let mut figure = Figure::lines(
        format!("C2-paths-{method}"),
        format!("Accuracy on the straight way between tuned models ({method})"),
        Axis::new("μ, from one model (0) to the other (1)").range(0.0, 1.0),
        Axis::new("test accuracy").range(0.0, 1.0),
    );
    let points = evidence.plan.profile.pilot.points;
    for (label, relation) in groups {
        let at = |step: usize| -> Result<Option<Point>> {
            // Not a number where the loss is not finite: such a point is left out.
            let accuracy = |pair: &Pair| {
                let step = pair.path.get(step).context("the path has fewer points than the profile asks for")?;
                step.accuracy.context("no finite loss")
            };
            let mu = step as f64 / (points - 1) as f64;
            match evidence.compared(method, relation, accuracy) {
                Ok(sample) => point(mu, &sample).map(Some),
                Err(_) => Ok(None),
            }
        };
        let line = (0..points).map(at).collect::<Result<Vec<_>>>()?;
        // Where a model on the way has no finite loss the line has a gap.
        for piece in line.split(Option::is_none).filter(|piece| !piece.is_empty()) {
            figure = figure.band(label, piece.iter().flatten().copied().collect());
        }
    }
    let what = format!(
        "Two models in one basin would show no dip; M_PERM is M_0 in other coordinates. Accuracy {}. The \
         bands are 95 % intervals; ends of pairs are coupled, but for two seeds.",
        evidence.compared_on()
    );
    let chance = evidence.mean_chance(&evidence.plan.profile.pilot_tasks())?;
    Ok(figure.reference("chance", chance).caption(caption(evidence, &what)))
}

/// Corresponding against mismatched heads, pair by pair.
fn heads(evidence: &Evidence, method: &str) -> Result<Figure> {
    let shown = |kind: &Kind| {
        use Relation::{Adjacent, Distant, Independent, Permuted};
        matches!(kind.relation, Adjacent | Distant | Permuted | Independent)
    };
    let kinds: Vec<Kind> = kinds(evidence).into_iter().filter(shown).collect();
    let bars = |value: &dyn Fn(&Pair) -> f64| -> Result<Vec<Option<Bar>>> {
        let of = |kind: &Kind| Ok(Some(Bar::of(&kind.sample(evidence, method, |pair| Ok(value(pair)))?.values)?));
        kinds.iter().map(of).collect()
    };
    let figure = Figure::grouped(
        format!("C3-heads-{method}"),
        format!("Attention heads of tuned versions ({method})"),
        kinds.iter().map(Kind::name),
        Axis::new("similarity of attention, 1 − JS").range(0.0, 1.0),
    );
    let what = format!(
        "The lead of corresponding over mismatched heads says how much two models share their heads' roles. Similarity {}.",
        evidence.compared_on()
    );
    Ok(figure
        .bars("corresponding heads", bars(&|pair| pair.corresponding)?)
        .bars("mismatched heads", bars(&|pair| pair.mismatched)?)
        .caption(caption(evidence, &what)))
}

fn learning_curves(evidence: &Evidence, method: &str) -> Result<Figure> {
    let tasks = evidence.tasks();
    let curve = |recipe: &dyn Fn(&str) -> Recipe| -> Result<Vec<Point>> {
        let first = evidence.places().next().context("nothing was run")?;
        let steps = &evidence.run(first, method, tasks[0], &recipe(tasks[0]))?.curve;
        let at = |(number, step): (usize, &crate::experiment::results::DevPoint)| {
            let sample = evidence.sample(|place| {
                let scores = tasks.iter().map(|task| {
                    let curve = &evidence.run(place, method, task, &recipe(task))?.curve;
                    Ok(curve.get(number).context("a run was evaluated less often than the others")?.accuracy)
                });
                stats::mean(&scores.collect::<Result<Vec<_>>>()?)
            })?;
            point(step.updates as f64, &sample)
        };
        steps.iter().enumerate().map(at).collect()
    };
    let recycled = curve(&|task| Recipe::initialized("M1", task))?;
    let conventional = curve(&|_| Recipe::conventional("M1"))?;
    let figure = Figure::lines(
        format!("C4-initialization-{method}"),
        format!("Tuning M_1 from recycled weights and from scratch ({method})"),
        Axis::new("updates"),
        Axis::new("dev accuracy").range(0.0, 1.0),
    );
    let goal = TARGET_SHARE * conventional.last().map_or(f64::NAN, |point| point.y);
    let figure = figure.band("recycled: M_1 ⊕ Δ_0", recycled).band("conventional", conventional);
    let what = "Dev accuracy while M_1 is tuned with all labels, both at the usual learning rate: how much sooner does the recycled start cross \
                the line at 95 % of where conventional tuning ends, and does it end as high? The bands are 95 % intervals.";
    Ok(figure
        .reference("95 % of the end", goal)
        .reference("chance", evidence.mean_chance(&tasks)?)
        .caption(caption(evidence, what)))
}

fn few_shot(evidence: &Evidence) -> Result<Figure> {
    let tasks = evidence.tasks();
    let mut figure = Figure::grouped(
        "C5-C6-few-shot",
        "Few labels on the upgraded version",
        ["Δ_0 applied", "labels only", "distilled", "init", "combined"],
        Axis::new("test accuracy").range(0.0, 1.0),
    );
    for method in evidence.methods() {
        let applied = evidence.accuracy(method, &tasks, |task| Recipe::applied("M1", task));
        let students = CLAIMED.map(|(way, _)| evidence.few_shot(method, &tasks, way));
        let bars = [applied].into_iter().chain(students).map(|sample| Ok(Some(Bar::of(&sample?.values)?)));
        figure = figure.bars(method, bars.collect::<Result<_>>()?);
    }
    for method in evidence.methods() {
        let old = evidence.accuracy(method, &tasks, |_| Recipe::conventional("M0"))?.interval()?.mean;
        figure = figure.reference(format!("old model, {method}"), old);
    }
    let what = format!(
        "With {} labelled texts a class, what the outdated weights add to the labels; dotted: the old model M_0 ⊕ Δ_0, kept as it is.",
        evidence.plan.profile.few_shot.shots
    );
    Ok(figure.reference("chance", evidence.mean_chance(&tasks)?).caption(caption(evidence, &what)))
}
