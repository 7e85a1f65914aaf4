//! The Docker Engine's API as this room uses it. bollard's types end here.
//!
//! Every answer is cut to what identity reads before it leaves, whatever its size was: of the list one element is held at a
//! time, of a container and an image so much and no more. Requests have a time limit; the stream of events has none.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, EventMessage, ImageInspect,
};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use super::elements::{Elements, NoList};
use super::flavour::Flavour;
use super::http;
use crate::identity::{Keys, join_on_docker, kept_with, sandbox_on_docker};
use crate::model::{Container, ContainerId, Identity, Pid, Swap, Timestamp};
use crate::runtime::book::{Action, Event, Inspected, Life, Listed};
use crate::runtime::engine::{Connection, EngineError};
use crate::runtime::images::Images;

/// For the version, which the daemon has at hand. One that is busy takes its time, and is of use all the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// For an inspection. The daemon answers in about a millisecond, or after it has started the container. What its events
/// say was told before, and others do not wait for it. The same for the sandbox of a container of cri-dockerd's: without
/// its labels the container would be no function, so it is better late.
const INSPECT_LIMIT: Duration = Duration::from_secs(15);
/// For an image, asked for once: a container's better description waits for it. The daemon has it at hand and answers in
/// about a millisecond, as for a container; what its events say was told before.
const IMAGE_LIMIT: Duration = Duration::from_millis(500);
/// For the list of everything.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Largest container, in a list or alone, and largest image, in bytes. Nobody limits their labels.
const MAX_ONE: usize = 8 << 20;
/// Most containers of a list: cut to what is read, each is a kilobyte or two.
const MAX_LISTED: usize = 100_000;

impl From<NoList> for EngineError {
    fn from(error: NoList) -> EngineError {
        EngineError::Garbled(error.to_string())
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> EngineError {
        match &error {
            Error::SocketNotFoundError(_) => EngineError::Absent("no such socket".into()),
            Error::HyperLegacyError { err } if err.is_connect() => {
                let cause =
                    std::error::Error::source(err).map_or_else(|| err.to_string(), ToString::to_string);
                EngineError::Absent(cause)
            }
            Error::DockerResponseServerError { status_code: 404, .. } => EngineError::NoSuchContainer,
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
                EngineError::Garbled(error.to_string())
            }
            _ => EngineError::Other(error.to_string()),
        }
    }
}

/// A daemon that has answered once.
#[derive(Debug, Clone)]
pub struct Api {
    docker: Docker,
    socket: PathBuf,
    flavour: Flavour,
    keys: Swap<Keys>,
    images: Arc<Images>,
    /// Whether it was told that a container is too large for the list.
    told_too_large: Arc<AtomicBool>,
}

impl Api {
    /// Connects to `socket` and agrees on a version of the API. Of containers it keeps what rules read, and `keys`.
    pub async fn connect(socket: &Path, keys: &Swap<Keys>) -> Result<Api, EngineError> {
        let path = socket.to_str().ok_or_else(|| EngineError::Other("its path is not UTF-8".into()))?;
        let docker = Docker::connect_with_unix(path, LIST_LIMIT.as_secs(), bollard::API_DEFAULT_VERSION)?;
        let docker = within(CONNECT_LIMIT, docker.negotiate_version()).await?;
        let version = within(CONNECT_LIMIT, docker.version()).await?;
        let components = version.components.unwrap_or_default();
        let flavour = Flavour::of(components.iter().map(|component| component.name.as_str()));
        Ok(Api {
            docker,
            socket: socket.to_owned(),
            flavour,
            keys: keys.clone(),
            images: Arc::default(),
            told_too_large: Arc::default(),
        })
    }

    /// What the engine answers to `path`, in the version of the API that was agreed on.
    async fn get(&self, path: &str) -> Result<http::Answer, EngineError> {
        let version = self.docker.client_version();
        http::get(&self.socket, &format!("/v{}.{}{path}", version.major_version, version.minor_version)).await
    }

