//! `recyclable doctor`: what this machine has, and for each thing that is wrong the command that puts it right.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Serialize;

/// The libtorch that tch 0.24 is made for; `requirements.txt` pins the same.
const LIBTORCH: &str = "2.11.0";
/// Memory that the built-in world's main job may take, and disk space that its results and a rebuild may take.
const MEMORY_MB: u64 = 1536;
const DISK_MB: u64 = 2048;
/// What libtorch computes faster with: fp32 with the first two, bf16 with the last two.
const CPU_FEATURES: [&str; 4] = ["avx2", "avx512f", "avx512_bf16", "amx_bf16"];

/// Say what this machine has, and how to put right what is wrong
#[derive(clap::Args)]
pub struct Doctor {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// The folder that results will go to (its disk is looked at)
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Exits 0 when nothing is wrong, 1 when there is a problem.
pub fn run(arguments: &Doctor) -> Result<ExitCode> {
    let health = Health::examine(&arguments.out);
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&health).context("cannot encode the findings as JSON")? + "\n",
        false => health.to_string(),
    };
    crate::print(&text)?;
    Ok(if health.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `recyclable doctor --json` prints. What could not be found out is `null`.
///
/// ```json
/// {
///   "versions": {"recyclable": "0.1.0", "commit": "0123456789ab", "libtorch": "2.11.0+cu130", "cargo": "1.95.0",
///                "rustc": "1.95.0", "cxx": "12.2.0", "python": "3.11.7"},
///   "paths": {"program": "/…/target/debug/recyclable", "libtorch": "/…/site-packages/torch",
///             "python": "/…/.venv/bin/python", "test_python": "/…/.venv-test/bin/python"},
///   "devices": [{"name": "cpu", "description": "Intel(R) Xeon(R) Processor"},
///               {"name": "cuda:0", "description": "NVIDIA H100 80GB HBM3"}],
///   "threads": {"libtorch": 2, "logical_cores": 2, "physical_cores": 2},
///   "cpu_features": ["avx2", "avx512f", "avx512_bf16", "amx_bf16"],
///   "memory_mb": {"total": 24000, "available": 22000},
///   "disk_free_mb": 70000,
///   "problems": [{"what": "cargo is missing", "fix": "install Rust from https://rustup.rs"}]
/// }
/// ```
#[derive(Serialize)]
struct Health {
    versions: Versions,
    paths: Paths,
    devices: Vec<Device>,
    threads: Threads,
    /// Those of [`CPU_FEATURES`] that the processor has.
    cpu_features: Vec<&'static str>,
    memory_mb: Option<Memory>,
    /// On the disk of the folder that results go to.
    disk_free_mb: Option<u64>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Versions {
    recyclable: &'static str,
    /// The commit that the library was built from: twelve digits, `…-dirty`, or `unknown`.
    commit: &'static str,
    libtorch: Option<String>,
    cargo: Option<String>,
    rustc: Option<String>,
    cxx: Option<String>,
    /// Of the environment that libtorch lies in.
    python: Option<String>,
}

#[derive(Serialize)]
struct Paths {
    program: Option<PathBuf>,
    /// The folder with `lib/libtorch_cpu.so` in it, as loaded by this process.
    libtorch: Option<PathBuf>,
    python: Option<PathBuf>,
    /// The interpreter that tests compare with; `make test` makes it.
    test_python: Option<PathBuf>,
}

#[derive(Serialize)]
struct Device {
    name: String,
    description: Option<String>,
}

#[derive(Serialize)]
struct Threads {
    /// Within one operation of libtorch (`OMP_NUM_THREADS`).
    libtorch: usize,
    /// Those that this process may use.
    logical_cores: usize,
    physical_cores: Option<usize>,
}

#[derive(Serialize)]
struct Memory {
    total: u64,
    available: u64,
}

#[derive(Serialize)]
struct Problem {
    what: String,
    fix: String,
}

impl Health {
    fn examine(out: &Path) -> Health {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let libtorch = libtorch_folder();
        let python = libtorch.as_deref().and_then(environment_of).map(|folder| folder.join("bin/python"));
        let mut health = Health {
            versions: Versions {
                recyclable: env!("CARGO_PKG_VERSION"),
                commit: env!("RECYCLABLE_COMMIT"),
                libtorch: libtorch.as_deref().and_then(libtorch_version),
                cargo: version_of(&["cargo", "--version"]),
                rustc: version_of(&["rustc", "--version"]),
                cxx: version_of(&["c++", "-dumpfullversion", "-dumpversion"]),
                python: python.as_ref().and_then(|python| version_of(&[&python.to_string_lossy(), "--version"])),
            },
            paths: Paths {
                program: std::env::current_exe().ok(),
                test_python: test_python(libtorch.as_deref()),
                python: python.filter(|python| python.exists()),
                libtorch,
            },
            devices: devices(&cpu),
            threads: Threads {
                libtorch: usize::try_from(tch::get_num_threads()).unwrap_or(1),
                logical_cores: std::thread::available_parallelism().map_or(1, usize::from),
                physical_cores: physical_cores(&cpu),
            },
            cpu_features: cpu_features(&cpu),
            memory_mb: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)),
            disk_free_mb: disk_free_mb(out),
            problems: Vec::new(),
        };
        health.problems = health.find_problems();
        health
    }

    fn find_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut found = |what: String, fix: &str| problems.push(Problem { what, fix: fix.to_owned() });
        let Versions { libtorch, cargo, rustc, cxx, python, .. } = &self.versions;
        match libtorch {
            None => found(
                "the version of libtorch cannot be told".to_owned(),
                "make setup (and unset LIBTORCH, if it is set)",
            ),
            Some(version) if version.split('+').next() != Some(LIBTORCH) => {
                found(format!("libtorch is {version}, {LIBTORCH} is needed"), "unset LIBTORCH; make setup build")
            }
            Some(_) => {}
        }
        for (name, version) in [("cargo", cargo), ("rustc", rustc)] {
            if version.is_none() {
                found(format!("{name} is missing"), "install Rust from https://rustup.rs");
            } else if version.as_deref().is_some_and(|version| is_older(version, env!("CARGO_PKG_RUST_VERSION"))) {
                found(
                    format!(
                        "{name} is {}, {} is needed",
                        version.as_deref().unwrap_or_default(),
                        env!("CARGO_PKG_RUST_VERSION")
                    ),
                    "rustup update stable",
                );
            }
        }
        if cxx.is_none() {
            found("no C++ compiler".to_owned(), "apt-get install g++");
        }
        if self.paths.python.is_some() && python.is_none() {
            found("the Python of libtorch's environment does not start".to_owned(), "rm -rf .venv; make setup");
        }
        if has_nvidia_driver() && self.devices.len() == 1 {
            match self.paths.libtorch.as_deref().map(|folder| folder.with_file_name("nvidia").join("cudnn").exists()) {
                Some(false) => {
                    found("there is an NVIDIA driver, but libtorch was installed without CUDA".to_owned(), "make setup")
                }
                _ => found("libtorch finds no CUDA device although there is an NVIDIA driver".to_owned(), "nvidia-smi"),
            }
        }
        let Threads { libtorch, logical_cores, .. } = self.threads;
        if libtorch > logical_cores {
            found(
                format!("libtorch would run {libtorch} threads on {logical_cores} cores, which is slow"),
                &format!("export OMP_NUM_THREADS={logical_cores}"),
            );
        }
        if let Some(free) = self.memory_mb.as_ref().map(|memory| memory.available).filter(|free| *free < MEMORY_MB) {
            found(format!("{free} MB of memory are free, the main job takes up to {MEMORY_MB}"), "end other programs");
        }
        if let Some(free) = self.disk_free_mb.filter(|free| *free < DISK_MB) {
            found(
                format!("{free} MB of disk space are free, {DISK_MB} are needed"),
                "cargo clean, or use another disk",
            );
        }
        problems
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "not found".to_owned());
        let path = |value: &Option<PathBuf>| value.as_ref().map_or("not found".to_owned(), |p| p.display().to_string());
        let Health { versions, paths, threads, .. } = self;
        writeln!(f, "recyclable   {} (commit {}), {}", versions.recyclable, versions.commit, path(&paths.program))?;
        writeln!(f, "libtorch     {}, {}", text(&versions.libtorch), path(&paths.libtorch))?;
        writeln!(f, "rust         cargo {}, rustc {}", text(&versions.cargo), text(&versions.rustc))?;
        writeln!(f, "c++          {}", text(&versions.cxx))?;
        writeln!(f, "python       {}, {}", text(&versions.python), path(&paths.python))?;
        match &paths.test_python {
            Some(python) => writeln!(f, "test python  {}", python.display())?,
            None => writeln!(f, "test python  none (only tests need it: `make test` makes it)")?,
        }
        for device in &self.devices {
            writeln!(f, "device       {}: {}", device.name, text(&device.description))?;
        }
        let physical = threads.physical_cores.map_or("unknown".to_owned(), |cores| cores.to_string());
        writeln!(
            f,
            "threads      {} in libtorch, {} logical cores, {physical} physical",
            threads.libtorch, threads.logical_cores
        )?;
        let features = if self.cpu_features.is_empty() { "none".to_owned() } else { self.cpu_features.join(" ") };
        writeln!(f, "cpu          {features} (of {})", CPU_FEATURES.join(" "))?;
        if let Some(memory) = &self.memory_mb {
            writeln!(f, "memory       {} MB free of {} MB", memory.available, memory.total)?;
        }
        if let Some(free) = self.disk_free_mb {
            writeln!(f, "disk         {free} MB free")?;
        }
        writeln!(f)?;
        if self.problems.is_empty() {
            return writeln!(f, "All well.");
        }
        for problem in &self.problems {
            writeln!(f, "problem: {}\n    fix: {}", problem.what, problem.fix)?;
        }
        Ok(())
    }
}

