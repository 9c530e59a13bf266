//! Three things that only a build script can do:
//!
//! - The run path of libtorch, written into our own binaries and tests so that they start without `LD_LIBRARY_PATH`.
//!   Link arguments of a dependency do not reach its dependants: torch-sys tells us where libtorch lies, and we pass it on.
//! - The commit that the library was built from, in `RECYCLABLE_COMMIT`: twelve digits, with `-dirty` where its sources
//!   differ from that commit, or `unknown` where there is no git or no repository of our own.
//! - The C++ behind `native`, compiled against the headers of that libtorch.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What decides how the library behaves. The command line is left out, or every change to it would rebuild the library.
const SOURCES: [&str; 5] = ["src", ":(exclude)src/bin", "build.rs", "Cargo.toml", "Cargo.lock"];

const NATIVE: &str = "src/native";

/// What the C++ becomes, in OUT_DIR.
const NATIVE_LIBRARY: &str = "librecyclable_native.a";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").map_err(
        |_| "torch-sys does not say where libtorch lies: `make setup` installs it, LIBTORCH names its folder",
    )?;
    println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    compile_native(Path::new(&lib))?;
    println!("cargo::rustc-env=RECYCLABLE_COMMIT={}", commit().unwrap_or_else(|| "unknown".to_owned()));
    watch_commit();
    Ok(())
}

/// Compiles the C++, unless what was compiled before came from the same text and settings: the script runs at every change of
/// a source file, and the headers of libtorch take seconds to read.
fn compile_native(libtorch_lib: &Path) -> Result<(), Box<dyn Error>> {
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", "CXX", "CXXFLAGS"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    // Both as torch-sys has them.
    let include = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(parent) => PathBuf::from(parent).join("include"),
        None => libtorch_lib.with_file_name("include"),
    };
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // Another libtorch may come to lie in the same place.
    let version = std::fs::read_to_string(include.join("torch/headeronly/version.h"))?;
    let mut build = cc::Build::new();
    // Half of the compiler's time would go into what a debugger wants of the headers.
    build.cpp(true).cargo_metadata(false).debug(false);
    let compiler = build.try_get_compiler()?;
    // Not the whole command: with it come the variables of whoever builds, cargo's pipes among them.
    let (path, arguments) = (compiler.path().display(), compiler.args());
    let mut made_from = format!("{path} {arguments:?} {} {abi}\n{version}", include.display());
    made_from += &std::fs::read_to_string("build.rs")?;
    let mut files = std::fs::read_dir(NATIVE)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let ends_in = |path: &Path, end: &str| path.extension().is_some_and(|extension| extension == end);
    for file in files.iter().filter(|path| ends_in(path, "cpp") || ends_in(path, "h")) {
        made_from += &std::fs::read_to_string(file)?;
    }
    let sources = files.iter().filter(|path| ends_in(path, "cpp"));
    let stamp = out.join("native.stamp");
    // The loops of our own share libtorch's threads: those of GCC's OpenMP library, which libtorch from PyPI brings as libgomp.so.1, the
    // name that ours asks for as well, so that one is loaded. Clang would call another library: there the loops stay on one thread.
    let openmp = compiler.is_like_gnu();
    if openmp {
        build.flag("-fopenmp");
    }
    let is_made = || std::fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == made_from);
    if !is_made() {
        take_from_other_features(&out, &made_from)?;
    }
    if !is_made() {
        build
            .std("c++17")
            // The loops of our own are vectorized, sums included; NaN and infinity stay what they are.
            .opt_level(3)
            .flags([
                "-ffp-contract=fast",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-fno-signed-zeros",
                "-fassociative-math",
            ])
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
            .include(&include)
            .include(include.join("torch/csrc/api/include"))
            .warnings(false)
            .files(sources)
            .try_compile("recyclable_native")?;
        std::fs::write(stamp, made_from)?;
    }
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=recyclable_native");
    println!("cargo::rustc-link-lib=stdc++");
    if openmp {
        println!("cargo::rustc-link-lib=gomp");
    }
    Ok(())
}

/// The crate with other features (the notebooks as a program, say) has a folder of its own beside `out`, and the same C++ in it.
fn take_from_other_features(out: &Path, made_from: &str) -> Result<(), Box<dyn Error>> {
    let folders = out.ancestors().nth(2).ok_or("OUT_DIR lies in cargo's build folder")?;
    for folder in std::fs::read_dir(folders)? {
        let other = folder?.path().join("out");
        if std::fs::read_to_string(other.join("native.stamp")).is_ok_and(|stamp| stamp == made_from) {
            std::fs::copy(other.join(NATIVE_LIBRARY), out.join(NATIVE_LIBRARY))?;
            std::fs::write(out.join("native.stamp"), made_from)?;
            break;
        }
    }
    Ok(())
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
