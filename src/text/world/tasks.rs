//! The world's tasks.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use super::WorldConfig;
use super::document::{AGREE, Meaning, Writer, between};
use super::lexicon::{Aspect, Domain, INTENT, OPINION, RELATION};
use crate::seed;
use crate::text::{Example, Task};

/// Share of opinions that a task's texts put as the negation of their opposite: a little more than corpora do.
const NEGATED: f64 = 0.15;

/// What a task asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// Which group of concepts a text is about.
    Topic,
    /// Which relation holds between the two marked words (as in ChemProt); the text may state another one elsewhere.
    Relation,
    /// What the text thinks of it, negations included.
    Sentiment,
    /// Why another work is cited; the text may have another intent elsewhere.
    Intent,
}

/// What is known of a task beside its texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCard {
    /// The task.
    pub name: &'static str,
    /// Its domain.
    pub domain: &'static str,
    /// What it asks.
    pub kind: TaskKind,
    /// Its labels, alphabetically.
    pub labels: &'static [&'static str],
    /// The task most like it: weights tuned on that one are the *similar* source.
    pub similar_to: Option<&'static str>,
    /// A task unlike it with texts of another domain: the *different* source.
    pub different_from: &'static str,
    /// Topic tasks: how far the groups of concepts are shifted.
    #[serde(skip)]
    shift: usize,
}

/// All tasks. `bio_topic` and `bio_field` group the same concepts, two in three alike (with 12 concepts).
pub(super) const CARDS: [TaskCard; 6] = [
    TaskCard {
        name: "bio_topic",
        domain: "bio",
        kind: TaskKind::Topic,
        labels: &["genetics", "immunity", "metabolism", "neurology"],
        similar_to: Some("bio_field"),
        different_from: "review_sentiment",
        shift: 0,
    },
    TaskCard {
        name: "bio_field",
        domain: "bio",
        kind: TaskKind::Topic,
        labels: &["assays", "diseases", "drugs", "organs"],
        similar_to: Some("bio_topic"),
        different_from: "review_sentiment",
        shift: 1,
    },
    TaskCard {
        name: "bio_relation",
        domain: "bio",
        kind: TaskKind::Relation,
        labels: &["activates", "binds", "inhibits", "produces"],
        similar_to: None,
        different_from: "news_topic",
        shift: 0,
    },
    TaskCard {
        name: "review_sentiment",
        domain: "reviews",
        kind: TaskKind::Sentiment,
        labels: &["negative", "positive"],
        similar_to: None,
        different_from: "bio_topic",
        shift: 0,
    },
    TaskCard {
        name: "news_topic",
        domain: "news",
        kind: TaskKind::Topic,
        labels: &["business", "politics", "sports", "world"],
        similar_to: None,
        different_from: "bio_relation",
        shift: 0,
    },
    TaskCard {
        name: "cs_intent",
        domain: "cs",
        kind: TaskKind::Intent,
        labels: &["background", "method", "result"],
        similar_to: None,
        different_from: "bio_topic",
        shift: 0,
    },
];

/// Makes the task on `card`; its texts differ from all in `taken` and join them.
pub(super) fn make(
    card: &TaskCard,
    config: &WorldConfig,
    domain: &Domain,
    aspects: &[Aspect],
    taken: &mut HashSet<String>,
) -> Result<Task> {
    let writer = Writer { domain, aspects };
    let split = |name: &str, size: usize, taken: &mut HashSet<String>| -> Result<Vec<Example>> {
        let mut rng = seed::rng(config.seed, &format!("world-task-{}-{name}", card.name), 0);
        let mut labels = quotas(size, card.labels.len(), config.class_balance);
        labels.shuffle(&mut rng);
        let mut examples = Vec::with_capacity(size);
        for label in labels {
            let fresh = (0..100).find_map(|_| {
                let mut meaning = card.meaning(label, domain, aspects, config, &mut rng);
                meaning.new_words = Some(if name == "train" { 0.0 } else { config.new_words });
                let text = writer.write(&meaning, &mut rng);
                taken.insert(text.clone()).then_some(text)
            });
            ensure!(fresh.is_some(), "world: {} has too few different texts; make concepts larger", card.name);
            examples.extend(fresh.map(|text| Example { text, text_pair: None, label }));
        }
        Ok(examples)
    };
    Ok(Task {
        name: card.name.to_string(),
        domain: Some(card.domain.to_string()),
        labels: card.labels.iter().map(ToString::to_string).collect(),
        train: split("train", config.train, taken)?,
        dev: split("dev", config.dev, taken)?,
        test: split("test", config.test, taken)?,
    })
}

impl TaskCard {
    /// A meaning with this label.
    fn meaning(
        &self,
        label: usize,
        domain: &Domain,
        aspects: &[Aspect],
        config: &WorldConfig,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Meaning {
        let concepts = domain.concepts.len();
        let noise = between(config.task_noise, rng);
        let mut meaning = Meaning {
            concept: rng.random_range(0..concepts),
            aspect: None,
            aside: label,
            marked: true,
            noise,
            new_words: None,
            negated: NEGATED,
        };
        match self.kind {
            TaskKind::Topic => {
                let group = concepts / self.labels.len();
                meaning.concept = (label * group + rng.random_range(0..group) + self.shift) % concepts;
            }
            TaskKind::Sentiment => meaning.aspect = Some((OPINION, label)),
            TaskKind::Relation | TaskKind::Intent => {
                let aspect = if self.kind == TaskKind::Relation { RELATION } else { INTENT };
                meaning.aspect = Some((aspect, label));
                let values = aspects[aspect].values.len();
                if !rng.random_bool(AGREE) {
                    meaning.aside = (label + rng.random_range(1..values)) % values;
                }
            }
        }
        meaning
    }
}

/// `size` labels, class k with a share proportional to `balance`^k, rounded to whole examples; every class at least once where
/// `size` allows.
fn quotas(size: usize, classes: usize, balance: f64) -> Vec<usize> {
    let weights: Vec<f64> = (0..classes).map(|class| balance.powi(class as i32)).collect();
    let total: f64 = weights.iter().sum();
    let mut labels: Vec<usize> = (0..classes.min(size)).collect();
    let mut owed = 0.0;
    for (class, weight) in weights.iter().enumerate() {
        owed += weight / total * size as f64;
        let mut have = labels.iter().filter(|&&label| label <= class).count() as f64;
        while have + 0.5 < owed && labels.len() < size {
            labels.push(class);
            have += 1.0;
        }
    }
    labels.resize(size, 0);
    labels
}
