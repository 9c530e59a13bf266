//! Tasks: labelled texts in three splits, as a folder of `train.jsonl`, `dev.jsonl` and `test.jsonl`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::corpus::{Corpus, read_utf8};
use super::leaks::Overlaps;
use crate::files::{as_json, read_json, write_atomic, write_json};
use crate::seed;

/// One labelled text or pair of texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Example {
    /// The text, or the first of a pair.
    pub text: String,
    /// The second of a pair.
    pub text_pair: Option<String>,
    /// Index into [`Task::labels`].
    pub label: usize,
}

/// A text or a pair of texts that nobody has labelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text {
    /// The text, or the first of a pair.
    pub text: String,
    /// The second of a pair.
    pub text_pair: Option<String>,
}

/// A classification task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// What it is called: its folder's name.
    pub name: String,
    /// The domain its texts come from, where known.
    pub domain: Option<String>,
    /// Label names in alphabetical order; an example's label is an index into them.
    pub labels: Vec<String>,
    /// Examples to tune on.
    pub train: Vec<Example>,
    /// Examples to choose checkpoints by.
    pub dev: Vec<Example>,
    /// Examples to report on.
    pub test: Vec<Example>,
}

/// What `task.json` may say beside the splits.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    domain: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    sentence1: Option<String>,
    sentence2: Option<String>,
    /// Null where it is missing.
    #[serde(default)]
    label: serde_json::Value,
}

/// A line as read: where it stood, its texts and its label's name.
struct Row {
    line: usize,
    text: Text,
    label: String,
}

impl Text {
    /// Reads `.txt`, one text a line, or `.jsonl` with lines as in a task, in which labels may be missing and do not count.
    ///
    /// # Errors
    /// Names the file, and the line where it is malformed; an empty file and another ending are refused.
    pub fn load(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("jsonl") => {
                let texts = read_lines(path, |_, line| Ok(read_line(line)?.0))?;
                ensure!(!texts.is_empty(), "{} holds no text", path.display());
                Ok(texts)
            }
            _ => Ok(Corpus::load(path)?.documents.into_iter().map(Self::from).collect()),
        }
    }

    /// The same as an example of the first class.
    pub(crate) fn unlabelled(&self) -> Example {
        Example { text: self.text.clone(), text_pair: self.text_pair.clone(), label: 0 }
    }
}

impl<S: Into<String>> From<S> for Text {
    fn from(text: S) -> Self {
        Self { text: text.into(), text_pair: None }
    }
}

impl From<&Example> for Text {
    fn from(example: &Example) -> Self {
        Self { text: example.text.clone(), text_pair: example.text_pair.clone() }
    }
}

