//! Functions of a stripped file, from its unwind tables: where each begins and ends, and no name.
//!
//! They turn a thousand addresses into the one function that holds them. `.eh_frame` is read where it can be found, by
//! its section or by what `PT_GNU_EH_FRAME` points to, since a file may have lost its section headers; it tells ends
//! too, so code between functions belongs to none. Where it tells nothing, the sorted starts of `.eh_frame_hdr` are
//! taken. Not here: unwinding.
//!
//! Encodings are those that linkers write: pointers of 4 and 8 bytes, absolute or relative to their own place. Entries
//! of others are passed over.

use std::collections::HashMap;
use std::ops::Range;

use super::builder::{MAX_FUNCTIONS, TableBuilder};
use super::elf::{Elf, Section};
use super::source::{Fields, Pinned, ReadError};

const HEAD_BYTES: u64 = 12;
const ENTRY_BYTES: u64 = 8;
/// Largest `.eh_frame` read, in bytes.
const MAX_FRAMES_BYTES: u64 = 64 << 20;
/// Most records of `.eh_frame` looked at, of functions and of what they share.
const MAX_RECORDS: usize = 2 * MAX_FUNCTIONS;
/// Most shared records (CIEs) remembered; linkers write a handful for each object file and merge equal ones.
const MAX_SHARED: usize = 1 << 16;
/// How much of a shared record is read, in bytes: what matters stands at its begin.
const SHARED_BYTES: u64 = 128;

/// A part of the file and where it is in memory.
#[derive(Debug, Clone)]
struct Part {
    range: Range<u64>,
    address: u64,
}

/// Where the tables are in the file.
#[derive(Debug, Default)]
pub struct Unwinding {
    frames: Option<Part>,
    starts: Option<Part>,
}

impl Unwinding {
    /// What has to be pinned.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.frames.iter().chain(&self.starts).map(|part| &part.range)
    }
}

/// Looks for the tables; those that lie outside of the file are none.
pub fn find(elf: &Elf, reader: &mut Pinned<'_>) -> Result<Unwinding, ReadError> {
    let part = |section: &Section| Part { range: section.range.clone(), address: section.addresses.start };
    let starts_limit = HEAD_BYTES + ENTRY_BYTES * MAX_FUNCTIONS as u64;
    let mut found = Unwinding {
        frames: elf.bytes_of(reader, ".eh_frame", MAX_FRAMES_BYTES).map(part),
        starts: elf.bytes_of(reader, ".eh_frame_hdr", starts_limit).map(part),
    };
    if found.starts.is_none()
        && let Some(segment) = &elf.unwind_header
    {
        let range = segment.offset..segment.offset.saturating_add(segment.file_bytes);
        if reader.check(&range, starts_limit, ".eh_frame_hdr").is_ok() {
            found.starts = Some(Part { range, address: segment.address });
        }
    }
    if found.frames.is_none()
        && let Some(starts) = &found.starts
    {
        found.frames = told_frames(elf, reader, starts)?;
    }
    Ok(found)
}

/// Adds the functions that the tables tell of.
pub fn add_functions(
    reader: &mut Pinned<'_>,
    elf: &Elf,
    tables: &Unwinding,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    if let Some(frames) = &tables.frames {
        let before = builder.len();
        walk(reader, elf.wide, frames, |function| builder.add_nameless(function))?;
        if builder.len() > before {
            return Ok(());
        }
    }
    match &tables.starts {
        Some(starts) => add_starts(reader, elf, starts, builder),
        None => Ok(()),
    }
}

/// The `.eh_frame` that the head of `.eh_frame_hdr` points to, to its end: reads it once, where no section tells its
/// size.
fn told_frames(elf: &Elf, reader: &mut Pinned<'_>, starts: &Part) -> Result<Option<Part>, ReadError> {
    let head = reader.read(&(starts.range.start..starts.range.end.min(starts.range.start + HEAD_BYTES)))?;
    let (Some([1, encoding, ..]), Some(field)) = (head.get(..4), head.get(4..)) else { return Ok(None) };
    let Some(address) = pointer(*encoding, elf.wide, field, starts.address.saturating_add(4)) else {
        return Ok(None);
    };
    let Some(mut range) = elf.offset_of(address) else { return Ok(None) };
    range.end = range.end.min(range.start.saturating_add(MAX_FRAMES_BYTES)).min(reader.len_bytes());
    if range.start >= range.end {
        return Ok(None);
    }
    let mut part = Part { range, address };
    part.range.end = walk(reader, elf.wide, &part, |_| Ok(()))?;
    Ok(Some(part))
}

/// Calls `each` with the addresses of every function that `.eh_frame` tells of; returns where in the file it ends. What
/// makes no sense ends it.
fn walk(
    reader: &mut Pinned<'_>,
    wide: bool,
    frames: &Part,
    mut each: impl FnMut(Range<u64>) -> Result<(), ReadError>,
) -> Result<u64, ReadError> {
    // Where a shared record begins, to how pointers of its functions are written.
    let mut shared: HashMap<u64, u8> = HashMap::new();
    let mut at = frames.range.start;
    for _ in 0..MAX_RECORDS {
        let head = reader.read(&(at..frames.range.end.min(at.saturating_add(40))))?;
        let Some((body, length)) = record_length(&head) else { return Ok(frames.range.end.min(at + 4)) };
        let Some(end) = at.checked_add(body).and_then(|begin| begin.checked_add(length)) else { break };
        if end > frames.range.end {
            break;
        }
        let id_at = at + body;
        let inside = usize::try_from(body).ok().and_then(|body| head.get(body..)).unwrap_or_default();
        let inside = usize::try_from(length).ok().and_then(|length| inside.get(..length)).unwrap_or(inside);
        match Fields(inside).u32(0) {
            Some(0) => {
                let record = reader.read(&(id_at..end.min(id_at.saturating_add(SHARED_BYTES))))?;
                if let Some(encoding) = shared_encoding(&record)
                    && shared.len() < MAX_SHARED
                {
                    shared.insert(at, encoding);
                }
            }
            Some(back) => {
                let encoding = id_at.checked_sub(back.into()).and_then(|at| shared.get(&at));
                let field_address = frames.address.saturating_add(id_at + 4 - frames.range.start);
                let function =
                    encoding.and_then(|encoding| function(*encoding, wide, inside.get(4..)?, field_address));
                if let Some(function) = function {
                    each(function)?;
                }
            }
            None => {}
        }
        at = end;
    }
    Ok(at.min(frames.range.end))
}

