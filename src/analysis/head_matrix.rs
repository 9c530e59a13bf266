//! How alike every head of one model is to every head of another, and which belong together.

use anyhow::{Result, ensure};
use pathfinding::prelude::{Matrix, kuhn_munkres};
use serde::{Deserialize, Serialize};

/// Units that a similarity is counted in for the matching, which is exact only in whole numbers: 2⁻⁴⁰.
const SCALE: f64 = (1_u64 << 40) as f64;

/// A similarity is at most 1, but for rounding.
const LARGEST: f64 = 1.001;

/// Similarities of every head of model a (rows) with every head of model b (columns). Head h of layer l has the index
/// l · `heads_per_layer` + h in both; *corresponding* heads have the same index, all other pairs are *mismatched*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadMatrix {
    /// Heads of each layer.
    pub heads_per_layer: usize,
    /// \[head of a\]\[head of b\]
    pub values: Vec<Vec<f64>>,
}

impl HeadMatrix {
    /// Errors when `values` is empty, not square, not made of whole layers, or holds what is no similarity.
    pub fn new(heads_per_layer: usize, values: Vec<Vec<f64>>) -> Result<HeadMatrix> {
        let count = values.len();
        ensure!(
            heads_per_layer > 0 && count > 0 && count.is_multiple_of(heads_per_layer),
            "{count} heads are not whole layers of {heads_per_layer} heads"
        );
        for (head, row) in values.iter().enumerate() {
            ensure!(row.len() == count, "head {head} is compared with {} heads of {count}", row.len());
            if let Some(other) = row.iter().position(|value| !(-LARGEST..=LARGEST).contains(value)) {
                anyhow::bail!(
                    "the similarity of heads {head} and {other} is {}: it must lie between −1 and 1",
                    row[other]
                );
            }
        }
        Ok(HeadMatrix { heads_per_layer, values })
    }

    /// Heads of all layers.
    pub fn heads(&self) -> usize {
        self.values.len()
    }

