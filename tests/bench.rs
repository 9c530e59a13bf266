//! `make bench` on a model so small that it takes seconds: both sides run, agree, and leave the results that are promised.
//! Needs the test environment (`make test` makes it); where there is none the tests say so, and with `CI=true` they fail.
#![cfg(feature = "cli")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use recyclable::files::read_json;
use serde_json::Value;
use support::python;

fn bench(python: &Path, arguments: &[&str], out: &Path) -> Result<Output> {
    let mut command = Command::new(python);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/bench.py"));
    command
        .args(["--binary", env!("CARGO_BIN_EXE_recyclable-speed"), "--rounds", "1", "--out"])
        .arg(out)
        .args(arguments);
    command.output().context("the benchmarks do not start")
}

#[test]
fn a_benchmark_checks_both_sides_and_writes_the_promised_fields() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let out = tempfile::tempdir()?;
    let arguments = ["--only", "tiny", "fine-tune-chemprot", "--data", "/nowhere"];
    let output = bench(&python, &arguments, out.path())?;
    let (text, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}\n{problem}");
    assert!(text.contains("check: first loss") && text.contains("check: late loss"), "{text}");

    let rows: Vec<Value> = read_json(out.path().join("results.json"))?;
    let names: Vec<&str> = rows.iter().filter_map(|row| row["job"].as_str()).collect();
    assert_eq!(names, ["fine-tune-chemprot", "fine-tune-chemprot-fp32", "tiny"]);
    let (missing, tiny) = (&rows[0], &rows[2]);
    let fields =
        ["job", "peer", "device", "ratio", "target", "higher_is_better", "n", "spread", "unit", "ours", "theirs"];
    for row in &rows {
        assert!(fields.iter().all(|field| row.get(field).is_some()), "{row}");
    }
    let number = |field: &str| tiny[field].as_f64().context(format!("{field} is no number"));
    assert!((number("ratio")? - number("ours")? / number("theirs")?).abs() < 1e-9 && number("ours")? > 0.0, "{tiny}");
    assert_eq!((&tiny["device"], &tiny["n"], &tiny["higher_is_better"]), (&"cpu".into(), &1.into(), &true.into()));
    assert_eq!(tiny["met"], number("ratio")? >= number("target")?);
    // What could not be measured says why, and has no number.
    assert!(missing["ratio"].is_null() && missing["missing"].as_str().is_some_and(|why| why.contains("/nowhere")));

    let table = std::fs::read_to_string(out.path().join("results.md"))?;
    assert!(table.contains("| tiny (fp32) | transformers-default | cpu |"), "{table}");
    Ok(())
}

#[test]
fn without_a_gpu_its_benchmarks_say_so() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    if recyclable::device::cuda_available() {
        println!("skipped: there is a CUDA device");
        return Ok(());
    }
    let out = tempfile::tempdir()?;
    let output = bench(&python, &["--gpu"], out.path())?;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no CUDA device"));
    assert!(!out.path().join("results.json").exists());
    Ok(())
}
