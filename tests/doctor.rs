//! `recyclable doctor` as a user meets it: the program that cargo built, run from anywhere.
#![cfg(feature = "cli")]

use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;

fn recyclable(arguments: &[&str]) -> Result<Output> {
    let elsewhere = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_recyclable"));
    // The program has to find libtorch by itself, whatever cargo set for the test.
    command.args(arguments).current_dir(elsewhere.path()).env_remove("LD_LIBRARY_PATH").env_remove("LIBTORCH");
    command.output().context("the program does not start")
}

#[test]
fn doctor_describes_the_machine_as_json() -> Result<()> {
    let output = recyclable(&["doctor", "--json"])?;
    let health: Value = serde_json::from_slice(&output.stdout)?;
    let keys: Vec<&str> = health.as_object().context("not an object")?.keys().map(String::as_str).collect();
    let expected = ["cpu_features", "devices", "disk_free_mb", "memory_mb", "paths", "problems", "threads", "versions"];
    assert_eq!(keys, expected);

    assert_eq!(health["versions"]["recyclable"], env!("CARGO_PKG_VERSION"));
    let libtorch = health["versions"]["libtorch"].as_str().context("no version of libtorch")?;
    assert!(libtorch.starts_with("2.11.0"), "{libtorch}");
    let folder = health["paths"]["libtorch"].as_str().context("no folder of libtorch")?;
    assert!(std::path::Path::new(folder).join("lib").is_dir(), "{folder}");
    assert_eq!(health["devices"][0]["name"], "cpu");
    assert!(health["threads"]["libtorch"].as_u64() >= Some(1));
    assert!(health["disk_free_mb"].as_u64().is_some());
    Ok(())
}

#[test]
fn doctor_exits_with_success_exactly_when_it_lists_no_problem() -> Result<()> {
    let output = recyclable(&["doctor", "--json"])?;
    let health: Value = serde_json::from_slice(&output.stdout)?;
    let problems = health["problems"].as_array().context("no list of problems")?;
    assert_eq!(output.status.code(), Some(i32::from(!problems.is_empty())));
    for problem in problems {
        assert!(problem["what"].is_string() && problem["fix"].is_string(), "{problem}");
    }
    Ok(())
}

#[test]
fn doctor_names_the_command_that_puts_a_missing_tool_right() -> Result<()> {
    let empty = tempfile::tempdir()?;
    let output = Command::new(env!("CARGO_BIN_EXE_recyclable")).arg("doctor").env("PATH", empty.path()).output()?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("problem: no C++ compiler\n    fix: apt-get install g++\n"), "{text}");
    assert!(text.contains("problem: cargo is missing\n    fix: install Rust from https://rustup.rs\n"), "{text}");
    Ok(())
}

#[test]
fn a_wrong_call_exits_with_2_and_says_what_there_is() -> Result<()> {
    for arguments in [&["recycel"][..], &["doctor", "--jsn"], &[]] {
        let output = recyclable(arguments)?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: recyclable"), "{arguments:?}");
    }
    Ok(())
}