/// The torch folder whose library this process has loaded: what runs, not what some setting says.
fn libtorch_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).find(|path| {
        Path::new(path).file_name().is_some_and(|name| name.to_string_lossy().starts_with("libtorch_cpu."))
    })?;
    Some(Path::new(library).parent()?.parent()?.to_owned())
}

/// A Python package says its version in `version.py`, an unpacked libtorch archive in `build-version`.
fn libtorch_version(folder: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join("version.py")) {
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        return line.split(['\'', '"']).nth(1).map(str::to_owned);
    }
    let text = std::fs::read_to_string(folder.join("build-version")).ok()?;
    Some(text.trim().to_owned())
}

/// The Python environment that a folder lies in.
fn environment_of(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find(|ancestor| ancestor.join("pyvenv.cfg").exists()).map(Path::to_owned)
}

/// What `RECYCLABLE_TEST_PYTHON` names, else the environment `.venv-test` beside the one that libtorch lies in.
fn test_python(libtorch: Option<&Path>) -> Option<PathBuf> {
    let beside = || Some(environment_of(libtorch?)?.with_file_name(".venv-test").join("bin/python"));
    let named = std::env::var_os("RECYCLABLE_TEST_PYTHON").map(PathBuf::from);
    named.or_else(beside).filter(|python| python.exists())
}

