//! Samples as `perf script` prints them, an event each: `comm pid/tid [cpu] seconds: cpu-clock:`, then the stack, leaf
//! first, then an empty line.
//!
//! The event is the one that is counted. The period of samples is left out, because tools that collapse stacks would
//! weigh by it. It stands in a comment, which they pass over and our own reader does not. A wait is an event `off-cpu`
//! when it is over, and has its time for a period, in nanoseconds, because there they should. Promises: one event for
//! each sample or wait, in order of time, and memory for distinct stacks alone.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use super::{perf_frame, text};
use crate::exchange::Source;
use crate::model::frame::UNWOUND_SHORT;
use crate::model::{Stack, Timestamp};
use crate::query::{Event, SampleRow};

/// What leads the comment that tells the period of the events behind it, in nanoseconds.
pub const PERIOD_COMMENT: &str = "# fnscope period_ns: ";

/// Stacks whose text is remembered; more are told anew.
const MAX_REMEMBERED: usize = 1 << 16;

/// Writes the events of `source`; how many there were.
///
/// # Errors
/// If `out` cannot be written to or the store cannot be read.
pub fn write(source: &Source<'_>, out: &mut dyn Write) -> anyhow::Result<u64> {
    let event = source.view.event();
    let mut writer = Writer { out, event, period_ns: 0, stacks: HashMap::new(), events: 0 };
    writeln!(writer.out, "# fnscope export of {}", text::frame(source.title))?;
    source.each(|row| Ok(writer.event(&row)?))?;
    Ok(writer.events)
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    event: &'a Event,
    period_ns: u64,
    stacks: HashMap<Arc<Stack>, String>,
    events: u64,
}

impl Writer<'_> {
    fn event(&mut self, row: &SampleRow<'_>) -> io::Result<()> {
        let is_wait = matches!(self.event, Event::OffCpu(_));
        if row.period_ns != self.period_ns && !is_wait {
            self.period_ns = row.period_ns;
            writeln!(self.out, "{PERIOD_COMMENT}{}", row.period_ns)?;
        }
        if self.stacks.len() >= MAX_REMEMBERED {
            self.stacks.clear();
        }
        let lines = self.stacks.entry(Arc::clone(row.stack)).or_insert_with(|| lines(row.stack));
        let (comm, pid, tid, cpu, time) = (comm(row.comm), row.pid, row.tid, row.cpu, seconds(row.time));
        let period = if is_wait { format!("{} ", row.period_ns) } else { String::new() };
        let event = text::comm(self.event.name());
        writeln!(self.out, "{comm} {pid}/{tid} [{cpu:03}] {time}: {period}{event}: \n{lines}")?;
        self.events += 1;
        Ok(())
    }
}

/// The stack's lines, each with its end; a stack without a frame is told as the marker that it is.
fn lines(stack: &Stack) -> String {
    let mut lines = String::new();
    let mut line = |frame: &str| {
        // The address stands where perf has it, right-aligned.
        let told = perf_frame::line(frame);
        let (address, rest) = told.split_once(' ').unwrap_or(("0", &told));
        let _ = writeln!(lines, "\t{address:>16} {rest}");
    };
    match stack.frames() {
        [] => line(UNWOUND_SHORT),
        frames => frames.iter().rev().for_each(|frame| line(frame)),
    }
    lines
}

/// The name of a process as a word or words that cannot be taken for the numbers behind it.
fn comm(name: &str) -> String {
    let name = text::comm(name);
    let mut out = String::new();
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek();
        let parts = c.is_whitespace()
            && (c != ' ' || out.is_empty() || next.is_none_or(|c| c.is_whitespace() || c.is_ascii_digit()));
        match c {
            '\\' => out.push_str("\\x5c"),
            '#' if out.is_empty() => out.push_str("\\x23"),
            _ if parts => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| {
                let _ = write!(out, "\\x{b:02x}");
            }),
            c => out.push(c),
        }
    }
    match out.chars().next() {
        None => "[unknown]".into(),
        // A number in front would be taken for a thread by those who look for the first.
        Some(c) if c.is_ascii_digit() && out.bytes().all(|b| b.is_ascii_digit() || b == b'/') => {
            format!("\\x{:02x}{}", c as u32, out.get(1..).unwrap_or_default())
        }
        Some(_) => out,
    }
}

/// Seconds with six digits, of the wall clock.
fn seconds(time: Timestamp) -> String {
    let sign = if time.0 < 0 { "-" } else { "" };
    let us = time.0.unsigned_abs();
    format!("{sign}{}.{:06}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::perf_script_in;
    use proptest::prelude::*;

    #[test]
    fn times_and_names_are_told_exactly() {
        assert_eq!(seconds(Timestamp(1_795_420_800_000_001)), "1795420800.000001");
        assert_eq!(seconds(Timestamp(-1)), "-0.000001");
        for (name, told) in [
            ("pi", "pi"),
            ("V8 Worker", "V8 Worker"),
            ("a 1/2 [0]", "a\\x201/2 [0]"),
            (" x ", "\\x20x\\x20"),
            ("", "[unknown]"),
            ("7", "\\x37"),
            ("#c\\x", "\\x23c\\x5cx"),
        ] {
            assert_eq!(comm(name), told, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn an_event_is_read_as_it_was_written(
            name in ".{0,15}|[a 0-9/:\\[\\].#]{0,15}", pid: u32, tid: u32, cpu in 0u32..4096, us in 0i64..4_000_000_000_000_000,
        ) {
            let line = format!("{} {pid}/{tid} [{cpu:03}] {}: cpu-clock: ", comm(&name), seconds(Timestamp(us)));
            let head = perf_script_in::head(&line).expect("an event");
            let expected = if name.is_empty() { "[unknown]".into() } else { text::comm(&name) };
            prop_assert_eq!(&*head.comm, &*expected);
            prop_assert_eq!((head.pid, head.tid, head.cpu, head.time), (pid, tid, cpu, Some(Timestamp(us))));
        }
    }
}