    /// What it says of one container or image.
    async fn one<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        http::parsed(&self.get(path).await?.whole(MAX_ONE).await?)
    }

    /// Every container, as the engine lists it.
    async fn whole_list(&self) -> Result<Vec<Listed>, EngineError> {
        let keys = self.keys.get();
        let mut answer = self.get("/containers/json?all=true").await?;
        let (mut list, mut elements) = (Vec::new(), Elements::new(MAX_ONE));
        while let Some(piece) = answer.piece().await? {
            for element in elements.feed(&piece)? {
                list.extend(listed(http::parsed(&element)?, self.flavour, &keys));
            }
            if list.len() > MAX_LISTED {
                return Err(EngineError::TooLarge(format!("more than {MAX_LISTED} containers")));
            }
        }
        let count = elements.end()?;
        if count > 0 && !self.told_too_large.swap(true, Ordering::Relaxed) {
            let most = MAX_ONE;
            tracing::warn!(
                count,
                "containers with more than {most} bytes of labels are not read, and not named"
            );
        }
        Ok(list)
    }

    /// Who answers.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The engine's version.
    pub async fn version(&self) -> Result<String, EngineError> {
        let version = within(CONNECT_LIMIT, self.docker.version()).await?;
        Ok(version.version.unwrap_or_else(|| "of unknown version".into()))
    }

    /// The container called `name_or_id`, with its pod where cri-dockerd made it and has not removed it yet.
    pub async fn inspect(&self, name_or_id: &str) -> Result<Inspected, EngineError> {
        // The same for the container, its image and its sandbox, whatever is replaced meanwhile.
        let keys = self.keys.get();
        let mut inspected = self.inspect_alone(name_or_id, &keys).await?;
        if let Some(sandbox) = sandbox_on_docker(&inspected.container).map(str::to_owned) {
            match self.inspect_alone(&sandbox, &keys).await {
                Ok(sandbox) => join_on_docker(&mut inspected.container, &sandbox.container),
                // It went first: the pod's labels will not be known any more.
                Err(EngineError::NoSuchContainer) => {
                    let container = &inspected.container.id;
                    tracing::debug!(
                        container,
                        sandbox,
                        "its sandbox is gone; the pod's labels are not known"
                    );
                }
                // Told without its pod it would be no function for as long as it lives: this is no answer.
                Err(error) => return Err(error),
            }
        }
        Ok(inspected)
    }

    async fn inspect_alone(&self, name_or_id: &str, keys: &Arc<Keys>) -> Result<Inspected, EngineError> {
        // The client puts it into the request's path as it is.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name_or_id.is_empty() || name_or_id.len() > Identity::MAX_NAME || !name_or_id.chars().all(plain) {
            return Err(EngineError::Other("not a container's name or id".into()));
        }
        let path = format!("/containers/{name_or_id}/json");
        let mut answer: ContainerInspectResponse = within(INSPECT_LIMIT, self.one(&path)).await?;
        let image = answer.image.take();
        let mut inspected = inspected(answer, self.flavour, keys)
            .ok_or_else(|| EngineError::Garbled("an inspection without an id".into()))?;
        if let Some(image) = image {
            inspected.container.image_labels = self.image_labels(image, keys).await;
        }
        Ok(inspected)
    }

    /// The labels that image `id` carries; none where that cannot be known: the image may be gone, its containers run
    /// on.
    async fn image_labels(&self, id: String, keys: &Arc<Keys>) -> Vec<(String, String)> {
        if id.len() > Identity::MAX_NAME || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == ':') {
            return Vec::new();
        }
        if let Some(known) = self.images.get(&id, keys) {
            return known;
        }
        match within(IMAGE_LIMIT, self.one::<ImageInspect>(&format!("/images/{id}/json"))).await {
            Ok(image) => {
                let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
                let of_image =
                    Container { image_labels: labels.into_iter().collect(), ..Container::default() };
                let labels = kept_with(of_image, keys).image_labels;
                self.images.put(id, labels.clone(), keys);
                labels
            }
            Err(error) => {
                tracing::debug!(image = %id, %error, "image not inspected; its labels count as its containers'");
                Vec::new()
            }
        }
    }
}

