//! containerd's own API as this room uses it: namespaces, containers, tasks, events. Its messages end here, and those of
//! images in `labels`.
//!
//! Every answer is cut to what identity reads before it leaves, whatever its size was. Requests have a time limit; the
//! stream of events has none.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tonic::Request;
use tonic::transport::Channel;

use super::event::{self, TOPICS};
use super::labels::{Carried, ImageLabels, Reading};
use super::record::{self, Namespace, Recorded, in_pod};
use super::{ContainerdOptions, Namespaces};
use crate::identity::{Keys, pod_of_sandbox};
use crate::model::{Container, ContainerId, Pid, Pod, Swap};
use crate::runtime::book::{Event, Inspected, Life, Listed};
use crate::runtime::engine::{Connection, EngineError};
use crate::runtime::grpc::containerd::services::containers::v1::containers_client::ContainersClient;
use crate::runtime::grpc::containerd::services::containers::v1::{
    Container as Record, GetContainerRequest, ListContainersRequest,
};
use crate::runtime::grpc::containerd::services::events::v1::SubscribeRequest;
use crate::runtime::grpc::containerd::services::events::v1::events_client::EventsClient;
use crate::runtime::grpc::containerd::services::namespaces::v1::ListNamespacesRequest;
use crate::runtime::grpc::containerd::services::namespaces::v1::namespaces_client::NamespacesClient;
use crate::runtime::grpc::containerd::services::tasks::v1::tasks_client::TasksClient;
use crate::runtime::grpc::containerd::services::tasks::v1::{GetRequest, ListTasksRequest};
use crate::runtime::grpc::containerd::services::version::v1::version_client::VersionClient;
use crate::runtime::grpc::containerd::v1::types::{Process, Status as Standing};
use crate::runtime::grpc::{MAX_ANSWER, connect, fault, within};

/// For what containerd has at hand.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(5);
/// For the list of everything.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Most containers that are taken of a list.
const MAX_CONTAINERS: usize = 65_536;
/// Most tasks that were made and not started.
const MAX_NEWBORN: usize = 4_096;
/// Most namespaces whose labels are remembered between lists.
const MAX_NAMESPACES: usize = 1_024;

/// A containerd that has answered once.
#[derive(Debug)]
pub struct Api {
    channel: Channel,
    wanted: Namespaces,
    keys: Swap<Keys>,
    images: ImageLabels,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

impl Api {
    /// Connects to `socket`, and asks for the version as a sign that containerd is there.
    pub async fn connect(options: &ContainerdOptions, socket: &Path) -> Result<Api, EngineError> {
        let channel = connect(socket).await?;
        let api = Api {
            images: ImageLabels::new(channel.clone()),
            channel,
            wanted: options.namespaces.clone(),
            keys: options.keys.clone(),
            namespaces: Mutex::default(),
        };
        api.version().await?;
        Ok(api)
    }

    /// containerd's version.
    pub async fn version(&self) -> Result<String, EngineError> {
        let mut client = VersionClient::new(self.channel.clone());
        within(ASK_LIMIT, client.version(())).await.map(|answer| answer.version)
    }

    /// The namespaces whose containers are told, with their labels.
    async fn list_namespaces(&self) -> Result<Vec<Namespace>, EngineError> {
        let mut client = NamespacesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let answer = within(LIST_LIMIT, client.list(ListNamespacesRequest::default())).await?;
        let wanted = answer.namespaces.into_iter().filter(|namespace| self.wanted.has(&namespace.name));
        let namespace = |told: crate::runtime::grpc::containerd::services::namespaces::v1::Namespace| {
            Namespace { labels: record::ordered(told.labels), name: told.name }
        };
        let found: Vec<Namespace> = wanted.map(namespace).take(MAX_NAMESPACES).collect();
        let known = found.iter().map(|namespace| (namespace.name.clone(), namespace.clone())).collect();
        *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(found)
    }

    /// The namespace called `name`, with its labels as far as they are known already.
    fn known_namespace(&self, name: &str) -> Namespace {
        let known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().unwrap_or_else(|| Namespace { name: name.into(), labels: Vec::new() })
    }

    /// The same; a namespace that is new is asked for.
    async fn namespace(&self, name: &str) -> Namespace {
        let is_new = !self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
        if is_new && let Err(error) = self.list_namespaces().await {
            tracing::debug!(namespace = %name, %error, "namespaces not listed; its labels are not known");
        }
        self.known_namespace(name)
    }

    async fn record(&self, namespace: &str, id: &str) -> Result<Record, EngineError> {
        let mut client = ContainersClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = in_namespace(namespace, GetContainerRequest { id: id.into() })?;
        let answer = within(ASK_LIMIT, client.get(request)).await?;
        answer.container.ok_or(EngineError::NoSuchContainer)
    }

