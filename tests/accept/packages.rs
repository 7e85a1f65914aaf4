//! What `make dist` makes, as a stranger to this machine meets it: a Debian tree made by debootstrap, in which the package
//! is installed, profiles a function, is upgraded, removed and purged; the tarball; the bill of materials against
//! Cargo.lock. Needs root, debootstrap and Debian's mirror, and installs cargo-deb and cargo-cyclonedx where they are missing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::measure::{Bar, Bound, Measurement};
use crate::support::{Cgroup, Function, Running, poll};

/// Packages in a tree of Debian's.
pub const PACKAGES: Measurement = Measurement {
    name: "accept-packages",
    about: "the .deb installed, run, upgraded, removed and purged in a debootstrap tree; tarball, bill of materials, sums",
    runs: 1,
    run: packages,
};

const SUITE: &str = "bookworm";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// An administrator's own line in the configuration.
const OWN_LINE: &str = "hz = 499";

fn packages() -> anyhow::Result<Vec<Bar>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dist = root.join("target/dist");
    ok(Command::new(root.join("deploy/pack")).arg("dist").current_dir(root))?;
    ok(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist))?;
    let sums = fs::read_to_string(dist.join("SHA256SUMS"))?.lines().count();
    let mut bars = vec![exactly("files with a checksum that is theirs", sums as u64, 3)];
    let bill = dist.join(format!("fnscope-{VERSION}.cdx.json"));
    bars.extend(materials(root, &bill)?);

    let tree = Tree::new()?;
    bars.extend(package(&tree, &dist)?);
    bars.extend(tarball(&tree, &dist)?);
    Ok(bars)
}

/// The bill of materials against what cargo resolves.
fn materials(root: &Path, bill: &Path) -> anyhow::Result<Vec<Bar>> {
    let bill: Value = serde_json::from_slice(&fs::read(bill)?)?;
    let component =
        |one: &Value| Some((one["name"].as_str()?.to_owned(), one["version"].as_str()?.to_owned()));
    let components = bill["components"].as_array().context("components")?;
    let listed: BTreeSet<_> = components.iter().filter_map(component).collect();
    let unlicensed = components.iter().filter(|one| one["licenses"].as_array().is_none_or(Vec::is_empty));
    let unlicensed = unlicensed.count() as u64;
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.lock"))?)?;
    let package = |one: &toml::Value| {
        Some((one.get("name")?.as_str()?.to_owned(), one.get("version")?.as_str()?.to_owned()))
    };
    let locked: BTreeSet<_> = lock
        .get("package")
        .and_then(|all| all.as_array())
        .context("packages")?
        .iter()
        .filter_map(package)
        .collect();
    let mut tree = Command::new(env!("CARGO"));
    tree.args([
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--target",
        "x86_64-unknown-linux-gnu",
    ]);
    let linked = String::from_utf8(ok(tree.current_dir(root))?.stdout)?;
    let line = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    };
    let linked: BTreeSet<_> = linked.lines().filter_map(line).filter(|(name, _)| name != "fnscope").collect();
    ensure!(linked.len() > 50, "cargo tree tells {} crates", linked.len());
    Ok(vec![
        exactly(
            "crates of the bill that Cargo.lock does not have",
            listed.difference(&locked).count() as u64,
            0,
        ),
        exactly("linked crates that the bill does not have", linked.difference(&listed).count() as u64, 0),
        exactly("crates of the bill without a licence", unlicensed, 0),
    ])
}

