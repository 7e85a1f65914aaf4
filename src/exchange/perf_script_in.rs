//! Text of `perf script` to events, as it streams by.
//!
//! An event begins with `comm pid/tid [cpu] seconds: period event:` and ends at an empty line or where the next
//! begins; its stack stands below it, leaf first, or behind it where it has one frame. Fields that perf was told to
//! leave out may be missing, but for the name and a thread. Like other tools, this one counts the first kind of event
//! that it meets.
//!
//! Promises: memory for one event and a bounded memo; what is not understood is counted and passed over.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;

use super::event::{Event, Reason, Skipped};
use super::lines::{Line, Lines};
use super::perf_script_out::PERIOD_COMMENT;
use super::{perf_frame, text};
use crate::model::Timestamp;
use crate::model::frame::unescape;

/// Most frames of an event that are read; the root end is left out beyond.
const MAX_FRAMES_READ: usize = 2 * text::MAX_FRAMES;
/// Bytes of lines whose frames are remembered.
const MEMO_BYTES: usize = 16 << 20;

/// What waits are called, of our own export too: they are no samples.
const OFF_CPU: &str = crate::query::Event::OFF_CPU;

/// The first line of an event, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// Name of the process.
    pub comm: Arc<str>,
    /// Process; the thread's number where perf did not tell.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// CPU, 0 where perf did not tell.
    pub cpu: u32,
    /// When, by whatever clock; none where perf did not tell.
    pub time: Option<Timestamp>,
    /// The number before the event's name.
    pub period: Option<u64>,
    /// The event's name; empty where perf did not tell.
    pub event: &'a str,
    /// What stands behind it: fields of a trace point, or a stack of one frame.
    pub rest: &'a str,
}

/// Takes the first line of an event apart; none for any other line.
pub fn head(line: &str) -> Option<Head<'_>> {
    let words = words(line);
    let first = words.first()?.0;
    for (at, (begin, word)) in words.iter().enumerate().skip(1) {
        let Some((pid, tid)) = thread(word) else { continue };
        let comm = line.get(first..*begin)?.trim_end();
        if let Some(head) = behind_thread(line, words.get(at + 1..).unwrap_or_default()) {
            let comm = text::comm(&unescape(comm)).into();
            return Some(Head { comm, pid, tid, ..head });
        }
    }
    None
}

/// Reads the events of `lines`, those without a time only where `untimed`, and tells each to `each` with the number of
/// its first line.
///
/// # Errors
/// If `lines` cannot be read, or of `each`.
pub fn read<R: BufRead>(
    lines: &mut Lines<R>,
    untimed: bool,
    skipped: &mut Skipped,
    each: &mut dyn FnMut(Event, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut reader = Reader {
        untimed,
        open: None,
        kind: None,
        period_ns: None,
        memo: HashMap::new(),
        memo_bytes: 0,
        skipped,
        each,
    };
    loop {
        let number = lines.number() + 1;
        match lines.next_line()? {
            Some(Line::Text(text)) => reader.line(&text, number)?,
            Some(Line::TooLong) => reader.skipped.add(Reason::LongLine, number),
            None => return reader.end(),
        }
    }
}

struct Open {
    event: Event,
    line: u64,
    /// Whether it is of no interest; its frames go with it.
    ignored: bool,
}

struct Reader<'a> {
    untimed: bool,
    open: Option<Open>,
    /// The first event's name.
    kind: Option<String>,
    period_ns: Option<u64>,
    memo: HashMap<String, Arc<str>>,
    memo_bytes: usize,
    skipped: &'a mut Skipped,
    each: &'a mut dyn FnMut(Event, u64) -> anyhow::Result<()>,
}

