//! Who runs here: runtimes to [`ContainerEvent`](crate::model::ContainerEvent)s.
//!
//! | file | what |
//! |---|---|
//! | [`docker`] | a Docker Engine on a unix socket |
//! | [`containerd`] | containerd, by its own API |
//! | [`cri`] | CRI-O, or whatever else speaks the CRI: asked, because it tells of nothing by itself |
//! | [`look_up`] | containers to be asked after, from whoever sees their cgroups |
//! | [`cgroup`] | containers without a runtime: the children of configured cgroups, named by their directories |
//! | [`watch`] | list, then watch, for as long as it takes: one loop for every [`engine`] that can do both |
//! | [`book`] | what is known, what is to be asked, in which order things are told; pure |
//! | [`socket`] | where a runtime listens |
//! | [`grpc`] | gRPC over unix sockets, and the clients that were made for it |
//! | `backoff`, `images` | how long to wait for a runtime that is not there; labels of images, asked for once |
//!
//! Not here: which function a container is (identity), where its cgroup is, when it is sampled.

mod appear;
mod backoff;
pub mod book;
pub mod cgroup;
pub mod containerd;
pub mod cri;
pub mod docker;
pub mod engine;
pub mod grpc;
mod images;
pub mod look_up;
pub mod socket;
pub mod watch;
