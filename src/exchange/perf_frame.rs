//! One line of a stack as `perf script` writes it, `address symbol (module)`, from a frame of our grammar and back.
//!
//! | frame | line |
//! |---|---|
//! | `main [pi]` | `0 main (pi)` |
//! | `vfs_read [kernel]_[k]` | `ffffffff80000000 vfs_read ([kernel.kallsyms])` |
//! | `nf_hook [nf_tables]_[k]` | `ffffffff80000000 nf_hook ([nf_tables])` |
//! | `f [x]_[j]` | `0 f_[j] (x)`, and so for `_[i]`, `_[p]` and `_[g]` |
//! | `[libc.so.6]+0x1f` | `1f [unknown] (libc.so.6)` |
//! | `pi+0x40` | `0 [pi@0x40] (pi)` |
//! | a marker | `0 [truncated] ([marker])` |
//! | what fits nowhere | `0 <all of it> ([frame])` |
//!
//! What tools make more of than a name is escaped as `\xNN` in the symbol: `->` (inlined, to all of them), `+0x` (an
//! offset), a leading `(` or `[`; in a module also blanks and parentheses.
//!
//! Promises: what [`line()`] writes of a frame, [`parse()`] reads as the same frame; a symbol never makes a kernel frame,
//! an address in the kernel's half does.

use std::fmt::Write as _;

use super::text;
use crate::model::frame::{Frame, FrameName, unescape};
use crate::model::{FrameKind, frame};

const MARKER: &str = "[marker]";
const RAW: &str = "[frame]";
const UNKNOWN: &str = "[unknown]";
const KERNEL: &str = "[kernel.kallsyms]";
/// Module of the kernel itself in our grammar.
const KERNEL_MODULE: &str = "kernel";
/// Stands for the address of kernel code, of which only the name is known.
const KERNEL_ADDRESS: u64 = 0xffff_ffff_8000_0000;
const MARKERS: [&str; 4] = [frame::TRUNCATED, frame::UNWOUND_SHORT, frame::KERNEL_UNREADABLE, frame::LOST];

/// The line of `frame` without what leads it in and without its end.
pub fn line(frame: &str) -> String {
    let frame = text::frame(frame);
    // As perf says it; else it would be a name with a bracket in front.
    let nice =
        if frame == UNKNOWN { format!("0 {UNKNOWN} ({UNKNOWN})") } else { nice(&Frame::parse(&frame)) };
    match parse(&nice) {
        Some(back) if back == frame => nice,
        _ => format!("0 {} ({RAW})", symbol(&frame.replace('\\', "\\x5c"))),
    }
}

fn nice(frame: &Frame) -> String {
    let kernel = frame.kind == FrameKind::Kernel;
    let module = match (kernel, frame.module.as_str()) {
        (true, KERNEL_MODULE) => KERNEL.into(),
        (true, module) => format!("[{}]", self::module(module)),
        (false, "") => UNKNOWN.into(),
        (false, module) => self::module(module),
    };
    let base = if kernel { KERNEL_ADDRESS } else { 0 };
    let suffix = suffix(frame.kind);
    match &frame.name {
        // As our own grammar has it, so that no symbol can end in a kind.
        FrameName::Symbol(_) => format!("{base:x} {}{suffix} ({module})", symbol(&frame.label())),
        FrameName::Offset(offset) => {
            let address = if kernel { base | offset } else { *offset };
            format!("{address:x} {UNKNOWN}{suffix} ({module})")
        }
        FrameName::FunctionStart(start) => {
            format!("{base:x} [{}@0x{start:x}]{suffix} ({module})", self::module(&frame.module))
        }
        FrameName::Marker(marker) => format!("0 {marker} ({MARKER})"),
    }
}

/// The frame of a line of a stack, fit for the store; none for a line that is none.
pub fn parse(line: &str) -> Option<String> {
    let line = line.trim();
    let (address, rest) = line.split_once(' ')?;
    let address = u64::from_str_radix(address.strip_prefix("0x").unwrap_or(address), 16).ok()?;
    let rest = rest.trim();
    let kept = rest.strip_suffix(" (deleted))").map(|kept| format!("{kept})"));
    let rest = kept.as_deref().unwrap_or(rest);
    // Lines of code that perf can print behind a module are not kept.
    let (name, module) = match rest.rsplit_once(" (") {
        Some((name, module)) => (name, module.strip_suffix(')')?),
        None => ("", rest.strip_prefix('(')?.strip_suffix(')')?),
    };
    Some(text::frame(&of(address, name.trim(), module)).into_owned())
}

