//! Holm's correction for asking several questions at once.

use anyhow::{Result, ensure};

/// Holm's step-down adjusted p-values (Holm 1979), in the order given.
///
/// With p₍₁₎ ≤ … ≤ p₍ₘ₎: adjusted p₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1) · p₍ⱼ₎). Where a claim holds if its adjusted p is ≤ 0.05,
/// the chance of *any* false one among all of them is at most 5 %, however they depend on one another. All questions that were
/// asked belong in `p`; one without a p-value (a single unit) counts as 1. Errors: a number outside 0 … 1 (its position is named).
pub fn holm(p: &[f64]) -> Result<Vec<f64>> {
    for (at, value) in p.iter().enumerate() {
        ensure!((0.0..=1.0).contains(value), "p-value {} of {} is {value}: it must lie in 0 … 1", at + 1, p.len());
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&one, &other| p[one].total_cmp(&p[other]));
    let (mut adjusted, mut largest) = (vec![0.0; p.len()], 0.0_f64);
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[at]).min(1.0));
        adjusted[at] = largest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.15.0: `multitest.multipletests(p, method="holm")[1]`.
    #[test]
    fn adjusted_p_values_equal_those_of_statsmodels() -> Result<()> {
        let cases: [(&[f64], &[f64]); 3] = [
            (&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]),
            (&[0.001, 0.2, 0.012, 0.012, 0.9, 0.04], &[0.006, 0.4, 0.06, 0.06, 0.9, 0.12]),
            (&[0.02, 0.0, 1.0], &[0.04, 0.0, 1.0]),
        ];
        for (p, wanted) in cases {
            let got = holm(p)?;
            assert!(got.iter().zip(wanted).all(|(got, wanted)| (got - wanted).abs() < 1e-12), "{got:?}");
            assert_eq!(got.len(), wanted.len());
        }
        Ok(())
    }

    #[test]
    fn one_question_keeps_its_p_value_and_none_gives_none() -> Result<()> {
        assert_eq!((holm(&[0.04])?, holm(&[])?), (vec![0.04], vec![]));
        Ok(())
    }

    #[test]
    fn what_is_no_probability_is_refused_by_position() {
        for wrong in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            assert!(holm(&[0.5, wrong]).unwrap_err().to_string().contains("p-value 2 of 2"));
        }
    }
}
