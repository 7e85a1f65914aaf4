//! What a kubelet or an API server answers, cut down to what names a function. Pure.
//!
//! Labels are tenants' to choose: nothing but those that are asked for leaves this file, and of those only what is
//! short. When a label was set is known to the second, by who manages it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::identity::LATER_LABEL_ALLOW_LIST;
use crate::model::Timestamp;

/// Most pods of an answer that are kept: a node runs some hundreds.
pub const MAX_PODS: usize = 4_096;
/// Longest value of a label, in bytes; Kubernetes allows 63.
const MAX_VALUE: usize = 256;
/// Most containers of a pod, and longest id.
const MAX_CONTAINERS: usize = 64;
const MAX_ID: usize = 128;
/// Longest name of a pod.
const MAX_NAME: usize = 253;

/// A pod as Kubernetes has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Those of its labels that tell of a function, in order of name.
    pub labels: Vec<(String, String)>,
    /// When one of those was set last, to the second, where that is told.
    pub labelled: Option<Timestamp>,
    /// Ids of its containers, without their runtime.
    pub containers: Vec<String>,
    /// What version of it this is, for a watch to go on from.
    pub version: String,
}

/// A list of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The pods that may be functions: those with such a label.
    pub pods: Vec<Pod>,
    /// What version of all of them this is.
    pub version: String,
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A pod was made or changed.
    Pod(Pod),
    /// A pod is gone.
    Gone(Pod),
    /// Nothing but a version to go on from.
    Bookmark(String),
    /// The server ends the watch: its status, 410 where the version is too old.
    Error(u16),
    /// A kind that is not known.
    Other,
}

/// A list of pods as a server wrote it.
///
/// # Errors
/// It is no such list.
pub fn list(text: &[u8]) -> Result<List, serde_json::Error> {
    let list: WrittenList = serde_json::from_slice(text)?;
    Ok(List { pods: list.items.0, version: list.metadata.version.unwrap_or_default() })
}

/// A line of a watch.
///
/// # Errors
/// It is no event.
pub fn event(line: &[u8]) -> Result<Event, serde_json::Error> {
    let event: WrittenEvent = serde_json::from_slice(line)?;
    let version = |object: &Object| object.metadata.version.clone().unwrap_or_default();
    Ok(match event.kind.as_str() {
        "ADDED" | "MODIFIED" => Event::Pod(event.object.into_pod()),
        "DELETED" => Event::Gone(event.object.into_pod()),
        "BOOKMARK" => Event::Bookmark(version(&event.object)),
        "ERROR" => Event::Error(event.object.code.unwrap_or(500)),
        _ => Event::Other,
    })
}

#[derive(Deserialize)]
struct WrittenList {
    #[serde(default)]
    metadata: Metadata,
    items: Items,
}

#[derive(Deserialize)]
struct WrittenEvent {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

/// Pods, or the status that an error is.
#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    code: Option<u16>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default, rename = "resourceVersion")]
    version: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default, rename = "managedFields")]
    managed: Managed,
}

/// Of a pod an object, of an error a word.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Status {
    Pod(PodStatus),
    #[default]
    Other,
    #[allow(dead_code)]
    Word(IgnoredAny),
}

#[derive(Default, Deserialize)]
struct PodStatus {
    #[serde(default, rename = "containerStatuses")]
    containers: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default, rename = "containerID")]
    id: Option<String>,
}

impl Object {
    fn into_pod(self) -> Pod {
        let containers = match self.status {
            Status::Pod(status) => status.containers.unwrap_or_default(),
            Status::Other | Status::Word(_) => Vec::new(),
        };
        let short = |text: Option<String>, most| text.filter(|text| text.len() <= most).unwrap_or_default();
        let id = |status: ContainerStatus| {
            let id = status.id?;
            // `containerd://…`, `docker://…`.
            let bare = id.split_once("://").map_or(id.as_str(), |(_, bare)| bare);
            (!bare.is_empty() && bare.len() <= MAX_ID).then(|| bare.to_owned())
        };
        Pod {
            uid: short(self.metadata.uid, MAX_NAME),
            name: short(self.metadata.name, MAX_NAME),
            labels: self.metadata.labels.0,
            labelled: self.metadata.managed.0,
            containers: containers.into_iter().take(MAX_CONTAINERS).filter_map(id).collect(),
            version: short(self.metadata.version, MAX_NAME),
        }
    }
}

