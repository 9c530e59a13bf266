//! Where a run computes.

use tch::Device;

/// Device and threads of a run.
#[derive(Clone, Copy, Debug)]
pub struct Compute {
    /// The CPU or a GPU.
    pub device: Device,
    /// Threads in all. Small models fill one core each, so on the CPU runs stand side by side on a thread each.
    pub threads: usize,
}
