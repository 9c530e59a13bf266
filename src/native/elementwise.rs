//! What stands between the products of a training step on the CPU, each in one pass over memory.

use std::ffi::{c_char, c_int};

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use super::made;

unsafe extern "C" {
    fn recyclable_dropout(
        x: *const C_tensor,
        bf16: c_int,
        probability: f64,
        seed: i64,
        y: *mut *mut C_tensor,
        error: *mut c_char,
        error_size: usize,
    ) -> c_int;

    fn recyclable_gelu(x: *const C_tensor, y: *mut *mut C_tensor, error: *mut c_char, error_size: usize) -> c_int;

    fn recyclable_add_norm(
        branch: *const C_tensor,
        residual: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        epsilon: f64,
        probability: f64,
        seed: i64,
        y: *mut *mut C_tensor,
        error: *mut c_char,
        error_size: usize,
    ) -> c_int;
}

/// x, fp32 or bf16, with each element zeroed with this probability and scaled by 1 / (1 − probability) otherwise, in `kind`.
///
/// Which ones, the seed decides, whatever the number of threads.
pub(crate) fn dropout(x: &Tensor, probability: f64, seed: i64, kind: Kind) -> Result<Tensor> {
    ensure!((0.0..1.0).contains(&probability), "a dropout probability of {probability} is not in [0, 1)");
    ensure!([Kind::Float, Kind::BFloat16].contains(&kind), "dropout gives fp32 or bf16, not {kind:?}");
    made("drop elements", |y, error, error_size| {
        // SAFETY: the tensor is borrowed for the call, `y` outlives it; `error` is written to within its length.
        unsafe {
            recyclable_dropout(x.as_ptr(), (kind == Kind::BFloat16).into(), probability, seed, y, error, error_size)
        }
    })
}

/// x·Φ(x) of bf16, Φ the distribution function of the normal distribution.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    made("compute GELU in bf16", |y, error, error_size| {
        // SAFETY: the tensor is borrowed for the call, `y` outlives it; `error` is written to within its length.
        unsafe { recyclable_gelu(x.as_ptr(), y, error, error_size) }
    })
}

/// A LayerNorm over the last dimension: its weight and bias, and what is added to the variance.
#[derive(Debug)]
pub(crate) struct Norm<'a> {
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub epsilon: f64,
}