impl Connection for Api {
    async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        within(LIST_LIMIT, self.whole_list()).await.map(with_pods)
    }

    async fn inspected(&self, id: &ContainerId) -> Result<Inspected, EngineError> {
        self.inspect(&id.0).await
    }

    fn events(&self, since_ns: i64) -> impl Stream<Item = Result<Event, EngineError>> {
        // Asked for by name, so that the execs of health checks do not flood the stream, and so that no action of a
        // later engine can come that the client cannot read. Of podman nothing but containers can be read.
        let mut filters = HashMap::from([("type", vec!["container"])]);
        if !self.flavour.actions().is_empty() {
            filters.insert("event", self.flavour.actions().to_vec());
        }
        // Seconds and nanoseconds are the only form that every engine takes.
        let (seconds, rest) = (since_ns.div_euclid(1_000_000_000), since_ns.rem_euclid(1_000_000_000));
        let since = format!("{seconds}.{rest:09}");
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        let stream = self.docker.events(Some(options));
        let (keys, flavour) = (self.keys.clone(), self.flavour);
        stream.filter_map(move |message| {
            let event =
                message.map(|message| event(message, flavour, &keys.get())).map_err(EngineError::from);
            std::future::ready(event.transpose())
        })
    }
}

/// What any of the answers of an engine of that flavour tells of containers, a list among them.
pub fn containers_in(json: &[u8], flavour: Flavour, keys: &Keys) -> Vec<Container> {
    let inspected = serde_json::from_slice(json).ok().and_then(|answer| inspected(answer, flavour, keys));
    let one = |summary: &[u8]| listed(serde_json::from_slice(summary).ok()?, flavour, keys);
    let list = Elements::new(MAX_ONE).feed(json).unwrap_or_default();
    let list = list.iter().filter_map(|summary| one(summary));
    let listed = with_pods(one(json).into_iter().chain(list).collect());
    let told = serde_json::from_slice(json).ok().and_then(|message| event(message, flavour, keys));
    let all = [inspected.map(|inspected| inspected.container), told.map(|event| event.described)];
    all.into_iter().flatten().chain(listed.into_iter().map(|listed| listed.container)).collect()
}

async fn within<T, E: Into<EngineError>>(
    limit: Duration,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(EngineError::Late(limit.as_secs())),
    }
}

/// What an event says; none for those that say nothing of a container's life.
fn event(message: EventMessage, flavour: Flavour, keys: &Keys) -> Option<Event> {
    let action = match message.action?.as_str() {
        "create" => Action::Create,
        "start" => Action::Start,
        "die" => Action::Die,
        "oom" => Action::Oom,
        "health_status: healthy" => Action::Healthy,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        "rename" => Action::Rename,
        "update" => Action::Update,
        // Podman's word is the second.
        "destroy" | "remove" => Action::Destroy,
        _ => return None,
    };
    let actor = message.actor?;
    let id = bounded_id(actor.id?)?;
    let mut attributes = actor.attributes.unwrap_or_default();
    // Podman sets it in every event, whatever labels there are; of Docker a label of that name shows in each.
    let tells = flavour == Flavour::Docker || action == Action::Die;
    let exit_code = attributes.get(flavour.exit_code()).filter(|_| tells).and_then(|code| code.parse().ok());
    let (name, image) = (attributes.remove("name"), attributes.remove("image"));
    // The daemon's own words, which stand among the container's labels.
    for own in flavour.own_attributes() {
        attributes.remove(*own);
    }
    let time_ns =
        message.time_nano.or(message.time.map(|time| time.saturating_mul(1_000_000_000))).unwrap_or(0);
    let described = described(&id, name, image, Some(attributes), flavour, keys);
    Some(Event {
        action,
        time_ns,
        at: Timestamp(time_ns.div_euclid(1000)),
        pid: None,
        // Of cri-dockerd's containers the sandbox has the labels that say whether it is a function.
        is_sketch: sandbox_on_docker(&described).is_some(),
        exit_code,
        described,
        id,
    })
}

