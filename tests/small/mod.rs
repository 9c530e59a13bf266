//! A model, texts and a task so small that training takes milliseconds.

#![allow(dead_code)]

use anyhow::Result;
use recyclable::model::{EncoderConfig, Method, Version};
use recyclable::text::{Corpus, Example, Task, Tokenizer};
use recyclable::train::{Optimisation, PretrainConfig, TuneConfig};

pub const LENGTH: usize = 12;

/// `w0` to `w19`.
pub fn words() -> Vec<String> {
    (0..20).map(|word| format!("w{word}")).collect()
}

pub fn tokenizer() -> Result<Tokenizer> {
    Tokenizer::word_level(&words())
}

pub fn config() -> Result<EncoderConfig> {
    Ok(EncoderConfig::tiny(tokenizer()?.vocab_size() as i64, 16, LENGTH as i64))
}

/// An untrained version of one family; each seed is another point in it.
pub fn version(seed: u64) -> Result<Version> {
    Version::new(&config()?, &tokenizer()?, seed)
}

/// Texts of three to eight words.
pub fn corpus() -> Result<Corpus> {
    let text =
        |row: usize| (0..3 + row % 6).map(|at| format!("w{}", (row * 7 + at * 3) % 20)).collect::<Vec<_>>().join(" ");
    Corpus::new("small", (0..40).map(text).collect())
}

/// Texts are about low or about high words; the labels are these.
pub fn task(labels: &[&str]) -> Task {
    let split = |first: usize, size: usize| {
        let example = |row: usize| {
            let label = row % labels.len();
            let word =
                |at: usize| format!("w{}", label * (20 / labels.len()) + (row * 3 + at * at) % (20 / labels.len()));
            Example { text: (0..4).map(word).collect::<Vec<_>>().join(" "), text_pair: None, label }
        };
        (first..first + size).map(example).collect()
    };
    Task {
        name: "halves".to_string(),
        domain: None,
        labels: labels.iter().map(ToString::to_string).collect(),
        train: split(0, 24),
        dev: split(24, 8),
        test: split(32, 8),
    }
}

pub fn pretraining(steps: usize) -> PretrainConfig {
    PretrainConfig {
        optimisation: Optimisation { steps, warmup_steps: 0, ..Default::default() },
        batch_size: 8,
        max_length: LENGTH,
        checkpoint_every: 10,
        ..Default::default()
    }
}

pub fn tuning(method: Method, steps: usize) -> TuneConfig {
    TuneConfig {
        method,
        optimisation: Optimisation { steps, learning_rate: 5e-3, ..Default::default() },
        batch_size: 8,
        max_length: LENGTH,
        eval_every: 4,
        ..Default::default()
    }
}

/// The whole chain of an error that has to come.
pub fn refused<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "it was not refused".to_string(), |error| format!("{error:#}"))
}

/// Asserts that `error` says each of these.
#[track_caller]
pub fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{part:?} is not said by: {error}");
    }
}
