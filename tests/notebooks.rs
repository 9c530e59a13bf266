//! The notebooks as their readers meet them: on the real kernel through Jupyter, in a browser, in the plain REPL, as HTML
//! and as one program. All of it is slow and needs `.venv-notebooks` (`make notebooks-setup`); where that is missing these
//! tests say so, and with `CI=true` they fail.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

/// One at a time: each of these tests wants every core, and two would disturb each other's times.
static TURN: Mutex<()> = Mutex::new(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has Jupyter. Where there is none, prints why and returns nothing; with `CI=true` that is an error.
fn python() -> Result<Option<PathBuf>> {
    let python = root().join(".venv-notebooks/bin/python");
    if root().join(".venv-notebooks/evcxr/warm/.key").exists() && python.exists() {
        return Ok(Some(python));
    }
    let reason = "the notebooks' environment .venv-notebooks is missing: `make notebooks-setup` makes it";
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        bail!("{reason}");
    }
    println!("skipped: {reason}");
    Ok(None)
}

/// Runs a command, and says how long it took where that is not captured: `scripts/test_times.py` lists it.
fn succeed(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    writeln!(std::io::stderr(), "took {:.1} s: {what}", started.elapsed().as_secs_f64())?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Runs a script of ours with Jupyter's Python, where there is one.
fn run(script: &str, arguments: &[&str]) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(python) = python()? else { return Ok(()) };
    let what = format!("{script} {}", arguments.join(" "));
    succeed(&what, Command::new(python).arg(root().join(script)).args(arguments).current_dir(root()))
}

#[test]
#[ignore = "slow: runs every notebook"]
fn every_cell_and_solution_runs_and_shows_what_it_promises() -> Result<()> {
    run("tests/notebooks.py", &["run"])
}

#[test]
#[ignore = "needs .venv-notebooks"]
fn saved_outputs_belong_to_the_code_beside_them() -> Result<()> {
    run("scripts/notebook_tool.py", &["check"])
}

#[test]
#[ignore = "slow: starts two kernels"]
fn two_notebooks_can_be_open_at_once() -> Result<()> {
    run("tests/notebooks.py", &["together"])
}

#[test]
#[ignore = "slow: runs the first cells"]
fn the_plain_repl_shows_text() -> Result<()> {
    run("tests/notebooks.py", &["repl"])
}

#[test]
#[ignore = "slow: starts a kernel"]
fn a_python_notebook_runs_rust_cells_and_shows_their_figures() -> Result<()> {
    run("tests/notebooks.py", &["magic"])
}

#[test]
#[ignore = "slow: runs two notebooks in a browser"]
fn jupyterlab_shows_figures_and_tables_in_a_browser() -> Result<()> {
    run("tests/jupyterlab_browser.py", &[])
}

#[test]
#[ignore = "slow: converts every notebook"]
fn every_notebook_becomes_html_with_its_figures() -> Result<()> {
    run("scripts/notebook_tool.py", &["html", "target/notebooks-html"])
}

#[test]
#[ignore = "needs .venv-notebooks"]
fn damaged_outputs_are_found_and_cells_taken_apart() -> Result<()> {
    run("tests/notebooks.py", &["parts"])
}

#[test]
#[ignore = "slow: compiles and runs every notebook as a program"]
fn the_notebooks_run_as_one_program_without_jupyter() -> Result<()> {
    run("scripts/notebook_tool.py", &["program"])?;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if python()?.is_none() {
        return Ok(());
    }
    // The target directory that this test was compiled into, so that nothing is compiled twice.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target directory")?;
    let manifest = root().join("target/notebooks_as_program/Cargo.toml");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let arguments =
        [OsStr::new("build"), OsStr::new("--manifest-path"), manifest.as_os_str(), OsStr::new("--target-dir")];
    succeed("cargo build of notebooks_as_program", cargo.args(arguments).arg(target).current_dir(root()))?;

    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("notebooks"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ipynb") {
            names.push(path.file_stem().context("a name")?.to_owned());
        }
    }
    names.sort();
    // Two at once, as in tests/notebooks.py: their products are small, and gain little from a second core.
    let cores = std::thread::available_parallelism()?.get();
    let names = Mutex::new(names.into_iter());
    let work = || -> Result<()> {
        loop {
            let next = names.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(name) = next else { return Ok(()) };
            let mut program = Command::new(target.join("debug/notebooks_as_program"));
            program
                .arg(&name)
                .current_dir(root().join("notebooks"))
                .env("OMP_NUM_THREADS", (cores / 2).max(1).to_string());
            program.env("RECYCLABLE_FAST", "1").env("RECYCLABLE_STRICT", "1").env("RECYCLABLE_DEVICE", "cpu");
            succeed(&format!("notebooks_as_program {}", name.display()), &mut program)?;
        }
    };
    std::thread::scope(|scope| {
        let two = [scope.spawn(work), scope.spawn(work)];
        two.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
