//! Labels of this node's pods as Kubernetes has them now: a runtime knows those of a pod's making alone.
//!
//! | file | what |
//! |---|---|
//! | [`pods`] | answers of a kubelet or an API server to pods, bounded; pure |
//! | `client` | requests over HTTPS, with the service account's token |
//! | `watch` | who is asked when: the kubelet again and again, the API server once and then for what changes |
//!
//! Asked for only where it is configured. Promises: certificates are checked; an answer is bounded, and so is the time
//! for it; what fails is told once, counted, and tried again later and later. Of a pod nothing is kept but its name, its
//! containers' ids and the labels that tell of a function. Not here: which function that is (identity).

mod client;
pub mod pods;
mod watch;

pub use client::{Client, Fault, Limits};
pub use pods::Pod;
pub use watch::{Answers, Asked, Told, Watch};
