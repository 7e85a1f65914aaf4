//! Files that were cut, flipped, overwritten or mixed up: what is left is read, and nothing wrong.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::data::{EIGHT, Told, batch, instance, only_journal, sample, store, told, truth, writer};
use crate::model::{Batch, Window, frame as grammar};
use crate::store::frame::{HEADER_BYTES, Header};
use crate::store::{JournalContents, JournalFile, StoreError};

/// A closed journal of `count` batches, its bytes, and its length after each batch.
fn journal(count: u32) -> (Vec<Batch>, Vec<u8>, Vec<usize>) {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let batches: Vec<Batch> = (0..count).map(batch).collect();
    let mut ends = vec![fs::metadata(journal.path()).unwrap().len() as usize];
    for batch in &batches {
        journal.append(batch).unwrap();
        ends.push(fs::metadata(journal.path()).unwrap().len() as usize);
    }
    let file = only_journal(&store);
    journal.finish().unwrap();
    (batches, fs::read(file.path()).unwrap(), ends)
}

fn load(folder: &Path, bytes: &[u8]) -> Result<JournalContents, StoreError> {
    let path = folder.join("node-1-6e9d3f62-00000000.jnl");
    fs::write(&path, bytes).unwrap();
    JournalFile::at(&path).unwrap().load(Window::ALL)
}

/// Xorshift: the same numbers on every run.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// Whether every sample of `contents` is one of the truth, but for what is marked as lost; returns how many.
fn nothing_wrong(contents: &JournalContents, truth: &HashMap<i64, Told>) -> usize {
    let mut seen = std::collections::HashSet::new();
    for sample in told(contents) {
        assert!(seen.insert(sample.time), "told twice: {sample:?}");
        let mut expected = truth.get(&sample.time).expect("a sample that nobody took").clone();
        if sample.instance.starts_with("lost.") {
            expected.instance = sample.instance.clone();
        }
        if sample.comm == grammar::LOST {
            expected.comm = sample.comm.clone();
        }
        if sample.frames == [grammar::LOST] {
            expected.quality = sample.quality;
            expected.frames = sample.frames.clone();
        }
        for (frame, found) in expected.frames.iter_mut().zip(&sample.frames) {
            if found == grammar::LOST {
                *frame = found.clone();
            }
        }
        assert_eq!(sample, expected);
    }
    for record in &contents.instances {
        for (_, identity) in &record.identities {
            let no = record.info.key.0.rsplit('.').next().unwrap();
            let radix = if record.info.key.0.starts_with("lost.") { 10 } else { 16 };
            let no = u32::from_str_radix(no, radix).unwrap();
            assert_eq!(identity.function, Some(format!("function-{no}")));
        }
    }
    seen.len()
}

#[test]
fn cut_anywhere_all_frames_before_the_cut_are_read() {
    let (batches, bytes, ends) = journal(6);
    let folder = tempfile::tempdir().unwrap();
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let Some(batch_count) = whole.checked_sub(1) else {
            assert!(matches!(load(folder.path(), &bytes[..cut]), Err(StoreError::NoHead { .. })), "{cut}");
            continue;
        };
        let contents = load(folder.path(), &bytes[..cut]).unwrap();
        assert_eq!(told(&contents), truth(&batches[..batch_count]), "{cut}");
        // Where a frame ends, what is missing shows in the missing end of the journal alone.
        let torn = cut < bytes.len();
        let damage: Vec<_> =
            contents.damage.iter().map(|damage| (damage.offset as usize, damage.torn_end)).collect();
        assert_eq!(damage, if torn { vec![(ends[batch_count], true)] } else { vec![] }, "{cut}");
    }
}

#[test]
fn no_flipped_bit_makes_a_wrong_sample() {
    let (batches, bytes, ends) = journal(40);
    let truth: HashMap<i64, Told> = truth(&batches).into_iter().map(|told| (told.time, told)).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..2_000 {
        let bit = random(&mut state) % (bytes.len() * 8);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let contents = load(folder.path(), &flipped).unwrap();
        let read = nothing_wrong(&contents, &truth);
        assert!(!contents.damage.is_empty(), "bit {bit} went unnoticed");
        // The frame of the bit is lost, and samples of the threads that only it named.
        let hit = ends.iter().filter(|end| **end <= bit / 8).count().checked_sub(1);
        let lost: usize = hit
            .into_iter()
            .flat_map(|hit| batches.iter().skip(hit).take(3))
            .map(|batch| batch.samples.len())
            .sum();
        assert!(read + lost >= truth.len(), "bit {bit}: {read} of {} samples", truth.len());
    }
}

