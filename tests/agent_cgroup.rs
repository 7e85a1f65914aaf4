//! The agent on cgroups that are containers by themselves: their names, their life, and the agent's own: killed and
//! started again, started twice, held up.

use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

use fnscope::model::Timestamp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::process::Signal;
use serde_json::Value;

use crate::answers::{assert_covered, now, number, row, text, us, walk};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

/// An agent to which the children of `parent` are containers. 997 Hz: enough samples of a short life.
fn agent(scope: &Fnscope, parent: &Cgroup) -> Running {
    scope.agent(&["--no-docker", "--hz", "997", "--cgroup-parent", &parent.kernel_path()])
}

/// Runs the example function in `cgroup` to its end.
fn run(function: &Function, cgroup: &Cgroup, arguments: &[&str]) {
    let mut command = cgroup.command(function.path(), arguments);
    command.current_dir(function.path().parent().expect("it lies in a folder"));
    let (code, said) = Running::start(&mut command).wait();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn children_of_the_parent_are_containers_named_by_their_folders() {
    let (scope, function, parent, stranger) = (Fnscope::new(), Function::new(), Cgroup::new(), Cgroup::new());
    let agent = agent(&scope, &parent);
    let cases = [
        ("fib@2.1", "fib", "fib", Some("2")),
        ("fib@2.2", "fib", "fib", Some("2")),
        ("pi.7", "pi", "pi", None),
        ("plain", "burn", "plain", None),
        ("odd@1@2.3", "burn", "odd", Some("1@2")),
    ];
    let mut children = Vec::new();
    for (name, command, ..) in cases {
        let child = parent.child(name);
        run(&function, &child, &[command, "--cpu-ms", "100"]);
        children.push(child);
    }
    run(&function, &stranger, &["burn", "--cpu-ms", "100"]);
    // What runs further down belongs to the child: in a cgroup made beside it, and in one made below that.
    let nest = parent.child("nest.1");
    let worker = nest.child("worker");
    let deeper = worker.child("deeper");
    run(&function, &worker, &["burn", "--cpu-ms", "100"]);
    run(&function, &deeper, &["fib", "--cpu-ms", "100"]);
    // Whoever removes a cgroup in the very millisecond of its last process's end takes the account with it.
    let read = |row: &Value| row["coverage_source"] == "final";
    poll("the last readings", || {
        let rows = scope.instances(&[]);
        (rows.len() > cases.len() && rows.iter().all(read)).then_some(())
    });
    drop((deeper, worker, nest, children));
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), cases.len() + 1, "one of each and no stranger: {rows:#?}");
    for (row, (name, _, function, revision)) in rows.iter().zip(cases) {
        assert_eq!((text(row, "instance_name"), text(row, "function")), (name, function), "{row:#}");
        assert_eq!((text(row, "platform"), row["revision"].as_str()), ("custom", revision), "{row:#}");
        let life = ["started_at", "exec_at", "ended_at"].map(|key| text(row, key));
        assert!(life[0] <= life[1] && life[1] <= life[2], "{row:#}");
        assert!(
            row["exit_code"].is_null() && row["image"].is_null() && row["namespace"].is_null(),
            "{row:#}"
        );
        assert_covered(row);
    }
    let nest = row(&rows, "nest");
    assert!(number(nest, "cpu_seconds") >= 0.2, "both of what ran below it: {nest:#}");
    assert_covered(nest);
    let folded = scope.folded("nest");
    assert!(folded.contains("function::burn") && folded.contains("function::fibonacci"), "{folded}");
    let both = row(&scope.rows(&["ls"]), "fib").clone();
    assert_eq!((both["instances"].as_u64(), both["cold_starts"].as_u64()), (Some(2), Some(2)), "{both:#}");
    assert!(!scope.folded("fib").contains("function::burn"));
}

