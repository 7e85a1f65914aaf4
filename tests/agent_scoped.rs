//! Events that the kernel scopes by cgroups: `attach = "per-cgroup"`.

use std::io::Read as _;

use serde_json::Value;

use crate::agent_health::{address_in, metrics};
use crate::answers::{assert_covered, number, row, walk};
use crate::support::{Cgroup, Fnscope, Function, Running, poll};

/// Starts an agent with events scoped by cgroups, to which the children of `parent` are containers.
fn start(scope: &Fnscope, parent: &Cgroup) -> Running {
    let parent = parent.kernel_path();
    let options = ["--attach", "per-cgroup", "--no-docker", "--hz", "997", "--cgroup-parent", &parent];
    scope.start([&["agent"], &options[..]].concat())
}

fn run(function: &Function, cgroup: &Cgroup, arguments: &[&str]) {
    let (code, said) = Running::start(&mut cgroup.command(function.path(), arguments)).wait();
    assert_eq!(code, Some(0), "{said}");
}

/// Cgroup descriptors that the agent holds open, and perf events.
fn held(agent: &Running) -> (usize, usize) {
    let links = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("its descriptors");
    let links: Vec<_> = links.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let cgroups = links.iter().filter(|link| link.starts_with("/sys/fs/cgroup") && link.is_dir()).count();
    (cgroups, links.iter().filter(|link| link.to_string_lossy().contains("perf_event")).count())
}

#[test]
fn containers_are_whole_from_their_birth_and_leave_nothing_open() {
    let (scope, function, parent) = (Fnscope::new(), Function::new(), Cgroup::new());
    // One that is there before the agent is.
    let early = parent.child("early@1.1");
    let mut waits = Running::start(&mut early.command(function.path(), &["idle"]));
    waits.wait_for("ready");
    let mut agent = start(&scope, &parent);
    agent.wait_for(" watching ");
    poll("the first is known", || (!scope.instances(&["early"]).is_empty()).then_some(()));
    let before = held(&agent);
    assert!(before.0 >= 1, "the one that waits: {before:?}");
    run(&function, &early, &["burn", "--cpu-ms", "300"]);
    let mut children = Vec::new();
    for n in 0..5 {
        let child = parent.child(&format!("fib@2.{n}"));
        run(&function, &child, &["fib", "--cpu-ms", "300"]);
        children.push(child);
    }
    // Below the container's own: the kernel counts it with it.
    let nest = parent.child("nest.1");
    let worker = nest.child("worker");
    run(&function, &worker, &["burn", "--cpu-ms", "300"]);
    let read = |row: &Value| row["coverage_source"] == "final";
    poll("the last readings", || {
        let rows = scope.instances(&[]);
        let ended = rows.iter().filter(|row| row["function"] != "early");
        (rows.len() == 7 && ended.clone().count() == 6 && ended.into_iter().all(read)).then_some(())
    });
    drop((worker, nest, children));
    poll("what it held of them is closed", || (held(&agent) == before).then_some(()));
    drop(waits);
    agent.stop_in_order();

    let rows = scope.instances(&[]);
    for row in rows.iter().filter(|row| row["function"] != "early") {
        assert_covered(row);
        assert_eq!(row["phases"][0]["phase"], "runtime-init", "watched from its birth: {row:#}");
    }
    assert!(number(row(&rows, "early"), "sampled_seconds") > 0.25, "{rows:#?}");
    let folded = scope.folded("fib");
    assert!(folded.contains("function::fibonacci") && !folded.contains("function::burn"), "{folded}");
    assert!(scope.folded("nest").contains("function::burn"));
}

/// The agent walks the tree and asks to be told of what is made in it, folder by folder: of what is made in between, in a
/// folder that was walked and is not listened to yet, nobody tells.
#[test]
fn what_is_made_while_an_agent_begins_is_found() {
    const MADE: usize = 600;
    let (scope, parent) = (Fnscope::new(), Cgroup::new());
    let mut agent = start(&scope, &parent);
    agent.wait_for("rights given up");
    let made: Vec<_> = (0..MADE).map(|n| parent.child(&format!("fib.{n}"))).collect();
    let address = address_in(&agent.wait_for("health and metrics"));
    poll("all that were made", || {
        (metrics(address)["fnscope_instances_total"] == made.len() as f64).then_some(())
    });
    agent.stop_in_order();
}

