//! A sound journal that a disk made worse: what is left is read, and nothing in it is wrong.
//!
//! Damage is noise: bytes that the fuzzer chose would let it find out checksums and forge frames.
#![no_main]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, LazyLock, Mutex};

use fnscope::model::frame::LOST;
use fnscope::model::{
    Batch, CgroupId, Confidence, CpuStats, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo, Quality,
    Sample, Stack, Timestamp, Window, WriterInfo,
};
use fnscope::store::{JournalContents, Store};
use fnscope_fuzz::journal::{Slot, check};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// What happens to the file; positions are taken modulo its length.
#[derive(Debug, Arbitrary)]
enum Edit {
    Flip {
        at: u16,
        bit: u8,
    },
    Noise {
        at: u16,
        length: u8,
        seed: u16,
    },
    Zero {
        at: u16,
        length: u16,
    },
    Cut {
        at: u16,
        length: u16,
    },
    Double {
        at: u16,
        length: u16,
        to: u16,
    },
    Truncate {
        at: u16,
    },
    /// The blocks of another journal that stood there before.
    Older {
        at: u16,
        journal: u8,
    },
}

#[derive(Debug, Arbitrary)]
struct Input {
    journal: u8,
    edits: Vec<Edit>,
}

/// A sample with all that it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    instance: String,
    thread: (u32, u32, u32),
    comm: String,
    frames: Vec<String>,
    quality: u8,
}

/// A sound journal and its samples by time, batch after batch.
struct Sound {
    bytes: Vec<u8>,
    batches: Vec<Vec<i64>>,
    truth: HashMap<i64, Told>,
}

impl Sound {
    fn first_frame(&self) -> &[u8] {
        let length = self.bytes[12..16].try_into().map_or(0, u32::from_le_bytes) as usize;
        &self.bytes[..20 + length]
    }
}

static SLOT: LazyLock<Slot> = LazyLock::new(Slot::new);
static SOUND: LazyLock<Mutex<HashMap<u8, Arc<Sound>>>> = LazyLock::new(Mutex::default);

fuzz_target!(|input: Input| {
    let sound = sound(input.journal);
    let mut bytes = sound.bytes.clone();
    input.edits.iter().take(8).for_each(|edit| damage(&mut bytes, edit));
    SLOT.write(&bytes);
    let Ok(contents) = SLOT.journal.load(Window::ALL) else {
        assert_ne!(bytes, sound.bytes, "a sound journal is read");
        return;
    };
    check(&contents, Window::ALL);
    // A file without a frame of its own in front is whose the first sound frame is.
    let mixed = input.edits.iter().any(|edit| matches!(edit, Edit::Older { .. }));
    if mixed && !bytes.starts_with(sound.first_frame()) {
        return;
    }
    let mut seen = HashSet::new();
    for (time, told) in told(&contents) {
        assert!(seen.insert(time), "told twice: {told:?}");
        let truth = sound.truth.get(&time).expect("a sample that nobody took");
        assert_eq!(told, with_losses_of(&told, truth));
    }
    for record in &contents.instances {
        for (_, identity) in &record.identities {
            let number = record.info.key.0.rsplit('.').next().expect("a key ends in a number");
            assert_eq!(identity.function.as_deref(), Some(&*format!("function-{number}")));
        }
    }
    if contents.damage.is_empty() {
        // Whole batches from the begin on, and no more.
        let mut left = seen.len();
        for batch in &sound.batches {
            let whole = batch.iter().all(|time| seen.contains(time));
            assert_eq!(whole, left >= batch.len(), "a loss that nobody told of");
            left -= if whole { batch.len() } else { left };
        }
    }
});

fn damage(bytes: &mut Vec<u8>, edit: &Edit) {
    let len = bytes.len();
    let range = |at: u16, length: u16| {
        let at = usize::from(at) % len.max(1);
        at.min(len)..(at + usize::from(length)).min(len)
    };
    match *edit {
        Edit::Flip { at, bit } => bytes[range(at, 1)].iter_mut().for_each(|byte| *byte ^= 1 << (bit % 8)),
        Edit::Noise { at, length, seed } => {
            let mut state = u64::from(seed) + 1;
            bytes[range(at, length.into())].iter_mut().for_each(|byte| *byte = random(&mut state) as u8);
        }
        Edit::Zero { at, length } => bytes[range(at, length)].fill(0),
        Edit::Cut { at, length } => drop(bytes.drain(range(at, length))),
        Edit::Double { at, length, to } => {
            let piece = bytes[range(at, length)].to_vec();
            let to = range(to, 0).start;
            bytes.splice(to..to, piece);
        }
        Edit::Truncate { at } => bytes.truncate(range(at, 0).start),
        Edit::Older { at, journal } => {
            let older = sound(journal);
            let at = range(at, 0).start;
            if let Some(rest) = older.bytes.get(at..) {
                bytes.truncate(at);
                bytes.extend_from_slice(rest);
            }
        }
    }
}

