//! Where cargo keeps the sources of the packages that this one depends on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Version and folder of each package, by its name.
pub(crate) fn folders(project: &Path) -> HashMap<String, (String, PathBuf)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(project)
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |package: &Value, key: &str| package[key].as_str().expect("text").to_owned();
    let entry = |package: &Value| {
        let folder = Path::new(&text(package, "manifest_path")).parent().expect("in a folder").to_owned();
        (text(package, "name"), (text(package, "version"), folder))
    };
    packages.iter().map(entry).collect()
}
