//! A version of the pre-trained model, M_i, as it lies on disk.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

use super::EncoderConfig;
use super::architecture::{self, Role, TensorSpec};
use crate::files::write_json;
use crate::params::{Theta, write_safetensors};
use crate::seed;
use crate::text::Tokenizer;

/// A pre-trained model: configuration, tokenizer, backbone and masked-LM head, on the CPU.
#[derive(Debug)]
pub struct Version {
    /// The shape of the network.
    pub config: EncoderConfig,
    /// Text to token ids.
    pub tokenizer: Tokenizer,
    /// Embeddings and layers.
    pub backbone: Theta,
    /// The masked-LM head, whose decoder is the token embeddings.
    pub lm_head: Theta,
    /// The map of a classifier's head that is pre-trained, where there is one: BERT's pooler. Masked-LM training leaves it alone.
    pub pooler: Option<Theta>,
}

impl Version {
    /// An untrained model: weights N(0, `initializer_range`), LayerNorms 1, biases and the padding rows 0, as in transformers.
    pub fn new(config: &EncoderConfig, tokenizer: &Tokenizer, seed: u64) -> Result<Version> {
        config.validate()?;
        let mut rng = seed::rng(seed, "pretrained-initialisation", 0);
        let mut fresh = |specs: &[TensorSpec]| initialised(config, specs, config.initializer_range, &mut rng);
        let (backbone, lm_head) = (fresh(&architecture::backbone(config))?, fresh(&architecture::masked_lm(config))?);
        Version { config: config.clone(), tokenizer: tokenizer.clone(), backbone, lm_head, pooler: None }.checked()
    }

    /// Writes the folder that [`Version::load`] and `…ForMaskedLM.from_pretrained` of its family read, each file atomically and
    /// `config.json` last. A pooler comes along: `BertForMaskedLM` passes it over, `BertModel` and classifiers begin with it.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let mut parts = vec![("", &self.backbone), ("", &self.lm_head)];
        parts.extend(self.pooler.as_ref().map(|pooler| ("", pooler)));
        write_safetensors(folder.join("model.safetensors"), &parts, "format", "pt")?;
        save_tokenizer(&self.tokenizer, &self.config, folder)?;
        self.config.save(folder.join("config.json"), "ForMaskedLM")
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
            pooler: self.pooler.as_ref().map(Theta::try_clone).transpose()?,
        })
    }

    pub(super) fn checked(self) -> Result<Version> {
        check_tokenizer(&self.config, &self.tokenizer)?;
        Ok(self)
    }
}

/// Says where a tokenizer does not belong to a model.
pub(crate) fn check_tokenizer(config: &EncoderConfig, tokenizer: &Tokenizer) -> Result<()> {
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
pub(crate) fn save_tokenizer(tokenizer: &Tokenizer, config: &EncoderConfig, folder: &Path) -> Result<()> {
    tokenizer.save(folder.join("tokenizer.json"))?;
    let types = config.architecture().embeddings.token_types.is_some() && config.type_vocab_size > 1;
    write_json(folder.join("tokenizer_config.json"), &tokenizer.config_json(config.max_length() as usize, types))
}

/// Fresh parameters: tables and matrices N(0, std), scales 1, biases and the rows of padding 0.
pub(crate) fn initialised(
    config: &EncoderConfig,
    specs: &[TensorSpec],
    std: f64,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<Theta> {
    let mut theta = Theta::zeros(Arc::new(architecture::layout(config, specs)?), Device::Cpu)?;
    for spec in specs {
        let shape = spec.shape(config);
        let value = match spec.role {
            Role::Bias => continue,
            Role::Scale => Tensor::f_ones(&shape, (Kind::Float, Device::Cpu))?,
            Role::Weight | Role::Table { .. } => {
                let normal = |_| {
                    let z: f32 = StandardNormal.sample(rng);
                    z * std as f32
                };
                let numbers: Vec<f32> = (0..shape.iter().product()).map(normal).collect();
                Tensor::f_from_slice(&numbers)?.f_view(shape.as_slice())?
            }
        };
        if let Role::Table { zero: Some(row) } = spec.role {
            let _ = value.f_select(0, row)?.f_zero_()?;
        }
        theta.set(&spec.name, &value)?;
    }
    Ok(theta)
}