/// An element of the list.
fn listed(summary: ContainerSummary, flavour: Flavour, keys: &Keys) -> Option<Listed> {
    use ContainerSummaryStateEnum as State;
    let id = bounded_id(summary.id?)?;
    let life = match summary.state {
        Some(State::RUNNING | State::PAUSED | State::STOPPING) => Life::Running,
        Some(State::EXITED | State::DEAD) => Life::Ended,
        _ => Life::Unclear,
    };
    let name = summary.names.unwrap_or_default().into_iter().next();
    let container = described(&id, name, summary.image, summary.labels, flavour, keys);
    Some(Listed { container, id, life, inspected: None })
}

/// The list with the pods of containers that cri-dockerd made: their sandboxes are in it. What cannot be inspected, and
/// what has long ended, is told by it.
fn with_pods(mut list: Vec<Listed>) -> Vec<Listed> {
    let wanted: HashSet<String> =
        list.iter().filter_map(|listed| sandbox_on_docker(&listed.container)).map(str::to_owned).collect();
    let sandboxes = list.iter().filter(|listed| wanted.contains(&*listed.id.0));
    let sandboxes: HashMap<String, Container> =
        sandboxes.map(|listed| (listed.id.0.to_string(), listed.container.clone())).collect();
    for Listed { container, .. } in &mut list {
        if let Some(sandbox) = sandbox_on_docker(container).and_then(|id| sandboxes.get(id)) {
            join_on_docker(container, sandbox);
        }
    }
    list
}

/// An inspection.
fn inspected(answer: ContainerInspectResponse, flavour: Flavour, keys: &Keys) -> Option<Inspected> {
    let id = bounded_id(answer.id?)?;
    let config = answer.config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let is_label = |labels: &HashMap<String, String>| labels.contains_key(flavour.exit_code());
    let forges_exit_code = flavour == Flavour::Docker && config.labels.as_ref().is_some_and(is_label);
    let container = Container {
        env: config.env.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        runtime_handler: answer.host_config.and_then(|config| config.runtime).filter(|name| !name.is_empty()),
        ..described(&id, answer.name, config.image, config.labels, flavour, keys)
    };
    let running = state.running == Some(true);
    Some(Inspected {
        container: kept_with(container, keys),
        running,
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0 && running).map(Pid),
        started_at: time(state.started_at.as_deref()),
        finished_at: time(state.finished_at.as_deref()),
        exit_code: state.exit_code.and_then(|code| i32::try_from(code).ok()),
        oom: state.oom_killed == Some(true),
        forges_exit_code,
        created_at: None,
    })
}

fn described(
    id: &ContainerId,
    name: Option<String>,
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
    flavour: Flavour,
    keys: &Keys,
) -> Container {
    let mut labels: Vec<_> = labels.unwrap_or_default().into_iter().collect();
    // The daemon's JSON has no order; ours is the same every time.
    labels.sort_unstable();
    let container = Container {
        runtime: flavour.name().into(),
        id: id.0.to_string(),
        name: name.map(|name| name.trim_start_matches('/').to_owned()),
        image,
        labels,
        ..Container::default()
    };
    kept_with(container, keys)
}

fn bounded_id(id: String) -> Option<ContainerId> {
    (!id.is_empty() && id.len() <= Identity::MAX_NAME).then(|| ContainerId(id.into()))
}

