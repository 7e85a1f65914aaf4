//! A store that no perf event was needed for, written through the library: three functions on the morning of
//! 2026-11-23, with every count known.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnscope::model::{
    Batch, CgroupId, Confidence, CpuSource, Entry, Frame, FrameKind, Identity, InstanceInfo, InstanceKey,
    InstanceNo, Quality, Sample, Stack, Timestamp, Wait, WriterInfo,
};
use fnscope::store::{JournalWriter, Store};

/// 2026-11-23T08:00:00Z in microseconds.
const EIGHT: i64 = 1_795_420_800_000_000;
/// Time that a sample stands for: 10 ms.
const PERIOD_NS: u64 = 10_000_000;

/// `ms` milliseconds after eight.
pub fn at(ms: i64) -> Timestamp {
    Timestamp(EIGHT + ms * 1000)
}

/// A container that was a function, sampled every 10 ms from its exec to its end.
pub struct Life {
    /// Its number; makes its id too.
    pub no: u32,
    /// `namespace/function@revision`.
    pub name: [&'static str; 3],
    /// When it started, in milliseconds after eight; its exec is 100 ms later.
    pub from_ms: i64,
    /// How many samples it has after its exec, beside 10 before it.
    pub samples: i64,
    /// The leaf of its stacks; the root is `main`.
    pub leaf: &'static str,
}

/// Everything that [`made`] stores.
pub const LIVES: [Life; 5] = [
    Life { no: 1, name: ["demo", "pi", "1"], from_ms: 0, samples: 300, leaf: "compute_pi" },
    Life { no: 2, name: ["demo", "pi", "2"], from_ms: 1_000, samples: 200, leaf: "verify_digits" },
    Life { no: 3, name: ["demo", "fib", "1"], from_ms: 2_000, samples: 100, leaf: "fibonacci" },
    Life { no: 4, name: ["prod", "pi", "1"], from_ms: 60_000, samples: 50, leaf: "compute_pi" },
    Life { no: 5, name: ["demo", "pi", "2"], from_ms: 120_000, samples: 150, leaf: "verify_digits" },
];

impl Life {
    /// Its container's id.
    pub fn container(&self) -> String {
        format!("{:08x}", self.no).repeat(8)
    }

    /// The platform's name of it.
    pub fn task(&self) -> String {
        format!("{}.{}", self.name[1], self.no)
    }

    /// All of it as one batch.
    pub fn batch(&self) -> Batch {
        let no = InstanceNo(self.no);
        let [namespace, function, revision] = self.name;
        let container_id = self.container();
        let info = InstanceInfo {
            key: InstanceKey::new(&container_id, "6e9d3f62-1111", CgroupId(self.no.into())),
            runtime: Some("docker".into()),
            cgroup_path: format!("/docker/{container_id}"),
            container_id,
            cgroup_id: CgroupId(self.no.into()),
            image: Some(format!("reg/{function}:{revision}")),
            started_at: at(self.from_ms),
            from_birth: true,
        };
        let identity = Identity {
            function_container: true,
            platform: Some("custom".into()),
            namespace: Some(namespace.into()),
            function: Some(function.into()),
            revision: Some(revision.into()),
            instance_name: Some(self.task()),
            confidence: Confidence::Exact,
            rule: "fnscope-labels".into(),
        };
        let count = self.samples + 10;
        let end = at(self.from_ms + count * 10);
        let cpu_us = count as u64 * PERIOD_NS / 1000;
        let entries = vec![
            Entry::Instance { no, info },
            Entry::Identity { no, from: at(self.from_ms), identity },
            Entry::Exec { no, at: at(self.from_ms + 100) },
            Entry::Usage { no, at: end, cpu_us, source: CpuSource::Final },
            Entry::Ended { no, at: end, exit_code: Some(3), oom: false },
        ];
        let samples = (0..count).map(|n| self.sample(n)).collect();
        Batch { entries, samples, ..Batch::default() }
    }

    fn sample(&self, n: i64) -> Sample {
        let frame = |name: &str, module: &str, kind| Arc::from(Frame::symbol(name, module, kind).format());
        let frames = match n {
            ..10 => vec![frame("runc.main", "runc", FrameKind::Native)],
            // Each tenth sample is the kernel's.
            n if n % 10 == 0 => vec![
                frame("main", self.name[1], FrameKind::Native),
                frame("ksys_write", "kernel", FrameKind::Kernel),
            ],
            _ => vec![
                frame("main", self.name[1], FrameKind::Native),
                frame(self.leaf, self.name[1], FrameKind::Native),
            ],
        };
        Sample {
            time: at(self.from_ms + n * 10),
            instance: InstanceNo(self.no),
            pid: 100 + self.no,
            tid: 100 + self.no,
            comm: "main".into(),
            cpu: 0,
            stack: Arc::new(Stack::new(frames, Quality::COMPLETE)),
        }
    }
}

/// Begins a journal of node `node` in the store at `root`.
pub fn writer(root: &Path, node: &str) -> JournalWriter {
    writer_booted(root, node, "6e9d3f62-1111-2222-3333-444455556666")
}

/// The same of a node that booted as `boot`.
pub fn writer_booted(root: &Path, node: &str, boot: &str) -> JournalWriter {
    writer_of(root, node, boot, WriterInfo::CPU_CLOCK)
}

/// The same of one that samples `event`.
pub fn writer_of(root: &Path, node: &str, boot: &str, event: &str) -> JournalWriter {
    let info = WriterInfo {
        node: node.into(),
        boot_id: boot.into(),
        writer: "agent".into(),
        version: "0.1.0".into(),
        kernel: "6.8.0".into(),
        cpu_model: Some("Model 1\u{1b}[31m".into()),
        cpus: 2,
        event: event.into(),
        hz: 100,
        period_ns: PERIOD_NS,
        started_at: at(0),
    };
    Store::create(root).and_then(|store| store.journal(info)).expect("begin a journal")
}

/// What [`Life::waits`] come to: blocked after the exec, preempted after it, and before the exec, in microseconds.
pub const WAITED_US: [u64; 3] = [500_000, 2_000, 30_000];

impl Life {
    /// Its waits: one before its exec, ten in which it read, of 50 ms each, and four preemptions of half a millisecond.
    pub fn waits(&self) -> Vec<Wait> {
        let wait = |ended_ms: i64, ns: u64, preempted, leaf: &str| {
            let mut left = self.sample(11);
            left.time = at(self.from_ms + ended_ms).plus_us(-i64::try_from(ns / 1_000).expect("short"));
            let frame =
                |name: &str, module: &str, kind| Arc::from(Frame::symbol(name, module, kind).format());
            let frames = vec![
                frame("main", self.name[1], FrameKind::Native),
                frame(leaf, "kernel", FrameKind::Kernel),
            ];
            left.stack = Arc::new(Stack::new(frames, Quality::COMPLETE));
            Wait { left, ns, preempted }
        };
        let mut waits = vec![wait(90, 30_000_000, false, "ep_poll")];
        waits.extend((0..10).map(|n| wait(200 + n * 60, 50_000_000, false, "ksys_read")));
        waits.extend((0..4).map(|n| wait(201 + n * 60, 500_000, true, "preempt_schedule")));
        waits.sort_by_key(|wait| wait.left.time);
        waits
    }
}

/// Stores all of [`LIVES`] at `root` in one journal, closed in peace; its file.
pub fn made(root: &Path) -> PathBuf {
    let mut writer = writer(root, "node-1");
    for life in &LIVES {
        writer.append(&life.batch()).expect("append");
    }
    let path = writer.path().to_owned();
    writer.finish().expect("close the journal");
    path
}
