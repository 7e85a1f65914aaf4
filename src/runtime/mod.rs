//! Who runs here: runtimes to [`ContainerEvent`](crate::model::ContainerEvent)s.
//!
//! | file | what |
//! |---|---|
//! | [`docker`] | a Docker Engine on a unix socket: list, then watch, for as long as it takes |
//! | `pods` | containers joined to the sandbox of their pod, where a runtime tells them apart |
//! | [`cgroup`] | containers without a runtime: the children of configured cgroups, named by their directories |
//!
//! Not here: which function a container is (identity), where its cgroup is, when it is sampled.

pub mod cgroup;
pub mod docker;
mod pods;
