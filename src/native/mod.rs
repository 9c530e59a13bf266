//! What libtorch can do and tch does not bind, and what a CPU does faster in one pass over memory, through a few lines of C++ that
//! build.rs compiles; and one call of the C library.

mod adamw;
mod elementwise;
mod linear;
mod memory;

use std::ffi::{CStr, c_char, c_int};

use anyhow::{Result, bail};
use tch::Tensor;
use torch_sys::C_tensor;

pub(crate) use adamw::{AdamWUpdate, Moved, fused_adamw};
pub(crate) use elementwise::{Norm, add_norm, dropout, gelu};
pub(crate) use linear::{Weight, bf16_linear};
pub(crate) use memory::{count_memory, peak_memory, return_freed_memory, upload};

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

/// The tensor that a call makes for us.
fn made(what: &str, call: impl FnOnce(*mut *mut C_tensor, *mut c_char, usize) -> c_int) -> Result<Tensor> {
    let mut tensor = std::ptr::null_mut();
    reporting(what, |error, error_size| call(&mut tensor, error, error_size))?;
    // SAFETY: a tensor that the call made, which nothing else owns.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}
