//! A sealed hour by somebody who knows its checksums: Parquet pages, footers and the checksum file itself say what
//! they like, and every question about the store has an answer, or a file of the set is named.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use fnscope::model::Window;
use fnscope::query::{PhaseFilter, Scope, functions, hosts, instances, open_for, stacks};
use fnscope_fuzz::sealed_store::{Sealed, make};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::{Value, json};

/// As they stand in the checksum file.
const TABLES: [&str; 4] = ["samples", "instances", "usage", "hosts"];

#[derive(Debug, Arbitrary)]
struct Forgery {
    table: u8,
    /// Where, counted from the file's end, and what stands there.
    edits: Vec<(u16, Edit)>,
}

#[derive(Debug, Arbitrary)]
enum Edit {
    Byte(u8),
    Bytes([u8; 4]),
    Flip(u8),
    Gone(u8),
    More(u8),
}

fuzz_target!(|forgery: Forgery| {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    let sealed = SEALED.get_or_init(make);
    let file = |folder: &str| {
        let found = sealed.files.iter().find(|(path, _)| path.starts_with(sealed.root.join(folder)));
        found.expect("every table has a file")
    };
    let (sums_path, sums) = file("sums");
    let sums = std::str::from_utf8(sums).expect("checksums are text");
    let (json, _) = sums.split_once('\n').expect("a line of JSON");
    match TABLES.get(usize::from(forgery.table) % 5) {
        Some(table) => {
            let (path, whole) = file(table);
            let bytes = forged(whole, &forgery.edits);
            let mut json: Value = serde_json::from_str(json).expect("it is JSON");
            json["tables"][usize::from(forgery.table) % 5] = sums_of(&bytes);
            fs::write(path, &bytes).expect("write to a file of our own");
            write_sums(sums_path, json.to_string().as_bytes());
        }
        None => write_sums(sums_path, &forged(json.as_bytes(), &forgery.edits)),
    }
    for scope in [Scope::All, Scope::Counts] {
        let view = open_for(&[&sealed.root], Window::ALL, scope, |_, _| {}).expect("a forgery is no error");
        let all = view.select(None, &[]).expect("everything is there");
        let rows = functions(&view, &all);
        let samples: u64 = rows.iter().map(|row| row.samples).fold(0, u64::saturating_add);
        assert!(samples > 0 || rows.is_empty() || !view.damage().is_empty() || !forgery.edits.is_empty());
        let _ = (instances(&view, &all), hosts(&view, &all), stacks(&view, &all, PhaseFilter::All));
    }
    for (path, whole) in &sealed.files {
        fs::write(path, whole).expect("write to a file of our own");
    }
});

fn forged(whole: &[u8], edits: &[(u16, Edit)]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (back, edit) in edits.iter().take(16) {
        let Some(at) = bytes.len().checked_sub(1 + usize::from(*back)) else { continue };
        match edit {
            Edit::Byte(byte) => bytes[at] = *byte,
            Edit::Bytes(four) => bytes.iter_mut().skip(at).zip(four).for_each(|(to, from)| *to = *from),
            Edit::Flip(bit) => bytes[at] ^= 1 << (bit % 8),
            Edit::Gone(count) => drop(bytes.drain(at..(at + usize::from(*count)).min(bytes.len()))),
            Edit::More(count) => drop(bytes.splice(at..at, std::iter::repeat_n(*count, usize::from(*count)))),
        }
    }
    bytes
}

/// Checksums that fit, of what can be found.
fn sums_of(bytes: &[u8]) -> Value {
    let footer_bytes =
        bytes.last_chunk::<8>().map_or(0, |[a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]));
    let footer_at = (bytes.len() as u64).saturating_sub(8).saturating_sub(footer_bytes.into());
    let footer = &bytes[footer_at as usize..];
    let metadata = ParquetMetaDataReader::decode_metadata(&footer[..footer.len().saturating_sub(8)]).ok();
    let groups = metadata.iter().flat_map(|metadata| metadata.row_groups());
    let chunks: Vec<Vec<u32>> = groups
        .map(|group| {
            group
                .columns()
                .iter()
                .map(|chunk| {
                    // Its own function for this panics where the numbers are negative.
                    let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
                    let (begin, length) =
                        (usize::try_from(begin).ok(), usize::try_from(chunk.compressed_size()).ok());
                    let range =
                        begin.zip(length).and_then(|(begin, length)| Some(begin..begin.checked_add(length)?));
                    range.and_then(|range| bytes.get(range)).map_or(0, crc32fast::hash)
                })
                .collect()
        })
        .collect();
    json!({"bytes": bytes.len(), "footer_at": footer_at, "footer": crc32fast::hash(footer), "chunks": chunks})
}

fn write_sums(path: &PathBuf, json: &[u8]) {
    let sum = format!("\ncrc32 {:08x}\n", crc32fast::hash(json));
    fs::write(path, [json, sum.as_bytes()].concat()).expect("write to a file of our own");
}
