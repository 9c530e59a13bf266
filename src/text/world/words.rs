//! The world's words: sixty real function words, and thousands of invented ones that sound like their domain.

use std::collections::HashSet;

use anyhow::{Result, bail};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Words that carry grammar only; every domain's templates are built from some of them.
pub(super) const FUNCTION_WORDS: [&str; 60] = [
    "the", "a", "an", "this", "that", "these", "those", "its", "their", "our", "of", "in", "on", "at", "by", "for",
    "with", "from", "to", "into", "over", "under", "between", "through", "after", "before", "during", "as", "than",
    "and", "or", "but", "while", "because", "when", "where", "which", "who", "is", "are", "was", "were", "be", "been",
    "has", "have", "had", "can", "may", "will", "would", "we", "they", "it", "there", "also", "then", "both", "each",
    "most",
];

/// Words that turn an opinion into its opposite.
pub(super) const NEGATORS: [&str; 3] = ["not", "never", "hardly"];

/// Marks around the two words whose relation is asked for (as in ChemProt), and where another work is cited.
pub(super) const MARKS: [&str; 5] = ["<<", ">>", "[[", "]]", "(cite)"];

const ONSETS: [&str; 24] = [
    "b", "br", "c", "cl", "d", "dr", "f", "fl", "g", "gr", "h", "k", "l", "m", "n", "p", "pl", "r", "s", "st", "t",
    "tr", "v", "w",
];
const VOWELS: [&str; 6] = ["a", "e", "i", "o", "u", "ai"];
const CODAS: [&str; 8] = ["", "", "", "l", "m", "n", "r", "s"];

/// How the invented words of a domain begin and end.
#[derive(Debug)]
pub(super) struct Flavour {
    pub(super) starts: &'static [&'static str],
    pub(super) ends: &'static [&'static str],
}

/// Makes words that were not made before.
#[derive(Debug, Default)]
pub(super) struct Coiner {
    taken: HashSet<String>,
}

impl Coiner {
    pub(super) fn new() -> Self {
        let real = FUNCTION_WORDS.iter().chain(&NEGATORS).chain(&MARKS);
        Self { taken: real.map(ToString::to_string).collect() }
    }

    /// `count` new words of this flavour.
    pub(super) fn coin(
        &mut self,
        count: usize,
        flavour: &Flavour,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<Vec<String>> {
        let pick = |from: &[&'static str], rng: &mut _| from.choose(rng).copied().unwrap_or_default();
        let mut words = Vec::with_capacity(count);
        // Far more tries than needed: tens of thousands of words exist in every flavour.
        for _ in 0..count * 100 {
            if words.len() == count {
                break;
            }
            let (start, end) = (pick(flavour.starts, rng), pick(flavour.ends, rng));
            let mut word = start.to_string();
            for _ in 0..if start.is_empty() { rng.random_range(1..=2) } else { 1 } {
                word += pick(&ONSETS, rng);
                word += pick(&VOWELS, rng);
            }
            // Something to pronounce between the stem's last vowel and an end that begins with one.
            word +=
                if end.starts_with(['a', 'e', 'i', 'o', 'u', 'y']) { pick(&ONSETS, rng) } else { pick(&CODAS, rng) };
            word += end;
            if self.taken.insert(word.clone()) {
                words.push(word);
            }
        }
        if words.len() < count {
            bail!("the world ran out of new words after {}: ask for fewer or smaller concepts", self.taken.len());
        }
        Ok(words)
    }
}
