//! What being sampled costs the sampled: CPU time for a piece of work with the agent and without it, of a function that
//! computes and of two that exchange bytes over a pipe and so switch as often as they can, in one container and across
//! two.
//!
//! At 199 Hz it is less than a machine's own noise. An interrupt costs the same at any rate, so it is measured at
//! 4,999 Hz, twenty-five times as much, and divided by that. That it goes with the rate is looked at by a second one.
//! All work is done on one CPU: where the scheduler puts two processes would otherwise decide.
//!
//! The bar is on the whole slowdown. On some virtual machines a timer's interrupt is an exit to the hypervisor, and a bare
//! clock of perf's, which takes no stack and belongs to nobody's agent, costs as much as the bar allows. Where it alone takes
//! more than half of the bar, the bar would judge the hypervisor's timer: the whole is then recorded, and the bar is on what
//! the agent adds beyond that clock. Which of both was judged is printed for each kind of work, and is a line of the result.
//! What functions feel there is the whole all the same.

use std::fs;
use std::io::pipe;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::measure::{Bar, Bound, Measurement};
use crate::paired::{Interval, interleaved, slower_percent};
use crate::support::{Cgroup, Function, Running, pid_of, truth};
use crate::watched::{Agent, number};

/// With its interval.
pub const SLOWDOWN: Measurement = Measurement {
    name: "accept-slowdown",
    about: "CPU time for the same work, computing and switching, at 4,999 and 2,499 Hz scaled to 199 Hz",
    runs: 1,
    run: || slowdown(12, true),
};
/// Quick: few rounds, no bar.
pub const QUICK: Measurement = Measurement {
    name: "bench-slowdown",
    about: "the slowdown of accept-slowdown by three rounds",
    runs: 1,
    run: || slowdown(3, false),
};

/// The default rate, which figures are scaled to.
const DEFAULT_HZ: f64 = 199.0;
/// What the work is done beside, in turns.
const BESIDE: [Beside; 4] = [Beside::Agent(4999), Beside::Agent(2499), Beside::Nothing, Beside::BareClock];
const ALONE: usize = 2;
const BARE: usize = 3;
const WORK: [&str; 3] = ["computing", "switching in one container", "switching across two"];
/// Most at the default rate; an interval that is wider proves nothing.
const BAR_PERCENT: f64 = 0.5;
/// Most beyond a bare clock, where that alone takes more than half of [`BAR_PERCENT`].
const BEYOND_PERCENT: f64 = 0.25;
/// Where an interval is wider than the bar after the first rounds, which other work on the machine makes it, so many more
/// are taken at a time, and so many in all: six minutes.
const MORE_ROUNDS: usize = 4;
const MOST_ROUNDS: usize = 32;
const CPU_MS: &str = "1000";
const EXCHANGES: &str = "200000";

enum Beside {
    /// The agent at a rate.
    Agent(u32),
    Nothing,
    /// perf with a clock of 4,999 Hz and no stacks: what the interrupt alone costs on this machine, whoever asks for it.
    BareClock,
}

/// Where the work runs.
struct Places {
    function: Function,
    one: Cgroup,
    two: Cgroup,
    parent: Cgroup,
}

/// Whether the bar is on the whole, where a bare clock alone takes so much.
fn judges_the_whole(bare_percent: f64) -> bool {
    // No number is no excuse.
    bare_percent.is_nan() || bare_percent <= BAR_PERCENT / 2.0
}

/// What the rounds tell of one kind of work.
struct Found {
    /// Slower with the agent at 4,999 and at 2,499 Hz, and with a bare clock at 4,999 Hz, than alone.
    fast: Interval,
    half: Interval,
    bare: Interval,
    /// Slower with the agent at 4,999 Hz than with that clock.
    beyond: Interval,
}

impl Found {
    /// Of the work at `at`, in per cent, scaled to the default rate.
    fn of(figures: &[[[f64; 3]; 4]], at: usize) -> Found {
        let slower = |with: usize, without: usize, hz: f64| {
            let pairs = figures.iter().map(|round| (round[with][at], round[without][at]));
            slower_percent(pairs).map(|percent| percent * DEFAULT_HZ / hz)
        };
        Found {
            fast: slower(0, ALONE, 4999.0),
            half: slower(1, ALONE, 2499.0),
            bare: slower(BARE, ALONE, 4999.0),
            beyond: slower(0, BARE, 4999.0),
        }
    }

    /// Whether what is judged proves something.
    fn is_narrow(&self) -> bool {
        let beyond_is_judged = !judges_the_whole(self.bare.middle);
        self.fast.width() <= BAR_PERCENT && (!beyond_is_judged || self.beyond.width() <= BAR_PERCENT)
    }
}

