//! Bytes in place of a pprof profile, unzipped: refused before anything is told, or each event fit for the store.
#![no_main]

use fnscope::exchange::{Skipped, detect, pprof_in};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = detect::detect(bytes);
    let mut skipped = Skipped::default();
    let _ = pprof_in::read(bytes, &mut skipped, &mut |event, number| {
        assert!(number > 0 && event.count > 0 && !event.frames.is_empty());
        assert!(event.period_ns != Some(0));
        for frame in &event.frames {
            assert!(!frame.contains(|c: char| c == ';' || c.is_control()), "{frame:?}");
        }
        Ok(())
    });
});
