//! The nouns of fnscope: ids, containers, identities, frames, samples and what the store keeps of them.
//!
//! Not here: any input or output, any type of another crate's API. Every other room may use this one; this one
//! uses none.

pub mod container;
pub mod event;
pub mod frame;
pub mod identity;
pub mod ids;
pub mod isolation;
pub mod recent;
pub mod record;
pub mod stack;
pub mod swap;
pub mod tables;
pub mod time;

pub use container::{Container, ContainerEvent, Oddity, Pod};
pub use event::SampledEvent;
pub use frame::{Frame, FrameKind};
pub use identity::{Confidence, Identity};
pub use ids::{BuildId, CgroupId, ContainerId, IdMap, IdSet, InstanceKey, Pid};
pub use isolation::Isolation;
pub use recent::Recent;
pub use record::{
    Batch, CpuSource, CpuStats, Entry, Fact, FactKind, InstanceInfo, InstanceNo, OwnUse, Sample, Wait,
    WriterInfo,
};
pub use stack::{Fingerprint, Quality, QualityCounts, Stack};
pub use swap::Swap;
pub use time::{Timestamp, Window};
