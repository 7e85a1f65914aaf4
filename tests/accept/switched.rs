//! Work before a sampling clock is on, with it, and when it is gone: the agent's, or a bare one of perf's.
//!
//! The agent's is on from when there is a container in its scope to when the agent has ended. Whether it is, the timer's
//! interrupts of the CPU tell, which the kernel counts.
//!
//! Not here: the work.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::{Cgroup, pid_of};
use crate::watched::{Agent, number};

/// How long a clock may take to go on or off.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long interrupts are counted to see whether it has.
const LOOK: Duration = Duration::from_millis(4);

/// A clock by its rate in hertz.
#[derive(Clone, Copy)]
pub enum Clock {
    /// The agent's, with this `stack.unwind`.
    Agent(u32, &'static str),
    /// One that takes no stack and that nobody reads: what the interrupt alone costs, whoever asks for it.
    Bare(u32),
}

/// Two cgroups to work in.
pub struct Places {
    pub one: Cgroup,
    pub two: Cgroup,
}

/// The same work three times, as close to each other as it can be done.
pub struct Around<T> {
    pub before: T,
    pub with: T,
    pub after: T,
    /// Samples that the agent has stored of it.
    pub samples: Option<f64>,
}

impl Clock {
    /// Its rate.
    pub fn hz(self) -> u32 {
        match self {
            Clock::Agent(hz, _) | Clock::Bare(hz) => hz,
        }
    }

    /// Does `work` before this clock is on, with it, and when it is gone, always on the same CPU. Outside of the agent's
    /// scope it is done below `outside`.
    pub fn around<T: Send>(
        self,
        outside: &Cgroup,
        work: impl Fn(&Places) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Around<T>> {
        let without = |parent| self.piece(false, parent, &work);
        match self {
            Clock::Agent(hz, unwind) => {
                let (scope, rate) = (Cgroup::new(), hz.to_string());
                let path = scope.kernel_path();
                let to = ["--hz", &rate, "--max-hz", &rate, "--cgroup-parent", &path];
                let mut agent = Agent::start(&[&["--no-docker", "--unwind", unwind], &to[..]].concat());
                let before = without(outside)?;
                let with = self.piece(true, &scope, &work)?;
                agent.stop()?;
                let after = without(outside)?;
                let samples = agent.functions()?.iter().filter_map(|row| number(row, "samples")).sum();
                Ok(Around { before, with, after, samples: Some(samples) })
            }
            Clock::Bare(hz) => {
                let mut clock = BareClock::start(hz)?;
                let before = without(outside)?;
                clock.switch_on()?;
                let with = self.piece(true, outside, &work)?;
                drop(clock);
                Ok(Around { before, with, after: without(outside)?, samples: None })
            }
        }
    }

    /// Does `work` below `parent` once the clock is `on`, or off.
    fn piece<T: Send>(
        self,
        on: bool,
        parent: &Cgroup,
        work: &(impl Fn(&Places) -> anyhow::Result<T> + Sync),
    ) -> anyhow::Result<T> {
        // Of this thread alone and what it starts: the agent runs where it likes.
        std::thread::scope(|scope| {
            let piece = scope.spawn(|| {
                let cpu = stay_on_one_cpu()?;
                let places = Places { one: parent.child("work.1"), two: parent.child("work.2") };
                self.wait_until(on, cpu)?;
                let before = Ticks::now(cpu)?;
                let done = work(&places)?;
                let rate = before.rate(cpu)?;
                ensure!(
                    self.is(on, rate),
                    "{rate:.0} interrupts a second with a clock of {} Hz; on: {on}",
                    self.hz()
                );
                Ok(done)
            });
            piece.join().map_err(|_| anyhow::anyhow!("the work panicked"))?
        })
    }

    fn wait_until(self, on: bool, cpu: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = Ticks::now(cpu)?;
            while before.at.elapsed() < LOOK {
                std::hint::spin_loop();
            }
            if self.is(on, before.rate(cpu)?) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "a clock of {} Hz; on after {PATIENCE:?}: {}", self.hz(), !on);
        }
    }

