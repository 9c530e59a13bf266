//! The shape of an encoder, as in a Hugging Face `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::architecture::{Architecture, Positions};
use super::{Activation, Family};
use crate::files::{read_json, write_json};

/// A Hugging Face configuration of an encoder, under BERT's and RoBERTa's names for the settings ([`EncoderConfig::load`] and
/// [`EncoderConfig::save`] translate DistilBERT's). Fields that a file leaves out take the defaults that the family has in
/// transformers (LayerNorm eps 1e-12, type vocabulary 2, 512 positions), which are not those of the published roberta-base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EncoderConfig {
    /// The family of encoders, which says what its tensors are called and how positions are counted.
    pub model_type: Family,
    /// Tokens of the vocabulary.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Transformer layers.
    pub num_hidden_layers: usize,
    /// Attention heads a layer; `hidden_size` is a multiple of it.
    pub num_attention_heads: i64,
    /// Inner width of the feed-forward sublayers.
    pub intermediate_size: i64,
    /// Their activation; `gelu` is the one supported.
    pub hidden_act: String,
    /// Dropout of embeddings, sublayer outputs and the classifier.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position table: tokens a sequence may have, and in RoBERTa's families two more.
    pub max_position_embeddings: i64,
    /// Rows of the table of token types.
    pub type_vocab_size: i64,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Added to the variance in LayerNorms.
    pub layer_norm_eps: f64,
    /// The token that fills up batches; in RoBERTa's families the first position has the number behind its own.
    pub pad_token_id: i64,
    /// `<s>`.
    pub bos_token_id: Option<i64>,
    /// `</s>`.
    pub eos_token_id: Option<i64>,
    /// Dropout of the classification head, where it differs from `hidden_dropout_prob`.
    pub classifier_dropout: Option<f64>,
    /// Whether attention is causal; only `false` is supported.
    pub is_decoder: bool,
    /// Whether the masked-LM head shares the token embeddings; only `true` is supported.
    pub tie_word_embeddings: bool,
    /// The shape of the classification head, where it is not the family's own; it stands with the weights, not in the file.
    #[serde(skip)]
    pub head: Option<HeadShape>,
    /// Everything else the file holds (`architectures`, `id2label`, …), kept as it is.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

impl Default for EncoderConfig {
    fn default() -> EncoderConfig {
        EncoderConfig {
            model_type: Family::Roberta,
            vocab_size: 50_265,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3_072,
            hidden_act: "gelu".to_string(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
            bos_token_id: Some(0),
            eos_token_id: Some(2),
            classifier_dropout: None,
            is_decoder: false,
            tie_word_embeddings: true,
            head: None,
            other: BTreeMap::new(),
        }
    }
}

/// The shape of a classification head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadShape {
    /// Whether there is a dense map before the one that scores the classes.
    pub dense: bool,
    /// What follows that map.
    pub activation: Activation,
}

/// What a configuration says of a head that is not saved with it, or of the file it was read from.
const STALE: [&str; 10] = [
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "_name_or_path",
    "auto_map",
];

/// The family that an old file without `model_type` names among its `architectures`; RoBERTa where it names none.
fn family_of_classes(fields: &Map<String, Value>) -> Result<Family> {
    let class = fields.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
    let Some(class) = class else { return Ok(Family::default()) };
    let fitting = Family::ALL.into_iter().filter(|family| class.starts_with(family.architecture().class));
    let family = fitting.max_by_key(|family| family.architecture().class.len());
    family.with_context(|| {
        format!("there is no model_type, and architectures names {class}, which is of no supported family")
    })
}

/// More layers than this, in a file, are a mistake.
const MOST_LAYERS: usize = 1_000;

impl EncoderConfig {
    /// The shape of this model's classification head.
    pub(crate) fn head_shape(&self) -> HeadShape {
        let own = HeadShape { dense: true, activation: self.architecture().classifier.activation };
        self.head.unwrap_or(own)
    }

