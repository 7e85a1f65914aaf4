//! Images of files, as archives in the form of `docker save`: one layer, no parent, nothing but the files.
//!
//! Not here: importing them.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Writes an archive of image `name` to `archive`. `files` are programs, by their paths from the image's root.
pub fn pack(archive: &Path, name: &str, entrypoint: &[&str], files: &[(&str, &[u8])]) {
    pack_labelled(archive, name, entrypoint, files, &[]);
}

/// The same for an image that carries `labels`.
pub fn pack_labelled(
    archive: &Path,
    name: &str,
    entrypoint: &[&str],
    files: &[(&str, &[u8])],
    labels: &[(&str, &str)],
) {
    let labels: HashMap<&str, &str> = labels.iter().copied().collect();
    let dir = tempfile::tempdir().expect("make a directory");
    let root = dir.path().join("root");
    // Runtimes mount over these, and make them where they are missing.
    for mount in ["proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(mount)).expect("make a directory");
    }
    for (path, program) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it lies in a directory")).expect("make a directory");
        fs::write(&path, program).expect("write a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
    }
    let image = dir.path().join("image");
    fs::create_dir(&image).expect("make a directory");
    let layer = image.join("layer.tar");
    tar(&root, &layer);
    let layer = hash(&fs::read(&layer).expect("read the layer"));
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created_by": "fnscope's tests"}],
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hash(config.as_bytes()));
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(image.join(&config_name), config).expect("write the image's configuration");
    fs::write(image.join("manifest.json"), manifest.to_string()).expect("write the manifest");
    tar(&image, archive);
}

/// Packs all that is in `dir`.
fn tar(dir: &Path, archive: &Path) {
    let names = fs::read_dir(dir).expect("list what is packed").flatten().map(|entry| entry.file_name());
    let packed = Command::new("tar").arg("-C").arg(dir).arg("-cf").arg(archive).args(names).status();
    assert!(packed.expect("run tar").success(), "pack {}", dir.display());
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
