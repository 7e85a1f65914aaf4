//! The sections of debug information that inlined functions need, read or unpacked into memory within bounds.
//!
//! Lines, variables and types' locations are left out: half of what a file has. Unlike symbols nothing is pinned by
//! digests: what a file says here is remembered for that file alone, for as long as the agent runs.

use std::io::Read;

use super::elf::{Elf, Section};
use super::source::{Fields, Pinned, ReadError, Source};

/// Most bytes of debug information of one file.
pub const MAX_BYTES: u64 = 256 << 20;
/// `sh_flags`: packed.
const COMPRESSED: u64 = 0x800;
const ZLIB: u32 = 1;
const ZSTD: u32 = 2;

/// Sections by their names; empty where there is none.
#[derive(Debug, Default)]
pub struct Sections {
    /// `.debug_info`
    pub info: Vec<u8>,
    /// `.debug_abbrev`
    pub abbrev: Vec<u8>,
    /// `.debug_str`
    pub str: Vec<u8>,
    /// `.debug_line_str`
    pub line_str: Vec<u8>,
    /// `.debug_str_offsets`
    pub str_offsets: Vec<u8>,
    /// `.debug_addr`
    pub addr: Vec<u8>,
    /// `.debug_ranges`
    pub ranges: Vec<u8>,
    /// `.debug_rnglists`
    pub rnglists: Vec<u8>,
}

impl Sections {
    /// Reads the sections of `source`; none where it has no debug information.
    pub fn read(source: Source<'_>) -> Result<Option<Sections>, ReadError> {
        let mut reader = Pinned::new(source);
        let elf = Elf::read(&mut reader)?;
        let source = reader.into_source();
        let mut left = MAX_BYTES;
        let mut section = |name: &str| -> Result<Vec<u8>, ReadError> {
            let plain = elf.section(&format!(".{name}"));
            let old = elf.section(&format!(".z{name}"));
            let bytes = match (plain, old) {
                (Some(section), _) => unpacked(&source, section, elf.wide, left)?,
                (None, Some(section)) => unpacked_old(&source, section, left)?,
                (None, None) => Vec::new(),
            };
            left = left.saturating_sub(bytes.len() as u64);
            Ok(bytes)
        };
        let info = section("debug_info")?;
        if info.is_empty() {
            return Ok(None);
        }
        Ok(Some(Sections {
            info,
            abbrev: section("debug_abbrev")?,
            str: section("debug_str")?,
            line_str: section("debug_line_str")?,
            str_offsets: section("debug_str_offsets")?,
            addr: section("debug_addr")?,
            ranges: section("debug_ranges")?,
            rnglists: section("debug_rnglists")?,
        }))
    }

    /// Size in memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        let Sections { info, abbrev, str, line_str, str_offsets, addr, ranges, rnglists } = self;
        [info, abbrev, str, line_str, str_offsets, addr, ranges, rnglists].iter().map(|s| s.capacity()).sum()
    }
}

/// The bytes of a section, at most `limit` after unpacking.
fn unpacked(source: &Source<'_>, section: &Section, wide: bool, limit: u64) -> Result<Vec<u8>, ReadError> {
    if section.kind == Section::NOBITS {
        return Ok(Vec::new());
    }
    let bytes = raw(source, section, limit)?;
    if section.flags & COMPRESSED == 0 {
        return Ok(bytes);
    }
    const BAD: ReadError = ReadError::Malformed("a packed section of debug information");
    let head = if wide { 24 } else { 12 };
    let kind = Fields(&bytes).u32(0).ok_or(BAD)?;
    let packed = bytes.get(head..).ok_or(BAD)?;
    match kind {
        ZLIB => unpack(flate2::read::ZlibDecoder::new(packed), limit),
        ZSTD => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| BAD)?;
            // 128 MiB: what zstd's own tool allows unless told otherwise.
            decoder.window_log_max(27).map_err(|_| BAD)?;
            unpack(decoder, limit)
        }
        _ => Err(BAD),
    }
}

/// The older way to pack: `ZLIB`, the size as 8 bytes big-endian, the stream.
fn unpacked_old(source: &Source<'_>, section: &Section, limit: u64) -> Result<Vec<u8>, ReadError> {
    let bytes = raw(source, section, limit)?;
    let packed = bytes.strip_prefix(b"ZLIB").and_then(|rest| rest.get(8..));
    let packed = packed.ok_or(ReadError::Malformed("a packed section of debug information"))?;
    unpack(flate2::read::ZlibDecoder::new(packed), limit)
}

fn raw(source: &Source<'_>, section: &Section, limit: u64) -> Result<Vec<u8>, ReadError> {
    let range = &section.range;
    if range.end > source.len_bytes() || range.start > range.end {
        return Err(ReadError::OutOfBounds("debug information"));
    }
    if range.end - range.start > limit {
        return Err(ReadError::TooLarge("debug information"));
    }
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    source.read_at(range.start, &mut bytes)?;
    Ok(bytes)
}

fn unpack(stream: impl Read, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut out = Vec::new();
    let read = stream.take(limit.saturating_add(1)).read_to_end(&mut out);
    if out.len() as u64 > limit {
        return Err(ReadError::TooLarge("debug information, unpacked,"));
    }
    read.map_err(|_| ReadError::Malformed("a packed section of debug information"))?;
    out.shrink_to_fit();
    Ok(out)
}
