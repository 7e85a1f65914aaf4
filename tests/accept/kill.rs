//! `kill -9` of the agent at any moment under load: what is lost, whether the store opens, and whether the function
//! that was running goes on as the same instance.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use fnscope::model::{Timestamp, Window};
use fnscope::query::{self, PhaseFilter};

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function, Running};
use crate::watched::{Agent, text};

/// The agent killed and started again.
pub const KILL: Measurement = Measurement {
    name: "accept-kill",
    about: "kill -9 at ten moments under load: samples gone, and the store after it",
    runs: 1,
    run: kill,
};

const KILLS: u32 = 10;
/// From the start of an agent to its end: at least, and up to how much more.
const LIFE_MS: u64 = 2_000;
const LIFE_MORE_MS: u64 = 3_000;
/// Longest wait for the first sample of a new agent.
const DEADLINE: Duration = Duration::from_secs(10);

fn kill() -> anyhow::Result<Vec<Bar>> {
    let function = Function::new();
    let parent = Cgroup::new();
    let child = parent.child("busy.1");
    let arguments = ["--no-docker", "--cgroup-parent", &parent.kernel_path()];
    let mut agent = Agent::start(&arguments);
    let mut command = child.command(function.path(), &["shares", "--cpu-ms", "86400000"]);
    let busy = Running::start(command.stderr(Stdio::null()));

    let (mut gone_ms, mut key): (Vec<f64>, Option<String>) = (Vec::new(), None);
    let (mut others, mut unread) = (0, 0);
    for number in 0..KILLS {
        // Any moment of its cycle of a second, and not twice the same.
        std::thread::sleep(Duration::from_millis(LIFE_MS + random_below(LIFE_MORE_MS)));
        let before = now()?;
        agent.kill();
        match last_sample(&agent) {
            Ok(Some(last)) => gone_ms.push(before.since_us(last) as f64 / 1e3),
            Ok(None) => gone_ms.push(f64::INFINITY),
            Err(error) => {
                eprintln!("kill {number}: {error:#}");
                unread += 1;
            }
        }
        let restarted = now()?;
        agent.start_again(&arguments);
        let deadline = Instant::now() + DEADLINE;
        while last_sample(&agent)?.is_none_or(|last| last <= restarted) {
            ensure!(Instant::now() < deadline, "no sample within {DEADLINE:?} of start {number}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let keys: Vec<String> =
            agent.instances("busy")?.iter().map(|row| text(row, "instance").to_owned()).collect();
        let key = key.get_or_insert_with(|| keys.first().cloned().unwrap_or_default());
        others += usize::from(keys.len() != 1 || keys.first() != Some(key));
    }
    drop(busy);
    agent.stop()?;
    let most = gone_ms.iter().copied().fold(0.0, f64::max);
    let mean = gone_ms.iter().sum::<f64>() / gone_ms.len() as f64;
    Ok(vec![
        Bar::new("samples gone before a kill, most", most, "ms", Bound::AtMost(2000.0)),
        Bar::new("samples gone before a kill, mean", mean, "ms", Bound::Recorded),
        Bar::new("stores that could not be read", f64::from(unread), "", Bound::AtMost(0.0)),
        Bar::new("restarts that lost the instance", others as f64, "", Bound::AtMost(0.0)),
    ])
}

/// The last sample that the store has.
fn last_sample(agent: &Agent) -> anyhow::Result<Option<Timestamp>> {
    let view = query::open(agent.fnscope().store(), Window::ALL, |_, _| {})?;
    let selection = view.select(None, &[])?;
    Ok(query::stacks(&view, &selection, PhaseFilter::All).seen.map(|(_, last)| last))
}

fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    Ok(Timestamp(i64::try_from(since.as_micros())?))
}

/// From 0 to `limit - 1`, by the clock's finest digits.
fn random_below(limit: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (u64::from(since.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % limit
}