/// The life of the package, from its installation to its purge.
fn package(tree: &Tree, dist: &Path) -> anyhow::Result<Vec<Bar>> {
    fs::copy(dist.join(format!("fnscope_{VERSION}-1_amd64.deb")), tree.path("fnscope.deb"))?;
    tree.apt(&["install", "/fnscope.deb"])?;
    let version = tree.ok(&["fnscope", "--version"])?;
    let mut bars =
        vec![holds("installed: it says its version", version.trim() == format!("fnscope {VERSION}"))];
    let doctor = tree.run(&["fnscope", "doctor"])?;
    let findings = String::from_utf8_lossy(&doctor.stdout).into_owned();
    bars.push(holds(
        "doctor finds what the agent needs",
        doctor.status.success() && findings.contains("CAP_PERFMON"),
    ));
    let mode = tree.ok(&["stat", "--format", "%a %U", "/var/lib/fnscope", "/etc/fnscope/fnscope.toml"])?;
    bars.push(holds("store for root alone, configuration readable", mode == "700 root\n644 root\n"));
    for page in ["usr/share/man/man1/fnscope-agent.1.gz", "usr/share/bash-completion/completions/fnscope"] {
        bars.push(holds(format!("/{page} is there"), tree.path(page).exists()));
    }
    bars.push(compose("installed", &tree.path("usr"))?);
    let copyright = fs::read_to_string(tree.path("usr/share/doc/fnscope/copyright"))?;
    let licences = ["MIT", "Apache-2.0", "CDDL-1.0"].iter().all(|licence| copyright.contains(licence));
    bars.push(holds("copyright names each licence", licences));

    profile(tree)?;
    let covered = |tree: &Tree| -> anyhow::Result<f64> {
        let rows: Value = serde_json::from_str(&tree.ok(&["fnscope", "instances", "fib", "--json"])?)?;
        Ok(rows[0]["coverage"].as_f64().unwrap_or(f64::NAN))
    };
    bars.push(Bar::new("coverage of a function, stored by it", covered(tree)?, "", Bound::Within(0.9, 1.1)));

    let configuration = tree.path("etc/fnscope/fnscope.toml");
    let own = || fs::read_to_string(&configuration).is_ok_and(|text| text.ends_with(OWN_LINE));
    fs::write(&configuration, fs::read_to_string(&configuration)? + OWN_LINE)?;
    next_version(tree)?;
    tree.apt(&["install", "/next.deb"])?;
    let version = tree.ok(&["dpkg-query", "--show", "--showformat", "${Version}", "fnscope"])?;
    bars.push(holds("upgraded", version == format!("{VERSION}-2")));
    bars.push(holds("upgraded: own configuration kept", own()));
    bars.push(holds("upgraded: store kept", covered(tree).is_ok()));
    let told = tree.ok(&["fnscope", "top", "fib"])?;
    bars.push(holds("upgraded: it tells what was stored before", told.contains("function::fibonacci")));

    tree.apt(&["remove", "fnscope"])?;
    let store = tree.path("var/lib/fnscope/FORMAT");
    bars.push(holds("removed: program gone", !tree.path("usr/bin/fnscope").exists()));
    bars.push(holds("removed: configuration and store kept", own() && store.exists()));
    tree.apt(&["purge", "fnscope"])?;
    let find = [
        "find",
        "/etc",
        "/usr",
        "/var",
        "-path",
        "/var/cache",
        "-prune",
        "-o",
        "-name",
        "*fnscope*",
        "-print",
    ];
    bars.push(exactly("purged: files left", tree.ok(&find)?.lines().count() as u64, 0));
    Ok(bars)
}

/// The installed agent, on a function in a cgroup of this host.
fn profile(tree: &Tree) -> anyhow::Result<()> {
    let (function, parent) = (Function::new(), Cgroup::new());
    let kernel_path = parent.kernel_path();
    let mut command =
        tree.command(&["fnscope", "agent", "--config", "/etc/fnscope/fnscope.toml", "--no-docker"]);
    command.args(["--hz", "997", "--cgroup-parent", &kernel_path]);
    let mut agent = Running::start(&mut command);
    agent.wait_for(" watching ");
    let child = parent.child("fib.1");
    let (code, said) =
        Running::start(&mut child.command(function.path(), &["fib", "--cpu-ms", "500"])).wait();
    ensure!(code == Some(0), "{said}");
    poll("its last reading", || {
        let rows = tree.ok(&["fnscope", "instances", "fib", "--json"]).ok()?;
        let rows: Value = serde_json::from_str(&rows).ok()?;
        (rows[0]["coverage_source"] == "final").then_some(())
    });
    let (code, said) = agent.stop();
    ensure!(code == Some(0), "{said}");
    Ok(())
}