fn slowdown(rounds: usize, barred: bool) -> anyhow::Result<Vec<Bar>> {
    let parent = Cgroup::new();
    let (one, two) = (parent.child("work.1"), parent.child("work.2"));
    let places = Places { function: Function::new(), one, two, parent };
    places.work()?;
    let mut sampled = [const { Vec::new() }; 2];
    let mut take = |condition: usize| {
        let work = match BESIDE[condition] {
            Beside::Agent(hz) => {
                let (work, share) = places.sampled_work(hz)?;
                sampled[condition].push(share);
                work
            }
            Beside::Nothing => places.work()?,
            Beside::BareClock => {
                let _clock = BareClock::start()?;
                places.work()?
            }
        };
        Ok(work.map(|work| work.us))
    };
    let mut figures = interleaved::<4, 3>(rounds, &mut take)?;
    // By the width alone, whatever lies in the middle: that would choose the answer.
    while barred
        && figures.len() < MOST_ROUNDS
        && !(0..WORK.len()).all(|at| Found::of(&figures, at).is_narrow())
    {
        figures.extend(interleaved::<4, 3>(MORE_ROUNDS, &mut take)?);
    }
    eprintln!("RAW {figures:?}");
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
        let alone = figures.iter().map(|round| round[ALONE][at]).sum::<f64>() / figures.len() as f64;
        bar("for a piece of work, alone", alone, "us", Bound::Recorded);
    }
    for (hz, shares) in ["4,999", "2,499"].into_iter().zip(&sampled) {
        let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
        // Else something else than that rate was measured.
        let what = format!("{hz} Hz: samples, of those that the CPU time has, least");
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

impl Places {
    /// Works with an agent at `hz`, and says which share of the samples that the CPU time should have there are.
    fn sampled_work(&self, hz: u32) -> anyhow::Result<([Taken; 3], f64)> {
        let (path, hz_text) = (self.parent.kernel_path(), hz.to_string());
        let options = ["--no-docker", "--cgroup-parent", &path, "--unwind", "fp"];
        let mut agent = Agent::start(&[&options[..], &["--hz", &hz_text, "--max-hz", &hz_text]].concat());
        let work = self.work()?;
        agent.stop()?;
        let samples: f64 = agent.functions()?.iter().filter_map(|row| number(row, "samples")).sum();
        let cpu_s = work.iter().map(|work| work.all_us).sum::<f64>() / 1e6;
        Ok((work, samples / (cpu_s * f64::from(hz))))
    }

    /// Each kind of work once, on one CPU.
    fn work(&self) -> anyhow::Result<[Taken; 3]> {
        // Of this thread alone and what it starts: the agent runs where it likes.
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                stay_on_one_cpu()?;
                Ok([self.compute()?, self.exchange(&self.one)?, self.exchange(&self.two)?])
            });
            work.join().map_err(|_| anyhow::anyhow!("the work panicked"))?
        })
    }

    fn compute(&self) -> anyhow::Result<Taken> {
        let mut command = self.one.command(self.function.path(), &["fib", "--cpu-ms", CPU_MS]);
        let (code, said) = Running::start(&mut command).wait();
        ensure!(code == Some(0), "the function ended with {code:?}: {said}");
        taken(&[truth(&said)], "rounds")
    }

    /// `ping` in the first container, `echo` in `other`.
    fn exchange(&self, other: &Cgroup) -> anyhow::Result<Taken> {
        let ((to_echo, from_ping), (to_ping, from_echo)) = (pipe()?, pipe()?);
        let start = |cgroup: &Cgroup, arguments: &[&str], input: Stdio, output: Stdio| {
            let mut command: Command = cgroup.command(self.function.path(), arguments);
            command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn().context("start the function")
        };
        let echo = start(other, &["echo"], to_echo.into(), from_echo.into())?;
        let ping = start(&self.one, &["ping", "--count", EXCHANGES], to_ping.into(), from_ping.into())?;
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

/// perf that counts nothing but the clock's interrupts, until this is dropped.
struct BareClock {
    process: Child,
    _dir: tempfile::TempDir,
}

impl BareClock {
    fn start() -> anyhow::Result<BareClock> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new("perf");
        command.args(["record", "-e", "cpu-clock", "-F", "4999", "-a", "-o"]).arg(dir.path().join("data"));
        command.args(["--", "sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start perf")?;
        let clock = BareClock { process, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        // It starts what it is given when its events are open.
        let children = format!("/proc/{0}/task/{0}/children", clock.process.id());
        let sleeps = || -> Option<bool> {
            let children = fs::read_to_string(&children).ok()?;
            let child = children.split_whitespace().next()?;
            Some(fs::read_to_string(format!("/proc/{child}/comm")).ok()?.trim() == "sleep")
        };
        while sleeps() != Some(true) {
            ensure!(Instant::now() < deadline, "perf record has not begun after 10 s");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(clock)
    }
}

impl Drop for BareClock {
    fn drop(&mut self) {
        // It ends what it has started, too.
        let _ = rustix::process::kill_process(pid_of(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// CPU time of all that `told`, for each of the first one's `pieces`.
fn taken(told: &[serde_json::Value], pieces: &str) -> anyhow::Result<Taken> {
    let cpu_us = told.iter().map(|one| number(one, "cpu_ms")).sum::<Option<f64>>();
    let all_us = cpu_us.context("the function tells its CPU time")? * 1e3;
    let pieces = told.first().and_then(|one| number(one, pieces)).context("the function tells its work")?;
    Ok(Taken { us: all_us / pieces, all_us })
}

/// The last CPU that this thread may use.
fn stay_on_one_cpu() -> anyhow::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).context("a CPU to run on")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
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
