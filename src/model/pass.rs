//! How one forward pass is computed: its precision, its dropout, what is asked of it.

use std::cell::RefCell;

use anyhow::Result;
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use tch::{Device, Kind, Tensor};

use super::leaves::Weight;
use crate::native;

/// How one forward pass is to be computed.
pub(crate) struct Pass {
    /// Draws dropout masks; `None` in evaluation.
    pub dropout: Option<RefCell<Xoshiro256PlusPlus>>,
    /// The kind of the tensors that enter matrix products.
    pub kind: Kind,
    /// What the last layer is computed for.
    pub rows: Rows,
    /// Keep the hidden states of every layer.
    pub hidden_states: bool,
    /// Keep the attention weights of every layer, on the explicit path.
    pub attentions: bool,
}

/// The positions whose last hidden state is wanted: the last layer is not computed for others.
pub(crate) enum Rows {
    All,
    /// `<s>`, the first of each sequence: the result is (b, 1, h).
    First,
    /// These, as indices into b·t: the result is (1, r, h).
    At(Tensor),
}

impl Pass {
    pub fn evaluation() -> Pass {
        Pass { dropout: None, kind: Kind::Float, rows: Rows::All, hidden_states: false, attentions: false }
    }

    /// A training pass whose dropout masks depend on this generator alone. On CUDA libtorch draws them, seeded from it.
    pub fn training(mut rng: Xoshiro256PlusPlus, device: Device) -> Pass {
        if device.is_cuda() {
            tch::manual_seed(rng.random::<i64>());
        }
        Pass { dropout: Some(RefCell::new(rng)), ..Pass::evaluation() }
    }

    /// A second pass of the same step, with dropout masks of its own.
    pub fn again(&self) -> Pass {
        let dropout = self.dropout.as_ref().map(|rng| {
            let mut rng = rng.borrow().clone();
            rng.jump();
            RefCell::new(rng)
        });
        Pass { dropout, ..Pass::evaluation() }
    }

    pub fn drops(&self, p: f64) -> bool {
        p > 0.0 && self.dropout.is_some()
    }

    /// Where the masks of one dropout come from; `None` where nothing is dropped.
    pub fn draw(&self, p: f64) -> Option<i64> {
        self.dropout.as_ref().filter(|_| p > 0.0).map(|rng| rng.borrow_mut().random())
    }

    /// x with each element zeroed with probability p and scaled by 1 / (1 − p) otherwise.
    pub fn dropout(&self, x: &Tensor, p: f64) -> Result<Tensor> {
        self.dropout_to(x, p, x.kind())
    }

    /// The same, of this kind.
    ///
    /// On the CPU the mask comes from a seed that the pass's own generator draws: libtorch's is shared by the process, cannot be saved, and is slow.
    pub fn dropout_to(&self, x: &Tensor, p: f64, kind: Kind) -> Result<Tensor> {
        match self.draw(p) {
            None => Ok(x.f_to_kind(kind)?),
            Some(_) if x.device().is_cuda() => Ok(x.f_dropout(p, true)?.f_to_kind(kind)?),
            Some(seed) => native::dropout(x, p, seed, kind),
        }
    }
}

/// x·Wᵀ + b in the pass's kind, of maps stacked on each other. Gradients reach the exact weights.
pub(crate) fn linear(x: &Tensor, weights: &[&Weight], biases: &[&Weight], pass: &Pass) -> Result<Tensor> {
    if pass.kind == Kind::BFloat16 {
        return native::bf16_linear(x, weights, biases);
    }
    let stacked = |parts: &[&Weight]| match parts {
        [one] => Ok(one.exact.shallow_clone()),
        _ => Tensor::f_cat(&parts.iter().map(|part| &part.exact).collect::<Vec<_>>(), 0),
    };
    let bias = if biases.is_empty() { None } else { Some(stacked(biases)?) };
    Ok(x.f_linear(&stacked(weights)?, bias.as_ref())?)
}