/// How many bytes the length takes and how many it counts; none at the end of the table.
fn record_length(head: &[u8]) -> Option<(u64, u64)> {
    match Fields(head).u32(0)? {
        0 => None,
        u32::MAX => Some((12, Fields(head).u64(4)?)),
        length => Some((4, length.into())),
    }
}

/// How the functions of a shared record write pointers. `record` begins with its id.
fn shared_encoding(record: &[u8]) -> Option<u8> {
    let version = *record.get(4)?;
    let text = record.get(5..)?;
    let length = text.iter().take(16).position(|byte| *byte == 0)?;
    let (augmentation, mut rest) = (text.get(..length)?, text.get(length + 1..)?);
    let Some(letters) = augmentation.strip_prefix(b"z") else {
        return augmentation.is_empty().then_some(0);
    };
    skip_leb(&mut rest)?; // code alignment
    skip_leb(&mut rest)?; // data alignment
    if version == 1 {
        rest = rest.get(1..)?;
    } else {
        skip_leb(&mut rest)?; // return address register
    }
    skip_leb(&mut rest)?; // size of what follows
    for letter in letters {
        match letter {
            b'R' => return rest.first().copied(),
            b'L' => rest = rest.get(1..)?,
            b'P' => {
                let width = match rest.first()? & 0xf {
                    0x0 | 0x4 | 0xc => 8,
                    0x3 | 0xb => 4,
                    0x2 | 0xa => 2,
                    _ => return None,
                };
                rest = rest.get(1 + width..)?;
            }
            b'S' | b'B' | b'G' => {}
            _ => return None,
        }
    }
    Some(0)
}

fn skip_leb(bytes: &mut &[u8]) -> Option<()> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    *bytes = bytes.get(length + 1..)?;
    Some(())
}

/// A function's begin and end, from the two pointers at the begin of `field`, which stands at `address`.
fn function(encoding: u8, wide: bool, field: &[u8], address: u64) -> Option<Range<u64>> {
    let start = pointer(encoding, wide, field, address)?;
    let length = pointer(encoding & 0xf, wide, field.get(pointer_bytes(encoding, wide)?..)?, 0)?;
    (start != 0 && length != 0).then_some(())?;
    Some(start..start.checked_add(length)?)
}

fn pointer_bytes(encoding: u8, wide: bool) -> Option<usize> {
    match encoding & 0xf {
        0x0 => Some(if wide { 8 } else { 4 }),
        0x3 | 0xb => Some(4),
        0x4 | 0xc => Some(8),
        _ => None,
    }
}

/// The pointer at the begin of `field`, which stands at `address`.
fn pointer(encoding: u8, wide: bool, field: &[u8], address: u64) -> Option<u64> {
    let value = match encoding & 0xf {
        0xb => i64::from(Fields(field).u32(0)?.cast_signed()).cast_unsigned(),
        _ if pointer_bytes(encoding, wide)? == 4 => Fields(field).u32(0)?.into(),
        _ => Fields(field).u64(0)?,
    };
    let value = match encoding & 0xf0 {
        0x00 => value,
        0x10 => address.wrapping_add(value),
        _ => return None,
    };
    Some(if wide { value } else { value & 0xffff_ffff })
}

/// Adds the starts that `.eh_frame_hdr` lists; each function reaches to the next one or to the end of its section.
fn add_starts(
    reader: &mut Pinned<'_>,
    elf: &Elf,
    starts: &Part,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let Part { range, address: base } = starts;
    let head = reader.read(&(range.start..range.end.min(range.start + HEAD_BYTES)))?;
    // Version 1; the pointer to .eh_frame in 4 bytes; the count as udata4; the table as datarel | sdata4.
    let usual = matches!(head.get(..4), Some([1, pointer, 0x03, 0x3b]) if matches!(pointer & 0xf, 0x3 | 0xb));
    let Some(count) = Fields(&head).u32(8).filter(|_| usual) else { return Ok(()) };
    let begin = range.start + HEAD_BYTES;
    let end = begin.saturating_add(u64::from(count) * ENTRY_BYTES).min(range.end);
    let mut code: Vec<Range<u64>> =
        elf.sections.iter().filter(|section| section.is_executable()).map(|s| s.addresses.clone()).collect();
    if code.is_empty() {
        code.extend(elf.segments.iter().map(|segment| segment.addresses()));
    }
    // A hostile file has as many sections as starts; searching one for the other must not be their product.
    code.sort_unstable_by_key(|range| (range.start, range.end));
    let section_of = |start: u64| {
        let after = code.partition_point(|range| range.start <= start);
        code.get(after.checked_sub(1)?).filter(|range| range.contains(&start))
    };
    reader.for_each_piece(&(begin..end), ENTRY_BYTES, |piece| {
        let starts = piece.chunks_exact(8).filter_map(|entry| {
            let start = base.checked_add_signed(i64::from(Fields(entry).u32(0)?.cast_signed()))?;
            Some((start, section_of(start)?.end))
        });
        builder.add_unnamed(starts)
    })
}
