//! The store's figures: bytes a sample, what writing and sealing cost, and how long the built fnscope takes to answer
//! from sealed hours.
//!
//! The data are made (`store_data.rs` states their shape), so the figures belong to that shape. Bytes are those of
//! everything in the store but the folded tree. Times are from the start of a process to its end, files in the page
//! cache; the middle one of nine counts.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use fnscope::model::Batch;
use fnscope::store::archive::Tidied;

use crate::measure::{Bar, Bound, Measurement};
use crate::store_data::{A, B, BIG, Fed, Making, Shape, function};
use crate::support::Fnscope;
use crate::taken::taken;

/// Bytes a sample and times to answer.
pub const STORE: Measurement = Measurement {
    name: "accept-store",
    about: "bytes a sample of sealed data, and answers from 5 million and 50 million samples",
    runs: 1,
    run: store,
};

/// What it costs to write, and what others take for the same samples.
pub const WRITING: Measurement = Measurement {
    name: "bench-store",
    about: "CPU time of appends and of sealing; bytes against SQLite and gzipped perf script text",
    runs: 1,
    run: writing,
};

const RUNS: usize = 9;
/// Tables that other engines read, and what belongs to none of them.
const TABLES: [&str; 5] = ["samples", "instances", "usage", "hosts", "sums"];
/// Samples that are written as others write them.
const COMPARED: u64 = 500_000;

const LAST_HOUR: [&str; 4] = ["--since", "2026-11-23T23:00:00Z", "--until", "2026-11-24T00:00:00Z"];
const DAY: [&str; 4] = ["--since", "2026-11-23", "--until", "2026-11-24"];

fn store() -> anyhow::Result<Vec<Bar>> {
    let mut bars = Vec::new();
    let mut bound = |what: &str, value: f64, unit: &'static str, bound| {
        bars.push(Bar::new(what, value, unit, bound));
    };
    let b = Made::new(B)?;
    bound("B: bytes a sample", b.bytes_a_sample(None)?, "B", Bound::AtMost(20.0));
    for table in TABLES {
        bound(&format!("B: in {table}"), b.bytes_a_sample(Some(table))?, "B", Bound::Recorded);
    }
    drop(b);
    let a = Made::new(A)?;
    bound("A: bytes a sample", a.bytes_a_sample(None)?, "B", Bound::AtMost(8.0));
    for table in TABLES {
        bound(&format!("A: in {table}"), a.bytes_a_sample(Some(table))?, "B", Bound::Recorded);
    }
    let one = function(5);
    let hour = a.asked(&[&["top", &one], &LAST_HOUR[..]].concat(), A.samples * 10 / 24)?;
    bound("A: top of a function, the last hour", hour.ms, "ms", Bound::AtMost(50.0));
    bound("A: its peak memory", hour.peak_mib, "MiB", Bound::Recorded);
    let day = a.asked(&[&["top", &one], &DAY[..]].concat(), A.samples * 10)?;
    bound("A: top of a function, the day", day.ms, "ms", Bound::AtMost(500.0));
    bound("A: its peak memory", day.peak_mib, "MiB", Bound::Recorded);
    let list = a.asked(&[&["ls"], &DAY[..]].concat(), 0)?;
    bound("A: ls, the day", list.ms, "ms", Bound::AtMost(50.0));
    drop(a);
    let big = Made::new(BIG)?;
    bound("50 M: bytes a sample", big.bytes_a_sample(None)?, "B", Bound::Recorded);
    let hour = big.asked(&[&["top", &one], &LAST_HOUR[..]].concat(), BIG.samples * 10 / 24)?;
    bound("50 M: top of a function, the last hour", hour.ms, "ms", Bound::AtMost(100.0));
    bound("50 M: its peak memory", hour.peak_mib, "MiB", Bound::AtMost(200.0));
    let list = big.asked(&[&["ls"], &DAY[..]].concat(), 0)?;
    bound("50 M: ls, the day", list.ms, "ms", Bound::Recorded);
    let day = big.asked(&[&["top", &one], &DAY[..]].concat(), BIG.samples * 10)?;
    bound("50 M: top of a function, the day", day.ms, "ms", Bound::Recorded);
    bound("50 M: its peak memory", day.peak_mib, "MiB", Bound::AtMost(200.0));
    // Every sample of every function is read.
    let all = big.asked(&[&["cost", "--by", "day,function"], &DAY[..]].concat(), 0)?;
    bound("50 M: cost by day, all functions", all.ms, "ms", Bound::Recorded);
    bound("50 M: peak memory of that", all.peak_mib, "MiB", Bound::AtMost(200.0));
    Ok(bars)
}