/// Pods with a label that tells of a function; others are let go of as they are read.
#[derive(Default)]
struct Items(Vec<Pod>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Items, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pods")
            }

            // A list without items is written so.
            fn visit_unit<E>(self) -> Result<Items, E> {
                Ok(Items::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Items, A::Error> {
                let mut pods = Vec::new();
                while let Some(object) = from.next_element::<Object>()? {
                    if !object.metadata.labels.0.is_empty() && pods.len() < MAX_PODS {
                        pods.push(object.into_pod());
                    }
                }
                Ok(Items(pods))
            }
        }
        from.deserialize_any(Each)
    }
}

/// Labels on the list.
#[derive(Default)]
struct Labels(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some(key) = from.next_key::<String>()? {
                    if !LATER_LABEL_ALLOW_LIST.contains(&key.as_str()) {
                        from.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: String = from.next_value()?;
                    let is_new = labels.iter().all(|(known, _)| *known != key);
                    if is_new && !value.is_empty() && value.len() <= MAX_VALUE {
                        labels.push((key, value));
                    }
                }
                labels.sort();
                Ok(Labels(labels))
            }
        }
        from.deserialize_any(Each)
    }
}

/// When one of the labels on the list was set last: the latest time of those who manage one.
#[derive(Default)]
struct Managed(Option<Timestamp>);

