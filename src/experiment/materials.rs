//! The texts of a run: what is pre-trained on, what is held out, and the tasks.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Inputs;
use super::profile::{EncoderSource, FolderSource, Profile, Source};
use crate::display::thousands;
use crate::files::fingerprint;
use crate::model::EncoderConfig;
use crate::params::Stored;
use crate::text::{Corpus, Sequences, Task, TaskData, Tokenizer, World};

/// The share of documents, by hash, that nothing is ever pre-trained on.
const HELD_OUT: f64 = 0.02;

/// Corpora, tasks and tokenizer of a profile.
#[derive(Debug)]
pub struct Materials {
    /// What M_0 and M_IND are pre-trained on.
    pub initial: Corpus,
    /// What M_1, M_2, … are upgraded on, in order.
    pub upgrades: Vec<Corpus>,
    /// The general corpus alone, which is part of what M_0 is pre-trained on.
    pub general: Corpus,
    /// Held-out documents of every domain, the initial one first.
    pub held_out: Vec<Corpus>,
    /// The profile's tasks and its other sources, cut to its limits.
    pub tasks: Vec<Task>,
    pub tokenizer: Tokenizer,
    /// Fingerprints of the encoder that M_0 starts from, where it is a pre-trained one, and of the independent one.
    pub encoders: Inputs,
    /// What a reader should know: overlaps, leaks, texts that are cut off.
    pub notes: Vec<String>,
}

impl Materials {
    /// Makes or loads the texts of `profile`.
    pub fn of(profile: &Profile) -> Result<Materials> {
        let mut materials = match &profile.source {
            Source::World(config) => from_world(World::new(config.clone())?)?,
            Source::Folder(source) => from_folder(source, profile)?,
        };
        let wanted =
            profile.tasks.iter().map(|task| &task.name).chain(profile.sources.iter().map(|source| &source.task));
        let mut tasks: Vec<Task> = Vec::new();
        for name in wanted {
            if tasks.iter().any(|task| &task.name == name) {
                continue;
            }
            let Some(task) = materials.tasks.iter().find(|task| &task.name == name) else {
                let known: Vec<_> = materials.tasks.iter().map(|task| task.name.as_str()).collect();
                bail!("there is no task {name}; there are {}", known.join(", "));
            };
            let overlaps = task.overlaps();
            if overlaps.total() > 0 {
                materials.notes.push(overlaps.to_string());
            }
            for corpus in std::iter::once(&materials.initial).chain(&materials.upgrades) {
                let leaks = corpus.leaks(task)?;
                if leaks.total() > 0 {
                    materials.notes.push(leaks.to_string());
                }
            }
            let limits = &profile.limits;
            tasks.push(task.limit(limits.train, limits.dev, limits.test, profile.seed));
        }
        materials.tasks = tasks;
        let cut = materials.truncations(profile)?;
        materials.notes.extend(cut);
        Ok(materials)
    }

    /// How many texts of each task and corpus are longer than the models are given them. Packing cuts nothing off.
    fn truncations(&self, profile: &Profile) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let mut count = |name: &str, cut: usize, all: usize, length: usize| {
            if cut > 0 {
                let (cut, all) = (thousands(cut as i64), thousands(all as i64));
                notes.push(format!("{name}: {cut} of {all} texts are longer than {length} tokens and are cut off"));
            }
        };
        let trained = std::iter::once((&self.initial, &profile.initial));
        for (corpus, config) in trained.chain(self.upgrades.iter().map(|corpus| (corpus, &profile.upgrade))) {
            if !config.packing {
                let sequences = Sequences::one_a_document(corpus, &self.tokenizer, config.max_length)?;
                count(&corpus.name, sequences.truncated, corpus.len(), config.max_length);
            }
        }
        let plans = profile.methods.iter().flat_map(|plan| [&plan.full_data, &plan.few_shot]);
        let lengths: BTreeSet<usize> = plans.map(|config| config.max_length).collect();
        for (task, &length) in self.tasks.iter().flat_map(|task| lengths.iter().map(move |length| (task, length))) {
            let (mut cut, mut all) = (0, 0);
            for split in [&task.train, &task.dev, &task.test] {
                let data = TaskData::new(split, &self.tokenizer, length)
                    .with_context(|| format!("a split of task {}", task.name))?;
                (cut, all) = (cut + data.truncated(), all + data.len());
            }
            count(&task.name, cut, all, length);
        }
        Ok(notes)
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Result<&Task> {
        self.tasks.iter().find(|task| task.name == name).with_context(|| format!("there is no task {name}"))
    }

