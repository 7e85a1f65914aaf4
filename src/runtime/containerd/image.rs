//! The labels that an image carries: from its index or manifest to its configuration, as the content store has them. Pure.
//!
//! Promises: no bytes make it panic. Not here: reading the content store.

use std::collections::HashMap;

use serde::Deserialize;

/// Largest blob that is read, in bytes: manifests and configurations take some thousand.
pub const MAX_BLOB: usize = 4 << 20;

/// What a blob on the way says.
#[derive(Debug, PartialEq, Eq)]
pub enum Blob {
    /// Another one is to be read.
    Next(String),
    /// The end of the way.
    Labels(HashMap<String, String>),
}

/// What `bytes` say; none where they are neither an index nor a manifest nor a configuration.
pub fn blob(bytes: &[u8]) -> Option<Blob> {
    let document: Document = serde_json::from_slice(bytes).ok()?;
    if let Some(manifests) = document.manifests {
        return Some(Blob::Next(ours(manifests)?));
    }
    match document.config? {
        Config::Descriptor { digest } => is_digest(&digest).then_some(Blob::Next(digest)),
        Config::Own { labels } => Some(Blob::Labels(labels.unwrap_or_default())),
    }
}

/// The manifest for this machine, else the first one.
fn ours(manifests: Vec<Descriptor>) -> Option<String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let is_ours = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.architecture == architecture)
    };
    let manifest = manifests.iter().find(is_ours).or(manifests.first())?;
    is_digest(&manifest.digest).then(|| manifest.digest.clone())
}

fn is_digest(text: &str) -> bool {
    text.len() <= 256
        && text.split_once(':').is_some_and(|(_, hex)| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[derive(Debug, Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Config>,
}

/// A manifest names its configuration's blob; the configuration has a part of the same name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Config {
    Descriptor {
        digest: String,
    },
    Own {
        #[serde(rename = "Labels")]
        labels: Option<HashMap<String, String>>,
    },
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_labels_is_found() {
        let arch = if std::env::consts::ARCH == "x86_64" { "amd64" } else { "arm64" };
        let index = format!(
            r#"{{"manifests":[{{"digest":"sha256:aa","platform":{{"architecture":"none"}}}},
                {{"digest":"sha256:bb","platform":{{"architecture":"{arch}","os":"linux"}}}}]}}"#
        );
        for (bytes, expected) in [
            (index.as_str(), Some(Blob::Next("sha256:bb".into()))),
            (r#"{"manifests":[{"digest":"sha256:cc"}]}"#, Some(Blob::Next("sha256:cc".into()))),
            (
                r#"{"config":{"mediaType":"x","digest":"sha256:dd","size":1},"layers":[]}"#,
                Some(Blob::Next("sha256:dd".into())),
            ),
            (
                r#"{"config":{"Labels":{"a":"b"}}}"#,
                Some(Blob::Labels([("a".to_owned(), "b".to_owned())].into())),
            ),
            (r#"{"config":{"Labels":null,"Cmd":["x"]}}"#, Some(Blob::Labels(HashMap::new()))),
            (r#"{"config":{}}"#, Some(Blob::Labels(HashMap::new()))),
            (r#"{"manifests":[]}"#, None),
            (r#"{"config":{"digest":"../../etc/passwd"}}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(blob(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, text in "[{}\\[\\]:,\"a-z0-9]{0,60}") {
            let _ = (blob(&bytes), blob(text.as_bytes()));
        }
    }
}
