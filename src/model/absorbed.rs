//! Attention of one query over a whole sequence, without the keys and values of that sequence.
//!
//! The score of position j in head i is q_i·(W_k,i·x_j + b_k,i) = (W_k,iᵀ·q_i)·x_j + a constant that softmax does not see. So the
//! key's map is absorbed into the query, and likewise Σ_j a_j·(W_v,i·x_j + b_v,i) = W_v,i·(Σ_j a_j·x_j) + b_v,i·Σ_j a_j. Two maps
//! of b rows take the place of two of b·t, forward and backward. The key's bias is left without a gradient: it has no effect.
//!
//! Shapes as in [`super::encoder`]: b sequences, t positions, h hidden size, n heads of size d = h / n.

use anyhow::Result;
use tch::{Kind, Tensor};

/// The maps that are absorbed: each weight is (h, h), the bias (h).
pub(super) struct Maps<'a> {
    pub key: &'a Tensor,
    pub value: &'a Tensor,
    pub value_bias: &'a Tensor,
}

/// softmax(q·kᵀ/√d)·v for queries q (b, h) over the sequences x (b, t, h), as (b, 1, h). The mask is (b, 1, 1, t).
pub(super) fn attend(
    q: &Tensor,
    x: &Tensor,
    maps: Maps,
    heads: i64,
    mask: Option<&Tensor>,
    dropout: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (b, _, h) = x.size3()?;
    let d = h / heads;
    let by_head = |weight: &Tensor| weight.f_view([heads, d, h]);
    let q = q.f_mul_scalar(1.0 / (d as f64).sqrt())?.f_view([b, heads, d])?.f_transpose(0, 1)?; // (n, b, d)
    let absorbed = q.f_bmm(&by_head(maps.key)?)?.f_transpose(0, 1)?; // (b, n, h)
    let mut scores = absorbed.f_bmm(&x.f_transpose(1, 2)?)?; // (b, n, t)
    if let Some(mask) = mask {
        scores = scores.f_masked_fill(&mask.f_squeeze_dim(1)?.f_logical_not()?, f64::NEG_INFINITY)?;
    }
    let weights = dropout(&scores.f_softmax(-1, Kind::Float)?)?; // (b, n, t)
    let sums = weights.f_sum_dim_intlist(-1, true, Kind::Float)?; // (b, n, 1): not 1 where dropout changed them
    let mixed = weights.f_bmm(x)?.f_transpose(0, 1)?; // (n, b, h)
    let mixed = mixed.f_bmm(&by_head(maps.value)?.f_transpose(1, 2)?)?.f_transpose(0, 1)?; // (b, n, d)
    Ok(mixed.f_addcmul(&sums, &maps.value_bias.f_view([heads, d])?)?.f_reshape([b, 1, h])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AdapterConfig, EncoderConfig, LoraConfig, Method, Model, Version};
    use crate::model::{Pass, Rows};
    use crate::text::{TokenBatch, Tokenizer};
    use tch::Device;

    /// A classifier whose weights are large enough for attention to be far from uniform.
    fn model(method: &Method) -> Result<Model> {
        let tokenizer = Tokenizer::word_level(&["a", "b", "c", "d"])?;
        let config = EncoderConfig::tiny(tokenizer.vocab_size() as i64, 16, 12);
        let labels: Vec<String> = (0..3).map(|label| label.to_string()).collect();
        let mut model = Model::classifier(&Version::new(&config, &tokenizer, 1)?, &labels, method, 1, Device::Cpu)?;
        let mut seed = 0.0;
        for part in model.parts_mut() {
            for entry in part.theta.layout().clone().entries() {
                seed += 1.0;
                let numbers = Tensor::arange(entry.len, (Kind::Float, Device::Cpu)) * 12.9898 + seed;
                let noise = (numbers.sin() * 43758.547).frac() * 0.4;
                let value = part.theta.view(&entry.name)? + noise.view(entry.shape.as_slice());
                part.theta.set(&entry.name, &value)?;
            }
        }
        Ok(model)
    }

    fn tokens(masked: bool) -> TokenBatch {
        let input_ids = Tensor::arange(3 * 9, (Kind::Int64, Device::Cpu)).remainder(4).view([3, 9]) + 4;
        let lengths = Tensor::from_slice(&[9_i64, 4, 1]).view([3, 1]);
        let mask = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]).lt_tensor(&lengths);
        TokenBatch { input_ids, attention_mask: masked.then_some(mask), token_types: None }
    }

    fn scores_and_gradients(model: &Model, masked: bool, rows: Rows) -> Result<(Tensor, Vec<(String, Tensor)>)> {
        let (logits, _) = model.classify(&tokens(masked), Pass { rows, ..Pass::evaluation() })?;
        let loss = logits.f_log_softmax(-1, Kind::Float)?.f_select(1, 1)?.f_sum(Kind::Float)?;
        Ok((logits, model.gradients(&loss)?))
    }

    fn methods() -> [(&'static str, Method); 5] {
        let lora =
            |target: &str| Method::Lora(LoraConfig { rank: 2, targets: vec![target.into()], ..Default::default() });
        [
            ("full", Method::Full),
            ("adapter", Method::Adapter(AdapterConfig::default())),
            ("lora on query", lora("query")),
            ("lora on key", lora("key")),
            ("lora on value", lora("value")),
        ]
    }

    #[test]
    fn scores_and_gradients_are_those_of_attention_with_keys_and_values() -> Result<()> {
        for (name, method) in methods() {
            let model = model(&method)?;
            for masked in [false, true] {
                // Where all rows are asked for, every key and value is computed.
                let (plain, theirs) = scores_and_gradients(&model, masked, Rows::All)?;
                let (absorbed, ours) = scores_and_gradients(&model, masked, Rows::First)?;
                let off = f64::try_from((&absorbed - &plain).abs().max())?;
                assert!(off <= 1e-5, "{name}, masked: {masked}: scores are off by {off:.1e}");
                let largest = theirs.iter().map(|(_, g)| f64::try_from(g.abs().max()));
                let largest = largest.collect::<Result<Vec<_>, _>>()?.into_iter().fold(0.0, f64::max);
                assert!(largest > 0.1, "{name}: gradients of {largest} show nothing");
                for ((tensor, ours), (_, theirs)) in ours.iter().zip(&theirs) {
                    let off = f64::try_from((ours - theirs).abs().max())? / largest;
                    assert!(off <= 1e-5, "{name}, masked: {masked}: the gradient of {tensor} is off by {off:.1e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn only_a_key_whose_map_was_absorbed_has_a_bias_of_no_effect_at_all() -> Result<()> {
        let gradient = |rows| -> Result<f64> {
            let (_, gradients) = scores_and_gradients(&model(&Method::Full)?, true, rows)?;
            let bias = gradients.iter().find(|(name, _)| name == "roberta.encoder.layer.1.attention.self.key.bias");
            Ok(bias.map_or(Ok(f64::NAN), |(_, gradient)| f64::try_from(gradient.abs().max()))?)
        };
        assert_eq!(gradient(Rows::First)?, 0.0, "zero in theory and now in fact");
        assert!(gradient(Rows::All)? > 0.0, "rounding, which shows that the other way was taken");
        Ok(())
    }

    #[test]
    fn dropped_weights_take_their_share_of_the_value_bias_along() -> Result<()> {
        let (b, t, h, heads) = (2, 5, 8, 2);
        let random = |shape: &[i64], seed: f64| {
            let len: i64 = shape.iter().product();
            (Tensor::arange(len, (Kind::Float, Device::Cpu)) * 1.7 + seed).sin().view(shape)
        };
        let (q, x) = (random(&[b, h], 1.0), random(&[b, t, h], 2.0));
        let (key, value, value_bias) = (random(&[h, h], 3.0), random(&[h, h], 4.0), random(&[h], 5.0));
        let kept = random(&[b, heads, t], 6.0).gt(0.0).to_kind(Kind::Float) * 2.0;
        let maps = Maps { key: &key, value: &value, value_bias: &value_bias };
        let absorbed = attend(&q, &x, maps, heads, None, |weights| Ok(weights * &kept))?;

        let split = |y: Tensor| y.view([b, -1, heads, h / heads]).transpose(1, 2); // (b, n, …, d)
        let (k, v) = (split(x.linear(&key, None::<Tensor>)), split(x.linear(&value, Some(&value_bias))));
        let scores = split(q.view([b, 1, h])).matmul(&k.transpose(2, 3)) / ((h / heads) as f64).sqrt();
        let weights = scores.softmax(-1, Kind::Float) * kept.unsqueeze(2); // (b, n, 1, t)
        let plain = weights.matmul(&v).transpose(1, 2).reshape([b, 1, h]);
        let off = f64::try_from((absorbed - plain).abs().max())?;
        assert!(off <= 1e-5, "off by {off:.1e}");
        Ok(())
    }
}