    /// Fingerprints of all that is read: of every corpus's documents, and of every task's examples within the limits.
    pub fn fingerprints(&self) -> Result<Inputs> {
        let tasks = self.tasks.iter().map(|task| {
            let splits = [&task.train, &task.dev, &task.test];
            Ok((format!("task {}", task.name), digest(&[digest(&task.labels)?, digest(splits)?])?))
        });
        let tasks = tasks.collect::<Result<Inputs>>()?;
        Ok(self.corpora()?.into_iter().chain(tasks).collect())
    }

    /// Of the fingerprints those of the corpora: what pre-training reads.
    pub fn corpora(&self) -> Result<Inputs> {
        let trained = std::iter::once(&self.initial).chain(&self.upgrades).map(|corpus| ("corpus", corpus));
        let corpora = trained.chain(self.held_out.iter().map(|corpus| ("held-out share of", corpus)));
        let corpora = corpora.map(|(what, corpus)| Ok((format!("{what} {}", corpus.name), digest(&corpus.documents)?)));
        corpora.chain(self.encoders.iter().map(|(name, print)| Ok((name.clone(), print.clone())))).collect()
    }
}

/// SHA-256 of the items as JSON, one a line; its first 16 bytes in hexadecimal.
fn digest(items: impl IntoIterator<Item = impl Serialize>) -> Result<String> {
    let mut hash = Sha256::new();
    for item in items {
        hash.update(serde_json::to_vec(&item)?);
        hash.update(b"\n");
    }
    Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

fn from_world(world: World) -> Result<Materials> {
    let initial = world.initial_corpus()?;
    let upgrades = world.upgrades().iter().map(|name| world.corpus(name)).collect::<Result<Vec<_>>>()?;
    let general = world.corpus(&world.domains()[0])?;
    let held_out = std::iter::once(&general).chain(&upgrades).map(|corpus| corpus.by_hash(0.0, HELD_OUT)).collect();
    Ok(Materials {
        initial: initial.by_hash(HELD_OUT, 1.0),
        upgrades: upgrades.iter().map(|corpus| corpus.by_hash(HELD_OUT, 1.0)).collect(),
        held_out,
        general: general.by_hash(HELD_OUT, 1.0),
        tasks: world.tasks().to_vec(),
        tokenizer: world.tokenizer()?,
        encoders: Inputs::new(),
        notes: Vec::new(),
    })
}

fn from_folder(source: &FolderSource, profile: &Profile) -> Result<Materials> {
    let load = |name: &str| Corpus::load(source.folder.join("corpora").join(format!("{name}.txt")));
    let first = load(&source.initial)?;
    let others = source.upgrades.iter().map(|name| load(name)).collect::<Result<Vec<_>>>()?;
    let boundary = HELD_OUT + source.initial_share * (1.0 - HELD_OUT);
    let mut documents = first.by_hash(HELD_OUT, 1.0).documents;
    documents.extend(others.iter().flat_map(|corpus| corpus.by_hash(HELD_OUT, boundary).documents));
    let initial = Corpus::new(format!("{} and others", source.initial), documents)?;
    let (tokenizer, encoders) = match (profile.starts_from(), source.vocab_size) {
        (Some(encoder), _) => read_encoders(encoder)?,
        (None, size) => (Tokenizer::train_bpe(initial.iter(), size.context("vocab_size is missing")?)?, Inputs::new()),
    };
    let names = profile.tasks.iter().map(|task| &task.name).chain(profile.sources.iter().map(|other| &other.task));
    let names: BTreeSet<&String> = names.collect();
    let tasks = names.into_iter().map(|name| Task::load(source.folder.join("tasks").join(name)));
    Ok(Materials {
        held_out: std::iter::once(&first).chain(&others).map(|corpus| corpus.by_hash(0.0, HELD_OUT)).collect(),
        upgrades: others.iter().map(|corpus| corpus.by_hash(boundary, 1.0)).collect(),
        general: first.by_hash(HELD_OUT, 1.0),
        tasks: tasks.collect::<Result<_>>()?,
        initial,
        tokenizer,
        encoders,
        notes: Vec::new(),
    })
}

/// The tokenizer of the encoder that a run starts from, and fingerprints of weights, configuration and tokenizer of it and of the independent
/// one.
///
/// Errors where one cannot be read, and where the independent one is of another shape or tokenizer.
fn read_encoders(source: &EncoderSource) -> Result<(Tokenizer, Inputs)> {
    let of = |what: &str, folder: &Path, tokenizer: &Tokenizer| -> Result<Inputs> {
        let mut prints = Inputs::from([
            (format!("{what}: config.json"), fingerprint(folder.join("config.json"))?),
            (format!("{what}: tokenizer"), tokenizer.fingerprint()?),
        ]);
        for path in Stored::open_folder(folder)?.paths() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            prints.insert(format!("{what}: {name}"), fingerprint(path)?);
        }
        Ok(prints)
    };
    let tokenizer = Tokenizer::load_folder(&source.encoder)?;
    let mut prints = of("encoder", &source.encoder, &tokenizer)?;
    if let Some(other) = &source.other {
        let theirs = Tokenizer::load_folder(other)?;
        let layout = |folder: &Path| EncoderConfig::load(folder.join("config.json"))?.layout_fingerprint();
        ensure!(
            layout(&source.encoder)? == layout(other)? && tokenizer.fingerprint()? == theirs.fingerprint()?,
            "{} and {} differ in shape, vocabulary or tokenizer: an independent model has those of the encoder",
            source.encoder.display(),
            other.display()
        );
        prints.extend(of("other encoder", other, &theirs)?);
    }
    Ok((tokenizer, prints))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::Example;

    /// A folder of four small corpora and a task, and a profile that reads them.
    fn folder() -> Result<(tempfile::TempDir, Profile)> {
        let folder = tempfile::tempdir()?;
        let mut profile = Profile::text(folder.path());
        profile.tasks.truncate(1);
        profile.sources.clear();
        let text = |domain: &str, row: usize| format!("{domain} text number {row} about {domain} and other things");
        for name in ["news", "bio", "rev", "cs"] {
            let documents = (0..200).map(|row| text(name, row)).collect();
            Corpus::new(name, documents)?.save(folder.path().join("corpora").join(format!("{name}.txt")))?;
        }
        let example = |row: usize| Example { text: text("bio", 1_000 + row), text_pair: None, label: row % 2 };
        let split = |first: usize, size: usize| (first..first + size).map(example).collect();
        let labels = vec!["no".to_string(), "yes".to_string()];
        let task = Task {
            name: "chemprot".into(),
            domain: None,
            labels,
            train: split(0, 20),
            dev: split(20, 10),
            test: split(30, 10),
        };
        task.save(folder.path().join("tasks/chemprot"))?;
        Ok((folder, profile))
    }

    fn replace(path: &Path, from: &str, to: &str) -> Result<()> {
        Ok(std::fs::write(path, std::fs::read_to_string(path)?.replacen(from, to, 1))?)
    }

    #[test]
    fn a_changed_text_or_label_changes_the_fingerprint_of_what_it_belongs_to() -> Result<()> {
        let (folder, profile) = folder()?;
        let fingerprints = || Materials::of(&profile)?.fingerprints();
        let before = fingerprints()?;
        assert_eq!(before, fingerprints()?);
        assert_eq!(before.len(), 4 + 4 + 1, "{before:?}");
        let changed = |now: &Inputs| -> Vec<String> {
            before.iter().filter(|(name, was)| now.get(*name) != Some(was)).map(|(name, _)| name.clone()).collect()
        };
        replace(&folder.path().join("tasks/chemprot/test.jsonl"), "\"label\":\"yes\"", "\"label\":\"no\"")?;
        assert_eq!(changed(&fingerprints()?), ["task chemprot"]);
        replace(&folder.path().join("corpora/cs.txt"), "number 7 ", "number 7,000 ")?;
        // The text's hash decides whether it belongs to M_0's part, to the upgrade's or to what is held out.
        let names = changed(&fingerprints()?);
        assert!(
            names.len() > 1 && !names.iter().any(|name| name.ends_with("bio") || name.ends_with("rev")),
            "{names:?}"
        );
        Ok(())
    }

    #[test]
    fn texts_that_are_cut_off_are_counted_in_the_notes() -> Result<()> {
        let (folder, mut profile) = folder()?;
        let cut = |profile: &Profile| -> Result<Vec<String>> {
            let notes = Materials::of(profile)?.notes;
            Ok(notes.into_iter().filter(|note| note.contains("cut off")).collect())
        };
        assert_eq!(cut(&profile)?, Vec::<String>::new());
        let path = folder.path().join("tasks/chemprot/dev.jsonl");
        replace(&path, "and other things", &"and other things ".repeat(40))?;
        let path = folder.path().join("corpora/rev.txt");
        std::fs::write(&path, std::fs::read_to_string(&path)?.replace("and", &"and more ".repeat(40)))?;
        assert_eq!(cut(&profile)?, ["chemprot: 1 of 40 texts are longer than 64 tokens and are cut off"]);
        profile.upgrade.packing = false;
        let (all, notes) = (Materials::of(&profile)?.upgrades[1].len(), cut(&profile)?);
        let note = format!("rev: {all} of {all} texts are longer than 64 tokens and are cut off");
        assert!(notes.len() == 2 && notes.contains(&note), "{notes:?}");
        Ok(())
    }
}