#[test]
fn overwritten_cut_out_and_doubled_pieces_make_no_wrong_sample() {
    let (batches, bytes, _) = journal(40);
    let truth: HashMap<i64, Told> = truth(&batches).into_iter().map(|told| (told.time, told)).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut state = 42;
    let mut read = 0;
    for round in 0..900 {
        let begin = random(&mut state) % bytes.len();
        let end = (begin + 1 + random(&mut state) % 600).min(bytes.len());
        let mut broken = bytes.clone();
        match round % 3 {
            0 => broken[begin..end].iter_mut().for_each(|byte| *byte = random(&mut state) as u8),
            1 => drop(broken.drain(begin..end)),
            _ => drop(broken.splice(begin..begin, bytes[begin..end].iter().copied())),
        }
        match load(folder.path(), &broken) {
            Ok(contents) => read += nothing_wrong(&contents, &truth),
            Err(error) => assert!(matches!(error, StoreError::NoHead { .. }), "{error}"),
        }
    }
    assert!(read > 900 * truth.len() / 2, "{read} of {}", 900 * truth.len());
}

#[test]
fn a_frame_of_another_journal_is_not_taken() {
    let (batches, bytes, ends) = journal(6);
    let (_, other, other_ends) = journal(8);
    let folder = tempfile::tempdir().unwrap();
    // What a power failure can leave: this journal's third batch torn, and an older one's blocks behind it.
    let mut mixed = bytes[..ends[2] + 30].to_vec();
    mixed.extend_from_slice(&other[other_ends[4]..]);
    let contents = load(folder.path(), &mixed).unwrap();
    assert_eq!(told(&contents), truth(&batches[..2]));
    assert!(contents.damage.iter().all(|damage| damage.torn_end) && contents.damage.len() == 1);
}

#[test]
fn a_sound_frame_with_nonsense_inside_costs_itself_alone() {
    let (batches, bytes, ends) = journal(6);
    let folder = tempfile::tempdir().unwrap();
    let begin = ends[3];
    let header = Header::parse(&bytes[begin..]).unwrap();
    for raw in [
        &b"\x08\x02\xff\xff"[..],
        b"\x06\xff\xff\xff\xff\x0f",
        b"\x02\x06\xff\xff\xff\xff\x0f\x00",
        b"\xc8\x02hi",
    ] {
        let payload = zstd::bulk::compress(raw, 1).unwrap();
        let header = Header::of(header.nonce, header.seq, &payload).unwrap();
        let mut broken = bytes[..begin].to_vec();
        broken.write_all(&header.to_bytes()).unwrap();
        broken.extend_from_slice(&payload);
        let end = broken.len() - HEADER_BYTES - payload.len();
        assert_eq!(end, begin);
        broken.extend_from_slice(&bytes[ends[4]..]);
        let contents = load(folder.path(), &broken).unwrap();
        let truth: HashMap<i64, Told> = truth(&batches).into_iter().map(|told| (told.time, told)).collect();
        assert!(nothing_wrong(&contents, &truth) > 0);
        let of_later_version = raw[0] == 200;
        let about_frame = contents.damage.iter().any(|damage| damage.offset == begin as u64);
        assert_eq!(about_frame, !of_later_version, "{raw:?}: {:?}", contents.damage);
    }
}

#[test]
fn threads_that_were_lost_are_known_again_after_some_minutes() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let mut ends = Vec::new();
    for n in 0..600 {
        let mut batch =
            Batch { samples: vec![sample(1, EIGHT + n * 6, &["main [figlet]"])], ..Batch::default() };
        if n == 0 {
            batch.entries.push(instance(1));
        }
        journal.append(&batch).unwrap();
        ends.push(fs::metadata(journal.path()).unwrap().len() as usize);
    }
    let file = only_journal(&store);
    journal.finish().unwrap();
    let mut bytes = fs::read(file.path()).unwrap();
    bytes[ends[0] - 1] ^= 1;
    let folder = tempfile::tempdir().unwrap();
    let contents = load(folder.path(), &bytes).unwrap();
    // Batch 255 is frame 256, which numbers the threads anew. The stack and the instance stay lost, and say so.
    let read = told(&contents);
    assert_eq!(
        read.iter().map(|told| told.time).collect::<Vec<_>>(),
        (255..600).map(|n| EIGHT + n * 6).collect::<Vec<_>>()
    );
    assert!(
        read.iter().all(|told| told.frames == [grammar::LOST] && told.instance.starts_with("lost.node-1-"))
    );
    assert!(read.iter().all(|told| told.tid == 1001 && told.comm == grammar::LOST));
    assert!(
        contents.damage.iter().any(|damage| damage.what.contains("samples of threads")),
        "{:?}",
        contents.damage
    );
}