    /// The mean over the pairs (head of a, head of b) for which `chosen` says so; `None` where there is none.
    pub fn mean_over(&self, chosen: impl Fn(usize, usize) -> bool) -> Option<f64> {
        let pairs =
            self.values.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, v)| (i, j, v)));
        let (sum, count) = pairs.filter(|&(i, j, _)| chosen(i, j)).fold((0.0, 0), |(s, n), (_, _, v)| (s + v, n + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// The layer that a head lies in.
    pub fn layer_of(&self, head: usize) -> usize {
        head / self.heads_per_layer.max(1)
    }

    /// Mean over the pairs of corresponding heads: the diagonal.
    pub fn corresponding(&self) -> Option<f64> {
        self.mean_over(|i, j| i == j)
    }

    /// Mean over all pairs of mismatched heads; `None` for models of a single head.
    pub fn mismatched(&self) -> Option<f64> {
        self.mean_over(|i, j| i != j)
    }

    /// Mean over the mismatched pairs within a layer, a stricter control: heads of one layer read the same input.
    pub fn mismatched_in_layer(&self) -> Option<f64> {
        self.mean_over(|i, j| i != j && self.layer_of(i) == self.layer_of(j))
    }

    /// g = corresponding − mismatched: how much more alike corresponding heads are than any two. Claim C3 is about g of 1 − JS.
    pub fn gap(&self) -> Option<f64> {
        Some(self.corresponding()? - self.mismatched()?)
    }

    /// The partner in b of every head of a: the one-to-one matching of the largest total similarity. Of equally good ones it
    /// is one that keeps the most heads where they are.
    pub fn matching(&self) -> Vec<usize> {
        self.match_among(0, self.heads())
    }

    /// As [`HeadMatrix::matching`], with partners of the same layer only.
    pub fn matching_in_layers(&self) -> Vec<usize> {
        let starts = (0..self.heads()).step_by(self.heads_per_layer.max(1));
        starts.flat_map(|start| self.match_among(start, self.heads().min(start + self.heads_per_layer))).collect()
    }

    /// Share of heads that [`HeadMatrix::matching`] pairs with their corresponding head: 1 when heads kept their roles, about
    /// 1 / heads by chance.
    pub fn matched_share(&self) -> f64 {
        let kept = self.matching().iter().enumerate().filter(|&(head, &partner)| head == partner).count();
        kept as f64 / self.heads().max(1) as f64
    }

    /// Matches the heads `start..end` of both models among themselves.
    fn match_among(&self, start: usize, end: usize) -> Vec<usize> {
        if start >= end {
            return Vec::new();
        }
        let value = |i: usize, j: usize| {
            self.values.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0.0).clamp(-LARGEST, LARGEST)
        };
        // Twice the units and one more on the diagonal: ties alone are decided by it.
        let weights = Matrix::from_fn(end - start, end - start, |(i, j)| {
            2 * (value(start + i, start + j) * SCALE).round() as i64 + i64::from(i == j)
        });
        kuhn_munkres(&weights).1.into_iter().map(|partner| start + partner).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(heads_per_layer: usize, values: &[&[f64]]) -> Result<HeadMatrix> {
        HeadMatrix::new(heads_per_layer, values.iter().map(|row| row.to_vec()).collect())
    }

    #[test]
    fn means_are_those_of_the_diagonal_the_rest_and_the_rest_of_a_layer() -> Result<()> {
        let m =
            matrix(2, &[&[0.9, 0.1, 0.2, 0.3], &[0.3, 0.7, 0.0, 0.0], &[0.1, 0.1, 1.0, 0.5], &[0.2, 0.0, 0.7, 0.8]])?;
        let close = |got: Option<f64>, wanted: f64| assert!((got.unwrap() - wanted).abs() < 1e-12, "{got:?} {wanted}");
        close(m.corresponding(), 3.4 / 4.0);
        close(m.mismatched(), 2.5 / 12.0);
        close(m.mismatched_in_layer(), (0.1 + 0.3 + 0.5 + 0.7) / 4.0);
        close(m.gap(), 3.4 / 4.0 - 2.5 / 12.0);
        assert_eq!((m.layer_of(1), m.layer_of(2)), (0, 1));
        Ok(())
    }

    #[test]
    fn one_head_has_nothing_to_be_mismatched_with() -> Result<()> {
        let m = matrix(1, &[&[0.5]])?;
        assert_eq!((m.corresponding(), m.mismatched(), m.gap()), (Some(0.5), None, None));
        assert_eq!((m.matching(), m.matched_share()), (vec![0], 1.0));
        assert_eq!(matrix(1, &[&[0.5, 0.0], &[0.0, 0.5]])?.mismatched_in_layer(), None);
        Ok(())
    }

    /// Greedy matching takes 0.9 and is left with 0.1: 1.0 in all. The best total is 0.8 + 0.7.
    #[test]
    fn the_matching_maximises_the_total_not_each_head_in_turn() -> Result<()> {
        let m = matrix(2, &[&[0.9, 0.8], &[0.7, 0.1]])?;
        assert_eq!((m.matching(), m.matched_share()), (vec![1, 0], 0.0));
        Ok(())
    }

    /// `scipy.optimize.linear_sum_assignment(values, maximize=True)` of SciPy 1.17.1 gives these columns.
    #[test]
    fn the_matching_equals_that_of_scipy() -> Result<()> {
        let values: Vec<Vec<f64>> =
            (0..6).map(|i| (0..6).map(|j| f64::from((7 * i * i + 13 * j + 5 * i * j) % 31) / 31.0).collect()).collect();
        assert_eq!(HeadMatrix::new(3, values)?.matching(), [2, 3, 0, 1, 4, 5]);
        Ok(())
    }

    #[test]
    fn matching_within_layers_never_leaves_the_layer() -> Result<()> {
        let m =
            matrix(2, &[&[0.1, 0.2, 1.0, 0.0], &[0.2, 0.1, 0.0, 1.0], &[1.0, 0.0, 0.3, 0.1], &[0.0, 1.0, 0.1, 0.3]])?;
        assert_eq!(m.matching(), [2, 3, 0, 1]);
        assert_eq!(m.matching_in_layers(), [1, 0, 2, 3]);
        Ok(())
    }

    #[test]
    fn heads_that_cannot_be_told_apart_stay_where_they_are() -> Result<()> {
        let m = HeadMatrix::new(4, vec![vec![0.7; 8]; 8])?;
        assert_eq!((m.matching(), m.matched_share()), ((0..8).collect(), 1.0));
        Ok(())
    }

    #[test]
    fn what_is_no_square_of_similarities_is_refused() {
        assert!(matrix(1, &[]).is_err() && matrix(2, &[&[1.0]]).is_err() && matrix(0, &[&[1.0]]).is_err());
        assert!(matrix(1, &[&[1.0, 0.0], &[1.0]]).unwrap_err().to_string().contains("head 1"));
        for odd in [f64::NAN, f64::INFINITY, 1.1, -2.0] {
            assert!(matrix(1, &[&[odd]]).unwrap_err().to_string().contains(&format!("is {odd}:")));
        }
    }

    #[test]
    fn a_matrix_comes_back_from_json() -> Result<()> {
        let m = matrix(1, &[&[0.1, 1.0 / 3.0], &[0.2, 0.7]])?;
        assert_eq!(serde_json::from_str::<HeadMatrix>(&serde_json::to_string(&m)?)?, m);
        Ok(())
    }
}
