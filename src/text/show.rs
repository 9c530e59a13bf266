//! Texts, tasks, tokenizers and the world in notebooks and terminals.

use anyhow::Result;

use super::{
    Corpus, Encoding, Example, LeakReport, MaskingConfig, MlmBatch, MlmData, Overlaps, Sequences, Specials, Task,
    TaskBatch, TaskCard, TaskData, Text, TokenBatch, Tokenizer, World, WorldConfig,
};
use crate::display::settings::settings;
use crate::display::{Bundle, Cell, Column, Show, Table, thousands};

/// Documents, and examples of a label, that are shown.
const SAMPLES: usize = 5;
const SAMPLES_A_LABEL: usize = 2;
/// Rows of samples in all, however many labels there are.
const MOST_SAMPLES: usize = 12;
/// Characters of a text that are shown.
const EXCERPT: usize = 100;
/// The same, where the text stands beside much else.
const SHORT_EXCERPT: usize = 40;

/// The beginning of a text.
fn excerpt(text: &str) -> String {
    shortened(text, EXCERPT)
}

fn shortened(text: &str, length: usize) -> String {
    let mut kept: String = text.chars().take(length).collect();
    if kept.len() < text.len() {
        kept.push('…');
    }
    kept
}

/// `count` places, evenly spread over a list of `length`.
fn spread(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(length);
    (0..count).map(move |at| at * length / count)
}

impl Show for Corpus {
    fn show(&self) -> Result<Bundle> {
        let words: usize = self.iter().map(|text| text.split_whitespace().count()).sum();
        let title = format!(
            "Corpus {}: {} documents, {} words",
            self.name,
            thousands(self.len() as i64),
            thousands(words as i64)
        );
        let mut table = Table::new("corpus", title, vec![Column::number("number", 0), Column::text("document")]);
        for row in spread(self.len(), SAMPLES) {
            table.push([Cell::from(row), excerpt(&self.documents[row]).into()]);
        }
        Ok(Bundle::new().table(table.caption("Documents from all over the corpus, numbered from 0.")))
    }
}

impl Show for Task {
    fn show(&self) -> Result<Bundle> {
        let columns = ["train", "dev", "test"].map(|split| Column::number(split, 0));
        let domain = self.domain.as_ref().map_or(String::new(), |domain| format!(" on texts of {domain}"));
        let title = format!("Task {}: {} classes{domain}", self.name, self.num_labels());
        let mut counts = Table::new("task", title, [Column::text("label")].into_iter().chain(columns).collect());
        let splits = [&self.train, &self.dev, &self.test];
        for (label, name) in self.labels.iter().enumerate() {
            let count = |split: &Vec<Example>| split.iter().filter(|example| example.label == label).count();
            counts.push([Cell::from(name.as_str())].into_iter().chain(splits.map(|split| count(split).into())));
        }
        counts.push([Cell::from("all")].into_iter().chain(splits.map(|split| split.len().into())));
        let chance = Task::majority_share(&self.test);
        let counts =
            counts.caption(format!("Always answering the most frequent label is right on {chance:.3} of test."));

        let paired = self.train.iter().any(|example| example.text_pair.is_some());
        let mut columns = vec![Column::text("label"), Column::text("text")];
        columns.extend(paired.then(|| Column::text("second text")));
        let mut samples = Table::new("samples", "Training examples", columns);
        let of_label = |label: usize| self.train.iter().filter(move |example| example.label == label);
        let chosen = (0..self.num_labels()).flat_map(|label| of_label(label).take(SAMPLES_A_LABEL));
        for example in chosen.take(MOST_SAMPLES) {
            let name = self.labels.get(example.label).map_or("?", String::as_str);
            samples.push([
                name.to_string(),
                excerpt(&example.text),
                excerpt(example.text_pair.as_deref().unwrap_or("")),
            ]);
        }
        Ok(Bundle::new().table(counts).table(samples))
    }
}

impl Show for Example {
    fn show(&self) -> Result<Bundle> {
        let pair = self.text_pair.as_ref().map(|pair| ("second text", Cell::from(pair.as_str())));
        let facts = [("text", Cell::from(self.text.as_str()))].into_iter().chain(pair);
        Ok(Bundle::new().table(Table::facts(format!("Example of class {}", self.label), facts)))
    }
}

impl Show for Text {
    fn show(&self) -> Result<Bundle> {
        let pair = self.text_pair.as_ref().map(|pair| ("second text", Cell::from(pair.as_str())));
        let facts = [("text", Cell::from(self.text.as_str()))].into_iter().chain(pair);
        Ok(Bundle::new().table(Table::facts("Text without a label", facts)))
    }
}

