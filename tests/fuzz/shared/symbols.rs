//! What holds for any symbol table.

use fnscope::model::{Frame, FrameKind};
use fnscope::stack::{SymbolTable, demangle::demangle};

/// Asks `table` for addresses of all kinds, and writes and reads it.
pub fn ask(table: &SymbolTable) {
    // Unpacking a name takes microseconds, so not all are asked for.
    let mut names = 0;
    let offsets = (0..0x4000).step_by(0x55).chain([u64::MAX, u64::MAX - 1, 1 << 32, 1 << 63]);
    for offset in offsets {
        for address in table.address(offset).into_iter().chain([offset, 0x40_0000 + offset % (1 << 20)]) {
            let Some(piece) = table.piece(address) else { continue };
            assert!(piece.start <= address && address < piece.end, "{address:x} is not in {piece:?}");
            assert_eq!(table.piece(piece.start), Some(piece));
            names += 1;
            if names <= 24
                && let Some((name, start)) = table.lookup(address)
            {
                assert_eq!(start, piece.start);
                assert!(!name.contains(&0));
                let frame = Frame::symbol(&demangle(&name), "module", FrameKind::Native).format();
                assert_eq!(Frame::parse(&frame).kind, FrameKind::Native, "{frame:?}");
            }
        }
    }
    let bytes = table.to_bytes();
    let read = SymbolTable::from_bytes(&bytes).expect("what was written is read");
    assert_eq!(read, *table);
    assert_eq!(read.to_bytes(), bytes);
}
