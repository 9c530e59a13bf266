//! Similarity of hidden states: debiased linear centred kernel alignment.
//!
//! With K = X·Xᵀ and L = Y·Yᵀ over n tokens, K̃ and L̃ the same with zero diagonals, the unbiased estimator of the
//! Hilbert-Schmidt independence criterion (Song et al. 2012, *Feature Selection via Dependence Maximization*) is
//!
//! ```text
//! HSIC_1(K, L) = [ tr(K̃·L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((n−1)(n−2)) − 2/(n−2) · 1ᵀK̃·L̃1 ] / (n(n−3))
//! CKA(X, Y)    = HSIC_1(K, L) / √(HSIC_1(K, K) · HSIC_1(L, L))
//! ```
//!
//! (Kornblith et al. 2019; debiased as in Nguyen et al. 2021). 1 for features that are equal up to rotation, shift and scale,
//! about 0 for unrelated ones. Plain CKA of unrelated features is well above 0 unless n is far larger than their number;
//! this one is not, but can be slightly below 0.

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

/// Debiased linear CKA of the features `x` (n, d1) and `y` (n, d2) of the same n things, computed in float64.
///
/// Errors: other shapes, n < 4, numbers that are not finite, features that do not vary.
pub fn linear_cka(x: &Tensor, y: &Tensor) -> Result<f64> {
    let mut alignment = Alignment::default();
    alignment.add(x, y)?;
    alignment.cka()
}

/// The sums that the three HSICs of a pair of feature matrices are made of, gathered batch by batch.
///
/// Each matrix is shifted by the column means of its first batch. HSIC_1 does not change with a shift (⟨x−μ, y−μ⟩ differs from
/// ⟨x, y⟩ by terms that depend on one of the two tokens, which the estimator removes), but far fewer digits cancel.
#[derive(Debug, Default)]
pub(super) struct Alignment(Option<Parts>);

#[derive(Debug)]
struct Parts {
    /// Row vectors (1, d1) and (1, d2).
    shifts: [Tensor; 2],
    xx: Moments,
    xy: Moments,
    yy: Moments,
}

impl Alignment {
    /// Takes in the features (m, d1) and (m, d2) of m more tokens.
    pub(super) fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<()> {
        let (sizes, other) = (x.size(), y.size());
        ensure!(
            sizes.len() == 2 && other.len() == 2 && sizes[0] == other[0] && sizes[0] > 0,
            "features are {sizes:?} and {other:?}: both must be (n, d), with the same n > 0 things in the same order"
        );
        tch::no_grad(|| {
            let (x, y) = (x.f_to_kind(Kind::Double)?, y.f_to_kind(Kind::Double)?);
            for (which, features) in [("first", &x), ("second", &y)] {
                let finite = bool::try_from(features.f_isfinite()?.f_all()?)?;
                ensure!(finite, "the {which} features {:?} hold numbers that are not finite", features.size());
            }
            if self.0.is_none() {
                let mean = |features: &Tensor| features.f_mean_dim(0, true, Kind::Double);
                let (xx, xy, yy) = (Moments::zeros(&x, &x)?, Moments::zeros(&x, &y)?, Moments::zeros(&y, &y)?);
                self.0 = Some(Parts { shifts: [mean(&x)?, mean(&y)?], xx, xy, yy });
            }
            let Some(parts) = &mut self.0 else { return Ok(()) };
            let (x, y) = (augmented(&x.f_sub(&parts.shifts[0])?)?, augmented(&y.f_sub(&parts.shifts[1])?)?);
            parts.xx.add(&x, &x)?;
            parts.xy.add(&x, &y)?;
            parts.yy.add(&y, &y)
        })
    }

    /// Errors: fewer than 4 things, features that do not vary.
    pub(super) fn cka(&self) -> Result<f64> {
        let parts = self.0.as_ref().context("there are no features to compare")?;
        for (which, shift, moments) in [("first", &parts.shifts[0], &parts.xx), ("second", &parts.shifts[1], &parts.yy)]
        {
            let size = f64::try_from(shift.f_norm()?)?;
            ensure!(
                moments.varies(size)?,
                "the {which} features are the same for all {} tokens: their similarity to anything is undefined",
                moments.n()?
            );
        }
        let (xx, xy, yy) = (parts.xx.hsic()?, parts.xy.hsic()?, parts.yy.hsic()?);
        ensure!(
            xx > 0.0 && yy > 0.0,
            "HSIC of the features with themselves is estimated as {xx} and {yy}, of {} tokens: take more",
            parts.xx.n()?
        );
        Ok(xy / (xx * yy).sqrt())
    }
}

/// Shifted features (m, d) with two more columns: [X, 1, k], k_i = ‖x_i‖², so that one product holds every sum that is needed.
fn augmented(x: &Tensor) -> Result<Tensor> {
    let ones = Tensor::f_ones([x.size()[0], 1], (Kind::Double, x.device()))?;
    let squares = x.f_square()?.f_sum_dim_intlist(1, true, Kind::Double)?; // (m, 1)
    Ok(Tensor::f_cat(&[x, &ones, &squares], 1)?)
}

