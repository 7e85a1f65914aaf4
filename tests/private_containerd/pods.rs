//! Pods on the private containerd, made and ended through the CRI as a kubelet does: the same labels, the same parents
//! of cgroups. They use the host's network, because there is no CNI.

use std::collections::HashMap;
use std::fs;

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::cri;
use super::cri::runtime_service_client::RuntimeServiceClient;
use super::{FUNCTION_IMAGE, LIMIT, PrivateContainerd, handlers};
use crate::support::{poll, truth};

/// A pod that is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace of Kubernetes.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a [(&'a str, &'a str)],
    /// Its annotations.
    pub annotations: &'a [(&'a str, &'a str)],
    /// What runs it: nothing for runc, or one of [`handlers`].
    pub handler: &'a str,
}

/// A container of a pod that is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct ContainerSpec<'a> {
    /// Its name in the pod.
    pub name: &'a str,
    /// Its image, which holds the example function.
    pub image: &'a str,
    /// Its environment.
    pub env: &'a [(&'a str, &'a str)],
    /// Its annotations.
    pub annotations: &'a [(&'a str, &'a str)],
}

/// A pod that is.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The id of its sandbox.
    pub sandbox: String,
    /// Its uid.
    pub uid: String,
    config: cri::PodSandboxConfig,
}

/// A container that has run to its end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Its exit status.
    pub exit_code: i32,
    /// What the example function told of itself on its last line.
    pub truth: Value,
}

/// The kubelet's end of the CRI. Threads may share it.
pub struct Pods<'a> {
    containerd: &'a PrivateContainerd,
    reactor: tokio::runtime::Runtime,
    client: RuntimeServiceClient<Channel>,
}

impl PrivateContainerd {
    /// Pods on this daemon, once its CRI answers. It must run; it may be restarted meanwhile.
    pub fn pods(&self) -> Pods<'_> {
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reactor = reactor.expect("make an event loop");
        let socket = self.socket();
        let connect = move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        };
        let channel = reactor.block_on(async {
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(connect))
        });
        let pods = Pods { containerd: self, reactor, client: RuntimeServiceClient::new(channel) };
        pods.wait_until_ready();
        pods
    }
}

