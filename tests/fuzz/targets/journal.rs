//! A journal that says what it likes: read without a panic, everything in it refers to something in it, its folded
//! tree stays where it belongs, and every question about it has an answer.
//!
//! Of an input the first byte says what the rest is: the file; payloads of frames, each behind its length in two
//! bytes, that are compressed and framed soundly here; or items of frames (tag, length in two bytes, body), where tag
//! 0 begins a frame, so many frames later as its body is long.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use fnscope::model::Window;
use fnscope_fuzz::answers::ask;
use fnscope_fuzz::journal::{PAST, Slot, check};
use libfuzzer_sys::fuzz_target;

static SLOT: LazyLock<Slot> = LazyLock::new(Slot::new);

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    SLOT.write(&match kind % 3 {
        0 => rest.to_vec(),
        1 => frames(payloads(rest).map(|payload| (0, payload.to_vec()))),
        _ => frames(items(rest)),
    });
    let journal = &SLOT.journal;
    let _ = journal.writer();
    let _ = journal.may_overlap(PAST);
    let Ok(contents) = journal.load(Window::ALL) else {
        assert!(journal.load(PAST).is_err());
        return;
    };
    check(&contents, Window::ALL);
    let part = journal.load(PAST).expect("what was read once is read again");
    check(&part, PAST);
    let in_part = contents.samples.iter().filter(|sample| PAST.contains(sample.time)).count();
    assert_eq!(part.samples.len(), in_part);
    assert_eq!(part.damage, contents.damage);

    // A file for each function and hour: enough of them are as good as many.
    let few = contents.instances.len() < 4 && contents.samples.len() < 4;
    if few && contents.samples.len() + contents.instances.len() > 1 {
        let folded = SLOT.store.write_folded(journal).expect("a folded tree in a folder of our own");
        assert!(folded.samples <= contents.samples.len() as u64);
        let root = SLOT.store.root();
        let mut names: Vec<_> =
            fs::read_dir(root).expect("our own").flatten().map(|file| file.file_name()).collect();
        names.sort();
        assert_eq!(names, ["FORMAT", "cache", "folded", "journal"], "something was written outside");
        assert_eq!(files_below(&root.join("folded")), folded.files);
        assert_eq!(files_below(&root.join("journal")), 2, "the journal and its marker");
        fs::remove_dir_all(root.join("folded")).expect("our own");
        fs::create_dir(root.join("folded")).expect("our own");
    }
    ask([part], PAST);
    ask([contents], Window::ALL);
});

fn files_below(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).expect("a folder of our own").flatten();
    files.map(|file| if file.path().is_dir() { files_below(&file.path()) } else { 1 }).sum()
}

/// Payloads, each behind its length.
fn payloads(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk()?;
        let (payload, tail) = tail.split_at(usize::from(u16::from_le_bytes(*length)).min(tail.len()));
        rest = tail;
        Some(payload)
    })
}

/// Payloads out of items, each with how many frames are missing before it.
fn items(bytes: &[u8]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let mut frames = vec![(0, Vec::new())];
    let mut rest = bytes;
    while let Some(([tag, low, high], tail)) = rest.split_first_chunk::<3>() {
        let (body, tail) = tail.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(tail.len()));
        rest = tail;
        if *tag == 0 {
            frames.push((body.len() as u32, Vec::new()));
            continue;
        }
        let Some((_, payload)) = frames.last_mut() else { continue };
        payload.push(*tag);
        let mut length = body.len();
        while length >= 0x80 {
            payload.push(length as u8 | 0x80);
            length >>= 7;
        }
        payload.push(length as u8);
        payload.extend_from_slice(body);
    }
    frames.into_iter()
}

/// `magic | nonce | seq | len | crc32 | payload`, as `store::frame` reads it.
fn frames(payloads: impl Iterator<Item = (u32, Vec<u8>)>) -> Vec<u8> {
    let (mut file, mut seq) = (Vec::new(), 0u32);
    for (missing, raw) in payloads {
        seq = seq.saturating_add(missing);
        let payload = zstd::bulk::compress(&raw, 1).expect("memory takes it");
        let fields = [7, seq, payload.len() as u32].map(u32::to_le_bytes).concat();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&fields);
        checksum.update(&payload);
        file.extend_from_slice(b"\xf5fnJ");
        file.extend_from_slice(&fields);
        file.extend_from_slice(&checksum.finalize().to_le_bytes());
        file.extend_from_slice(&payload);
        seq = seq.saturating_add(1);
    }
    file
}
