//! A sealed store of which one file is changed: what is told is what was stored, or names a file of the set.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fnscope::model::{
    Batch, CgroupId, CpuSource, Entry, InstanceInfo, InstanceKey, InstanceNo, Quality, Sample, Stack,
    Timestamp, Wait, Window, WriterInfo,
};
use fnscope::query::{Event, PhaseFilter, Preempted, Scope, functions, open_event, open_for, stacks};
use fnscope::store::Store;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// A CRC32 notices so many flipped bits in any place; with more the fuzzer would forge one.
const FLIPS: usize = 3;
/// Every tenth of the samples.
const WAITS: u64 = 30;
const EIGHT: i64 = 1_795_420_800_000_000;

#[derive(Debug, Arbitrary)]
struct Damage {
    file: u8,
    cut: Option<u32>,
    edits: Vec<(u32, u8)>,
}

struct Sealed {
    _folder: tempfile::TempDir,
    root: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    samples: u64,
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

fn make() -> Sealed {
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
    Sealed { _folder: folder, root, files: found, samples: 300 }
}

fuzz_target!(|damage: Damage| {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    let sealed = SEALED.get_or_init(make);
    let Some((path, whole)) = sealed.files.get(damage.file as usize % sealed.files.len()) else { return };
    let mut bytes = whole.clone();
    for (at, bit) in damage.edits.iter().take(FLIPS) {
        let at = *at as usize % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
    }
    if let Some(cut) = damage.cut {
        bytes.truncate(cut as usize % (bytes.len() + 1));
    }
    fs::write(path, &bytes).expect("write to a file of our own");
    for scope in [Scope::All, Scope::Counts] {
        let view = open_for(&[&sealed.root], Window::ALL, scope, |_, _| {}).expect("damage is no error");
        let all = view.select(None, &[]).expect("everything is there");
        let samples: u64 = functions(&view, &all).iter().map(|row| row.samples).sum();
        assert!(
            samples == sealed.samples || !view.damage().is_empty(),
            "{samples} samples and nothing is told"
        );
        assert!(samples <= sealed.samples);
        let _ = stacks(&view, &all, PhaseFilter::All);
    }
    let waits = Event::OffCpu(Preempted::Include);
    let view =
        open_event(&[&sealed.root], Window::ALL, Scope::All, &waits, |_, _| {}).expect("damage is no error");
    let all = view.select(None, &[]).expect("everything is there");
    let found = stacks(&view, &all, PhaseFilter::All).profile.total().samples;
    assert!(
        found == WAITS || (found < WAITS && !view.damage().is_empty()),
        "{found} waits and nothing is told"
    );
    fs::write(path, whole).expect("write to a file of our own");
});
