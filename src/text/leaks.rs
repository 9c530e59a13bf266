//! Counting what should not be there: texts common to two splits, and dev/test texts in a corpus that is pre-trained on.

use std::collections::HashSet;
use std::fmt;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};
use serde::Serialize;

use super::{Corpus, Example, Task};

/// A text with fewer words than this counts as leaked only where it is a whole document: everyone writes "very good".
const SHORTEST_INSIDE: usize = 5;

/// How many texts of one split stand in another one too (case, punctuation and spacing aside).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Overlaps {
    /// The task.
    pub task: String,
    /// Dev texts that also stand in train.
    pub dev_in_train: usize,
    /// Test texts that also stand in train.
    pub test_in_train: usize,
    /// Test texts that also stand in dev.
    pub test_in_dev: usize,
}

impl Overlaps {
    pub(super) fn count(task: &Task) -> Self {
        let train: HashSet<String> = task.train.iter().map(key).collect();
        let dev: HashSet<String> = task.dev.iter().map(key).collect();
        let shared = |examples: &[Example], with: &HashSet<String>| {
            examples.iter().filter(|example| with.contains(&key(example))).count()
        };
        Self {
            task: task.name.clone(),
            dev_in_train: shared(&task.dev, &train),
            test_in_train: shared(&task.test, &train),
            test_in_dev: shared(&task.test, &dev),
        }
    }

    /// All of them together; 0 is what one hopes for.
    pub fn total(&self) -> usize {
        self.dev_in_train + self.test_in_train + self.test_in_dev
    }
}

impl fmt::Display for Overlaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total() == 0 {
            return write!(f, "{}: no text stands in two splits", self.task);
        }
        write!(
            f,
            "{}: {} dev and {} test texts stand in train too, {} test texts in dev",
            self.task, self.dev_in_train, self.test_in_train, self.test_in_dev
        )
    }
}

/// How many dev and test texts of a task a corpus contains.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LeakReport {
    /// The corpus.
    pub corpus: String,
    /// The task.
    pub task: String,
    /// Dev texts found.
    pub dev: usize,
    /// Test texts found.
    pub test: usize,
}

impl LeakReport {
    /// Dev and test together.
    pub fn total(&self) -> usize {
        self.dev + self.test
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} dev and {} test texts of {} found in it", self.corpus, self.dev, self.test, self.task)
    }
}

impl Corpus {
    /// Counts the task's dev and test texts that stand in this corpus, as a whole document or inside one. Words are compared
    /// without case and punctuation; a pair counts when either half is found; a text under five words only as a whole document.
    ///
    /// # Errors
    /// When the texts are too many or too long to search for together.
    pub fn leaks(&self, task: &Task) -> Result<LeakReport> {
        let halves = |examples: &[Example]| -> Vec<(usize, String)> {
            let all = examples.iter().enumerate().flat_map(|(row, example)| {
                std::iter::once(&example.text).chain(&example.text_pair).map(move |text| (row, words(text)))
            });
            all.filter(|(_, text)| text.len() > 1).collect()
        };
        let (dev, test) = (halves(&task.dev), halves(&task.test));
        let patterns: Vec<&str> = dev.iter().chain(&test).map(|(_, text)| text.as_str()).collect();
        let search = AhoCorasick::new(&patterns)
            .with_context(|| format!("cannot search {} for the texts of {}", self.name, task.name))?;
        let mut found = vec![false; patterns.len()];
        for document in &self.documents {
            let document = words(document);
            for hit in search.find_overlapping_iter(&document) {
                let pattern = patterns[hit.pattern()];
                let long = pattern.bytes().filter(|&byte| byte == b' ').count() > SHORTEST_INSIDE;
                found[hit.pattern().as_usize()] |= long || pattern.len() == document.len();
            }
        }
        let rows = |halves: &[(usize, String)], found: &[bool]| {
            let rows = halves.iter().zip(found).filter(|(_, found)| **found).map(|((row, _), _)| *row);
            rows.collect::<HashSet<_>>().len()
        };
        Ok(LeakReport {
            corpus: self.name.clone(),
            task: task.name.clone(),
            dev: rows(&dev, &found[..dev.len()]),
            test: rows(&test, &found[dev.len()..]),
        })
    }
}

fn key(example: &Example) -> String {
    match &example.text_pair {
        None => words(&example.text),
        Some(pair) => words(&example.text) + "|" + &words(pair),
    }
}

/// The words of a text, lower case, each with one blank on either side: " so it reads ".
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() {
            out.push(character);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(texts: &[&str]) -> Vec<Example> {
        texts.iter().map(|text| Example { text: (*text).into(), text_pair: None, label: 0 }).collect()
    }

    fn task(train: &[&str], dev: &[&str], test: &[&str]) -> Task {
        Task {
            name: "t".into(),
            domain: None,
            labels: vec!["a".into(), "b".into()],
            train: examples(train),
            dev: examples(dev),
            test: examples(test),
        }
    }

    #[test]
    fn texts_in_two_splits_are_counted_whatever_their_case_and_spacing() {
        let task = task(&["One two.", "three", "four"], &["one  TWO", "five"], &["three", "five", "one two", "six"]);
        let overlaps = task.overlaps();
        assert_eq!((overlaps.dev_in_train, overlaps.test_in_train, overlaps.test_in_dev), (1, 2, 2));
        assert_eq!(overlaps.to_string(), "t: 1 dev and 2 test texts stand in train too, 2 test texts in dev");
    }

    #[test]
    fn a_pair_is_the_same_only_as_a_whole() {
        let mut task = task(&["a"], &["a"], &["a"]);
        task.train[0].text_pair = Some("b".into());
        task.dev[0].text_pair = Some("c".into());
        task.test[0].text_pair = Some("b".into());
        assert_eq!((task.overlaps().dev_in_train, task.overlaps().test_in_train), (0, 1));
    }

    #[test]
    fn dev_and_test_texts_are_found_in_a_corpus_whole_or_inside_a_document() -> Result<()> {
        let corpus = Corpus::new(
            "news",
            [
                "It began: the quick brown fox jumps over it, they said.",
                "Very good.",
                "A very good day.",
                "unrelated",
                "xthe quick brown fox jumpsx",
            ]
            .map(String::from)
            .to_vec(),
        )?;
        let found = |dev: &[&str], test: &[&str]| -> Result<(usize, usize)> {
            let report = corpus.leaks(&task(&["unrelated"], dev, test))?;
            Ok((report.dev, report.test))
        };
        // Five words inside; two words as a whole document; two words inside one do not count; nor does part of a word.
        assert_eq!(found(&["The quick brown fox jumps"], &["very good", "good day", "elated"])?, (1, 1));
        assert_eq!(found(&["the quick brown fox"], &["unrelated", "unrelated"])?, (0, 2));
        assert_eq!(found(&[], &["", "…"])?, (0, 0));
        Ok(())
    }
}
