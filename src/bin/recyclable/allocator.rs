//! The allocator of the programs: mimalloc, which libtorch's memory comes from as well.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, version 3.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Freed memory is kept, and not given back after a while: the next step wants it again, and the system would have to clear it
/// first. `MIMALLOC_PURGE_DELAY` takes precedence.
pub fn keep_freed_memory() {
    // SAFETY: an option of the allocator that is linked in, which may be set at any time.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}
