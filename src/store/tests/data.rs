//! What tests store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::{
    Batch, CgroupId, Confidence, CpuSource, CpuStats, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo,
    Quality, Sample, Stack, Timestamp, WriterInfo,
};
use crate::store::archive::{Tidied, TidyOptions};
use crate::store::{JournalContents, JournalFile, Store, StoredSample};

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
        cpu_model: Some("Model 1".into()),
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

/// Instance `no`'s cgroup had used `cpu_us` at `at` microseconds.
pub fn usage(no: u32, at: i64, cpu_us: u64) -> Entry {
    Entry::Usage { no: InstanceNo(no), at: Timestamp(at), cpu_us, source: CpuSource::Running }
}

/// A sample with `frames` that another test will not mistake for its own: all else follows from `time`.
pub fn sample(no: u32, time: i64, frames: &[&str]) -> Sample {
    Sample {
        time: Timestamp(time),
        instance: InstanceNo(no),
        pid: 1000 + no,
        tid: 1000 + no + (time % 3) as u32,
        comm: if time % 2 == 0 { "figlet".into() } else { "fwatchdog".into() },
        cpu: (time % 4) as u32,
        stack: Arc::new(Stack::new(
            frames.iter().map(|frame| Arc::from(*frame)).collect(),
            Quality::COMPLETE,
        )),
    }
}

/// The `n`th batch of an endless journal: every so often a new instance and a name for the last one, 1 to 8 samples
/// of new and known stacks, no two samples at the same time.
pub fn batch(n: u32) -> Batch {
    let time = EIGHT + i64::from(n) * 100_000;
    let no = n / 3;
    let mut batch = Batch { clock_offset_ns: n.into(), ..Batch::default() };
    if n.is_multiple_of(3) {
        batch.entries.push(instance(no));
    } else if n % 3 == 1 {
        batch.entries.push(identity(no, EIGHT, &format!("function-{no}")));
    }
    for i in 0..1 + i64::from(n % 8) {
        let leaf = format!("step_{} [figlet]", n % 5 + i as u32);
        batch.samples.push(sample(no, time + i * 5_025, &["main [figlet]", &leaf]));
    }
    batch.cpus.push(CpuStats { cpu: 0, samples: n.into(), lost: 0 });
    batch
}

/// A sample with everything it refers to, comparable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Told {
    pub time: i64,
    pub instance: String,
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub cpu: u32,
    pub frames: Vec<String>,
    pub quality: u8,
}

/// What samples of batches say.
pub fn truth<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<Told> {
    let told = |sample: &Sample| Told {
        time: sample.time.0,
        instance: info(sample.instance.0).key.to_string(),
        pid: sample.pid,
        tid: sample.tid,
        comm: sample.comm.to_string(),
        cpu: sample.cpu,
        frames: sample.stack.frames().iter().map(|frame| frame.to_string()).collect(),
        quality: sample.stack.quality().0,
    };
    batches.into_iter().flat_map(|batch| batch.samples.iter().map(told)).collect()
}

/// What stored samples say.
pub fn told(contents: &JournalContents) -> Vec<Told> {
    let told = |sample: &StoredSample| {
        let stack = &contents.stacks[sample.stack as usize];
        let thread = &contents.threads[sample.thread as usize];
        Told {
            time: sample.time.0,
            instance: contents.instances[thread.instance as usize].info.key.to_string(),
            pid: thread.pid,
            tid: thread.tid,
            comm: contents.comms[thread.comm as usize].to_string(),
            cpu: sample.cpu,
            frames: stack.frames().iter().map(|frame| frame.to_string()).collect(),
            quality: stack.quality().0,
        }
    };
    contents.samples.iter().map(told).collect()
}

/// A new store in a folder of its own.
pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(&folder.path().join("profiles")).unwrap();
    (folder, store)
}

/// The only journal of `store`.
pub fn only_journal(store: &Store) -> JournalFile {
    let mut journals = store.journals().unwrap();
    assert_eq!(journals.len(), 1, "{journals:?}");
    journals.remove(0)
}

/// Seals and drops what `options` ask for, as the agent does.
pub fn tidy(store: &Store, options: &TidyOptions) -> Tidied {
    let lock = store.lock().unwrap();
    store.tidy(&lock, options, |_, _| {}).unwrap()
}

/// All files in `folder` and below.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        if file.path().is_dir() { found.extend(files(&file.path())) } else { found.push(file.path()) }
    }
    found.sort();
    found
}