    /// Whether so many interrupts a second are those of a clock that is `on`, or of a kernel that is left alone: half of
    /// its rate lies between both.
    fn is(self, on: bool, rate: f64) -> bool {
        (rate > f64::from(self.hz()) / 2.0) == on
    }
}

/// The last CPU that this thread may use, from then on the only one.
fn stay_on_one_cpu() -> anyhow::Result<usize> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).context("a CPU to run on")?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one)?;
    Ok(last)
}

/// Timer interrupts of a CPU up to a moment.
struct Ticks {
    at: Instant,
    count: u64,
}

impl Ticks {
    fn now(cpu: usize) -> anyhow::Result<Ticks> {
        let text = fs::read_to_string("/proc/interrupts").context("read /proc/interrupts")?;
        Ok(Ticks {
            at: Instant::now(),
            count: timer_interrupts(&text, cpu).context("no timer in /proc/interrupts")?,
        })
    }

    /// How many a second there were since.
    fn rate(&self, cpu: usize) -> anyhow::Result<f64> {
        let now = Ticks::now(cpu)?;
        Ok((now.count - self.count) as f64 / (now.at - self.at).as_secs_f64())
    }
}

/// What `/proc/interrupts` counts of `cpu`'s own timer.
fn timer_interrupts(text: &str, cpu: usize) -> Option<u64> {
    let mut lines = text.lines();
    let name = format!("CPU{cpu}");
    let column = lines.next()?.split_whitespace().position(|head| head == name)?;
    let counts = lines.find_map(|line| line.trim_start().strip_prefix("LOC:"))?;
    counts.split_whitespace().nth(column)?.parse().ok()
}

/// perf that counts nothing but the clock's interrupts.
struct BareClock {
    process: Child,
    orders: File,
    answers: File,
    _dir: tempfile::TempDir,
}

impl BareClock {
    /// Open, and off.
    fn start(hz: u32) -> anyhow::Result<BareClock> {
        let dir = tempfile::tempdir()?;
        let [data, orders, answers] = ["data", "orders", "answers"].map(|name| dir.path().join(name));
        for pipe in [&orders, &answers] {
            mkfifoat(CWD, pipe, Mode::RUSR | Mode::WUSR).context("make a pipe")?;
        }
        // Both ways, so that neither side waits for the other to open it.
        let open = |path| OpenOptions::new().read(true).write(true).open(path).context("open a pipe");
        let (to, from) = (open(&orders)?, open(&answers)?);
        let mut command = Command::new("perf");
        command.args(["record", "-e", "cpu-clock", "-a", "-D", "-1", "-F"]).arg(hz.to_string());
        command.arg("-o").arg(data);
        command.arg("--control").arg(format!("fifo:{},{}", orders.display(), answers.display()));
        command.args(["--", "sleep", "600"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start perf")?;
        let mut clock = BareClock { process, orders: to, answers: from, _dir: dir };
        // It answers once its events are open.
        clock.tell("ping")?;
        Ok(clock)
    }

    fn switch_on(&mut self) -> anyhow::Result<()> {
        self.tell("enable")
    }

    fn tell(&mut self, order: &str) -> anyhow::Result<()> {
        writeln!(self.orders, "{order}").context("tell perf")?;
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let heard = poll(&mut [PollFd::new(&self.answers, PollFlags::IN)], Some(&patience))?;
        ensure!(heard > 0, "perf does not answer `{order}` within {PATIENCE:?}");
        let mut answer = [0; 64];
        let length = self.answers.read(&mut answer).context("hear perf")?;
        let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
        ensure!(answer.starts_with("ack\n"), "perf answers {answer:?} to `{order}`");
        Ok(())
    }
}

impl Drop for BareClock {
    fn drop(&mut self) {
        // It ends what it has started, too.
        let _ = rustix::process::kill_process(pid_of(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpus_own_timer_is_read() {
        let text = "           CPU0       CPU2\n  0:          1          2   IO-APIC  timer\nLOC:     27941     28872   Local timer interrupts\n";
        assert_eq!(timer_interrupts(text, 0), Some(27941));
        assert_eq!(timer_interrupts(text, 2), Some(28872));
        assert_eq!(timer_interrupts(text, 1), None);
        assert_eq!(timer_interrupts("", 0), None);
    }
}