impl Reader<'_> {
    fn line(&mut self, line: &str, number: u64) -> anyhow::Result<()> {
        if line.starts_with('#') {
            let period = line.strip_prefix(PERIOD_COMMENT).and_then(|rest| rest.trim().parse().ok());
            self.period_ns = period.or(self.period_ns);
            return Ok(());
        }
        if line.trim().is_empty() {
            return self.end();
        }
        // perf leads frames in with a tab; some who pass its text on make blanks of that. What a tenant calls a
        // symbol is never an event.
        let led_in = line.starts_with('\t') || (self.open.is_some() && line.starts_with(' '));
        if led_in && let Some(frame) = self.frame(line) {
            match &mut self.open {
                Some(open) if open.event.frames.len() < MAX_FRAMES_READ => open.event.frames.push(frame),
                Some(_) => {}
                None => self.skipped.add(Reason::FrameWithoutEvent, number),
            }
            return Ok(());
        }
        let head = if line.starts_with('\t') { None } else { head(line) };
        let Some(head) = head else {
            let reason = match perf_frame::parse(line) {
                Some(_) => Reason::FrameWithoutEvent,
                None => Reason::NotUnderstood,
            };
            self.skipped.add(reason, number);
            return Ok(());
        };
        self.end()?;
        self.begin(head, number)
    }

    fn begin(&mut self, head: Head<'_>, number: u64) -> anyhow::Result<()> {
        let ignored = if head.event == OFF_CPU {
            self.skipped.add(Reason::OffCpu, number);
            true
        } else if self.kind.get_or_insert_with(|| head.event.into()) != head.event {
            self.skipped.add(Reason::OtherEvent, number);
            true
        } else if head.time.is_none() && !self.untimed {
            self.skipped.add(Reason::NoTime, number);
            true
        } else {
            false
        };
        // The period of a clock is a time; of other events it is not.
        let clock = head.event.starts_with("cpu-clock") || head.event.starts_with("task-clock");
        let period_ns = head.period.filter(|period| clock && *period > 1).or(self.period_ns);
        let single = self.frame(head.rest);
        let event = Event {
            time: head.time,
            comm: head.comm,
            pid: head.pid,
            tid: head.tid,
            cpu: head.cpu,
            frames: single.clone().into_iter().collect(),
            count: 1,
            period_ns,
        };
        self.open = Some(Open { event, line: number, ignored });
        if single.is_some() { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some(mut open) = self.open.take().filter(|open| !open.ignored) else { return Ok(()) };
        if open.event.frames.is_empty() {
            self.skipped.add(Reason::NoStack, open.line);
            return Ok(());
        }
        open.event.frames.reverse();
        (self.each)(open.event, open.line)
    }

    fn frame(&mut self, line: &str) -> Option<Arc<str>> {
        if let Some(frame) = self.memo.get(line) {
            return Some(Arc::clone(frame));
        }
        let frame: Arc<str> = perf_frame::parse(line)?.into();
        if self.memo_bytes > MEMO_BYTES {
            self.memo.clear();
            self.memo_bytes = 0;
        }
        self.memo_bytes += line.len() + frame.len() + 64;
        self.memo.insert(line.into(), Arc::clone(&frame));
        Some(frame)
    }
}

/// Words of `line` with where each begins.
fn words(line: &str) -> Vec<(usize, &str)> {
    /// More stand in no event's head: 16 of the name, the rest of the fields.
    const MOST: usize = 32;
    let begin = line.as_ptr() as usize;
    line.split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .take(MOST)
        .map(|word| (word.as_ptr() as usize - begin, word))
        .collect()
}

/// `pid/tid` or `tid`.
fn thread(word: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text {
        // A thread of another pid namespace.
        "-1" => Some(u32::MAX),
        text => text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?,
    };
    match word.split_once('/') {
        Some((pid, tid)) => Some((number(pid)?, number(tid)?)),
        None => number(word).map(|tid| (tid, tid)),
    }
}

