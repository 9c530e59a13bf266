//! AdamW over flat vectors.

use std::ffi::{c_char, c_int};

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::reporting;

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

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

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
}
