//! What is exported, read by tools that are not ours: each must find every sample. A tool that cannot be had fails the
//! measurement: nothing is passed over.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use inferno::collapse::Collapse as _;
use serde_json::Value;

use crate::made_store::made;
use crate::measure::{Bar, Bound, Measurement};
use crate::support::Fnscope;

/// Exports by foreign tools.
pub const EXCHANGE: Measurement = Measurement {
    name: "accept-exchange",
    about: "exports counted by go tool pprof, inferno, FlameScope's expressions, speedscope's schema and the Firefox profiler",
    runs: 1,
    run: exchange,
};

/// Samples of `demo/pi` in the made store, after the exec.
const SAMPLES: u64 = 650;
/// Their time.
const NANOSECONDS: u64 = SAMPLES * 10_000_000;
/// The version whose schema is asked.
const SPEEDSCOPE: &str = "speedscope@1.25.0";
/// The Firefox profiler's own command line, and the Node.js it needs, whatever the host has.
const FIREFOX: [&str; 2] = ["@firefox-devtools/profiler-cli@0.10.0", "node@24"];

fn exchange() -> anyhow::Result<Vec<Bar>> {
    let scope = Fnscope::new();
    made(scope.store());
    let folder = tempfile::tempdir()?;
    let export = |format: &str| -> anyhow::Result<String> {
        let file = folder.path().join(format).to_str().context("a plain path")?.to_owned();
        let ended = scope.run(["export", "demo/pi", "--format", format, "-o", &file]);
        ensure!(ended.code == Some(0), "export as {format}: {ended:?}");
        Ok(file)
    };
    let folded = scope.run(["folded", "demo/pi"]).stdout;
    let expected: u64 = folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    ensure!(expected == SAMPLES, "`folded` counts {expected}");

    let pprof = export("pprof")?;
    let raw = go(&["-raw", &pprof])?;
    let values: Vec<(u64, u64)> = raw.lines().filter_map(raw_sample).collect();
    let labels = ["function", "revision", "instance", "phase", "host"];
    let labelled = labels.iter().all(|label| raw.contains(&format!("{label}:[")));
    let main = raw.split_once("Mappings\n").and_then(|(_, rest)| rest.lines().next()).unwrap_or_default();
    let top = go(&["-top", "-sample_index=samples", &pprof])?;

    let perf = fs::read(export("perf-script")?)?;
    let (collapsed, stacks) = inferno_collapsed(&perf)?;
    let flamescope = python(&["-c", FLAMESCOPE], &perf)?;
    let firefox = firefox(folder.path(), &export("firefox")?)?;
    let own = own_frames(&scope);
    let differ =
        own.keys().chain(firefox.frames.keys()).filter(|name| own.get(*name) != firefox.frames.get(*name));
    let differ = differ.count() as u64;

    let speedscope = export("speedscope")?;
    let schema = schema(folder.path())?;
    let weight = python(&["-c", SCHEMA, &schema, &speedscope], b"")?;

    let exactly = |what: &str, value: u64, expected: u64| {
        let expected = expected as f64;
        Bar::new(what, value as f64, "", Bound::Within(expected, expected))
    };
    Ok(vec![
        exactly("go tool pprof -raw: samples", values.iter().map(|(count, _)| count).sum(), SAMPLES),
        exactly("go tool pprof -raw: nanoseconds", values.iter().map(|(_, ns)| ns).sum(), NANOSECONDS),
        exactly("go tool pprof -raw: every label is there", labelled.into(), 1),
        exactly("go tool pprof -raw: the main program comes first", main.contains(" pi ").into(), 1),
        exactly("go tool pprof -top: total", top.contains(&format!("of {SAMPLES} total")).into(), 1),
        exactly("inferno-collapse-perf: samples", collapsed, SAMPLES),
        exactly("inferno-collapse-perf: distinct stacks", stacks, folded.lines().count() as u64),
        exactly("FlameScope's expressions: events", flamescope, SAMPLES),
        exactly("speedscope's schema: nanoseconds", weight, NANOSECONDS),
        exactly("Firefox profiler: samples of all threads", firefox.samples, SAMPLES),
        exactly("Firefox profiler: threads", firefox.threads, 3),
        exactly("Firefox profiler: frames that count otherwise than `top`", differ, 0),
        exactly("Firefox profiler: frames", firefox.frames.len() as u64, own.len() as u64),
    ])
}

/// `90 900000000: 1 2` of `-raw`.
fn raw_sample(line: &str) -> Option<(u64, u64)> {
    let (values, _) = line.split_once(": ")?;
    let mut values = values.split_whitespace();
    let pair = (values.next()?.parse().ok()?, values.next()?.parse().ok()?);
    values.next().is_none().then_some(pair)
}

/// What inferno makes of `perf`: samples and distinct stacks.
fn inferno_collapsed(perf: &[u8]) -> anyhow::Result<(u64, u64)> {
    let mut out = Vec::new();
    inferno::collapse::perf::Folder::default().collapse(Cursor::new(perf), &mut out)?;
    let text = String::from_utf8(out)?;
    let samples = text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    Ok((samples, text.lines().count() as u64))
}

