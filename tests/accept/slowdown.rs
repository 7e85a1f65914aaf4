//! What being sampled costs the sampled: CPU time for a piece of work with the clock on and with it off, of a function that
//! computes and of two that exchange bytes over a pipe and so switch as often as they can, in one container and across
//! two; and of programs whose stacks are copied.
//!
//! At 199 Hz it is less than a machine's own noise. An interrupt costs the same at any rate, so it is measured at
//! 4,999 Hz, twenty-five times as much, and divided by that. With copies it is at 2,499 Hz: at twice that,
//! the interval was wider by half after as many rounds. That it goes with the rate is looked at by a second one.
//! All work is done on one CPU: where the scheduler puts two processes would otherwise decide.
//!
//! Pieces are short, some 50 ms: one before the clock is on, one with it, one when it is gone, at once one after the other.
//! On virtual machines the speed of a CPU changes by half several times a second, as others use what it shares with them:
//! of what lies seconds apart nothing can be said to half a percent.
//!
//! The bar is on the whole slowdown. On some virtual machines a timer's interrupt is an exit to the hypervisor, and a bare
//! clock of perf's, which takes no stack and belongs to nobody's agent, costs as much as the bar allows. Where it alone takes
//! more than half of the bar, the bar would judge the hypervisor's timer: the whole is then recorded, and the bar is on what
//! the agent adds beyond that clock. Which of both was judged is printed for each kind of work, and is a line of the result.
//! What functions feel there is the whole all the same. With copies the C program is judged by the whole in any case.

use std::io::pipe;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::paired::{Interval, interleaved, slower_percent};
use crate::stacks::{C_USUAL, CPP_USUAL, RUST_USUAL};
use crate::support::{Cgroup, Function, Running, truth};
use crate::switched::{Around, Clock, Places};
use crate::truth::programs::{Program, Told};
use crate::watched::number;

/// With its interval.
pub const SLOWDOWN: Measurement = Measurement {
    name: "accept-slowdown",
    about: "CPU time for the same work, computing and switching, at 4,999 and 2,499 Hz scaled to 199 Hz",
    runs: 1,
    run: || along_frame_pointers(24, true),
};
/// Quick: few rounds, no bar.
pub const QUICK: Measurement = Measurement {
    name: "bench-slowdown",
    about: "the slowdown of accept-slowdown by four rounds",
    runs: 1,
    run: || along_frame_pointers(4, false),
};
/// With copies, which are always on here (`stack.unwind = "dwarf"`).
pub const OF_COPIES: Measurement = Measurement {
    name: "accept-stacks-slowdown",
    about: "CPU time for the same work with copies of stacks, at 2,499 and 997 Hz scaled to 199 Hz",
    runs: 1,
    run: with_copies,
};

/// The default rate, which figures are scaled to.
const DEFAULT_HZ: f64 = 199.0;
/// What takes turns.
const CLOCKS: usize = 3;
const FAST: usize = 0;
const SLOW: usize = 1;
const BARE: usize = 2;
const FP_RATES: [(u32, &str); 2] = [(4999, "4,999"), (2499, "2,499")];

/// Where an interval is wider than the bar after the first rounds, which other work on the machine makes it, so many more
/// are taken at a time, and so many in all: ten minutes.
const MORE_ROUNDS: usize = 8;
const MOST_ROUNDS: usize = 96;
/// A piece.
const CPU_MS: &str = "50";
const EXCHANGES: &str = "5000";

