//! The tables of a reproduction.

use anyhow::{Context, Result};

use super::report::basis;
use super::runs::{INDEPENDENT, Source, Way, What};
use super::summary::Summary;
use crate::analysis::Flips;
use crate::display::{Cell, Column, Table};
use crate::stats;

impl Summary<'_> {
    /// Compatibility, flips, paths, heads, initialization, few-shot, baselines, forgetting; why one of them cannot be made is added to `problems`.
    pub fn tables(&self, problems: &mut Vec<String>) -> Vec<Table> {
        let tables = [
            self.compatibility_table(),
            self.flips_table(),
            self.path_table(),
            self.heads_table(),
            self.initialization_table(),
            self.few_shot_table(),
            self.baselines_table(false),
            self.baselines_table(true),
            Ok(self.forgetting_table()),
        ];
        kept(tables, "a table", problems)
    }

    pub(super) fn basis(&self) -> String {
        basis(self.profile.seeds, self.profile.lineages)
    }

    /// A mean with its interval over seeds.
    pub(super) fn cell(values: &[f64]) -> Result<Cell> {
        Ok(Cell::from(&stats::t_interval(values)?))
    }

    fn compatibility_table(&self) -> Result<Table> {
        let versions: Vec<String> = self.versions().into_iter().chain([INDEPENDENT.to_string()]).collect();
        let mut columns = vec![Column::text("method"), Column::text("task")];
        columns.extend(versions.iter().map(|name| Column::number(name.as_str(), 3)));
        columns.push(Column::number("chance", 3));
        let caption = format!(
            "{} Test accuracy of Δ_0, tuned on M_0, applied to every version without any training; chance is the majority class.",
            self.basis()
        );
        let mut table = Table::new("compatibility", "Outdated weights on newer versions", columns).caption(caption);
        let tasks = self.tasks();
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let rows = tasks.iter().map(|&task| (task, vec![task])).chain([("mean", tasks.clone())]);
            for (label, over) in rows {
                let mut row = vec![Cell::from(name), Cell::from(label)];
                for version in &versions {
                    row.push(Self::cell(&self.accuracy(method, &over, &What::Outdated, version)?)?);
                }
                row.push(stats::mean(&over.iter().map(|task| self.chance(task)).collect::<Vec<_>>())?.into());
                table.push(row);
            }
        }
        Ok(table)
    }

    fn flips_table(&self) -> Result<Table> {
        let columns = vec![
            Column::text("method"),
            Column::text("applied to"),
            Column::number("accuracy", 3),
            Column::number("positive flips", 3),
            Column::number("negative flips", 3),
        ];
        let caption = format!(
            "{} Test texts that Δ_0 gets wrong on M_0 and right on the version (positive), or right on M_0 and wrong on the version (negative), \
             as shares of all texts, averaged over tasks.",
            self.basis()
        );
        let mut table = Table::new("flips", "How answers change with the upgrade", columns).caption(caption);
        let tasks = self.tasks();
        let versions: Vec<String> = self.versions()[1..].iter().cloned().chain([INDEPENDENT.to_string()]).collect();
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            for version in &versions {
                let share = |rate: fn(&Flips) -> f64| {
                    self.per_seed(&tasks, |lineage, seed, task| {
                        let right = &self.outcome(lineage, seed, method, task, &What::Outdated)?.right;
                        let of = |name: &str| right.get(name).with_context(|| format!("no answers on {name} are kept"));
                        Ok(rate(&Flips::count(of("M0")?, of(version)?)?))
                    })
                };
                let mut row = vec![Cell::from(name), version.as_str().into()];
                row.push(Self::cell(&self.accuracy(method, &tasks, &What::Outdated, version)?)?);
                row.push(Self::cell(&share(Flips::positive_rate)?)?);
                row.push(Self::cell(&share(Flips::negative_rate)?)?);
                table.push(row);
            }
        }
        Ok(table)
    }

    fn initialization_table(&self) -> Result<Table> {
        let columns = vec![
            Column::text("method"),
            Column::text("tasks"),
            Column::text("on"),
            Column::text("start"),
            Column::number("steps to 95 %", 0),
            Column::number("ratio to conventional", 2),
            Column::number("test accuracy", 3),
        ];
        let caption = format!(
            "{} Steps until the dev score reaches 95 % of conventional tuning's final one, on equal budgets; a run that never gets there counts \
             as more than the budget. Test accuracy of the model that dev chose.",
            self.basis()
        );
        let mut table =
            Table::new("initialization", "Tuning upgraded versions with all labels", columns).caption(caption);
        let first = self.profile.tasks[0].name.as_str();
        let same = |task: &str| Source::Outdated { task: task.to_string() };
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let mut groups = vec![(self.tasks(), 1)];
            groups.extend(
                self.profile
                    .tasks
                    .iter()
                    .flat_map(|task| task.targets[1..].iter().map(|&target| (vec![task.name.as_str()], target))),
            );
            for (tasks, target) in groups {
                let label = if tasks.len() == 1 { tasks[0] } else { "all" };
                self.initialization_rows(
                    &mut table,
                    method,
                    name,
                    label,
                    &tasks,
                    target,
                    &[("Δ_0, same task", &same)],
                )?;
            }
            for source in &self.profile.sources {
                let label = format!("Δ_0, {} task ({})", source.relation, source.task);
                let other = |_: &str| Source::Outdated { task: source.task.clone() };
                let start: [Start; 1] = [(&label, &other)];
                self.recycled_row(&mut table, method, name, first, &[first], 1, start[0])?;
            }
            let starts: [Start; 3] = [
                ("Δ_0, same task", &same),
                ("Δ_1, conventional", &|_| Source::ConventionalOnFirst),
                ("Δ_1, itself recycled", &|_| Source::RecycledOnFirst),
            ];
            self.initialization_rows(&mut table, method, name, first, &[first], 2, &starts)?;
        }
        Ok(table)
    }

    /// Conventional tuning, and below it each recycled start.
    #[allow(clippy::too_many_arguments, reason = "a row is that many cells")]
    fn initialization_rows(
        &self,
        table: &mut Table,
        method: usize,
        name: &str,
        label: &str,
        tasks: &[&str],
        target: usize,
        starts: &[Start],
    ) -> Result<()> {
        let (_, of) = starts.first().context("no start")?;
        let steps = self.per_seed(tasks, |lineage, seed, task| {
            Ok(self.initialization_run(lineage, seed, method, task, target, of(task))?.steps_conventional as f64)
        })?;
        let accuracy = self.accuracy(method, tasks, &What::Conventional { target }, "test")?;
        let on = format!("M_{target}");
        let mut row =
            vec![Cell::from(name), label.into(), on.into(), "conventional".into(), Self::cell(&steps)?, 1.0.into()];
        row.push(Self::cell(&accuracy)?);
        table.push(row);
        starts.iter().try_for_each(|start| self.recycled_row(table, method, name, label, tasks, target, *start))
    }

    #[allow(clippy::too_many_arguments, reason = "a row is that many cells")]
    fn recycled_row(
        &self,
        table: &mut Table,
        method: usize,
        name: &str,
        label: &str,
        tasks: &[&str],
        target: usize,
        (start, from): Start,
    ) -> Result<()> {
        let over = |value: &dyn Fn(super::claims::InitializationRun) -> f64| {
            self.per_seed(tasks, |lineage, seed, task| {
                Ok(value(self.initialization_run(lineage, seed, method, task, target, from(task))?))
            })
        };
        let on = format!("M_{target}");
        let mut row = vec![Cell::from(name), label.into(), on.into(), start.into()];
        row.push(Self::cell(&over(&|run| run.steps_init as f64)?)?);
        row.push(Self::cell(&over(&|run| run.ratio())?)?);
        row.push(Self::cell(&over(&|run| run.best_init)?)?);
        table.push(row);
        Ok(())
    }

    fn few_shot_table(&self) -> Result<Table> {
        let tasks = self.tasks();
        let mut columns = vec![Column::text("method"), Column::text("student on M_1")];
        columns.extend(tasks.iter().map(|&task| Column::number(task, 3)));
        columns.push(Column::number("mean", 3));
        let caption = format!(
            "{} Test accuracy with {} labelled texts a class, in train and in dev. The teacher is M_0 ⊕ Δ_0, tuned on all labels.",
            self.basis(),
            self.profile.few_shot.shots
        );
        let mut table = Table::new("few-shot", "Few labels on the upgraded version", columns).caption(caption);
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            let student = |way| What::FewShot { target: 1, way };
            let mut rows = vec![
                ("teacher on M_0".to_string(), What::Outdated, "M0", method),
                ("Δ_0 applied, no training".to_string(), What::Outdated, "M1", method),
            ];
            rows.extend(
                Way::CLAIMED
                    .into_iter()
                    .chain(Way::VARIANTS)
                    .map(|way| (way.name().to_string(), student(way), "test", method)),
            );
            rows.push(("bag of words".to_string(), What::BagOfWords, "test", 0));
            for (label, what, score, method) in rows {
                let mut row = vec![Cell::from(name), label.into()];
                for over in tasks.iter().map(|&task| vec![task]).chain([tasks.clone()]) {
                    row.push(Self::cell(&self.accuracy(method, &over, &what, score)?)?);
                }
                table.push(row);
            }
            for task in &self.profile.tasks {
                for &target in &task.targets[1..] {
                    for way in Way::CLAIMED {
                        let values = self.accuracy(method, &[&task.name], &What::FewShot { target, way }, "test")?;
                        let mut row =
                            vec![Cell::from(name), format!("{}, on M_{target} (own domain)", way.name()).into()];
                        row.extend(
                            tasks
                                .iter()
                                .map(
                                    |&other| if other == task.name { Self::cell(&values) } else { Ok(Cell::Empty(())) },
                                )
                                .collect::<Result<Vec<_>>>()?,
                        );
                        table.push(row);
                    }
                }
            }
        }
        Ok(table)
    }

    fn baselines_table(&self, macro_f1: bool) -> Result<Table> {
        let tasks = self.tasks();
        let mut columns = vec![Column::text("classifier")];
        columns.extend(tasks.iter().map(|&task| Column::number(task, 3)));
        columns.push(Column::number("mean", 3));
        let (id, title, what) = match macro_f1 {
            false => ("baselines", "With all labels: accuracy", "accuracy"),
            true => ("baselines-macro-f1", "With all labels: macro-F1", "macro-F1"),
        };
        let limits = &self.profile.limits;
        let caption = format!(
            "{} Test {what}, at most {} training texts a task; the own version is the one whose domain the task is from.",
            self.basis(),
            limits.train
        );
        let mut table = Table::new(id, title, columns).caption(caption);
        let target_of = |task: &str| {
            let plan = self.profile.tasks.iter().find(|plan| plan.name == task);
            plan.and_then(|plan| plan.targets.last().copied()).unwrap_or(1)
        };
        let score = |method: usize, task: &str, what: &What, name: &str| {
            self.per_seed(&[task], |lineage, seed, task| {
                let outcome = self.outcome(lineage, seed, method, task, what)?;
                let scores = if macro_f1 { &outcome.macro_f1 } else { &outcome.accuracy };
                scores.get(name).copied().with_context(|| format!("a run on {task} has no score named {name}"))
            })
        };
        type Read<'b> = Box<dyn Fn(&str) -> Result<Vec<f64>> + 'b>;
        let mut rows: Vec<(String, Read)> = vec![
            ("majority class".into(), Box::new(|task| score(0, task, &What::BagOfWords, "majority"))),
            ("TF-IDF + logistic regression".into(), Box::new(|task| score(0, task, &What::BagOfWords, "all labels"))),
            ("untrained network, full".into(), Box::new(|task| score(0, task, &What::Untrained, "test"))),
        ];
        for (method, name) in self.profile.method_names().into_iter().enumerate() {
            rows.push((format!("M_0, {name}"), Box::new(move |task| score(method, task, &What::Outdated, "M0"))));
            rows.push((
                format!("M_1, {name}"),
                Box::new(move |task| score(method, task, &What::Conventional { target: 1 }, "test")),
            ));
            if self.profile.tasks.iter().any(|task| task.targets.len() > 1) {
                let own =
                    move |task: &str| score(method, task, &What::Conventional { target: target_of(task) }, "test");
                rows.push((format!("own version (or M_1), {name}"), Box::new(own)));
            }
        }
        for (label, read) in &rows {
            let scores = tasks.iter().map(|task| read(task)).collect::<Result<Vec<_>>>()?;
            let means: Vec<f64> = (0..self.profile.seeds)
                .map(|seed| scores.iter().map(|s| s[seed]).sum::<f64>() / scores.len() as f64)
                .collect();
            let mut row = vec![Cell::from(label.as_str())];
            row.extend(scores.iter().chain([&means]).map(|values| Self::cell(values)).collect::<Result<Vec<_>>>()?);
            table.push(row);
        }
        Ok(table)
    }

    fn forgetting_table(&self) -> Table {
        let domains: Vec<&str> = self.materials.held_out.iter().map(|corpus| corpus.name.as_str()).collect();
        let mut columns = vec![Column::text("version"), Column::text("pre-trained on")];
        columns.extend(domains.iter().map(|&name| Column::number(name, 3)));
        columns.extend([Column::number("seconds", 0), Column::number("tokens/s", 0)]);
        let caption =
            "Masked-LM loss (nats a masked token) on held-out texts of every domain after every stage; one lineage.";
        let mut table = Table::new("forgetting", "What each version knows of each domain", columns).caption(caption);
        for record in &self.records {
            let mut row = vec![Cell::from(record.name.as_str()), record.corpus.as_str().into()];
            row.extend(domains.iter().map(|&name| Cell::from(record.held_out.get(name).copied())));
            row.extend([record.seconds.into(), record.tokens_per_second.into()]);
            table.push(row);
        }
        table
    }
}

/// A start of tuning: its label, and where the weights for a task come from.
type Start<'a> = (&'a str, &'a dyn Fn(&str) -> Source);

/// What could be made; the reasons why the rest could not are added to `problems`.
pub(crate) fn kept<T>(made: impl IntoIterator<Item = Result<T>>, what: &str, problems: &mut Vec<String>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in made {
        match one {
            Ok(one) => kept.push(one),
            Err(error) => problems.push(format!("{what} is missing: {error:#}")),
        }
    }
    kept
}
