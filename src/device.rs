//! Where and how precisely the numbers are computed.

use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

/// Whether a CUDA device can be used. Loads libtorch's CUDA half first: the linker drops it from programs that never call it
/// by name, and a program without it reports no GPU even where there is one.
pub fn cuda_available() -> bool {
    load_cuda();
    Cuda::is_available()
}

/// The device named by `"cpu"`, `"cuda"`, `"cuda:1"` or `"auto"` (CUDA when it is there).
pub fn device(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if !cuda_available() => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        _ => match name.strip_prefix("cuda:").map(str::parse::<usize>) {
            Some(Ok(index)) => index,
            _ => bail!("no device is named {name:?}: use cpu, cuda, cuda:N or auto"),
        },
    };
    if !cuda_available() {
        bail!("device {name:?} was asked for, but libtorch finds no CUDA device: `recyclable doctor` says why");
    }
    let devices = Cuda::device_count();
    if index as i64 >= devices {
        bail!("device {name:?} was asked for, but there are {devices} CUDA devices (numbered from 0)");
    }
    Ok(Device::Cuda(index))
}

/// What the environment variable `RECYCLABLE_DEVICE` asks for; the CPU when it is not set.
pub fn default_device() -> Result<Device> {
    device(std::env::var("RECYCLABLE_DEVICE").as_deref().unwrap_or("cpu"))
}

/// A short name for reports: `cpu` or `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_string(),
    }
}

/// Counts from now on what tensors take on the CPU that this thread makes and frees, or autograd for it: one that another thread
/// frees stays counted. It is paid for at every allocation, so it is for measuring. A CUDA device always counts.
pub fn count_cpu_memory() -> Result<()> {
    crate::native::count_memory()
}

/// The most bytes that tensors took on a device since this was last asked, whatever an allocator keeps beside them. On the CPU it
/// is what tensors that came after [`count_cpu_memory`] took, without it 0.
///
/// # Errors
/// When nothing was computed on that CUDA device yet.
pub fn take_peak_memory(device: Device) -> Result<u64> {
    crate::native::peak_memory(device)
}

fn load_cuda() {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        use std::sync::Once;
        static LOADED: Once = Once::new();
        LOADED.call_once(|| {
            // SAFETY: libtorch_cuda only registers its kernels when loaded; it stays loaded for good.
            if let Ok(library) = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
                std::mem::forget(library);
            }
        });
    }
}

/// The numbers matrix products are computed in. Weights, optimizer and losses stay in `f32` whatever is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point throughout.
    #[default]
    Fp32,
    /// Matrix products in bfloat16. On the CPU some attention stays in `f32`: that of evaluation, that of training without dropout
    /// beyond 128 tokens, and that of `<s>` alone where its keys and values need not be computed.
    Bf16,
    /// `bf16` on CUDA, and on a CPU that computes it natively and multiplies faster in it: measured once a process. Else `fp32`.
    Auto,
}

impl Precision {
    /// What this becomes on `device`: never `Auto`.
    pub fn resolve(self, device: Device) -> Precision {
        match (self, device) {
            (Precision::Auto, Device::Cuda(_)) => Precision::Bf16,
            (Precision::Auto, _) if bf16_is_faster() => Precision::Bf16,
            (Precision::Auto, _) => Precision::Fp32,
            (chosen, _) => chosen,
        }
    }

    /// The kind of the tensors that enter a matrix product.
    pub(crate) fn kind(self, device: Device) -> Kind {
        match self.resolve(device) {
            Precision::Bf16 => Kind::BFloat16,
            _ => Kind::Float,
        }
    }
}

impl FromStr for Precision {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Precision> {
        match name {
            "fp32" => Ok(Precision::Fp32),
            "bf16" => Ok(Precision::Bf16),
            "auto" => Ok(Precision::Auto),
            _ => bail!("no precision is named {name:?}: use fp32, bf16 or auto"),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        })
    }
}

impl crate::display::Show for Precision {
    fn show(&self) -> Result<crate::display::Bundle> {
        Ok(crate::display::Bundle::new().text(self.to_string()))
    }
}

crate::displayable!(notebook: Precision);

/// Whether a product takes clearly less time in bfloat16. A processor may know the format (AVX512-BF16) and still be slower in it
/// than in `f32`; with AMX it is several times faster.
fn bf16_is_faster() -> bool {
    use std::sync::OnceLock;
    static FASTER: OnceLock<bool> = OnceLock::new();
    *FASTER.get_or_init(|| cpu_has_bf16() && tch::no_grad(bf16_gains).is_ok_and(|gain| gain > 1.2))
}

/// How many times as long a product takes in `f32` as in bfloat16: the shape is that of a small encoder's feed-forward map.
fn bf16_gains() -> Result<f64> {
    let [x, w] = [[1024, 384], [1536, 384]].map(|shape| Tensor::f_ones(shape, (Kind::Float, Device::Cpu)));
    let (x, w) = (x?, w?);
    let best = |kind: Kind| -> Result<f64> {
        let (x, w) = (x.f_to_kind(kind)?, w.f_to_kind(kind)?);
        let mut best = f64::INFINITY;
        // The first one compiles a program for its shape.
        for round in 0..6 {
            let clock = std::time::Instant::now();
            let _ = x.f_linear(&w, None::<&Tensor>)?;
            if round > 0 {
                best = best.min(clock.elapsed().as_secs_f64());
            }
        }
        Ok(best)
    };
    Ok(best(Kind::Float)? / best(Kind::BFloat16)?)
}

fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The largest resident set of this process so far, in MB (10⁶ bytes); `None` where `/proc/self/status` does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

/// Processor, cores and memory as far as Linux tells, otherwise operating system and architecture.
pub fn machine() -> String {
    let line = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let value = text.lines().find(|line| line.starts_with(key))?.split_once(':')?.1.trim().to_owned();
        Some(value)
    };
    let processor = line("/proc/cpuinfo", "model name")
        .unwrap_or_else(|| format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = line("/proc/meminfo", "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let memory = memory.map_or(String::new(), |kibibytes| format!(", {:.0} GB memory", kibibytes * 1024.0 / 1e9));
    format!("{processor}, {cores} logical cores{memory}")
}

/// The CPU, and a CUDA device where there is one: what both have to pass.
#[cfg(test)]
pub(crate) fn devices_here() -> Vec<Device> {
    [Device::Cpu].into_iter().chain(cuda_available().then_some(Device::Cuda(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_some_memory() {
        assert!(peak_rss_mb().is_some_and(|mb| mb > 1.0));
    }

    #[test]
    fn unknown_devices_and_precisions_are_refused_with_the_choices() {
        assert!(device("tpu").unwrap_err().to_string().contains("cpu, cuda, cuda:N or auto"));
        assert!("fp8".parse::<Precision>().unwrap_err().to_string().contains("fp32, bf16 or auto"));
        assert_eq!(device("cpu").unwrap(), Device::Cpu);
    }

    #[test]
    fn auto_always_becomes_something_definite() {
        assert_ne!(Precision::Auto.resolve(Device::Cpu), Precision::Auto);
        assert_eq!(Precision::Fp32.resolve(Device::Cuda(0)), Precision::Fp32);
    }
}
