//! The soak at small scale: 25 seconds of everything that goes wrong, interrupted in the middle and gone on with, and
//! every invariant that can be told by then. The long form is `make soak`.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::soak::host::end_docker_of;
use crate::soak::options::fault_names;
use crate::support::{DEADLINE, Running, ends_within};

const SECONDS: u64 = 25;

#[test]
fn what_is_promised_holds_while_the_host_goes_wrong_and_over_an_interruption() {
    let folder = tempfile::tempdir().expect("make a folder");
    let soak = Soak(folder.path().join("soak"));

    let mut first = soak.start();
    let fault = first_fault(&mut first);
    // As Ctrl-C does: to all that a terminal has in its foreground.
    let group = Pid::from_raw(first.pid().cast_signed()).expect("a process id is above 0");
    rustix::process::kill_process_group(group, Signal::INT).expect("interrupt the soak");
    assert!(ends_within(group, DEADLINE), "what it waits for was interrupted before it");
    let (code, said) = first.wait();
    assert_eq!(code, Some(2), "{said}");
    let done = soak.read("state.json")["seconds_done"].as_u64().expect("a number");
    assert!((1..SECONDS).contains(&done), "{said}");

    let (code, said) = soak.start().wait();
    let report = fs::read_to_string(soak.0.join("report.md")).unwrap_or_default();
    assert_eq!(code, Some(0), "{said}\n{report}");
    assert!(said.contains(&format!(" {done} of {SECONDS} s done")), "{said}");
    let told = soak.read("report.json");
    assert_eq!((&told["interrupted"], &told["holds"]), (&1.into(), &true.into()), "{report}");
    let seconds = told["seconds"].as_u64().expect("a number");
    assert!(seconds >= SECONDS, "{report}");
    let faults = told["faults"].as_array().expect("faults");
    assert_eq!(faults[0]["kind"], *fault, "the ledger begins before the interruption: {report}");
    assert!(faults.iter().filter(|fault| fault["done"] == true).count() >= 5, "{report}");
}

/// Waits until a fault was done, and returns its name.
fn first_fault(soak: &mut Running) -> String {
    loop {
        // Compilers beside it make its begin long.
        let line = soak.wait_for_within("soak: ", Duration::from_secs(120));
        let word = line.trim_start_matches("soak: ").split(':').next().unwrap_or_default();
        if fault_names().contains(&word) {
            return word.into();
        }
    }
}

/// The program of `make soak`, with a folder.
struct Soak(PathBuf);

impl Soak {
    fn start(&self) -> Running {
        let own = std::env::current_exe().expect("find ourselves");
        let target = own.parent().and_then(Path::parent).expect("tests lie in a folder of their own");
        let program = target.join("examples/soak");
        assert!(program.exists(), "{}: build it (cargo build --example soak)", program.display());
        let mut command = Command::new(program);
        let minutes = (SECONDS as f64 / 60.0 + 0.001).to_string();
        command.args(["--minutes", &minutes, "--between", "2", "--seed", "3", "--folder"]).arg(&self.0);
        // Tests leave the clock of the machine alone.
        command.args(["--without", "clock-step"]);
        Running::start(command.process_group(0))
    }

    fn read(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        // One that was given up has left its Docker, which a kill does not reach.
        let state = fs::read(self.0.join("state.json")).ok();
        let state: Option<Value> = state.and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(docker) = state.as_ref().and_then(|state| state["docker"].as_str()) {
            end_docker_of(Path::new(docker));
        }
        // A soak that holds has unmounted it; one that does not keeps its store to be looked at.
        let _ = Command::new("umount").arg(self.0.join("disk")).output();
    }
}
