//! What a verbose answer of the CRI carries beside its messages: a JSON text of the runtime's own, under the key `info`.
//!
//! containerd and CRI-O write the same members of what is read here; others write none, and nothing is missed but the
//! environment and the process. The text holds the whole environment: it is cut to what rules read by whoever makes a
//! container of it, and never logged. Pure.

use std::collections::HashMap;

use serde::Deserialize;
use thiserror::Error;

use crate::model::Pid;

/// Longest text in bytes that is looked at. An environment may have some megabytes.
pub const MAX_BYTES: usize = 8 << 20;

/// What is read of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// The first process; none of a container that does not run.
    pub pid: Option<Pid>,
    /// The id of the pod's sandbox.
    pub sandbox: Option<String>,
    /// What runs it: `io.containerd.kata.v2`.
    pub runtime_type: Option<String>,
    /// The environment of its first process.
    pub env: Vec<String>,
    /// The annotations of its OCI specification, in order of name.
    pub annotations: Vec<(String, String)>,
}

/// Why nothing is read.
#[derive(Debug, Error)]
pub enum InfoError {
    /// Longer than [`MAX_BYTES`].
    #[error("{0} bytes are more than the {MAX_BYTES} that are read")]
    TooLong(usize),
    /// Not JSON, or with members of another kind.
    #[error("not the JSON that was expected: {0}")]
    NotJson(#[from] serde_json::Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    pid: Option<i64>,
    #[serde(alias = "sandboxID")]
    sandbox_id: Option<String>,
    runtime_type: Option<String>,
    runtime_spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    process: Option<Process>,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Process {
    env: Option<Vec<String>>,
}

/// Reads `text`.
///
/// # Errors
/// It is too long, or not what runtimes write.
pub fn parse(text: &str) -> Result<Info, InfoError> {
    if text.len() > MAX_BYTES {
        return Err(InfoError::TooLong(text.len()));
    }
    let told: Told = serde_json::from_str(text)?;
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (process, annotations) =
        told.runtime_spec.map_or((None, None), |spec| (spec.process, spec.annotations));
    let mut annotations: Vec<_> = annotations.unwrap_or_default().into_iter().collect();
    annotations.sort_unstable();
    Ok(Info {
        pid: told.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0).map(Pid),
        sandbox: some(told.sandbox_id),
        runtime_type: some(told.runtime_type),
        env: process.and_then(|process| process.env).unwrap_or_default(),
        annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_runtimes_write_is_read() {
        // containerd's, cut down; CRI-O has `sandboxID`, `pid`, `runtimeSpec` and `privileged`.
        let text = r#"{"sandboxID":"5f0e","pid":4711,"removing":false,"snapshotKey":"k","runtimeType":"io.containerd.runc.v2",
            "config":{"envs":[{"key":"A","value":"1"}]},
            "runtimeSpec":{"process":{"args":["/function"],"env":["PATH=/bin","K_SERVICE=hello"]},
                "annotations":{"io.kubernetes.cri.container-type":"container","a":"b"},
                "linux":{"cgroupsPath":"/kubepods/x"}}}"#;
        let info = parse(text).unwrap();
        assert_eq!((info.pid, info.sandbox.as_deref()), (Some(Pid(4711)), Some("5f0e")));
        assert_eq!(info.runtime_type.as_deref(), Some("io.containerd.runc.v2"));
        assert_eq!(info.env, ["PATH=/bin", "K_SERVICE=hello"]);
        let names: Vec<_> = info.annotations.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "io.kubernetes.cri.container-type"]);
    }

    #[test]
    fn what_is_missing_is_nothing_and_what_is_odd_an_error() {
        for text in [
            "{}",
            r#"{"pid":0,"sandboxID":"","runtimeSpec":null}"#,
            r#"{"pid":-1,"runtimeSpec":{"process":null,"annotations":null}}"#,
            r#"{"pid":99999999999,"runtimeSpec":{"process":{"env":null}}}"#,
        ] {
            assert_eq!(parse(text).unwrap(), Info::default(), "{text}");
        }
        let deep = "[".repeat(100_000);
        for text in ["", "[]", "null", r#"{"pid":"1"}"#, r#"{"runtimeSpec":{"process":{"env":[1]}}}"#, &deep]
        {
            assert!(matches!(parse(text), Err(InfoError::NotJson(_))), "{text:.40}");
        }
        let long = " ".repeat(MAX_BYTES + 1);
        assert!(matches!(parse(&long), Err(InfoError::TooLong(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"([{}\[\],:]|"pid"|"sandboxID"|"runtimeSpec"|"process"|"env"|"annotations"|"\PC{0,4}"|-?[0-9]{1,20}|null){0,24}"#) {
            if let Ok(info) = parse(&text) {
                proptest::prop_assert!(info.pid != Some(Pid(0)) && info.sandbox.as_deref() != Some(""));
            }
        }
    }
}
