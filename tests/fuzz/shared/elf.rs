//! ELF files that are sound, around sections that may be anything.

/// A 64-bit program for `machine` with one executable segment at 0x1000, of 4 KiB, in the file at 0x40, and `sections`
/// (name, type, entry size, bytes), each of which links to the one before; they are mapped behind the segment.
pub fn file(machine: u16, sections: &[(&str, u32, u64, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 0x1040];
    let mut names = vec![0];
    let mut headers = vec![0; 64];
    let mut header = |name: u32, kind: u32, at: u64, length: usize, link: u32, entry: u64| {
        headers.extend_from_slice(&name.to_le_bytes());
        headers.extend_from_slice(&kind.to_le_bytes());
        let address = if at == 0 { 0 } else { 0x1000 + at % 0x1000 };
        for number in [6, address, at, length as u64] {
            headers.extend_from_slice(&number.to_le_bytes());
        }
        headers.extend_from_slice(&link.to_le_bytes());
        headers.extend_from_slice(&[0; 4]);
        for number in [1, entry] {
            headers.extend_from_slice(&number.to_le_bytes());
        }
    };
    for (number, (name, kind, entry, bytes)) in (0u32..).zip(sections) {
        header(names.len() as u32, *kind, file.len() as u64, bytes.len(), number, *entry);
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        file.extend_from_slice(bytes);
    }
    header(0, 3, file.len() as u64, names.len(), 0, 0);
    file.extend_from_slice(&names);
    let (sections_at, count) = (file.len() as u64, (headers.len() / 64) as u16);
    file.extend_from_slice(&headers);
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &sections_at.to_le_bytes());
    for (at, number) in [(52, 64), (54, 56), (56, 1), (58, 64), (60, count), (62, count - 1)] {
        put(at, &number.to_le_bytes());
    }
    // PT_LOAD, read and execute.
    put(64, &1u32.to_le_bytes());
    put(68, &5u32.to_le_bytes());
    for (at, number) in [(72, 0x40u64), (80, 0x1000), (96, 0x1000), (104, 0x1000)] {
        put(at, &number.to_le_bytes());
    }
    file
}
