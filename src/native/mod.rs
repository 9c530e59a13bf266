//! What libtorch can do and tch does not bind, through a few lines of C++ that build.rs compiles; and one call of the C library.

use std::ffi::{CStr, c_char, c_int};

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

unsafe extern "C" {
    fn recyclable_fused_adamw(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        means: *const *const C_tensor,
        squares: *const *const C_tensor,
        count: usize,
        step: *const C_tensor,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
        grad_scale: *const C_tensor,
        found_inf: *const C_tensor,
        error: *mut c_char,
        error_size: usize,
    ) -> c_int;

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

    fn recyclable_count_memory(error: *mut c_char, error_size: usize) -> c_int;

    fn recyclable_peak_memory(device: c_int, bytes: *mut i64, error: *mut c_char, error_size: usize) -> c_int;

    fn recyclable_upload(
        tensor: *const C_tensor,
        device: c_int,
        copy: *mut *mut C_tensor,
        error: *mut c_char,
        error_size: usize,
    ) -> c_int;
}

/// Lets the C++ write its error here, and says what libtorch could not do.
fn reporting(what: &str, call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut error: [c_char; 1024] = [0; 1024];
    if call(error.as_mut_ptr(), error.len()) != 0 {
        // SAFETY: zeroed before, and snprintf ends what it writes with a 0.
        let message = unsafe { CStr::from_ptr(error.as_ptr()) };
        bail!("libtorch could not {what}: {}", message.to_string_lossy());
    }
    Ok(())
}

/// Flat vectors of one length: what is moved, along what, and the two running means.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub parameters: &'a Tensor,
    pub gradients: &'a Tensor,
    pub mean: &'a Tensor,
    pub square: &'a Tensor,
}

/// The numbers of one update of AdamW. The tensors are scalars on the device of what is moved.
#[derive(Debug)]
pub(crate) struct AdamWUpdate<'a> {
    /// Number of the update, counted from 1.
    pub step: &'a Tensor,
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
    pub epsilon: f64,
    /// What the gradients are divided by, if anything. The quotients are left in their place.
    pub grad_scale: Option<&'a Tensor>,
    /// 1 where the update is to be left out, else 0.
    pub found_inf: &'a Tensor,
}

/// One pass over memory for the whole update: torch's fused kernel.
pub(crate) fn fused_adamw(moved: &[Moved], update: &AdamWUpdate) -> Result<()> {
    if moved.is_empty() {
        return Ok(()); // libtorch looks at the first of them
    }
    let scalars = [Some(update.step), Some(update.found_inf), update.grad_scale];
    for Moved { parameters, gradients, mean, square } in moved {
        // In all of this the kernel trusts its caller. The kinds of the other two scalars it checks itself.
        let length = parameters.numel();
        for vector in [parameters, gradients, mean, square] {
            ensure!(vector.numel() == length, "vectors of {length} and {} numbers do not fit", vector.numel());
            ensure!(vector.kind() == Kind::Float && vector.is_contiguous(), "AdamW moves contiguous vectors of fp32");
            ensure!(vector.device() == parameters.device(), "the vectors of an update lie on different devices");
        }
        for scalar in scalars.into_iter().flatten() {
            let fits = scalar.numel() == 1 && scalar.device() == parameters.device();
            ensure!(fits, "{scalar:?} is no scalar on {:?}", parameters.device());
        }
        ensure!(update.step.kind() == Kind::Float, "the number of the update is {:?}, not fp32", update.step.kind());
    }
    let pointers = |of: fn(&Moved) -> *const C_tensor| moved.iter().map(of).collect::<Vec<_>>();
    let (parameters, gradients) = (pointers(|m| m.parameters.as_ptr()), pointers(|m| m.gradients.as_ptr()));
    let (means, squares) = (pointers(|m| m.mean.as_ptr()), pointers(|m| m.square.as_ptr()));
    reporting("take the step", |error, error_size| {
        // SAFETY: the pointers come from tensors that are borrowed for the call, four lists of `moved.len()`; their lengths,
        // kinds and devices were checked above; `error` is written to within its length.
        unsafe {
            recyclable_fused_adamw(
                parameters.as_ptr(),
                gradients.as_ptr(),
                means.as_ptr(),
                squares.as_ptr(),
                moved.len(),
                update.step.as_ptr(),
                update.learning_rate,
                update.beta1,
                update.beta2,
                update.weight_decay,
                update.epsilon,
                update.grad_scale.map_or(std::ptr::null(), Tensor::as_ptr),
                update.found_inf.as_ptr(),
                error,
                error_size,
            )
        }
    })
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
    let exact = |of: &[&Weight]| of.iter().map(|weight| weight.exact.as_ptr()).collect::<Vec<_>>();
    let rounded = |of: &[&Weight]| of.iter().map(|weight| Some(weight.rounded.as_ref()?.as_ptr())).collect();
    let maps = [weights, biases].map(exact);
    let rounded: [Option<Vec<_>>; 2] = [weights, biases].map(rounded);
    let rounded = rounded.each_ref().map(|list| list.as_ref().map_or(std::ptr::null(), |list| list.as_ptr()));
    let mut y = std::ptr::null_mut();
    reporting("compute a linear map in bf16", |error, error_size| {
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
                &mut y,
                error,
                error_size,
            )
        }
    })?;
    // SAFETY: a tensor that the call made for us, which nothing else owns.
    Ok(unsafe { Tensor::from_ptr(y) })
}

