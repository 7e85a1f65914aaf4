//! The checksum file of a sealed set: one line of JSON, one line with the CRC32 of it.
//!
//! Parquet files as they are commonly written carry no checksums: a flipped bit is read as another number. So every
//! column chunk and every footer has its CRC32 here, and a reader checks what it reads. The file is written last and
//! removed first: a set is there when its checksum file is.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use parquet::file::metadata::ColumnChunkMetaData;
use serde::{Deserialize, Serialize};

use super::columns::Written;
use super::schema::Table;

/// Longest checksum file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes behind a Parquet footer: its length and the magic.
pub(super) const TAIL_BYTES: u64 = 8;

/// What a set's checksum file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// The hours that the journal was sealed to.
    pub(super) hours: Vec<String>,
    /// Samples of this hour.
    pub(super) samples: u64,
    /// The host.
    pub(super) node: String,
    /// Time that a sample stands for, in nanoseconds.
    pub(super) period_ns: u64,
    /// What of the journal could not be read when it was sealed.
    pub(super) damage: Vec<String>,
    /// In the order of [`Table::ALL`]; the last are left out where they have no row.
    pub(super) tables: Vec<FileSums>,
}

/// The checksums of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSums {
    /// Length of the file in bytes.
    pub(super) bytes: u64,
    /// Where its footer begins.
    pub(super) footer_at: u64,
    /// CRC32 from there to the end of the file.
    pub(super) footer: u32,
    /// CRC32 of each column chunk, by row group.
    pub(super) chunks: Vec<Vec<u32>>,
}

impl FileSums {
    /// The checksums of a file that was just made; none if its parts do not lie where it says.
    pub(super) fn of(file: &Written) -> Option<FileSums> {
        let bytes = file.bytes.as_slice();
        let tail: [u8; 4] = bytes.last_chunk::<8>()?.first_chunk::<4>().copied()?;
        let footer_at = (bytes.len() as u64).checked_sub(TAIL_BYTES + u64::from(u32::from_le_bytes(tail)))?;
        let footer = crc32fast::hash(bytes.get(usize::try_from(footer_at).ok()?..)?);
        let sum = |chunk| {
            let (at, len) = range(chunk)?;
            Some(crc32fast::hash(slice(bytes, at, len)?))
        };
        let groups = file.metadata.row_groups().iter();
        let chunks = groups.map(|group| group.columns().iter().map(sum).collect()).collect::<Option<_>>()?;
        Some(FileSums { bytes: bytes.len() as u64, footer_at, footer, chunks })
    }
}

/// Where `chunk` lies: first byte and length. None where a footer says what is below zero, for which its own function
/// panics.
pub(super) fn range(chunk: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    u64::try_from(begin).ok().zip(u64::try_from(chunk.compressed_size()).ok())
}

fn slice(bytes: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let (at, len) = (usize::try_from(at).ok()?, usize::try_from(len).ok()?);
    bytes.get(at..at.checked_add(len)?)
}

impl Sums {
    /// Of a set of which nothing is known.
    pub(super) fn nothing() -> Sums {
        let (hours, damage, tables) = (Vec::new(), Vec::new(), Vec::new());
        Sums { hours, samples: 0, node: String::new(), period_ns: 0, damage, tables }
    }

    /// The checksums of `table`'s file.
    pub(super) fn table(&self, table: Table) -> Option<&FileSums> {
        self.tables.get(Table::ALL.iter().position(|of| *of == table)?)
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("numbers, texts and lists of them are JSON");
        format!("{json}\ncrc32 {:08x}\n", crc32fast::hash(json.as_bytes())).into_bytes()
    }

    /// What `bytes` say; an error in a word if they are damaged.
    pub(super) fn parse(bytes: &[u8]) -> Result<Sums, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is no text")?;
        let (json, rest) = text.split_once('\n').ok_or("is cut short")?;
        let sum =
            rest.strip_prefix("crc32 ").and_then(|rest| rest.strip_suffix('\n')).ok_or("is cut short")?;
        if sum != format!("{:08x}", crc32fast::hash(json.as_bytes())) {
            return Err("does not have the checksum that it ends in");
        }
        let sums: Sums = serde_json::from_str(json).map_err(|_| "is none of this version")?;
        if sums.tables.len() < Table::ALWAYS {
            return Err("does not tell of all tables");
        }
        Ok(sums)
    }

    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> io::Result<Result<Sums, &'static str>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(Sums::parse(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use parquet::schema::types::SchemaDescriptor;
    use proptest::prelude::*;

    use super::*;

    fn sums() -> Sums {
        let file = FileSums { bytes: 100, footer_at: 60, footer: 7, chunks: vec![vec![1, 2], vec![3]] };
        Sums {
            hours: vec!["2026-11-23T08".into()],
            samples: 9,
            node: "näh\n".into(),
            period_ns: 5,
            damage: vec!["at byte 7: x".into()],
            tables: vec![file; 4],
        }
    }

    #[test]
    fn a_chunk_that_is_told_to_lie_below_zero_lies_nowhere() {
        let descr = SchemaDescriptor::new(Table::Samples.schema(1)).column(0);
        let chunk = |begin, bytes| {
            let chunk = ColumnChunkMetaData::builder(descr.clone()).set_data_page_offset(begin);
            chunk.set_total_compressed_size(bytes).build().unwrap()
        };
        for (begin, bytes, expected) in
            [(4, 7, Some((4, 7))), (-4, 7, None), (4, -7, None), (i64::MIN, 0, None)]
        {
            assert_eq!(range(&chunk(begin, bytes)), expected, "{begin}, {bytes}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_sums_or_an_error(bytes: Vec<u8>) {
            prop_assert!(Sums::parse(&bytes).is_err());
        }

        #[test]
        fn every_flip_and_cut_is_noticed(at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
            let whole = sums().to_bytes();
            prop_assert_eq!(Sums::parse(&whole), Ok(sums()));
            let mut flipped = whole.clone();
            flipped[at.index(whole.len())] ^= 1 << bit;
            prop_assert!(Sums::parse(&flipped).is_err());
            prop_assert!(Sums::parse(&whole[..cut.index(whole.len())]).is_err());
        }
    }
}
