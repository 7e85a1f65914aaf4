//! An import from its first byte to its summary.
//!
//! Not here: files, clocks and words for people. Promises: without an event nothing is made in the store; an error in
//! the middle leaves what came before it stored, and says so.

use std::cell::RefCell;
use std::io::Read;

use thiserror::Error;

use super::detect::{Format, detect};
use super::event::{Event, Skipped};
use super::input::Input;
use super::lines::Lines;
use super::recorder::{Recorded, Recorder, Target};
use super::{folded_in, perf_script_in, pprof_in};

/// Where an import comes from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its format; none to tell by its content.
    pub format: Option<Format>,
    /// Where to.
    pub target: Target,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The format it had.
    pub format: Format,
    /// What was recorded.
    pub recorded: Recorded,
    /// What was left out.
    pub skipped: Skipped,
    /// Bytes read, unzipped.
    pub bytes: u64,
}

/// Why an import failed.
#[derive(Debug, Error)]
pub enum ImportError {
    /// There is nothing in it; nothing is stored.
    #[error("it is empty; nothing is stored")]
    Empty,
    /// It is no format that can be read.
    #[error("{0}")]
    Unknown(&'static str),
    /// Nothing in it could be imported; nothing is stored.
    #[error("no event of {format} in {lines} lines{}; nothing is stored", told(.skipped))]
    NoEvents {
        /// The format it was read as.
        format: Format,
        /// Lines read; samples of a pprof file.
        lines: u64,
        /// What was left out.
        skipped: Skipped,
    },
    /// It broke in the middle.
    #[error("{} {at}: {cause:#}{}", place(*.format), stored(*.samples))]
    Broken {
        /// The format it was read as.
        format: Format,
        /// The line, or the sample of a pprof file.
        at: u64,
        /// What went wrong.
        cause: anyhow::Error,
        /// Samples from before it, which are stored.
        samples: u64,
    },
}

impl ImportError {
    /// Whether it says that there was nothing to import, and no fault.
    pub fn is_nothing(&self) -> bool {
        matches!(self, ImportError::Empty | ImportError::NoEvents { .. })
    }
}

/// Bytes without an event after which nobody waits for one.
const PATIENCE_BYTES: u64 = 64 << 20;

/// Imports `source`; `progress` is told bytes read and samples stored, now and then.
///
/// # Errors
/// [`ImportError`], or what reading or the store says.
pub fn import(
    source: Box<dyn Read>,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Imported, ImportError> {
    let broken =
        |format, at, cause: anyhow::Error, samples| ImportError::Broken { format, at, cause, samples };
    let assumed = options.format.unwrap_or(Format::PerfScript);
    let mut input = Input::new(source).map_err(|error| broken(assumed, 0, error.into(), 0))?;
    if input.begin.is_empty() {
        return Err(ImportError::Empty);
    }
    let format = match options.format {
        Some(format) => format,
        None => detect(&input.begin).map_err(ImportError::Unknown)?,
    };
    let recorder = RefCell::new(Recorder::new(&options.target));
    let (mut skipped, mut late) = (Skipped::default(), Skipped::default());
    let mut at = 0;
    let bytes;
    let outcome = {
        let mut add = |event: Event, line: u64| {
            at = line;
            recorder.borrow_mut().add(event, line, &mut late)
        };
        match format {
            Format::Pprof => {
                let mut whole = Vec::new();
                let limit = pprof_in::MAX_BYTES as u64;
                let read = (&mut input.all).take(limit + 1).read_to_end(&mut whole);
                bytes = whole.len() as u64;
                match read {
                    Err(error) => Err(error.into()),
                    Ok(_) if whole.len() > pprof_in::MAX_BYTES => {
                        Err(anyhow::anyhow!("a profile over {} MiB, unzipped", limit >> 20))
                    }
                    Ok(_) => pprof_in::read(&whole, &mut skipped, &mut add),
                }
            }
            Format::PerfScript | Format::Folded => {
                let stored = || recorder.borrow().recorded().samples;
                let watched = Watched { inner: input.all, bytes: 0, told: 0, stored: &stored, progress };
                let mut lines = Lines::new(std::io::BufReader::with_capacity(256 << 10, watched));
                let read = match format {
                    Format::Folded => folded_in::read(&mut lines, &mut skipped, &mut add),
                    _ => {
                        perf_script_in::read(&mut lines, options.target.at.is_some(), &mut skipped, &mut add)
                    }
                };
                (at, bytes) = (lines.number(), lines.bytes());
                read
            }
        }
    };
    let recorder = recorder.into_inner();
    let samples = recorder.recorded().samples;
    let finished = recorder.finish();
    outcome.map_err(|cause| broken(format, at, cause, samples))?;
    let recorded = finished.map_err(|cause| broken(format, at, cause, samples))?;
    skipped.add_all(&late);
    if recorded.events == 0 {
        return Err(ImportError::NoEvents { format, lines: at, skipped });
    }
    Ok(Imported { format, recorded, skipped, bytes })
}

/// Tells of progress, and gives up on what never has an event.
struct Watched<'a, R> {
    inner: R,
    bytes: u64,
    told: u64,
    stored: &'a dyn Fn() -> u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const EVERY_BYTES: u64 = 1 << 20;
        let read = self.inner.read(buffer)?;
        self.bytes = self.bytes.saturating_add(read as u64);
        if self.bytes - self.told >= EVERY_BYTES {
            self.told = self.bytes;
            let stored = (self.stored)();
            (self.progress)(self.bytes, stored);
            if stored == 0 && self.bytes > PATIENCE_BYTES {
                let what = format!(
                    "no event in {} MiB; it is no profile, or one of another format",
                    self.bytes >> 20
                );
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
            }
        }
        Ok(read)
    }
}

fn place(format: Format) -> &'static str {
    if format == Format::Pprof { "sample" } else { "line" }
}

fn stored(samples: u64) -> String {
    match samples {
        0 => "; nothing is stored".into(),
        samples => format!("; {samples} samples from before that are stored"),
    }
}

fn told(skipped: &Skipped) -> String {
    let told: Vec<String> = skipped
        .iter()
        .map(|(reason, count, first)| format!("{count} {reason} (the first at {first})"))
        .collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}
