//! Builds the function that `fnscope demo` and the tests run in containers: one static program that is embedded into
//! fnscope itself, so that a demonstration needs neither a compiler nor a registry. See `src/functions.rs`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "deploy/functions/function.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("function");
    let mut rustc = Command::new(variable("RUSTC"));
    // Static, so that an empty image can run it; frame pointers and symbols, so that a profile can name its functions.
    rustc.args([
        "--edition",
        "2024",
        "--crate-name",
        "function",
        "--crate-type",
        "bin",
        "--target",
        &variable("TARGET"),
    ]);
    for option in [
        "opt-level=3",
        "target-feature=+crt-static",
        "force-frame-pointers=yes",
        "symbol-mangling-version=v0",
        "debuginfo=0",
        "strip=debuginfo",
        "panic=abort",
        "link-arg=-Wl,--build-id=sha1",
    ] {
        rustc.args(["-C", option]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    rustc.arg("-o").arg(&program).arg(SOURCE);
    match rustc.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("compile {SOURCE}: rustc ended with {status}"),
        Err(error) => panic!("compile {SOURCE}: start {rustc:?}: {error}"),
    }
}
