//! Comparing the attention of two models batch by batch: sums of 1 − JS and cosine for every pair of heads.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::attention_rows::{Block, all_heads};
use super::{HeadMatrix, HeadSimilarity};
use crate::model::EncoderConfig;

/// Elements that one step of a comparison works on: 1 MB of float32, which stays in the processor's cache.
const STEP_ELEMENTS: i64 = 1 << 18;

/// Sums over batches, for every pair of heads.
pub(super) struct Sums {
    layers: usize,
    heads_per_layer: i64,
    texts: usize,
    positions: usize,
    /// (heads of a, heads of b) float64: Σ weight · JS, Σ weight · cosine.
    divergence: Tensor,
    cosine: Tensor,
    /// The gap of 1 − JS on each text so far, with the number of the text.
    gaps: Vec<(i64, f64)>,
}

impl Sums {
    pub(super) fn new(config: &EncoderConfig, device: Device) -> Result<Sums> {
        let heads = all_heads(config);
        let zeros = || Tensor::f_zeros([heads, heads], (Kind::Double, device));
        let (layers, heads_per_layer) = (config.num_hidden_layers, config.num_attention_heads);
        let (divergence, cosine) = (zeros()?, zeros()?);
        Ok(Sums { layers, heads_per_layer, texts: 0, positions: 0, divergence, cosine, gaps: Vec::new() })
    }

    /// Adds what two models attend to in the same batch.
    pub(super) fn add(&mut self, a: &Block, b: &Block) -> Result<()> {
        tch::no_grad(|| {
            let (heads, r, t) = a.rows.size3()?;
            let device = a.rows.device();
            let (b_rows, b_entropies) = (b.rows.f_to_device(device)?, b.entropies.f_to_device(device)?);
            let step = (STEP_ELEMENTS / (heads * t)).max(1);
            let zeros = || Tensor::f_zeros([r], (Kind::Double, device));
            let (corresponding, all) = (zeros()?, zeros()?); // (r): Σ of the mixtures' entropies over pairs of heads
            for start in (0..r).step_by(step as usize) {
                let len = step.min(r - start);
                let (p, q) = (a.rows.f_narrow(1, start, len)?, b_rows.f_narrow(1, start, len)?); // (heads, len, t)
                let weights = a.weights.f_narrow(0, start, len)?; // (len)
                let (corresponding, all) = (corresponding.f_narrow(0, start, len)?, all.f_narrow(0, start, len)?);
                for head in 0..heads {
                    let mixture = q.f_add(&p.f_select(0, head)?)?.f_mul_scalar_(0.5)?; // (heads of b, len, t)
                    let entropies = entropies(&mixture)?; // (heads of b, len)
                    let _ = self.divergence.f_select(0, head)?.f_add_(&entropies.f_matmul(&weights)?)?;
                    let _ = corresponding.shallow_clone().f_add_(&entropies.f_select(0, head)?)?;
                    let _ = all.shallow_clone().f_add_(&entropies.f_sum_dim_intlist(0, false, Kind::Double)?)?;
                }
                let flat = |x: Tensor| x.f_reshape([heads, len * t]);
                let weighted = flat(unit_rows(&p)?.f_mul(&weights.f_view([len, 1])?)?)?;
                let _ = self.cosine.f_add_(&weighted.f_matmul(&flat(unit_rows(&q)?)?.f_transpose(0, 1)?)?)?;
            }
            let own = a.entropies.f_view([heads, 1])?.f_add(&b_entropies)?.f_mul_scalar(0.5)?; // (heads of a, heads of b)
            let _ = self.divergence.f_sub_(&own)?;
            if heads > 1 {
                self.gaps.extend(gaps(a, heads as f64, &corresponding, &all)?);
            }
            self.texts += a.input_ids.size()[0] as usize;
            self.positions += r as usize;
            Ok(())
        })
    }

    /// The means over texts of the means over their query positions.
    pub(super) fn mean(mut self) -> Result<HeadSimilarity> {
        ensure!(self.texts > 0, "there are no texts to compare heads on");
        self.gaps.sort_by_key(|(text, _)| *text);
        let (texts, heads_per_layer) = (self.texts as f64, self.heads_per_layer as usize);
        let matrix = |sums: Tensor| HeadMatrix::new(heads_per_layer, Vec::try_from(sums.f_to_device(Device::Cpu)?)?);
        Ok(HeadSimilarity {
            layers: self.layers,
            heads_per_layer,
            texts: self.texts,
            positions: self.positions,
            js: matrix(self.divergence.f_div_scalar(-texts)?.f_add_scalar(1.0)?)?,
            cosine: matrix(self.cosine.f_div_scalar(texts)?)?,
            gaps: self.gaps.into_iter().map(|(_, gap)| gap).collect(),
        })
    }
}

