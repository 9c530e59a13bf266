//! Models, versions and adapted weights in notebooks and terminals.

use std::collections::HashSet;

use anyhow::Result;

use super::{
    Adapted, AdapterConfig, Card, Coordinates, EncoderConfig, LoraConfig, Method, Model, Permutation, Version,
};
use crate::device::device_name;
use crate::display::settings::settings;
use crate::display::{Bundle, Cell, Column, Show, Table, thousands};
use crate::params::{Layout, Theta, summary, tree};

/// `2 layers of 4 heads, hidden size 128`
fn shape(config: &EncoderConfig) -> String {
    format!(
        "{} layers of {} heads, hidden size {}, {} tokens in the vocabulary, sequences of up to {}",
        config.num_hidden_layers,
        config.num_attention_heads,
        config.hidden_size,
        thousands(config.vocab_size),
        config.max_length()
    )
}

impl Show for Model {
    fn show(&self) -> Result<Bundle> {
        let trained: HashSet<String> = self.trainable().into_iter().collect();
        let vectors: [(&str, Option<&Theta>); 3] =
            [("backbone", Some(self.backbone())), ("modules", self.modules()), ("head", Some(self.head()))];
        let vectors: Vec<(&str, &Layout)> =
            vectors.iter().filter_map(|(name, theta)| Some((*name, theta.as_ref()?.layout().as_ref()))).collect();
        let entries = || vectors.iter().flat_map(|(_, layout)| layout.entries());
        let count = entries().map(|entry| entry.len).sum::<i64>();
        let moved = entries().filter(|entry| trained.contains(&entry.name)).map(|entry| entry.len).sum::<i64>();
        let title = match self.labels() {
            [] => "Masked language model".to_string(),
            labels => format!("Classifier of {}", labels.join(", ")),
        };
        let caption = format!(
            "{}. Tuning method {}: {} of {} parameters are trained ({:.1} %). ● trained, ○ frozen, ◐ some of them. {} on {}.",
            shape(self.config()),
            self.method().name(),
            thousands(moved),
            thousands(count),
            100.0 * moved as f64 / count.max(1) as f64,
            self.precision(),
            device_name(self.device())
        );
        Ok(Bundle::new().table(tree(title, &vectors, Some(&|name| trained.contains(name))).caption(caption)))
    }
}

impl Show for Version {
    fn show(&self) -> Result<Bundle> {
        let vectors = [("backbone: ", &self.backbone), ("masked-LM head: ", &self.lm_head)];
        let vectors = vectors.map(|(name, theta)| (name, theta));
        let table = summary("A pre-trained version", &vectors)?;
        let caption = format!("{}. {}", shape(&self.config), table.caption);
        Ok(Bundle::new().table(table.caption(caption)))
    }
}

impl Show for Adapted {
    fn show(&self) -> Result<Bundle> {
        let mut vectors: Vec<(&str, &Theta)> = Vec::new();
        vectors.extend(self.backbone.as_deref().map(|delta| ("Δ of the backbone: ", delta)));
        vectors.extend(self.modules.as_ref().map(|modules| ("modules: ", modules)));
        vectors.push(("head: ", &self.head));
        let title = format!("Weights tuned for {}", self.card.task);
        Ok(Bundle::new().table(about(&self.card, title.clone())).table(summary("Their parameters", &vectors)?))
    }
}

impl Show for Card {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(about(self, format!("Weights tuned for {}", self.task))))
    }
}

fn about(card: &Card, title: String) -> Table {
    let short = |fingerprint: &String| fingerprint.chars().take(12).collect::<String>();
    let mut facts = vec![
        ("method", Cell::from(card.method.name())),
        ("labels", card.labels.join(", ").into()),
        ("tuned on the version", short(&card.base).into()),
    ];
    if !card.ancestry.is_empty() {
        let ancestry: Vec<String> = card.ancestry.iter().map(short).collect();
        facts.push(("recycled from weights tuned on", ancestry.join(", ").into()));
    }
    let scores: Vec<(String, f64)> = card.scores.iter().map(|(name, score)| (name.replace('_', " "), *score)).collect();
    facts.extend(scores.iter().map(|(name, score)| (name.as_str(), Cell::from(*score))));
    Table::facts(title, facts)
}

impl Show for EncoderConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("The encoder's shape", self, None)?))
    }
}

impl Show for Method {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Tuning method", self, None)?))
    }
}

impl Show for AdapterConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("Adapters", self, Some(&Self::default()))?))
    }
}

