//! Text of another tool, of whatever kind: read to its end, each event fit for the store; frames of perf both ways.
#![no_main]

use fnscope::exchange::lines::Lines;
use fnscope::exchange::{Skipped, detect, folded_in, perf_frame, perf_script_in, text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = detect::detect(bytes);
    let mut skipped = Skipped::default();
    let mut each = |event: fnscope::exchange::Event, line: u64| {
        assert!(line > 0 && event.count > 0 && !event.frames.is_empty());
        for frame in &event.frames {
            assert!(!frame.contains(|c: char| c == ';' || c.is_control()), "{frame:?}");
        }
        Ok(())
    };
    perf_script_in::read(&mut Lines::new(bytes), true, &mut skipped, &mut each).expect("memory can be read");
    folded_in::read(&mut Lines::new(bytes), &mut skipped, &mut each).expect("memory can be read");
    let Ok(frame) = std::str::from_utf8(bytes) else { return };
    let frame = text::frame(frame).into_owned();
    if !frame.trim().is_empty() && frame.len() < text::MAX_FRAME_BYTES / 8 {
        let told = perf_frame::line(&frame);
        assert!(!told.contains("->"), "{told:?}");
        assert_eq!(perf_frame::parse(&told), Some(frame), "{told:?}");
    }
});