/// RFC 3339; `0001-01-01T00:00:00Z` is how Docker says never.
fn time(text: Option<&str>) -> Option<Timestamp> {
    let time: jiff::Timestamp = text?.parse().ok()?;
    Some(Timestamp(time.as_microsecond())).filter(|time| time.0 > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// A value that may stand where another kind was expected.
    fn value() -> impl Strategy<Value = Value> {
        let text = || prop_oneof![".{0,300}", "2026-11-23T08:0[0-9]:00(\\.[0-9]{0,12})?Z?", "-?[0-9]{0,20}"];
        prop_oneof![
            text().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            proptest::collection::vec(text(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("exitCode|name|image|fnscope.function|.{0,9}", text()), 0..4)
                .prop_map(|labels| labels.into_iter().map(|(key, text)| (key, Value::from(text))).collect()),
            Just(Value::Null),
        ]
    }

    /// An object with any values under `keys`.
    fn object(keys: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
        let fields = proptest::collection::vec((proptest::sample::select(keys), value()), 0..keys.len() + 2);
        fields.prop_map(|fields| fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    fn bounded(container: &Container) -> bool {
        let texts = container.labels.iter().map(|(_, value)| value).chain(&container.name);
        texts.chain([&container.id]).all(|text| text.len() <= Identity::MAX_NAME)
    }

    #[test]
    fn a_list_tells_the_pods_of_the_containers_that_cri_dockerd_made() {
        let (pod, gone) = ("5".repeat(64), "6".repeat(64));
        let of = |sandbox: &str| json!({ "io.kubernetes.pod.uid": "u", "io.kubernetes.sandbox.id": sandbox });
        let list = json!([
            { "Id": "a", "Names": ["/k8s_f_p_ns_u_0"], "State": "running", "Labels": of(&pod) },
            { "Id": "b", "Names": ["/k8s_g_q_ns_u_0"], "State": "exited", "Labels": of(&gone) },
            { "Id": "c", "Names": ["/c"], "State": "running", "Labels": { "faas_function": "plain" } },
            { "Id": pod, "Names": ["/k8s_POD_p_ns_u_0"], "State": "running", "Labels": {
                "io.kubernetes.docker.type": "podsandbox", "io.kubernetes.pod.uid": "u", "faas_function": "figlet",
            } },
        ]);
        let list: Vec<ContainerSummary> = serde_json::from_value(list).unwrap();
        let list = list.into_iter().filter_map(|summary| listed(summary, Flavour::Docker, &Keys::default()));
        let pods = with_pods(list.collect()).into_iter().map(|listed| {
            let pod = listed.container.pod.as_ref();
            pod.and_then(|pod| pod.label("faas_function")).map(str::to_owned)
        });
        assert_eq!(pods.collect::<Vec<_>>(), [Some("figlet".to_owned()), None, None, None]);
    }

    proptest! {
        #[test]
        fn any_answer_is_a_bounded_container_or_none(
            about in object(&["Id", "Name", "Image"]),
            config in object(&["Env", "Cmd", "Entrypoint", "Image", "Labels"]),
            state in object(&["Running", "Pid", "StartedAt", "FinishedAt", "ExitCode", "OOMKilled"]),
            listed_as in object(&["Id", "Names", "Image", "Labels", "State"]),
            id: String, state_text in "running|exited|dead|created|.{0,9}",
        ) {
            let mut answer = about.clone();
            answer.extend([("Config".to_string(), config.into()), ("State".to_string(), state.into())]);
            answer.entry("Id").or_insert(id.into());
            if let Some(found) = serde_json::from_value(answer.into()).ok().and_then(|answer| inspected(answer, Flavour::Docker, &Keys::default())) {
                prop_assert!(bounded(&found.container) && found.container.cmd.len() <= 1);
                prop_assert!(found.running || found.pid.is_none());
            }
            let mut answer = listed_as.clone();
            answer.entry("State").or_insert(state_text.into());
            if let Some(found) = serde_json::from_value(answer.into()).ok().and_then(|summary| listed(summary, Flavour::Docker, &Keys::default())) {
                prop_assert!(bounded(&found.container));
            }
        }

        #[test]
        fn any_event_is_one_of_ours_or_none(
            actor in object(&["ID", "Attributes"]), action in "create|start|die|oom|destroy|.{0,9}",
            id: String, attributes in value(), seconds: Option<i64>, nanoseconds: Option<i64>,
        ) {
            let mut actor = actor.clone();
            actor.entry("ID").or_insert(id.into());
            actor.entry("Attributes").or_insert(attributes);
            let message = json!({"Action": action, "Actor": actor, "time": seconds, "timeNano": nanoseconds});
            if let Some(found) = serde_json::from_value(message).ok().and_then(|message| event(message, Flavour::Docker, &Keys::default())) {
                prop_assert!(bounded(&found.described));
                prop_assert_eq!(found.at.0, found.time_ns.div_euclid(1000));
            }
        }
    }
}
