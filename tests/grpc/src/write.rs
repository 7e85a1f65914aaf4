//! Descriptors to one file of Rust.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::File;
use crate::prune::prune;

/// The file's text, from the `.proto` files in `folder`, which `source` carries.
pub(crate) fn rust(file: &File, source: &str, folder: &Path) -> String {
    let descriptors = protox::compile(file.protos, [folder]).unwrap_or_else(|error| panic!("{error:?}"));
    let descriptors = prune(descriptors, &file.wanted);
    let out = std::env::temp_dir().join(format!("fnscope-grpc-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("make a folder for a moment");
    let mut config = prost_build::Config::new();
    config.disable_comments(["."]).include_file("all.rs");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(&out)
        .compile_fds_with_config(descriptors, config)
        .unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut all = std::fs::read_to_string(out.join("all.rs")).expect("a file of modules");
    while let Some(at) = all.find("include!(\"") {
        let (before, rest) = all.split_at(at);
        let (name, after) = rest.split_once('"').and_then(|(_, rest)| rest.split_once('"')).expect("a name");
        let text = std::fs::read_to_string(out.join(name)).expect("a module");
        all = format!("{before}{text}{}", after.split_once(';').expect("the end of the line").1);
    }
    std::fs::remove_dir_all(&out).expect("remove that folder");
    let mut body = all.lines().filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join("\n");
    for module in file.root.split('.') {
        let inner = body.split_once(&format!("pub mod {module} {{")).expect("the outermost module").1;
        body = inner.rsplit_once('}').expect("its end").0.to_owned();
    }
    let mut text = String::new();
    let _ = writeln!(text, "//! {}.", capitalised(file.what));
    let _ = writeln!(text, "//!");
    let _ = writeln!(text, "//! Made by `tests/grpc/make` from the `.proto` files of {source} (Apache-2.0): not to be changed by hand.");
    let _ = writeln!(text, "\n{body}");
    formatted(&text)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// By rustfmt, as all files of the project.
fn formatted(text: &str) -> String {
    use std::io::Write as _;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run rustfmt");
    rustfmt.stdin.take().expect("piped").write_all(text.as_bytes()).expect("write to rustfmt");
    let output = rustfmt.wait_with_output().expect("rustfmt ends");
    assert!(output.status.success(), "rustfmt refuses what was made");
    String::from_utf8(output.stdout).expect("rustfmt prints text")
}