fn writing() -> anyhow::Result<Vec<Bar>> {
    let mut bars = Vec::new();
    for (name, shape) in [("A", A), ("B", B)] {
        let mut record = |what: &str, value: f64, unit: &'static str| {
            bars.push(Bar::new(format!("{name}: {what}"), value, unit, Bound::Recorded));
        };
        let mut others = Others::begin()?;
        let made = Made::with(shape, |batch| others.take(batch))?;
        let samples = made.fed.samples as f64;
        record("append, CPU time a sample", made.fed.append_ns as f64 / samples, "ns");
        record("seal, CPU time a sample", made.seal_ns as f64 / samples, "ns");
        let sealed = made.tidied.sealed;
        record("journal", sealed.journal_bytes as f64 / samples, "B");
        let ours = made.bytes_a_sample(None)?;
        record("sealed", ours, "B");
        let (sqlite, text) = others.finish()?;
        record("SQLite, a row a sample", sqlite, "B");
        record("perf script text, gzip", text, "B");
        record("SQLite over sealed", sqlite / ours, "x");
        record("perf script text over sealed", text / ours, "x");
    }
    Ok(bars)
}

/// A sealed store.
struct Made {
    fnscope: Fnscope,
    fed: Fed,
    tidied: Tidied,
    seal_ns: u64,
}

/// What an answer took.
struct Asked {
    ms: f64,
    peak_mib: f64,
}

impl Made {
    fn new(shape: Shape) -> anyhow::Result<Made> {
        Made::with(shape, |_| Ok(()))
    }

    fn with(shape: Shape, each: impl FnMut(&Batch) -> anyhow::Result<()>) -> anyhow::Result<Made> {
        let fnscope = Fnscope::new();
        let mut making = Making::begin(fnscope.store(), shape)?;
        making.write(each)?;
        let (fed, tidied, seal_ns) = making.finish(false)?;
        let expected = shape.all();
        ensure!(fed.samples == expected, "{} samples were made, not {expected}", fed.samples);
        ensure!(tidied.sealed.samples == expected, "{} samples are sealed", tidied.sealed.samples);
        Ok(Made { fnscope, fed, tidied, seal_ns })
    }

    /// Bytes a sample of the whole store but the folded tree, or of one of its folders.
    fn bytes_a_sample(&self, folder: Option<&str>) -> anyhow::Result<f64> {
        let root = self.fnscope.store();
        let bytes = match folder {
            Some(folder) => bytes_below(&root.join(folder))?,
            None => bytes_below(root)? - bytes_below(&root.join("folded"))?,
        };
        Ok(bytes as f64 / self.fed.samples as f64)
    }

    /// What `question` takes; its answer counts about `samples` samples where they are given.
    fn asked(&self, question: &[&str], samples: u64) -> anyhow::Result<Asked> {
        if samples > 0 {
            let rows = self.fnscope.rows(&[question, &["--phase", "all"]].concat());
            let counted: u64 = rows.iter().filter_map(|row| row["self_samples"].as_u64()).sum();
            let near = counted.abs_diff(samples) <= samples / 100;
            ensure!(near, "{question:?} counts {counted} samples, not {samples}");
        }
        let (mut times, mut peaks) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut command = self.fnscope.command([question, &["--json"]].concat());
            let begin = Instant::now();
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            ensure!(status.success(), "{question:?} ended with {status}");
        }
        // Apart, because whoever looks takes time.
        for _ in 0..3 {
            peaks.push(peak_mib(&mut self.fnscope.command([question, &["--json"]].concat()))?);
        }
        times.sort_by(f64::total_cmp);
        Ok(Asked { ms: times[RUNS / 2], peak_mib: peaks.into_iter().fold(0.0, f64::max) })
    }
}

