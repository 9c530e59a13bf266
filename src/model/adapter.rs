//! Bottleneck adapters: small maps behind, before or beside the output of a sublayer.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::architecture::{ADAPTER_DOWN, ADAPTER_NORM_AFTER, ADAPTER_NORM_BEFORE, ADAPTER_SCALING, ADAPTER_UP};
use super::leaves::Leaves;
use super::maps::{LayerNorm, Linear};
use super::pass::Pass;
use super::{Activation, AdapterConfig, AdapterPosition, Scaling, Signal, Wiring};

/// Of what a LayerNorm of an adapter's own is computed with (PyTorch's default).
const EPSILON: f64 = 1e-5;

/// One adapter.
#[derive(Debug)]
pub(crate) struct Adapter {
    wiring: Wiring,
    norm_before: Option<LayerNorm>,
    down: Linear,
    activation: Activation,
    up: Linear,
    scaling: Factor,
    dropout: f64,
    norm_after: Option<LayerNorm>,
    skip_before_norm: bool,
}

#[derive(Debug)]
enum Factor {
    Fixed(f64),
    /// (1) or (h)
    Trained(Tensor),
}

impl Adapter {
    /// The adapter whose tensors' names begin with `at`, or nothing where it has none.
    pub fn new(leaves: &Leaves, at: &str, config: &AdapterConfig) -> Result<Option<Adapter>> {
        let down = format!("{at}.{ADAPTER_DOWN}");
        if !leaves.contains(&format!("{down}.weight")) {
            return Ok(None);
        }
        let norm = |name: &str| LayerNorm::new(leaves, &format!("{at}.{name}"), EPSILON);
        Ok(Some(Adapter {
            wiring: config.position.wiring(),
            norm_before: config.norm_before.then(|| norm(ADAPTER_NORM_BEFORE)).transpose()?,
            down: Linear::new(leaves, &down)?,
            activation: config.activation,
            up: Linear::new(leaves, &format!("{at}.{ADAPTER_UP}"))?,
            scaling: match config.scaling {
                Scaling::Fixed(factor) => Factor::Fixed(factor),
                Scaling::Learned | Scaling::Channel => Factor::Trained(leaves.get(&format!("{at}.{ADAPTER_SCALING}"))?),
            },
            dropout: config.dropout,
            norm_after: config.norm_after.then(|| norm(ADAPTER_NORM_AFTER)).transpose()?,
            skip_before_norm: config.skip_before_norm,
        }))
    }

    /// Whether it stands inside the sublayer and reads nothing but h.
    pub fn is_inside(&self) -> bool {
        self.wiring == AdapterPosition::InSublayer.wiring()
    }

    /// Whether it stands behind the sublayer and reads nothing but LN(h + r).
    pub fn is_behind(&self) -> bool {
        self.wiring == AdapterPosition::AfterSublayer.wiring()
    }

    /// skip + f(x)
    pub fn forward(&self, x: &Tensor, skip: &Tensor, pass: &Pass) -> Result<Tensor> {
        let read = self.norm_before.as_ref().map(|norm| norm.forward(x)).transpose()?;
        let inner = self.activation.forward(&self.down.forward(read.as_ref().unwrap_or(x), pass)?)?; // (…, width)
        let mut y = self.up.forward(&inner, pass)?;
        match &self.scaling {
            Factor::Fixed(1.0) => {}
            Factor::Fixed(factor) => y = y.f_mul_scalar(*factor)?,
            Factor::Trained(factor) => y = y.f_to_kind(Kind::Float)?.f_mul(factor)?,
        }
        let y = pass.dropout(&y, self.dropout)?;
        match &self.norm_after {
            None => Ok(skip.f_add(&y)?),
            Some(norm) if self.skip_before_norm => norm.forward(&skip.f_add(&y)?),
            Some(norm) => Ok(skip.f_add(&norm.forward(&y)?)?),
        }
    }

    /// The whole end of a sublayer: h (`branch`), r (`residual`) and the sublayer's `norm`.
    pub fn finish(&self, branch: &Tensor, residual: &Tensor, norm: &LayerNorm, pass: &Pass) -> Result<Tensor> {
        let signal = |signal| -> Result<Tensor> {
            Ok(match signal {
                Signal::Branch => branch.shallow_clone(),
                Signal::Residual => residual.shallow_clone(),
                Signal::Sum => branch.f_add(residual)?,
                Signal::Normed => norm.forward(&branch.f_add(residual)?)?,
            })
        };
        let y = self.forward(&signal(self.wiring.reads)?, &signal(self.wiring.skip)?, pass)?;
        if self.wiring.norm { norm.forward(&y.f_add(residual)?) } else { Ok(y) }
    }
}