/// `truth` as far as `told` does not say that something of it is lost.
fn with_losses_of(told: &Told, truth: &Told) -> Told {
    let mut truth = truth.clone();
    if told.instance.starts_with("lost.") {
        let number = truth.instance.rsplit('.').next().unwrap_or_default();
        assert!(told.instance.ends_with(&format!(".{number}")));
        truth.instance.clone_from(&told.instance);
    }
    if told.comm == LOST {
        truth.comm.clone_from(&told.comm);
    }
    if told.frames == [LOST] {
        (truth.frames, truth.quality) = (told.frames.clone(), told.quality);
    }
    for (frame, _) in truth.frames.iter_mut().zip(&told.frames).filter(|(_, told)| *told == LOST) {
        *frame = LOST.into();
    }
    truth
}

/// Sound journal `number`, the same for the same number but for its nonce.
fn sound(number: u8) -> Arc<Sound> {
    let mut made = SOUND.lock().expect("one thread");
    made.entry(number).or_insert_with(|| Arc::new(write(number))).clone()
}

fn write(number: u8) -> Sound {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let store = Store::create(&folder.path().join("profiles")).expect("a store in a new folder");
    let mut writer = store.journal(info()).expect("a journal in a new store");
    let mut state = u64::from(number) + 1;
    let (mut batches, mut truth) = (Vec::new(), HashMap::new());
    let mut time = 1_795_420_800_000_000;
    for n in 0..1 + random(&mut state) % 12 {
        let batch = batch(n as u32, &mut state, &mut time);
        writer.append(&batch).expect("room for a journal");
        batches.push(batch.samples.iter().map(|sample| sample.time.0).collect());
        truth.extend(batch.samples.iter().map(|sample| {
            let told = Told {
                instance: instance(sample.instance.0).key.to_string(),
                thread: (sample.pid, sample.tid, sample.cpu),
                comm: sample.comm.to_string(),
                frames: sample.stack.frames().iter().map(ToString::to_string).collect(),
                quality: sample.stack.quality().0,
            };
            (sample.time.0, told)
        }));
    }
    let path = writer.path().to_path_buf();
    // Every other journal has its closing frame; the rest are of writers that were killed.
    if number.is_multiple_of(2) {
        writer.finish().expect("room for a folded tree");
    }
    Sound { bytes: fs::read(path).expect("a journal that was just written"), batches, truth }
}

fn batch(n: u32, state: &mut u64, time: &mut i64) -> Batch {
    let mut batch = Batch { cpus: vec![CpuStats { cpu: 0, samples: 1, lost: 0 }], ..Batch::default() };
    let no = n / 2;
    if n.is_multiple_of(2) {
        batch.entries.push(Entry::Instance { no: InstanceNo(no), info: instance(no) });
    }
    if random(state).is_multiple_of(2) {
        let identity = Identity {
            function_container: true,
            platform: Some("custom".into()),
            function: Some(format!("function-{no}")),
            confidence: Confidence::Exact,
            ..Identity::not_a_function("fuzz")
        };
        batch.entries.push(Entry::Identity { no: InstanceNo(no), from: Timestamp(*time), identity });
    }
    for _ in 0..random(state) % 9 {
        *time += 1 + random(state) as i64 % 20_000;
        let frames = (0..random(state) % 5).map(|_| format!("f{} [m]", random(state) % 12).into()).collect();
        batch.samples.push(Sample {
            time: Timestamp(*time),
            instance: InstanceNo(random(state) as u32 % (no + 1)),
            pid: 1000,
            tid: 1000 + random(state) as u32 % 3,
            comm: ["main", "worker"][random(state) as usize % 2].into(),
            cpu: random(state) as u32 % 2,
            stack: Arc::new(Stack::new(frames, Quality::COMPLETE)),
        });
    }
    batch
}

fn info() -> WriterInfo {
    WriterInfo {
        node: "node-1".into(),
        boot_id: "6e9d3f62-1111-2222-3333-444455556666".into(),
        writer: "agent".into(),
        version: "0".into(),
        kernel: "6.8".into(),
        cpu_model: None,
        cpus: 2,
        event: "cpu-clock".into(),
        hz: 199,
        period_ns: 5_025_126,
        started_at: Timestamp(0),
    }
}

fn instance(no: u32) -> InstanceInfo {
    InstanceInfo {
        key: InstanceKey(format!("c.6e9d3f62.{no}").into()),
        runtime: Some("docker".into()),
        container_id: format!("{no:064}"),
        cgroup_path: format!("/docker/{no}"),
        cgroup_id: CgroupId(no.into()),
        image: None,
        started_at: Timestamp(0),
        from_birth: true,
    }
}

fn told(contents: &JournalContents) -> impl Iterator<Item = (i64, Told)> {
    contents.samples.iter().map(|sample| {
        let stack = &contents.stacks[sample.stack as usize];
        let thread = &contents.threads[sample.thread as usize];
        let told = Told {
            instance: contents.instances[thread.instance as usize].info.key.to_string(),
            thread: (thread.pid, thread.tid, sample.cpu),
            comm: contents.comms[thread.comm as usize].to_string(),
            frames: stack.frames().iter().map(ToString::to_string).collect(),
            quality: stack.quality().0,
        };
        (sample.time.0, told)
    })
}

/// Xorshift.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}