/// What is measured.
struct Subject<'a, const W: usize> {
    /// The agent's `stack.unwind`.
    unwind: &'static str,
    /// Rates in hertz, as numbers and as people write them: the one it is measured at, and the lower one that tells whether it
    /// goes with the rate.
    rates: [(u32, &'static str); 2],
    /// Kinds of work.
    work: [&'static str; W],
    /// Does a piece of one.
    piece: &'a (dyn Fn(usize, &Places) -> anyhow::Result<Taken> + Sync),
    /// Most at the default rate; an interval that is wider proves nothing.
    most_percent: f64,
    /// So many of the first kinds are judged by the whole, whatever a bare clock takes.
    always_whole: usize,
}

impl<const W: usize> Subject<'_, W> {
    fn clocks(&self) -> [Clock; CLOCKS] {
        [
            Clock::Agent(self.rates[FAST].0, self.unwind),
            Clock::Agent(self.rates[SLOW].0, self.unwind),
            Clock::Bare(self.rates[FAST].0),
        ]
    }

    /// Most beyond a bare clock, where that alone takes more than this.
    fn most_beyond_percent(&self) -> f64 {
        self.most_percent / 2.0
    }

    /// Whether the bar is on the whole of the work at `at`, where a bare clock alone takes so much.
    fn judges_the_whole(&self, at: usize, bare_percent: f64) -> bool {
        // No number is no excuse.
        at < self.always_whole || bare_percent.is_nan() || bare_percent <= self.most_beyond_percent()
    }

    /// Whether what is judged of `found` proves something.
    fn is_narrow(&self, at: usize, found: &Found) -> bool {
        let beyond_is_judged = !self.judges_the_whole(at, found.bare.middle);
        found.fast.width() <= self.most_percent
            && (!beyond_is_judged || found.beyond.width() <= self.most_percent)
    }

    /// Which of both is judged, for a person.
    fn verdict(&self, at: usize, whole: f64, bare: f64, beyond: f64) -> String {
        let work = self.work[at];
        let (most, most_beyond) = (self.most_percent, self.most_beyond_percent());
        if self.judges_the_whole(at, bare) {
            return format!("{work}: judged by the whole slowdown, {whole:.2} % of at most {most} %");
        }
        format!(
            "{work}: a bare clock alone takes {bare:.2} %, over half of the bar of {most} %: judged by what the agent adds \
             beyond it, {beyond:.2} % of at most {most_beyond} %; the whole slowdown, {whole:.2} %, is recorded and not judged"
        )
    }
}

/// What works without copies.
struct Bench {
    function: Function,
}

/// What the rounds tell of one kind of work.
struct Found {
    /// Slower with the agent's clock at both rates, and with a bare one at the higher, than with it off.
    fast: Interval,
    slow: Interval,
    bare: Interval,
    /// Slower with the agent at the higher rate than with that clock.
    beyond: Interval,
}

impl Found {
    /// Of the work at `at`, in per cent, scaled to the default rate.
    fn of<const W: usize>(subject: &Subject<W>, rounds: &[[[f64; W]; CLOCKS]], at: usize) -> Found {
        let scaled = |(hz, _), log: fn([f64; CLOCKS]) -> f64| {
            let logs = rounds.iter().map(|clocks| log(clocks.map(|kinds| kinds[at])));
            slower_percent(logs).map(|percent| percent * DEFAULT_HZ / f64::from(hz))
        };
        Found {
            fast: scaled(subject.rates[FAST], |logs| logs[FAST]),
            slow: scaled(subject.rates[SLOW], |logs| logs[SLOW]),
            bare: scaled(subject.rates[FAST], |logs| logs[BARE]),
            beyond: scaled(subject.rates[FAST], |logs| logs[FAST] - logs[BARE]),
        }
    }
}

fn along_frame_pointers(rounds: usize, barred: bool) -> anyhow::Result<Vec<Bar>> {
    let bench = Bench { function: Function::new() };
    let subject = Subject {
        unwind: "fp",
        rates: FP_RATES,
        work: ["computing", "switching in one container", "switching across two"],
        piece: &|kind, places| bench.work(kind, places),
        most_percent: 0.5,
        always_whole: 0,
    };
    slowdown(&subject, rounds, barred)
}

fn with_copies() -> anyhow::Result<Vec<Bar>> {
    let programs = [Program::make(C_USUAL)?, Program::make(CPP_USUAL)?, Program::make(RUST_USUAL)?];
    let piece = |kind: usize, places: &Places| {
        let mut command = places.one.command(&programs[kind].path(), &["shares", CPU_MS]);
        let (code, said) = Running::start(&mut command).wait();
        ensure!(code == Some(0), "the program ended with {code:?}: {said}");
        let told = Told::parse(&said)?;
        Ok(Taken { us: told.cpu_ns / 1e3 / told.calls, all_us: told.cpu_ns / 1e3 })
    };
    let subject = Subject {
        unwind: "dwarf",
        rates: [(2499, "2,499"), (997, "997")],
        work: ["a C program", "a C++ program", "a Rust program"],
        piece: &piece,
        most_percent: 0.8,
        // It was, before there were others.
        always_whole: 1,
    };
    // These left ± .16 to ± .32 % to what is beyond a bare clock, whose bar is .4 %; 32 left ± .19 to ± .33 %.
    slowdown(&subject, 48, true)
}

fn slowdown<const W: usize>(subject: &Subject<W>, rounds: usize, barred: bool) -> anyhow::Result<Vec<Bar>> {
    // Where work is done while nothing may sample it.
    let outside = Cgroup::new();
    let clocks = subject.clocks();
    // Of the samples that the CPU time has, the share of each turn; what a piece takes without a clock.
    let mut sampled = [const { Vec::new() }; CLOCKS];
    let mut alone = [const { Vec::new() }; W];
    let mut take = |at: usize| {
        let clock = clocks[at];
        let (mut logs, mut samples, mut expected) = ([f64::NAN; W], 0.0, 0.0);
        for kind in 0..W {
            let Around { before, with, after, samples: taken } =
                clock.around(&outside, |places| (subject.piece)(kind, places))?;
            logs[kind] = with.us.ln() - f64::midpoint(before.us.ln(), after.us.ln());
            alone[kind].extend([before.us, after.us]);
            samples += taken.unwrap_or_default();
            expected += with.all_us / 1e6 * f64::from(clock.hz());
        }
        sampled[at].push(samples / expected);
        Ok(logs)
    };
    let mut figures = interleaved::<CLOCKS, W>(rounds, &mut take)?;
    // By the width alone, whatever lies in the middle: that would choose the answer.
    while barred
        && figures.len() < MOST_ROUNDS
        && !(0..W).all(|at| subject.is_narrow(at, &Found::of(subject, &figures, at)))
    {
        figures.extend(interleaved::<CLOCKS, W>(MORE_ROUNDS, &mut take)?);
    }
    let mut bars = vec![Bar::new("rounds", figures.len() as f64, "", Bound::Recorded)];
    for (at, work) in subject.work.into_iter().enumerate() {
        let Found { fast, slow, bare, beyond } = Found::of(subject, &figures, at);
        let by_whole = subject.judges_the_whole(at, bare.middle);
        if barred {
            eprintln!("accept: {}", subject.verdict(at, fast.middle, bare.middle, beyond.middle));
        }
        let if_judged =
            |judged: bool, most| if barred && judged { Bound::AtMost(most) } else { Bound::Recorded };
        let mut bar = |what: &str, value, unit, bound| {
            bars.push(Bar::new(format!("{work}: {what}"), value, unit, bound));
        };
        bar(
            "judged by the whole (1) or by what is beyond a bare clock (2)",
            if by_whole { 1.0 } else { 2.0 },
            "",
            Bound::Recorded,
        );
        bar("slower at 199 Hz", fast.middle, "%", if_judged(by_whole, subject.most_percent));
        bar("95 % from", fast.low, "%", Bound::Recorded);
        bar("95 % to", fast.high, "%", Bound::Recorded);
        bar("width of the interval", fast.width(), "%", if_judged(true, subject.most_percent));
        bar(&format!("by {} Hz", subject.rates[SLOW].1), slow.middle, "%", Bound::Recorded);
        bar(&format!("by {} Hz, 95 % from", subject.rates[SLOW].1), slow.low, "%", Bound::Recorded);
        bar(&format!("by {} Hz, 95 % to", subject.rates[SLOW].1), slow.high, "%", Bound::Recorded);
        // The slowdown goes with the rate where the two intervals meet.
        bar("the two rates apart by", fast.gap(slow), "%", if_judged(true, 0.0));
        bar(
            &format!("by a bare clock of perf's at {} Hz", subject.rates[FAST].1),
            bare.middle,
            "%",
            Bound::Recorded,
        );
        bar(
            "more than by the bare clock",
            beyond.middle,
            "%",
            if_judged(!by_whole, subject.most_beyond_percent()),
        );
        bar("more than by the bare clock, 95 % from", beyond.low, "%", Bound::Recorded);
        bar("more than by the bare clock, 95 % to", beyond.high, "%", Bound::Recorded);
        bar(
            "more than by the bare clock, width",
            beyond.width(),
            "%",
            if_judged(!by_whole, subject.most_percent),
        );
        let alone = alone[at].iter().sum::<f64>() / alone[at].len() as f64;
        bar("for a piece of work, alone", alone, "us", Bound::Recorded);
    }
    for (at, (_, hz)) in [FAST, SLOW].map(|at| (at, subject.rates[at])) {
        // Else something else than that rate was measured.
        let what = format!("{hz} Hz: samples, of those that the CPU time has, least");
        let least = sampled[at].iter().copied().fold(f64::INFINITY, f64::min);
        bars.push(Bar::new(what, least, "", Bound::Within(0.9, 1.15)));
    }
    Ok(bars)
}

/// What a piece of work took: microseconds of CPU time each, and of all together.
#[derive(Clone, Copy)]
struct Taken {
    us: f64,
    all_us: f64,
}

impl Bench {
    fn work(&self, kind: usize, places: &Places) -> anyhow::Result<Taken> {
        match kind {
            0 => self.compute(&places.one),
            1 => self.exchange(&places.one, &places.one),
            _ => self.exchange(&places.one, &places.two),
        }
    }

    fn compute(&self, place: &Cgroup) -> anyhow::Result<Taken> {
        let mut command = place.command(self.function.path(), &["fib", "--cpu-ms", CPU_MS]);
        let (code, said) = Running::start(&mut command).wait();
        ensure!(code == Some(0), "the function ended with {code:?}: {said}");
        taken(&[truth(&said)], "rounds")
    }

    /// `ping` in `one`, `echo` in `other`.
    fn exchange(&self, one: &Cgroup, other: &Cgroup) -> anyhow::Result<Taken> {
        let ((to_echo, from_ping), (to_ping, from_echo)) = (pipe()?, pipe()?);
        let start = |cgroup: &Cgroup, arguments: &[&str], input: Stdio, output: Stdio| {
            let mut command: Command = cgroup.command(self.function.path(), arguments);
            command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn().context("start the function")
        };
        let echo = start(other, &["echo"], to_echo.into(), from_echo.into())?;
        let ping = start(one, &["ping", "--count", EXCHANGES], to_ping.into(), from_ping.into())?;
        let mut told = Vec::new();
        for process in [ping, echo] {
            let ended = process.wait_with_output()?;
            let said = String::from_utf8_lossy(&ended.stderr);
            ensure!(ended.status.success(), "the function ended with {}: {said}", ended.status);
            told.push(truth(&said));
        }
        taken(&told, "count")
    }
}

/// CPU time of all that `told`, for each of the first one's `pieces`.
fn taken(told: &[serde_json::Value], pieces: &str) -> anyhow::Result<Taken> {
    let cpu_us = told.iter().map(|one| number(one, "cpu_ms")).sum::<Option<f64>>();
    let all_us = cpu_us.context("the function tells its CPU time")? * 1e3;
    let pieces = told.first().and_then(|one| number(one, pieces)).context("the function tells its work")?;
    Ok(Taken { us: all_us / pieces, all_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_judged_unless_a_bare_clock_takes_over_half_of_the_bar() {
        let piece = |_, _: &Places| anyhow::bail!("nothing works here");
        let subject = Subject {
            unwind: "fp",
            rates: FP_RATES,
            work: ["computing"],
            piece: &piece,
            most_percent: 0.5,
            always_whole: 0,
        };
        for (bare, by_whole, says) in [
            (-0.01, true, "judged by the whole slowdown, 0.42 %"),
            (0.25, true, "judged by the whole slowdown, 0.42 %"),
            (0.26, false, "a bare clock alone takes 0.26 %"),
            (f64::NAN, true, "judged by the whole slowdown, 0.42 %"),
        ] {
            assert_eq!(subject.judges_the_whole(0, bare), by_whole, "{bare}");
            let told = subject.verdict(0, 0.42, bare, 0.07);
            assert!(told.contains(says) && told.contains("not judged") != by_whole, "{told}");
        }
        assert!(Subject { always_whole: 1, ..subject }.judges_the_whole(0, 0.26));
    }
}