fn of(address: u64, name: &str, module: &str) -> String {
    if module == RAW {
        return unescape(name);
    }
    if module == MARKER && MARKERS.contains(&name) {
        return name.into();
    }
    let kernel_half = address >= 1 << 63;
    let named_kernel = module == KERNEL || module.starts_with("[guest.kernel.kallsyms");
    let (name, mut kind) =
        match [FrameKind::Inlined, FrameKind::Jit, FrameKind::Interpreted, FrameKind::Guessed]
            .into_iter()
            .find_map(|kind| Some((name.strip_suffix(suffix(kind))?, kind)))
        {
            Some((name, kind)) => (name, kind),
            None => (name, FrameKind::Native),
        };
    let bracketed = module.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let module = if kernel_half || named_kernel {
        kind = FrameKind::Kernel;
        let file = file_name(module);
        match bracketed {
            // perf tells sections of the kernel apart; we do not.
            _ if named_kernel || file.starts_with("vmlinux") || module.starts_with(KERNEL) => {
                KERNEL_MODULE.into()
            }
            Some("unknown" | "guest.kernel") => KERNEL_MODULE.into(),
            Some(module) => unescape(module),
            None => unescape(file.split(".ko").next().unwrap_or(file)),
        }
    } else if module == UNKNOWN || module.is_empty() {
        String::new()
    } else if module == "inlined" {
        kind = FrameKind::Inlined;
        String::new()
    } else if module.starts_with("/tmp/perf-") || module.contains("/jitted-") || module == "//anon" {
        kind = if kind == FrameKind::Native { FrameKind::Jit } else { kind };
        // The map's name has the process's number in it, and is not where the code lies.
        let is_map = module.starts_with("/tmp/perf-") && module.ends_with(".map");
        if is_map { frame::JIT_MODULE.into() } else { unescape(file_name(module)) }
    } else {
        // Not a path: `[vdso]`, `[heap]`, whatever the kernel calls it.
        unescape(bracketed.unwrap_or_else(|| file_name(module)))
    };
    let name = without_offset(name);
    if name == UNKNOWN || name.is_empty() {
        let address = if kernel_half { address ^ (address & KERNEL_ADDRESS) } else { address };
        return match (module.is_empty(), kind) {
            (true, FrameKind::Native) => UNKNOWN.into(),
            _ => Frame::offset(&module, address, kind).format(),
        };
    }
    let start = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.rsplit_once("@0x"));
    if let Some((_, start)) = start
        && let Ok(start) = u64::from_str_radix(start, 16)
    {
        return Frame { name: FrameName::FunctionStart(start), module, kind }.format();
    }
    let name = unescape(name);
    match module.is_empty() {
        // A symbol of no module stands for itself.
        true => {
            let alone = Frame::symbol(&name, "", kind).format();
            let (symbol, suffix) = alone.rsplit_once(" []").unwrap_or((&alone, ""));
            format!("{symbol}{suffix}")
        }
        false => Frame::symbol(&name, &module, kind).format(),
    }
}

fn suffix(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Inlined => "_[i]",
        FrameKind::Jit => "_[j]",
        FrameKind::Interpreted => "_[p]",
        FrameKind::Guessed => "_[g]",
        // The module tells.
        FrameKind::Native | FrameKind::Kernel | FrameKind::Marker => "",
    }
}

/// The last part of a path.
fn file_name(module: &str) -> &str {
    module.rsplit('/').find(|part| !part.is_empty()).unwrap_or(module)
}

/// Without perf's `+0x1f` behind a symbol.
fn without_offset(name: &str) -> &str {
    match name.rsplit_once("+0x") {
        Some((symbol, offset)) if !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_hexdigit()) => {
            symbol
        }
        _ => name,
    }
}

