//! Our side of the benchmarks, started by `benches/bench.py`, which times it against `benches/peer.py`.
//!
//! ```text
//! recyclable-speed prepare JOB/spec.json             writes what both sides start from into JOB: models, tokenizer, texts
//! recyclable-speed check   JOB/spec.json DEVICE      a few updates without dropout; leaves their batches in JOB for the peer
//! recyclable-speed work    JOB/spec.json DEVICE WAY  waits for lines "go STEPS" and answers each with one line of JSON
//! ```
//!
//! WAY is a precision, or for the path `path` or `evaluations`. A repetition always starts from the prepared weights, so that
//! every one does the same, and the losses of both sides can be compared.

#[path = "../../src/bin/recyclable/allocator.rs"]
mod allocator;
mod distil;
mod finetune;
mod job;
mod masked;
mod path;

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use recyclable::device::peak_rss_mb;
use recyclable::device::{count_cpu_memory, take_peak_memory};
use recyclable::prelude::*;
use serde_json::{Value, json};

use job::{Job, Kind, Repetition};

fn main() -> Result<()> {
    allocator::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["prepare", spec] => prepare(&Job::load(spec)?),
        ["check", spec, at] => say(&check(&Job::load(spec)?, device(at)?)?),
        ["work", spec, at, way] => work(&Job::load(spec)?, device(at)?, way),
        _ => bail!("usage: recyclable-speed prepare SPEC | check SPEC DEVICE | work SPEC DEVICE WAY"),
    }
}

fn prepare(job: &Job) -> Result<()> {
    match job.spec.kind {
        Kind::Mlm => masked::prepare(job),
        Kind::Tune => finetune::prepare(job),
        Kind::Distil => distil::prepare(job),
        Kind::Path => path::prepare(job),
    }
}

fn check(job: &Job, device: Device) -> Result<Value> {
    match job.spec.kind {
        Kind::Mlm => masked::check(job, device),
        Kind::Tune => finetune::check(job, device),
        Kind::Distil => distil::check(job, device),
        Kind::Path => bail!("both sides of the path are our own code: there is nothing to check against"),
    }
}

/// One timed repetition of so many steps.
type Repeat<'a> = Box<dyn FnMut(usize) -> Result<Repetition> + 'a>;

fn work(job: &Job, device: Device, way: &str) -> Result<()> {
    let precision = || Ok::<_, anyhow::Error>(way.parse::<Precision>()?.resolve(device));
    // What tensors take is always counted on a GPU, and on the CPU where a job asks for it.
    let counted = job.spec.counted || device.is_cuda();
    if job.spec.counted {
        count_cpu_memory()?;
    }
    let mut repeat: Repeat = match job.spec.kind {
        Kind::Mlm => masked::repeat(job, precision()?, device)?,
        Kind::Tune => finetune::repeat(job, precision()?, device)?,
        Kind::Distil => distil::repeat(job, precision()?, device)?,
        Kind::Path => path::repeat(job, way, device)?,
    };
    let precision = if job.spec.kind == Kind::Path { Precision::Fp32 } else { precision()? };
    say(&json!({
        "precision": precision,
        "threads": tch::get_num_threads(),
        "versions": {"recyclable": env!("RECYCLABLE_COMMIT")},
    }))?;
    forget_the_peak();
    if job.spec.counted {
        take_peak_memory(device)?;
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let steps = line.strip_prefix("go ").with_context(|| format!("{line:?} is not \"go STEPS\""))?;
        let Repetition { seconds, units, loss } = repeat(steps.trim().parse()?)?;
        let tensors = if counted { Some(take_peak_memory(device)? as f64 / 1e6) } else { None };
        let measured = json!({"seconds": seconds, "units": units, "loss": loss, "peak_rss_mb": peak_rss_mb(), "peak_tensors_mb": tensors});
        say(&measured)?;
    }
    Ok(())
}

/// Lets the kernel count the largest resident set anew, so that setting up does not hide what the work takes. Where it cannot,
/// the peak stays that of the whole process.
fn forget_the_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
