//! Bounds, and what an interval decides about them: standing, p-values, and how many more units would settle it.
//!
//! Everything here treats a difference of less than [`ROUNDING`] from a bound as none, so that a standing, its p-value and the
//! units still needed never contradict one another.

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

use super::interval::{half_width, student};
use super::{Interval, ROUNDING, mean, sd};

/// On which side of its bound a number should lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Greater than the bound, not equal to it.
    Above,
    /// Greater than the bound or equal to it.
    AtLeast,
    /// Less than the bound or equal to it.
    AtMost,
}

/// What a number must meet, say `≥ 0.5`, in the number's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The right side of `value`.
    pub side: Side,
    /// The bound itself.
    pub value: f64,
}

/// Where an interval lies with respect to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// All of it on the right side.
    Right,
    /// All of it on the wrong side.
    Wrong,
    /// On both: it decides nothing.
    Across,
}

impl Bound {
    /// `> value`.
    pub const fn above(value: f64) -> Self {
        Self { side: Side::Above, value }
    }

    /// `≥ value`.
    pub const fn at_least(value: f64) -> Self {
        Self { side: Side::AtLeast, value }
    }

    /// `≤ value`.
    pub const fn at_most(value: f64) -> Self {
        Self { side: Side::AtMost, value }
    }

    /// Where `interval` lies; `None` where it has no bounds, one value deciding nothing.
    ///
    /// A bound that includes its value is met by an interval that ends there. An interval of width zero is never across.
    pub fn standing(&self, interval: &Interval) -> Option<Standing> {
        let ([lo, hi], edge) = (interval.bounds()?, self.edge());
        let (right, wrong) = match self.side {
            Side::Above => (lo > edge, hi <= edge),
            Side::AtLeast => (lo >= edge, hi < edge),
            Side::AtMost => (hi <= edge, lo > edge),
        };
        Some(match (right, wrong) {
            (true, _) => Standing::Right,
            (_, true) => Standing::Wrong,
            _ => Standing::Across,
        })
    }

    /// The last number that is still equal to `value` but for rounding, on the side where equality decides.
    fn edge(&self) -> f64 {
        match self.side {
            Side::AtLeast => self.value - ROUNDING,
            Side::Above | Side::AtMost => self.value + ROUNDING,
        }
    }
}

impl fmt::Display for Bound {
    /// `> 0`, `≥ 0.5`, `≤ 0.02`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.side {
            Side::Above => '>',
            Side::AtLeast => '≥',
            Side::AtMost => '≤',
        };
        f.write_str(&format!("{sign} {}", self.value).replace('-', "−"))
    }
}

/// Twice the one-sided Student-t p-value of "the mean of `values` lies on the wrong side of `bound`", at most 1.
///
/// p = min(1, 2 · P(t(n − 1) ≥ ±(x̄ − bound) / (s / √n))). One-sided, because a rule asks for one side; twice, so that p ≤ 0.05
/// exactly where the two-sided 95 % interval of [`t_interval`](super::t_interval) stands [`Standing::Right`]. Where a rule has
/// several bounds, the largest p is that of all together (intersection–union test, Berger 1982), ready for [`holm`](super::holm()).
/// Without spread p is 0 or 1, as the mean lies. `None` for a single value, which decides nothing. Errors: as [`mean`], a bound
/// that is not finite.
pub fn p_value(values: &[f64], bound: Bound) -> Result<Option<f64>> {
    Ok(one_sided(values, bound)?.map(|p| (2.0 * p).min(1.0)))
}

/// The p-value of two one-sided t-tests (TOST, Schuirmann 1987): the larger of those of "the mean is below `low`" and "above `high`".
///
/// For the question whether two things are *the same but for a margin*: p ≤ 0.05 says that the mean lies within `low` … `high`,
/// exactly where the 90 % interval does (each side risks 5 %). Not doubled, hence p ≤ 0.025 where the 95 % interval lies within.
/// A difference whose 95 % interval includes 0 says no such thing: it may only be badly measured. And "no worse", where more is
/// welcome, asks for one bound: [`p_value`]. `None` for a single value. Errors: as [`mean`], `low` ≥ `high`, a margin that is not
/// finite.
pub fn equivalence(values: &[f64], low: f64, high: f64) -> Result<Option<f64>> {
    ensure!(low < high, "equivalence needs a margin: its lower end is {low}, its upper end {high}");
    let (below, above) = (one_sided(values, Bound::at_least(low))?, one_sided(values, Bound::at_most(high))?);
    Ok(below.zip(above).map(|(below, above)| below.max(above)))
}

/// P(t(n − 1) ≥ the distance from the bound to the mean, towards the right side, in standard errors).
fn one_sided(values: &[f64], bound: Bound) -> Result<Option<f64>> {
    ensure!(bound.value.is_finite(), "the bound to test is {}: only a finite number can be tested", bound.value);
    let (n, centre) = (values.len(), mean(values)?);
    let Some(s) = sd(values)? else {
        return Ok(None);
    };
    if s == 0.0 {
        let certain = Interval { n, mean: centre, sd: Some(s), lo: Some(centre), hi: Some(centre) };
        return Ok(Some(if bound.standing(&certain) == Some(Standing::Right) { 0.0 } else { 1.0 }));
    }
    let excess = match bound.side {
        Side::Above | Side::AtLeast => centre - bound.edge(),
        Side::AtMost => bound.edge() - centre,
    };
    Ok(Some(student(n)?.sf(excess / (s / (n as f64).sqrt()))))
}

/// The most further units that [`units_to_decide`] looks for.
const MOST_UNITS: usize = 100_000;

/// How many *further* units, beyond `interval.n`, would decide `bound` if mean and spread stayed: the smallest m for which
/// x̄ ± t₀.₉₇₅(n + m − 1) · s / √(n + m) no longer includes the bound, whichever way it then decides.
///
/// `Some(0)` where `interval` decides already. `None` where nothing can be said: no spread known, a mean at the bound, or more than
/// 100,000 units. It is a plan, not a promise: mean and spread will not stay, and a spread of few units is known badly.
pub fn units_to_decide(interval: &Interval, bound: Bound) -> Option<usize> {
    if bound.standing(interval).is_some_and(|standing| standing != Standing::Across) {
        return Some(0);
    }
    let spread = interval.sd?;
    if (interval.mean - bound.value).abs() <= ROUNDING {
        return None;
    }
    let decided = |further: usize| {
        let n = interval.n + further;
        let half = half_width(n, spread).ok()?;
        let then = Interval { n, lo: Some(interval.mean - half), hi: Some(interval.mean + half), ..*interval };
        Some(bound.standing(&then)? != Standing::Across)
    };
    // Half the width falls with every unit, so the units that decide are all those from the first on.
    let (mut too_few, mut enough) = (0, MOST_UNITS);
    if !decided(enough)? {
        return None;
    }
    while enough - too_few > 1 {
        let middle = too_few.midpoint(enough);
        if decided(middle)? { enough = middle } else { too_few = middle }
    }
    Some(enough)
}

#[cfg(test)]
mod tests;
