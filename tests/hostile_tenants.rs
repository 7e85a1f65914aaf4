//! Tenants that want more than their share: the agent lives, its memory is bounded, and the tenant beside them is told
//! as it was.

use rustix::process::Signal;

use crate::agent_health::{metrics, start};
use crate::answers::{assert_covered, number, row};
use crate::hostile_program::{Hostile, MODES, good, seen};
use crate::support::{Cgroup, DEADLINE, Fnscope, Function, Running, four_sigma, poll, told};

/// Longer than anybody is watched beside a hostile tenant, which is then told to end.
const LONGER_SECONDS: u32 = 120;

fn agent(scope: &Fnscope, parent: &Cgroup, options: &[&str]) -> Running {
    let path = parent.kernel_path();
    scope.agent(&[&["--no-docker", "--hz", "997", "--cgroup-parent", &path], options].concat())
}

#[test]
fn whatever_one_tenant_does_the_other_is_told_as_it_was() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let (hostile, function) = (Hostile::new(), Function::new());
    let running = agent(&scope, &parent, &["--unwind", "fp"]);
    let mut truths = Vec::new();
    for mode in &MODES {
        let bad = parent.child(&format!("bad-{}", mode.name));
        let beside = parent.child(&format!("good-{}", mode.name));
        let busy = hostile.start(&bad, mode, mode.few, LONGER_SECONDS);
        truths.push(good(&function, &beside, 1_000));
        busy.stop_in_order();
        bad.wait_until_empty();
    }
    poll("samples of the last one", || (scope.samples(&["good-perf-map"]) > 500).then_some(()));
    running.stop_in_order();
    let rows = scope.rows(&["ls"]);
    let (mut all, mut sums) = (0, [0.0; 3]);
    for (mode, truth) in MODES.iter().zip(truths) {
        let (samples, shares) = seen(&scope.folded(&format!("good-{}", mode.name)));
        assert!(samples > 500, "{}: {samples}", mode.name);
        // A share p of n samples is off by four times sqrt(p (1 - p) / n), at most two over the root of n, once in
        // 15,000 times; 3 points come on top.
        for (seen, told) in shares.iter().zip(truth) {
            let most = 0.03 + four_sigma(samples) / 2.0;
            assert!((seen - told).abs() < most, "{}: {shares:?}, not {truth:?}", mode.name);
        }
        let folded = scope.folded(&format!("good-{}", mode.name));
        assert!(!folded.contains("level_") && !folded.contains("hostile"), "{}: {folded}", mode.name);
        let bad = row(&rows, &format!("bad-{}", mode.name));
        assert!(bad["samples"].as_u64() > Some(0), "it is told as well: {bad:#}");
        for ((sum, seen), told) in sums.iter_mut().zip(shares).zip(truth) {
            *sum += (seen - told) * samples as f64;
        }
        all += samples;
    }
    // All together are some nine thousand samples, of which four sigma are two points at most.
    let off = sums.map(|sum| sum / all as f64);
    assert!(off.iter().all(|off| off.abs() < 0.03), "{off:?} of {all} samples");
}

#[test]
fn of_a_process_that_was_there_before_no_more_files_are_opened_than_of_a_new_one() {
    let (scope, parent, hostile) = (Fnscope::new(), Cgroup::new(), Hostile::new());
    let bad = parent.child("bad");
    let busy = hostile.start(&bad, &MODES[2], 3_000, LONGER_SECONDS);
    let running = agent(&scope, &parent, &["--unwind", "fp"]);
    poll("samples of it", || (scope.samples(&["bad"]) > 500).then_some(()));
    busy.stop_in_order();
    let said = running.stop_in_order();
    let [opened, known, failed] = ["files_opened", "files_known", "files_failed"].map(|key| told(&said, key));
    // 512 of an instance between two flushes; what this process has mapped is read once.
    assert_eq!(opened + known + failed, 3_000 + 3, "{said}");
    assert!((487..=512).contains(&opened), "{said}");
}

#[test]
fn over_its_budget_the_agent_does_less_says_so_and_comes_back() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let (hostile, function) = (Hostile::new(), Function::new());
    let mut running = agent(&scope, &parent, &["--unwind", "fp", "--budget-cpu", "1%"]);
    let (bad, beside) = (parent.child("bad"), parent.child("good"));
    let busy = hostile.start(&bad, &MODES[5], 1, LONGER_SECONDS);
    for step in ["no-copies", "fewer-reads", "lower-rate"] {
        let line = running.wait_for("near the budget");
        assert!(line.contains("WARN") && line.contains(step) && line.contains(" of 1.000 %"), "{line}");
    }
    let told = good(&function, &beside, 2_000);
    busy.stop_in_order();
    // The ten seconds that count must be quiet, then fifteen more, and what rests is looked at every few seconds.
    let line = running.wait_for_within("far from the budget", 3 * DEADLINE);
    assert!(line.contains("INFO"), "{line}");
    running.stop_in_order();
    let rows = scope.rows(&["ls"]);
    let row = row(&rows, "good");
    // One in four was looked at and counts for all four: the sum is as ever, with the error of a quarter of them.
    let (samples, shares) = seen(&scope.folded("good"));
    let coverage = number(row, "coverage");
    assert!((coverage - 1.0).abs() < 0.1, "{row:#}");
    for (seen, told) in shares.iter().zip(told) {
        let most = 0.03 + four_sigma(samples / 4) / 2.0;
        assert!((seen - told).abs() < most, "{shares:?}, not {told:?} of {samples}");
    }
}

#[test]
fn over_its_memory_it_gives_up_all_that_it_can_and_says_since_when() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let path = parent.kernel_path();
    // Less than any agent takes: nothing that it gives up is enough.
    let mut command = scope.command(["agent", "--no-docker", "--hz", "997", "--budget-memory", "1MiB"]);
    command.args(["--cgroup-parent", &path]).env("FNSCOPE_OFF_CPU_FUNCTIONS", "good");
    let (mut running, address) = start(&mut command);
    let beside = parent.child("good");
    let arguments = ["burn", "--cpu-ms", &(1_000 * LONGER_SECONDS).to_string()];
    let busy = Running::start(&mut beside.command(function.path(), &arguments));
    let steps = ["no-copies", "fewer-reads", "lower-rate", "fewer-symbols"];
    for step in steps {
        let line = running.wait_for("near the budget");
        assert!(
            line.contains("WARN") && line.contains(step) && line.contains(" MiB of memory of 1 MiB"),
            "{line}"
        );
    }
    let told = metrics(address);
    for step in steps {
        assert_eq!(told[&format!("fnscope_degraded{{step=\"{step}\"}}")], 1.0, "{step}");
        assert_eq!(told[&format!("fnscope_degradations_total{{step=\"{step}\"}}")], 1.0, "{step}");
    }
    let thinned = told["fnscope_samples_stored_total"];
    poll("samples of which each counts for four", || {
        (metrics(address)["fnscope_samples_stored_total"] > thinned + 300.0).then_some(())
    });
    busy.signal(Signal::TERM);
    busy.wait();
    poll("its account", || {
        scope.instances(&["good"]).iter().any(|row| !row["coverage"].is_null()).then_some(())
    });
    running.stop_in_order();
    let rows = scope.instances(&["good"]);
    let row = row(&rows, "good");
    assert_covered(row);
    assert!(!row["off_cpu_until"].is_null(), "its time off the CPU was given up: {row:#}");
}
