//! bpftrace's profile of the whole host, as anybody would run it: counts by user's and kernel's stack, printed at its end
//! with names.
//!
//! What its program takes in the kernel is by the kernel's own account of BPF programs, which is on while it runs.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;

use crate::cost::{Cost, START};
use crate::support::{Cgroup, Running, catches};

/// Whether it can be run here; says why not.
pub fn runs() -> bool {
    match Command::new("bpftrace").args(["-e", "profile:hz:99 { exit(); }"]).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("no row for bpftrace: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            eprintln!("no row for bpftrace: start it: {error}");
            false
        }
    }
}

/// Its cost at `hz`, and its program's microseconds in the kernel for a sample.
pub fn cost(hz: &str, length: Duration) -> anyhow::Result<(Cost, f64)> {
    let cgroup = Cgroup::new();
    let _account = Account::switch_on()?;
    let program = format!("profile:hz:{hz} {{ @[ustack, kstack] = count(); }}");
    let running = Running::start(&mut cgroup.command("bpftrace".as_ref(), &["-e", &program]));
    let deadline = Instant::now() + Duration::from_secs(20);
    while programs(running.pid())?.is_none() {
        ensure!(Instant::now() < deadline, "bpftrace has loaded no program after 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (begin, started_us) = (Instant::now(), cgroup.cpu_us() as f64);
    std::thread::sleep(length);
    let (run_ns, run_count) = programs(running.pid())?.context("bpftrace runs its program no more")?;
    let (seconds, watched_us) = (begin.elapsed().as_secs_f64(), cgroup.cpu_us() as f64);
    interrupt(&running)?;
    let (code, said) = running.wait();
    ensure!(code == Some(0), "bpftrace ended with {code:?}");
    let ended_us = cgroup.cpu_us() as f64;
    let count = |line: &str| line.rsplit_once("]: ").and_then(|(_, count)| count.trim().parse::<f64>().ok());
    let samples = said.lines().filter_map(count).sum();
    let stages =
        vec![(START, started_us), ("watching", watched_us - started_us), ("printing", ended_us - watched_us)];
    Ok((Cost { stages, seconds, samples }, run_ns / run_count / 1e3))
}

/// As by Ctrl-C: it prints what it has counted. A signal that comes while it is not in its wait for events it forgets:
/// it is asked again as long as it catches what it is asked with, which it does no more once it prints.
fn interrupt(running: &Running) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while catches(running.pid(), Signal::INT) {
        ensure!(Instant::now() < deadline, "bpftrace goes on 20 s after Ctrl-C");
        running.signal(Signal::INT);
        running.ends_within(Duration::from_secs(1));
    }
    Ok(())
}

/// Nanoseconds and runs of the BPF programs that process `pid` holds; none if it holds none.
fn programs(pid: u32) -> anyhow::Result<Option<(f64, f64)>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let Ok(files) = fs::read_dir(&folder) else { bail!("{folder}: bpftrace has ended") };
    let mut sum = None;
    for file in files {
        // One that was closed meanwhile is none.
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        if let (Some(ns), Some(count)) = (field("run_time_ns:"), field("run_cnt:")) {
            let (all_ns, all) = sum.unwrap_or((0.0, 0.0));
            sum = Some((all_ns + ns, all + count));
        }
    }
    Ok(sum)
}

/// The kernel's account of BPF programs, as it was before once this is dropped.
struct Account(String);

impl Account {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn switch_on() -> anyhow::Result<Account> {
        let before = fs::read_to_string(Account::PATH).context("read kernel.bpf_stats_enabled")?;
        fs::write(Account::PATH, "1").context("write kernel.bpf_stats_enabled")?;
        Ok(Account(before))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Account::PATH, &self.0) {
            eprintln!("set kernel.bpf_stats_enabled back to {}: {error}", self.0.trim());
        }
    }
}