    async fn task(&self, namespace: &str, id: &str) -> Result<Process, EngineError> {
        let mut client = TasksClient::new(self.channel.clone());
        let request = GetRequest { container_id: id.into(), exec_id: String::new() };
        let answer = within(ASK_LIMIT, client.get(in_namespace(namespace, request)?)).await?;
        match answer.process {
            None => Err(EngineError::NoSuchContainer),
            // What containerd says where its shim does not answer: that is no end.
            Some(task) if task.status() == Standing::Unknown => {
                Err(EngineError::Other("its task does not tell how it stands".into()))
            }
            Some(task) => Ok(task),
        }
    }

    async fn tasks(&self, namespace: &str) -> Result<HashMap<String, Process>, EngineError> {
        let mut client = TasksClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = in_namespace(namespace, ListTasksRequest::default())?;
        let answer = within(LIST_LIMIT, client.list(request)).await?;
        // Of an older shim the id stands elsewhere.
        let name =
            |task: &Process| if task.id.is_empty() { task.container_id.clone() } else { task.id.clone() };
        Ok(answer.tasks.into_iter().map(|task| (name(&task), task)).collect())
    }

    /// Every container of a namespace with its pod; `reading` is what the list has read of images.
    async fn list_of(
        &self,
        namespace: &Namespace,
        reading: &mut Reading,
    ) -> Result<Vec<Listed>, EngineError> {
        let keys = self.keys.get();
        let mut client = ContainersClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let request = in_namespace(&namespace.name, ListContainersRequest::default())?;
        let mut records = within(LIST_LIMIT, client.list_stream(request)).await?;
        // Behind the containers, so that what began meanwhile has no task rather than another's.
        let mut found = Vec::new();
        while let Some(message) = tokio::time::timeout(LIST_LIMIT, records.message())
            .await
            .map_err(|_| EngineError::Other("the list of containers does not end".into()))?
            .map_err(fault)?
        {
            found.extend(message.container.map(|record| record::container(record, namespace, &keys)));
            if found.len() >= MAX_CONTAINERS {
                tracing::warn!(namespace = %namespace.name, "more containers than are looked at: some may be missed");
                break;
            }
        }
        let mut tasks = self.tasks(&namespace.name).await?;
        let sandboxes = found.iter().map(|found| &found.container).filter(|container| container.sandbox);
        let pods: HashMap<String, Pod> =
            sandboxes.filter_map(|found| Some((found.id.clone(), pod_of_sandbox(found)?))).collect();
        let mut listed = Vec::with_capacity(found.len());
        for recorded in found {
            let doubtful = recorded.doubtful();
            let carried = match &recorded.image {
                Some(image) if !doubtful.is_empty() => {
                    self.images.of_listed(&namespace.name, image, &keys, reading).await
                }
                _ => Carried::Labels(Vec::new()),
            };
            let pod = recorded.sandbox.and_then(|sandbox| pods.get(&sandbox).cloned());
            let mut container = in_pod(recorded.container, pod);
            // It is asked for alone where that is not known yet.
            let is_late = carried == Carried::Late;
            container.image_labels = match carried {
                Carried::Labels(labels) => labels,
                Carried::Refused | Carried::Late => doubtful,
            };
            let Some(id) = event::id(&namespace.name, &container.id) else { continue };
            let state = inspected(container, tasks.remove(event::parts(&id).map_or("", |(_, id)| id)));
            let life = match state.running {
                true => Life::Running,
                false if state.finished_at.is_some() || state.exit_code.is_some() => Life::Ended,
                false => Life::Unclear,
            };
            listed.push(Listed {
                id,
                container: state.container.clone(),
                life,
                inspected: (!is_late).then(|| Box::new(state)),
            });
        }
        Ok(listed)
    }

    async fn inspect(&self, namespace: &str, id: &str) -> Result<Inspected, EngineError> {
        let keys = self.keys.get();
        let record = self.record(namespace, id).await?;
        let recorded = record::container(record, &self.namespace(namespace).await, &keys);
        let doubtful = recorded.doubtful();
        let Recorded { container, sandbox, image } = recorded;
        let pod = match sandbox {
            Some(sandbox) => self.pod(namespace, &sandbox, &keys).await?,
            None => None,
        };
        let mut container = in_pod(container, pod);
        if let Some(image) = image.filter(|_| !doubtful.is_empty()) {
            container.image_labels = match self.images.of(namespace, &image, &keys).await {
                Carried::Labels(labels) => labels,
                Carried::Refused => doubtful,
                Carried::Late => return Err(EngineError::Late(ASK_LIMIT.as_secs())),
            };
        }
        let task = match self.task(namespace, id).await {
            Ok(task) => Some(task),
            Err(EngineError::NoSuchContainer) => None,
            Err(error) => return Err(error),
        };
        Ok(inspected(container, task))
    }

