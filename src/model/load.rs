//! Versions and classifiers from Hugging Face folders.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::architecture::{self, Named, OtherHead, TensorSpec};
use super::version::check_tokenizer;
use super::{EncoderConfig, Method, Model, Version};
use crate::display::progress::say;
use crate::params::{Stored, Theta, few};
use crate::text::Tokenizer;

impl Version {
    /// Loads a Hugging Face folder: `config.json`, `model.safetensors` (or shards with their index) and a tokenizer, of any
    /// [`Family`](super::Family). A `…ForMaskedLM` or `…ForPreTraining` comes whole; a bare encoder gets a fresh masked-LM head, whose
    /// dense map is the identity. What is made anew or left out (heads of other tasks) is said on the standard error.
    ///
    /// Nothing is loaded by halves: tensors that are missing, unexpected or of another shape or kind are listed, of encoder and head
    /// apart. Half precision becomes `f32`. Names may be wrapped by torch.compile or data parallelism, or lack the family's prefix.
    ///
    /// # Errors
    /// Further: a classifier without a masked-LM head, whose encoder is tuned for a task; weights with NaN or infinity; a tokenizer
    /// that is not this model's; `pytorch_model.bin` alone.
    pub fn load(folder: impl AsRef<Path>) -> Result<Version> {
        let mut folder = Folder::open(folder.as_ref())?;
        let config = folder.config.clone();
        let (encoder, head) = (architecture::backbone(&config), architecture::masked_lm(&config));
        let pooler = architecture::pooler(&config);
        let names = [&encoder, &head, &pooler].map(|specs| folder.named.take(specs));
        let others = folder.named.take_others(&config, OtherHead::MaskedLm);
        let outside = folder.named.take_outside(&config);
        let unexpected = std::mem::take(&mut folder.named).rest();
        let backbone = folder.theta("encoder", &encoder, &names[0], unexpected)?;
        let lm_head = match names[1].is_empty() {
            false => folder.theta("masked-LM head", &head, &names[1], Vec::new())?,
            true => {
                let of_tasks = [OtherHead::Classifier, OtherHead::QuestionAnswering];
                ensure!(
                    outside.is_empty() && !others.iter().any(|(other, _)| of_tasks.contains(other)),
                    "{} holds the head of a task ({}) and no masked-LM head ({}…): its encoder is tuned for a task, and cannot be continued \
                     as a masked language model. Import the model that it was tuned from",
                    folder.stored.source().display(),
                    if outside.is_empty() {
                        format!("a classifier is {}…", config.architecture().classifier.out)
                    } else {
                        few(&outside)
                    },
                    config.architecture().masked_lm.dense
                );
                folder.say("it has no masked-LM head: a fresh one was made, its dense map the identity");
                identity_head(&config, &head)?
            }
        };
        let pooler = match names[2].is_empty() {
            true => None,
            false => Some(folder.theta("pooler", &pooler, &names[2], Vec::new())?),
        };
        folder.say_left_out(&others, &outside);
        Ok(Version { config, tokenizer: folder.tokenizer, backbone, lm_head, pooler })
    }
}

impl Model {
    /// Loads a `…ForSequenceClassification` folder, as [`Model::save`] or `save_pretrained` in transformers writes it, with the
    /// tokenizer beside it. The labels are those of `id2label` (transformers leaves out its default, LABEL_0 and so on); all
    /// parameters are trainable.
    ///
    /// Strict as [`Version::load`].
    pub fn load_classifier(folder: impl AsRef<Path>, device: Device) -> Result<(Model, Tokenizer)> {
        let path = folder.as_ref();
        let mut folder = Folder::open(path)?;
        let config = folder.config.clone();
        let bias = format!("{}.bias", config.architecture().classifier.out);
        let classes = folder.named.find(&bias).and_then(|name| folder.stored.tensors().get(name)?.shape.first());
        let classes = *classes
            .with_context(|| format!("{} has no {bias}: it holds no classifier", folder.stored.source().display()))?;
        let labels =
            labels(&config, classes.max(0) as usize).with_context(|| path.join("config.json").display().to_string())?;
        let (encoder, head) = (architecture::backbone(&config), architecture::classifier(&config, labels.len()));
        let names = [&encoder, &head].map(|specs| folder.named.take(specs));
        let others = folder.named.take_others(&config, OtherHead::Classifier);
        let outside = folder.named.take_outside(&config);
        let unexpected = std::mem::take(&mut folder.named).rest();
        let backbone = folder.theta("encoder", &encoder, &names[0], unexpected)?.to_device(device)?;
        let head = folder.theta("classification head", &head, &names[1], Vec::new())?.to_device(device)?;
        folder.say_left_out(&others, &outside);
        Ok((Model::wire(config, Method::Full, labels, backbone, None, head)?, folder.tokenizer))
    }
}

/// What a Hugging Face folder holds, by our names, before any tensor is read.
struct Folder {
    config: EncoderConfig,
    tokenizer: Tokenizer,
    stored: Stored,
    named: Named,
}

impl Folder {
    fn open(folder: &Path) -> Result<Folder> {
        let config = EncoderConfig::load(folder.join("config.json"))?;
        let tokenizer = Tokenizer::load_folder(folder)?;
        check_tokenizer(&config, &tokenizer).with_context(|| folder.display().to_string())?;
        let stored = Stored::open_folder(folder)?;
        let named = Named::of(&config, &stored)?;
        Ok(Folder { config, tokenizer, stored, named })
    }

    /// One part of the model, whole or not at all.
    fn theta(
        &self,
        what: &str,
        specs: &[TensorSpec],
        names: &BTreeMap<String, String>,
        unexpected: Vec<String>,
    ) -> Result<Theta> {
        let layout = Arc::new(architecture::layout(&self.config, specs)?);
        Theta::from_stored(layout, &self.stored, names, unexpected)
            .with_context(|| format!("the {what} of this {} model cannot be loaded", self.config.model_type))
    }

    fn say_left_out(&self, others: &[(OtherHead, usize)], outside: &[String]) {
        others.iter().for_each(|(what, count)| self.say(&format!("its {what} was left out ({count} tensors)")));
        if !outside.is_empty() {
            self.say(&format!(
                "what stands outside of its encoder and is of no known head was left out: {}",
                few(outside)
            ));
        }
    }

    /// A note on this folder.
    fn say(&self, note: &str) {
        // The end of the path says which file it is, and is the same on every machine.
        let place = self.stored.source().components().rev().take(2).map(|part| part.as_os_str().to_string_lossy());
        let place = place.collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("/");
        say(&format!("note: {place}: {note}"));
    }
}

/// A masked-LM head that changes as little as it can: hidden states are compared with the word embeddings as they are, but for GELU and
/// LayerNorm.
fn identity_head(config: &EncoderConfig, specs: &[TensorSpec]) -> Result<Theta> {
    let mut head = Theta::zeros(Arc::new(architecture::layout(config, specs)?), Device::Cpu)?;
    for spec in specs {
        let shape = spec.shape(config);
        match spec.role {
            architecture::Role::Weight => {
                head.set(&spec.name, &Tensor::f_eye(shape[0], (Kind::Float, Device::Cpu))?)?;
            }
            architecture::Role::Scale => head.set(&spec.name, &Tensor::f_ones(&shape, (Kind::Float, Device::Cpu))?)?,
            _ => {}
        }
    }
    Ok(head)
}

/// The class names of `id2label`, in the order of their numbers.
fn labels(config: &EncoderConfig, classes: usize) -> Result<Vec<String>> {
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
        let config = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 8, 10);
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
