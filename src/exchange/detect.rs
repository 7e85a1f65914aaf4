//! Which format it is, by its first bytes.

use std::fmt;

use super::folded_in;
use super::perf_script_in;
use super::pprof_in;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text of `perf script`.
    PerfScript,
    /// `root;…;leaf count`.
    Folded,
    /// pprof's protobuf.
    Pprof,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 3] = [Format::PerfScript, Format::Folded, Format::Pprof];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Format::PerfScript => "perf-script",
            Format::Folded => "folded",
            Format::Pprof => "pprof",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the input is that begins with `begin`; if it is none of ours, what it looks like.
pub fn detect(begin: &[u8]) -> Result<Format, &'static str> {
    if begin.is_empty() {
        return Err("it is empty");
    }
    if begin.starts_with(b"PERFILE2") || begin.starts_with(b"2ELIFREP") {
        return Err("it is a perf.data file; run `perf script -i FILE | fnscope import -`");
    }
    if begin.starts_with(b"\x7fELF") {
        return Err("it is a program");
    }
    let binary = begin.iter().any(|byte| *byte < b' ' && !b"\t\n\r\x1b".contains(byte));
    if pprof_in::looks_like(begin) && binary {
        return Ok(Format::Pprof);
    }
    let text = String::from_utf8_lossy(begin);
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let is_comment = |line: &str| line.starts_with('#');
    let told = || lines().filter(|line| !line.starts_with(['#', '\t']));
    if told().filter_map(perf_script_in::head).any(|head| head.time.is_some()) {
        return Ok(Format::PerfScript);
    }
    // A frame may begin like JSON; a line of JSON may end like a count.
    let is_folded = |line: &str| folded_in::split(line).is_some_and(|(stack, _)| !stack.trim().is_empty());
    let begins_folded = lines().next().is_some_and(is_folded);
    if !begins_folded && text.trim_start().starts_with(['{', '[']) && text.contains('"') {
        return Err("it is JSON; perf-script, folded text and pprof can be read");
    }
    if lines().any(is_folded) {
        return Ok(Format::Folded);
    }
    if told().any(|line| perf_script_in::head(line).is_some()) {
        return Ok(Format::PerfScript);
    }
    // What perf says of itself before a recording that has nothing.
    if !binary && lines().next().is_some_and(|line| line.starts_with('#')) && lines().all(is_comment) {
        return Ok(Format::PerfScript);
    }
    Err(
        "no event of perf-script, no stack of folded text and no field of pprof is at its begin; name it with --format",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_content_decides() {
        for (begin, found) in [
            (&b"# captured on\n#\npi 7 [000] 1.5: cycles: \n\t7f x (y)\n"[..], Ok(Format::PerfScript)),
            (b"a;b 3\nc 4\n", Ok(Format::Folded)),
            (b"[libc.so.6]+0x1f;\"x\" 3\n", Ok(Format::Folded)),
            (b"a 1 b: 3\n", Ok(Format::Folded)),
            (b"a 1 cycles:\n\t7f x (y)\n", Ok(Format::PerfScript)),
            (b"main [pi];x_[k] 4", Ok(Format::Folded)),
            (b"# ========\n# captured on : today\n#\n\n", Ok(Format::PerfScript)),
            (b"\x0a\x04\x08\x01\x10\x02\x0a\x04\x08\x03\x10\x04", Ok(Format::Pprof)),
        ] {
            assert_eq!(detect(begin), found, "{begin:?}");
        }
        for (begin, says) in [
            (&b""[..], "empty"),
            (b"PERFILE2\x01\x02", "perf script -i"),
            (b"{\"a\": 1}", "JSON"),
            (b"\x7fELF\x02", "program"),
            (b"hello\nworld\n", "--format"),
            (b"y\ny\ny\n", "--format"),
            (b"\x00\x00\x00", "--format"),
        ] {
            assert!(detect(begin).expect_err("nothing of ours").contains(says), "{begin:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_something_or_nothing(begin: Vec<u8>) {
            let _ = detect(&begin);
        }
    }
}
