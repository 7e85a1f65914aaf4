//! The one grammar of frames, written and parsed here and nowhere else.
//!
//! `symbol [module]` then, last, one kind suffix: `_[k]` kernel, `_[i]` inlined, `_[j]` JIT, `_[p]` interpreted,
//! `_[g]` guessed; none for native code. Without a symbol: `module+0x<start of function>` where function starts are
//! known, else `[module]+0x<offset>`; a stack's end that is none is a marker `[truncated]` or `[unwound short]`
//! (`[lost]` where damage to a stored file took it).
//! Symbols come out of tenants' files: ` [`, `_[`, `;`, `\` and control characters inside them are escaped as
//! `\xNN` (UTF-8 bytes), so no tenant forges a kernel frame or a second frame.

use std::fmt::Write as _;

/// Marker at the root end of a stack that reached the depth limit.
pub const TRUNCATED: &str = "[truncated]";
/// Marker at the root end of a stack that no rule led further up.
pub const UNWOUND_SHORT: &str = "[unwound short]";
/// The one frame for kernel code where kallsyms cannot be read.
pub const KERNEL_UNREADABLE: &str = "[kernel]";

/// Module of code made at run time that was named by who made it: it lies in no file.
pub const JIT_MODULE: &str = "jit";

/// Stands for frames, or a whole stack, that were stored but cannot be read any more.
pub const LOST: &str = "[lost]";

/// What kind of code a frame ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameKind {
    /// Machine code from a file.
    Native,
    /// The kernel.
    Kernel,
    /// Inlined into its caller.
    Inlined,
    /// Made at run time.
    Jit,
    /// Of an interpreted language.
    Interpreted,
    /// Found by scanning the stack.
    Guessed,
    /// Not code: tells how the stack ends.
    Marker,
}

impl FrameKind {
    fn suffix(self) -> &'static str {
        match self {
            FrameKind::Native | FrameKind::Marker => "",
            FrameKind::Kernel => "_[k]",
            FrameKind::Inlined => "_[i]",
            FrameKind::Jit => "_[j]",
            FrameKind::Interpreted => "_[p]",
            FrameKind::Guessed => "_[g]",
        }
    }
}

/// A frame taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The symbol, or what stands for it.
    pub name: FrameName,
    /// File name of the module; empty for a marker.
    pub module: String,
    /// Kind of code.
    pub kind: FrameKind,
}

/// How far a frame could be named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FrameName {
    /// By its symbol.
    Symbol(String),
    /// By the start of its function within the module.
    FunctionStart(u64),
    /// By the offset of the instruction within the module.
    Offset(u64),
    /// Not at all: a marker's text.
    Marker(String),
}

impl Frame {
    /// A frame with a symbol.
    pub fn symbol(symbol: &str, module: &str, kind: FrameKind) -> Frame {
        Frame { name: FrameName::Symbol(symbol.into()), module: module.into(), kind }
    }

    /// A frame of which only the offset in its module is known.
    pub fn offset(module: &str, offset: u64, kind: FrameKind) -> Frame {
        Frame { name: FrameName::Offset(offset), module: module.into(), kind }
    }

    /// Whether it carries a name a person gave.
    pub fn is_symbolized(&self) -> bool {
        matches!(self.name, FrameName::Symbol(_) | FrameName::Marker(_))
    }

    /// The frame in the grammar above.
    pub fn format(&self) -> String {
        let mut out = String::new();
        match &self.name {
            FrameName::Symbol(symbol) => {
                escape(symbol, &mut out);
                out.push_str(" [");
                escape_module(&self.module, &mut out);
                out.push(']');
            }
            FrameName::FunctionStart(start) => {
                escape_module(&self.module, &mut out);
                let _ = write!(out, "+0x{start:x}");
            }
            FrameName::Offset(offset) => {
                out.push('[');
                escape_module(&self.module, &mut out);
                let _ = write!(out, "]+0x{offset:x}");
            }
            // A marker stands as it is, whatever its kind: that is how it is known again.
            FrameName::Marker(text) => return text.clone(),
        }
        out.push_str(self.kind.suffix());
        out
    }

