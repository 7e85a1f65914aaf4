//! The CRI's calls, each with its limits; tonic is used in `grpc` and here alone.
//!
//! Promises: a call has an end, an answer a largest size; what comes of it is cut to what rules read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::Channel;

use super::book::{Answer, Ask, Life, Listed, RETRIES, Status};
use super::info::{self, Info};
use super::told::{self, Sandbox};
use crate::identity::Keys;
use crate::model::{ContainerId, Swap};
use crate::runtime::engine::EngineError;
use crate::runtime::grpc::cri::runtime_service_client::RuntimeServiceClient;
use crate::runtime::grpc::{self, cri, within};

/// Largest answer in bytes. Ten thousand containers with a kilobyte of labels each are a third of it.
const MAX_ANSWER: usize = 32 << 20;
/// For the version, which needs no looking up.
const VERSION_LIMIT: Duration = Duration::from_secs(15);
/// For one container. A runtime that is busy with its disk takes seconds.
const STATUS_LIMIT: Duration = Duration::from_secs(30);
/// For everything.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// A runtime that has answered once.
#[derive(Debug, Clone)]
pub struct Api {
    client: RuntimeServiceClient<Channel>,
    keys: Swap<Keys>,
    /// Sandboxes that were told of: a pod's never changes, and is asked for once.
    sandboxes: Arc<Mutex<HashMap<ContainerId, Sandbox>>>,
}

/// What came of asking for one container.
#[derive(Debug)]
pub struct LookedUp {
    /// For the book.
    pub answer: Answer,
    /// What went wrong on the way, whatever the answer.
    pub fault: Option<EngineError>,
    /// Whether its pod was gone.
    pub without_pod: bool,
}

impl Api {
    /// Connects to `socket`; also which runtime it is, and in which version. Of containers it keeps what rules read, and
    /// `keys`.
    pub async fn connect(socket: &Path, keys: &Swap<Keys>) -> Result<(Api, String), EngineError> {
        let channel = grpc::connect(socket).await?;
        let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let version = within(VERSION_LIMIT, client.version(cri::VersionRequest::default())).await?;
        let said = format!("{} {}", version.runtime_name, version.runtime_version);
        Ok((Api { client, keys: keys.clone(), sandboxes: Arc::default() }, said))
    }

    /// Everything there is.
    pub async fn list(&self) -> Result<Vec<Listed>, EngineError> {
        let list = self.whole_list().await;
        // Nothing says which sandboxes are still there: those that are wanted are asked for anew.
        if matches!(list, Err(EngineError::TooLarge(_))) {
            self.known().clear();
        }
        list
    }

    /// Sandboxes first, so that containers find their pods.
    async fn whole_list(&self) -> Result<Vec<Listed>, EngineError> {
        let request = cri::ListPodSandboxRequest::default();
        let pods = within(LIST_LIMIT, self.client.clone().list_pod_sandbox(request)).await?;
        let request = cri::ListContainersRequest::default();
        let containers = within(LIST_LIMIT, self.client.clone().list_containers(request)).await?;
        let keys = self.keys.get();
        let pods = pods.items.into_iter().filter_map(|pod| told::listed_sandbox(pod, &keys));
        let pods: Vec<(ContainerId, Sandbox, Life)> = pods.collect();
        let all = pods.iter().map(|(id, sandbox, life)| Listed {
            id: id.clone(),
            container: Some(told::pause(id, sandbox.clone())),
            life: *life,
        });
        let all = all.chain(containers.containers.iter().filter_map(told::listed)).collect();
        *self.known() = pods.into_iter().map(|(id, sandbox, _)| (id, sandbox)).collect();
        Ok(all)
    }