fn go(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("go").args(["tool", "pprof"]).args(arguments).stdin(Stdio::null()).output();
    let output = output.context("run `go tool pprof`; install Go (Debian golang-go)")?;
    ensure!(output.status.success(), "go tool pprof: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What the Firefox profiler counts.
#[derive(Default)]
struct Firefox {
    samples: u64,
    threads: u64,
    /// As the leaf and in all, by name.
    frames: Frames,
}

type Frames = BTreeMap<String, (u64, u64)>;

/// Gets the Firefox profiler's command line into `folder` and asks it about `profile`, thread by thread.
fn firefox(folder: &Path, profile: &str) -> anyhow::Result<Firefox> {
    let install = ["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix", "."];
    let output = Command::new("npm").args(install).args(FIREFOX).current_dir(folder).output();
    let output = output.context("run npm; install it")?;
    ensure!(output.status.success(), "npm install {FIREFOX:?}: {}", String::from_utf8_lossy(&output.stderr));
    let modules = folder.join("node_modules");
    let ask = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut node = Command::new(modules.join(".bin/node"));
        node.arg(modules.join("@firefox-devtools/profiler-cli/dist/profiler-cli.js")).args(arguments);
        // It leaves a server running, which is asked over a socket there; a socket's path must be short.
        node.env("PROFILER_CLI_SESSION_DIR", folder.join("s")).stdin(Stdio::null());
        let output = node.output().context("run the Firefox profiler's command line")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "profiler-cli {arguments:?}: {complaint}");
        Ok(String::from_utf8(output.stdout)?)
    };
    ask(&["load", profile])?;
    let counted = firefox_counts(&ask);
    ask(&["stop", "--all"])?;
    counted
}

fn firefox_counts(ask: &dyn Fn(&[&str]) -> anyhow::Result<String>) -> anyhow::Result<Firefox> {
    let mut found = Firefox::default();
    let list: Value = serde_json::from_str(&ask(&["thread", "list", "--json"])?)?;
    for thread in list["threads"].as_array().context("a list of threads")? {
        found.threads += 1;
        let handle = thread["threadHandle"].as_str().context("a handle")?;
        let question = |what| ["thread", what, "--thread", handle, "--include-idle", "--json"];
        let samples: Value = serde_json::from_str(&ask(&question("samples"))?)?;
        found.samples += samples["categoryBreakdown"]["totalSamples"].as_u64().context("a total")?;
        let functions: Value = serde_json::from_str(&ask(&question("functions"))?)?;
        for function in functions["functions"].as_array().context("a list of functions")? {
            let count = |key: &str| function[key].as_u64().context("a count");
            let sums = found.frames.entry(function["name"].as_str().context("a name")?.into()).or_default();
            *sums = (sums.0 + count("selfSamples")?, sums.1 + count("totalSamples")?);
        }
    }
    Ok(found)
}

/// The same by our own `top`, modules as they stand in the file.
fn own_frames(scope: &Fnscope) -> Frames {
    let name = |row: &Value| match (row["frame"].as_str(), row["module"].as_str()) {
        (Some(frame), Some(module)) => format!("{frame} ({module})"),
        (frame, _) => frame.unwrap_or_default().into(),
    };
    let count = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    let rows = scope.rows(&["top", "demo/pi"]);
    rows.iter().map(|row| (name(row), (count(row, "self_samples"), count(row, "total_samples")))).collect()
}

/// Runs Python; the number it prints.
fn python(arguments: &[&str], input: &[u8]) -> anyhow::Result<u64> {
    use std::io::Write as _;
    let mut python = Command::new("python3");
    let child =
        python.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.context("run python3; install it")?;
    // It may end before it has read all; what it says then is told below.
    let _ = child.stdin.take().context("a pipe")?.write_all(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "python3: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("a number of python3")
}

/// Gets speedscope's package into `folder`; the schema in it.
fn schema(folder: &Path) -> anyhow::Result<String> {
    let output = Command::new("npm").args(["pack", "--silent", SPEEDSCOPE]).current_dir(folder).output();
    let output = output.context("run npm; install it")?;
    ensure!(output.status.success(), "npm pack {SPEEDSCOPE}: {}", String::from_utf8_lossy(&output.stderr));
    let package = String::from_utf8(output.stdout)?;
    let package = package.lines().last().context("npm names the file")?;
    let unpacked =
        Command::new("tar").args(["xzf", package]).current_dir(folder).status().context("run tar")?;
    ensure!(unpacked.success(), "unpack {package}");
    let schema = folder.join("package/dist/release/file-format-schema.json");
    ensure!(schema.exists(), "{SPEEDSCOPE} has no schema where it was");
    Ok(schema.to_str().context("a plain path")?.to_owned())
}

/// What FlameScope looks for: events, and frames of each.
const FLAMESCOPE: &str = r#"
import re, sys
event, frame = re.compile(r" +([0-9.]+): .+?:"), re.compile(r"^[\t ]*[0-9a-fA-F]+ (.+) \((.*?)\)$")
events, frames, last = 0, 0, 0.0
for line in sys.stdin.read().splitlines():
    if line.startswith('#'):
        continue
    found = event.search(line)
    if found:
        assert not events or frames, "an event without a frame"
        assert float(found.group(1)) >= last, "out of order"
        events, frames, last = events + 1, 0, float(found.group(1))
    elif line.strip():
        assert frame.search(line), line
        frames += 1
print(events)
"#;

/// Holds a file against a schema; the sum of its weights.
const SCHEMA: &str = r#"
import json, sys
import jsonschema
schema, told = (json.load(open(path)) for path in sys.argv[1:])
jsonschema.validators.validator_for(schema)(schema).validate(told)
print(sum(told["profiles"][0]["weights"]))
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_raw_are_told_from_the_rest() {
        assert_eq!(raw_sample("         90  900000000: 1 2 "), Some((90, 900_000_000)));
        for line in ["                phase:[cold]", "Time: 2026-11-23", "     1: 0x1 M=1 main", "Samples:"] {
            assert_eq!(raw_sample(line), None, "{line}");
        }
    }
}
