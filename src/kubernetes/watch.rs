//! Who is asked when, and since when a pod has its labels.
//!
//! A label may only name what was sampled from the moment on that it was there. Of a watch that is when the event comes.
//! A kubelet is asked again and again: there it is the moment of the answer, or, where the pod tells when the label was
//! set, the end of that second, if it lies between this answer and the one before, in which the label was not there.

use std::collections::HashMap;

use super::client::{Client, Fault};
use super::pods::{self, Event, Pod};
use crate::model::Timestamp;

/// A second: what the time of a label is told to.
const SECOND_US: i64 = 1_000_000;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The kubelet of this node.
    Kubelet,
    /// The API server, for pods of this node.
    ApiServer {
        /// The node, as Kubernetes calls it.
        node: String,
    },
}

/// What was learned of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its containers.
    pub containers: Vec<String>,
    /// Its labels, those that tell of a function.
    pub labels: Vec<(String, String)>,
    /// Since when it has them.
    pub at: Timestamp,
}

/// How a watch takes in what comes.
pub trait Answers {
    /// What time it is.
    fn now(&self) -> Timestamp;
    /// Something was learned.
    fn told(&mut self, told: Told);
    /// Whether it is to go on.
    fn goes_on(&self) -> bool;
}

/// Asks for the pods of this node, and remembers what it was told.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    asked: Asked,
    known: HashMap<String, Known>,
    /// When the last answer was asked for that told of all pods.
    listed: Option<Timestamp>,
    version: Option<String>,
}

#[derive(Debug)]
struct Known {
    labels: Vec<(String, String)>,
    containers: Vec<String>,
    at: Timestamp,
}

impl Watch {
    /// Nothing is asked yet.
    pub fn new(client: Client, asked: Asked) -> Watch {
        Watch { client, asked, known: HashMap::new(), listed: None, version: None }
    }

    /// Asks once: for all pods, or, of an API server that has told of all, for what changes, for as long as it tells.
    ///
    /// # Errors
    /// What went wrong. The next time all pods are asked for.
    pub fn ask(&mut self, answers: &mut impl Answers) -> Result<(), Fault> {
        let asked = match (self.asked.clone(), self.version.take()) {
            (Asked::Kubelet, _) => self.list("/pods", answers).map(|_| None),
            (Asked::ApiServer { node }, None) => {
                let path =
                    format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&resourceVersion=0", plain(&node));
                self.list(&path, answers).map(Some)
            }
            (Asked::ApiServer { node }, Some(version)) => self.follow(&node, version, answers).map(Some),
        };
        self.version = asked?.filter(|version| !version.is_empty());
        Ok(())
    }

    /// Whether the next [`Watch::ask`] is for what changes, and waits.
    pub fn follows(&self) -> bool {
        self.version.is_some()
    }

    fn list(&mut self, path: &str, answers: &mut impl Answers) -> Result<String, Fault> {
        let begin = answers.now();
        let answer = self.client.get(path)?;
        let list = pods::list(&answer).map_err(|source| self.client.garbage(source))?;
        let there: Vec<String> = list.pods.iter().map(|pod| pod.uid.clone()).collect();
        for pod in list.pods {
            self.pod(pod, true, answers);
        }
        self.known.retain(|uid, _| there.contains(uid));
        self.listed = Some(begin);
        Ok(list.version)
    }

    fn follow(&mut self, node: &str, version: String, answers: &mut impl Answers) -> Result<String, Fault> {
        let seconds = self.client.watch_seconds();
        let path = format!(
            "/api/v1/pods?watch=true&allowWatchBookmarks=true&fieldSelector=spec.nodeName%3D{}&resourceVersion={}\
             &timeoutSeconds={seconds}",
            plain(node),
            plain(&version)
        );
        let Watch { client, known, listed, .. } = self;
        let mut taken = Taken { known, listed: *listed, version, fault: None };
        let followed = client.follow(&path, |line| {
            taken.line(line, answers);
            taken.fault.is_none() && answers.goes_on()
        });
        let Taken { version, fault, .. } = taken;
        match fault {
            Some(Ended::Status(status)) => Err(self.client.refused(status)),
            Some(Ended::Garbage(source)) => Err(self.client.garbage(source)),
            None => followed.map(|()| version),
        }
    }

    fn pod(&mut self, pod: Pod, in_list: bool, answers: &mut impl Answers) {
        Taken { known: &mut self.known, listed: self.listed, version: String::new(), fault: None }
            .pod(pod, in_list, answers);
    }
}

/// Why a watch ended.
enum Ended {
    Status(u16),
    Garbage(serde_json::Error),
}

/// What a watch takes in.
struct Taken<'a> {
    known: &'a mut HashMap<String, Known>,
    listed: Option<Timestamp>,
    version: String,
    fault: Option<Ended>,
}

impl Taken<'_> {
    fn line(&mut self, line: &[u8], answers: &mut impl Answers) {
        match pods::event(line) {
            Ok(Event::Pod(pod)) => {
                self.version.clone_from(&pod.version);
                self.pod(pod, false, answers);
            }
            Ok(Event::Gone(pod)) => {
                self.version.clone_from(&pod.version);
                self.known.remove(&pod.uid);
            }
            Ok(Event::Bookmark(version)) => self.version = version,
            Ok(Event::Error(status)) => self.fault = Some(Ended::Status(status)),
            Ok(Event::Other) => {}
            Err(source) => self.fault = Some(Ended::Garbage(source)),
        }
    }

    fn pod(&mut self, pod: Pod, in_list: bool, answers: &mut impl Answers) {
        if pod.labels.is_empty() || self.known.len() >= pods::MAX_PODS {
            return;
        }
        let now = answers.now();
        let at = match self.known.get(&pod.uid) {
            Some(known) if known.labels == pod.labels && known.containers == pod.containers => return,
            // A container that came later has them from its begin.
            Some(known) if known.labels == pod.labels => known.at,
            _ if in_list => {
                let set = pod.labelled.map(|set| set.plus_us(SECOND_US)).filter(|set| *set <= now);
                // It was not so in the answer before.
                set.unwrap_or(now).max(self.listed.unwrap_or(Timestamp(i64::MIN))).min(now)
            }
            _ => now,
        };
        let Pod { uid, labels, containers, .. } = pod;
        if !containers.is_empty() {
            answers.told(Told { containers: containers.clone(), labels: labels.clone(), at });
        }
        self.known.insert(uid, Known { labels, containers, at });
    }
}

/// `text` as it may stand in a query.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