impl Show for LoraConfig {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().table(settings("LoRA", self, Some(&Self::default()))?))
    }
}

impl Show for Coordinates {
    fn show(&self) -> Result<Bundle> {
        Ok(Bundle::new().text(match self {
            Coordinates::Inner => "The heads within each layer, and the neurons within each feed-forward map.",
            Coordinates::All => {
                "The heads within each layer, the neurons within each feed-forward map, and the hidden dimensions."
            }
        }))
    }
}

impl Show for Permutation {
    fn show(&self) -> Result<Bundle> {
        let columns = vec![
            Column::text("what"),
            Column::text("layer"),
            Column::number("places", 0),
            Column::number("moved", 0),
            Column::text("order"),
        ];
        let caption =
            "What stands at a place stood at the one that the order names there: 2, 0, 1 puts first what was last.";
        let mut table = Table::new("permutation", "A model's coordinates, permuted", columns).caption(caption);
        let mut row = |what: &str, layer: Option<usize>, order: &[usize]| {
            let moved = order.iter().enumerate().filter(|(to, from)| to != *from).count();
            let mut names: Vec<String> = order.iter().take(12).map(usize::to_string).collect();
            names.extend((order.len() > 12).then(|| "…".to_string()));
            let layer = layer.map_or("all".to_string(), |layer| layer.to_string());
            table.push([Cell::from(what), layer.into(), order.len().into(), moved.into(), names.join(", ").into()]);
        };
        for (what, orders) in [("heads", &self.heads), ("neurons", &self.neurons)] {
            orders.iter().enumerate().for_each(|(layer, order)| row(what, Some(layer), order));
        }
        if let Some(order) = &self.hidden {
            row("hidden dimensions", None, order);
        }
        Ok(Bundle::new().table(table))
    }
}

crate::displayable!(
    Model,
    Version,
    Adapted,
    Card,
    EncoderConfig,
    Method,
    AdapterConfig,
    LoraConfig,
    Coordinates,
    Permutation
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokenizer;
    use tch::Device;

    #[test]
    fn adapters_are_seen_to_be_what_is_trained() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c"])?;
        let version = Version::new(&EncoderConfig::tiny(8, 16, 12), &tokenizer, 0)?;
        let labels = ["<yes>".to_string(), "no".to_string()];
        let adapter = Method::Adapter(AdapterConfig::default());
        let model = Model::classifier(&version, &labels, &adapter, 0, Device::Cpu)?;
        let text = model.to_string();
        let mark = |start: &str| {
            let row = text.lines().find(|line| line.starts_with(start)).map(str::trim_end);
            row.and_then(|row| row.chars().last()).unwrap_or_default()
        };
        assert_eq!([mark("backbone"), mark("modules"), mark("head")], ['○', '●', '●'], "{text}");
        assert!(
            text.contains("Classifier of <yes>, no") && text.contains("layers 0–1") && text.contains("fp32 on cpu")
        );
        assert!(model.show()?.to_html()?.contains("&lt;yes&gt;"));
        Ok(())
    }

    #[test]
    fn a_permutation_tells_how_much_it_moves() -> Result<()> {
        let config = EncoderConfig::tiny(8, 16, 12);
        let text = Permutation::random(&config, Coordinates::All, 0)?.to_string();
        assert!(
            text.lines().filter(|line| line.starts_with("heads")).count() == 2 && text.contains("hidden"),
            "{text}"
        );
        assert!(text.contains("64") && text.contains("…"), "{text}");
        Ok(())
    }

    #[test]
    fn a_version_and_its_weights_tell_where_they_come_from() -> Result<()> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c"])?;
        let version = Version::new(&EncoderConfig::tiny(8, 16, 12), &tokenizer, 0)?;
        let labels = ["x".to_string(), "y".to_string()];
        let model = Model::classifier(&version, &labels, &Method::Full, 0, Device::Cpu)?;
        let mut adapted = Adapted::of(&model, &version, "topic", serde_json::Value::Null)?;
        adapted.card.scores.insert("dev_accuracy".to_string(), 0.875);
        let (version_text, text) = (version.to_string(), adapted.to_string());
        let base = &version.fingerprint()?[..12];
        assert!(version_text.contains(base) && version_text.contains("masked-LM head: all"), "{version_text}");
        assert!(
            text.contains(base) && text.contains("0.8750") && text.contains("Δ of the backbone: layer 1"),
            "{text}"
        );
        Ok(())
    }
}
