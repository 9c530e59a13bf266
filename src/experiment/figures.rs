//! The figures of a reproduction, one a claim.

use anyhow::Result;

use super::claims::TARGET_SHARE;
use super::report::basis;
use super::runs::{INDEPENDENT, Source, Way, What};
use super::summary::Summary;
use super::tables::kept;
use crate::display::{Axis, Bar, Figure, Point};
use crate::stats;

impl Summary<'_> {
    /// C1; C2, C3 and C4 for each method; and C5 with C6. Why one of them cannot be drawn is added to `problems`.
    pub fn figures(&self, problems: &mut Vec<String>) -> Vec<Figure> {
        let methods = || self.profile.method_names().into_iter().enumerate();
        let paths = methods().map(|(method, name)| self.path_figure(method, name));
        let heads = methods().map(|(method, name)| self.heads_figure(method, name));
        let curves = methods().map(|(method, name)| self.learning_curves(method, name));
        let studies = paths.chain(heads).chain(curves);
        let figures = [self.compatibility_figure()].into_iter().chain(studies).chain([self.few_shot_figure()]);
        kept(figures.collect::<Vec<_>>(), "a figure", problems)
    }

    pub(super) fn caption(&self, what: &str) -> String {
        format!("{what} {}", basis(self.profile.seeds, self.profile.lineages))
    }

    pub(super) fn mean_chance(&self, tasks: &[&str]) -> Result<f64> {
        stats::mean(&tasks.iter().map(|task| self.chance(task)).collect::<Vec<_>>())
    }

    fn compatibility_figure(&self) -> Result<Figure> {
        let (tasks, versions) = (self.tasks(), self.versions());
        let names = versions.iter().map(|name| name.replacen('M', "M_", 1)).chain(["M_IND".to_string()]);
        let mut figure = Figure::lines(
            "C1-compatibility",
            "Outdated weights on newer versions",
            Axis::new("version that Δ_0 is applied to").names(names),
            Axis::new("test accuracy").range(0.0, 1.0),
        );
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let point = |at: usize, version: &str| -> Result<Point> {
                let interval = stats::t_interval(&self.accuracy(method, &tasks, &What::Outdated, version)?)?;
                Ok(Point::interval(at as f64, &interval))
            };
            let line = versions.iter().enumerate().map(|(at, version)| point(at, version)).collect::<Result<_>>()?;
            figure = figure.line(name, line).line(name, vec![point(versions.len(), INDEPENDENT)?]);
        }
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let ceiling = stats::mean(&self.accuracy(method, &tasks, &What::Outdated, "M0")?)?;
            figure = figure.reference(format!("M_0, {name}"), ceiling);
        }
        Ok(figure.reference("chance", self.mean_chance(&self.tasks())?).caption(self.caption(
            "Δ_0, tuned on M_0, applied to every version without any training: how far does it fall from where it was tuned (the dotted \
             lines) towards chance? M_IND shares no ancestry with M_0.",
        )))
    }

    fn learning_curves(&self, method: usize, name: &str) -> Result<Figure> {
        let tasks = self.tasks();
        let curve = |what: &dyn Fn(&str) -> What| -> Result<Vec<Point>> {
            let steps: Vec<usize> =
                self.outcome(0, 0, method, tasks[0], &what(tasks[0]))?.curve.iter().map(|point| point.0).collect();
            let at = |(place, &step): (usize, &usize)| -> Result<Point> {
                let scores = self.per_seed(&tasks, |lineage, seed, task| {
                    Ok(self.outcome(lineage, seed, method, task, &what(task))?.curve[place].1)
                })?;
                Ok(Point::interval(step as f64, &stats::t_interval(&scores)?))
            };
            steps.iter().enumerate().map(at).collect()
        };
        let init = curve(&|task| What::Init { target: 1, from: Source::Outdated { task: task.to_string() } })?;
        let conventional = curve(&|_| What::Conventional { target: 1 })?;
        let figure = Figure::lines(
            format!("C4-initialization-{name}"),
            format!("Tuning M_1 from recycled weights and from scratch ({name})"),
            Axis::new("updates"),
            Axis::new("dev accuracy").range(0.0, 1.0),
        );
        let goal = TARGET_SHARE * conventional.last().map_or(f64::NAN, |point| point.y);
        let figure = figure.band("recycled: M_1 ⊕ Δ_0", init).band("conventional", conventional);
        Ok(figure.reference("95 % of the end", goal).reference("chance", self.mean_chance(&self.tasks())?).caption(self.caption(
            "Dev accuracy while M_1 is tuned with all labels: how much sooner does the recycled start cross the line at 95 % of where \
             conventional tuning ends, and does it end as high? The bands are 95 % intervals.",
        )))
    }

    fn few_shot_figure(&self) -> Result<Figure> {
        let tasks = self.tasks();
        let groups = ["labels only", "distilled", "init", "combined"];
        let mut figure = Figure::grouped(
            "C5-C6-few-shot",
            "Few labels on the upgraded version",
            groups,
            Axis::new("test accuracy").range(0.0, 1.0),
        );
        let mut teachers = Vec::new();
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let bars = Way::CLAIMED.map(|way| Ok(Some(Bar::of(&self.few_shot(method, &tasks, way)?)?)));
            figure = figure.bars(name, bars.into_iter().collect::<Result<_>>()?);
            teachers.push((name, stats::mean(&self.accuracy(method, &tasks, &What::Outdated, "M0")?)?));
        }
        for (name, teacher) in teachers {
            figure = figure.reference(format!("teacher, {name}"), teacher);
        }
        let what = format!(
            "With {} labelled texts a class, what the outdated weights add to the labels.",
            self.profile.few_shot.shots
        );
        Ok(figure.reference("chance", self.mean_chance(&self.tasks())?).caption(self.caption(&what)))
    }
}