/// The most memory that `command` had at a time, in MiB: the kernel's high-water mark, looked at until it ends.
pub fn peak_mib(command: &mut Command) -> anyhow::Result<f64> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(taken(&mut child, Duration::from_micros(200))?.peak_mib)
}

/// Bytes of the files below `path`.
pub fn bytes_below(path: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for file in fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
        let (path, meta) = file.and_then(|file| Ok((file.path(), file.metadata()?)))?;
        bytes += if meta.is_dir() { bytes_below(&path)? } else { meta.len() };
    }
    Ok(bytes)
}

/// The first samples as others keep them.
struct Others {
    folder: tempfile::TempDir,
    text: GzEncoder<fs::File>,
    rows: std::io::BufWriter<fs::File>,
    samples: u64,
}

/// A row a sample, in SQLite: texts in a table of their own, an index for one function's time.
const SQLITE: &str = "\
import sqlite3, sys
db = sqlite3.connect(sys.argv[2])
db.executescript('''
create table text(id integer primary key, text text);
create table sample(time integer, function integer, instance integer, pid integer, tid integer, comm integer,
  cpu integer, stack integer);
''')
ids = {}
def text(value):
    return ids.setdefault(value, len(ids))
def rows():
    for line in open(sys.argv[1]):
        time, function, instance, pid, tid, comm, cpu, stack = line.rstrip('\\n').split('\\t')
        yield int(time), text(function), text(instance), int(pid), int(tid), text(comm), int(cpu), text(stack)
db.executemany('insert into sample values (?,?,?,?,?,?,?,?)', rows())
db.executemany('insert into text values (?,?)', ((id, value) for value, id in ids.items()))
db.execute('create index by_function on sample(function, time)')
db.commit()
db.execute('vacuum')
";

impl Others {
    fn begin() -> anyhow::Result<Others> {
        let folder = tempfile::tempdir()?;
        let text = fs::File::create(folder.path().join("script.gz"))?;
        let rows = fs::File::create(folder.path().join("rows"))?;
        Ok(Others {
            text: GzEncoder::new(text, Compression::default()),
            rows: std::io::BufWriter::new(rows),
            folder,
            samples: 0,
        })
    }

    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        for sample in &batch.samples {
            if self.samples == COMPARED {
                return Ok(());
            }
            self.samples += 1;
            let us = sample.time.0;
            let cpu = sample.cpu;
            writeln!(
                self.text,
                "{} {}/{} [{cpu:03}] {}.{:06}: cpu-clock:",
                sample.comm,
                sample.pid,
                sample.tid,
                us / 1_000_000,
                us % 1_000_000
            )?;
            let frames = sample.stack.frames();
            for (at, frame) in frames.iter().rev().enumerate() {
                let (symbol, module) = frame.split_once(" [").unwrap_or((frame, "unknown]"));
                writeln!(
                    self.text,
                    "\t{:16x} {symbol} ({})",
                    0x5500_0000_0000u64 + at as u64 * 64,
                    module.trim_end_matches("]_[k]")
                )?;
            }
            writeln!(self.text)?;
            let function = sample.comm.trim_end_matches("-main");
            write!(
                self.rows,
                "{us}\t{function}\tinstance-{}\t{}\t{}\t{}\t{cpu}\t",
                sample.instance.0, sample.pid, sample.tid, sample.comm
            )?;
            writeln!(self.rows, "{}", frames.join(";"))?;
        }
        Ok(())
    }

    /// Bytes a sample in SQLite and in text.
    fn finish(self) -> anyhow::Result<(f64, f64)> {
        let samples = self.samples as f64;
        let text = self.text.finish()?.metadata()?.len();
        self.rows.into_inner().map_err(|error| error.into_error())?.sync_data()?;
        let (rows, file) = (self.folder.path().join("rows"), self.folder.path().join("samples.sqlite"));
        let status = Command::new("python3").args(["-c", SQLITE]).args([&rows, &file]).status();
        ensure!(status.context("run python3")?.success(), "SQLite could not be filled");
        Ok((fs::metadata(file)?.len() as f64 / samples, text as f64 / samples))
    }
}
