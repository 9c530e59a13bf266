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

    /// What M_0 is pre-trained on: the general domain, and a little of every other.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn small(change: impl FnOnce(&mut WorldConfig)) -> Result<World> {
        let mut config = WorldConfig {
            seed: 11,
            general_documents: 600,
            initial_documents: 50,
            domain_documents: 400,
            train: 120,
            dev: 40,
            test: 60,
            ..Default::default()
        };
        change(&mut config);
        World::new(config)
    }

    #[test]
    fn equal_configurations_make_equal_worlds_and_seeds_make_different_ones() -> Result<()> {
        let (one, same, other) = (small(|_| ())?, small(|_| ())?, small(|config| config.seed = 12)?);
        assert_eq!(one.tasks(), same.tasks());
        assert_eq!(one.initial_corpus()?, same.initial_corpus()?);
        assert_eq!(one.tokenizer()?.to_json()?, same.tokenizer()?.to_json()?);
        assert_ne!(one.corpus("bio")?, other.corpus("bio")?);
        Ok(())
    }

    #[test]
    fn texts_have_a_size_to_train_on_and_no_unknown_words() -> Result<()> {
        let world = small(|_| ())?;
        let tokenizer = world.tokenizer()?;
        assert!((1300..=2000).contains(&tokenizer.vocab_size()), "{}", tokenizer.vocab_size());
        let far = small(|config| (config.domain_distance, config.shared_vocabulary) = (1.0, 0.0))?;
        assert!(far.tokenizer()?.vocab_size() <= 2000, "{}", far.tokenizer()?.vocab_size());
        assert_eq!(world.domains(), ["general", "bio", "reviews", "news", "cs"]);
        let mut texts = world.initial_corpus()?.documents;
        assert_eq!(texts.len(), 600 + 4 * 50);
        for name in world.domains() {
            texts.extend(world.corpus(name)?.documents);
        }
        for task in world.tasks() {
            texts
                .extend([&task.train, &task.dev, &task.test].into_iter().flatten().map(|example| example.text.clone()));
        }
        for text in texts {
            let encoding = tokenizer.encode(&text, None, World::MAX_LEN)?;
            assert!(!encoding.truncated && !encoding.ids.contains(&tokenizer.unk_id()), "{text}");
            assert!(encoding.ids.len() >= 20, "{text}");
        }
        Ok(())
    }

    #[test]
    fn no_text_stands_in_two_splits_or_in_a_corpus() -> Result<()> {
        let world = small(|_| ())?;
        let mut corpora = vec![world.initial_corpus()?];
        for name in world.domains() {
            corpora.push(world.corpus(name)?);
        }
        for task in world.tasks() {
            assert_eq!(task.overlaps().total(), 0, "{}", task.overlaps());
            for corpus in &corpora {
                assert_eq!(corpus.leaks(task)?.total(), 0, "{}", corpus.leaks(task)?);
            }
        }
        Ok(())
    }

    #[test]
    fn tasks_are_of_four_kinds_in_four_domains_with_relatives() -> Result<()> {
        let world = small(|_| ())?;
        let kinds: HashSet<String> = world.cards().iter().map(|card| format!("{:?}", card.kind)).collect();
        assert_eq!(kinds.len(), 4);
        for (card, task) in world.cards().iter().zip(world.tasks()) {
            assert_eq!((card.name, Some(card.domain)), (task.name.as_str(), task.domain.as_deref()));
            assert!(task.labels.is_sorted() && task.labels == card.labels, "labels as a saved task would number them");
            for relative in card.similar_to.iter().chain([&card.different_from]) {
                world.task(relative)?;
            }
            if let Some(similar) = card.similar_to {
                assert_eq!(world.task(similar)?.domain, task.domain);
            }
            assert_ne!(world.task(card.different_from)?.domain, task.domain);
        }
        assert!(world.task("nothing").unwrap_err().to_string().contains("bio_topic"));
        assert!(world.corpus("nowhere").unwrap_err().to_string().contains("general, bio"));
        Ok(())
    }

    #[test]
    fn classes_are_balanced_as_the_dial_says() -> Result<()> {
        let counts = |world: &World, name: &str| -> Result<Vec<usize>> {
            let task = world.task(name)?;
            let count = |label| task.train.iter().filter(|example| example.label == label).count();
            Ok((0..task.num_labels()).map(count).collect())
        };
        assert_eq!(counts(&small(|_| ())?, "bio_topic")?, [30, 30, 30, 30]);
        let skewed = small(|config| config.class_balance = 0.5)?;
        assert_eq!(counts(&skewed, "bio_topic")?, [64, 32, 16, 8]);
        assert_eq!(counts(&skewed, "review_sentiment")?, [80, 40]);
        Ok(())
    }

    #[test]
    fn the_farther_a_domain_the_fewer_words_it_shares() -> Result<()> {
        let mut before = f64::INFINITY;
        for distance in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let shared = small(|config| config.domain_distance = distance)?.shared_words("news")?;
            assert!(shared < before, "{shared} at {distance}");
            before = shared;
        }
        let none = small(|config| (config.domain_distance, config.shared_vocabulary) = (1.0, 0.0))?;
        assert_eq!(none.shared_words("bio")?, 0.0);
        let all = small(|config| config.domain_distance = 0.0)?;
        assert_eq!(all.shared_words("bio")?, 1.0);
        Ok(())
    }

    #[test]
    fn documents_read_as_their_domain_does() -> Result<()> {
        let world = small(|_| ())?;
        let share = |corpus: &str, end: &str| -> Result<f64> {
            let corpus = world.corpus(corpus)?;
            let found = corpus.iter().filter(|text| text.split(' ').any(|word| word.ends_with(end))).count();
            Ok(found as f64 / corpus.len() as f64)
        };
        assert!(share("bio", "ase")? > 0.3 && share("general", "ase")? == 0.0);
        assert!(share("cs", "ware")? > 0.3 && share("bio", "ware")? == 0.0);
        Ok(())
    }

    #[test]
    fn upgrades_choose_domains_and_their_order_without_changing_them() -> Result<()> {
        let (all, two) = (small(|_| ())?, small(|config| config.upgrades = vec!["cs".into(), "bio".into()])?);
        assert_eq!(two.domains(), ["general", "cs", "bio"]);
        assert_eq!(two.corpus("bio")?, all.corpus("bio")?);
        assert_eq!(two.task("cs_intent")?, all.task("cs_intent")?);
        assert!(two.task("news_topic").is_err());
        Ok(())
    }

    #[test]
    fn dials_out_of_range_are_refused_by_name() {
        let refuse = |change: fn(&mut WorldConfig)| format!("{:#}", small(change).unwrap_err());
        assert!(refuse(|config| config.domain_distance = 1.5).contains("domain_distance"));
        assert!(refuse(|config| config.noise = [0.6, 0.2]).contains("noise"));
        assert!(refuse(|config| config.task_noise = [f64::NAN, 0.5]).contains("task_noise"));
        assert!(refuse(|config| config.class_balance = 0.0).contains("class_balance"));
        assert!(refuse(|config| config.concepts = 6).contains("concepts"));
        assert!(refuse(|config| config.upgrades = vec!["law".into()]).contains("bio, reviews, news, cs"));
        assert!(refuse(|config| config.upgrades = vec!["bio".into(), "bio".into()]).contains("twice"));
        assert!(refuse(|config| config.upgrades.clear()).contains("upgrades"));
        assert!(refuse(|config| config.train = 0).contains("train"));
    }
}