    /// Asks for the container, or the sandbox, that `ask` is about.
    pub async fn look_up(&self, ask: &Ask) -> LookedUp {
        let request = cri::ContainerStatusRequest { container_id: ask.id.0.to_string(), verbose: true };
        let answer = match within(STATUS_LIMIT, self.client.clone().container_status(request)).await {
            Ok(answer) => answer,
            Err(EngineError::NoSuchContainer) => return self.look_up_sandbox(&ask.id).await,
            Err(fault) => return LookedUp::failed(fault),
        };
        let Some(status) = answer.status.filter(|status| *status.id == *ask.id.0) else {
            let fault = EngineError::Garbled(format!("the status of {} is of another container", ask.id));
            return LookedUp::failed(fault);
        };
        // Without it the container has a name all the same.
        let (info, mut fault) = match answer.info.get("info").map(|text| info::parse(text)) {
            Some(Ok(info)) => (info, None),
            Some(Err(error)) => (Info::default(), Some(EngineError::Garbled(format!("info: {error}")))),
            None => (Info::default(), None),
        };
        let is_last = ask.attempt >= RETRIES.len();
        let (sandbox, without_pod) = match self.sandbox_of(&ask.id, &info).await {
            Ok(sandbox) => (Some(sandbox), false),
            Err(EngineError::NoSuchContainer) => (None, true),
            Err(error) if !is_last => return LookedUp::failed(error),
            Err(error) => {
                fault = Some(error);
                (None, true)
            }
        };
        let status = told::container(status, info, sandbox, &self.keys.get());
        let answer = status.map_or(Answer::Failed, |status| Answer::Found(Box::new(status)));
        LookedUp { answer, fault, without_pod }
    }

    async fn look_up_sandbox(&self, id: &ContainerId) -> LookedUp {
        match self.sandbox(id.clone()).await {
            Ok((sandbox, life)) => {
                let status = Status {
                    container: told::pause(id, sandbox),
                    life,
                    pid: None,
                    started_at: None,
                    finished_at: None,
                    exit_code: None,
                    oom: false,
                };
                LookedUp { answer: Answer::Found(Box::new(status)), fault: None, without_pod: false }
            }
            Err(EngineError::NoSuchContainer) => {
                LookedUp { answer: Answer::Missing, fault: None, without_pod: false }
            }
            Err(fault) => LookedUp::failed(fault),
        }
    }

    /// The sandbox that container `id` is in.
    async fn sandbox_of(&self, id: &ContainerId, info: &Info) -> Result<Sandbox, EngineError> {
        let of_spec =
            |key: &str| info.annotations.iter().find(|(name, _)| name == key).map(|(_, id)| id.clone());
        let told = info.sandbox.clone();
        let told = told.or_else(|| of_spec("io.kubernetes.cri.sandbox-id"));
        let sandbox = match told.or_else(|| of_spec("io.kubernetes.cri-o.SandboxID")) {
            Some(sandbox) => sandbox,
            None => {
                let filter = cri::ContainerFilter { id: id.0.to_string(), ..cri::ContainerFilter::default() };
                let request = cri::ListContainersRequest { filter: Some(filter) };
                let list = within(STATUS_LIMIT, self.client.clone().list_containers(request)).await?;
                let found = list.containers.into_iter().find(|container| *container.id == *id.0);
                found.ok_or(EngineError::NoSuchContainer)?.pod_sandbox_id
            }
        };
        let sandbox = told::bounded_id(sandbox)
            .ok_or_else(|| EngineError::Garbled(format!("container {id} is in no sandbox")))?;
        if let Some(known) = self.known().get(&sandbox) {
            return Ok(known.clone());
        }
        self.sandbox(sandbox).await.map(|(sandbox, _)| sandbox)
    }

    async fn sandbox(&self, id: ContainerId) -> Result<(Sandbox, Life), EngineError> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.0.to_string(), verbose: false };
        let answer = within(STATUS_LIMIT, self.client.clone().pod_sandbox_status(request)).await?;
        let told = answer.status.and_then(|status| told::sandbox(status, &self.keys.get()));
        let (_, sandbox, life) = told
            .filter(|(told, ..)| *told == id)
            .ok_or_else(|| EngineError::Garbled(format!("the status of {id} is of another sandbox")))?;
        self.known().insert(id, sandbox.clone());
        Ok((sandbox, life))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Sandbox>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookedUp {
    fn failed(fault: EngineError) -> LookedUp {
        LookedUp { answer: Answer::Failed, fault: Some(fault), without_pod: false }
    }
}
