//! What tests store.

use std::sync::Arc;

use crate::model::{
    CgroupId, Confidence, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo, Timestamp, WriterInfo,
};

/// 2026-11-23T08:00:00Z.
pub const EIGHT: i64 = 1_795_420_800_000_000;

/// A writer on node `node`.
pub fn writer(node: &str) -> WriterInfo {
    WriterInfo {
        node: node.into(),
        boot_id: "6e9d3f62-1111-2222-3333-444455556666".into(),
        writer: "agent".into(),
        version: "0.1.0".into(),
        kernel: "6.8.0".into(),
        cpus: 2,
        event: "cpu-clock".into(),
        hz: 199,
        period_ns: 5_025_126,
        started_at: Timestamp(EIGHT),
    }
}

/// What instance `no` is.
pub fn info(no: u32) -> InstanceInfo {
    let id = format!("{no:064x}");
    InstanceInfo {
        key: InstanceKey(Arc::from(format!("{no:012x}.6e9d3f62.{no:x}"))),
        runtime: Some("docker".into()),
        cgroup_path: format!("/system.slice/docker-{id}.scope"),
        container_id: id,
        cgroup_id: CgroupId(no.into()),
        image: Some("functions/figlet:latest".into()),
        started_at: Timestamp(EIGHT),
        from_birth: true,
    }
}

/// Instance `no` exists.
pub fn instance(no: u32) -> Entry {
    Entry::Instance { no: InstanceNo(no), info: info(no) }
}

/// From `from` microseconds on, instance `no` is function `function`.
pub fn identity(no: u32, from: i64, function: &str) -> Entry {
    let identity = Identity {
        function_container: true,
        platform: Some("openfaas-swarm".into()),
        namespace: None,
        function: Some(function.into()),
        revision: Some("v1".into()),
        instance_name: None,
        confidence: Confidence::Exact,
        rule: "openfaas-swarm".into(),
    };
    Entry::Identity { no: InstanceNo(no), from: Timestamp(from), identity }
}

/// Instance `no` ended at `at` microseconds.
pub fn ended(no: u32, at: i64) -> Entry {
    Entry::Ended { no: InstanceNo(no), at: Timestamp(at), exit_code: Some(0), oom: false }
}
