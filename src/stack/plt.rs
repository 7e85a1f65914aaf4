//! Names of PLT stubs, the few instructions by which a program calls into its libraries: `memcpy@plt`.
//!
//! No symbol names them. Each stub jumps through a slot, and a relocation says whose address the loader puts there, so
//! stubs are decoded rather than counted: linkers leave out, reorder and split them. x86-64 and aarch64, 64 bit.

use std::collections::HashMap;
use std::ops::Range;

use super::builder::{Candidate, Rank, TableBuilder};
use super::elf::{Elf, Symbols};
use super::source::{Fields, Pinned, ReadError};

const X86_64: u16 = 62;
const AARCH64: u16 = 183;
/// Largest section of stubs read, in bytes.
const MAX_STUBS_BYTES: u64 = 2 << 20;
/// Largest section of relocations read, in bytes.
const MAX_RELOCATIONS_BYTES: u64 = 8 << 20;
/// Most slots remembered.
const MAX_SLOTS: usize = 1 << 17;
const RELOCATION_BYTES: u64 = 24;
const SYMBOL_BYTES: u64 = 24;

/// A section of stubs.
#[derive(Debug)]
struct Stubs {
    range: Range<u64>,
    address: u64,
    /// Size of a stub in bytes.
    step: usize,
}

/// Where stubs and what tells of them are in the file.
#[derive(Debug, Default)]
pub struct Plt {
    stubs: Vec<Stubs>,
    relocations: Vec<Range<u64>>,
}

impl Plt {
    /// What has to be pinned.
    pub fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.stubs.iter().map(|stubs| &stubs.range).chain(&self.relocations)
    }
}

/// Looks for stubs; sections that are too large or lie outside of the file are passed over.
pub fn find(elf: &Elf, reader: &Pinned<'_>) -> Plt {
    let mut plt = Plt::default();
    if !elf.wide || ![X86_64, AARCH64].contains(&elf.machine) {
        return plt;
    }
    for name in [".plt", ".plt.sec", ".plt.got"] {
        let Some(section) = elf.bytes_of(reader, name, MAX_STUBS_BYTES) else { continue };
        let step = match (elf.machine, section.entry_bytes) {
            (X86_64, 8) => 8,
            (X86_64, _) => 16,
            (_, 24) => 24,
            _ => 16,
        };
        let (range, address) = (section.range.clone(), section.addresses.start);
        plt.stubs.push(Stubs { range, address, step });
    }
    if plt.stubs.is_empty() {
        return plt;
    }
    // Slots of `.plt.got` are filled when the program is loaded, with all its other addresses.
    let names = [Some(".rela.plt"), elf.section(".plt.got").map(|_| ".rela.dyn")];
    plt.relocations = names
        .into_iter()
        .flatten()
        .filter_map(|name| elf.bytes_of(reader, name, MAX_RELOCATIONS_BYTES))
        .map(|section| section.range.clone())
        .collect();
    plt
}

/// Adds the stubs, called as the dynamic symbols `imports` are.
pub fn add_stubs(
    reader: &mut Pinned<'_>,
    elf: &Elf,
    plt: &Plt,
    imports: &Symbols,
    builder: &mut TableBuilder,
) -> Result<(), ReadError> {
    let mut slots = HashMap::new();
    for range in &plt.relocations {
        reader.for_each_piece(range, RELOCATION_BYTES, |piece| {
            for entry in piece.chunks_exact(24).map(Fields) {
                if let (Some(slot), Some(info)) = (entry.u64(0), entry.u64(8))
                    && let (Ok(symbol), true) = (u32::try_from(info >> 32), fills_slot(elf.machine, info))
                    && symbol != 0
                    && slots.len() < MAX_SLOTS
                {
                    slots.insert(slot, symbol);
                }
            }
            Ok(())
        })?;
    }
    let mut found: Vec<(u32, u64, usize)> = Vec::new();
    for stubs in &plt.stubs {
        let code = reader.read(&stubs.range)?;
        for (at, stub) in (0u64..).step_by(stubs.step).zip(code.chunks_exact(stubs.step)) {
            let address = stubs.address.saturating_add(at);
            let slot = if elf.machine == X86_64 { x86_slot(stub, address) } else { arm_slot(stub, address) };
            if let Some(symbol) = slot.and_then(|slot| slots.get(&slot)) {
                found.push((*symbol, address, stubs.step));
            }
        }
    }
    // In the order of the symbols each page of theirs is read once.
    found.sort_unstable();
    let mut candidates = Vec::with_capacity(found.len());
    for (symbol, address, size) in found {
        let at = imports.records.start.saturating_add(u64::from(symbol) * SYMBOL_BYTES);
        if at.saturating_add(SYMBOL_BYTES) > imports.records.end {
            continue;
        }
        if let Some(name) = Fields(&reader.read(&(at..at + 4))?).u32(0).filter(|name| *name != 0) {
            candidates.push(Candidate::new(address, size as u64, true, Rank::Local, name));
        }
    }
    builder.add_with_suffix(reader, candidates, &imports.names, b"@plt")
}