impl Pods<'_> {
    /// Waits until the CRI answers: it comes up behind the daemon.
    pub fn wait_until_ready(&self) {
        poll("the CRI's answer", || {
            let mut client = self.client.clone();
            self.reactor.block_on(client.status(cri::StatusRequest::default())).ok().map(drop)
        });
    }

    /// Waits for what `call` answers, which must be a good thing.
    fn ask<T>(&self, what: &str, call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>) -> T {
        let limited = async { tokio::time::timeout(LIMIT, call).await };
        match self.reactor.block_on(limited) {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => panic!("{what}: {status}\n{}", self.containerd.log()),
            Err(_) => panic!("{what}: no answer within {LIMIT:?}\n{}", self.containerd.log()),
        }
    }

    /// Makes a pod, with nothing in it but its sandbox.
    pub fn run(&self, spec: &PodSpec) -> Pod {
        let uid = new_uid();
        let in_slices = spec.handler == handlers::SLICES;
        let parent = match in_slices {
            true => format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_")),
            false => format!("/kubepods/burstable/pod{uid}"),
        };
        // The kubelet makes and removes this one itself.
        self.containerd.will_use(&match in_slices {
            true => format!("/kubepods.slice/kubepods-burstable.slice/{parent}"),
            false => parent.clone(),
        });
        let logs = self.containerd.path("logs").join(&uid);
        fs::create_dir(&logs).expect("make a directory for logs");
        let namespaces = cri::NamespaceOption {
            network: cri::NamespaceMode::Node.into(),
            pid: cri::NamespaceMode::Container.into(),
            ..cri::NamespaceOption::default()
        };
        let of_pod = [
            ("io.kubernetes.pod.name", spec.name),
            ("io.kubernetes.pod.namespace", spec.namespace),
            ("io.kubernetes.pod.uid", &uid),
        ];
        let config = cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: spec.name.into(),
                uid: uid.clone(),
                namespace: spec.namespace.into(),
                attempt: 0,
            }),
            log_directory: logs.display().to_string(),
            labels: map(&[spec.labels, &of_pod].concat()),
            annotations: map(spec.annotations),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: parent,
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    ..cri::LinuxSandboxSecurityContext::default()
                }),
                ..cri::LinuxPodSandboxConfig::default()
            }),
            ..cri::PodSandboxConfig::default()
        };
        let request =
            cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: spec.handler.into() };
        let made = self.ask("run a sandbox", self.client.clone().run_pod_sandbox(request));
        Pod { sandbox: made.pod_sandbox_id, uid, config }
    }

    /// Makes container `name` of the example function in `pod`, and does not start it; its id.
    pub fn create(&self, pod: &Pod, name: &str, env: &[(&str, &str)], arguments: &[&str]) -> String {
        let spec = ContainerSpec { name, env, image: FUNCTION_IMAGE, ..ContainerSpec::default() };
        self.create_as(pod, &spec, arguments)
    }

    /// Makes a container of the example function in `pod` as `spec` says, and does not start it; its id.
    pub fn create_as(&self, pod: &Pod, spec: &ContainerSpec, arguments: &[&str]) -> String {
        let ContainerSpec { name, image, env, annotations } = *spec;
        let metadata = pod.config.metadata.clone().unwrap_or_default();
        let labels = [
            ("io.kubernetes.container.name", name),
            ("io.kubernetes.pod.name", &metadata.name),
            ("io.kubernetes.pod.namespace", &metadata.namespace),
            ("io.kubernetes.pod.uid", &metadata.uid),
        ];
        let env = env.iter().map(|(key, value)| cri::KeyValue { key: (*key).into(), value: (*value).into() });
        let of_sandbox = pod.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: image.into(), ..cri::ImageSpec::default() }),
            command: vec!["/function".into()],
            args: arguments.iter().map(ToString::to_string).collect(),
            envs: env.collect(),
            labels: map(&labels),
            annotations: map(annotations),
            log_path: format!("{name}.log"),
            linux: Some(cri::LinuxContainerConfig {
                security_context: Some(cri::LinuxContainerSecurityContext {
                    namespace_options: of_sandbox.and_then(|context| context.namespace_options.clone()),
                    ..cri::LinuxContainerSecurityContext::default()
                }),
                ..cri::LinuxContainerConfig::default()
            }),
            ..cri::ContainerConfig::default()
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        self.ask("create a container", self.client.clone().create_container(request)).container_id
    }

    /// Starts container `id`.
    pub fn start(&self, id: &str) {
        let request = cri::StartContainerRequest { container_id: id.into() };
        self.ask("start a container", self.client.clone().start_container(request));
    }

    /// What the CRI says of container `id`.
    pub fn status(&self, id: &str) -> cri::ContainerStatusResponse {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: true };
        self.ask("ask for a container's status", self.client.clone().container_status(request))
    }

    /// The first process of container `id`, as the host sees it.
    pub fn pid(&self, id: &str) -> u32 {
        let info = self.status(id).info.remove("info").expect("verbose status");
        let info: Value = serde_json::from_str(&info).unwrap_or_else(|error| panic!("{error}: {info}"));
        let pid = info["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.unwrap_or_else(|| panic!("no process of {id} in {info}"))
    }

    /// Kills container `id` and waits until it has ended.
    pub fn kill(&self, id: &str) {
        let request = cri::StopContainerRequest { container_id: id.into(), timeout: 0 };
        self.ask("stop a container", self.client.clone().stop_container(request));
    }

    /// Waits for the end of container `id`, whatever it was. One that ends while containerd is away may have said nothing:
    /// what it says is written down by containerd.
    pub fn wait_for_end(&self, id: &str) -> cri::ContainerStatus {
        poll("a container's end", || {
            self.status(id).status.filter(|it| it.state() == cri::ContainerState::ContainerExited)
        })
    }

    /// Waits for the end of container `id`, called `name` in `pod`, which must be a good one.
    pub fn wait(&self, pod: &Pod, id: &str, name: &str) -> Ended {
        let ended = self.wait_for_end(id);
        let said = self.said(pod, name);
        assert_eq!(ended.exit_code, 0, "{name} {id} ({}): {said}", ended.reason);
        Ended { id: id.into(), exit_code: ended.exit_code, truth: truth(&said) }
    }

    /// What container `name` of `pod` has written to stdout.
    pub fn said(&self, pod: &Pod, name: &str) -> String {
        let log = self.containerd.path("logs").join(&pod.uid).join(format!("{name}.log"));
        let log = fs::read_to_string(&log).unwrap_or_else(|error| panic!("read {}: {error}", log.display()));
        // `time stdout F text`: who wrote when, and whether the line is whole.
        let texts =
            log.lines().filter(|line| line.contains(" stdout ")).map(|line| line.splitn(4, ' ').nth(3));
        texts.flatten().map(|text| format!("{text}\n")).collect()
    }

    /// Runs a pod with one container, `function`, to its end, and removes it.
    pub fn run_function(&self, spec: &PodSpec, arguments: &[&str]) -> (Pod, Ended) {
        let pod = self.run(spec);
        let id = self.create(&pod, "function", &[], arguments);
        self.start(&id);
        let ended = self.wait(&pod, &id, "function");
        self.remove(&pod);
        (pod, ended)
    }

    /// Ends a pod with all that is in it and removes it.
    pub fn remove(&self, pod: &Pod) {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
        self.ask("stop a sandbox", self.client.clone().stop_pod_sandbox(request));
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: pod.sandbox.clone() };
        self.ask("remove a sandbox", self.client.clone().remove_pod_sandbox(request));
    }
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A uid as Kubernetes gives them.
fn new_uid() -> String {
    let uid = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel gives a uuid");
    uid.trim().to_owned()
}
