//! What a container is as far as its host alone shows it: no runtime is asked, no socket opened. Pure: evidence in, a
//! [`Container`](crate::model::Container) out, and where each thing of it is known from.
//!
//! | file | what |
//! |---|---|
//! | [`mod@conclude`] | all evidence of one container to one answer; how sure that is |
//! | [`mountinfo`] | `/proc/PID/mountinfo`: whose network files it has, its pod, its name in it |
//! | [`parent`] | the command line of the process above it: containerd's shim, conmon |
//! | [`bundle`] | the `config.json` that the runtime was started with, cut to what identity reads |
//! | [`logs`] | names of files and folders that the kubelet makes for logs |
//! | [`source`] | which kinds of evidence there are, and what each is for |
//!
//! Not here: reading any of it (`agent/discovery`), which function a container is (identity), what a cgroup's path tells
//! (`cgroup/place`). Labels of pods are in none of it but where CRI-O has written them down, and there they are a guess; so
//! what is found is less than what a runtime says: whoever asks one afterwards believes that instead.

pub mod bundle;
pub mod conclude;
#[cfg(test)]
mod conclude_tests;
pub mod logs;
pub mod mountinfo;
pub mod parent;
pub mod source;

pub use bundle::{Bundle, Writer};
pub use conclude::{Discovered, Evidence, conclude};
pub use logs::LogNames;
pub use mountinfo::Mounts;
pub use parent::Parent;
pub use source::Source;

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// Whether `text` is a container's id as all runtimes but plain containerd write it.
fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `text` is a name that Kubernetes lets a pod, a namespace or a container have.
fn is_kubernetes_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 253
        && text.bytes().all(allowed)
        && ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
}

/// Whether `text` is a pod's uid: a UUID of pods that came by the API, 32 hexadecimal digits of static ones.
fn is_pod_uid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = text.bytes().filter(|b| *b == b'-').count();
    digits == 32 && digits + dashes == text.len() && matches!(dashes, 0 | 4)
}
