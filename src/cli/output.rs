//! Where words go: data to stdout, talk to stderr, and how wide the terminal is.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Outcome;
use super::args::RowsArg;
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

/// Writes `rows` to stdout as an indented array, a few at a time: a hundred thousand of them as one value would take a
/// gigabyte.
fn print_rows<R>(rows: &[R], json: impl Fn(&[R]) -> Value) -> anyhow::Result<()> {
    const AT_ONCE: usize = 256;
    if rows.is_empty() {
        return print_json(&Value::Array(Vec::new()));
    }
    stdout(|out| {
        let mut before = "[\n  ";
        for some in rows.chunks(AT_ONCE) {
            let Value::Array(values) = json(some) else { bail!("rows are an array") };
            for value in &values {
                let text = serde_json::to_string_pretty(value).context("write JSON")?;
                // No string of JSON holds a line's end.
                write!(out, "{before}{}", escape::json(&text).replace('\n', "\n  "))?;
                before = ",\n  ";
            }
        }
        writeln!(out, "\n]").map_err(anyhow::Error::from)
    })
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
    pub fn answer<R>(
        &self,
        rows: &[R],
        json: impl Fn(&[R]) -> Value,
        table: impl FnOnce(&[R], Option<u16>) -> String,
    ) -> anyhow::Result<Outcome> {
        let shown = self.rows.of(rows, self.as_json);
        if self.as_json {
            print_rows(shown, json)?;
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
