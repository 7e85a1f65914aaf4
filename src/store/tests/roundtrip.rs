//! What was appended is read.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::data::{EIGHT, batch, identity, info, instance, only_journal, store, told, truth, usage, writer};
use crate::model::{
    Batch, CpuSource, CpuStats, Entry, Fact, InstanceNo, OwnUse, Quality, Sample, Stack, Timestamp, Window,
    WriterInfo,
};
use crate::store::contents::{Ended, Usage};
use crate::store::{JournalContents, wire};

const INSTANCES: u32 = 5;

fn any_sample(time: impl Strategy<Value = i64>) -> impl Strategy<Value = Sample> {
    let stack = (vec("[a-c]{1,2} \\[m\\]|\\PC{0,6}", 0..4), 0u8..32);
    let place = (0..INSTANCES, any::<u32>(), any::<u32>(), 0u32..4);
    (time, place, "[a-b]{0,2}|\\PC{0,3}", stack).prop_map(
        |(time, (no, pid, tid, cpu), comm, (frames, quality))| {
            let stack = Arc::new(Stack::new(frames.into_iter().map(Arc::from).collect(), Quality(quality)));
            Sample {
                time: Timestamp(time),
                instance: InstanceNo(no),
                pid,
                tid,
                comm: comm.into(),
                cpu,
                stack,
            }
        },
    )
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (0..INSTANCES, EIGHT..EIGHT + 3_000_000_000, 0u8..7, any::<u32>()).prop_map(|(no, time, kind, value)| {
        let (at, number) = (Timestamp(time), InstanceNo(no));
        match kind {
            0 => instance(no),
            1 => identity(no, time, &format!("f{value}")),
            2 => Entry::Exec { no: number, at },
            3 => Entry::Ended {
                no: number,
                at,
                exit_code: (value % 3 == 0).then_some(value as i32),
                oom: value % 2 == 0,
            },
            4 => Entry::Usage { no: number, at, cpu_us: value.into(), source: CpuSource::Final },
            5 => Entry::Fact { no: number, at, fact: any_fact(value) },
            _ => Entry::Dropped { no: number, at, reason: format!("r{}", value % 3), count: value.into() },
        }
    })
}

fn any_fact(value: u32) -> Fact {
    match value % 6 {
        0 => Fact::Ready,
        1 => Fact::Frozen(value % 4 == 1),
        2 => Fact::Throttled { count: value.into(), us: u64::from(value) << 7 },
        3 => Fact::Pressure { us: value.into() },
        4 => Fact::RuntimeHandler(format!("r{value}")),
        _ => Fact::Labels(vec![("team".into(), format!("t{value}"))]),
    }
}

fn any_batches(time: impl Strategy<Value = i64> + Clone) -> impl Strategy<Value = Vec<Batch>> {
    let cpus = vec((0u32..4, any::<u64>(), any::<u64>()), 0..3);
    let one = (vec(any_entry(), 0..4), vec(any_sample(time), 0..12), cpus, any::<u64>(), any::<i64>())
        .prop_map(|(entries, samples, cpus, unattributed, clock_offset_ns)| {
            let cpus = cpus.into_iter().map(|(cpu, samples, lost)| CpuStats { cpu, samples, lost }).collect();
            let own_use = OwnUse { cpu_us: unattributed >> 7, memory_bytes: unattributed >> 9 };
            Batch { entries, samples, cpus, unattributed, clock_offset_ns, own_use, ..Batch::default() }
        });
    vec(one, 1..8).prop_map(|mut batches| {
        batches.insert(0, Batch { entries: (0..INSTANCES).map(instance).collect(), ..Batch::default() });
        batches
    })
}

