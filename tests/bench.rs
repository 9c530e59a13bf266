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
    let arguments = ["--only", "tiny", "tiny-path", "fine-tune-chemprot", "--data", "/nowhere"];
    let output = bench(&python, &arguments, out.path())?;
    let (text, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}\n{problem}");
    assert!(text.contains("check: first loss") && text.contains("check: late loss"), "{text}");

    let rows: Vec<Value> = read_json(out.path().join("results.json"))?;
    let names: Vec<&str> = rows.iter().filter_map(|row| row["job"].as_str()).collect();
    assert_eq!(names, ["fine-tune-chemprot", "fine-tune-chemprot-fp32", "tiny", "tiny-path"]);
    let (missing, tiny) = (&rows[0], &rows[2]);
    let fields = [
        "job",
        "peer",
        "device",
        "ratio",
        "target",
        "higher_is_better",
        "n",
        "spread",
        "unit",
        "ours",
        "theirs",
        "steps",
    ];
    for row in &rows {
        assert!(fields.iter().all(|field| row.get(field).is_some()), "{row}");
    }
    let number = |field: &str| tiny[field].as_f64().context(format!("{field} is no number"));
    assert!((number("ratio")? - number("ours")? / number("theirs")?).abs() < 1e-9 && number("ours")? > 0.0, "{tiny}");
    assert_eq!((&tiny["device"], &tiny["n"], &tiny["higher_is_better"]), (&"cpu".into(), &1.into(), &true.into()));
    assert_eq!(tiny["met"], number("ratio")? >= number("target")?);
    let falls: Vec<f64> = serde_json::from_value(tiny["falls"].clone())?;
    assert!(falls.len() == 2 && falls.iter().all(|fall| *fall > 0.0), "{tiny}");
    // What could not be measured says why, and has no number.
    assert!(missing["ratio"].is_null() && missing["missing"].as_str().is_some_and(|why| why.contains("/nowhere")));

    let table = std::fs::read_to_string(out.path().join("results.md"))?;
    assert!(table.contains("| tiny (fp32) | transformers-default | cpu |"), "{table}");
    Ok(())
}

/// Prepares a job, then has both sides checked, the peer with another learning rate; and compares two falls of the loss.
const OTHER_WORK: &str = r#"
import json, pathlib, sys
benches, binary, folder = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(benches))
import bench
job = next(job for job in bench.JOBS if job.name == "tiny-distil")
ours, theirs = bench.sides(binary, "cpu")
spec = folder / "spec.json"
spec.write_text(json.dumps(job.spec))
ours.run(job, folder, "prepare", str(spec))

class Hasty(bench.Side):
    def run(self, *arguments):
        spec.write_text(json.dumps(job.spec | dict(learning_rate=2 * job.spec["learning_rate"])))
        return super().run(*arguments)

def refused(work):
    try:
        work()
    except bench.Failed as problem:
        print("refused:", problem)

refused(lambda: bench.check(job, folder, ours, Hasty(theirs.program)))
# Near the logarithm of 8192: the losses are 3 % apart, but one side learns half as much; 7 %, and it learns nothing.
refused(lambda: bench.compare_falls(job.rows[0], (9.01, 9.01), (8.71, 8.45), 0.15))
refused(lambda: bench.compare_falls(job.rows[0], (9.01, 9.01), (9.02, 8.45), 0.15))
# Where the peer's own repetitions differ by more than they learn, so may the two sides.
bench.compare_falls(job.rows[0], (0.693, 0.693), (0.690, 0.688), 0.15, 0.003)
print("falls:", bench.compare_falls(job.rows[0], (9.0, 9.0), (8.5, 8.45), 0.15))
"#;

#[test]
fn a_benchmark_refuses_sides_that_do_not_do_the_same() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(python);
    command.args(["-B", "-c", OTHER_WORK]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches"));
    let output = command.arg(env!("CARGO_BIN_EXE_recyclable-speed")).arg(folder.path()).output()?;
    let (text, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}\n{problem}");
    let refused: Vec<&str> = text.lines().filter(|line| line.starts_with("refused:")).collect();
    let [work, slower, nothing] = refused[..] else { anyhow::bail!("three refusals were due: {text}") };
    // The first update starts from the same weights; what it does to them differs.
    assert!(work.contains("do not compute the same: early losses"), "{work}");
    assert!([slower, nothing].iter().all(|line| line.contains("do not learn alike")), "{text}");
    assert!(text.contains("falls: [0.5,"), "{text}");
    Ok(())
}

#[test]
fn a_quick_look_does_not_replace_the_results_of_whole_runs() -> Result<()> {
    let Some(python) = python()? else { return Ok(()) };
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let output = bench(&python, &["--only", "tiny"], &benches)?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("give --out for a quick look"));
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
