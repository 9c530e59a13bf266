//! Writes the run path of libtorch into our own binaries and tests, so that they start without
//! `LD_LIBRARY_PATH`. Link arguments of a dependency do not reach its dependants: torch-sys tells
//! us where libtorch lies, and we pass it on.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
