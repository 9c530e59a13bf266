//! Low-rank updates of linear maps.

use anyhow::Result;
use tch::Tensor;

use super::LoraConfig;
use super::architecture::{LORA_A, LORA_B};
use super::leaves::{Leaves, Weight};
use super::pass::{Pass, linear};

/// s · B·A·x, with A: (rank, in) and B: (out, rank).
#[derive(Debug)]
pub(crate) struct Lora {
    a: Weight,
    b: Weight,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// The update of the linear map `name`, or nothing where that map is not a target.
    pub fn new(leaves: &Leaves, name: &str, config: &LoraConfig) -> Result<Option<Lora>> {
        let (a, b) = (format!("{name}.{LORA_A}"), format!("{name}.{LORA_B}"));
        if !leaves.contains(&a) {
            return Ok(None);
        }
        let (scale, dropout) = (config.scale_of(name), config.dropout);
        Ok(Some(Lora { a: leaves.weight(&a)?, b: leaves.weight(&b)?, scale, dropout }))
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let inner = linear(&pass.dropout(x, self.dropout)?, &[&self.a], &[], pass)?; // (…, rank)
        Ok(linear(&inner, &[&self.b], &[], pass)?.f_mul_scalar(self.scale)?)
    }
}