/// What the words behind the thread tell; none if they tell no event.
fn behind_thread<'a>(line: &'a str, words: &[(usize, &'a str)]) -> Option<Head<'a>> {
    let mut words = words.iter().peekable();
    let cpu = words.next_if(|(_, word)| cpu(word).is_some()).and_then(|(_, word)| cpu(word));
    let time = words.next_if(|(_, word)| time(word).is_some()).and_then(|(_, word)| time(word));
    let number = |word: &str| word.parse::<u64>().ok();
    let period = words.next_if(|(_, word)| number(word).is_some()).and_then(|(_, word)| number(word));
    let letter = |word: &str| word.bytes().any(|b| b.is_ascii_alphabetic());
    let is_event = |word: &str| word.ends_with(':') && letter(word);
    let event = words.next_if(|(_, word)| is_event(word));
    if event.is_none() && time.is_none() {
        return None;
    }
    let rest = match (event, words.peek()) {
        (Some((begin, event)), _) => line.get(begin + event.len()..).unwrap_or_default(),
        (None, Some((begin, _))) => line.get(*begin..).unwrap_or_default(),
        (None, None) => "",
    };
    let event = event.map_or("", |(_, event)| event.strip_suffix(':').unwrap_or(event));
    Some(Head { comm: "".into(), pid: 0, tid: 0, cpu: cpu.unwrap_or(0), time, period, event, rest })
}

fn cpu(word: &str) -> Option<u32> {
    word.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// `seconds.digits:` in whole microseconds, without a detour by floating point.
fn time(word: &str) -> Option<Timestamp> {
    let word = word.strip_suffix(':')?;
    let (negative, word) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
    let (seconds, digits) = word.split_once('.')?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !plain(seconds) || !plain(digits) || digits.len() > 18 {
        return None;
    }
    let micros: i64 = format!("{digits:0<6}").get(..6)?.parse().ok()?;
    let us = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
    Some(Timestamp(if negative { -us } else { us }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, untimed: bool) -> (Vec<(Event, u64)>, Skipped) {
        let (mut events, mut skipped) = (Vec::new(), Skipped::default());
        let mut lines = Lines::new(text.as_bytes());
        read(&mut lines, untimed, &mut skipped, &mut |event, line| {
            events.push((event, line));
            Ok(())
        })
        .unwrap();
        (events, skipped)
    }

    #[test]
    fn heads_of_every_shape() {
        for (line, comm, thread, cpu, us, period, event) in [
            (
                "java 25607 4794564.109216: cycles:",
                "java",
                (25607, 25607),
                0,
                Some(4_794_564_109_216),
                None,
                "cycles",
            ),
            (
                "java 12688 [002] 6544038.708352: cpu-clock:",
                "java",
                (12688, 12688),
                2,
                Some(6_544_038_708_352),
                None,
                "cpu-clock",
            ),
            (
                "V8 WorkerThread 24636/25607 [000] 94564.109216: cycles:",
                "V8 WorkerThread",
                (24636, 25607),
                0,
                Some(94_564_109_216),
                None,
                "cycles",
            ),
            (
                "     vote   913    72.176760:     257597 cycles:uppp: ",
                "vote",
                (913, 913),
                0,
                Some(72_176_760),
                Some(257_597),
                "cycles:uppp",
            ),
            (
                "swapper     0 [000] 1.5: sched:sched_switch: prev=x",
                "swapper",
                (0, 0),
                0,
                Some(1_500_000),
                None,
                "sched:sched_switch",
            ),
            ("a 1 7.123456789: x:", "a", (1, 1), 0, Some(7_123_456), None, "x"),
            ("a -1/-1 7.1: x:", "a", (u32::MAX, u32::MAX), 0, Some(7_100_000), None, "x"),
            ("a 1 cycles:", "a", (1, 1), 0, None, None, "cycles"),
            ("a 1 5.0:", "a", (1, 1), 0, Some(5_000_000), None, ""),
        ] {
            let head = head(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((&*head.comm, (head.pid, head.tid), head.cpu), (comm, thread, cpu), "{line}");
            assert_eq!((head.time, head.period, head.event), (us.map(Timestamp), period, event), "{line}");
        }
        for line in ["", "a", "a 1", "\t7f main (x)", "a b c d:", "1 2.0: x:", "a 1 99999999999999999999.0:"]
        {
            assert_eq!(head(line), None, "{line}");
        }
    }

    #[test]
    fn events_end_where_they_end() {
        let text = "# captured\n\t7f early (x)\nnonsense\n\
            pi 7/8 [001] 10.5: 1000000 cpu-clock:u: \n\t7f leaf+0x1 (/bin/pi)\n\t8f main (/bin/pi)\n\n\
            pi 7/8 [001] 10.6: cpu-clock:u: \n        7f a (/bin/pi)\npi 7/8 [001] 10.7: cpu-clock:u:\n\t7f b (/bin/pi)\n\n\
            pi 7/8 [001] 10.8: cpu-clock:u:  7f c (/bin/pi)\n\
            pi 7/8 [001] 10.9: instructions: \n\t7f d (/bin/pi)\n\n\
            pi 7/8 [001] 11.0: cpu-clock:u: \n\n\
            pi 7/8 cpu-clock:u: \n\t7f e (/bin/pi)\n";
        let (events, skipped) = all(text, false);
        let stacks: Vec<String> = events.iter().map(|(event, _)| event.frames.join(";")).collect();
        assert_eq!(stacks, ["main [pi];leaf [pi]", "a [pi]", "b [pi]", "c [pi]"]);
        assert_eq!(events.iter().map(|(_, line)| *line).collect::<Vec<_>>(), [4, 8, 10, 13]);
        assert_eq!((events[0].0.period_ns, events[1].0.period_ns), (Some(1_000_000), None));
        for (reason, at) in [
            (Reason::FrameWithoutEvent, 2),
            (Reason::NotUnderstood, 3),
            (Reason::OtherEvent, 14),
            (Reason::NoStack, 17),
            (Reason::NoTime, 19),
        ] {
            assert!(skipped.iter().any(|found| found == (reason, 1, at)), "{reason:?} in {skipped:?}");
        }
        assert_eq!(all(text, true).0.len(), 5, "with a time for those that have none");
    }

    #[test]
    fn a_symbol_of_a_tenant_is_no_event() {
        let text = "pi 7 1.0: c:\n\t7f x 1 2.0: c: ()\n\t7f pi 9 9.0: c: 7f y (z)\n\n";
        let (events, skipped) = all(text, false);
        assert_eq!((events.len(), events[0].0.frames.len()), (1, 2), "{events:?} {skipped:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "(.{0,60}\n){0,9}|([a 0-9./:\\[\\]]{0,30}\n|\t7f a \\(b\\)\n|\n|#.{0,9}\n){0,30}") {
            let (events, _) = all(&text, true);
            for (event, line) in events {
                prop_assert!(!event.frames.is_empty() && line > 0);
            }
        }
    }
}
