//! Any text in place of what `/proc/PID` says (`maps`, `cgroup`, `status`, `stat`), of the list of CPUs and of what a
//! cgroup's files say; and any name of a process or a cgroup in them, which forges nothing.
#![no_main]

use std::fs;
use std::path::{Component, Path, PathBuf};

use fnscope::cgroup::{Cgroups, FactFiles};
use fnscope::discovery::parent::parent_and_start;
use fnscope::model::{Fact, Pid};
use fnscope::perf::parse_cpu_list;
use fnscope::runtime::containerd::run_in;
use fnscope::stack::open::parse_maps_line;
use fnscope::stack::perf_maps::status;
use fnscope_fuzz::folder::folder;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// A folder in place of a mounted hierarchy with one cgroup. The thread's, so that it goes with it.
    static MOUNT: (tempfile::TempDir, PathBuf) = {
        let folder = folder();
        let cgroup = folder.path().join("one");
        fs::create_dir(&cgroup).expect("a folder in our own");
        (folder, cgroup)
    };
}

fuzz_target!(|text: &[u8]| {
    let plain = String::from_utf8_lossy(text);
    for line in plain.lines() {
        if let Some(line) = parse_maps_line(line) {
            assert!(line.path.len() <= plain.len() && !line.path.starts_with(' '));
        }
        if let Some(cpus) = parse_cpu_list(line) {
            assert!(cpus.len() <= 1 << 16, "{} CPUs", cpus.len());
        }
    }
    check_cgroup_of_process(&plain);
    check_process(&plain);
    MOUNT.with(|(mount, cgroup)| check_cgroup(mount.path(), cgroup, text));
});

/// Where our own cgroup namespace begins.
const OWN: &str = "/kubepods/pod1";

/// Where a process is whose `/proc/PID/cgroup` is `text`: below what is mounted, whatever the namespace.
fn check_cgroup_of_process(text: &str) {
    for kind in ["cgroup2 cgroup rw", "cgroup cgroup rw,perf_event"] {
        let mounted = |root: &str| Cgroups::from_mountinfo(&format!("30 20 0:26 {root} /host rw - {kind}\n"));
        let (outside, host) = (mounted("/").expect("a hierarchy"), mounted("/../..").expect("a hierarchy"));
        let inside = host.in_namespace(OWN, "4:perf_event:/\n0::/\n").expect("two steps below the root");
        for path in [outside.path_in(text), inside.path_in(text)].into_iter().flatten() {
            let dir = inside.dir(&path);
            assert!(dir.starts_with("/host") && !dir.components().any(|part| part == Component::ParentDir));
        }
        for path in [OWN, "/kubepods/pod1/init"] {
            let Some(found) = host.in_namespace(path, text) else { continue };
            let again = found.path_in(text).expect("it was read before");
            assert_eq!(again.trim_end_matches('/'), path, "it is where it was said to be");
        }
        for name in text.split(['\n', '/']).filter(|name| !["", ".."].contains(name)) {
            let beside = inside.path_in(&format!("4:perf_event:/../{name}\n0::/../{name}\n"));
            assert_eq!(beside, Some(format!("/kubepods/{name}")));
        }
    }
}

/// What a process says whose `status` and `stat` are `text`, and what one says that has a line of it for its name.
fn check_process(text: &str) {
    assert!(status(text, Pid(9)).is_none_or(|told| told.users.len() <= 4));
    let run = run_in(text, Pid(9));
    let start = run.strip_prefix('9').expect("the process");
    assert!(start.is_empty() || start.strip_prefix('+').is_some_and(|start| start.parse::<u64>().is_ok()));
    for name in text.split('\n') {
        let told = status(&format!("Name:\t{name}\nUid:\t1\t2\t3\t4\nNSpid:\t9\t7\n"), Pid(9));
        assert!(told.is_some_and(|told| (told.inner_pid, &*told.users) == (7, &[1, 2, 3, 4])));
        let stat = format!("9 ({name}) R 3 9 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3\n");
        assert_eq!((parent_and_start(&stat), &*run_in(&stat, Pid(9))), (Some((3, 4711)), "9+4711"));
    }
}

/// What is read of a cgroup whose every file holds `text`.
fn check_cgroup(mount: &Path, cgroup: &Path, text: &[u8]) {
    for name in
        ["cpu.stat", "cpu.pressure", "cgroup.events", "cgroup.procs", "freezer.state", "cpuacct.usage"]
    {
        fs::write(cgroup.join(name), text).expect("write to a file of our own");
    }
    let place = mount.display();
    let v2 = format!("30 20 0:26 / {place} rw - cgroup2 cgroup rw\n");
    let v1 = ["cpu,cpuacct", "freezer", "perf_event"]
        .map(|controller| format!("30 20 0:26 / {place} rw - cgroup cgroup rw,{controller}\n"))
        .concat();
    for mountinfo in [&v2, &v1] {
        let cgroups = Cgroups::from_mountinfo(mountinfo).expect("it names a hierarchy");
        let mut facts = FactFiles::open(&cgroups, "/one");
        assert!(facts.frozen().is_none_or(|fact| matches!(fact, Fact::Frozen(_))));
        assert!(facts.counters(true).count() <= 2);
        let _ = (cgroups.is_populated("/one"), cgroups.processes("/one"));
        if let Ok(account) = cgroups.cpu_account("/one") {
            let _ = account.read_us();
        }
    }
}