#[test]
fn a_killed_agent_loses_less_than_two_seconds_and_leaves_a_store_to_go_on_with() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let (busy, other) = (parent.child("busy@1.1"), parent.child("other.1"));
    let killed = agent(&scope, &parent);
    let long = ["burn", "--cpu-ms", "900000"];
    let processes = [&busy, &other].map(|cgroup| Running::start(&mut cgroup.command(function.path(), &long)));
    poll("its samples", || (scope.samples(&["busy"]) > 600).then_some(()));
    let kill_us = us(&now());
    killed.signal(Signal::KILL);
    assert_eq!(killed.wait().0, None);
    let left = walk(&scope.store().join("journal")).pop().expect("a journal");

    let next = agent(&scope, &parent);
    let watching_us = us(&now());
    let since = Timestamp(watching_us).to_string();
    poll("samples of the next", || (scope.samples(&["busy", "--since", &since]) > 300).then_some(()));
    poll("the folded tree of the first", || {
        std::fs::exists(left.replace(".jnl", ".folded")).ok().filter(|is| *is)
    });
    next.stop_in_order();
    drop(processes);

    let rows = scope.instances(&["busy"]);
    assert_eq!(rows.len(), 1, "one life is one instance, whoever watches: {rows:#?}");
    assert_eq!((text(&rows[0], "instance_name"), text(&rows[0], "revision")), ("busy@1.1", "1"));
    // The process never rests, so samples that miss show as a gap. Two seconds: one of them waits for the next write,
    // one is on its way there. The time until the next agent watches comes on top.
    let between = |from: i64, to: i64| {
        if from == to {
            return false;
        }
        let (from, to) = (Timestamp(from).to_string(), Timestamp(to).to_string());
        scope.samples(&["busy", "--since", &from, "--until", &to]) > 0
    };
    let last_us = bisect(kill_us - 10_000_000, kill_us, |at| between(at, kill_us));
    let first_us = bisect(kill_us, watching_us + 5_000_000, |at| !between(kill_us, at));
    let (gap_us, down_us) = (first_us - last_us, watching_us - kill_us);
    assert!(
        gap_us < 2_000_000 + down_us,
        "{gap_us} us without a sample, of which the agent was away {down_us} us"
    );
    // And by the account, which goes on through all of it.
    let lost_us = (number(&rows[0], "cpu_seconds") - number(&rows[0], "sampled_seconds")) * 1e6;
    let (tenth_us, down_us) = (number(&rows[0], "cpu_seconds") * 1e5, down_us as f64);
    assert!(lost_us < 2e6 + down_us + tenth_us, "{lost_us} us of CPU time without samples: {:#}", rows[0]);

    let folded = walk(&scope.store().join("folded/custom/-/busy/1"));
    let name = left.rsplit('/').next().expect("a path").trim_end_matches(".jnl");
    let of_killed: Vec<&String> = folded.iter().filter(|path| path.contains(name)).collect();
    let counted: u64 = of_killed.iter().map(|path| count(&unpacked(path))).sum();
    let until = Timestamp(kill_us).to_string();
    let told = scope.run(["folded", "busy", "--until", &until]).stdout;
    assert!(counted > 500 && counted == count(&told), "{counted} samples in {of_killed:?}, told:\n{told}");
}

/// Where between `low` and `high` `holds` stops to hold, to two milliseconds.
fn bisect(mut low: i64, mut high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    assert!(holds(low) && !holds(high), "nothing between {low} and {high}");
    while high - low > 2_000 {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle } else { high = middle }
    }
    low
}

