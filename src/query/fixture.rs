//! Journals for tests, built by hand: what a reader would give.

use std::sync::Arc;

use crate::model::{
    CgroupId, Confidence, CpuSource, CpuStats, Identity, InstanceInfo, InstanceKey, Quality, Stack,
    Timestamp, WriterInfo,
};
use crate::store::{BatchRecord, InstanceRecord, JournalContents, StoredSample, StoredThread, Usage};

/// Time of one sample in these journals: 10 ms.
pub const PERIOD_NS: u64 = 10_000_000;

/// `seconds` after 2026-11-23T00:00:00Z.
pub fn at_s(seconds: i64) -> Timestamp {
    at_ms(seconds * 1_000)
}

/// `ms` milliseconds after 2026-11-23T00:00:00Z.
pub fn at_ms(ms: i64) -> Timestamp {
    Timestamp((1_795_392_000_000 + ms) * 1_000)
}

/// A reading of `cpu_us` at `seconds`.
pub fn usage(seconds: i64, cpu_us: u64, source: CpuSource) -> Usage {
    Usage { at: at_s(seconds), cpu_us, source }
}

/// Function `namespace/function@revision` of platform `custom`.
pub fn identity(namespace: &str, function: &str, revision: &str) -> Identity {
    Identity {
        function_container: true,
        platform: Some("custom".into()),
        namespace: Some(namespace.into()),
        function: Some(function.into()),
        revision: Some(revision.into()),
        instance_name: Some(format!("{function}-task")),
        confidence: Confidence::Exact,
        rule: "test".into(),
    }
}

/// An instance that began at `seconds`, as a merged one.
pub fn instance(container: &str, from_birth: bool, seconds: i64) -> crate::query::merge::Instance {
    let mut merger = crate::query::merge::Merger::new(crate::model::Window::ALL);
    let mut journal = Journal::new();
    journal.instance(container, from_birth, seconds);
    merger.add(journal.contents);
    merger.finish().instances.remove(0)
}

/// A journal in the making.
pub struct Journal {
    /// What there is so far.
    pub contents: JournalContents,
}

impl Journal {
    /// An empty one.
    pub fn new() -> Journal {
        let writer = WriterInfo {
            node: "node-1".into(),
            boot_id: "6e9d3f62-1111-2222-3333-444455556666".into(),
            writer: "agent".into(),
            version: "0".into(),
            kernel: "6.12".into(),
            cpu_model: None,
            cpus: 2,
            event: "cpu-clock".into(),
            hz: 100,
            period_ns: PERIOD_NS,
            started_at: at_s(0),
        };
        let contents = JournalContents {
            writer,
            instances: Vec::new(),
            stacks: Vec::new(),
            comms: vec!["main".into()],
            threads: Vec::new(),
            samples: Vec::new(),
            waits: Vec::new(),
            batches: Vec::new(),
            damage: Vec::new(),
        };
        Journal { contents }
    }

    /// Adds an instance that began at `seconds`; its number.
    pub fn instance(&mut self, container: &str, from_birth: bool, seconds: i64) -> u32 {
        let info = InstanceInfo {
            key: InstanceKey(format!("{container}.6e9d3f62.ff").into()),
            runtime: Some("docker".into()),
            container_id: container.repeat(32),
            cgroup_path: format!("/docker/{container}"),
            cgroup_id: CgroupId(255),
            image: Some("demo:latest".into()),
            started_at: at_s(seconds),
            from_birth,
        };
        self.contents.instances.push(InstanceRecord::new(info));
        u32::try_from(self.contents.instances.len() - 1).unwrap()
    }

    /// The record of instance `number`.
    pub fn record(&mut self, number: u32) -> &mut InstanceRecord {
        &mut self.contents.instances[number as usize]
    }

    /// Adds `count` samples of `stack` (frames parted by `;`), a millisecond apart from `ms` on.
    pub fn samples(&mut self, instance: u32, ms: i64, count: u32, stack: &str) -> &mut Journal {
        self.samples_of(instance, ms, count, stack, Quality::COMPLETE, u32::MAX)
    }

    /// The same with a quality and a batch.
    pub fn samples_of(
        &mut self,
        instance: u32,
        ms: i64,
        count: u32,
        stack: &str,
        quality: Quality,
        batch: u32,
    ) -> &mut Journal {
        let frames = stack.split(';').filter(|frame| !frame.is_empty()).map(Arc::from).collect();
        self.contents.stacks.push(Arc::new(Stack::new(frames, quality)));
        let stack = u32::try_from(self.contents.stacks.len() - 1).unwrap();
        self.contents.threads.push(StoredThread { instance, pid: 10, tid: 10, comm: 0 });
        let thread = u32::try_from(self.contents.threads.len() - 1).unwrap();
        let sample = |at: u32| StoredSample { time: at_ms(ms + i64::from(at)), thread, cpu: 0, stack, batch };
        self.contents.samples.extend((0..count).map(sample));
        self
    }

    /// Adds a batch whose CPU 0 read `samples` and lost `lost`; its number.
    pub fn batch(&mut self, samples: u64, lost: u64) -> u32 {
        self.contents.batches.push(BatchRecord {
            from: at_s(0),
            to: at_s(1),
            cpus: vec![CpuStats { cpu: 0, samples, lost }],
            unattributed: 0,
            clock_offset_ns: 0,
            own_use: Default::default(),
        });
        u32::try_from(self.contents.batches.len() - 1).unwrap()
    }
}
