//! Any text in place of `/proc/PID/maps`, of the list of CPUs and of what a cgroup's files say.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use fnscope::cgroup::{Cgroups, FactFiles};
use fnscope::model::Fact;
use fnscope::perf::parse_cpu_list;
use fnscope::stack::open::parse_maps_line;
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
    MOUNT.with(|(mount, cgroup)| check_cgroup(mount.path(), cgroup, text));
});

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
