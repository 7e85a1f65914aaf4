//! `.gnu_debugdata` of any bytes is unpacked within its limit, or an error; with checksums that fit, too.
#![no_main]

use fnscope::stack::debugdata::unpack_bytes;
use libfuzzer_sys::fuzz_target;

const LIMIT_BYTES: u64 = 1 << 20;

fuzz_target!(|packed: &[u8]| {
    check(packed);
    // What a forger would write: the checksums of the stream's head and of its first block's.
    let mut forged = packed.to_vec();
    forged.resize(forged.len().max(24), 0);
    forged[..6].copy_from_slice(b"\xfd7zXZ\0");
    let head = crc32fast::hash(&forged[6..8]).to_le_bytes();
    forged[8..12].copy_from_slice(&head);
    let length = usize::from(forged[12]) * 4;
    if length > 0 && 12 + length + 4 <= forged.len() {
        let block = crc32fast::hash(&forged[12..12 + length]).to_le_bytes();
        forged[12 + length..16 + length].copy_from_slice(&block);
    }
    check(&forged);
});

fn check(packed: &[u8]) {
    if let Ok(bytes) = unpack_bytes(packed, LIMIT_BYTES) {
        assert!(bytes.len() as u64 <= LIMIT_BYTES);
    }
}