/// [X, 1, k]ᵀ·[Y, 1, l] (d1 + 2, d2 + 2): HSIC_1 without the n × n matrices K and L.
#[derive(Debug)]
struct Moments(Tensor);

impl Moments {
    fn zeros(x: &Tensor, y: &Tensor) -> Result<Moments> {
        Ok(Moments(Tensor::f_zeros([x.size()[1] + 2, y.size()[1] + 2], (Kind::Double, x.device()))?))
    }

    fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<()> {
        let _ = self.0.f_add_(&x.f_transpose(0, 1)?.f_matmul(y)?)?;
        Ok(())
    }

    /// The number in this row and column, counted from the end of the features.
    fn at(&self, row: i64, column: i64) -> Result<f64> {
        let (d1, d2) = self.0.size2()?;
        Ok(self.0.f_double_value(&[d1 - 2 + row, d2 - 2 + column])?)
    }

    fn n(&self) -> Result<f64> {
        self.at(0, 0)
    }

    /// Whether Σ‖x_i − x̄‖² is more than rounding left of Σ‖x_i‖², for features that were shifted by this distance.
    fn varies(&self, shift: f64) -> Result<bool> {
        let (d, _) = self.0.size2()?;
        let (n, squares) = (self.n()?, self.at(1, 0)?);
        let sum = self.0.f_select(1, d - 2)?.f_narrow(0, 0, d - 2)?; // Xᵀ1 (d)
        let spread = squares - f64::try_from(sum.f_square()?.f_sum(Kind::Double)?)? / n;
        Ok(spread > 1e-24 * (n * shift * shift + squares))
    }

