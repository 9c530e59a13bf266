//! What bottleneck adapters are told.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::super::Activation;
use super::is_default;

/// Where in a layer the adapters sit. A sublayer gives LN(h + r), where h is what its output projection gives and r its input; f is the
/// adapter. The paper's library changed its mind between versions, which its authors did not pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterPosition {
    /// After the whole sublayer: y + f(y), where y = LN(h + r) (OpenDelta 0.2.4).
    #[default]
    AfterSublayer,
    /// Inside: LN(h + f(h) + r) (OpenDelta 0.3; Houlsby; `double_seq_bn` of AdapterHub, which in training drops from h alone).
    InSublayer,
    /// Behind LayerNorm, and through it once more: LN(h + f(LN(h + r)) + r) (Pfeiffer; `seq_bn` of AdapterHub).
    Pfeiffer,
    /// Beside the sublayer: LN(h + f(r) + r) (He et al. 2022; `par_bn` of AdapterHub).
    Parallel,
    /// Any other combination that AdapterHub has.
    Wired(Wiring),
}

/// What an adapter reads, what its output is added to, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// What it reads.
    pub reads: Signal,
    /// What its output is added to.
    pub skip: Signal,
    /// Whether r is added and LayerNorm taken once the adapter is done.
    pub norm: bool,
}

/// A vector at a sublayer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// h, what the output projection gives.
    Branch,
    /// r, the sublayer's input.
    Residual,
    /// h + r
    Sum,
    /// LN(h + r)
    Normed,
}

impl AdapterPosition {
    /// The same in full.
    pub fn wiring(self) -> Wiring {
        let wiring = |reads, skip, norm| Wiring { reads, skip, norm };
        match self {
            AdapterPosition::AfterSublayer => wiring(Signal::Normed, Signal::Normed, false),
            AdapterPosition::InSublayer => wiring(Signal::Branch, Signal::Branch, true),
            AdapterPosition::Pfeiffer => wiring(Signal::Normed, Signal::Branch, true),
            AdapterPosition::Parallel => wiring(Signal::Residual, Signal::Branch, true),
            AdapterPosition::Wired(wiring) => wiring,
        }
    }
}

impl From<Wiring> for AdapterPosition {
    /// By its name, where it has one.
    fn from(wiring: Wiring) -> AdapterPosition {
        use AdapterPosition::{AfterSublayer, InSublayer, Parallel, Pfeiffer, Wired};
        let named = [AfterSublayer, InSublayer, Pfeiffer, Parallel];
        named.into_iter().find(|position| position.wiring() == wiring).unwrap_or(Wired(wiring))
    }
}

/// Which sublayers have an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sublayers {
    /// Attention and the feed-forward map.
    #[default]
    Both,
    /// Attention alone.
    Attention,
    /// The feed-forward map alone.
    FeedForward,
}

/// What an adapter's output is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// A constant.
    Fixed(f64),
    /// A number that is trained, 1 at first.
    Learned,
    /// One for every hidden dimension.
    Channel,
}

impl Default for Scaling {
    fn default() -> Scaling {
        Scaling::Fixed(1.0)
    }
}

/// f(x) = s · (W_up · φ(W_down · x + b_down) + b_up), behind both sublayers of a layer where nothing else is said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// The inner width.
    pub bottleneck: i64,
    /// Where in a layer they stand.
    pub position: AdapterPosition,
    /// Standard deviation of the initial weights (biases start at 0): near the identity, not at it.
    pub initializer_range: f64,
    /// Which sublayers have one.
    #[serde(skip_serializing_if = "is_default")]
    pub sublayers: Sublayers,
    /// Layers of another inner width, by number; of the width 0, without adapters.
    #[serde(skip_serializing_if = "is_default")]
    pub widths: BTreeMap<usize, i64>,
    /// φ
    #[serde(skip_serializing_if = "is_default")]
    pub activation: Activation,
    /// s
    #[serde(skip_serializing_if = "is_default")]
    pub scaling: Scaling,
    /// Whether x goes through a LayerNorm of the adapter's own first.
    #[serde(skip_serializing_if = "is_default")]
    pub norm_before: bool,
    /// Whether f(x) goes through another in the end.
    #[serde(skip_serializing_if = "is_default")]
    pub norm_after: bool,
    /// Whether what f(x) is added to goes through that one, too.
    #[serde(skip_serializing_if = "is_default")]
    pub skip_before_norm: bool,
    /// Dropout of f(x) in training.
    #[serde(skip_serializing_if = "is_default")]
    pub dropout: f64,
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        AdapterConfig {
            bottleneck: 24,
            position: AdapterPosition::default(),
            initializer_range: 0.01,
            sublayers: Sublayers::Both,
            widths: BTreeMap::new(),
            activation: Activation::GeluTanh,
            scaling: Scaling::default(),
            norm_before: false,
            norm_after: false,
            skip_before_norm: false,
            dropout: 0.0,
        }
    }
}

impl AdapterConfig {
    /// The inner width of the adapters of a layer; none where it has no adapters.
    pub fn width(&self, layer: usize) -> Option<i64> {
        Some(self.widths.get(&layer).copied().unwrap_or(self.bottleneck)).filter(|width| *width > 0)
    }

    /// Whether adapters whose f is 0 leave the model as it is without them: not where what f is added to is no part of the sublayer's own sum.
    pub(crate) fn is_addition(&self) -> bool {
        let Wiring { skip, norm, .. } = self.position.wiring();
        let alone = matches!((skip, norm), (Signal::Branch, true) | (Signal::Normed, false));
        alone && !self.skip_before_norm
    }

    /// Says what contradicts itself.
    pub(super) fn validate(&self) -> Result<()> {
        ensure!(self.bottleneck > 0, "an adapter bottleneck of {} cannot be", self.bottleneck);
        for (layer, width) in &self.widths {
            ensure!(*width >= 0, "an adapter bottleneck of {width} in layer {layer} cannot be");
        }
        ensure!((0.0..1.0).contains(&self.dropout), "an adapter's dropout of {} is not in [0, 1)", self.dropout);
        ensure!(
            self.norm_after || !self.skip_before_norm,
            "skip_before_norm says what goes through the LayerNorm in the end, but norm_after is false: there is none"
        );
        ensure!(
            !self.skip_before_norm || self.position.wiring().reads != Signal::Residual,
            "skip_before_norm is for adapters that stand in line: no tool computes it beside the sublayer"
        );
        Ok(())
    }
}
