//! Linear maps in bfloat16.

use std::ffi::{c_char, c_int};

use anyhow::{Result, ensure};
use tch::Tensor;
use torch_sys::C_tensor;

use super::made;

unsafe extern "C" {
    fn recyclable_bf16_linear(
        x: *const C_tensor,
        weights: *const *const C_tensor,
        rounded_weights: *const *const C_tensor,
        weight_count: usize,
        biases: *const *const C_tensor,
        rounded_biases: *const *const C_tensor,
        bias_count: usize,
        y: *mut *mut C_tensor,
        error: *mut c_char,
        error_size: usize,
    ) -> c_int;
}

/// A tensor that enters products, and what stands for it in those of bfloat16, where it was rounded ahead.
#[derive(Debug)]
pub(crate) struct Weight {
    pub exact: Tensor,
    pub rounded: Option<Tensor>,
}

/// x·Wᵀ + b in bfloat16 of maps, with biases or without, that are stacked on each other: (…, in) to (…, Σ out). Gradients reach x in
/// its own kind, and the exact weights and biases in fp32.
pub(crate) fn bf16_linear(x: &Tensor, weights: &[&Weight], biases: &[&Weight]) -> Result<Tensor> {
    ensure!(biases.is_empty() || biases.len() == weights.len(), "{} biases for {} maps", biases.len(), weights.len());
    ensure!(!weights.is_empty() && weights.iter().all(|weight| weight.exact.dim() == 2), "a map is a matrix");
    let shapes = |of: &[&Weight]| of.iter().map(|weight| weight.exact.size()).collect::<Vec<_>>();
    let (maps, beside) = (shapes(weights), shapes(biases));
    ensure!(maps.iter().all(|map| map[1] == maps[0][1]), "maps of shapes {maps:?} do not read the same input");
    ensure!(
        maps.iter().zip(&beside).all(|(map, bias)| map[..1] == bias[..]),
        "biases {beside:?} do not fit maps {maps:?}"
    );
    let exact = |of: &[&Weight]| of.iter().map(|weight| weight.exact.as_ptr()).collect::<Vec<_>>();
    let rounded = |of: &[&Weight]| of.iter().map(|weight| Some(weight.rounded.as_ref()?.as_ptr())).collect();
    let maps = [weights, biases].map(exact);
    let rounded: [Option<Vec<_>>; 2] = [weights, biases].map(rounded);
    let rounded = rounded.each_ref().map(|list| list.as_ref().map_or(std::ptr::null(), |list| list.as_ptr()));
    made("compute a linear map in bf16", |y, error, error_size| {
        // SAFETY: the pointers come from tensors that are borrowed for the call, in lists of the lengths given, or in none; `y`
        // outlives it; `error` is written to within its length.
        unsafe {
            recyclable_bf16_linear(
                x.as_ptr(),
                maps[0].as_ptr(),
                rounded[0],
                weights.len(),
                maps[1].as_ptr(),
                rounded[1],
                biases.len(),
                y,
                error,
                error_size,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::device::devices_here;

    /// What `bf16_linear` is to compute, step by step: casts, one product of what is stacked.
    fn by_casts(x: &Tensor, weights: &[&Weight], biases: &[&Weight]) -> Result<Tensor> {
        let stacked = |parts: &[&Weight]| {
            let parts: Vec<&Tensor> = parts.iter().map(|part| &part.exact).collect();
            Ok::<_, anyhow::Error>(Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::BFloat16)?)
        };
        let bias = if biases.is_empty() { None } else { Some(stacked(biases)?) };
        Ok(x.f_to_kind(Kind::BFloat16)?.f_linear(&stacked(weights)?, bias.as_ref())?)
    }

    /// Both ways round to 8 bits what they end with, and a GPU's products what they add up on the way, too.
    const ROUNDING: f64 = 1e-2;

    /// Numbers about −1 to 1, the same at every call: libtorch's generator belongs to all tests of the process.
    fn noise(shape: &[i64], device: Device) -> Tensor {
        let numbers = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, device)) * 12.9898 + 1.0;
        ((numbers.sin() * 43758.547).frac() * 2.0 - (numbers * 0.7).cos()).to_kind(Kind::Float).view(shape)
    }

    /// Leaves that are rounded ahead into one buffer, or not.
    fn leaves(shapes: &[Vec<i64>], ahead: bool, device: Device) -> Result<Vec<Weight>> {
        let random = |shape: &Vec<i64>| (noise(shape, device) * 0.5).detach().set_requires_grad(true);
        let exact: Vec<Tensor> = shapes.iter().map(random).collect();
        let flat: Vec<Tensor> = exact.iter().map(|leaf| leaf.detach().reshape([-1]).to_kind(Kind::BFloat16)).collect();
        let flat =
            if flat.is_empty() { Tensor::zeros([0], (Kind::BFloat16, device)) } else { Tensor::f_cat(&flat, 0)? };
        let mut place = 0;
        let rounded = exact.iter().map(|leaf| {
            place += leaf.numel() as i64;
            ahead.then(|| flat.narrow(0, place - leaf.numel() as i64, leaf.numel() as i64).view(leaf.size().as_slice()))
        });
        let rounded: Vec<_> = rounded.collect();
        Ok(exact.into_iter().zip(rounded).map(|(exact, rounded)| Weight { exact, rounded }).collect())
    }

    #[test]
    fn a_bf16_map_and_its_gradients_are_those_of_casts_and_a_product() -> Result<()> {
        // The last has more columns than a GPU wants, and a number that it does not want.
        let cases: [(&[i64], bool); 4] = [(&[24], true), (&[24], false), (&[16, 16, 16], true), (&[1030], true)];
        for (device, (rows, has_biases)) in
            devices_here().into_iter().flat_map(|device| cases.map(|case| (device, case)))
        {
            for (kind, ahead) in [(Kind::Float, false), (Kind::BFloat16, false), (Kind::Float, true)] {
                let weights = leaves(&rows.iter().map(|rows| vec![*rows, 16]).collect::<Vec<_>>(), ahead, device)?;
                let biases = rows.iter().filter(|_| has_biases).map(|rows| vec![*rows]).collect::<Vec<_>>();
                let biases = leaves(&biases, ahead, device)?;
                let (weights, biases): (Vec<&Weight>, Vec<&Weight>) =
                    (weights.iter().collect(), biases.iter().collect());
                let x = noise(&[3, 5, 16], device).to_kind(kind).detach().set_requires_grad(true);
                let leaves = weights.iter().chain(&biases).map(|weight| &weight.exact);
                let leaves: Vec<&Tensor> = [&x].into_iter().chain(leaves).collect();
                let along = noise(&[3, 5, rows.iter().sum()], device).to_kind(Kind::BFloat16);
                let run = |map: fn(&Tensor, &[&Weight], &[&Weight]) -> Result<Tensor>| -> Result<Vec<Tensor>> {
                    let y = map(&x, &weights, &biases)?;
                    let gradients = Tensor::f_run_backward(&[&(&y * &along).sum(Kind::Float)], &leaves, false, false)?;
                    Ok([y].into_iter().chain(gradients).collect())
                };
                for (ours, theirs) in run(bf16_linear)?.iter().zip(&run(by_casts)?) {
                    assert_eq!((ours.size(), ours.kind()), (theirs.size(), theirs.kind()));
                    let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_kind(Kind::Double));
                    let off = f64::try_from((&ours - &theirs).norm() / theirs.norm())?;
                    assert!(off < ROUNDING, "{device:?}, {rows:?}, {kind:?}, rounded {ahead}: off by {off:.1e}");
                }
            }
        }
        Ok(())
    }

    /// Gradients in one buffer, as an optimizer has them, or each by itself.
    fn gradients_twice(
        map: fn(&Tensor, &[&Weight], &[&Weight]) -> Result<Tensor>,
        device: Device,
        flat: bool,
    ) -> Result<Tensor> {
        let weights = leaves(&[vec![16, 32], vec![16, 32]], true, device)?;
        let biases = leaves(&[vec![16], vec![16]], true, device)?;
        let all: Vec<&Tensor> = weights.iter().chain(&biases).map(|weight| &weight.exact).collect();
        let buffer = Tensor::zeros([2 * 16 * 32 + 2 * 16], (Kind::Float, device));
        let mut place = 0;
        for leaf in &all {
            leaf.sum(Kind::Float).f_backward()?;
            if flat {
                let view = buffer.narrow(0, place, leaf.numel() as i64).view(leaf.size().as_slice());
                leaf.grad().set_data(&view);
            } else {
                let _ = leaf.grad().zero_();
            }
            place += leaf.numel() as i64;
        }
        let x = noise(&[3, 5, 32], device);
        let (weights, biases): (Vec<&Weight>, Vec<&Weight>) = (weights.iter().collect(), biases.iter().collect());
        for _ in 0..2 {
            map(&x, &weights, &biases)?.square().sum(Kind::Float).f_backward()?;
        }
        let gradients: Vec<Tensor> = all.iter().map(|leaf| leaf.grad().reshape([-1])).collect();
        let gradients = Tensor::f_cat(&gradients, 0)?.to_kind(Kind::Double);
        assert!(!flat || gradients == buffer.to_kind(Kind::Double), "gradients must stay in the buffer");
        Ok(gradients)
    }

    #[test]
    fn gradients_add_up_wherever_they_lie() -> Result<()> {
        for (device, flat) in devices_here().into_iter().flat_map(|device| [true, false].map(|flat| (device, flat))) {
            let (ours, theirs) =
                (gradients_twice(bf16_linear, device, flat)?, gradients_twice(by_casts, device, flat)?);
            let off = f64::try_from((&ours - &theirs).norm() / theirs.norm())?;
            assert!(off < ROUNDING, "{device:?}, one buffer {flat}: off by {off:.1e}");
        }
        Ok(())
    }

    #[test]
    fn what_was_rounded_ahead_is_computed_with() -> Result<()> {
        for device in devices_here() {
            let weight = Weight {
                exact: Tensor::ones([2, 4], (Kind::Float, device)),
                rounded: Some(Tensor::full([2, 4], 3, (Kind::BFloat16, device))),
            };
            let y = bf16_linear(&Tensor::ones([5, 4], (Kind::Float, device)), &[&weight], &[])?;
            assert_eq!(y, Tensor::full([5, 2], 12, (Kind::BFloat16, device)));
        }
        Ok(())
    }

    #[test]
    fn of_a_stack_only_what_is_trained_gets_a_gradient() -> Result<()> {
        let x = exact(&[3, 4], false).exact;
        let (first, frozen, last) = (exact(&[16, 4], true), exact(&[16, 4], false), exact(&[16, 4], true));
        for _ in 0..2 {
            bf16_linear(&x, &[&first, &frozen, &last], &[])?.sum(Kind::Float).f_backward()?;
        }
        assert!(!frozen.exact.grad().defined());
        for trained in [first, last] {
            assert_eq!(trained.exact.grad(), Tensor::full([16, 4], 6, (Kind::Float, Device::Cpu)));
        }
        Ok(())
    }

    fn exact(shape: &[i64], trained: bool) -> Weight {
        let exact = Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(trained);
        Weight { exact, rounded: None }
    }

    #[test]
    fn what_is_frozen_has_no_gradient_and_stops_none() -> Result<()> {
        let (x, weight, bias) = (exact(&[3, 4], true).exact, exact(&[2, 4], false), exact(&[2], true));
        bf16_linear(&x, &[&weight], &[&bias])?.sum(Kind::Float).backward();
        assert!(!weight.exact.grad().defined());
        assert_eq!(x.grad(), Tensor::full([3, 4], 2, (Kind::Float, Device::Cpu)));
        assert_eq!(bias.exact.grad(), Tensor::full([2], 3, (Kind::Float, Device::Cpu)));
        let y = tch::no_grad(|| bf16_linear(&x, &[&weight], &[]))?;
        assert!(!y.requires_grad() && y.kind() == Kind::BFloat16);
        Ok(())
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        let (x, weight) = (exact(&[3, 5], false), exact(&[2, 4], false));
        let error =
            |weights: &[&Weight], biases: &[&Weight]| bf16_linear(&x.exact, weights, biases).unwrap_err().to_string();
        assert!(error(&[&weight], &[]).contains("could not compute a linear map in bf16"));
        assert!(error(&[&weight], &[&x, &x]).contains("2 biases for 1 maps"));
        assert!(error(&[], &[]).contains("a map is a matrix"));
        assert!(error(&[&weight, &x], &[]).contains("[[2, 4], [3, 5]] do not read the same input"));
        assert!(error(&[&weight], &[&exact(&[1], false)]).contains("biases [[1]] do not fit maps [[2, 4]]"));
    }
}