/// Rows (heads, r, t) scaled to length 1, in float64.
fn unit_rows(rows: &Tensor) -> Result<Tensor> {
    let rows = rows.f_to_kind(Kind::Double)?;
    Ok(rows.f_div(&rows.f_norm_scalaropt_dim(2.0, -1, true)?)?)
}

/// H of each row in bits: (heads, r, t) gives (heads, r) float64.
pub(super) fn entropies(rows: &Tensor) -> Result<Tensor> {
    // 0 · log 0 is 0: the clamp keeps it from being NaN.
    let terms = rows.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_log2_()?.f_mul_(rows)?; // (heads, r, t)
    Ok(terms.f_sum_dim_intlist(-1, false, Kind::Double)?.f_neg()?)
}

/// The gap of 1 − JS on every text of a batch, with the text's number: its mean over mismatched pairs of heads of
/// H((p + q)/2), less that over corresponding ones. The heads' own entropies count alike in both and cancel.
fn gaps(block: &Block, heads: f64, corresponding: &Tensor, all: &Tensor) -> Result<Vec<(i64, f64)>> {
    let mismatched = all.f_sub(corresponding)?.f_div_scalar(heads * (heads - 1.0))?; // (r)
    let weighted = mismatched.f_sub(&corresponding.f_div_scalar(heads)?)?.f_mul(&block.weights)?; // (r)
    let sums = Tensor::f_zeros([block.texts.len() as i64], (Kind::Double, weighted.device()))?;
    let sums = Vec::<f64>::try_from(sums.f_index_add(0, &block.text_of, &weighted)?.f_to_device(Device::Cpu)?)?;
    Ok(block.texts.iter().copied().zip(sums).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::inputs::testing;

    /// One layer of heads, each with the same rows for every text in turn; `lengths` says how many rows a text has.
    fn compare(a: &[&[[f32; 3]]], b: &[&[[f32; 3]]], lengths: &[i64]) -> Result<HeadSimilarity> {
        let block = |heads: &[&[[f32; 3]]]| {
            let rows = Tensor::from_slice(heads.concat().as_flattened()).view([heads.len() as i64, -1, 3]);
            let weights: Vec<f64> = lengths.iter().flat_map(|&len| vec![1.0 / len as f64; len as usize]).collect();
            let text_of: Vec<i64> = (0..).zip(lengths).flat_map(|(text, &len)| vec![text; len as usize]).collect();
            Block::of_rows(
                Tensor::zeros([lengths.len() as i64, 3], (Kind::Int64, Device::Cpu)),
                rows,
                Tensor::from_slice(&weights),
                Tensor::from_slice(&text_of),
                (0..lengths.len() as i64).rev().collect(),
            )
        };
        let config = EncoderConfig { num_attention_heads: a.len() as i64, num_hidden_layers: 1, ..testing::config() };
        let mut sums = Sums::new(&config, Device::Cpu)?;
        sums.add(&block(a)?, &block(b)?)?;
        sums.mean()
    }

    fn close(got: f64, wanted: f64) {
        assert!((got - wanted).abs() < 1e-6, "{got} should be {wanted}");
    }

    /// JS of (1, 0) and (½, ½) is H(¾, ¼) − (0 + 1)/2 = 0.811278 − 0.5; the last pair is 1 − `jensenshannon(p, q, base=2)**2` of
    /// SciPy 1.17.1, and p·q/(‖p‖·‖q‖) of NumPy.
    #[test]
    fn similarities_of_single_rows_are_those_computed_by_hand() -> Result<()> {
        let pairs = [
            ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], 1.0, 1.0),
            ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], 0.0, 0.0),
            ([1.0, 0.0, 0.0], [0.5, 0.5, 0.0], 1.0 - 0.311278, 0.5_f64.sqrt()),
            ([0.7, 0.2, 0.1], [0.1, 0.3, 0.6], 0.6672488983973203, 0.38122186810493586),
        ];
        for (p, q, js, cosine) in pairs {
            let similarity = compare(&[&[p]], &[&[q]], &[1])?;
            close(similarity.js.values[0][0], js);
            close(similarity.cosine.values[0][0], cosine);
        }
        Ok(())
    }

    /// A text of one row that agrees and one of three rows that never do: a mean over texts is 1/2, one over rows 1/4.
    #[test]
    fn a_long_text_counts_no_more_than_a_short_one() -> Result<()> {
        let (p, q) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]);
        let similarity = compare(&[&[p, p, p, p]], &[&[p, q, q, q]], &[1, 3])?;
        close(similarity.js.values[0][0], 0.5);
        close(similarity.cosine.values[0][0], 0.5);
        assert_eq!((similarity.texts, similarity.positions), (2, 4));
        Ok(())
    }

    #[test]
    fn rows_of_the_matrix_are_heads_of_the_first_model() -> Result<()> {
        let (x, y, z) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]);
        let similarity = compare(&[&[x], &[y]], &[&[z], &[x]], &[1])?;
        assert_eq!(similarity.js.values, [[0.0, 1.0], [0.0, 0.0]]);
        assert_eq!(similarity.cosine.values, [[0.0, 1.0], [0.0, 0.0]]);
        Ok(())
    }

    /// Heads agree with their partners alone on the first text, with the other ones alone on the second (of two rows): gaps 1 and −1.
    /// On the third, partners are at 1 and the others at 1 − JS(x, ½½) = 0.688722. The batch holds the texts in reverse order.
    #[test]
    fn every_text_has_a_gap_of_its_own_in_the_order_of_the_texts() -> Result<()> {
        let (x, y, half) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]);
        let similarity = compare(&[&[x, x, x, x], &[y, y, y, half]], &[&[x, y, y, x], &[y, x, x, half]], &[1, 2, 1])?;
        assert_eq!(similarity.gaps.len(), 3);
        for (got, wanted) in similarity.gaps.iter().zip([0.311278, -1.0, 1.0]) {
            close(*got, wanted);
        }
        close(similarity.gap().unwrap(), 0.311278 / 3.0);
        assert!(compare(&[&[x]], &[&[x]], &[1])?.gaps.is_empty(), "one head has nothing to be compared with");
        Ok(())
    }

    #[test]
    fn comparing_in_many_steps_equals_comparing_in_one() -> Result<()> {
        // 300 rows of 1,000 keys for 2 heads are more than one step.
        let rows = |seed: i64| -> Result<Block> {
            let x = Tensor::arange(2 * 300 * 1000, (Kind::Float, Device::Cpu)).view([2, 300, 1000]);
            let rows = ((x * (seed as f64 + 0.37)).sin() * 3.0).softmax(-1, Kind::Float);
            Block::of_rows(
                Tensor::zeros([1, 1], (Kind::Int64, Device::Cpu)),
                rows,
                Tensor::full([300], 1.0 / 300.0, (Kind::Double, Device::Cpu)),
                Tensor::zeros([300], (Kind::Int64, Device::Cpu)),
                vec![0],
            )
        };
        let config = EncoderConfig { num_attention_heads: 2, num_hidden_layers: 1, ..testing::config() };
        let (a, b) = (rows(1)?, rows(2)?);
        let mut sums = Sums::new(&config, Device::Cpu)?;
        sums.add(&a, &b)?;
        let similarity = sums.mean()?;
        close(similarity.gaps[0], similarity.gap().unwrap());
        // The definition, row by row.
        let (p, q) = (a.rows.to_kind(Kind::Double), b.rows.to_kind(Kind::Double));
        let entropy = |x: &Tensor| -(x * x.log2()).sum_dim_intlist(-1, false, Kind::Double);
        for i in 0..2 {
            for j in 0..2 {
                let (p, q) = (p.get(i), q.get(j));
                let js = entropy(&((&p + &q) / 2.0)) - (entropy(&p) + entropy(&q)) / 2.0;
                close(similarity.js.values[i as usize][j as usize], 1.0 - f64::try_from(js.mean(Kind::Double))?);
                let cosine = (&p * &q).sum_dim_intlist(-1, false, Kind::Double)
                    / (p.norm_scalaropt_dim(2, -1, false) * q.norm_scalaropt_dim(2, -1, false));
                close(similarity.cosine.values[i as usize][j as usize], f64::try_from(cosine.mean(Kind::Double))?);
            }
        }
        Ok(())
    }
}
