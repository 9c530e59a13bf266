//! Tuned models as points that paths and planes are spanned by.

use anyhow::{Context, Result, ensure};
use tch::Device;

use crate::device::Precision;
use crate::model::{Adapted, Model, Version};

/// M ⊕ Δ: a version and weights tuned on it, or moved to it.
#[derive(Clone, Copy, Debug)]
pub struct Tuned<'a> {
    /// The base.
    pub version: &'a Version,
    /// The weights on top of it.
    pub adapted: &'a Adapted,
    /// What the model computes in.
    pub precision: Precision,
}

impl<'a> Tuned<'a> {
    /// M ⊕ Δ, computing in fp32.
    pub fn new(version: &'a Version, adapted: &'a Adapted) -> Tuned<'a> {
        Tuned { version, adapted, precision: Precision::Fp32 }
    }

    /// The same model computing in another precision.
    pub fn with_precision(self, precision: Precision) -> Tuned<'a> {
        Tuned { precision, ..self }
    }

    /// The classifier.
    pub fn model(&self, device: Device) -> Result<Model> {
        Ok(self.adapted.apply(self.version, device)?.with_precision(self.precision))
    }

    /// Refuses what has no common space with `other`: another layout, tuning method, label set or tokenizer.
    pub fn check_comparable(&self, other: &Tuned) -> Result<()> {
        let (here, there) = (self.version.backbone.layout(), other.version.backbone.layout());
        here.same_as(there).context("no straight line joins models of different architectures or vocabularies")?;
        let (here, there) = (&self.adapted.card, &other.adapted.card);
        ensure!(
            here.method == there.method,
            "one end was tuned by {:?}, the other by {:?}: a path stays within one tuning method",
            here.method,
            there.method
        );
        ensure!(
            here.labels == there.labels,
            "one end tells apart the labels {:?}, the other {:?}: their heads cannot be mixed",
            here.labels,
            there.labels
        );
        ensure!(
            self.version.tokenizer.to_json()? == other.version.tokenizer.to_json()?,
            "the two ends read texts with different tokenizers: equal token ids would mean different words"
        );
        Ok(())
    }
}
