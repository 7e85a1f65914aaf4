//! A small store of one sealed hour, for targets that damage or forge its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fnscope::model::{
    Batch, CgroupId, CpuSource, Entry, InstanceInfo, InstanceKey, InstanceNo, Quality, Sample, Stack,
    Timestamp, Wait, WriterInfo,
};
use fnscope::store::Store;

const EIGHT: i64 = 1_795_420_800_000_000;

/// A sealed store.
pub struct Sealed {
    /// Where it lies.
    pub root: PathBuf,
    /// Its files as they were made.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// How many samples it holds.
    pub samples: u64,
    /// How many times off the CPU: one for every tenth of the samples.
    pub waits: u64,
    _folder: tempfile::TempDir,
}

fn files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for file in fs::read_dir(folder).expect("a folder of our own").flatten() {
        if file.path().is_dir() {
            files(&file.path(), found);
        } else {
            found.push((file.path(), fs::read(file.path()).expect("a file of our own")));
        }
    }
}

/// Makes one: an hour of three instances, below `TMPDIR`.
pub fn make() -> Sealed {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let root = folder.path().join("profiles");
    let store = Store::create(&root).expect("a store in a new folder");
    let info = WriterInfo {
        node: "node-1".into(),
        boot_id: "6e9d3f62".into(),
        writer: "agent".into(),
        version: "0".into(),
        kernel: "6".into(),
        cpu_model: None,
        cpus: 2,
        event: "cpu-clock".into(),
        hz: 100,
        period_ns: 10_000_000,
        started_at: Timestamp(EIGHT),
    };
    let mut journal = store.journal(info).expect("a journal");
    let mut batch = Batch::default();
    for no in 0..3u32 {
        let info = InstanceInfo {
            key: InstanceKey::new(&format!("{no:064x}"), "6e9d3f62", CgroupId(no.into())),
            runtime: None,
            container_id: format!("{no:064x}"),
            cgroup_path: format!("/{no}"),
            cgroup_id: CgroupId(no.into()),
            image: None,
            started_at: Timestamp(EIGHT),
            from_birth: true,
        };
        let at = Timestamp(EIGHT + 900_000);
        let usage = Entry::Usage { no: InstanceNo(no), at, cpu_us: 900_000, source: CpuSource::Running };
        batch.entries.extend([Entry::Instance { no: InstanceNo(no), info }, usage]);
    }
    batch.samples = (0..300)
        .map(|n| Sample {
            time: Timestamp(EIGHT + n * 3_000),
            instance: InstanceNo(n as u32 % 3),
            pid: 1,
            tid: n as u32 % 5,
            comm: "c".into(),
            cpu: 0,
            stack: Arc::new(Stack::new(
                vec!["main".into(), format!("f{}", n % 11).into()],
                Quality::COMPLETE,
            )),
        })
        .collect();
    let waits = batch.samples.iter().step_by(10).enumerate();
    batch.waits = waits
        .map(|(n, left)| Wait { left: left.clone(), ns: 1_000 * n as u64, preempted: n % 3 == 0 })
        .collect();
    journal.append(&batch).expect("room for a batch");
    journal.finish().expect("a closed journal");
    let lock = store.lock().expect("a lock of our own");
    store.tidy(&lock, &Default::default(), |_, _| {}).expect("a sealed journal");
    let mut found = Vec::new();
    for table in ["samples", "instances", "usage", "hosts", "off_cpu", "sums"] {
        files(&root.join(table), &mut found);
    }
    Sealed { _folder: folder, root, files: found, samples: 300, waits: 30 }
}