    /// A small RoBERTa for teaching and tests: 2 layers, 4 heads, no dropout.
    pub fn tiny(vocab_size: i64, hidden_size: i64, max_length: i64) -> EncoderConfig {
        EncoderConfig {
            vocab_size,
            hidden_size,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 4 * hidden_size,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: max_length + 2,
            type_vocab_size: 1,
            layer_norm_eps: 1e-5,
            ..EncoderConfig::default()
        }
    }

    /// What a file of this family leaves out, as in transformers 5.17.0.
    fn of(family: Family) -> EncoderConfig {
        let roberta = EncoderConfig { model_type: family, ..EncoderConfig::default() };
        match family {
            Family::Roberta => roberta,
            Family::XlmRoberta | Family::Camembert => EncoderConfig { vocab_size: 30_522, ..roberta },
            Family::Bert => {
                EncoderConfig { vocab_size: 30_522, pad_token_id: 0, bos_token_id: None, eos_token_id: None, ..roberta }
            }
            Family::Distilbert => EncoderConfig {
                num_hidden_layers: 6,
                type_vocab_size: 0,
                classifier_dropout: Some(0.2),
                ..EncoderConfig { model_type: family, ..EncoderConfig::of(Family::Bert) }
            },
        }
    }

    /// What sets the family apart.
    pub(crate) fn architecture(&self) -> &'static Architecture {
        self.model_type.architecture()
    }

    /// Reads and validates `config.json`.
    pub fn load(path: impl AsRef<Path>) -> Result<EncoderConfig> {
        let path = path.as_ref();
        let fields: Map<String, Value> = read_json(path)?;
        let config = EncoderConfig::from_fields(fields).and_then(|config| config.validate().map(|()| config));
        config.with_context(|| format!("{} cannot be used", path.display()))
    }

    /// The settings of a file, by our names for them.
    fn from_fields(mut fields: Map<String, Value>) -> Result<EncoderConfig> {
        let family = match fields.get("model_type") {
            None | Some(Value::Null) => family_of_classes(&fields)?,
            Some(Value::String(name)) => name.parse()?,
            Some(other) => bail!("model_type {other} is no name"),
        };
        // What this family does not have is as its code in transformers has it, whatever a file says.
        fields.retain(|name, _| !family.architecture().absent_settings.contains(&name.as_str()));
        fields.insert("model_type".to_string(), serde_json::to_value(family)?);
        for (theirs, ours) in family.architecture().settings {
            if let Some(value) = fields.remove(*theirs) {
                fields.insert(ours.to_string(), value);
            }
        }
        let Value::Object(mut all) = serde_json::to_value(EncoderConfig::of(family))? else {
            bail!("a configuration is an object");
        };
        all.extend(fields);
        Ok(serde_json::from_value(Value::Object(all))?)
    }

    /// Writes `config.json` for a model of this family with that head (`ForMaskedLM`). What described another head, or a file that
    /// this one came from, is left out.
    pub fn save(&self, path: impl AsRef<Path>, head: &str) -> Result<()> {
        self.of_no_head().write(path, head)
    }

    /// The same for a classifier of these classes, in the order of its scores.
    pub(crate) fn save_classifier(&self, path: impl AsRef<Path>, labels: &[String]) -> Result<()> {
        let mut config = self.of_no_head();
        let numbered = labels.iter().enumerate();
        let id2label: Map<_, _> =
            numbered.clone().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect();
        let label2id: Map<_, _> = numbered.map(|(id, label)| (label.clone(), Value::from(id))).collect();
        config.other.insert("id2label".to_string(), Value::Object(id2label));
        config.other.insert("label2id".to_string(), Value::Object(label2id));
        config.other.insert("problem_type".to_string(), Value::from("single_label_classification"));
        config.write(path, "ForSequenceClassification")
    }

    /// A copy without what describes a head or the file it came from.
    fn of_no_head(&self) -> EncoderConfig {
        let mut config = self.clone();
        config.other.retain(|name, _| !STALE.contains(&name.as_str()));
        config
    }

    fn write(mut self, path: impl AsRef<Path>, head: &str) -> Result<()> {
        self.other.insert("architectures".to_string(), Value::from(vec![self.model_type.class(head)]));
        self.other.insert("dtype".to_string(), Value::from("float32"));
        let family = self.architecture();
        if family.settings.iter().any(|(_, ours)| *ours == "classifier_dropout") {
            // A setting of its own there, which cannot be left to another.
            self.classifier_dropout.get_or_insert(self.hidden_dropout_prob);
        }
        let Value::Object(mut fields) = serde_json::to_value(&self)? else { bail!("a configuration is an object") };
        for (theirs, ours) in family.settings {
            if let Some(value) = fields.remove(*ours) {
                fields.insert(theirs.to_string(), value);
            }
        }
        fields.retain(|name, _| !family.absent_settings.contains(&name.as_str()));
        write_json(path, &fields)
    }

    /// The longest sequence that has positions: `max_position_embeddings`, in RoBERTa's families less `pad_token_id + 1`.
    pub fn max_length(&self) -> i64 {
        match self.architecture().positions {
            Positions::FromZero => self.max_position_embeddings,
            Positions::BehindPadding => {
                self.max_position_embeddings.saturating_sub(self.pad_token_id).saturating_sub(1)
            }
        }
    }

    /// The size of one attention head.
    pub fn head_size(&self) -> i64 {
        self.hidden_size / self.num_attention_heads
    }

    /// Says what this crate cannot compute, or what contradicts itself.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers as i64),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
        ];
        let types = self.architecture().embeddings.token_types.map(|_| ("type_vocab_size", self.type_vocab_size));
        for (name, size) in sizes.into_iter().chain(types) {
            ensure!(size > 0, "{name} is {size}: it must be positive");
        }
        ensure!(
            self.num_hidden_layers <= MOST_LAYERS,
            "num_hidden_layers is {}: more than {MOST_LAYERS} cannot be",
            self.num_hidden_layers
        );
        ensure!(
            self.hidden_size % self.num_attention_heads == 0,
            "hidden_size {} is not a multiple of num_attention_heads {}",
            self.hidden_size,
            self.num_attention_heads
        );
        ensure!(
            (0..self.vocab_size).contains(&self.pad_token_id),
            "pad_token_id {} lies outside the vocabulary of {}",
            self.pad_token_id,
            self.vocab_size
        );
        ensure!(
            self.max_length() >= 2,
            "max_position_embeddings {} leaves no usable positions (pad_token_id {})",
            self.max_position_embeddings,
            self.pad_token_id
        );
        let dropout =
            [Some(self.hidden_dropout_prob), Some(self.attention_probs_dropout_prob), self.classifier_dropout];
        for p in dropout.into_iter().flatten() {
            ensure!((0.0..1.0).contains(&p), "a dropout probability of {p} is not in [0, 1)");
        }
        let only = EncoderConfig::of(self.model_type).layer_norm_eps;
        ensure!(
            self.layer_norm_eps == only || !self.architecture().absent_settings.contains(&"layer_norm_eps"),
            "layer_norm_eps is {}, but {} has no such setting: leave it at {only:e}",
            self.layer_norm_eps,
            self.model_type
        );
        ensure!(self.layer_norm_eps > 0.0, "layer_norm_eps {} must be positive", self.layer_norm_eps);
        if self.hidden_act != "gelu" {
            bail!("hidden_act {:?} is not supported: the exact \"gelu\" is", self.hidden_act);
        }
        if !self.tie_word_embeddings {
            bail!("untied word embeddings (tie_word_embeddings: false) are not supported");
        }
        if self.is_decoder || self.other.get("add_cross_attention") == Some(&Value::Bool(true)) {
            bail!("decoder configurations (is_decoder, add_cross_attention) are not supported");
        }
        match self.other.get("position_embedding_type").and_then(Value::as_str) {
            None | Some("absolute") => {}
            Some(other) => bail!("position_embedding_type {other:?} is not supported: \"absolute\" is"),
        }
        ensure!(
            self.other.get("sinusoidal_pos_embds") != Some(&Value::Bool(true)),
            "sinusoidal positions (sinusoidal_pos_embds: true) are not supported: learnt ones are"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_take_the_defaults_of_transformers_not_of_roberta_base() -> Result<()> {
        let config: EncoderConfig = serde_json::from_str(r#"{"hidden_size": 24, "num_attention_heads": 4}"#)?;
        assert_eq!((config.layer_norm_eps, config.type_vocab_size, config.max_position_embeddings), (1e-12, 2, 512));
        assert_eq!(config.max_length(), 510);
        Ok(())
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        let refused = |change: fn(&mut EncoderConfig)| {
            let mut config = EncoderConfig::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.hidden_act = "relu".into()).contains("relu"));
        assert!(refused(|c| c.tie_word_embeddings = false).contains("untied"));
        assert!(refused(|c| c.is_decoder = true).contains("decoder"));
        assert!(refused(|c| c.hidden_size = 770).contains("770"));
        assert!(refused(|c| c.max_position_embeddings = 3).contains("positions"));
        assert!(refused(|c| c.num_hidden_layers = 2_147_483_647).contains("2147483647"));
        assert!(refused(|c| drop(c.other.insert("sinusoidal_pos_embds".into(), true.into()))).contains("sinusoidal"));
    }

    fn written(path: &Path) -> Result<Value> {
        read_json(path)
    }

    #[test]
    fn distilberts_settings_are_known_by_its_own_names_on_disk() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.json");
        std::fs::write(
            &path,
            r#"{"model_type": "distilbert", "dim": 24, "n_heads": 4, "n_layers": 3, "dropout": 0.2}"#,
        )?;
        let config = EncoderConfig::load(&path)?;
        assert_eq!((config.hidden_size, config.num_attention_heads, config.num_hidden_layers), (24, 4, 3));
        assert_eq!((config.hidden_dropout_prob, config.classifier_dropout, config.max_length()), (0.2, Some(0.2), 512));
        config.save(&path, "ForMaskedLM")?;
        let fields = written(&path)?;
        assert_eq!((&fields["dim"], &fields["architectures"][0]), (&24.into(), &"DistilBertForMaskedLM".into()));
        for foreign in ["hidden_size", "type_vocab_size", "layer_norm_eps"] {
            assert!(fields.get(foreign).is_none(), "{foreign}");
        }
        assert_eq!(EncoderConfig::load(&path)?.hidden_size, 24);
        Ok(())
    }

    #[test]
    fn what_described_another_head_is_not_carried_into_exports() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.json");
        let of_a_classifier = r#"{"vocab_size": 99, "problem_type": "multi_label_classification", "finetuning_task": "x", "num_labels": 6,
            "id2label": {"0": "a"}, "label2id": {"a": 0}, "torch_dtype": "float16", "_name_or_path": "x/y", "score": NaN}"#;
        std::fs::write(&path, of_a_classifier)?;
        let config = EncoderConfig::load(&path)?;
        config.save(&path, "ForMaskedLM")?;
        let fields = written(&path)?;
        for stale in STALE {
            assert!(fields.get(stale).is_none(), "{stale}");
        }
        config.save_classifier(&path, &["no".to_string(), "yes".to_string()])?;
        let fields = written(&path)?;
        assert_eq!(fields["id2label"], serde_json::json!({"0": "no", "1": "yes"}));
        assert_eq!(fields["problem_type"], "single_label_classification");
        assert!(fields.get("num_labels").is_none() && fields.get("finetuning_task").is_none());
        Ok(())
    }

    #[test]
    fn an_unsupported_family_is_refused_by_its_name_and_the_file() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"model_type": "deberta-v2"}"#)?;
        let error = format!("{:#}", EncoderConfig::load(&path).unwrap_err());
        assert!(
            error.contains("deberta-v2") && error.contains("config.json") && error.contains("distilbert"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn unknown_fields_survive_a_round_trip() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"vocab_size": 99, "my_field": [1, 2]}"#)?;
        EncoderConfig::load(&path)?.save(&path, "ForMaskedLM")?;
        let again = EncoderConfig::load(&path)?;
        assert_eq!((again.vocab_size, &again.other["my_field"]), (99, &serde_json::json!([1, 2])));
        Ok(())
    }
}