/// What is packed in the file at `path`.
fn unpacked(path: &str) -> String {
    let file = std::fs::File::open(path).expect("open a folded file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("it is whole");
    assert!(text.contains("function::burn [function]"), "{text}");
    text
}

fn count(folded: &str) -> u64 {
    folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn a_second_agent_is_sent_away_and_the_first_goes_on() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let first = agent(&scope, &parent);
    let second = scope.run(["agent", "--no-docker", "--cgroup-parent", &parent.kernel_path()]);
    assert_eq!(second.code, Some(2), "{second:?}");
    let holder = format!("locked by another agent (pid {} since ", first.pid());
    let store = scope.store().display().to_string();
    assert!(second.stderr.contains(&holder) && second.stderr.contains(&store), "{second:?}");
    assert!(second.stdout.is_empty(), "{second:?}");
    let child = parent.child("after.1");
    run(&function, &child, &["burn", "--cpu-ms", "100"]);
    first.stop_in_order();
    assert_covered(row(&scope.instances(&[]), "after"));
    // The lock went with its holder.
    agent(&scope, &parent).stop_in_order();
}

#[test]
fn exec_writes_beside_an_agent_that_leaves_it_alone() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let agent = agent(&scope, &parent);
    let program = function.path().to_str().expect("a plain path");
    let execs: Vec<Running> = ["one", "two"]
        .iter()
        .map(|name| {
            scope.start(["exec", "--hz", "997", "--name", name, "--", program, "fib", "--cpu-ms", "150"])
        })
        .collect();
    let child = parent.child("third.1");
    run(&function, &child, &["burn", "--cpu-ms", "100"]);
    for exec in execs {
        let (code, said) = exec.wait();
        assert_eq!(code, Some(0), "{said}");
    }
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    assert_eq!(rows.len(), 3, "{rows:#?}");
    for (name, platform) in [("one", "local"), ("two", "local"), ("third", "custom")] {
        let row = row(&rows, name);
        assert_eq!(text(row, "platform"), platform);
        assert_covered(row);
    }
    assert!(!scope.folded("third").contains("fibonacci"));
}

#[test]
fn what_a_killed_engine_left_behind_is_no_container() {
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let [left, begins] = ["a1", "b2"].map(|two| parent.child(&two.repeat(32)));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let before = Timespec { tv_sec: since.as_secs().cast_signed() - 120, tv_nsec: 0 };
    let times = Timestamps { last_access: before, last_modification: before };
    rustix::fs::utimensat(CWD, left.path(), &times, AtFlags::empty()).expect("make it two minutes old");
    let agent = scope.agent(&["--docker-socket", "/nowhere/docker.sock"]);
    // Both were there to be found: what the walk found is written in one.
    let rows = poll("what is there", || Some(scope.instances(&[])).filter(|rows| !rows.is_empty()));
    agent.stop_in_order();
    assert!(rows.iter().any(|row| text(row, "instance").starts_with(&"b2".repeat(6))), "{rows:#?}");
    assert!(!rows.iter().any(|row| text(row, "instance").starts_with(&"a1".repeat(6))), "{rows:#?}");
    drop(begins);
}

#[test]
fn what_came_and_went_while_the_agent_was_held_up_is_told_all_the_same() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    let agent = agent(&scope, &parent);
    // Something to sample, so that the host is sampled while the agent stands.
    let rest = parent.child("rest.1");
    let mut idle = Running::start(&mut rest.command(function.path(), &["idle"]));
    idle.wait_for("ready");
    poll("it is known", || (!scope.instances(&["rest"]).is_empty()).then_some(()));
    agent.signal(Signal::STOP);
    let child = parent.child("short.1");
    run(&function, &child, &["burn", "--cpu-ms", "100"]);
    drop(child);
    agent.signal(Signal::CONT);
    drop(idle);
    drop(rest);
    agent.stop_in_order();
    let rows = scope.instances(&[]);
    let short = row(&rows, "short");
    assert!(!short["ended_at"].is_null(), "its cgroup is gone: {short:#}");
    // Moved into its cgroup by a shell of which nobody heard: its samples tell by themselves whose they are.
    assert!(short["samples"].as_u64() > Some(50), "{short:#}");
    assert!(short["coverage"].is_null(), "nobody has read its account: {short:#}");
}
