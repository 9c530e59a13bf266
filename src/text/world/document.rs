//! How a document comes about: a topic, perhaps an aspect, three clauses, and noise.

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::lexicon::{Aspect, Concept, Domain, INTENT, OPINION, Part, RELATION};
use super::words::NEGATORS;

/// How often a corpus puts an opinion as the negation of its opposite.
const NEGATED: f64 = 0.1;
/// How often the two clauses of a document agree in relation or intent.
pub(super) const AGREE: f64 = 0.75;
/// How often a corpus document marks the pair or the citation that a task would ask about.
const MARKED: f64 = 0.5;

/// What a document says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meaning {
    /// Which of the domain's concepts.
    pub(super) concept: usize,
    /// Which aspect, and its value.
    pub(super) aspect: Option<(usize, usize)>,
    /// The aspect's value in the clause that is not asked about; the same as above where the two agree.
    pub(super) aside: usize,
    /// Whether the pair or citation is marked.
    pub(super) marked: bool,
    /// Share of content words that are noise.
    pub(super) noise: f64,
    /// In a task, the share of content words that none of its training texts has; nothing in a corpus, which has them all.
    pub(super) new_words: Option<f64>,
    /// Share of opinions put as the negation of their opposite.
    pub(super) negated: f64,
}

impl Meaning {
    /// A document's meaning as the domain's corpus has it.
    pub(super) fn of_corpus(
        domain: &Domain,
        aspects: &[Aspect],
        noise: [f64; 2],
        rng: &mut Xoshiro256PlusPlus,
    ) -> Self {
        let concept = rng.random_range(0..domain.concepts.len());
        let mut lot = rng.random::<f64>();
        let aspect = domain.spec.aspects.iter().position(|&share| {
            lot -= share;
            lot < 0.0
        });
        let aspect = aspect.map(|aspect| (aspect, rng.random_range(0..aspects[aspect].values.len())));
        let aside = match aspect {
            Some((aspect, _)) if aspect != OPINION && !rng.random_bool(AGREE) => {
                rng.random_range(0..aspects[aspect].values.len())
            }
            Some((_, value)) => value,
            None => 0,
        };
        let marked = rng.random_bool(MARKED);
        Self { concept, aspect, aside, marked, noise: between(noise, rng), new_words: None, negated: NEGATED }
    }

    fn draw<'a>(&self, concept: &'a Concept, rng: &mut Xoshiro256PlusPlus) -> &'a str {
        match self.new_words {
            None => concept.draw(rng),
            Some(share) => concept.draw_half(rng.random_bool(share), rng),
        }
    }
}

pub(super) fn between([lo, hi]: [f64; 2], rng: &mut Xoshiro256PlusPlus) -> f64 {
    lo + (hi - lo) * rng.random::<f64>()
}

/// Writes documents of one domain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) domain: &'a Domain,
    pub(super) aspects: &'a [Aspect],
}

impl Writer<'_> {
    /// Twenty to thirty words that mean `meaning`.
    pub(super) fn write(&self, meaning: &Meaning, rng: &mut Xoshiro256PlusPlus) -> String {
        let mut clauses: Vec<Vec<String>> = vec![self.fill(self.topic_clause(rng), meaning, 0, rng)];
        match meaning.aspect {
            None => {
                for _ in 0..2 {
                    clauses.push(self.fill(self.topic_clause(rng), meaning, 0, rng));
                }
            }
            Some((aspect, value)) => {
                let mut asked = self.fill(self.aspect_clause(rng), meaning, value, rng);
                if meaning.marked && aspect == RELATION {
                    asked = self.marked_pair(meaning, value, rng);
                } else if meaning.marked && aspect == INTENT {
                    // Cited somewhere inside the clause, never at its edge, where it could belong to the neighbour.
                    asked.insert(rng.random_range(1..asked.len()), "(cite)".into());
                }
                clauses.push(asked);
                clauses.push(self.fill(self.aspect_clause(rng), meaning, meaning.aside, rng));
            }
        }
        clauses.shuffle(rng);
        clauses.concat().join(" ")
    }

    /// `<< a >> … [[ b ]]` with the relation between the two.
    fn marked_pair(&self, meaning: &Meaning, value: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<String> {
        use Part::{Aspect, Topic, Word};
        let link = self.aspect_clause(rng).iter().find(|part| matches!(part, Word(_))).cloned().unwrap_or(Word("the"));
        let parts = [Word("<<"), Topic, Word(">>"), Aspect, Aspect, link, Aspect, Word("[["), Topic, Word("]]")];
        self.fill(&parts, meaning, value, rng)
    }

    fn topic_clause(&self, rng: &mut Xoshiro256PlusPlus) -> &[Part] {
        self.domain.clauses.choose(rng).map_or(&[], Vec::as_slice)
    }

    fn aspect_clause(&self, rng: &mut Xoshiro256PlusPlus) -> &[Part] {
        self.domain.aspect_clauses.choose(rng).map_or(&[], Vec::as_slice)
    }

    fn fill(&self, parts: &[Part], meaning: &Meaning, value: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<String> {
        let mut words = Vec::with_capacity(parts.len() + 2);
        for part in parts {
            match part {
                Part::Word(word) => words.push((*word).to_string()),
                Part::Topic => {
                    let stray = rng.random_bool(meaning.noise);
                    let concept = if stray { rng.random_range(0..self.domain.concepts.len()) } else { meaning.concept };
                    words.push(meaning.draw(&self.domain.concepts[concept], rng).to_string());
                }
                Part::Aspect => {
                    let aspect = meaning.aspect.map_or(0, |(aspect, _)| aspect);
                    let values = &self.aspects[aspect].values;
                    // Aspect words are few, so noise among them is rarer.
                    let mut value =
                        if rng.random_bool(meaning.noise / 4.0) { rng.random_range(0..values.len()) } else { value };
                    if aspect == OPINION && rng.random_bool(meaning.negated) {
                        words.push(NEGATORS.choose(rng).copied().unwrap_or("not").to_string());
                        value = 1 - value;
                    }
                    words.push(meaning.draw(&values[value], rng).to_string());
                }
            }
        }
        words
    }
}
