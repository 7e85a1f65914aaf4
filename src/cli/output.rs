//! Where words go: data to stdout, talk to stderr, and how wide the terminal is.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use anyhow::Context as _;
use serde_json::Value;

use crate::render::{escape, time};

/// Writes `text` to stdout.
pub fn print(text: &str) -> anyhow::Result<()> {
    stdout(|out| out.write_all(text.as_bytes()))
}

/// Writes `value` to stdout, indented.
pub fn print_json(value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    print(&escape::json(&text))?;
    print("\n")
}

/// Lets `write` write to stdout.
pub fn stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).context("write to stdout")
}

/// Says `text` on stderr. Where nobody listens there is nobody to tell.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says how many of `all` rows are not among those `shown`, if any, and how to see them.
pub fn tell_hidden(shown: usize, all: usize, what: &str) {
    if shown < all {
        let hidden = time::count((all - shown) as u64);
        tell(&format!("fnscope: … and {hidden} more {what}, --limit {all} shows them"));
    }
}

/// The terminal's width in characters, none where stdout is none.
pub fn terminal_width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    const LEAST: u16 = 40;
    rustix::termios::tcgetwinsize(&stdout)
        .ok()
        .map(|size| size.ws_col)
        .filter(|width| *width > 0)
        .map(|w| w.max(LEAST))
}
