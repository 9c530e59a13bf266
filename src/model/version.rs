//! A version of the pre-trained model, M_i, as it lies on disk.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Kind, Tensor};

use super::RobertaConfig;
use super::heads::lm_head_tensors;
use super::roberta::backbone_tensors;
use crate::files::write_json;
use crate::params::{Layout, Theta, read_safetensors, write_safetensors};
use crate::seed;
use crate::text::Tokenizer;

/// A pre-trained model: configuration, tokenizer, backbone and masked-LM head, on the CPU.
#[derive(Debug)]
pub struct Version {
    /// The shape of the network.
    pub config: RobertaConfig,
    /// Text to token ids.
    pub tokenizer: Tokenizer,
    /// Embeddings and layers.
    pub backbone: Theta,
    /// The masked-LM head, whose decoder is the token embeddings.
    pub lm_head: Theta,
}

impl Version {
    /// An untrained model: weights N(0, `initializer_range`), LayerNorms 1, biases and the padding rows 0, as in transformers.
    pub fn new(config: &RobertaConfig, tokenizer: &Tokenizer, seed: u64) -> Result<Version> {
        config.validate()?;
        let mut rng = seed::rng(seed, "pretrained-initialisation", 0);
        let std = config.initializer_range;
        let backbone = initialised(backbone_tensors(config), std, &mut rng)?;
        for name in ["word_embeddings", "position_embeddings"] {
            let mut row =
                backbone.view(&format!("roberta.embeddings.{name}.weight"))?.f_select(0, config.pad_token_id)?;
            let _ = row.f_zero_()?;
        }
        let lm_head = initialised(lm_head_tensors(config), std, &mut rng)?;
        Version { config: config.clone(), tokenizer: tokenizer.clone(), backbone, lm_head }.checked()
    }

    /// Loads a Hugging Face folder: `config.json`, `model.safetensors` (a `RobertaForMaskedLM`), `tokenizer.json`.
    ///
    /// Nothing is loaded by halves: tensors that are missing, unexpected or of another shape or dtype are listed. Position
    /// buffers and poolers, which this model does not have, are passed over.
    pub fn load(folder: impl AsRef<Path>) -> Result<Version> {
        let folder = folder.as_ref();
        let config = RobertaConfig::load(folder.join("config.json"))?;
        let tokenizer = Tokenizer::load(folder.join("tokenizer.json"))?;
        let path = folder.join("model.safetensors");
        if !path.exists() && folder.join("pytorch_model.bin").exists() {
            bail!(
                "{} holds only pytorch_model.bin: load it in transformers and call save_pretrained(folder), \
                 which writes model.safetensors",
                folder.display()
            );
        }
        let mut tensors = read_safetensors(&path)?.tensors;
        tensors.retain(|name, _| !name.ends_with(".position_ids") && !name.contains(".pooler."));
        let source = path.display().to_string();
        untie(&mut tensors).with_context(|| source.clone())?;
        let (head, backbone): (HashMap<_, _>, HashMap<_, _>) =
            tensors.into_iter().partition(|(name, _)| name.starts_with("lm_head."));
        let layout = |tensors| Layout::new(tensors).map(Arc::new);
        let backbone = Theta::from_loaded(layout(backbone_tensors(&config))?, backbone, &source)?;
        let lm_head = Theta::from_loaded(layout(lm_head_tensors(&config))?, head, &source)?;
        Version { config, tokenizer, backbone, lm_head }.checked().with_context(|| format!("{}", folder.display()))
    }

    /// Writes the folder that [`Version::load`] and `RobertaForMaskedLM.from_pretrained` read, each file atomically and
    /// `config.json` last.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        write_safetensors(
            folder.join("model.safetensors"),
            &[("", &self.backbone), ("", &self.lm_head)],
            "format",
            "pt",
        )?;
        save_tokenizer(&self.tokenizer, &self.config, folder)?;
        self.config.save(folder.join("config.json"), "RobertaForMaskedLM")
    }

    /// What identifies this version: the fingerprint of its backbone.
    pub fn fingerprint(&self) -> Result<String> {
        self.backbone.fingerprint()
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Version> {
        Ok(Version {
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            backbone: self.backbone.try_clone()?,
            lm_head: self.lm_head.try_clone()?,
        })
    }

    fn checked(self) -> Result<Version> {
        check_tokenizer(&self.config, &self.tokenizer)?;
        Ok(self)
    }
}

/// Says where a tokenizer does not belong to a model.
pub(crate) fn check_tokenizer(config: &RobertaConfig, tokenizer: &Tokenizer) -> Result<()> {
    let (tokens, vocabulary) = (tokenizer.vocab_size(), config.vocab_size);
    ensure!(
        tokens as i64 <= vocabulary,
        "the tokenizer has {tokens} tokens, more than the model's vocabulary of {vocabulary}: \
         it belongs to another model, or vocab_size must grow before pre-training"
    );
    let pad = tokenizer.pad_id();
    ensure!(
        pad == config.pad_token_id,
        "the tokenizer pads with token {pad}, config.json says pad_token_id {}: they must agree",
        config.pad_token_id
    );
    Ok(())
}

/// Writes `tokenizer.json` and the `tokenizer_config.json` that transformers wants beside it.
pub(crate) fn save_tokenizer(tokenizer: &Tokenizer, config: &RobertaConfig, folder: &Path) -> Result<()> {
    tokenizer.save(folder.join("tokenizer.json"))?;
    write_json(folder.join("tokenizer_config.json"), &tokenizer.config_json(config.max_length() as usize))
}

/// Fresh parameters: N(0, std), LayerNorm weights 1, biases 0.
pub(crate) fn initialised(tensors: Vec<(String, Vec<i64>)>, std: f64, rng: &mut Xoshiro256PlusPlus) -> Result<Theta> {
    let layout = Arc::new(Layout::new(tensors)?);
    let mut theta = Theta::zeros(layout.clone(), tch::Device::Cpu)?;
    for entry in layout.entries() {
        let value = if entry.name.ends_with("bias") {
            continue;
        } else if !entry.decay {
            Tensor::f_ones(&entry.shape, (Kind::Float, tch::Device::Cpu))?
        } else {
            let normal = |_| {
                let z: f32 = StandardNormal.sample(rng);
                z * std as f32
            };
            let numbers: Vec<f32> = (0..entry.len).map(normal).collect();
            Tensor::f_from_slice(&numbers)?.f_view(entry.shape.as_slice())?
        };
        theta.set(&entry.name, &value)?;
    }
    Ok(theta)
}

/// Removes the decoder's copies of tied tensors; either name of its bias is accepted.
fn untie(tensors: &mut HashMap<String, Tensor>) -> Result<()> {
    if let Some(decoder) = tensors.remove("lm_head.decoder.weight")
        && let Some(words) = tensors.get("roberta.embeddings.word_embeddings.weight")
        && (decoder.size() != words.size() || !decoder.f_equal(words)?)
    {
        bail!("lm_head.decoder.weight differs from the word embeddings: untied models are not supported");
    }
    if let Some(bias) = tensors.remove("lm_head.decoder.bias") {
        match tensors.get("lm_head.bias") {
            Some(other) if other.size() != bias.size() || !other.f_equal(&bias)? => {
                bail!("lm_head.decoder.bias and lm_head.bias differ, but they are one parameter");
            }
            Some(_) => {}
            None => drop(tensors.insert("lm_head.bias".to_string(), bias)),
        }
    }
    Ok(())
}
