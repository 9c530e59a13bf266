//! The built-in world: an invented language with domains, topics, opinions, relations and intents, in which pre-training,
//! upgrading and tuning can be studied in seconds.
//!
//! A **domain** has topic *concepts*, each a set of words that occur together, and clause templates of its own. A **document** draws
//! one concept, perhaps an *aspect* (an opinion, a relation, an intent) with a value, and fills three clauses with their words,
//! some replaced by noise. Masked language modelling can learn which words belong together; a **task** asks about just that, so
//! a few labelled texts suffice for a model that has learnt it and for none that has not.
//!
//! Nothing is shipped or downloaded, and [`WorldConfig`] has a dial for what no real corpus lets one vary: how far domains are
//! from each other.

mod config;
mod document;
mod lexicon;
mod tasks;
mod words;

use std::collections::HashSet;

use anyhow::{Context, Result};

pub use config::WorldConfig;
pub use tasks::{TaskCard, TaskKind};

use document::{Meaning, Writer};
use lexicon::{Aspect, DOMAINS, Domain, GENERAL};
use words::{FUNCTION_WORDS, MARKS, NEGATORS};

use super::{Corpus, Task, Tokenizer};
use crate::seed;

/// A world, made from its configuration.
#[derive(Debug)]
pub struct World {
    config: WorldConfig,
    names: Vec<String>,
    domains: Vec<Domain>,
    aspects: Vec<Aspect>,
    tasks: Vec<Task>,
    cards: Vec<TaskCard>,
    task_texts: HashSet<String>,
}

impl World {
    /// Tokens of the longest text, `<s>` and `</s>` included. One document is one sequence.
    pub const MAX_LEN: usize = 32;

    /// Makes the world; corpora are written when asked for.
    ///
    /// # Errors
    /// Names the dial that is out of range.
    pub fn new(config: WorldConfig) -> Result<Self> {
        config.validate()?;
        let (domains, aspects) = lexicon::build(&config)?;
        let mut task_texts = HashSet::new();
        let (mut made, mut cards) = (Vec::new(), Vec::new());
        for card in tasks::CARDS.iter().filter(|card| config.upgrades.iter().any(|name| name == card.domain)) {
            let domain = domains.iter().find(|domain| domain.spec.name == card.domain);
            let domain = domain.with_context(|| format!("world: {} is of no known domain", card.name))?;
            made.push(tasks::make(card, &config, domain, &aspects, &mut task_texts)?);
            cards.push(card.clone());
        }
        let names = std::iter::once(GENERAL.to_string()).chain(config.upgrades.iter().cloned()).collect();
        Ok(Self { config, names, domains, aspects, tasks: made, cards, task_texts })
    }

    /// The dials it was made with.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// All domains: `general`, then those of the upgrades in their order.
    pub fn domains(&self) -> &[String] {
        &self.names
    }

    /// The domains of M_1, M_2, … in order.
    pub fn upgrades(&self) -> &[String] {
        &self.config.upgrades
    }

    /// What M_0 is pre-trained on: the general domain, and some of every other (by default 44 % of its documents are of those).
    pub fn initial_corpus(&self) -> Result<Corpus> {
        let mut documents = self.corpus(GENERAL)?.documents;
        for name in self.upgrades() {
            documents.extend(self.documents(name, "initial", self.config.initial_documents)?);
        }
        Corpus::new("initial", documents)
    }

    /// A domain's own corpus; it shares no document with [`World::initial_corpus`] (but by chance) and none with a task.
    ///
    /// # Errors
    /// When there is no such domain.
    pub fn corpus(&self, domain: &str) -> Result<Corpus> {
        let size = if domain == GENERAL { self.config.general_documents } else { self.config.domain_documents };
        Corpus::new(domain, self.documents(domain, "corpus", size)?)
    }

    /// All tasks of the domains in use.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of this name.
    ///
    /// # Errors
    /// When there is none; names those there are.
    pub fn task(&self, name: &str) -> Result<&Task> {
        self.tasks.iter().find(|task| task.name == name).with_context(|| {
            let known: Vec<&str> = self.tasks.iter().map(|task| task.name.as_str()).collect();
            format!("the world has no task {name}; it has {}", known.join(", "))
        })
    }

    /// Kind, domain and relatives of every task, in the order of [`World::tasks`].
    pub fn cards(&self) -> &[TaskCard] {
        &self.cards
    }

    /// One token a word.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::word_level(&self.words())
    }

    /// Every word that the world may use, each once.
    pub fn words(&self) -> Vec<&str> {
        let fixed = FUNCTION_WORDS.iter().chain(&NEGATORS).chain(&MARKS).copied();
        let concepts = self.domains.iter().flat_map(|domain| &domain.concepts);
        let concepts = concepts.chain(self.aspects.iter().flat_map(|aspect| &aspect.values));
        let mut seen = HashSet::new();
        fixed
            .chain(concepts.flat_map(|concept| &concept.words).map(String::as_str))
            .filter(|&word| seen.insert(word))
            .collect()
    }

    /// Share of a domain's topic words that are words of the general domain too, in [0, 1].
    ///
    /// # Errors
    /// When there is no such domain.
    pub fn shared_words(&self, domain: &str) -> Result<f64> {
        let of = |domain: &Domain| -> HashSet<String> {
            domain.concepts.iter().flat_map(|concept| concept.words.iter().cloned()).collect()
        };
        let (general, words) = (of(self.domain(GENERAL)?), of(self.domain(domain)?));
        Ok(words.intersection(&general).count() as f64 / words.len() as f64)
    }

    fn documents(&self, domain: &str, purpose: &str, count: usize) -> Result<Vec<String>> {
        let writer = Writer { domain: self.domain(domain)?, aspects: &self.aspects };
        let mut rng = seed::rng(self.config.seed, &format!("world-{purpose}-{domain}"), 0);
        let fresh = std::iter::repeat_with(|| {
            let meaning = Meaning::of_corpus(writer.domain, writer.aspects, self.config.noise, &mut rng);
            writer.write(&meaning, &mut rng)
        });
        Ok(fresh.filter(|text| !self.task_texts.contains(text)).take(count).collect())
    }

    fn domain(&self, name: &str) -> Result<&Domain> {
        self.domains.iter().find(|domain| domain.spec.name == name).with_context(|| {
            let known: Vec<&str> = DOMAINS.iter().map(|domain| domain.name).collect();
            format!("the world has no domain {name}; it has {}", known.join(", "))
        })
    }
}
