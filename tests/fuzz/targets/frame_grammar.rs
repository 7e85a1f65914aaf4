//! Any symbol, module and offset survive the grammar of frames, and any text is taken apart without a panic.
#![no_main]

use fnscope::model::frame::{Frame, FrameKind, FrameName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, u64, u8)| {
    let (text, module, number, kind) = input;
    let once = Frame::parse(text).format();
    assert_eq!(Frame::parse(&once).format(), once, "what was written once is read as it was written");

    let kind = match kind % 6 {
        0 => FrameKind::Kernel,
        1 => FrameKind::Inlined,
        2 => FrameKind::Jit,
        3 => FrameKind::Interpreted,
        4 => FrameKind::Guessed,
        _ => FrameKind::Native,
    };
    for name in [FrameName::Symbol(text.into()), FrameName::FunctionStart(number), FrameName::Offset(number)]
    {
        let frame = Frame { name, module: module.into(), kind };
        let line = frame.format();
        assert!(!line.contains([';', '\n']), "{line:?} would be two frames");
        let read = Frame::parse(&line);
        assert_eq!(read.kind, kind, "{line:?}");
        assert_eq!(read.format(), line, "{line:?}");
    }
});
