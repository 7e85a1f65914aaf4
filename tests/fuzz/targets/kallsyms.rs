//! Any text in place of `/proc/kallsyms`.
#![no_main]

use fnscope::model::{Frame, FrameKind};
use fnscope::stack::KernelSymbols;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let kernel = KernelSymbols::parse(text);
    let words =
        text.split(|byte| byte.is_ascii_whitespace()).filter_map(|word| std::str::from_utf8(word).ok());
    for address in words.filter_map(|word| u64::from_str_radix(word, 16).ok()).take(16).chain([0, u64::MAX]) {
        let Some((name, module)) = kernel.lookup(address) else { continue };
        assert!(kernel.is_readable());
        let frame = Frame::symbol(&name, &module, FrameKind::Kernel).format();
        assert!(!frame.contains([';', '\n']), "{frame:?} would be two frames");
        assert_eq!(Frame::parse(&frame).kind, FrameKind::Kernel, "{frame:?}");
    }
});