/// The example function, or a program of the tests, profiled by `exec` with its time off the CPU.
fn exec(scope: &Fnscope, name: &str, command: &[&str]) -> String {
    let options = ["exec", "--hz", "997", "--off-cpu", "--name", name, "--"];
    let ended = scope.run([&options, command].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout + &ended.stderr
}

/// Time off the CPU in microseconds of what `is` says of a stack, as folded text has it.
fn waited_us(scope: &Fnscope, name: &str, is: impl Fn(&str) -> bool) -> f64 {
    let files = walk(&scope.store().join(format!("folded/local/-/{name}")));
    let mut text = String::new();
    for file in files.iter().filter(|file| file.ends_with(".off-cpu.folded.gz")) {
        let file = std::fs::File::open(file).expect("open a folded file");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("it is whole");
    }
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter(|(stack, _)| is(stack)).map(|(_, us)| us.parse::<f64>().expect("a time")).sum()
}

#[test]
fn time_on_and_off_the_cpu_is_all_the_time_there_was() {
    let scope = Fnscope::new();
    let folder = scope.store().parent().expect("it lies in a folder").to_path_buf();
    let program = folder.join("waits");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/waits.c");
    let built = std::process::Command::new("gcc").arg("-O2").arg(source).arg("-o").arg(&program).status();
    assert!(built.expect("run gcc").success());
    let said = exec(&scope, "waits", &[program.to_str().expect("a plain path"), "4"]);
    let wall_us = said.lines().find_map(|line| line.strip_prefix("wall_ms=")?.parse::<f64>().ok());
    let wall_us = wall_us.expect("it tells its time") * 1e3;
    let rows = scope.instances(&["waits"]);
    let on_us = number(row(&rows, "waits"), "cpu_seconds") * 1e6;
    let off_us = waited_us(&scope, "waits", |_| true);
    // Its start and its end, some milliseconds, are in the accounts and not in what it tells; nothing here is drawn.
    let part = (on_us + off_us) / wall_us;
    assert!((0.99..1.01).contains(&part), "{part}: {on_us} us on, {off_us} us off, of {wall_us}");
    let of = |function: &str| waited_us(&scope, "waits", |stack| stack.contains(&format!(";{function} [")));
    let (sleeps, timer) = (of("sleeps"), of("reads_timer"));
    // 7 and 5 ms each round, and what waking takes on top.
    assert!((1.0..2.0).contains(&(sleeps / timer)), "{sleeps} us asleep, {timer} us reading a timer");
    assert!(sleeps + timer > 0.8 * off_us && of("reads_file") < 0.2 * off_us, "{off_us} us off");
}

#[test]
fn who_switches_too_often_is_stopped_and_that_is_said() {
    let (scope, function) = (Fnscope::new(), Function::new());
    let folder = function.path().parent().expect("it lies in a folder").display();
    // Four switches a round at least. On one CPU: between two, each wakes the other from idleness, and on a virtual machine
    // the clock's interrupt comes too late to find who ran for some microseconds (README.md, Limits).
    let ping_pong = format!(
        "cd {folder}; mkfifo there back; taskset -p 1 $$ >&2; ./function echo <there >back 2>/dev/null & \
         ./function ping --count 20000 >there <back 2>/dev/null"
    );
    let said = exec(&scope, "pipes", &["/bin/sh", "-c", &ping_pong]);
    assert!(
        said.contains("more than 2000 switches a second") && said.contains(r#"function="pipes""#),
        "{said}"
    );
    assert_covered(row(&scope.instances(&["pipes"]), "pipes"));
    let calm = exec(&scope, "calm", &["/bin/sleep", "0.2"]);
    assert!(!calm.contains("switches a second"), "{calm}");
    assert!(waited_us(&scope, "calm", |stack| stack.contains("nanosleep")) > 190_000.0);
}