    /// The pod whose sandbox is `id`.
    async fn pod(&self, namespace: &str, id: &str, keys: &Keys) -> Result<Option<Pod>, EngineError> {
        match self.record(namespace, id).await {
            Ok(record) => {
                let namespace = Namespace { name: namespace.into(), labels: vec![] };
                Ok(pod_of_sandbox(&record::container(record, &namespace, keys).container))
            }
            Err(EngineError::NoSuchContainer) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Connection for Api {
    async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let (mut all, mut reading) = (Vec::new(), Reading::default());
        for namespace in self.list_namespaces().await? {
            all.extend(self.list_of(&namespace, &mut reading).await?);
        }
        Ok(all)
    }

    async fn inspected(&self, id: &ContainerId) -> Result<Inspected, EngineError> {
        let (namespace, name) = event::parts(id).ok_or(EngineError::NoSuchContainer)?;
        self.inspect(namespace, name).await
    }

    fn events(&self, _since_ns: i64) -> impl Stream<Item = Result<Event, EngineError>> {
        let mut client = EventsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let subscribed = async move {
            // Asked for by topic, so that the execs of probes do not flood the stream.
            client.subscribe(SubscribeRequest { filters: vec![TOPICS.into()] }).await
        };
        let envelopes = futures_util::stream::once(subscribed).flat_map(|answer| match answer {
            Ok(answer) => answer.into_inner().left_stream(),
            Err(status) => futures_util::stream::iter([Err(status)]).right_stream(),
        });
        // Runs whose making was heard, until their start is: by then a short one may be over.
        let mut runs = HashMap::new();
        envelopes.filter_map(move |envelope| {
            let wanted = envelope.as_ref().ok().filter(|envelope| self.wanted.has(&envelope.namespace));
            if let Some((id, pid)) = wanted.and_then(event::newborn)
                && runs.len() < MAX_NEWBORN
            {
                runs.insert(id, run(pid));
            }
            let event = match envelope {
                Ok(envelope) if self.wanted.has(&envelope.namespace) => {
                    let namespace = self.known_namespace(&envelope.namespace);
                    let event = event::event(envelope, &namespace, &self.keys.get());
                    event.map(|mut event| {
                        let made = runs.remove(&event.id);
                        event.described.task = event.pid.map(|pid| made.unwrap_or_else(|| run(pid)));
                        Ok(event)
                    })
                }
                Ok(_) => None,
                Err(status) => Some(Err(fault(status))),
            };
            std::future::ready(event)
        })
    }
}

/// A container with its task.
fn inspected(mut container: Container, task: Option<Process>) -> Inspected {
    let standing = task.as_ref().map(|task| task.status());
    let running = matches!(standing, Some(Standing::Running | Standing::Paused | Standing::Pausing));
    let ended = standing == Some(Standing::Stopped);
    let pid = task.as_ref().map(|task| Pid(task.pid)).filter(|pid| pid.0 > 0 && running);
    container.task = pid.map(run);
    Inspected {
        created_at: container.created_at,
        running,
        pid,
        finished_at: task.as_ref().filter(|_| ended).and_then(|task| record::time(task.exited_at.as_ref()?)),
        exit_code: task.as_ref().filter(|_| ended).and_then(|task| i32::try_from(task.exit_status).ok()),
        container,
        ..Inspected::default()
    }
}

/// What tells the run of first process `pid` from others: ids of processes are used again, but not at the same tick.
fn run(pid: Pid) -> String {
    // A process may be named anything: text or not.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    run_in(&String::from_utf8_lossy(&stat), pid)
}

/// The same from the text of its `/proc/PID/stat`.
pub(super) fn run_in(stat: &str, pid: Pid) -> String {
    // Behind the name, which may hold anything: the state is the third field, the start the 22nd.
    let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    let start = start.and_then(|start| start.parse::<u64>().ok());
    start.map_or_else(|| pid.to_string(), |start| format!("{pid}+{start}"))
}

/// `message` as a request of `namespace`.
pub(super) fn in_namespace<T>(namespace: &str, message: T) -> Result<Request<T>, EngineError> {
    let mut request = Request::new(message);
    let name = namespace.parse().map_err(|_| EngineError::Other(format!("{namespace:?} is no namespace")))?;
    request.metadata_mut().insert("containerd-namespace", name);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_name_forges_the_run_of_a_process(text in "\\PC{0,80}", name in "(\\) R 1 |[0-9 ()]|\\PC){0,15}") {
            let stat = format!("7 ({name}) R 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3");
            proptest::prop_assert_eq!(run_in(&stat, Pid(7)), "7+4711");
            let run = run_in(&text, Pid(7));
            let start = run.strip_prefix('7').map(|rest| rest.strip_prefix('+'));
            proptest::prop_assert!(start.is_some_and(|start| start.is_none_or(|start| start.parse::<u64>().is_ok())));
        }
    }
}