/// From now on, what tensors of this thread take on the CPU is counted.
pub(crate) fn count_memory() -> Result<()> {
    reporting("count memory", |error, error_size| {
        // SAFETY: `error` is written to within its length.
        unsafe { recyclable_count_memory(error, error_size) }
    })
}

/// The most bytes that tensors took since this was last asked.
pub(crate) fn peak_memory(device: Device) -> Result<u64> {
    let (number, mut bytes) = (if let Device::Cuda(index) = device { index as c_int } else { -1 }, 0);
    reporting("say what memory tensors have taken", |error, error_size| {
        // SAFETY: `bytes` outlives the call; `error` is written to within its length.
        unsafe { recyclable_peak_memory(number, &mut bytes, error, error_size) }
    })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// `tensor` on `device`. Copies to CUDA go through pinned memory, so that the host need not wait for what the device has still
/// to do; kernels that are launched afterwards find the copy complete.
pub(crate) fn upload(tensor: &Tensor, device: Device) -> Result<Tensor> {
    let Device::Cuda(index) = device else { return Ok(tensor.f_to_device(device)?) };
    if tensor.device() != Device::Cpu {
        return Ok(tensor.f_to_device(device)?);
    }
    let mut copy = std::ptr::null_mut();
    reporting("copy a batch to the device", |error, error_size| {
        // SAFETY: the tensor is borrowed for the call, `copy` outlives it; `error` is written to within its length.
        unsafe { recyclable_upload(tensor.as_ptr(), index as c_int, &mut copy, error, error_size) }
    })?;
    // SAFETY: a tensor that the call made for us, which nothing else owns.
    Ok(unsafe { Tensor::from_ptr(copy) })
}

/// Gives freed memory back to the system, where the allocator is glibc's, which keeps most of what a long training used.
pub(crate) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> c_int;
        }
        // SAFETY: it takes the allocator's own locks and touches nothing that is in use.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::devices_here;

    fn ones(length: i64) -> Tensor {
        Tensor::ones([length], (Kind::Float, Device::Cpu))
    }

    /// One update of vectors of ones, of these lengths: parameters, gradients, and both means. Returns the parameters.
    fn update(lengths: [i64; 4], found_inf: &Tensor) -> Result<Tensor> {
        let [parameters, gradients, mean, square] = lengths.map(ones);
        let moved = Moved { parameters: &parameters, gradients: &gradients, mean: &mean, square: &square };
        let update = AdamWUpdate {
            step: &ones(1),
            learning_rate: 0.1,
            beta1: 0.5,
            beta2: 0.5,
            weight_decay: 0.5,
            epsilon: 1e-8,
            grad_scale: None,
            found_inf,
        };
        fused_adamw(&[moved], &update)?;
        Ok(parameters)
    }

    #[test]
    fn an_update_moves_the_parameters_in_place() -> Result<()> {
        // m̂ = v̂ = 1 / (1 − 0.5) = 2, so 1 − 0.1·0.5 − 0.1·2/√2.
        let expected = 1.0 - 0.05 - 0.1 * 2.0 / 2_f64.sqrt();
        let largest = f64::try_from((update([20; 4], &(ones(1) - 1.0))? - expected).abs().max())?;
        assert!(largest < 1e-6, "off by {largest}");
        Ok(())
    }

    #[test]
    fn vectors_that_do_not_fit_are_refused_before_the_kernel_reads_past_their_end() {
        for lengths in [[20, 19, 20, 20], [20, 20, 21, 20], [20, 20, 20, 0]] {
            let error = update(lengths, &ones(1)).unwrap_err().to_string();
            assert!(error.contains("do not fit"), "{error}");
        }
    }

    #[test]
    fn an_exception_of_libtorch_comes_back_as_an_error() {
        let error = update([20; 4], &ones(1).to_kind(Kind::Double)).unwrap_err().to_string();
        assert!(error.contains("could not take the step") && error.contains("Float"), "{error}");
    }

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
    }
}
