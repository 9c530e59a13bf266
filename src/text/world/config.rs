//! The world's dials.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::lexicon::{DOMAINS, GENERAL};

/// What the world is made of. Equal configurations make equal worlds, on every machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldConfig {
    /// Everything random is drawn from it.
    pub seed: u64,
    /// The domains that M_1, M_2, … are upgraded to, in this order.
    pub upgrades: Vec<String>,
    /// Share of a domain's concepts that the general domain does not have, in [0, 1].
    pub domain_distance: f64,
    /// Share of the words of a domain's own concepts that are general words in another meaning, in [0, 0.5].
    pub shared_vocabulary: f64,
    /// Topic concepts a domain has.
    pub concepts: usize,
    /// Words a topic concept has.
    pub words_per_concept: usize,
    /// Share of content words in a document of a corpus that are noise: drawn uniformly between the two for every document.
    pub noise: [f64; 2],
    /// The same for the texts of tasks.
    pub task_noise: [f64; 2],
    /// Share of the content words of dev and test texts that no training text of the task has, in [0, 1]: counting words cannot
    /// know them, a model that has learnt which words belong together can.
    pub new_words: f64,
    /// How much rarer each class is than the one before it: 1 makes all equal, 0.5 halves from class to class; in (0, 1].
    pub class_balance: f64,
    /// Documents of the general domain, all in M_0's corpus.
    pub general_documents: usize,
    /// Documents of every other domain that M_0's corpus has too.
    pub initial_documents: usize,
    /// Documents of a domain's own corpus.
    pub domain_documents: usize,
    /// Examples of a task.
    pub train: usize,
    /// Examples to choose checkpoints by.
    pub dev: usize,
    /// Examples to report on.
    pub test: usize,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            upgrades: DOMAINS[1..].iter().map(|domain| domain.name.to_string()).collect(),
            domain_distance: 0.75,
            shared_vocabulary: 0.1,
            concepts: 12,
            words_per_concept: 24,
            noise: [0.05, 0.25],
            task_noise: [0.5, 0.65],
            new_words: 0.9,
            class_balance: 1.0,
            general_documents: 30_000,
            initial_documents: 6_000,
            domain_documents: 20_000,
            train: 800,
            dev: 200,
            test: 400,
        }
    }
}

impl WorldConfig {
    /// Says which dial is out of range, and what the range is.
    pub fn validate(&self) -> Result<()> {
        let within = |name: &str, value: f64, lo: f64, hi: f64| {
            ensure!((lo..=hi).contains(&value), "world: {name} must lie in [{lo}, {hi}], it is {value}");
            Ok(())
        };
        within("domain_distance", self.domain_distance, 0.0, 1.0)?;
        within("shared_vocabulary", self.shared_vocabulary, 0.0, 0.5)?;
        within("new_words", self.new_words, 0.0, 1.0)?;
        within("class_balance", self.class_balance, 0.05, 1.0)?;
        for (name, [lo, hi]) in [("noise", self.noise), ("task_noise", self.task_noise)] {
            within(name, lo, 0.0, 0.95)?;
            within(name, hi, lo, 0.95)?;
        }
        ensure!(
            self.concepts >= 8 && self.concepts.is_multiple_of(4),
            "world: concepts must be a multiple of 4, 8 or more, since topics are groups of them; it is {}",
            self.concepts
        );
        ensure!(
            self.words_per_concept >= 4,
            "world: words_per_concept must be 4 or more, it is {}",
            self.words_per_concept
        );
        for (index, name) in self.upgrades.iter().enumerate() {
            let known: Vec<&str> = DOMAINS.iter().map(|domain| domain.name).filter(|&known| known != GENERAL).collect();
            ensure!(known.contains(&name.as_str()), "world: there is no domain {name}; there are {}", known.join(", "));
            ensure!(!self.upgrades[..index].contains(name), "world: the domain {name} stands in upgrades twice");
        }
        ensure!(!self.upgrades.is_empty(), "world: upgrades must name at least one domain");
        let sizes = [
            ("general_documents", self.general_documents),
            ("domain_documents", self.domain_documents),
            ("train", self.train),
            ("dev", self.dev),
            ("test", self.test),
        ];
        for (name, size) in sizes {
            ensure!(size > 0, "world: {name} must be at least 1");
        }
        Ok(())
    }
}
