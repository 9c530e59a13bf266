//! What the world is about: domains with their topic concepts and sentence templates, and the aspects all of them share.

use anyhow::Result;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::WorldConfig;
use super::words::{Coiner, FUNCTION_WORDS, Flavour};
use crate::seed;

/// The domain everything starts from.
pub(super) const GENERAL: &str = "general";

/// A domain as given: its name, how its words sound, and how often its documents have an aspect.
#[derive(Debug)]
pub(super) struct DomainSpec {
    pub(super) name: &'static str,
    flavour: Flavour,
    /// Probability of [opinion, relation, intent]; the rest of the documents are about a topic alone.
    pub(super) aspects: [f64; 3],
}

pub(super) const DOMAINS: [DomainSpec; 5] = [
    DomainSpec {
        name: GENERAL,
        flavour: Flavour { starts: &[""], ends: &["er", "le", "ow", "ing", "ock", "and", "et"] },
        aspects: [0.3, 0.2, 0.2],
    },
    DomainSpec {
        name: "bio",
        flavour: Flavour {
            starts: &["", "cyto", "neuro", "lipo", "hemo"],
            ends: &["ase", "in", "gen", "cyte", "osis", "amide", "itis"],
        },
        aspects: [0.0, 0.6, 0.0],
    },
    DomainSpec {
        name: "reviews",
        flavour: Flavour { starts: &["", "melo", "cine"], ends: &["drama", "ody", "ette", "flick", "esque", "plot"] },
        aspects: [0.8, 0.0, 0.0],
    },
    DomainSpec {
        name: "news",
        flavour: Flavour {
            starts: &["", "inter", "vice"],
            ends: &["ton", "ville", "ment", "ship", "party", "ism", "corp"],
        },
        aspects: [0.2, 0.1, 0.0],
    },
    DomainSpec {
        name: "cs",
        flavour: Flavour {
            starts: &["", "meta", "hyper", "auto"],
            ends: &["ware", "net", "bit", "code", "logic", "ix"],
        },
        aspects: [0.0, 0.0, 0.6],
    },
];

/// Words that occur together, the likeliest first.
#[derive(Debug, Clone)]
pub(super) struct Concept {
    pub(super) words: Vec<String>,
    cumulative: Vec<f64>,
}

impl Concept {
    /// Zipf-like, but mild: the weight of the word of rank k is 1 / √(k + 1), so that most words matter.
    fn new(words: Vec<String>) -> Self {
        let mut total = 0.0;
        let cumulative = (0..words.len())
            .map(|rank| {
                total += 1.0 / ((rank + 1) as f64).sqrt();
                total
            })
            .collect();
        Self { words, cumulative }
    }

    pub(super) fn draw(&self, rng: &mut Xoshiro256PlusPlus) -> &str {
        let lot = rng.random::<f64>() * self.cumulative.last().copied().unwrap_or(0.0);
        let place = self.cumulative.partition_point(|&sum| sum <= lot);
        self.words.get(place).map_or("", String::as_str)
    }

    /// A word of every second rank: the even ones, which training texts of tasks use, or the odd ones, which they never do.
    pub(super) fn draw_half(&self, odd: bool, rng: &mut Xoshiro256PlusPlus) -> &str {
        let lot = rng.random::<f64>() * self.cumulative.last().copied().unwrap_or(0.0);
        let place = self.cumulative.partition_point(|&sum| sum <= lot);
        let pair = (place / 2).min((self.words.len() / 2).saturating_sub(1));
        self.words.get(2 * pair + usize::from(odd)).map_or("", String::as_str)
    }
}

/// One place of a clause.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// A function word, as it stands.
    Word(&'static str),
    /// A word of the document's topic.
    Topic,
    /// A word of the document's aspect: an opinion, a relation, an intent.
    Aspect,
}

/// A domain, made.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) spec: &'static DomainSpec,
    pub(super) concepts: Vec<Concept>,
    /// Twelve clauses about a topic, 7 to 10 words, most of them slots: every pair of slots teaches which words belong together.
    pub(super) clauses: Vec<Vec<Part>>,
    /// Twelve clauses with three aspect words, 7 words.
    pub(super) aspect_clauses: Vec<Vec<Part>>,
}

/// A property of documents beside their topic, common to all domains: each value has words of its own.
#[derive(Debug)]
pub(super) struct Aspect {
    pub(super) values: Vec<Concept>,
}

