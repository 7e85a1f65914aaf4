//! The labels that an image carries: from its index or manifest to its configuration, as the content store has them. Pure.
//!
//! Promises: no bytes make it panic; what these bytes are to containerd they are here, or nothing. Whoever builds an image
//! would like its labels to be seen by the one and not by the other: members are found as Go finds them, whatever the case
//! of their names, and a document that has one of them twice, or is two kinds of document, is refused. Of an index every
//! manifest is meant that could run here: which one containerd runs is its own affair. Not here: reading the content store.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Largest blob that is read, in bytes: manifests and configurations take some thousand.
pub const MAX_BLOB: usize = 1 << 20;
/// Most manifests of an index, and of an image.
pub const MAX_BLOBS: usize = 64;

/// What an image's name, or an index, leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Blob {
    /// An index of those that could run here, by their digests.
    Index(Vec<String>),
    /// The manifest of the configuration that has this digest.
    Manifest(String),
}

/// What `bytes` say; none where they are neither an index nor a manifest.
pub fn blob(bytes: &[u8]) -> Option<Blob> {
    let Object(document) = serde_json::from_slice::<Object<Document>>(bytes).ok()?;
    match (document.manifests.flatten(), document.config.flatten(), document.layers.flatten()) {
        (Some(manifests), None, None) => {
            let ours = manifests.into_iter().filter(|Object(descriptor)| descriptor.may_run_here());
            let digests = ours.map(|Object(descriptor)| descriptor.digest()).collect::<Option<Vec<_>>>()?;
            (1..=MAX_BLOBS).contains(&digests.len()).then_some(Blob::Index(digests))
        }
        (None, Some(Object(config)), _) => config.digest().map(Blob::Manifest),
        _ => None,
    }
}

/// The labels in `bytes`; none where they are no configuration.
pub fn labels(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    let Object(document) = serde_json::from_slice::<Object<Configuration>>(bytes).ok()?;
    let own = document.config.flatten().map(|Object(own)| own.labels.flatten().unwrap_or_default());
    // An image need not say how it is run.
    document.is_image.then(|| own.unwrap_or_default())
}

/// Whether `text` is the digest of a blob.
fn is_digest(text: &str) -> bool {
    text.len() <= 256
        && text.split_once(':').is_some_and(|(_, hex)| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// An index or a manifest.
#[derive(Default)]
struct Document {
    manifests: Member<Vec<Object<Descriptor>>>,
    config: Member<Object<Descriptor>>,
    layers: Member<IgnoredAny>,
}

/// What points to a blob.
#[derive(Default)]
struct Descriptor {
    digest: Member<String>,
    platform: Member<Object<Platform>>,
}

#[derive(Default)]
struct Platform {
    os: Member<String>,
}

/// A configuration, and the part of it that is called so too.
#[derive(Default)]
struct Configuration {
    config: Member<Object<Own>>,
    /// Whether it has what every image's configuration has.
    is_image: bool,
}

#[derive(Default)]
struct Own {
    labels: Member<BTreeMap<String, String>>,
}

impl Descriptor {
    fn digest(self) -> Option<String> {
        self.digest.flatten().filter(|digest| is_digest(digest))
    }

    /// Whether containerd could take it for one of this machine's. Of another architecture may be what runs here as well,
    /// and what never could was never fetched.
    fn may_run_here(&self) -> bool {
        let platform = self.platform.as_ref().and_then(Option::as_ref);
        let os = platform.and_then(|Object(platform)| platform.os.as_ref()?.as_deref());
        os.is_none_or(|os| os.is_empty() || os.eq_ignore_ascii_case("linux"))
    }
}

/// A member of an object: not there, there as null, or there.
type Member<T> = Option<Option<T>>;

/// What takes the members of an object that it knows.
trait Members: Default {
    /// Takes the member called `name`, which is folded, or passes over it.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error>;
}

impl Members for Document {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "manifests" => once(&mut self.manifests, value),
            "config" => once(&mut self.config, value),
            "layers" => once(&mut self.layers, value),
            _ => pass(value),
        }
    }
}

impl Members for Descriptor {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "digest" => once(&mut self.digest, value),
            "platform" => once(&mut self.platform, value),
            _ => pass(value),
        }
    }
}

impl Members for Platform {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "os" => once(&mut self.os, value),
            _ => pass(value),
        }
    }
}

impl Members for Configuration {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "config" => {
                self.is_image = true;
                once(&mut self.config, value)
            }
            "rootfs" => {
                self.is_image = true;
                pass(value)
            }
            _ => pass(value),
        }
    }
}

impl Members for Own {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, value: &mut A) -> Result<(), A::Error> {
        match name {
            "labels" => once(&mut self.labels, value),
            _ => pass(value),
        }
    }
}

/// The value of a member that must not be there twice: Go would put the two together.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    member: &mut Member<T>,
    value: &mut A,
) -> Result<(), A::Error> {
    match member.replace(value.next_value()?) {
        None => Ok(()),
        Some(_) => Err(A::Error::custom("a member that is there twice")),
    }
}

fn pass<'de, A: MapAccess<'de>>(value: &mut A) -> Result<(), A::Error> {
    value.next_value::<IgnoredAny>().map(|_| ())
}

