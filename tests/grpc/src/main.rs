//! Makes Rust of the parts of containerd's API and of the CRI that are used, from the `.proto` files that
//! `containerd-client` and `k8s-cri` carry. `--check` says instead what is out of date.
//!
//! Only methods that are named here are made, and the messages that they reach. Fields that nobody reads are left out:
//! prost passes over them on the wire.

mod packages;
mod prune;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use prune::Wanted;

/// A file to make.
struct File {
    /// Where, from the root of the project.
    path: &'static str,
    /// What it is, for its header.
    what: &'static str,
    /// The package that carries the `.proto` files, and the folder in it.
    package: (&'static str, &'static str),
    /// The `.proto` files.
    protos: &'static [&'static str],
    /// The outermost protobuf package, which the file itself stands for.
    root: &'static str,
    wanted: Wanted,
}

const CRI: (&str, &str) = ("k8s-cri", "proto");

const FILES: &[File] = &[
    File {
        path: "src/runtime/grpc/containerd.rs",
        what: "containerd's API, as far as it is used",
        package: ("containerd-client", "vendor"),
        protos: &[
            "github.com/containerd/containerd/api/services/containers/v1/containers.proto",
            "github.com/containerd/containerd/api/services/content/v1/content.proto",
            "github.com/containerd/containerd/api/services/events/v1/events.proto",
            "github.com/containerd/containerd/api/services/images/v1/images.proto",
            "github.com/containerd/containerd/api/services/namespaces/v1/namespace.proto",
            "github.com/containerd/containerd/api/services/tasks/v1/tasks.proto",
            "github.com/containerd/containerd/api/services/version/v1/version.proto",
            "github.com/containerd/containerd/api/events/container.proto",
            "github.com/containerd/containerd/api/events/task.proto",
        ],
        root: "containerd",
        wanted: Wanted {
            methods: &[
                ("Containers", &["Get", "ListStream"]),
                ("Content", &["Read"]),
                ("Events", &["Subscribe"]),
                ("Images", &["Get"]),
                ("Namespaces", &["List"]),
                ("Tasks", &["Get", "List"]),
                ("Version", &["Version"]),
            ],
            messages: &[
                ".containerd.events.ContainerCreate",
                ".containerd.events.ContainerDelete",
                ".containerd.events.ContainerUpdate",
                ".containerd.events.TaskCreate",
                ".containerd.events.TaskDelete",
                ".containerd.events.TaskExit",
                ".containerd.events.TaskOOM",
                ".containerd.events.TaskPaused",
                ".containerd.events.TaskResumed",
                ".containerd.events.TaskStart",
            ],
            without: &[
                ".containerd.events.TaskCreate.io",
                ".containerd.events.TaskCreate.rootfs",
            ],
        },
    },
    File {
        path: "src/runtime/grpc/cri.rs",
        what: "the CRI, as far as it is used",
        package: CRI,
        protos: &["v1.proto"],
        root: "runtime.v1",
        wanted: Wanted {
            methods: &[
                (
                    "RuntimeService",
                    &[
                        "Version",
                        "ListPodSandbox",
                        "PodSandboxStatus",
                        "ListContainers",
                        "ContainerStatus",
                        "GetContainerEvents",
                    ],
                ),
                ("ImageService", &["ImageStatus"]),
            ],
            messages: &[],
            without: &[
                ".runtime.v1.ContainerStatus.mounts",
                ".runtime.v1.ContainerStatus.resources",
                ".runtime.v1.ContainerStatus.user",
                ".runtime.v1.Image.spec",
            ],
        },
    },
    File {
        path: "tests/grpc/made/cri.rs",
        what: "the CRI as a kubelet calls it: pods and containers are made and ended by it in tests",
        package: CRI,
        protos: &["v1.proto"],
        root: "runtime.v1",
        wanted: Wanted {
            methods: &[
                (
                    "RuntimeService",
                    &[
                        "Version",
                        "RunPodSandbox",
                        "StopPodSandbox",
                        "RemovePodSandbox",
                        "PodSandboxStatus",
                        "ListPodSandbox",
                        "CreateContainer",
                        "StartContainer",
                        "StopContainer",
                        "RemoveContainer",
                        "ListContainers",
                        "ContainerStatus",
                        "GetContainerEvents",
                        "Status",
                    ],
                ),
                ("ImageService", &["ListImages", "ImageStatus"]),
            ],
            messages: &[],
            without: &[],
        },
    },
];

fn main() -> ExitCode {
    let check = std::env::args().nth(1).is_some_and(|argument| argument == "--check");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    let packages = packages::folders(here);
    let mut stale = Vec::new();
    for file in FILES {
        let (package, folder) = file.package;
        let (version, place) = packages.get(package).unwrap_or_else(|| panic!("cargo knows no {package}"));
        let text = write::rust(file, &format!("{package} {version}"), &place.join(folder));
        let path: PathBuf = root.join(file.path);
        if check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                stale.push(file.path);
            }
        } else {
            std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("make its folder");
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("write {}: {error}", file.path));
            println!("{}", file.path);
        }
    }
    if stale.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("out of date: {}; run tests/grpc/make", stale.join(", "));
    ExitCode::FAILURE
}
