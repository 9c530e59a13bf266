//! Differences of parameters.

use std::ops::{Add, Deref, Sub};

use anyhow::Result;

use super::Theta;

/// A direction in parameter space: Δ = θ_tuned − θ_base. Reads like a [`Theta`] (norm, dot, cosine, select, …), but is
/// added to one rather than evaluated.
#[derive(Debug)]
pub struct Delta(Theta);

impl Delta {
    /// Takes a vector of differences for what it is.
    pub fn new(difference: Theta) -> Delta {
        Delta(difference)
    }

    /// factor · Δ
    pub fn scale(&self, factor: f64) -> Result<Delta> {
        Ok(Delta(self.0.scale(factor)?))
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Delta> {
        Ok(Delta(self.0.try_clone()?))
    }

    fn combine(&self, other: &Delta, sign: f64) -> Result<Delta> {
        self.layout().same_as(other.layout())?;
        let flat = self.0.flat().f_add(&other.0.flat().f_mul_scalar(sign)?)?;
        Ok(Delta(Theta::from_flat(self.layout().clone(), flat)))
    }
}

impl Deref for Delta {
    type Target = Theta;

    fn deref(&self) -> &Theta {
        &self.0
    }
}

/// Δ_a + Δ_b
impl Add for &Delta {
    type Output = Result<Delta>;

    fn add(self, other: &Delta) -> Result<Delta> {
        self.combine(other, 1.0)
    }
}

/// Δ_a − Δ_b
impl Sub for &Delta {
    type Output = Result<Delta>;

    fn sub(self, other: &Delta) -> Result<Delta> {
        self.combine(other, -1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn deltas_add_subtract_and_scale_like_vectors() -> Result<()> {
        let delta = |x: [f32; 2]| Theta::from_named([("w".to_string(), Tensor::from_slice(&x))]).map(Delta::new);
        let (a, b) = (delta([1., 2.])?, delta([3., -1.])?);
        let values = |d: Delta| Vec::<f32>::try_from(d.get("w").unwrap()).unwrap();
        assert_eq!(values((&a + &b)?), [4., 1.]);
        assert_eq!(values((&a - &b)?), [-2., 3.]);
        assert_eq!(values(a.scale(0.5)?), [0.5, 1.]);
        Ok(())
    }
}