/// The same package as its next version, with another default configuration: what dpkg does with one that was edited is
/// then put to the test.
fn next_version(tree: &Tree) -> anyhow::Result<()> {
    let unpacked = tree.path("next");
    ok(Command::new("dpkg-deb").arg("--raw-extract").arg(tree.path("fnscope.deb")).arg(&unpacked))?;
    for (file, from, to) in [
        ("DEBIAN/control", format!("\nVersion: {VERSION}-1\n"), format!("\nVersion: {VERSION}-2\n")),
        ("etc/fnscope/fnscope.toml", "#hz = 199".into(), "#hz = 99".into()),
    ] {
        let path = unpacked.join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(&from), "{file} has no {from:?}");
        fs::write(&path, text.replace(&from, &to))?;
    }
    // Its sums would be those of before.
    fs::remove_file(unpacked.join("DEBIAN/md5sums")).ok();
    ok(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zgzip", "--build"])
        .arg(&unpacked)
        .arg(tree.path("next.deb")))?;
    Ok(())
}

/// The tarball, unpacked over a tree that has nothing of it.
fn tarball(tree: &Tree, dist: &Path) -> anyhow::Result<Vec<Bar>> {
    let name = format!("fnscope-{VERSION}-x86_64-linux");
    ok(Command::new("tar")
        .arg("-xzf")
        .arg(dist.join(format!("{name}.tar.gz")))
        .arg("-C")
        .arg(tree.path("opt")))?;
    let version = tree.ok(&[&format!("/opt/{name}/usr/bin/fnscope"), "--version"])?;
    let pages = fs::read_dir(tree.path(&format!("opt/{name}/usr/share/man/man1")))?.count() as f64;
    Ok(vec![
        holds("tarball: it says its version", version.trim() == format!("fnscope {VERSION}")),
        Bar::new("tarball: pages", pages, "", Bound::AtLeast(20.0)),
        compose("tarball", &tree.path(&format!("opt/{name}/usr")))?,
    ])
}

/// What the compose file below `usr` names beside itself is there.
fn compose(way: &str, usr: &Path) -> anyhow::Result<Bar> {
    let file = usr.join("share/fnscope/deploy/compose.yaml");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let profile = text.lines().find_map(|line| line.trim().strip_prefix("- seccomp:"));
    let profile = file.with_file_name(profile.context("a line with the profile")?);
    let profile = fs::read(&profile).with_context(|| format!("read {}", profile.display()))?;
    let is_json = serde_json::from_slice::<Value>(&profile).is_ok();
    Ok(holds(format!("{way}: the profile that the compose file names is there"), is_json))
}

/// A small Debian in a folder, with this machine's /proc and /sys.
struct Tree {
    dir: tempfile::TempDir,
}

const MOUNTS: [&str; 2] = ["proc", "sys"];

impl Tree {
    fn new() -> anyhow::Result<Tree> {
        let tree = Tree { dir: tempfile::tempdir()? };
        ok(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(tree.dir.path()))
            .context("make a Debian tree; install debootstrap")?;
        for name in MOUNTS {
            ok(Command::new("mount")
                .args(["--rbind", "--make-rslave"])
                .arg(format!("/{name}"))
                .arg(tree.path(name)))?;
        }
        Ok(tree)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.dir.path()).args(arguments).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(arguments).output().context("run chroot")
    }

    /// What a command says that ends well.
    fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8(ok(&mut self.command(arguments))?.stdout)?)
    }

    fn apt(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let options =
            ["apt-get", "--yes", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"];
        self.ok(&[&options, arguments].concat())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for name in MOUNTS {
            let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(self.path(name)).output();
        }
        // What is still mounted must not be deleted through it.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let folder = self.dir.path().display().to_string();
        self.dir.disable_cleanup(mounts.is_empty() || mounts.contains(&folder));
    }
}

/// Runs `command`, which must end well.
fn ok(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    ensure!(output.status.success(), "{command:?}: {}", texts.concat());
    Ok(output)
}

fn exactly(what: impl Into<String>, value: u64, expected: u64) -> Bar {
    let expected = expected as f64;
    Bar::new(what, value as f64, "", Bound::Within(expected, expected))
}

fn holds(what: impl Into<String>, it_does: bool) -> Bar {
    exactly(what, it_does.into(), 1)
}