    /// HSIC_1, by tr(K̃·L̃) = ‖XᵀY‖² − k·l, 1ᵀK̃1 = ‖Xᵀ1‖² − Σk, and 1ᵀK̃·L̃1 = (K1 − k)·(L1 − l), where K1 = X·(Xᵀ1).
    fn hsic(&self) -> Result<f64> {
        let (d1, d2) = (self.0.size()[0] - 2, self.0.size()[1] - 2);
        let n = self.n()?;
        ensure!(n >= 4.0, "the estimator needs at least 4 tokens, there are {n}");
        let rows = self.0.f_narrow(0, 0, d1)?; // Xᵀ·[Y, 1, l] (d1, d2 + 2)
        let (cross, x_ones, x_l) = (rows.f_narrow(1, 0, d2)?, rows.f_select(1, d2)?, rows.f_select(1, d2 + 1)?);
        let columns = self.0.f_narrow(1, 0, d2)?; // [X, 1, k]ᵀ·Y (d1 + 2, d2)
        let (y_ones, y_k) = (columns.f_select(0, d1)?, columns.f_select(0, d1 + 1)?);
        let dot = |a: &Tensor, b: &Tensor| -> Result<f64> { Ok(f64::try_from(a.f_mul(b)?.f_sum(Kind::Double)?)?) };
        let (sum_k, sum_l, k_l) = (self.at(1, 0)?, self.at(0, 1)?, self.at(1, 1)?);
        let trace = dot(&cross, &cross)? - k_l;
        let totals = (dot(&x_ones, &x_ones)? - sum_k) * (dot(&y_ones, &y_ones)? - sum_l);
        let row_sums = dot(&x_ones, &cross.f_mv(&y_ones)?)? - dot(&x_ones, &x_l)? - dot(&y_ones, &y_k)? + k_l;
        let estimate = trace + totals / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * row_sums;
        Ok(estimate / (n * (n - 3.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn random(n: i64, d: i64, seed: u64) -> Tensor {
        use rand_distr::{Distribution, StandardNormal};
        let mut rng = crate::seed::rng(seed, "cka-test", 0);
        let numbers: Vec<f64> = (0..n * d).map(|_| StandardNormal.sample(&mut rng)).collect();
        Tensor::from_slice(&numbers).view([n, d])
    }

    fn close(got: f64, wanted: f64, tolerance: f64) {
        assert!((got - wanted).abs() < tolerance, "{got} should be {wanted}");
    }

    /// HSIC_1 by its definition, with n × n matrices.
    fn naive_hsic(x: &Tensor, y: &Tensor) -> Result<f64> {
        let n = x.size()[0];
        let off_diagonal =
            Tensor::ones([n, n], (Kind::Double, Device::Cpu)) - Tensor::eye(n, (Kind::Double, Device::Cpu));
        let kernel = |x: &Tensor| x.matmul(&x.tr()) * &off_diagonal;
        let (k, l, ones) = (kernel(x), kernel(y), Tensor::ones([n, 1], (Kind::Double, Device::Cpu)));
        let number = |x: Tensor| f64::try_from(x.sum(Kind::Double));
        let (k_total, l_total) = (number(k.shallow_clone())?, number(l.shallow_clone())?);
        let n = n as f64;
        let row_sums = number(ones.tr().matmul(&k).matmul(&l).matmul(&ones))?;
        let estimate = number(k.matmul(&l).diagonal(0, 0, 1))? + k_total * l_total / ((n - 1.0) * (n - 2.0))
            - 2.0 / (n - 2.0) * row_sums;
        Ok(estimate / (n * (n - 3.0)))
    }

    #[test]
    fn the_same_features_rotated_shifted_and_scaled_are_wholly_similar() -> Result<()> {
        let x = random(200, 8, 1);
        let (rotation, _) = Tensor::linalg_qr(&random(8, 8, 2), "reduced");
        close(linear_cka(&x, &x)?, 1.0, 1e-12);
        close(linear_cka(&x, &(x.matmul(&rotation) * -3.7 + 100.0))?, 1.0, 1e-9);
        close(linear_cka(&(&x * 1e-6 + 1.0), &x)?, 1.0, 1e-6);
        Ok(())
    }

    /// Plain CKA of features like the smaller ones is 0.45 on average (NumPy): it takes 40 things for similar where d is 32.
    #[test]
    fn unrelated_features_are_not_similar_even_when_there_are_few_of_them() -> Result<()> {
        close(linear_cka(&random(4000, 8, 3), &random(4000, 8, 4))?, 0.0, 0.02);
        let few = (0..50).map(|seed| linear_cka(&random(40, 32, 10 + seed), &random(40, 32, 100 + seed)));
        close(few.collect::<Result<Vec<_>>>()?.iter().sum::<f64>() / 50.0, 0.0, 0.02);
        Ok(())
    }

    #[test]
    fn sums_in_feature_space_equal_the_definition_in_any_batches_and_with_any_shift() -> Result<()> {
        let x = random(30, 5, 5) + 2.0;
        let y = random(30, 3, 6) + x.narrow(1, 0, 3) * 0.5 - 1.0;
        let naive = naive_hsic(&x, &y)? / (naive_hsic(&x, &x)? * naive_hsic(&y, &y)?).sqrt();
        close(linear_cka(&x, &y)?, naive, 1e-10);
        let mut batches = Alignment::default();
        for (start, len) in [(0, 1), (1, 4), (5, 25)] {
            batches.add(&x.narrow(0, start, len), &y.narrow(0, start, len))?;
        }
        close(batches.cka()?, naive, 1e-10);
        let Some(parts) = &batches.0 else { anyhow::bail!("nothing was added") };
        close(parts.xy.hsic()?, naive_hsic(&x, &y)?, 1e-9);
        Ok(())
    }

    /// NumPy 2.4.6, by the formula at the head of this file: x_ij = sin(1 + 3i + 7j²), y_ij = cos(i(j + 1)/2) + Σ_j x_ij / 2.
    #[test]
    fn values_equal_those_of_numpy() -> Result<()> {
        let sine = |i: usize, j: usize| (1.0 + 3.0 * i as f64 + 7.0 * (j * j) as f64).sin();
        let x: Vec<f64> = (0..12).flat_map(|i| (0..3).map(move |j| sine(i, j))).collect();
        let y = |i: usize, j: usize| {
            (i as f64 * (j + 1) as f64 / 2.0).cos() + (0..3).map(|j| sine(i, j)).sum::<f64>() / 2.0
        };
        let y: Vec<f64> = (0..12).flat_map(|i| (0..4).map(move |j| y(i, j))).collect();
        let (x, y) = (Tensor::from_slice(&x).view([12, 3]), Tensor::from_slice(&y).view([12, 4]));
        close(linear_cka(&x, &y)?, 0.49703498845234007, 1e-12);
        close(linear_cka(&x.narrow(0, 0, 5), &y.narrow(0, 0, 5))?, 0.6303989794778084, 1e-12);
        // With K and L as they are, NumPy is left with 0.497034957 after these shifts.
        close(linear_cka(&(&x + 5.0), &(&y - 100.0))?, 0.49703498845234007, 1e-10);
        Ok(())
    }

    #[test]
    fn what_has_no_similarity_is_refused() -> Result<()> {
        let x = random(10, 3, 1);
        let refused = |a: &Tensor, b: &Tensor| linear_cka(a, b).unwrap_err().to_string();
        assert!(refused(&x, &random(9, 3, 1)).contains("[10, 3] and [9, 3]"));
        assert!(refused(&x, &x.view([30])).contains("[30]"));
        assert!(refused(&x.narrow(0, 0, 3), &x.narrow(0, 0, 3)).contains("at least 4"));
        let constant = Tensor::full([10, 3], 0.1, (Kind::Float, Device::Cpu));
        assert!(refused(&x, &constant).contains("the second features are the same"));
        assert!(refused(&constant.zeros_like(), &x).contains("the first features are the same"));
        assert!(refused(&(&x / 0.0), &x).contains("not finite"));
        assert!(Alignment::default().cka().is_err());
        Ok(())
    }
}
