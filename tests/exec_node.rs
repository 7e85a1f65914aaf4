//! Code that a runtime makes while it runs, by the names that it tells in a perf map: real node, with and without one.
//! Needs node (Debian: nodejs).

use std::fs;

use serde_json::Value;

use crate::answers::{number, text};
use crate::support::Fnscope;

/// Most of its time is in one function, for as long as its compiler and everything around it take to be little.
const SCRIPT: &str = "
function hotLoop(n) { let s = 0; for (let i = 0; i < n; i++) s += Math.sqrt(i) * (i % 7); return s; }
const end = process.cpuUsage().user + 1500000;
let r = 0;
while (process.cpuUsage().user < end) r += hotLoop(20000);
console.log(process.pid);
";

/// Runs the script under `fnscope exec` with `options` of node's.
fn run(options: &[&str]) -> Fnscope {
    let scope = Fnscope::new();
    let folder = tempfile::tempdir().expect("make a folder");
    let script = folder.path().join("shop.js");
    fs::write(&script, SCRIPT).expect("write the script");
    let script = script.to_str().expect("a plain path");
    let mut exec = scope.command([&["exec", "--name", "shop", "--", "node"], options, &[script]].concat());
    // V8 writes a log of its own where it runs.
    let ended = exec.current_dir(&folder).output().expect("run fnscope");
    assert_eq!(ended.status.code(), Some(0), "is node installed? {ended:?}");
    let pid = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
    let _ = fs::remove_file(format!("/tmp/perf-{pid}.map"));
    scope
}

fn share_of(frames: &[Value], name: &str) -> f64 {
    frames.iter().filter(|row| text(row, "frame") == name).map(|row| number(row, "self_share")).sum()
}

#[test]
fn node_with_a_perf_map_has_its_functions_by_name() {
    // Else the loop is compiled into what calls it, and is a part of that.
    let frames = run(&["--perf-basic-prof", "--no-turbo-inlining"]).top("shop");
    assert!(share_of(&frames, "hotLoop (shop.js)") > 0.5, "{:#?}", &frames[..frames.len().min(10)]);
    let hot = frames.iter().find(|row| text(row, "frame") == "hotLoop (shop.js)").expect("it is there");
    assert_eq!((text(hot, "kind"), text(hot, "module")), ("jit", "jit"));
}

#[test]
fn node_without_one_is_told_how_to_write_it() {
    let scope = run(&[]);
    let frames = scope.top("shop");
    assert_eq!(share_of(&frames, "hotLoop (shop.js)"), 0.0);
    let ended = scope.run(["doctor", "shop", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let findings = answer["findings"].as_array().expect("a list");
    let jit = findings.iter().find(|of| text(of, "fault") == "jit").unwrap_or_else(|| panic!("{answer:#}"));
    assert_eq!(jit["of"].as_str(), Some("node"));
    assert!(number(jit, "share") > 0.5 && text(jit, "mend").contains("--perf-basic-prof"), "{jit:#}");
}
