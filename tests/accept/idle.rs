//! What the agent takes of a host where functions wait or where there are none.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Container, Docker, Function};
use crate::watched::Agent;

/// The agent's CPU time beside functions that wait.
pub const IDLE: Measurement = Measurement {
    name: "accept-idle",
    about: "CPU time with no function, with ten idle ones, and beside 200 foreign execs a second",
    runs: 3,
    run: idle,
};

/// How long each figure is taken.
const LENGTH: Duration = Duration::from_secs(12);
/// What starting takes is over then.
const SETTLED: Duration = Duration::from_secs(3);
/// Foreign execs a second.
const RATE: &str = "200";

fn idle() -> anyhow::Result<Vec<Bar>> {
    let docker = Docker::new();
    let mut agent = Agent::start(&["--unwind", "fp"]);
    let process = agent.process();
    let settled = || {
        std::thread::sleep(SETTLED);
        process.cpu_percent(LENGTH)
    };
    let none = settled()?;
    let mut containers: Vec<Container> = vec![start(&docker)];
    let one = settled()?;
    let load = Load::start()?;
    let beside_load = settled()?;
    drop(load);
    containers.extend((1..10).map(|_| start(&docker)));
    let ten = settled()?;
    drop(containers);
    agent.stop()?;
    let stored = agent.instances("idle")?.len();
    Ok(vec![
        Bar::new("with no function", none, "%", Bound::AtMost(0.1)),
        Bar::new("with ten idle functions", ten, "%", Bound::AtMost(0.3)),
        Bar::new(
            format!("more, for {RATE} foreign execs a second"),
            beside_load - one,
            "%",
            Bound::AtMost(1.0),
        ),
        Bar::new("with one idle function", one, "%", Bound::Recorded),
        Bar::new("idle functions stored", stored as f64, "", Bound::AtLeast(10.0)),
    ])
}

fn start(docker: &Docker) -> Container {
    docker.start(&["--label", "fnscope.function=idle"], &["idle"])
}

/// Programs that are nobody's function, started again and again. Ended when it is dropped.
struct Load {
    process: Child,
    _function: Function,
}

impl Load {
    fn start() -> anyhow::Result<Load> {
        let function = Function::new();
        let mut command = Command::new(function.path());
        command.args(["spawn", "--count", "1000000", "--rate", RATE, "--child-cpu-ms", "0"]);
        let process = command.stdout(Stdio::null()).spawn().context("start the load")?;
        Ok(Load { process, _function: function })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Both fail only where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
