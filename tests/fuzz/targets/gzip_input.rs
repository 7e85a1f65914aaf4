//! Any file that is handed to `import`: unzipped where it is zipped, in bounded memory, or an error.
#![no_main]

use std::io::{Cursor, Read};

use fnscope::exchange::detect;
use fnscope::exchange::input::Input;
use libfuzzer_sys::fuzz_target;

/// More than any input of this size unzips to.
const LIMIT_BYTES: u64 = 80 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = Input::new(Box::new(Cursor::new(bytes.to_vec()))) else { return };
    let _ = detect::detect(&input.begin);
    let mut all = input.all.take(LIMIT_BYTES);
    let read = std::io::copy(&mut all, &mut std::io::sink());
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        assert_eq!(read.expect("memory can be read"), bytes.len() as u64, "what is not zipped is as it was");
    }
});