    /// Takes apart what [`Frame::format`] wrote. Any text is some frame: what fits nowhere is a symbol of no module.
    pub fn parse(text: &str) -> Frame {
        if [TRUNCATED, UNWOUND_SHORT, KERNEL_UNREADABLE, LOST].contains(&text) {
            let kind = if text == KERNEL_UNREADABLE { FrameKind::Kernel } else { FrameKind::Marker };
            return Frame { name: FrameName::Marker(text.into()), module: String::new(), kind };
        }
        let kinds = [
            FrameKind::Kernel,
            FrameKind::Inlined,
            FrameKind::Jit,
            FrameKind::Interpreted,
            FrameKind::Guessed,
        ];
        let (body, kind) = kinds
            .into_iter()
            .find_map(|kind| text.strip_suffix(kind.suffix()).map(|body| (body, kind)))
            .unwrap_or((text, FrameKind::Native));
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((module, offset)) = body.strip_prefix('[').and_then(|rest| rest.rsplit_once("]+0x"))
            && let Some(offset) = hex(offset)
        {
            return Frame { name: FrameName::Offset(offset), module: unescape(module), kind };
        }
        if let Some((symbol, module)) = body.strip_suffix(']').and_then(|rest| rest.split_once(" [")) {
            return Frame { name: FrameName::Symbol(unescape(symbol)), module: unescape(module), kind };
        }
        if let Some((module, start)) = body.rsplit_once("+0x")
            && let Some(start) = hex(start)
        {
            return Frame { name: FrameName::FunctionStart(start), module: unescape(module), kind };
        }
        Frame { name: FrameName::Symbol(unescape(body)), module: String::new(), kind }
    }

    /// The frame as a person wants to read it: without its module where a symbol names it. Escaped like
    /// [`Frame::format`].
    pub fn label(&self) -> String {
        match &self.name {
            FrameName::Symbol(symbol) => {
                let mut out = String::new();
                escape(symbol, &mut out);
                out
            }
            _ => self.format(),
        }
    }
}

/// Longest symbol and module in bytes; what is longer is cut and marked with `…`.
const MAX_SYMBOL: usize = 1024;
const MAX_MODULE: usize = 255;

fn escape(symbol: &str, out: &mut String) {
    escape_where(symbol, MAX_SYMBOL, out, |previous, c| matches!((previous, c), (' ' | '_', '[')));
}

fn escape_module(module: &str, out: &mut String) {
    escape_where(module, MAX_MODULE, out, |_, c| matches!(c, '[' | ']' | '+'));
}

fn escape_where(text: &str, limit: usize, out: &mut String, special: impl Fn(char, char) -> bool) {
    let begin = out.len();
    let mut previous = '\0';
    for c in text.chars() {
        if out.len() - begin >= limit {
            out.push('…');
            return;
        }
        if c.is_control() || matches!(c, ';' | '\\') || is_format_control(c) || special(previous, c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.push(c);
        }
        previous = c;
    }
}

/// Characters that reorder or hide what stands beside them (bidirectional overrides, line separators).
fn is_format_control(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Undoes the `\xNN` of the grammar above; what is no UTF-8 then is replaced.
pub fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = rest.get(2..4).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'\\' && rest.get(1) == Some(&b'x') => {
                out.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_look_as_the_grammar_says() {
        for (frame, text) in [
            (Frame::symbol("main", "pi", FrameKind::Native), "main [pi]"),
            (Frame::symbol("vfs_read", "kernel", FrameKind::Kernel), "vfs_read [kernel]_[k]"),
            (Frame::offset("libc.so.6", 0x1f, FrameKind::Native), "[libc.so.6]+0x1f"),
            (
                Frame { name: FrameName::FunctionStart(0x40), module: "pi".into(), kind: FrameKind::Native },
                "pi+0x40",
            ),
        ] {
            assert_eq!(frame.format(), text);
            assert_eq!(Frame::parse(text), frame);
        }
        for marker in [TRUNCATED, UNWOUND_SHORT, KERNEL_UNREADABLE] {
            assert_eq!(Frame::parse(marker).format(), marker);
        }
        assert_eq!(Frame::parse(TRUNCATED).kind, FrameKind::Marker);
        assert_eq!(Frame::parse(KERNEL_UNREADABLE).kind, FrameKind::Kernel);
        assert_eq!(Frame::parse(LOST).kind, FrameKind::Marker);
    }

    #[test]
    fn a_tenant_forges_neither_a_kernel_frame_nor_a_second_one() {
        let forged = Frame::symbol("x [kernel]_[k]", "a]_[k];b", FrameKind::Native).format();
        assert_eq!(Frame::parse(&forged).kind, FrameKind::Native);
        assert_eq!(Frame::parse(&forged).name, FrameName::Symbol("x [kernel]_[k]".into()));
        assert!(!forged.contains(';'), "{forged}");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(symbol in "\\PC{1,40}|.{1,40}", module in ".{1,40}", kind in 0usize..6) {
            let kind = [FrameKind::Native, FrameKind::Kernel, FrameKind::Inlined, FrameKind::Jit,
                FrameKind::Interpreted, FrameKind::Guessed][kind];
            let frame = Frame::symbol(&symbol, &module, kind);
            let text = frame.format();
            prop_assert!(!text.contains(|c: char| c == ';' || c.is_control()));
            prop_assert_eq!(Frame::parse(&text), frame);
        }

        #[test]
        fn any_text_is_some_frame(text in ".*") {
            let _ = Frame::parse(&text).label();
        }
    }
}