impl Task {
    /// Reads a folder in the schema of Don't-Stop-Pretraining and RecyclableTuning: every line
    /// `{"text": …, "label": …}` or `{"sentence1": …, "sentence2": …, "label": …}`, the label a string or a number; other
    /// fields are ignored. Labels are numbered alphabetically from the training file. A `task.json` may name the `domain`.
    ///
    /// Look at [`Task::overlaps`] after loading: texts that stand in two splits are kept, and counted there.
    ///
    /// # Errors
    /// Names file and line of what is malformed, an unknown label with the known ones; refuses an empty split and a task
    /// of one class.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        ensure!(
            folder.is_dir(),
            "{} is not a folder; a task is a folder with train.jsonl, dev.jsonl and test.jsonl",
            folder.display()
        );
        let [train, dev, test] = ["train.jsonl", "dev.jsonl", "test.jsonl"].map(|file| folder.join(file));
        let rows = read_rows(&train)?;
        let labels: BTreeSet<&String> = rows.iter().map(|row| &row.label).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        ensure!(
            labels.len() >= 2,
            "{}: every text has the label {:?}; a task needs at least two classes",
            train.display(),
            labels.first().map_or("", String::as_str)
        );
        let card = folder.join("task.json");
        let domain = if card.exists() { read_json::<Card>(&card)?.domain } else { None };
        let name = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        Ok(Self {
            name: name.file_name().map_or("task".into(), |name| name.to_string_lossy().into_owned()),
            domain,
            train: number(&train, rows, &labels)?,
            dev: number(&dev, read_rows(&dev)?, &labels)?,
            test: number(&test, read_rows(&test)?, &labels)?,
            labels,
        })
    }

    /// Writes the three splits into `folder`, and `task.json` where a domain is known.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        for (file, examples) in [("train.jsonl", &self.train), ("dev.jsonl", &self.dev), ("test.jsonl", &self.test)] {
            let mut out = String::new();
            for example in examples {
                let label = self.labels.get(example.label).with_context(|| {
                    format!(
                        "task {}: label {} is not one of its {} labels",
                        self.name,
                        example.label,
                        self.labels.len()
                    )
                })?;
                let line = match &example.text_pair {
                    None => serde_json::json!({"text": example.text, "label": label}),
                    Some(pair) => serde_json::json!({"sentence1": example.text, "sentence2": pair, "label": label}),
                };
                out.push_str(&line.to_string());
                out.push('\n');
            }
            write_atomic(folder.join(file), out.as_bytes())?;
        }
        if self.domain.is_some() {
            write_json(folder.join("task.json"), &Card { domain: self.domain.clone() })?;
        }
        Ok(())
    }

    /// The same task with its classes numbered in this order: that of weights which were tuned with another numbering.
    ///
    /// # Errors
    /// Where these are not the task's classes.
    pub fn in_order_of(&self, labels: &[String]) -> Result<Self> {
        let places = self.labels.iter().map(|label| labels.iter().position(|other| other == label));
        let places = places.collect::<Option<Vec<usize>>>().filter(|places| places.len() == labels.len());
        let places = places.with_context(|| {
            format!(
                "the weights know the labels {labels:?}, task {} has {:?}: they must be the same",
                self.name, self.labels
            )
        })?;
        let renumbered = |examples: &[Example]| -> Vec<Example> {
            examples.iter().map(|example| Example { label: places[example.label], ..example.clone() }).collect()
        };
        let [train, dev, test] = [&self.train, &self.dev, &self.test].map(|split| renumbered(split));
        let (name, domain, labels) = (self.name.clone(), self.domain.clone(), labels.to_vec());
        Ok(Task { name, domain, labels, train, dev, test })
    }

    /// `shots` examples of every class for training, and as many for dev; the test split stays whole. A class with fewer
    /// examples is taken whole. The same seed draws the same examples; more shots draw a superset.
    ///
    /// # Errors
    /// When `shots` is 0.
    pub fn few_shot(&self, shots: usize, seed: u64) -> Result<Self> {
        ensure!(shots > 0, "few-shot tuning needs at least one example a class, 0 were asked for");
        let draw = |examples: &[Example], purpose: &str| {
            let mut chosen = Vec::new();
            for label in 0..self.labels.len() {
                let mut rows: Vec<usize> = (0..examples.len()).filter(|&row| examples[row].label == label).collect();
                rows.shuffle(&mut seed::rng(seed, purpose, label as u64));
                chosen.extend(rows.into_iter().take(shots));
            }
            chosen.sort_unstable();
            chosen.into_iter().map(|row| examples[row].clone()).collect()
        };
        Ok(Self {
            train: draw(&self.train, "few-shot-train"),
            dev: draw(&self.dev, "few-shot-dev"),
            ..self.clone_without_train_and_dev()
        })
    }

    /// At most so many examples a split, drawn at random with `seed` (so classes keep their proportions on average) and kept
    /// in their order. The same seed draws the same examples; a larger limit draws a superset.
    pub fn limit(&self, train: usize, dev: usize, test: usize, seed: u64) -> Self {
        let draw = |examples: &[Example], limit: usize, purpose: &str| {
            let mut rows: Vec<usize> = (0..examples.len()).collect();
            if limit < rows.len() {
                rows.shuffle(&mut seed::rng(seed, purpose, 0));
                rows.truncate(limit);
                rows.sort_unstable();
            }
            rows.into_iter().map(|row| examples[row].clone()).collect()
        };
        Self {
            train: draw(&self.train, train, "limit-train"),
            dev: draw(&self.dev, dev, "limit-dev"),
            test: draw(&self.test, test, "limit-test"),
            ..self.clone_without_train_and_dev()
        }
    }

    /// How many classes there are.
    pub fn num_labels(&self) -> usize {
        self.labels.len()
    }

    /// Share of the most frequent label among `examples`, in [0, 1]: the accuracy of always answering it. 0 for none.
    pub fn majority_share(examples: &[Example]) -> f64 {
        let mut counts = std::collections::HashMap::new();
        for example in examples {
            *counts.entry(example.label).or_insert(0usize) += 1;
        }
        counts.into_values().max().map_or(0.0, |count| count as f64 / examples.len() as f64)
    }

    /// How many dev and test texts stand in another split too.
    pub fn overlaps(&self) -> Overlaps {
        Overlaps::count(self)
    }

    fn clone_without_train_and_dev(&self) -> Self {
        Self {
            name: self.name.clone(),
            domain: self.domain.clone(),
            labels: self.labels.clone(),
            train: Vec::new(),
            dev: Vec::new(),
            test: self.test.clone(),
        }
    }
}

fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let rows = read_lines(path, read_row)?;
    ensure!(!rows.is_empty(), "{} is empty: a split needs at least one line", path.display());
    Ok(rows)
}

/// `read` on the number and the text of every line that is not blank.
fn read_lines<T>(path: &Path, read: impl Fn(usize, &str) -> Result<T>) -> Result<Vec<T>> {
    let text = read_utf8(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| read(index + 1, line).with_context(|| format!("{}:{}", path.display(), index + 1)))
        .collect()
}

const EXPECTED: &str = r#"expected {"text": …, "label": …} or {"sentence1": …, "sentence2": …, "label": …}"#;

fn read_row(line_number: usize, line: &str) -> Result<Row> {
    let (text, label) = read_line(line)?;
    let label = match label {
        serde_json::Value::String(label) => label,
        serde_json::Value::Number(label) => label.to_string(),
        serde_json::Value::Null => bail!("a label is a string or a number, not null or NaN"),
        other => bail!("a label is a string or a number, not {other}"),
    };
    Ok(Row { line: line_number, text, label })
}

/// The texts of a line, and its label if it has one.
fn read_line(line: &str) -> Result<(Text, serde_json::Value)> {
    let line: Line = serde_json::from_str(&as_json(line)).context(EXPECTED)?;
    let text = match (line.text, line.sentence1, line.sentence2) {
        (Some(text), None, None) => Text::from(text),
        (None, Some(text), text_pair) => Text { text, text_pair },
        _ => bail!("{EXPECTED}"),
    };
    Ok((text, line.label))
}

