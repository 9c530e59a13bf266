//! Classifiers from Hugging Face folders.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::Device;

use super::heads::classifier_tensors;
use super::roberta::backbone_tensors;
use super::version::check_tokenizer;
use super::{Method, Model, RobertaConfig};
use crate::params::{Layout, Theta, read_safetensors};
use crate::text::Tokenizer;

impl Model {
    /// Loads a `RobertaForSequenceClassification` folder, as [`Model::save`] or `save_pretrained` in transformers writes it,
    /// with the tokenizer beside it. The labels are those of `id2label` (transformers leaves out its default, LABEL_0 and so
    /// on); all parameters are trainable.
    ///
    /// Strict as [`super::Version::load`]: tensors that are missing, unexpected or of another shape or dtype are listed.
    pub fn load_classifier(folder: impl AsRef<Path>, device: Device) -> Result<(Model, Tokenizer)> {
        let folder = folder.as_ref();
        let config = RobertaConfig::load(folder.join("config.json"))?;
        let tokenizer = Tokenizer::load(folder.join("tokenizer.json"))?;
        check_tokenizer(&config, &tokenizer).with_context(|| folder.display().to_string())?;
        let path = folder.join("model.safetensors");
        let mut tensors = read_safetensors(&path)?.tensors;
        tensors.retain(|name, _| !name.ends_with(".position_ids") && !name.contains(".pooler."));
        let source = path.display().to_string();
        let classes = tensors.get("classifier.out_proj.bias").map(|bias| bias.numel());
        let classes =
            classes.with_context(|| format!("{source} has no classifier.out_proj.bias: it holds no classifier"))?;
        let labels = labels(&config, classes).with_context(|| folder.join("config.json").display().to_string())?;
        let (head, backbone): (HashMap<_, _>, HashMap<_, _>) =
            tensors.into_iter().partition(|(name, _)| name.starts_with("classifier."));
        let layout = |tensors| Layout::new(tensors).map(Arc::new);
        let backbone = Theta::from_loaded(layout(backbone_tensors(&config))?, backbone, &source)?;
        let head = Theta::from_loaded(layout(classifier_tensors(&config, labels.len()))?, head, &source)?;
        let (backbone, head) = (backbone.to_device(device)?, head.to_device(device)?);
        Ok((Model::wire(config, Method::Full, labels, backbone, None, head)?, tokenizer))
    }
}

/// The class names of `id2label`, in the order of their numbers.
fn labels(config: &RobertaConfig, classes: usize) -> Result<Vec<String>> {
    let Some(named) = config.other.get("id2label") else {
        return Ok((0..classes).map(|class| format!("LABEL_{class}")).collect());
    };
    let label = |class: usize| {
        let label = named.get(class.to_string()).and_then(|label| label.as_str());
        label.map(String::from).with_context(|| format!("id2label has no text for class {class} of {classes}"))
    };
    let labels = (0..classes).map(label).collect::<Result<Vec<_>>>()?;
    let there = named.as_object().map_or(0, serde_json::Map::len);
    ensure!(there == classes, "id2label names {there} classes, the head in model.safetensors scores {classes}");
    ensure!(classes >= 2, "the head scores {classes} class: a classifier needs at least two");
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;

    #[test]
    fn a_saved_classifier_comes_back_to_the_bit_and_a_version_is_not_taken_for_one() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let tokenizer = Tokenizer::word_level(&["a", "b"])?;
        let config = RobertaConfig::tiny(tokenizer.vocab_size() as i64, 8, 10);
        let version = Version::new(&config, &tokenizer, 1)?;
        let labels = ["yes", "no", "perhaps"].map(String::from);
        let model = Model::classifier(&version, &labels, &Method::Full, 2, Device::Cpu)?;
        let at = folder.path().join("classifier");
        model.save(&at, &tokenizer)?;
        let (back, _) = Model::load_classifier(&at, Device::Cpu)?;
        assert_eq!(back.labels(), labels);
        assert_eq!(back.backbone().fingerprint()?, model.backbone().fingerprint()?);
        assert_eq!(back.head().fingerprint()?, model.head().fingerprint()?);

        let at = folder.path().join("version");
        version.save(&at)?;
        let error = format!("{:#}", Model::load_classifier(&at, Device::Cpu).err().context("must fail")?);
        assert!(error.contains("holds no classifier") && error.contains("model.safetensors"), "{error}");
        Ok(())
    }
}