/// LayerNorm(residual + dropout(branch)), in fp32. The branch may be bf16; dropout as in [`dropout`], but that a row of odd width leaves
/// out a number.
pub(crate) fn add_norm(branch: &Tensor, residual: &Tensor, norm: Norm, probability: f64, seed: i64) -> Result<Tensor> {
    ensure!((0.0..1.0).contains(&probability), "a dropout probability of {probability} is not in [0, 1)");
    made("add and normalize", |y, error, error_size| {
        // SAFETY: the tensors are borrowed for the call, `y` outlives it; `error` is written to within its length.
        unsafe {
            recyclable_add_norm(
                branch.as_ptr(),
                residual.as_ptr(),
                norm.weight.as_ptr(),
                norm.bias.as_ptr(),
                norm.epsilon,
                probability,
                seed,
                y,
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

    const PLACE: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// Numbers about −1 to 1, the same at every call: libtorch's generator belongs to all tests of the process.
    fn noise(shape: &[i64], kind: Kind) -> Tensor {
        let numbers = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu)) * 12.9898 + 1.0;
        ((numbers.sin() * 43758.547).frac() * 2.0 - (numbers * 0.7).cos()).to_kind(kind).view(shape)
    }

    fn off(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
        let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_kind(Kind::Double));
        Ok(f64::try_from((ours - &theirs).abs().max() / theirs.abs().max())?)
    }

    #[test]
    fn dropout_drops_its_share_scales_the_rest_and_goes_back_the_same_way() -> Result<()> {
        for (p, count) in [(0.1, 1_000_001), (0.5, 300_000), (0.0, 77)] {
            let x = Tensor::ones([count], PLACE).set_requires_grad(true);
            let y = dropout(&x, p, 7, Kind::Float)?;
            let dropped = f64::try_from(y.eq(0.0).sum(Kind::Double))? / count as f64;
            // Five standard deviations of a binomial share.
            assert!((dropped - p).abs() <= 5.0 * (p * (1.0 - p) / count as f64).sqrt(), "{dropped} instead of {p}");
            assert!(off(&y.masked_select(&y.gt(0.0)), &Tensor::full([1], 1.0 / (1.0 - p), PLACE))? < 1e-6);
            (&y * 3.0).sum(Kind::Float).backward();
            assert_eq!(x.grad(), &y.detach() * 3.0);
        }
        Ok(())
    }

    #[test]
    fn the_seed_alone_decides_what_is_dropped() -> Result<()> {
        let x = noise(&[3, 70, 1001], Kind::Float);
        let mask = |seed| Ok::<_, anyhow::Error>(dropout(&x.ones_like(), 0.5, seed, Kind::Float)? - 1.0);
        let (one, other) = (mask(1)?, mask(2)?);
        assert_eq!(dropout(&x, 0.5, 1, Kind::Float)?, (&one + 1.0) * &x);
        // As much alike as chance has it: ±1 each, so that a mean has a standard deviation of 1/√n. Of neighbours as well, and of
        // those that share a drawn number.
        let bound = 5.0 / (x.numel() as f64).sqrt();
        let flat = one.reshape([-1]);
        let length = flat.size()[0];
        let mut pairs = vec![(&one * &other).mean(Kind::Double)];
        for lag in [1, 2, 128, 256, 1001] {
            pairs.push((flat.narrow(0, lag, length - lag) * flat.narrow(0, 0, length - lag)).mean(Kind::Double));
        }
        for pair in pairs {
            assert!(f64::try_from(&pair)?.abs() < bound, "{pair:?}");
        }
        Ok(())
    }

    #[test]
    fn a_mask_does_not_depend_on_kinds_or_strides() -> Result<()> {
        let x = noise(&[40, 60], Kind::Float);
        let exact = dropout(&x, 0.3, 5, Kind::Float)?;
        assert_eq!(dropout(&x, 0.3, 5, Kind::BFloat16)?, exact.to_kind(Kind::BFloat16));
        let rounded = x.to_kind(Kind::BFloat16);
        assert_eq!(dropout(&rounded, 0.3, 5, Kind::Float)?.ne(0.0), exact.ne(0.0));
        assert_eq!(dropout(&x.transpose(0, 1).contiguous().transpose(0, 1), 0.3, 5, Kind::Float)?, exact);
        Ok(())
    }

    /// What `work` gives on a thread of its own that computes on this many.
    fn on_threads<R: Send>(threads: i32, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let before = tch::get_num_threads();
        let result = std::thread::scope(|scope| {
            let alone = scope.spawn(|| {
                tch::set_num_threads(threads);
                assert_eq!(tch::get_num_threads(), threads);
                work()
            });
            alone.join().expect("the work does not panic")
        });
        // The number is partly the process's.
        tch::set_num_threads(before);
        result
    }

    #[test]
    fn what_many_threads_compute_is_what_one_does() -> Result<()> {
        // Rows and numbers that do not part evenly.
        let run = || -> Result<Vec<Tensor>> {
            let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
            let branch = leaf(noise(&[1003, 129], Kind::BFloat16));
            let residual = leaf(noise(&[1003, 129], Kind::Float) * 2.0);
            let (weight, bias) = (leaf(noise(&[129], Kind::Float)), leaf(noise(&[129], Kind::Float) * 0.5));
            let norm = Norm { weight: &weight, bias: &bias, epsilon: 1e-5 };
            let (normed, curved) = (add_norm(&branch, &residual, norm, 0.1, 3)?, gelu(&branch)?);
            let dropped = dropout(&branch, 0.1, 3, Kind::Float)?;
            let loss = normed.square().sum(Kind::Float) + curved.sum(Kind::Float) + dropped.square().sum(Kind::Float);
            let gradients = Tensor::f_run_backward(&[loss], &[&branch, &residual, &weight, &bias], false, false)?;
            Ok([normed, curved, dropped].into_iter().chain(gradients).collect())
        };
        let one = on_threads(1, run)?;
        for threads in [2, 3, 5] {
            for (at, (many, one)) in on_threads(threads, run)?.iter().zip(&one).enumerate() {
                match at {
                    // Sums over rows are formed in as many parts as there are threads.
                    5.. => assert!(off(many, one)? < 1e-5, "result {at} on {threads} threads"),
                    _ => assert_eq!(many, one, "result {at} on {threads} threads"),
                }
            }
        }
        Ok(())
    }

    #[test]
    fn gelu_and_its_slope_are_right_for_every_number_of_bf16() -> Result<()> {
        let bits: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let all = Tensor::f_from_data_size(&bits, &[1 << 16], Kind::BFloat16)?;
        let finite = all.masked_select(&all.isfinite());
        let exact = finite.to_kind(Kind::Double).set_requires_grad(true);
        let x = finite.set_requires_grad(true);
        let (y, theirs) = (gelu(&x)?, exact.gelu("none"));
        y.sum(Kind::Float).backward();
        theirs.sum(Kind::Double).backward();
        for (ours, exact) in [(y, theirs), (x.grad(), exact.grad())] {
            assert_eq!(ours.kind(), Kind::BFloat16);
            // Half a unit of the last of 8 bits, and the error of the formula.
            let error = (ours.to_kind(Kind::Double) - &exact).abs() - exact.abs() * 2_f64.powi(-8) - 1e-6;
            let largest = f64::try_from(error.max())?;
            assert!(largest <= 0.0, "off by {largest:.1e} more than rounding");
        }
        assert_eq!(gelu(&x.detach())?, gelu(&x)?, "whether the slope is wanted makes no difference");
        let odd = Tensor::from_slice(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]).to_kind(Kind::BFloat16);
        let odd = odd.set_requires_grad(true);
        let y = gelu(&odd)?;
        y.sum(Kind::Float).backward();
        let [y, slope] = [y, odd.grad()].map(|tensor| Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double)));
        let (y, slope) = (y?, slope?);
        assert!(y[0].is_nan() && y[1] == f64::INFINITY && y[2].abs() < 1e-30, "{y:?}");
        assert!(slope[0].is_nan() && slope[1] == 1.0 && slope[2].abs() < 1e-30, "{slope:?}");
        Ok(())
    }

    /// The same in separate steps of libtorch.
    fn by_steps(branch: &Tensor, residual: &Tensor, norm: Norm, p: f64, seed: i64) -> Result<Tensor> {
        // A row of odd width leaves out a number.
        let width = branch.size()[branch.dim() - 1];
        let padded = branch.f_constant_pad_nd([0, width % 2])?;
        let dropped = dropout(&padded, p, seed, branch.kind())?.f_narrow(-1, 0, width)?;
        let sum = dropped.f_add(residual)?;
        Ok(sum.f_layer_norm(norm.weight.size(), Some(norm.weight), Some(norm.bias), norm.epsilon, true)?)
    }

    #[test]
    fn a_sum_with_its_norm_and_gradients_are_those_of_separate_steps() -> Result<()> {
        // The first fits into one part of a sum over rows, the second is parted where there are threads.
        for (shape, p) in
            [([2, 5, 30], 0.3), ([4, 100, 300], 0.1), ([3, 7, 33], 0.3), ([2, 7, 301], 0.1), ([3, 7, 33], 0.0)]
        {
            for (kind, least) in [(Kind::Float, 2e-6), (Kind::BFloat16, 8e-3)] {
                let leaf = |tensor: Tensor| tensor.detach().set_requires_grad(true);
                let (branch, residual) = (leaf(noise(&shape, kind)), leaf(noise(&shape, Kind::Float) * 2.0 + 0.5));
                let (weight, bias) =
                    (leaf(noise(&shape[2..], Kind::Float)), leaf(noise(&shape[2..], Kind::Float) * 0.1));
                let along = noise(&shape, Kind::Float).flip([1]);
                let run = |sum: fn(&Tensor, &Tensor, Norm, f64, i64) -> Result<Tensor>| -> Result<Vec<Tensor>> {
                    let norm = Norm { weight: &weight, bias: &bias, epsilon: 1e-5 };
                    let y = sum(&branch, &residual, norm, p, 11)?;
                    let leaves = [&branch, &residual, &weight, &bias];
                    let gradients = Tensor::f_run_backward(&[&(&y * &along).sum(Kind::Float)], &leaves, false, false)?;
                    Ok([y].into_iter().chain(gradients).collect())
                };
                for (at, (ours, theirs)) in run(add_norm)?.iter().zip(&run(by_steps)?).enumerate() {
                    assert_eq!((ours.size(), ours.kind()), (theirs.size(), theirs.kind()));
                    let off = off(ours, theirs)?;
                    assert!(off < least, "{shape:?}, {kind:?}, result {at}: off by {off:.1e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_shapes() {
        let [x, narrow, short] = [[3, 4], [3, 5], [2, 4]].map(|shape| noise(&shape, Kind::Float));
        let row = Tensor::ones([4], PLACE);
        let error = |branch: &Tensor, weight: &Tensor| {
            let norm = Norm { weight, bias: &row, epsilon: 1e-5 };
            add_norm(branch, &x, norm, 0.0, 0).unwrap_err().to_string()
        };
        assert!(error(&short, &row).contains("branch [2, 4] beside a residual [3, 4]"));
        assert!(error(&narrow, &row).contains("[3, 5]"));
        assert!(error(&x, &Tensor::ones([3], PLACE)).contains("do not fit rows of [3, 4]"));
        assert!(error(&x, &row.to_kind(Kind::Double)).contains("fp32 is needed"));
        assert!(gelu(&x).unwrap_err().to_string().contains("only bf16 on the CPU"));
        assert!(
            dropout(&x.to_kind(Kind::Int64), 0.1, 0, Kind::Float)
                .unwrap_err()
                .to_string()
                .contains("only fp32 and bf16")
        );
        assert!(dropout(&x, 1.0, 0, Kind::Float).unwrap_err().to_string().contains("not in [0, 1)"));
    }
}