fn check_entries(contents: &JournalContents, batches: &[Batch]) -> Result<(), TestCaseError> {
    for no in 0..INSTANCES {
        let record = contents.instances.iter().find(|record| record.info == info(no));
        let record = record.ok_or_else(|| TestCaseError::fail("an instance is missing"))?;
        let (mut identities, mut usage, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let (mut exec_at, mut ended, mut facts) = (None, None::<Ended>, Vec::new());
        for entry in batches.iter().flat_map(|batch| &batch.entries) {
            match entry.clone() {
                Entry::Identity { no: of, from, identity } if of.0 == no => identities.push((from, identity)),
                Entry::Usage { no: of, at, cpu_us, source } if of.0 == no => {
                    usage.push(Usage { at, cpu_us, source })
                }
                Entry::Dropped { no: of, at, reason, count } if of.0 == no => {
                    dropped.push((at, reason, count))
                }
                Entry::Fact { no: of, at, fact } if of.0 == no => facts.push((at, fact)),
                Entry::Exec { no: of, at } if of.0 == no => exec_at = exec_at.or(Some(at)),
                Entry::Ended { no: of, at, exit_code, oom } if of.0 == no => {
                    let exit_code = exit_code.or(ended.and_then(|ended| ended.exit_code));
                    ended = Some(Ended { at, exit_code, oom: oom || ended.is_some_and(|ended| ended.oom) });
                }
                _ => {}
            }
        }
        identities.sort_by_key(|(from, _)| *from);
        // What is told later of the same moment takes the place.
        identities.dedup_by(|later, told| {
            let same = later.0 == told.0;
            if same {
                std::mem::swap(later, told);
            }
            same
        });
        usage.sort_by_key(|usage| usage.at);
        prop_assert_eq!(&record.identities, &identities);
        facts.sort_by_key(|(at, _)| *at);
        prop_assert_eq!(&record.usage, &usage);
        prop_assert_eq!(&record.facts, &facts);
        prop_assert_eq!(&record.dropped, &dropped);
        prop_assert_eq!(record.exec_at, exec_at);
        prop_assert_eq!(record.ended, ended);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_batches_are_read_as_they_were_written(
        batches in any_batches(EIGHT..EIGHT + 3_000_000_000),
        from in EIGHT..EIGHT + 3_000_000_000,
        span in 0i64..3_000_000_000,
    ) {
        let (_folder, store) = store();
        let mut journal = store.journal(writer("node-1")).unwrap();
        for batch in &batches {
            journal.append(batch).unwrap();
        }
        let contents = only_journal(&store).load(Window::ALL).unwrap();
        prop_assert_eq!(&contents.damage, &[]);
        prop_assert_eq!(&contents.writer, &writer("node-1"));
        let mut expected = truth(&batches);
        expected.sort_by_key(|told| told.time);
        prop_assert_eq!(told(&contents), expected.clone());
        check_entries(&contents, &batches)?;
        let kept: Vec<_> = batches.iter().filter(|batch| !batch.is_empty()).collect();
        prop_assert_eq!(contents.batches.len(), kept.len());
        for (record, batch) in contents.batches.iter().zip(kept) {
            prop_assert_eq!(&record.cpus, &batch.cpus);
            prop_assert_eq!((record.unattributed, record.clock_offset_ns), (batch.unattributed, batch.clock_offset_ns));
            prop_assert_eq!(record.own_use, batch.own_use);
        }
        for sample in &contents.samples {
            let batch = &contents.batches[sample.batch as usize];
            prop_assert!(batch.from <= sample.time && sample.time <= batch.to);
        }

        let window = Window { from: Timestamp(from), to: Timestamp(from + span) };
        let part = only_journal(&store).load(window).unwrap();
        expected.retain(|told| window.contains(Timestamp(told.time)));
        prop_assert_eq!(told(&part), expected);
        prop_assert_eq!(part.instances.len(), contents.instances.len());
        prop_assert!(part.samples.iter().all(|sample| (sample.batch as usize) < part.batches.len()));
    }

    #[test]
    fn any_time_can_be_stored(batches in any_batches(any::<i64>())) {
        let (_folder, store) = store();
        let mut journal = store.journal(writer("node-1")).unwrap();
        for batch in &batches {
            journal.append(batch).unwrap();
        }
        journal.finish().unwrap();
        let mut all = Vec::new();
        for journal in store.journals().unwrap() {
            let contents = journal.load(Window { from: Timestamp::MIN, to: Timestamp::MAX }).unwrap();
            prop_assert_eq!(&contents.damage, &[]);
            all.extend(told(&contents));
        }
        let mut expected = truth(&batches);
        expected.retain(|told| told.time != i64::MAX);
        expected.sort();
        all.sort();
        prop_assert_eq!(all, expected);
    }
}

#[test]
fn an_empty_batch_writes_nothing() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let before = std::fs::metadata(journal.path()).unwrap().len();
    assert_eq!(journal.append(&Batch::default()).unwrap(), Default::default());
    assert_eq!(std::fs::metadata(journal.path()).unwrap().len(), before);
    journal.finish().unwrap();
    assert_eq!(store.journals().unwrap(), [], "a journal nothing was appended to is not kept");
}

#[test]
fn a_reader_sees_what_a_living_writer_appended() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let batches: Vec<Batch> = (0..700).map(batch).collect();
    for (n, batch) in batches.iter().enumerate() {
        journal.append(batch).unwrap();
        if n % 100 == 0 {
            let contents = only_journal(&store).load(Window::ALL).unwrap();
            assert_eq!(told(&contents), truth(&batches[..=n]));
        }
    }
    let file = only_journal(&store);
    assert!(file.is_being_written().unwrap());
    assert!(file.may_overlap(Window { from: Timestamp(0), to: Timestamp(1) }).unwrap(), "it may still come");
    journal.finish().unwrap();
    assert!(!file.is_being_written().unwrap());
    assert_eq!(file.writer().unwrap(), writer("node-1"));
    let last = truth(&batches).last().unwrap().time;
    for (from, to, expected) in [
        (0, 1, false),
        (0, EIGHT, false),
        (0, EIGHT + 1, true),
        (last, i64::MAX, true),
        (last + 1, i64::MAX, false),
    ] {
        let window = Window { from: Timestamp(from), to: Timestamp(to) };
        assert_eq!(file.may_overlap(window).unwrap(), expected, "{window:?}");
    }
}

