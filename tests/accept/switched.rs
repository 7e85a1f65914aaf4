//! A sampling clock that goes on and off while the measured work goes on: the agent's, or a bare one of perf's.
//!
//! The agent's is on while there is a container in its scope: cgroups are made there and removed. Whether it is, the
//! timer's interrupts of the CPU tell, which the kernel counts.
//!
//! Not here: the work.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::support::{Cgroup, pid_of};
use crate::watched::{Agent, number};

/// How long a clock may take to go on or off.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long interrupts are counted to see whether it has.
const LOOK: Duration = Duration::from_millis(4);

/// The clock.
pub struct Clock {
    hz: u32,
    source: Source,
}

enum Source {
    /// Which samples what is below the cgroup.
    Agent {
        agent: Agent,
        scope: Cgroup,
    },
    Bare(BareClock),
}

/// Two cgroups to work in, with the clock on or off as long as they are there.
pub struct Places {
    pub one: Cgroup,
    pub two: Cgroup,
}

impl Clock {
    /// The agent's, along frame pointers.
    pub fn of_agent(hz: u32) -> Clock {
        let (scope, rate) = (Cgroup::new(), hz.to_string());
        let path = scope.kernel_path();
        let options =
            ["--no-docker", "--unwind", "fp", "--cgroup-parent", &path, "--hz", &rate, "--max-hz", &rate];
        Clock { hz, source: Source::Agent { agent: Agent::start(&options), scope } }
    }

    /// One that takes no stack and that nobody reads: what the interrupt alone costs, whoever asks for it.
    pub fn bare(hz: u32) -> anyhow::Result<Clock> {
        Ok(Clock { hz, source: Source::Bare(BareClock::start(hz)?) })
    }

    /// Does `work` with the clock on or off, on the one CPU that this thread may use.
    pub fn beside<T>(
        &mut self,
        on: bool,
        outside: &Cgroup,
        cpu: usize,
        work: impl FnOnce(&Places) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if let Source::Bare(clock) = &mut self.source {
            clock.switch(on)?;
        }
        let parent = match &self.source {
            Source::Agent { scope, .. } if on => scope,
            _ => outside,
        };
        let places = Places { one: parent.child("work.1"), two: parent.child("work.2") };
        self.wait_until(on, cpu)?;
        let before = Ticks::now(cpu)?;
        let done = work(&places)?;
        let rate = before.rate(cpu)?;
        ensure!(
            self.is(on, rate),
            "{rate:.0} interrupts a second with a clock of {} Hz that is on: {on}",
            self.hz
        );
        Ok(done)
    }

    /// Ends it; how many samples it has taken of what was in its scope. None if that is not its business.
    pub fn stop(self) -> anyhow::Result<Option<f64>> {
        let Source::Agent { mut agent, scope } = self.source else { return Ok(None) };
        agent.stop()?;
        drop(scope);
        Ok(Some(agent.functions()?.iter().filter_map(|row| number(row, "samples")).sum()))
    }

    fn wait_until(&self, on: bool, cpu: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = Ticks::now(cpu)?;
            while before.at.elapsed() < LOOK {
                std::hint::spin_loop();
            }
            if self.is(on, before.rate(cpu)?) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the clock of {} Hz is not {on} after {PATIENCE:?}", self.hz);
        }
    }

    /// Whether so many interrupts a second are those of a clock that is `on`, or of a kernel that is left alone. Half of its
    /// rate lies between both.
    fn is(&self, on: bool, rate: f64) -> bool {
        (rate > f64::from(self.hz) / 2.0) == on
    }
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

/// perf that counts nothing but the clock's interrupts, and goes on and off as it is told.
struct BareClock {
    process: Child,
    orders: File,
    answers: BufReader<File>,
    _dir: tempfile::TempDir,
}

impl BareClock {
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
        command
            .args(["record", "-e", "cpu-clock", "-a", "-D", "-1", "-F"])
            .arg(hz.to_string())
            .arg("-o")
            .arg(data);
        command.arg("--control").arg(format!("fifo:{},{}", orders.display(), answers.display()));
        command.args(["--", "sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start perf")?;
        Ok(BareClock { process, orders: to, answers: BufReader::new(from), _dir: dir })
    }

    /// perf answers once it is done.
    fn switch(&mut self, on: bool) -> anyhow::Result<()> {
        self.orders.write_all(if on { b"enable\n" } else { b"disable\n" }).context("tell perf")?;
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let heard = poll(&mut [PollFd::new(self.answers.get_ref(), PollFlags::IN)], Some(&patience))?;
        ensure!(heard > 0, "perf does not answer within {PATIENCE:?}");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("hear perf")?;
        ensure!(answer.trim_matches(['\0', '\n']) == "ack", "perf answers {answer:?}");
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