fn number(path: &Path, rows: Vec<Row>, labels: &[String]) -> Result<Vec<Example>> {
    rows.into_iter()
        .map(|Row { line, text: Text { text, text_pair }, label }| {
            let label = labels.binary_search(&label).map_err(|_| {
                anyhow!(
                    "{}:{line}: the label {label:?} does not occur in train.jsonl, which has {}",
                    path.display(),
                    labels.join(", ")
                )
            })?;
            Ok(Example { text, text_pair, label })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(train: &str, dev: &str, test: &str) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for (file, lines) in [("train.jsonl", train), ("dev.jsonl", dev), ("test.jsonl", test)] {
            std::fs::write(folder.path().join(file), lines)?;
        }
        Ok(folder)
    }

    fn line(text: &str, label: &str) -> String {
        format!("{{\"text\": \"{text}\", \"label\": \"{label}\", \"metadata\": [1]}}\n")
    }

    fn refusal(train: &str, dev: &str) -> Result<String> {
        let folder = folder(train, dev, &line("t", "a"))?;
        Ok(format!("{:#}", Task::load(folder.path()).unwrap_err()))
    }

    /// `counts[k]` examples of class k in train, twice as many in dev.
    fn task(counts: &[usize]) -> Task {
        let split = |times: usize| -> Vec<Example> {
            let labels = counts.iter().enumerate().flat_map(|(label, &count)| vec![label; count * times]);
            labels.enumerate().map(|(row, label)| Example { text: format!("{row}"), text_pair: None, label }).collect()
        };
        Task {
            name: "made".into(),
            domain: None,
            labels: (0..counts.len()).map(|label| format!("l{label}")).collect(),
            train: split(1),
            dev: split(2),
            test: split(1),
        }
    }

    #[test]
    fn a_task_is_numbered_as_other_weights_are_and_other_labels_are_refused() -> Result<()> {
        let task = task(&[1, 2, 1]);
        let order = ["l2", "l0", "l1"].map(String::from);
        let other = task.in_order_of(&order)?;
        let named = |task: &Task| -> Vec<(String, String)> {
            task.dev.iter().map(|example| (example.text.clone(), task.labels[example.label].clone())).collect()
        };
        assert_eq!((&other.labels[..], named(&other)), (&order[..], named(&task)));
        assert_ne!(other.dev, task.dev);
        for wrong in [&order[..2], &["l2", "l0", "l3"].map(String::from)] {
            assert!(task.in_order_of(wrong).unwrap_err().to_string().contains("must be the same"));
        }
        assert!(task.in_order_of(&[&order[..], &order[..1]].concat()).is_err());
        Ok(())
    }

    #[test]
    fn labels_are_numbered_alphabetically_from_the_training_file() -> Result<()> {
        let folder = folder(&(line("x", "zebra") + "\n" + &line("y", "ant")), &line("z", "zebra"), &line("t", "ant"))?;
        let task = Task::load(folder.path())?;
        assert_eq!(task.labels, ["ant", "zebra"]);
        assert_eq!(task.train.iter().map(|example| example.label).collect::<Vec<_>>(), [1, 0]);
        assert_eq!((task.dev[0].label, task.test[0].label), (1, 0));
        Ok(())
    }

    #[test]
    fn numbers_are_labels_too_and_pairs_are_read() -> Result<()> {
        let pair = |label: &str| format!("{{\"sentence1\": \"a\", \"sentence2\": \"b\", \"label\": {label}}}\n");
        let folder = folder(&(pair("1") + &pair("0")), &pair("0"), &pair("\"1\""))?;
        let task = Task::load(folder.path())?;
        assert_eq!(task.labels, ["0", "1"]);
        assert_eq!(task.test[0], Example { text: "a".into(), text_pair: Some("b".into()), label: 1 });
        Ok(())
    }

    #[test]
    fn a_byte_order_mark_and_fields_that_nobody_reads_change_nothing() -> Result<()> {
        let lines = line("x", "a") + &line("y", "b");
        let plain = folder(&lines, &line("x", "a"), &line("y", "b"))?;
        let python = lines.replace("\"text\"", "\"score\": -Infinity, \"weight\": NaN, \"text\"");
        let marked = folder(&format!("\u{feff}{python}"), &format!("\u{feff}{}", line("x", "a")), &line("y", "b"))?;
        let (plain, marked) = (Task::load(plain.path())?, Task::load(marked.path())?);
        assert_eq!((plain.train, plain.dev, plain.test), (marked.train, marked.dev, marked.test));
        Ok(())
    }

    #[test]
    fn unlabelled_texts_are_read_one_a_line_or_as_a_tasks_lines_without_their_labels() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let read = |file: &str, lines: &str| -> Result<Vec<Text>> {
            std::fs::write(folder.path().join(file), lines)?;
            Text::load(folder.path().join(file))
        };
        assert_eq!(read("a.txt", "one\n\ntwo\n")?, ["one", "two"].map(Text::from));
        let pair = Text { text: "x".into(), text_pair: Some("y".into()) };
        let lines = "{\"text\": \"one\"}\n{\"sentence1\": \"x\", \"sentence2\": \"y\", \"label\": \"a\"}\n";
        assert_eq!(read("a.jsonl", lines)?, [Text::from("one"), pair.clone()]);
        assert_eq!(Text::from(&Example { text: "x".into(), text_pair: Some("y".into()), label: 3 }), pair);
        let refusal = |file: &str, lines: &str| format!("{:#}", read(file, lines).unwrap_err());
        assert!(refusal("b.jsonl", "{\"text\": \"x\"}\n{\"txt\": \"x\"}\n").contains("b.jsonl:2: expected"));
        assert!(refusal("b.jsonl", "\n").contains("b.jsonl holds no text"));
        assert!(refusal("b.csv", "x").contains("\"csv\""));
        Ok(())
    }

    #[test]
    fn a_saved_task_loads_as_it_was() -> Result<()> {
        let mut before = task(&[2, 3]);
        before.domain = Some("bio".into());
        before.train[0].text_pair = Some("with a \"pair\"\nin two lines".into());
        let folder = tempfile::tempdir()?;
        before.save(folder.path().join("made"))?;
        assert_eq!(Task::load(folder.path().join("made"))?, before);
        Ok(())
    }

    #[test]
    fn bad_tasks_are_refused_with_file_line_and_what_was_expected() -> Result<()> {
        let good = line("x", "a") + &line("y", "b");
        let error = refusal(&good, &(line("z", "a") + &line("z", "c")))?;
        for part in ["dev.jsonl:2", "\"c\"", "a, b"] {
            assert!(error.contains(part), "{error}");
        }
        let error = refusal(&(good.clone() + "{\"text\": 3}\n"), &line("z", "a"))?;
        assert!(error.contains("train.jsonl:3") && error.contains("sentence1"), "{error}");
        let error = refusal(&(good.clone() + "{\"label\": \"a\"}\n"), &line("z", "a"))?;
        assert!(error.contains("train.jsonl:3"), "{error}");
        let error = refusal(&(good.clone() + "{\"text\": \"x\"}\n"), &line("z", "a"))?;
        assert!(error.contains("train.jsonl:3") && error.contains("a label is a string or a number"), "{error}");
        let error = refusal(&(good.clone() + "{\"text\": \"x\", \"label\": NaN}\n"), &line("z", "a"))?;
        assert!(error.contains("train.jsonl:3") && error.contains("NaN"), "{error}");
        let error = refusal(&(good.clone() + "{\"text\": \"x\", \"label\": null}\n"), &line("z", "a"))?;
        assert!(error.contains("train.jsonl:3") && error.contains("null"), "{error}");
        let error = refusal(&(line("x", "a") + &line("y", "a")), &line("z", "a"))?;
        assert!(error.contains("two classes") && error.contains("\"a\""), "{error}");
        let error = refusal(&good, "\n")?;
        assert!(error.contains("dev.jsonl is empty"), "{error}");
        let error = format!("{:#}", Task::load("/nowhere/task").unwrap_err());
        assert!(error.contains("/nowhere/task") && error.contains("train.jsonl"), "{error}");
        Ok(())
    }

    #[test]
    fn few_shot_takes_so_many_a_class_and_a_small_class_whole() -> Result<()> {
        let task = task(&[20, 3, 50]);
        let few = task.few_shot(8, 1)?;
        let count = |examples: &[Example], label| examples.iter().filter(|example| example.label == label).count();
        assert_eq!([0, 1, 2].map(|label| count(&few.train, label)), [8, 3, 8]);
        assert_eq!([0, 1, 2].map(|label| count(&few.dev, label)), [8, 6, 8]);
        assert_eq!(few.test, task.test);
        assert_eq!(few.labels, task.labels);
        assert_eq!(few, task.few_shot(8, 1)?);
        assert_ne!(few, task.few_shot(8, 2)?);
        let more = task.few_shot(16, 1)?;
        assert!(few.train.iter().all(|example| more.train.contains(example)), "more shots are a superset");
        assert!(task.few_shot(0, 1).is_err());
        Ok(())
    }

    #[test]
    fn a_limit_keeps_order_and_is_nested() {
        let task = task(&[100, 300]);
        let (small, large) = (task.limit(40, 1000, 10, 5), task.limit(80, 1000, 10, 5));
        assert_eq!((small.train.len(), small.dev.len(), small.test.len()), (40, 800, 10));
        assert!(small.train.iter().all(|example| large.train.contains(example)));
        let places: Vec<usize> =
            small.train.iter().filter_map(|one| task.train.iter().position(|e| e == one)).collect();
        assert!(places.is_sorted());
        let share = small.train.iter().filter(|example| example.label == 1).count();
        assert!((22..=38).contains(&share), "proportions are kept on average: {share} of 40");
        assert_eq!(small, task.limit(40, 1000, 10, 5));
    }

    #[test]
    fn the_majority_share_is_that_of_the_most_frequent_label() {
        assert_eq!(Task::majority_share(&task(&[1, 3]).train), 0.75);
        assert_eq!(Task::majority_share(&[]), 0.0);
    }
}