/// All aspects, by their place in [`DomainSpec::aspects`].
pub(super) const OPINION: usize = 0;
pub(super) const RELATION: usize = 1;
pub(super) const INTENT: usize = 2;

/// Values and words a value of each aspect.
const ASPECTS: [(usize, usize, Flavour); 3] = [
    (2, 24, Flavour { starts: &[""], ends: &["ful", "ish", "some", "y"] }),
    (4, 16, Flavour { starts: &["", "up", "de"], ends: &["ates", "ifies", "izes"] }),
    (3, 18, Flavour { starts: &["", "re"], ends: &["ed", "ling", "wise"] }),
];

/// All domains (general first) and aspects.
pub(super) fn build(config: &WorldConfig) -> Result<(Vec<Domain>, Vec<Aspect>)> {
    let mut coiner = Coiner::new();
    let mut domains: Vec<Domain> = Vec::new();
    let shared = ((1.0 - config.domain_distance) * config.concepts as f64).round() as usize;
    let borrowed = (config.shared_vocabulary * config.words_per_concept as f64).round() as usize;
    for (index, spec) in DOMAINS.iter().enumerate() {
        let mut rng = seed::rng(config.seed, "world-domain", index as u64);
        let mut concepts = Vec::with_capacity(config.concepts);
        for _ in 0..config.concepts {
            concepts.push(coiner.coin(config.words_per_concept, &spec.flavour, &mut rng)?);
        }
        if let Some(general) = domains.first() {
            // General words in another meaning, then whole concepts. Which ones come first does not depend on the dials, so
            // a smaller distance shares the same concepts and more.
            let words: Vec<&String> = general.concepts.iter().flat_map(|concept| &concept.words).collect();
            for concept in &mut concepts {
                let mut places: Vec<usize> = (0..concept.len()).collect();
                places.shuffle(&mut rng);
                let mut loans: Vec<&String> = words.clone();
                loans.shuffle(&mut rng);
                for (&place, &loan) in places.iter().zip(&loans).take(borrowed) {
                    concept[place].clone_from(loan);
                }
            }
            let mut order: Vec<usize> = (0..config.concepts).collect();
            order.shuffle(&mut rng);
            for &place in &order[..shared] {
                concepts[place] = general.concepts[place].words.clone();
            }
        }
        let (clauses, aspect_clauses) = templates(&mut rng);
        let concepts = concepts.into_iter().map(Concept::new).collect();
        domains.push(Domain { spec, concepts, clauses, aspect_clauses });
    }
    let mut aspects = Vec::new();
    for (index, (values, words, flavour)) in ASPECTS.iter().enumerate() {
        let mut rng = seed::rng(config.seed, "world-aspect", index as u64);
        let mut coined = Vec::new();
        for _ in 0..*values {
            coined.push(Concept::new(coiner.coin(*words, flavour, &mut rng)?));
        }
        aspects.push(Aspect { values: coined });
    }
    Ok((domains, aspects))
}

/// A domain's clauses, from the 30 function words it prefers.
fn templates(rng: &mut Xoshiro256PlusPlus) -> (Vec<Vec<Part>>, Vec<Vec<Part>>) {
    const CLAUSES: usize = 12;
    let mut preferred = FUNCTION_WORDS;
    preferred.shuffle(rng);
    let preferred = &preferred[..30];
    let clause = |parts: &[(Part, usize)], rng: &mut Xoshiro256PlusPlus| {
        let mut slots: Vec<Part> = parts.iter().flat_map(|(part, count)| vec![part.clone(); *count]).collect();
        slots.shuffle(rng);
        for part in &mut slots {
            if let Part::Word(word) = part {
                *word = preferred.choose(rng).copied().unwrap_or("the");
            }
        }
        slots
    };
    let topic = (0..CLAUSES).map(|_| {
        let (topics, words) = (rng.random_range(5..=6), rng.random_range(2..=4));
        clause(&[(Part::Topic, topics), (Part::Word(""), words)], rng)
    });
    let topic: Vec<_> = topic.collect();
    let aspect = (0..CLAUSES).map(|_| clause(&[(Part::Topic, 2), (Part::Aspect, 3), (Part::Word(""), 2)], rng));
    let aspect = aspect.collect();
    (topic, aspect)
}
