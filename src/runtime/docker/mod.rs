//! A Docker Engine, or podman by Docker's API, on a unix socket, to be watched by [`watch`].
//!
//! `api` is the engine's API; bollard is used there alone. `http` asks for what may be large, and `elements` takes a list
//! apart as it comes. `flavour` has what podman does otherwise. Which of both answers on a socket is asked, so that a socket of Docker's name behind which podman listens is podman's. Not here: the order in which things are told, what a
//! container's names mean, and where its cgroup is.

mod api;
mod elements;
mod flavour;
mod http;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use self::api::Api;
pub use self::flavour::Flavour;
use super::engine::{Engine, EngineError};
use super::socket::Socket;
use super::watch as watch_engine;
use crate::identity::Keys;
use crate::model::{Container, ContainerEvent, Swap};

/// Name of this runtime in [`Container::runtime`] and [`ContainerEvent`].
pub const RUNTIME: &str = "docker";
/// Where it listens if nobody says otherwise.
pub const USUAL: &[&str] = &["/var/run/docker.sock"];
/// Name of podman there.
pub const PODMAN: &str = "podman";
/// Where podman's service listens for the whole host.
pub const PODMAN_USUAL: &[&str] = &["/run/podman/podman.sock"];

/// Where the daemon is and how it is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOptions {
    /// By what name it is told: [`RUNTIME`], [`PODMAN`].
    pub name: &'static str,
    /// The daemon's unix socket.
    pub socket: Socket,
    /// How often the list is compared with what is known. The daemon drops events, without a word, for a reader that
    /// is 100 ms behind.
    pub relist_every: Duration,
    /// Labels and variables that are kept beside those that the table of rules reads. What is asked for after they were
    /// replaced is cut to the new ones; what was told before stays as it was told.
    pub keys: Swap<Keys>,
}

impl DockerOptions {
    /// The daemon at `socket`.
    pub fn at(socket: Socket) -> DockerOptions {
        DockerOptions { name: RUNTIME, socket, relist_every: Duration::from_secs(60), keys: Swap::default() }
    }

    /// Podman at `socket`.
    pub fn podman_at(socket: Socket) -> DockerOptions {
        DockerOptions { name: PODMAN, ..DockerOptions::at(socket) }
    }

    /// The daemon at `configured`, else at `docker_host` (the variable `DOCKER_HOST`), else at a usual socket. Only
    /// a daemon on this host will do, so another scheme than `unix://` is an error.
    pub fn new(configured: Option<&Path>, docker_host: Option<&str>) -> anyhow::Result<DockerOptions> {
        let socket = match (configured, docker_host.filter(|host| !host.is_empty())) {
            (Some(socket), _) => Socket::At(socket.to_owned()),
            (None, Some(host)) => host
                .strip_prefix("unix://")
                .filter(|path| path.starts_with('/'))
                .map(|path| Socket::At(PathBuf::from(path)))
                .with_context(|| {
                    format!("DOCKER_HOST is {host:?}; only unix:///path is watched, configure its socket")
                })?,
            (None, None) => Socket::Usual(USUAL),
        };
        Ok(DockerOptions::at(socket))
    }

    async fn connected(&self) -> Result<Api, EngineError> {
        let found = self.socket.find().ok_or_else(|| EngineError::Absent("no such socket".into()))?;
        self.connect(&found).await
    }
}

impl Engine for DockerOptions {
    type Connection = Api;

    fn name(&self) -> &'static str {
        self.name
    }

    fn socket(&self) -> &Socket {
        &self.socket
    }

    fn relist_every(&self) -> Duration {
        self.relist_every
    }

    fn deaf_for(&self, connection: &Api) -> Option<Duration> {
        // Podman tells nothing of what happens within a second or two of being asked for events, whatever name it is
        // watched by.
        (connection.flavour() == Flavour::Podman).then_some(Duration::from_secs(3))
    }

    async fn connect(&self, socket: &Path) -> Result<Api, EngineError> {
        let api = Api::connect(socket, &self.keys).await?;
        // A link to podman's socket has Docker's name where podman stands in for it. Who gives a path means that one.
        let is_found = matches!(self.socket, Socket::Usual(_));
        if is_found && api.flavour() == Flavour::Podman && self.name != PODMAN {
            return Err(EngineError::Another(PODMAN));
        }
        Ok(api)
    }
}

/// Tells `sink` what happens to the daemon's containers until `shutdown`: see [`watch_engine::watch`].
pub async fn watch(
    options: &DockerOptions,
    sink: impl FnMut(ContainerEvent),
    shutdown: impl Future<Output = ()>,
) {
    watch_engine::watch(options, sink, shutdown).await;
}

/// What one answer of an engine of that flavour tells of containers, whichever of its answers it is: an inspection, an
/// element of the list, an event. Any bytes: those that are none tell of none.
pub fn containers_in(json: &[u8], flavour: Flavour, keys: &Keys) -> Vec<Container> {
    api::containers_in(json, flavour, keys)
}

/// The engine's version, as a sign that it can be used.
pub async fn ping(options: &DockerOptions) -> anyhow::Result<String> {
    let socket = &options.socket;
    let version = async { options.connected().await?.version().await };
    version.await.with_context(|| format!("ask the docker daemon at {socket} for its version"))
}

/// The container called `name_or_id`, cut to what identity reads.
pub async fn inspect(options: &DockerOptions, name_or_id: &str) -> anyhow::Result<Container> {
    let socket = &options.socket;
    let inspected = async { options.connected().await?.inspect(name_or_id).await };
    let inspected = inspected.await;
    Ok(inspected.with_context(|| format!("inspect container {name_or_id:?} at {socket}"))?.container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_configured_one_then_the_environments() {
        for (configured, host, expected) in [
            (None, None, Some("usual")),
            (None, Some(""), Some("usual")),
            (None, Some("unix:///run/x.sock"), Some("/run/x.sock")),
            (Some("/etc/d.sock"), Some("tcp://1.2.3.4:2375"), Some("/etc/d.sock")),
            (None, Some("tcp://1.2.3.4:2375"), None),
            (None, Some("unix://relative"), None),
        ] {
            let options = DockerOptions::new(configured.map(Path::new), host);
            let socket = options.ok().map(|options| options.socket);
            let expected = expected.map(|path| match path {
                "usual" => Socket::Usual(USUAL),
                path => Socket::At(path.into()),
            });
            assert_eq!(socket, expected, "{configured:?} {host:?}");
        }
    }
}