/// `label`, in which our grammar has escaped what it must, so that tools take it for one name.
fn symbol(label: &str) -> String {
    let mut out = String::with_capacity(label.len() + 8);
    let mut rest = label;
    while let Some(c) = rest.chars().next() {
        let lead = out.is_empty() && (c.is_whitespace() || matches!(c, '(' | '['));
        let before_end = c.is_whitespace() && rest.len() == c.len_utf8();
        let arrow = ends_arrow(c, &out);
        let offset = c == '+' && rest.starts_with("+0x");
        match lead || before_end || arrow || offset {
            true => hex(c, &mut out),
            false => out.push(c),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

fn module(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match ends_arrow(c, &out) || c.is_whitespace() || c.is_control() || "()[]\\/@;".contains(c) {
            true => hex(c, &mut out),
            false => out.push(c),
        }
    }
    out
}

/// Whether `c` behind `out` makes an arrow.
fn ends_arrow(c: char, out: &str) -> bool {
    c == '>' && out.ends_with('-')
}

fn hex(c: char, out: &mut String) {
    let mut bytes = [0; 4];
    for byte in c.encode_utf8(&mut bytes).bytes() {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_told_as_perf_tells_them_and_read_back() {
        for (frame, told) in [
            ("main [pi]", "0 main (pi)"),
            ("vfs_read [kernel]_[k]", "ffffffff80000000 vfs_read ([kernel.kallsyms])"),
            ("nf_hook [nf_tables]_[k]", "ffffffff80000000 nf_hook ([nf_tables])"),
            ("f [x]_[j]", "0 f_[j] (x)"),
            ("f [x]_[i]", "0 f_[i] (x)"),
            ("[libc.so.6]+0x1f", "1f [unknown] (libc.so.6)"),
            ("pi+0x40", "0 [pi@0x40] (pi)"),
            ("[truncated]", "0 [truncated] ([marker])"),
            ("[kernel]", "0 [kernel] ([marker])"),
            ("main", "0 main ([unknown])"),
            ("[unknown]", "0 [unknown] ([unknown])"),
            ("operator() (int) [a]", "0 operator() (int) (a)"),
            ("<F as Fn(A) -> B>::call [a]", "0 <F as Fn(A) -\\x3e B>::call (a)"),
            ("(anonymous namespace)::f [a]", "0 \\x28anonymous namespace)::f (a)"),
            ("x+0x12 [a b)(c]", "0 x\\x2b0x12 (a\\x20b\\x29\\x28c)"),
            ("f [p->1]", "0 f (p-\\x3e1)"),
            ("f []", "0 f [] ([frame])"),
        ] {
            assert_eq!(line(frame), told, "{frame}");
            assert_eq!(parse(told).as_deref(), Some(frame), "{told}");
        }
    }

    #[test]
    fn what_perf_itself_prints_is_read() {
        for (line, frame) in [
            ("    7f533952bc77 _dl_check+0x597 (/usr/lib/ld-2.28.so)", "_dl_check [ld-2.28.so]"),
            ("ffffffff8103ce3b native_safe_halt+0x12 ([kernel.kallsyms])", "native_safe_halt [kernel]_[k]"),
            ("ffffffff81aebbfe start_kernel ([kernel.kallsyms].init.text)", "start_kernel [kernel]_[k]"),
            ("ffffffffc0123456 hook ([nf_tables])", "hook [nf_tables]_[k]"),
            ("ffffffffc0123456 hook (/lib/modules/6.1/kernel/net/nf.ko.xz)", "hook [nf]_[k]"),
            ("ffffffff81000001 x (/usr/lib/debug/boot/vmlinux-6.1)", "x [kernel]_[k]"),
            ("7f1e2215d058  (/lib/libc-2.15.so)", "[libc-2.15.so]+0x7f1e2215d058"),
            ("7f53389994d0 [unknown] ([unknown])", "[unknown]"),
            (
                "7f722d142778 Ljava/io/PrintStream;::print (/tmp/perf-19982.map)",
                "Ljava/io/PrintStream\\x3b::print [jit]_[j]",
            ),
            ("55d0 main (/app/pi (deleted))", "main [pi]"),
            ("55d0 core::f (inlined)", "core::f_[i]"),
            ("7ffd1 __vdso_time ([vdso])", "__vdso_time [vdso]"),
            // A tenant's file and symbol make no kernel frame.
            ("55d0 x_[k] (/x/evil.ko)", "x_\\x5bk] [evil.ko]"),
            ("55d0 x ([nf_tables])", "x [nf_tables]"),
        ] {
            assert_eq!(parse(line).as_deref(), Some(frame), "{line}");
        }
        for line in ["", "main", "zz main (x)", "12 main", "12 main (x", "pi 1 [000] 1.5: cpu-clock:"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            text in ".{0,40}|[ab\\[\\]()+x0_k>@ \\\\;/-]{0,30}",
            symbol in ".{0,20}|[ab()\\[\\]>-]{0,9}",
            module in ".{0,20}|[ab()@>-]{0,6}|\\[?(vdso|kernel|unknown|frame|marker)\\]?",
            offset: u64,
            kind in 0usize..6,
        ) {
            let kind = [FrameKind::Native, FrameKind::Kernel, FrameKind::Inlined, FrameKind::Jit,
                FrameKind::Interpreted, FrameKind::Guessed][kind];
            let start = Frame { name: FrameName::FunctionStart(offset), module: module.clone(), kind };
            for frame in [
                text,
                Frame::symbol(&symbol, &module, kind).format(),
                Frame::offset(&module, offset, kind).format(),
                start.format(),
            ] {
                let told = line(&frame);
                prop_assert!(!told.contains("->") && !told.contains(|c: char| c == ';' || c.is_control()), "{told}");
                let module = told.rsplit(' ').next().unwrap_or_default();
                prop_assert!(module.starts_with('(') && module.ends_with(')'), "{told}");
                let frame = text::frame(&frame).into_owned();
                prop_assert_eq!(parse(&told), Some(frame), "{}", told);
            }
        }

        #[test]
        fn any_line_is_a_frame_or_none(line in ".*|[0-9a-f]{1,16} .{0,30} \\(.{0,20}\\)") {
            if let Some(frame) = parse(&line) {
                prop_assert!(!frame.contains(|c: char| c == ';' || c.is_control()));
            }
        }
    }
}