/// `name` as Go compares names: two letters beyond ASCII are the same as one of it.
fn folded(name: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

/// An object, read by [`Members`].
struct Object<T>(T);

impl<'de, T: Members> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Members> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
        let mut found = T::default();
        while let Some(name) = map.next_key::<String>()? {
            found.take(&folded(&name), &mut map)?;
        }
        Ok(Object(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(digests: &[&str]) -> Option<Blob> {
        Some(Blob::Index(digests.iter().map(|digest| (*digest).to_owned()).collect()))
    }

    #[test]
    fn the_way_to_the_configuration_is_found() {
        let manifest = |digest: &str| Some(Blob::Manifest(digest.to_owned()));
        for (bytes, expected) in [
            (r#"{"manifests":[{"digest":"sha256:cc"}],"schemaVersion":2}"#, index(&["sha256:cc"])),
            // Whatever could run here, in whatever words; and nothing that could not.
            (
                r#"{"manifests":[{"digest":"sha256:aa","platform":{"architecture":"amd64","os":"windows"}},
                    {"digest":"sha256:bb","platform":{"architecture":"x86_64","os":"Linux","variant":"v3"}},
                    {"digest":"sha256:cc","platform":{"architecture":"amd64"}},
                    {"digest":"sha256:dd","platform":{"architecture":"unknown","os":"unknown"}},
                    {"digest":"sha256:ee","platform":null}]}"#,
                index(&["sha256:bb", "sha256:cc", "sha256:ee"]),
            ),
            (
                r#"{"config":{"mediaType":"x","digest":"sha256:dd","size":1},"layers":[]}"#,
                manifest("sha256:dd"),
            ),
            (r#"{"manifests":null,"config":{"digest":"sha256:dd"}}"#, manifest("sha256:dd")),
            // As Go reads it, which containerd is written in.
            (r#"{"Config":{"DIGEST":"sha256:dd"}}"#, manifest("sha256:dd")),
            ("{\"manife\u{17f}ts\":[{\"dige\u{17f}t\":\"sha256:cc\"}]}", index(&["sha256:cc"])),
            // Two ways to read it.
            (r#"{"config":{"digest":"sha256:dd"},"Config":{"digest":"sha256:ee"}}"#, None),
            (r#"{"config":{"digest":"sha256:dd","Digest":"sha256:ee"}}"#, None),
            (r#"{"manifests":[{"digest":"sha256:cc"}],"config":{"digest":"sha256:dd"}}"#, None),
            (r#"{"manifests":[{"digest":"sha256:cc"}],"layers":[]}"#, None),
            (r#"{"manifests":[{"digest":"sha256:cc","platform":{"os":"windows","OS":"linux"}}]}"#, None),
            // Nothing that runs here, nothing at all, no digest.
            (r#"{"manifests":[{"digest":"sha256:cc","platform":{"os":"windows"}}]}"#, None),
            (r#"{"manifests":[]}"#, None),
            (r#"{"manifests":[{"digest":"sha256:cc"},{}]}"#, None),
            (r#"{"config":{"digest":"../../etc/passwd"}}"#, None),
            (r#"{"config":{"Labels":{"a":"b"}}}"#, None),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(blob(bytes.as_bytes()), expected, "{bytes}");
        }
        let of = |count: usize| {
            let all = vec![r#"{"digest":"sha256:aa"}"#; count].join(",");
            blob(format!(r#"{{"manifests":[{all}]}}"#).as_bytes()).is_some()
        };
        assert!(of(MAX_BLOBS) && !of(MAX_BLOBS + 1));
    }

    #[test]
    fn the_labels_are_those_that_containerd_sees() {
        for (bytes, expected) in [
            (r#"{"config":{"Labels":{"a":"b"}},"os":"linux"}"#, Some(vec![("a", "b")])),
            // A digest beside them leads nowhere: it is no manifest.
            (r#"{"config":{"digest":"sha256:aa","Labels":{"a":"b"}}}"#, Some(vec![("a", "b")])),
            (r#"{"CONFIG":{"labels":{"a":"b","A":"c"}}}"#, Some(vec![("A", "c"), ("a", "b")])),
            ("{\"config\":{\"label\u{17f}\":{\"a\":\"b\"}}}", Some(vec![("a", "b")])),
            (r#"{"config":{"Labels":{"a":"x","a":"b"}}}"#, Some(vec![("a", "b")])),
            (r#"{"config":{"Labels":null,"Cmd":["x"]}}"#, Some(vec![])),
            (r#"{"config":{}}"#, Some(vec![])),
            (r#"{"config":null,"rootfs":{}}"#, Some(vec![])),
            (r#"{"rootfs":{"type":"layers"}}"#, Some(vec![])),
            (r#"{"config":{"Labels":{}},"Config":{"Labels":{"a":"b"}}}"#, None),
            (r#"{"config":{"Labels":{},"labels":{"a":"b"}}}"#, None),
            (r#"{"config":{"Labels":{"a":1}}}"#, None),
            (r#"{"config":"x"}"#, None),
            ("{}", None),
            ("", None),
        ] {
            let found = labels(bytes.as_bytes());
            let pairs = |found: &BTreeMap<String, String>| found.clone().into_iter().collect::<Vec<_>>();
            let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            let expected = expected.map(|pairs| pairs.into_iter().map(owned).collect::<Vec<_>>());
            assert_eq!(found.as_ref().map(pairs), expected, "{bytes}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, text in "[{}\\[\\]:,\"a-z0-9]{0,60}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _ = (blob(bytes), labels(bytes));
            }
        }
    }
}