impl Show for TaskData {
    fn show(&self) -> Result<Bundle> {
        let title = format!("{} encoded examples", thousands(self.len() as i64));
        let mut table = Table::new("task_data", title, vec![Column::text("label"), Column::number("examples", 0)]);
        for label in 0..=self.labels().iter().copied().max().unwrap_or(0) {
            let count = self.labels().iter().filter(|known| **known == label).count();
            table.push([Cell::from(label.to_string()), count.into()]);
        }
        let caption = format!(
            "The longest has {} tokens; {} were cut off there.",
            self.longest(),
            thousands(self.truncated() as i64)
        );
        Ok(Bundle::new().table(table.caption(caption)))
    }
}

impl Show for TaskCard {
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("kind", Cell::from(format!("{:?}", self.kind).to_lowercase())),
            ("domain", self.domain.into()),
            ("labels", self.labels.join(", ").into()),
            ("similar task", self.similar_to.into()),
            ("different task", self.different_from.into()),
        ];
        Ok(Bundle::new().table(Table::facts(format!("Task {}", self.name), facts)))
    }
}

impl Show for World {
    fn show(&self) -> Result<Bundle> {
        let config = self.config();
        let columns = vec![
            Column::text("domain"),
            Column::number("documents", 0),
            Column::number("of them in M_0's corpus", 0),
            Column::number("share of words that the general domain has", 2),
        ];
        let mut domains = Table::new("domains", "Domains, in the order of the upgrades", columns).caption(format!(
            "{} words in all. Domain distance {}, shared vocabulary {}.",
            thousands(self.words().len() as i64),
            config.domain_distance,
            config.shared_vocabulary
        ));
        for (at, domain) in self.domains().iter().enumerate() {
            let (own, initial) = match at {
                0 => (config.general_documents, config.general_documents),
                _ => (config.domain_documents + config.initial_documents, config.initial_documents),
            };
            domains.push([domain.as_str().into(), own.into(), initial.into(), Cell::from(self.shared_words(domain)?)]);
        }
        let columns = ["task", "kind", "domain", "labels", "an example"].map(Column::text).to_vec();
        let mut tasks = Table::new("tasks", "Tasks", columns).caption(format!(
            "Each has {} examples to tune on, {} to choose by and {} to report on.",
            thousands(config.train as i64),
            thousands(config.dev as i64),
            thousands(config.test as i64)
        ));
        for (task, card) in self.tasks().iter().zip(self.cards()) {
            let kind = format!("{:?}", card.kind).to_lowercase();
            let example = task.train.first().map_or(String::new(), |example| shortened(&example.text, SHORT_EXCERPT));
            tasks.push([task.name.clone(), kind, card.domain.to_string(), task.labels.join(", "), example]);
        }
        Ok(Bundle::new().table(domains).table(tasks))
    }
}

impl Show for Tokenizer {
    fn show(&self) -> Result<Bundle> {
        let size = self.vocab_size();
        let columns = vec![Column::number("id", 0), Column::text("token"), Column::text("")];
        let mut table = Table::new("tokenizer", format!("Tokenizer of {} tokens", thousands(size as i64)), columns);
        let specials = self.specials();
        let named = [
            (specials.bos, "begins every text"),
            (specials.pad, "fills short ones"),
            (specials.eos, "ends every text"),
            (specials.unk, "stands for the unknown"),
            (specials.mask, "hides a token"),
        ];
        let ordinary = (0..size as i64).filter(|id| !self.special_ids().contains(id)).collect::<Vec<_>>();
        let some = spread(ordinary.len(), SAMPLES).map(|at| (ordinary[at], ""));
        for (id, role) in named.into_iter().chain(some) {
            let token = self.token(id).unwrap_or_default();
            table.push([Cell::from(id as usize), token.into(), role.into()]);
        }
        Ok(Bundle::new().table(table.caption("The special tokens, and some from all over the vocabulary.")))
    }
}

impl Show for Specials {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Ids of the special tokens", self, None)?))
    }
}

impl Show for Encoding {
    fn show(&self) -> Result<Bundle> {
        let ids: Vec<String> = self.ids.iter().map(ToString::to_string).collect();
        let cut = if self.truncated { ", cut off there" } else { "" };
        Ok(Bundle::new().text(format!("{} tokens{cut}: {}", ids.len(), ids.join(" "))))
    }
}

impl Show for Sequences {
    fn show(&self) -> Result<Bundle> {
        let facts = [
            ("sequences", Cell::from(self.ids.len())),
            ("tokens", self.tokens().into()),
            ("longest", self.ids.iter().map(Vec::len).max().unwrap_or(0).into()),
            ("documents cut off", self.truncated.into()),
        ];
        Ok(Bundle::new().table(Table::facts("Encoded documents", facts)))
    }
}