/// The first word that looks like a version in what a program prints, or nothing when the program is missing or fails.
fn version_of(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

/// Compares versions number by number; what follows a number (`-nightly`) is left aside.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        text.split('.').map_while(|part| part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
    };
    numbers(version) < numbers(than)
}

fn has_nvidia_driver() -> bool {
    Path::new("/dev/nvidiactl").exists()
}

fn devices(cpu: &str) -> Vec<Device> {
    let model = field(cpu, "model name").next().map(str::to_owned);
    let mut devices = vec![Device { name: "cpu".to_owned(), description: model }];
    if recyclable::device::cuda_available() {
        let names = Command::new("nvidia-smi").args(["--query-gpu=name", "--format=csv,noheader"]).output();
        let names = names.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let mut names = names.lines().map(|line| line.trim().to_owned());
        devices.extend(
            (0..tch::Cuda::device_count())
                .map(|index| Device { name: format!("cuda:{index}"), description: names.next() }),
        );
    }
    devices
}

/// The values of a key in `/proc/cpuinfo`, one a logical core.
fn field<'a>(cpuinfo: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn physical_cores(cpuinfo: &str) -> Option<usize> {
    let cores: std::collections::BTreeSet<_> = field(cpuinfo, "physical id").zip(field(cpuinfo, "core id")).collect();
    Some(cores.len()).filter(|count| *count > 0)
}

fn cpu_features(cpuinfo: &str) -> Vec<&'static str> {
    let flags: Vec<&str> = field(cpuinfo, "flags").next().unwrap_or_default().split_whitespace().collect();
    CPU_FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect()
}

fn memory(meminfo: &str) -> Option<Memory> {
    let mb = |key| field(meminfo, key).next()?.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb / 1024);
    Some(Memory { total: mb("MemTotal")?, available: mb("MemAvailable")? })
}

/// Free space where `folder` is, or will be once it is made.
fn disk_free_mb(folder: &Path) -> Option<u64> {
    let folder = std::path::absolute(folder).ok()?;
    let existing = folder.ancestors().find(|ancestor| ancestor.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail * disk.f_frsize / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu avx2 avx512f amx_bf16x\n\n\
                           processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu avx2 avx512f\n\n\
                           processor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\nflags\t\t: fpu avx2 avx512f\n";

    #[test]
    fn two_threads_of_a_core_count_as_one_physical_core() {
        assert_eq!(physical_cores(CPUINFO), Some(2));
        assert_eq!(physical_cores(""), None);
    }

    #[test]
    fn a_feature_counts_only_by_its_whole_name() {
        assert_eq!(cpu_features(CPUINFO), ["avx2", "avx512f"]);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("1.88.0", "1.89"));
        assert!(!is_older("1.89.0", "1.89"));
        assert!(!is_older("1.100.0-nightly", "1.89"));
        assert!(is_older("0.99.0", "1.89"));
    }

    #[test]
    fn memory_is_read_in_megabytes() {
        let memory =
            memory("MemTotal:       24576000 kB\nMemAvailable:    2048000 kB\n").map(|m| (m.total, m.available));
        assert_eq!(memory, Some((24000, 2000)));
    }

    #[test]
    fn the_version_of_libtorch_is_read_from_a_package_or_an_archive() -> Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(libtorch_version(folder.path()), None);
        std::fs::write(folder.path().join("build-version"), "2.11.0+cpu\n")?;
        assert_eq!(libtorch_version(folder.path()).as_deref(), Some("2.11.0+cpu"));
        std::fs::write(
            folder.path().join("version.py"),
            "from typing import Optional\n__version__ = '2.11.0+cu130'\n",
        )?;
        assert_eq!(libtorch_version(folder.path()).as_deref(), Some("2.11.0+cu130"));
        Ok(())
    }

    #[test]
    fn disk_space_is_told_for_a_folder_that_is_still_to_be_made() -> Result<()> {
        let folder = tempfile::tempdir()?;
        assert!(disk_free_mb(&folder.path().join("not/yet")).is_some());
        Ok(())
    }
}
