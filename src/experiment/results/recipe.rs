//! What a run does: where tuning starts, what it learns from, and with how many labels.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the weights of a run are at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A head and modules drawn anew, by random numbers that no other version shares.
    Fresh,
    /// The same, drawn by the random numbers of M_0's run, data order included: the ends of a path are coupled on purpose.
    Coupled,
    /// Outdated weights as they are: Δ of the source.
    Delta,
    /// α·Δ of the source.
    ShrunkDelta,
    /// Δ of the source, which was itself tuned from outdated weights: recycled a second time.
    RecycledDelta,
    /// Control: the source's head and nothing else.
    HeadOnly,
    /// Control: a random direction, tensor by tensor as long as Δ, and the source's head.
    RandomDelta,
}

/// What a run learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lesson {
    /// Nothing: the weights are put on the version and scored.
    Nothing,
    /// The labels.
    Labels,
    /// Labels and teacher by the published loss: scores and hidden states of `<s>`.
    Published,
    /// Labels and the teacher's scores alone.
    Logits,
    /// Labels, the teacher's scores and hidden states of all tokens.
    AllTokens,
    /// The teacher's scores alone, on the task's unlabelled texts too.
    Unlabelled,
}

/// Where outdated weights come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The version they were tuned on.
    #[serde(rename = "source_version")]
    pub version: String,
    /// The task they were tuned for.
    #[serde(rename = "source_task")]
    pub task: String,
}

/// What is done on a version: start × lesson × labels, at one of the profile's learning rates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// The version tuned, `M0`, `M1`, …
    pub version: String,
    /// What it started from.
    pub start: Start,
    /// Where outdated weights came from, if any took part.
    #[serde(flatten)]
    pub source: Option<Source>,
    /// What it learnt from.
    pub lesson: Lesson,
    /// Labelled texts a class; `null` stands for all there are.
    pub shots: Option<usize>,
    /// Which of the profile's learning rates: 0 is the usual one.
    pub rate: usize,
}

impl Recipe {
    /// Conventional tuning: a fresh head (and modules), all labels.
    pub fn conventional(version: &str) -> Recipe {
        let version = version.to_string();
        Recipe { version, start: Start::Fresh, source: None, lesson: Lesson::Labels, shots: None, rate: 0 }
    }

    /// The same with the random numbers of M_0's run.
    pub fn coupled(version: &str) -> Recipe {
        Recipe { start: Start::Coupled, ..Recipe::conventional(version) }
    }

    /// Outdated weights of `task`, tuned on M_0, put on a version without any training.
    pub fn applied(version: &str, task: &str) -> Recipe {
        Recipe { lesson: Lesson::Nothing, ..Recipe::initialized(version, task) }
    }

    /// Tuning by all labels that starts from the outdated weights of `task`, tuned on M_0.
    pub fn initialized(version: &str, task: &str) -> Recipe {
        let source = Source { version: "M0".to_string(), task: task.to_string() };
        Recipe { start: Start::Delta, source: Some(source), ..Recipe::conventional(version) }
    }

    /// A few-shot student whose teacher, or source, is the same task's Δ_0 on M_0.
    pub fn few_shot(version: &str, task: &str, start: Start, lesson: Lesson, shots: usize) -> Recipe {
        let plain = (start, lesson) == (Start::Fresh, Lesson::Labels);
        let source = Recipe::initialized(version, task).source.filter(|_| !plain);
        Recipe { start, source, lesson, shots: Some(shots), ..Recipe::conventional(version) }
    }

    /// The same from another start.
    pub fn from(self, start: Start) -> Recipe {
        Recipe { start, ..self }
    }

    /// The same with weights tuned on another version.
    pub fn tuned_on(self, version: &str) -> Recipe {
        let source = self.source.map(|source| Source { version: version.to_string(), ..source });
        Recipe { source, ..self }
    }

    /// The same at another of the profile's learning rates.
    pub fn at_rate(self, rate: usize) -> Recipe {
        Recipe { rate, ..self }
    }
}

impl Start {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Start::Fresh => "fresh",
            Start::Coupled => "coupled",
            Start::Delta => "delta",
            Start::ShrunkDelta => "shrunk_delta",
            Start::RecycledDelta => "recycled_delta",
            Start::HeadOnly => "head_only",
            Start::RandomDelta => "random_delta",
        }
    }
}

impl Lesson {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Lesson::Nothing => "nothing",
            Lesson::Labels => "labels",
            Lesson::Published => "published",
            Lesson::Logits => "logits",
            Lesson::AllTokens => "all_tokens",
            Lesson::Unlabelled => "unlabelled",
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.start.name())?;
        if let Some(Source { version, task }) = &self.source {
            write!(f, " of {version}/{task}")?;
        }
        write!(f, ", {}", self.lesson.name())?;
        if let Some(shots) = self.shots {
            write!(f, ", {shots} a class")?;
        }
        if self.rate > 0 { write!(f, ", rate {}", self.rate) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_results_are_those_that_are_read_back() -> anyhow::Result<()> {
        let starts = [Start::Fresh, Start::Coupled, Start::Delta, Start::ShrunkDelta, Start::RecycledDelta];
        for start in starts.into_iter().chain([Start::HeadOnly, Start::RandomDelta]) {
            assert_eq!(serde_json::to_value(start)?, start.name());
        }
        let lessons = [Lesson::Nothing, Lesson::Labels, Lesson::Published, Lesson::Logits];
        for lesson in lessons.into_iter().chain([Lesson::AllTokens, Lesson::Unlabelled]) {
            assert_eq!(serde_json::to_value(lesson)?, lesson.name());
        }
        Ok(())
    }

    #[test]
    fn a_recipe_without_a_source_survives_json_like_one_with() -> anyhow::Result<()> {
        for recipe in [Recipe::conventional("M1"), Recipe::applied("M2", "topic").from(Start::HeadOnly)] {
            assert_eq!(serde_json::from_value::<Recipe>(serde_json::to_value(&recipe)?)?, recipe);
        }
        Ok(())
    }
}
