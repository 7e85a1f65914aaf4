//! What being sampled costs the sampled: CPU time for a piece of work with the clock on and with it off, of a function that
//! computes and of two that exchange bytes over a pipe and so switch as often as they can, in one container and across
//! two.
//!
//! At 199 Hz it is less than a machine's own noise. An interrupt costs the same at any rate, so it is measured at
//! 4,999 Hz, twenty-five times as much, and divided by that. That it goes with the rate is looked at by a second one.
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
//! What functions feel there is the whole all the same.

use std::io::pipe;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::measure::{Bar, Bound, Measurement};
use crate::paired::{Interval, interleaved, slower_percent};
use crate::support::{Cgroup, Function, Running, truth};
use crate::switched::{Around, Clock, Places};
use crate::watched::number;

/// With its interval.
pub const SLOWDOWN: Measurement = Measurement {
    name: "accept-slowdown",
    about: "CPU time for the same work, computing and switching, at 4,999 and 2,499 Hz scaled to 199 Hz",
    runs: 1,
    run: || slowdown(24, true),
};
/// Quick: few rounds, no bar.
pub const QUICK: Measurement = Measurement {
    name: "bench-slowdown",
    about: "the slowdown of accept-slowdown by four rounds",
    runs: 1,
    run: || slowdown(4, false),
};

/// The default rate, which figures are scaled to.
const DEFAULT_HZ: f64 = 199.0;
/// What takes turns.
const CLOCKS: [Clock; 3] = [Clock::Agent(4999), Clock::Agent(2499), Clock::Bare(4999)];
const FAST: usize = 0;
const HALF: usize = 1;
const BARE: usize = 2;
const WORK: [&str; 3] = ["computing", "switching in one container", "switching across two"];
/// Most at the default rate; an interval that is wider proves nothing.
const BAR_PERCENT: f64 = 0.5;
/// Most beyond a bare clock, where that alone takes more than half of [`BAR_PERCENT`].
const BEYOND_PERCENT: f64 = 0.25;
/// Where an interval is wider than the bar after the first rounds, which other work on the machine makes it, so many more
/// are taken at a time, and so many in all: ten minutes.
const MORE_ROUNDS: usize = 8;
const MOST_ROUNDS: usize = 96;
/// A piece.
const CPU_MS: &str = "50";
const EXCHANGES: &str = "5000";

/// What works, and where it does while nothing may sample it.
struct Bench {
    function: Function,
    outside: Cgroup,
}

/// Whether the bar is on the whole, where a bare clock alone takes so much.
fn judges_the_whole(bare_percent: f64) -> bool {
    // No number is no excuse.
    bare_percent.is_nan() || bare_percent <= BAR_PERCENT / 2.0
}

/// What the rounds tell of one kind of work.
struct Found {
    /// Slower with the agent's clock at 4,999 and at 2,499 Hz, and with a bare one at 4,999 Hz, than with it off.
    fast: Interval,
    half: Interval,
    bare: Interval,
    /// Slower with the agent at 4,999 Hz than with that clock.
    beyond: Interval,
}

impl Found {
    /// Of the work at `at`, in per cent, scaled to the default rate.
    fn of(rounds: &[[[f64; 3]; 3]], at: usize) -> Found {
        let scaled = |hz: f64, log: fn([f64; 3]) -> f64| {
            let logs = rounds.iter().map(|clocks| log(clocks.map(|kinds| kinds[at])));
            slower_percent(logs).map(|percent| percent * DEFAULT_HZ / hz)
        };
        Found {
            fast: scaled(4999.0, |logs| logs[FAST]),
            half: scaled(2499.0, |logs| logs[HALF]),
            bare: scaled(4999.0, |logs| logs[BARE]),
            beyond: scaled(4999.0, |logs| logs[FAST] - logs[BARE]),
        }
    }

    /// Whether what is judged proves something.
    fn is_narrow(&self) -> bool {
        let beyond_is_judged = !judges_the_whole(self.bare.middle);
        self.fast.width() <= BAR_PERCENT && (!beyond_is_judged || self.beyond.width() <= BAR_PERCENT)
    }
}

