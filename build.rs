//! Two things that only a build script can know:
//!
//! - The run path of libtorch, written into our own binaries and tests so that they start without `LD_LIBRARY_PATH`.
//!   Link arguments of a dependency do not reach its dependants: torch-sys tells us where libtorch lies, and we pass it on.
//! - The commit that the library was built from, in `RECYCLABLE_COMMIT`: twelve digits, with `-dirty` where its sources
//!   differ from that commit, or `unknown` where there is no git or no repository of our own.

use std::path::Path;
use std::process::Command;

/// What decides how the library behaves. The command line is left out, or every change to it would rebuild the library.
const SOURCES: [&str; 5] = ["src", ":(exclude)src/bin", "build.rs", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
    println!("cargo::rustc-env=RECYCLABLE_COMMIT={}", commit().unwrap_or_else(|| "unknown".to_owned()));
    watch_commit();
}

fn commit() -> Option<String> {
    // A copy of the crate inside someone else's repository must not claim that repository's commit.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = git(&[&["--no-optional-locks", "status", "--porcelain", "--"][..], &SOURCES[..]].concat())?;
    Some(if status.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// Asks to be run again when the commit or the library's sources change. Cargo runs a script at every build when a
/// watched file is missing, so only what is there is named.
fn watch_commit() {
    let mut watched: Vec<String> = ["Cargo.toml", "Cargo.lock"].map(str::to_owned).into();
    if let Ok(entries) = std::fs::read_dir("src") {
        watched.extend(entries.flatten().filter(|e| e.file_name() != "bin").map(|e| e.path().display().to_string()));
    }
    watched.extend(["HEAD", "logs/HEAD"].iter().filter_map(|name| git(&["rev-parse", "--git-path", name])));
    for path in watched.iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What `git` prints in the crate's folder, or nothing when it is missing or fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