/// Whether a relocation puts a function's address into a slot: `JUMP_SLOT` or `GLOB_DAT`.
fn fills_slot(machine: u16, info: u64) -> bool {
    let kind = info & 0xffff_ffff;
    if machine == X86_64 { matches!(kind, 6 | 7) } else { matches!(kind, 1025 | 1026) }
}

/// The slot that an x86-64 stub at `address` jumps through: `endbr64`? `bnd`? `jmp *disp(%rip)`.
fn x86_slot(stub: &[u8], address: u64) -> Option<u64> {
    let code = stub.strip_prefix(b"\xf3\x0f\x1e\xfa").unwrap_or(stub);
    let code = code.strip_prefix(b"\xf2").unwrap_or(code);
    let operand = code.strip_prefix(b"\xff\x25")?;
    let next = (stub.len() - operand.len()) as u64 + 4;
    let distance = i64::from(Fields(operand).u32(0)?.cast_signed());
    address.checked_add(next)?.checked_add_signed(distance)
}

/// The slot that an aarch64 stub at `address` loads from: `bti c`? `adrp x16, page`, `ldr x17, [x16, #offset]`.
fn arm_slot(stub: &[u8], address: u64) -> Option<u64> {
    let bti = u64::from(Fields(stub).u32(0)? == 0xd503_245f);
    let at = usize::from(bti == 1) * 4;
    let (adrp, ldr) = (Fields(stub).u32(at)?, Fields(stub).u32(at + 4)?);
    if adrp & 0x9f00_001f != 0x9000_0010 || ldr & 0xffc0_03ff != 0xf940_0211 {
        return None;
    }
    let pages = u64::from(adrp >> 3 & 0x001f_fffc | adrp >> 29 & 3);
    // 21 bits with a sign.
    let pages = (pages << 43).cast_signed() >> 43;
    let page = address.checked_add(bti * 4)? & !0xfff;
    page.checked_add_signed(pages << 12)?.checked_add(u64::from(ldr >> 10 & 0xfff) * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stubs_are_decoded() {
        let x86 = |code: &[u8]| x86_slot(code, 0x1020);
        assert_eq!(x86(b"\xff\x25\xe2\x2f\0\0\x68\0\0\0\0\xe9\xe0\xff\xff\xff"), Some(0x4008));
        assert_eq!(x86(b"\xf3\x0f\x1e\xfa\xf2\xff\x25\xad\x2f\0\0\x0f\x1f\x44\0\0"), Some(0x3fd8));
        assert_eq!(x86(b"\xf3\x0f\x1e\xfa\xff\x25\xae\x2f\0\0\x66\x0f\x1f\x44\0\0"), Some(0x3fd8));
        assert_eq!(x86(b"\xff\x25\xda\x2f\0\0\x66\x90"), Some(0x4000));
        assert_eq!(x86(b"\xff\x35\xe2\x2f\0\0\xff\x25\xe4\x2f\0\0\x0f\x1f\x40\0"), None, "the first entry");
        let arm = |code: &[u32], address| {
            arm_slot(&code.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>(), address)
        };
        // adrp x16, 0x11000; ldr x17, [x16, #8]; add; br
        let plain = [0xd000_0090, 0xf940_0611, 0x9100_2210, 0xd61f_0220];
        assert_eq!(arm(&plain, 0x5f0), Some(0x12008));
        assert_eq!(arm(&[&[0xd503_245f][..], &plain].concat(), 0x5ffc), Some(0x18008));
        assert_eq!(arm(&[0xf000_0010, 0xf940_0611], 0x4000_0000), Some(0x4000_3008));
        assert_eq!(arm(&[0xd000_0091, 0xf940_0611], 0x5f0), None);
    }

    proptest! {
        #[test]
        fn any_code_is_a_stub_or_none(code in prop::collection::vec(any::<u8>(), 0..32), address: u64) {
            let _ = (x86_slot(&code, address), arm_slot(&code, address));
            let jump = [b"\xff\x25", &code[..]].concat();
            let _ = x86_slot(&jump, address);
        }
    }
}