#[test]
fn writers_of_one_node_have_a_journal_each() {
    let (_folder, store) = store();
    let hostile =
        WriterInfo { node: "../-\n\u{1b}[31m/".repeat(5_000), boot_id: "no hex".into(), ..writer("") };
    let mut writers: Vec<_> =
        [writer("a"), writer("a"), writer("a-.b"), writer(""), hostile.clone(), hostile]
            .into_iter()
            .map(|info| store.journal(info).unwrap())
            .collect();
    for writer in &mut writers {
        writer.append(&batch(0)).unwrap();
    }
    let journals = store.journals().unwrap();
    assert_eq!(journals.len(), 6);
    for journal in journals {
        assert_eq!(told(&journal.load(Window::ALL).unwrap()), truth(&[batch(0)]));
    }
}

/// The format is made of the model's types: a change to one of them must not go unnoticed.
#[test]
fn the_bytes_of_an_entry_and_a_head_are_what_they_were() {
    let head = wire::Head { info: writer("n"), opened_at: Timestamp(EIGHT) };
    let bytes = [
        postcard::to_stdvec(&head).unwrap(),
        postcard::to_stdvec(&identity(7, EIGHT, "figlet")).unwrap(),
        postcard::to_stdvec(&usage(7, EIGHT, 300)).unwrap(),
        postcard::to_stdvec(&instance(7)).unwrap(),
        postcard::to_stdvec(&wire::Machine { cpu_model: writer("n").cpu_model }).unwrap(),
        postcard::to_stdvec(&OwnUse { cpu_us: 300, memory_bytes: 1 << 20 }).unwrap(),
    ];
    let sums = bytes.map(|bytes| (bytes.len(), crc32fast::hash(&bytes)));
    assert_eq!(
        sums,
        [
            (90, 1957340622),
            (57, 3417545920),
            (13, 992402875),
            (226, 563361448),
            (9, 3256115362),
            (5, 1972801370)
        ],
        "the journal's format has changed: a new tag, or a new FORMAT"
    );
}
