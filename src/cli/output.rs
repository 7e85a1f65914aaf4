//! Where words go: data to stdout, talk to stderr, and how wide the terminal is.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::Outcome;
use super::args::RowsArg;
use crate::render::{escape, time};

/// Writes `text` to stdout.
pub fn print(text: &str) -> anyhow::Result<()> {
    stdout(|out| out.write_all(text.as_bytes()))
}

/// Writes `value` to stdout, indented.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    stdout(|out| write_json(value, out))
}

/// Writes `value` to `out`, indented, and ends the line.
pub fn write_json(value: &impl Serialize, out: &mut dyn Write) -> anyhow::Result<()> {
    escape::write_json(value, out)?;
    Ok(out.write_all(b"\n")?)
}

/// How a list is answered.
#[derive(Debug)]
pub struct Listing<'a> {
    /// How many of its rows are shown.
    pub rows: RowsArg,
    /// Whether as JSON.
    pub as_json: bool,
    /// What the rows are, for who does not see all of them.
    pub what: &'static str,
    /// What to say where there are none.
    pub nothing: &'a str,
}

impl Listing<'_> {
    /// Prints `rows`: as JSON, or as a table where there are any.
    pub fn answer<'a, R, J: Serialize>(
        &self,
        rows: &'a [R],
        json: impl FnOnce(&'a [R]) -> J,
        table: impl FnOnce(&[R], Option<u16>) -> String,
    ) -> anyhow::Result<Outcome> {
        let shown = self.rows.of(rows, self.as_json);
        if self.as_json {
            print_json(&json(shown))?;
        } else if !rows.is_empty() {
            print(&table(shown, terminal_width()))?;
            tell_hidden(rows.len(), shown.len(), self.what);
        }
        if rows.is_empty() {
            tell(&format!("fnscope: {}", self.nothing));
            return Ok(Outcome::Nothing);
        }
        Ok(Outcome::Done)
    }
}

/// Says how many of `all` rows, which are `what`, a table did not show.
pub fn tell_hidden(all: usize, shown: usize, what: &str) {
    if shown < all {
        let hidden = time::count((all - shown) as u64);
        tell(&format!("fnscope: … and {hidden} more {what}, --limit {all} shows them"));
    }
}

/// Lets `write` write to stdout.
pub fn stdout<T, E>(write: impl FnOnce(&mut dyn Write) -> Result<T, E>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    written(io::stdout().lock(), write).context("write to stdout")
}

/// The file that was named for what is written; none where that is stdout, which `-` is too.
pub fn named(file: Option<&Path>) -> Option<&Path> {
    file.filter(|file| *file != Path::new("-"))
}

/// Lets `write` write to a new file at `path`.
pub fn file<T, E>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, E>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let write = || written(File::create(path)?, write);
    write().with_context(|| format!("write {}", path.display()))
}

fn written<T, E>(to: impl Write, write: impl FnOnce(&mut dyn Write) -> Result<T, E>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    let mut out = BufWriter::with_capacity(1 << 16, to);
    let value = write(&mut out)?;
    out.flush()?;
    Ok(value)
}

/// Says `text` on stderr. Where nobody listens there is nobody to tell.
pub fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The terminal's width in characters, none where stdout is none. One that does not know is as wide as COLUMNS says.
pub fn terminal_width() -> Option<u16> {
    const LEAST: u16 = 40;
    const USUAL: u16 = 80;
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let known = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = known.filter(|width| *width > 0).or_else(told).unwrap_or(USUAL);
    Some(width.max(LEAST))
}