impl<'de> Deserialize<'de> for Managed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Managed, D::Error> {
        #[derive(Deserialize)]
        struct Manager {
            #[serde(default)]
            time: Option<String>,
            #[serde(default, rename = "fieldsV1")]
            fields: Option<Fields>,
        }
        #[derive(Default, Deserialize)]
        struct Fields {
            #[serde(default, rename = "f:metadata")]
            metadata: Option<OfMetadata>,
        }
        #[derive(Default, Deserialize)]
        struct OfMetadata {
            #[serde(default, rename = "f:labels")]
            labels: Option<std::collections::BTreeMap<String, IgnoredAny>>,
        }
        let managers: Option<Vec<Manager>> = Option::deserialize(from)?;
        let latest = managers.into_iter().flatten().filter_map(|manager| {
            let labels = manager.fields?.metadata?.labels?;
            let own = |key: &String| {
                key.strip_prefix("f:").is_some_and(|key| LATER_LABEL_ALLOW_LIST.contains(&key))
            };
            labels.keys().any(own).then_some(())?;
            let time: jiff::Timestamp = manager.time?.parse().ok()?;
            Some(Timestamp(time.as_microsecond()))
        });
        Ok(Managed(latest.max()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As an API server writes a pod of Fission's pool that was given its function, cut down.
    const SPECIALISED: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"poolmgr-python-default-123-7f8c9-abcde","namespace":"fission-function","uid":"0d5ac0fc-3c2e-4d8e-9f57-1f6d4f6a9f10","resourceVersion":"98765","creationTimestamp":"2026-11-23T10:00:00Z","labels":{"environmentName":"python","environmentNamespace":"default","executorInstanceId":"x","executorType":"poolmgr","functionName":"hello","functionNamespace":"default","functionUid":"5d2c","managed":"false","pod-template-hash":"7f8c9"},"annotations":{"secret":"s"},"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-23T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:environmentName":{},"f:managed":{}}}}},{"manager":"fission-bundle","operation":"Update","apiVersion":"v1","time":"2026-11-23T10:00:07Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:functionName":{},"f:functionUid":{}}}}},{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"2026-11-23T10:00:09Z","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:phase":{}}},"subresource":"status"}]},"spec":{"nodeName":"n","containers":[{"name":"python","env":[{"name":"SECRET","value":"s"}]}]},"status":{"phase":"Running","containerStatuses":[{"name":"fetcher","containerID":"containerd://aaaa"},{"name":"python","containerID":"containerd://bbbb"},{"name":"new"}]}}"#;

    #[test]
    fn a_pod_is_cut_down_to_what_names_its_function() {
        let text = format!(
            r#"{{"kind":"PodList","metadata":{{"resourceVersion":"100"}},"items":[{SPECIALISED},{{"metadata":{{"name":"other","labels":{{"app":"x"}}}}}},{{"metadata":{{"labels":null}}}}]}}"#
        );
        let list = list(text.as_bytes()).unwrap();
        assert_eq!(list.version, "100");
        let [pod] = &list.pods[..] else { panic!("{list:#?}") };
        let labels: Vec<_> = pod.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected = [
            ("executorType", "poolmgr"),
            ("functionName", "hello"),
            ("functionNamespace", "default"),
            ("functionUid", "5d2c"),
        ];
        assert_eq!(labels, expected);
        assert_eq!(pod.containers, ["aaaa", "bbbb"]);
        assert_eq!(pod.labelled.map(|at| at.to_string()), Some("2026-11-23T10:00:07.000000Z".into()));
        assert!(["SECRET", "secret", "environment"].iter().all(|other| !format!("{list:?}").contains(other)));
    }

    #[test]
    fn events_of_a_watch_are_read() {
        let pod = format!(r#"{{"type":"MODIFIED","object":{SPECIALISED}}}"#);
        assert!(
            matches!(event(pod.as_bytes()), Ok(Event::Pod(pod)) if pod.version == "98765" && pod.uid.starts_with("0d5a"))
        );
        for (text, expected) in [
            (
                r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7"}}}"#,
                Event::Bookmark("7".into()),
            ),
            (
                r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (2)","reason":"Expired","code":410}}"#,
                Event::Error(410),
            ),
            (r#"{"type":"NEWS","object":{}}"#, Event::Other),
        ] {
            assert_eq!(event(text.as_bytes()).unwrap(), expected);
        }
        let gone = format!(r#"{{"type":"DELETED","object":{SPECIALISED}}}"#);
        assert!(matches!(event(gone.as_bytes()), Ok(Event::Gone(_))));
    }

    #[test]
    fn what_is_no_answer_is_a_fault() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"items":1}"#,
            r#"{"items":[1]}"#,
            "<html>",
            r#"{"items":[{"metadata":{"labels":{"functionName":1}}}]}"#,
            "Unauthorized",
        ] {
            assert!(list(text.as_bytes()).is_err(), "{text}");
            assert!(event(text.as_bytes()).is_err(), "{text}");
        }
        assert!(list(br#"{"items":null}"#).is_ok_and(|list| list.pods.is_empty()));
        // Deep enough to end a parser that counts on its stack.
        let deep = format!(r#"{{"items":[{{"spec":{}"#, "[".repeat(100_000));
        assert!(list(deep.as_bytes()).is_err());
        let long = format!(
            r#"{{"items":[{{"metadata":{{"name":"{0}","labels":{{"executorType":"poolmgr","functionName":"{0}"}}}}}}]}}"#,
            "x".repeat(100_000)
        );
        let list = list(long.as_bytes()).unwrap();
        assert_eq!((list.pods[0].name.as_str(), list.pods[0].labels.len()), ("", 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_pods_or_a_fault(cut in 0..SPECIALISED.len(), at in 0..SPECIALISED.len(), byte: u8, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut changed = SPECIALISED.as_bytes().to_vec();
            changed[at] = byte;
            for text in [&changed[..], &SPECIALISED.as_bytes()[..cut], &bytes] {
                let text = [br#"{"items":["#, text, b"]}"].concat();
                if let Ok(list) = list(&text) {
                    for pod in list.pods {
                        prop_assert!(pod.labels.len() <= LATER_LABEL_ALLOW_LIST.len() && pod.name.len() <= MAX_NAME);
                        prop_assert!(pod.containers.len() <= MAX_CONTAINERS);
                    }
                }
            }
        }
    }
}