impl Show for MlmData {
    fn show(&self) -> Result<Bundle> {
        let facts = [("sequences", Cell::from(self.len())), ("tokens an epoch", self.tokens().into())];
        Ok(Bundle::new().table(Table::facts("Sequences for masked language modelling", facts)))
    }
}

impl Show for MlmBatch {
    fn show(&self) -> Result<Bundle> {
        let ((rows, length), hidden) = (self.tokens.size(), self.positions.numel());
        Ok(Bundle::new().text(format!(
            "{rows} sequences of {length} tokens, padding included; {hidden} tokens are to be predicted"
        )))
    }
}

impl Show for TokenBatch {
    fn show(&self) -> Result<Bundle> {
        let (rows, length) = self.size();
        let padding = if self.attention_mask.is_some() { "padding included" } else { "no padding" };
        Ok(Bundle::new().text(format!("{rows} sequences of {length} tokens, {padding}")))
    }
}

impl Show for TaskBatch {
    fn show(&self) -> Result<Bundle> {
        let rows: Vec<String> = self.rows.iter().map(ToString::to_string).collect();
        Ok(Bundle::new().with(&self.tokens).text(format!("examples {}", rows.join(", "))))
    }
}

impl Show for WorldConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("The world's dials", self, Some(&Self::default()))?))
    }
}

impl Show for MaskingConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Masking", self, Some(&Self::default()))?))
    }
}

impl Show for Overlaps {
    fn show(&self) -> Result<Bundle> {
        self.to_string().show()
    }
}

impl Show for LeakReport {
    fn show(&self) -> Result<Bundle> {
        self.to_string().show()
    }
}

crate::displayable!(Corpus, Task, Example, Text, TaskData, TaskCard, World, Tokenizer, Specials, Encoding, Sequences);
crate::displayable!(MlmData, MlmBatch, TokenBatch, TaskBatch, WorldConfig, MaskingConfig);
crate::displayable!(notebook: Overlaps, LeakReport);

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        let example = |text: &str, label| Example { text: text.to_string(), text_pair: None, label };
        let train = vec![example("a <script>", 0), example("b", 1), example("c", 1), example(&"long ".repeat(80), 1)];
        let labels = vec!["<b>bold</b>".to_string(), "plain".to_string()];
        let (dev, test) = (train[..2].to_vec(), train[1..].to_vec());
        Task { name: "t".to_string(), domain: Some("bio".to_string()), labels, train, dev, test }
    }

    #[test]
    fn a_task_shows_counts_by_label_and_examples_of_each() -> Result<()> {
        let text = task().to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for wanted in [["<b>bold</b>", "1", "1", "0"], ["plain", "3", "1", "3"], ["all", "4", "2", "3"]] {
            assert!(rows.iter().any(|row| *row == wanted), "{wanted:?} is not in {text}");
        }
        assert!(text.contains("right on 1.000 of test"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("plain") && line.ends_with(" b")), "{text}");
        let html = task().show()?.to_html()?;
        assert!(html.contains("a &lt;script&gt;") && html.contains("&lt;b&gt;bold") && !html.contains("<script"));
        Ok(())
    }

    #[test]
    fn a_corpus_shows_documents_from_all_over_it_cut_short() -> Result<()> {
        let documents = (0..100).map(|at| format!("document{at} {}", "word ".repeat(100))).collect();
        let text = Corpus::new("c", documents)?.to_string();
        assert!(text.contains("100 documents, 10,100 words"), "{text}");
        for at in [0, 20, 40, 60, 80] {
            assert!(text.contains(&format!("document{at} ")), "{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() < 200) && text.contains('…'), "{text}");
        Ok(())
    }

    #[test]
    fn the_world_lists_domains_and_tasks_and_a_tokenizer_its_tokens() -> Result<()> {
        let world = World::new(WorldConfig { train: 20, dev: 10, test: 10, ..WorldConfig::default() })?;
        let text = world.to_string();
        assert!(world.domains().iter().all(|name| text.contains(name.as_str())), "{text}");
        assert!(world.tasks().iter().all(|task| text.contains(&task.name)), "{text}");
        let (tokenizer, text) = (world.tokenizer()?, world.tokenizer()?.to_string());
        assert!(text.contains("<mask>") && text.contains(&thousands(tokenizer.vocab_size() as i64)), "{text}");
        assert!(tokenizer.show()?.to_html()?.contains("&lt;mask&gt;"));
        Ok(())
    }
}
