//! Who runs here: runtimes to [`ContainerEvent`](crate::model::ContainerEvent)s.
//!
//! | file | what |
//! |---|---|
//! | [`docker`] | a Docker Engine on a unix socket |
//! | [`cgroup`] | containers without a runtime: the children of configured cgroups, named by their directories |
//! | [`watch`] | list, then watch, for as long as it takes: one loop for every [`engine`] that can do both |
//! | [`book`] | what is known, what is to be asked, in which order things are told; pure |
//! | [`socket`] | where a runtime listens |
//! | [`grpc`] | gRPC over unix sockets, and the clients that were made for it |
//! | `backoff`, `images` | how long to wait for a runtime that is not there; labels of images, asked for once |
//!
//! Not here: which function a container is (identity), where its cgroup is, when it is sampled.

mod backoff;
pub mod book;
pub mod cgroup;
pub mod docker;
pub mod engine;
pub mod grpc;
mod images;
pub mod socket;
pub mod watch;