fn slowdown(rounds: usize, barred: bool) -> anyhow::Result<Vec<Bar>> {
    let bench = Bench { function: Function::new(), outside: Cgroup::new() };
    // Of the samples that the CPU time has, the share of each turn; what a piece takes without a clock.
    let mut sampled = [const { Vec::new() }; CLOCKS.len()];
    let mut alone = [const { Vec::new() }; WORK.len()];
    let mut take = |at: usize| {
        let clock = CLOCKS[at];
        let (mut logs, mut samples, mut expected) = ([f64::NAN; WORK.len()], 0.0, 0.0);
        for kind in 0..WORK.len() {
            let Around { before, with, after, samples: taken } =
                clock.around(&bench.outside, |places| bench.work(kind, places))?;
            logs[kind] = with.us.ln() - f64::midpoint(before.us.ln(), after.us.ln());
            alone[kind].extend([before.us, after.us]);
            samples += taken.unwrap_or_default();
            expected += with.all_us / 1e6 * f64::from(clock.hz());
        }
        sampled[at].push(samples / expected);
        Ok(logs)
    };
    let mut figures = interleaved::<3, 3>(rounds, &mut take)?;
    // By the width alone, whatever lies in the middle: that would choose the answer.
    while barred
        && figures.len() < MOST_ROUNDS
        && !(0..WORK.len()).all(|at| Found::of(&figures, at).is_narrow())
    {
        figures.extend(interleaved::<3, 3>(MORE_ROUNDS, &mut take)?);
    }
    let mut bars = vec![Bar::new("rounds", figures.len() as f64, "", Bound::Recorded)];
    for (at, work) in WORK.into_iter().enumerate() {
        let Found { fast, half, bare, beyond } = Found::of(&figures, at);
        let by_whole = judges_the_whole(bare.middle);
        if barred {
            eprintln!("accept-slowdown: {}", verdict(work, fast.middle, bare.middle, beyond.middle));
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
        bar("slower at 199 Hz", fast.middle, "%", if_judged(by_whole, BAR_PERCENT));
        bar("95 % from", fast.low, "%", Bound::Recorded);
        bar("95 % to", fast.high, "%", Bound::Recorded);
        bar("width of the interval", fast.width(), "%", if_judged(true, BAR_PERCENT));
        bar("by 2,499 Hz", half.middle, "%", Bound::Recorded);
        bar("by 2,499 Hz, 95 % from", half.low, "%", Bound::Recorded);
        bar("by 2,499 Hz, 95 % to", half.high, "%", Bound::Recorded);
        // The slowdown goes with the rate where the two intervals meet.
        bar("the two rates apart by", fast.gap(half), "%", if_judged(true, 0.0));
        bar("by a bare clock of perf's at 4,999 Hz", bare.middle, "%", Bound::Recorded);
        bar("more than by the bare clock", beyond.middle, "%", if_judged(!by_whole, BEYOND_PERCENT));
        bar("more than by the bare clock, 95 % from", beyond.low, "%", Bound::Recorded);
        bar("more than by the bare clock, 95 % to", beyond.high, "%", Bound::Recorded);
        bar("more than by the bare clock, width", beyond.width(), "%", if_judged(!by_whole, BAR_PERCENT));
        let alone = alone[at].iter().sum::<f64>() / alone[at].len() as f64;
        bar("for a piece of work, alone", alone, "us", Bound::Recorded);
    }
    for (at, hz) in [(FAST, "4,999"), (HALF, "2,499")] {
        // Else something else than that rate was measured.
        let what = format!("{hz} Hz: samples, of those that the CPU time has, least");
        let least = sampled[at].iter().copied().fold(f64::INFINITY, f64::min);
        bars.push(Bar::new(what, least, "", Bound::Within(0.9, 1.15)));
    }
    Ok(bars)
}

/// Which of both is judged, for a person.
fn verdict(work: &str, whole: f64, bare: f64, beyond: f64) -> String {
    if judges_the_whole(bare) {
        return format!("{work}: judged by the whole slowdown, {whole:.2} % of at most {BAR_PERCENT} %");
    }
    format!(
        "{work}: a bare clock alone takes {bare:.2} %, over half of the bar of {BAR_PERCENT} %: judged by what the agent adds \
         beyond it, {beyond:.2} % of at most {BEYOND_PERCENT} %; the whole slowdown, {whole:.2} %, is recorded and not judged"
    )
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
        for (bare, by_whole, says) in [
            (-0.01, true, "judged by the whole slowdown, 0.42 %"),
            (0.25, true, "judged by the whole slowdown, 0.42 %"),
            (0.26, false, "a bare clock alone takes 0.26 %"),
            (f64::NAN, true, "judged by the whole slowdown, 0.42 %"),
        ] {
            assert_eq!(judges_the_whole(bare), by_whole, "{bare}");
            let told = verdict("computing", 0.42, bare, 0.07);
            assert!(told.contains(says) && told.contains("not judged") != by_whole, "{told}");
        }
    }
}
