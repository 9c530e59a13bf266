//! What tensors take, and the way of a batch to the device.

use std::ffi::{c_char, c_int};

use anyhow::Result;
use tch::{Device, Tensor};
use torch_sys::C_tensor;

use super::{made, reporting};

unsafe extern "C" {
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
    made("copy a batch to the device", |copy, error, error_size| {
        // SAFETY: the tensor is borrowed for the call, `copy` outlives it; `error` is written to within its length.
        unsafe { recyclable_upload(tensor.as_ptr(), index as c_int, copy, error, error_size) }
    })
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
