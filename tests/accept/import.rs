//! An import of more text than memory holds: what `perf script` would print, made as it is read, through a named pipe
//! and through stdin; then a line without end.
//!
//! The text: 8 CPUs at 1000 Hz of one program with 400 stacks, 8 to 40 frames deep, of 3,000 functions; the leaf is at
//! any of 64 Ki addresses, so that no two events have much but their callers in common. Bounds are far from what is
//! measured: what counts is that neither time nor memory grows faster than the text.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::store::bytes_below;
use crate::support::Fnscope;
use crate::taken::{Taken, taken};

/// The import of a long stream.
pub const IMPORT: Measurement = Measurement {
    name: "accept-import",
    about: "2 GB of perf script text through a named pipe, a tenth through stdin: rate and memory",
    runs: 1,
    run: import,
};

/// Bytes of the long stream, unless `ACCEPT_IMPORT_BYTES` says otherwise.
const BYTES: u64 = 2_000_000_000;
/// 10 GB take less than a quarter of an hour.
const LEAST_MB_S: f64 = 12.0;
const MOST_MIB: f64 = 256.0;
/// A line that long is told and left out.
const LINE_BYTES: usize = 100_000_000;

fn import() -> anyhow::Result<Vec<Bar>> {
    let bytes = std::env::var("ACCEPT_IMPORT_BYTES").ok().map(|text| text.parse()).transpose()?;
    let bytes: u64 = bytes.unwrap_or(BYTES);
    let fnscope = Fnscope::new();
    let pipe = fnscope.store().with_file_name("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status().context("run mkfifo")?.success(), "mkfifo failed");
    let mut import = fnscope.command(["import", "--name", "long"]);
    import.arg(&pipe);
    let (long, written) =
        fed(import, |_| Ok(File::options().write(true).open(&pipe)?), |to| perf_text(to, bytes))?;
    let mut bars = Vec::new();
    let mut bound = |what: &str, value: f64, unit, bound| bars.push(Bar::new(what, value, unit, bound));
    let mb_s = |taken: &Taken, bytes: u64| bytes as f64 / 1e6 / taken.seconds;
    bound("long stream", written.bytes as f64 / 1e9, "GB", Bound::Recorded);
    bound("long stream, a named pipe: rate", mb_s(&long, written.bytes), "MB/s", Bound::AtLeast(LEAST_MB_S));
    bound("long stream: seconds", long.seconds, "s", Bound::Recorded);
    bound("long stream: peak memory", long.peak_mib, "MiB", Bound::AtMost(MOST_MIB));
    let stored = fnscope.samples(&["long"]);
    bound("long stream: samples missing", written.events.abs_diff(stored) as f64, "", Bound::AtMost(0.0));

    let mut import = fnscope.command(["import", "-", "--name", "short"]);
    import.stdin(Stdio::piped());
    let stdin = |child: &mut Child| child.stdin.take().context("a pipe");
    let (short, written) = fed(import, stdin, |to| perf_text(to, bytes / 10))?;
    bound("a tenth of it, stdin: rate", mb_s(&short, written.bytes), "MB/s", Bound::AtLeast(LEAST_MB_S));
    bound("a tenth of it: peak memory", short.peak_mib, "MiB", Bound::Recorded);
    let stored = fnscope.samples(&["short"]);
    bound("a tenth of it: samples missing", written.events.abs_diff(stored) as f64, "", Bound::AtMost(0.0));

    let mut import = fnscope.command(["import", "-", "--name", "line"]);
    import.stdin(Stdio::piped());
    let (line, ()) = fed(import, stdin, |to| {
        to.write_all(b"main;a 2\n")?;
        let some = [b'x'; 1 << 16];
        (0..LINE_BYTES.div_ceil(some.len())).try_for_each(|_| to.write_all(&some))?;
        to.write_all(b"\nmain;\xff\xfe 3\n")
    })?;
    bound("a line of 100 MB: peak memory", line.peak_mib, "MiB", Bound::AtMost(64.0));
    let missing = 5u64.abs_diff(fnscope.samples(&["line"]));
    bound("a line of 100 MB: samples around it missing", missing as f64, "", Bound::AtMost(0.0));
    bound("store", bytes_below(fnscope.store())? as f64 / 1e6, "MB", Bound::Recorded);
    Ok(bars)
}

/// Runs `command`, which must end well, with what `feed` writes to where `open` says.
fn fed<W: Write + Send, T: Send>(
    mut command: Command,
    open: impl FnOnce(&mut Child) -> anyhow::Result<W> + Send,
    feed: impl FnOnce(&mut BufWriter<W>) -> io::Result<T> + Send,
) -> anyhow::Result<(Taken, T)> {
    let mut child = command.stdout(Stdio::null()).spawn().context("start fnscope")?;
    let to = open(&mut child)?;
    std::thread::scope(|both| {
        let writer = both.spawn(move || -> io::Result<T> {
            let mut to = BufWriter::with_capacity(1 << 18, to);
            let written = feed(&mut to)?;
            to.flush()?;
            Ok(written)
        });
        let taken = taken(&mut child, Duration::from_millis(5))?;
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        ensure!(taken.status.success(), "import ended with {}", taken.status);
        Ok((taken, written.context("write to fnscope")?))
    })
}

struct Written {
    bytes: u64,
    events: u64,
}

/// Text as `perf script` prints it, until it has `bytes`.
fn perf_text(to: &mut impl Write, bytes: u64) -> io::Result<Written> {
    const STACKS: u64 = 400;
    const FUNCTIONS: u64 = 3_000;
    let mut dice = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |limit: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 16) % limit
    };
    let word = ["read", "parse", "encode", "visit", "resolve", "merge", "flush", "apply"];
    let frame = |function: u64, offset: u64| {
        let name = word.get(function as usize % word.len()).unwrap_or(&"call");
        let module = if function.is_multiple_of(3) {
            "/usr/lib/x86_64-linux-gnu/libruntime.so.6"
        } else {
            "/app/server"
        };
        format!(
            "\t{:16x} service::{name}::handler_{function}+0x{offset:x} ({module})\n",
            0x5500_0000_0000 + function * 4096 + offset
        )
    };
    let callers: Vec<String> = (0..STACKS)
        .map(|_| (0..7 + below(33)).map(|_| frame(below(FUNCTIONS), below(256))).collect())
        .collect();
    let mut written = Written { bytes: 0, events: 0 };
    while written.bytes < bytes {
        let us = 1_795_420_800_000_000 + written.events * 125;
        let (pid, cpu) = (4_000 + below(4), written.events % 8);
        let head = format!(
            "server {pid}/{} [{cpu:03}] {}.{:06}:    1000000 cpu-clock:u: \n",
            pid + below(16),
            us / 1_000_000,
            us % 1_000_000
        );
        let leaf = frame(below(FUNCTIONS / 10), below(65_536));
        let callers = callers.get(below(STACKS) as usize).map_or("", String::as_str);
        for part in [&head, &leaf, callers, "\n"] {
            to.write_all(part.as_bytes())?;
            written.bytes += part.len() as u64;
        }
        written.events += 1;
    }
    Ok(written)
}
