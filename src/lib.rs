//! fnscope: see inside serverless functions from the host.
//!
//! The map, in reading order. A room may use the rooms above it in this table and no others;
//! `tests/architecture.rs` holds that.
//!
//! | room | what |
//! |---|---|
//! | [`model`] | the nouns: ids, containers, identities, frames, samples; no I/O |
//! | [`sys`] | all unsafe code: perf events and their rings, the filter of system calls |
//! | [`metrics`] | what the agent tells of itself: every number, what its threads owe |
//! | [`health`] | whether it is well; telling systemd; asking a running agent |
//! | [`http`] | what is told over HTTP: health and metrics, on a listener of its own |
//! | [`identity`] | which function is it: platform rules over plain data; pure |
//! | [`privilege`] | what we may do on this host, and giving up the rest |
//! | [`cgroup`] | cgroups of this host: paths, ids, CPU accounts |
//! | [`runtime`] | who runs here: Docker, containerd, podman, configured cgroup parents |
//! | [`perf`] | perf events to records: samples with cgroup ids, side-band |
//! | [`stack`] | addresses to frames: files, symbol tables, kallsyms |
//! | [`attribution`] | cgroup id to container instance to function, late where it must be; pure |
//! | [`store`] | the profiles directory: journal, sealed hours, folded tree |
//! | [`fold`] | samples of a window to a profile |
//! | [`query`] | questions over the store |
//! | [`render`] | answers to tables, folded text, flame graphs |
//! | [`exchange`] | other tools' formats, in and out |
//! | [`config`] | what the agent is told |
//! | [`agent`] | the only wiring place: threads, start and stop order |
//! | [`functions`] | the example function that demonstrations and tests run |
//! | [`cli`] | one file per command |

pub mod agent;
pub mod attribution;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod exchange;
pub mod fold;
pub mod functions;
pub mod health;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod model;
pub mod perf;
pub mod privilege;
pub mod query;
pub mod render;
pub mod runtime;
pub mod stack;
pub mod store;
pub mod sys;
