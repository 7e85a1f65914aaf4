//! Events scoped by cgroups, on this host's own perf events and cgroups. Needs root, and says so by failing.

/// Real events: these run alone.
mod real {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::sampler_tests::real::cgroup2;
    use super::super::{Mode, PerfError, RawSample, RingOptions, Sampler, Stamped, Switch};
    use crate::model::{CgroupId, Pid};

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A cgroup with a shell in it that does `what` once it is told to.
    struct Cgroup {
        dir: PathBuf,
        shell: Child,
    }

    impl Cgroup {
        fn with(name: &str, what: &str) -> Cgroup {
            let name = format!("fnscope-scoped-{name}-{}", std::process::id());
            let dir = cgroup2().join(name);
            fs::create_dir(&dir).unwrap();
            let script = format!("read go; {what}");
            let shell = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
            fs::write(dir.join("cgroup.procs"), shell.id().to_string()).unwrap();
            Cgroup { dir, shell }
        }

        fn id(&self) -> CgroupId {
            CgroupId(fs::metadata(&self.dir).unwrap().ino())
        }

        fn open(&self) -> std::os::fd::OwnedFd {
            fs::File::open(&self.dir).unwrap().into()
        }

        fn go(&mut self) {
            self.shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            let _ = self.shell.kill();
            let _ = self.shell.wait();
            let _ = fs::remove_dir(&self.dir);
        }
    }

    fn options(copies: Option<u32>) -> RingOptions {
        RingOptions { scoped: true, ..RingOptions::within(32 << 20, 2, 997, copies) }
    }

    fn drain_until(sampler: &mut Sampler, enough: impl Fn(&[RawSample]) -> bool) -> Vec<RawSample> {
        let (begin, mut samples) = (Instant::now(), Vec::new());
        while !enough(&samples) {
            assert!(begin.elapsed() < DEADLINE, "only {} samples in {DEADLINE:?}", samples.len());
            sampler.drain_samples(|_, _| true, |sample| samples.push(sample));
        }
        samples
    }

    #[test]
    fn what_is_attached_is_sampled_and_nothing_else() {
        let (mut one, mut other) =
            (Cgroup::with("one", "while :; do :; done"), Cgroup::with("other", "while :; do :; done"));
        let mut sampler = Sampler::open(options(Some(16 << 10))).unwrap();
        sampler.attach(one.id(), one.open()).unwrap();
        sampler.arm(Mode::Chains).unwrap();
        one.go();
        other.go();
        let samples = drain_until(&mut sampler, |samples| samples.len() >= 100);
        let is_own = |sample: &RawSample| sample.cgroup == one.id() && sample.pid == Pid(one.shell.id());
        assert!(samples.iter().all(is_own), "the kernel holds the scope");
        assert!(samples.iter().any(|sample| sample.chain.len() > 2));
        assert!(
            samples.iter().all(|sample| sample.period_ns == 1_000_000_000 / 997 && sample.user.is_none())
        );
        sampler.arm(Mode::Copies).unwrap();
        sampler.drain_samples(|_, _| false, |_| {});
        // Attached while copies are taken.
        sampler.attach(other.id(), other.open()).unwrap();
        let samples = drain_until(&mut sampler, |samples| {
            let of = |cgroup| samples.iter().filter(|sample| sample.cgroup == cgroup).count();
            of(one.id()) >= 20 && of(other.id()) >= 20
        });
        assert!(samples.iter().any(|s| s.user.as_ref().is_some_and(|user| !user.stack.is_empty())));
        sampler.detach(one.id());
        sampler.drain_samples(|_, _| false, |_| {});
        let samples = drain_until(&mut sampler, |samples| samples.len() >= 50);
        assert!(samples.iter().all(|sample| sample.cgroup == other.id()), "no more of the first");
        sampler.arm(Mode::Off).unwrap();
        sampler.drain_samples(|_, _| false, |_| {});
        std::thread::sleep(Duration::from_millis(100));
        sampler.drain_samples(|_, _| true, |sample| panic!("{sample:?} while it is off"));
    }

    #[test]
    fn a_thread_is_seen_leaving_and_coming_back() {
        for copies in [None, Some(16 << 10)] {
            let mut cgroup = Cgroup::with("switch", "exec sleep 0.3");
            let mut sampler = Sampler::open(options(copies)).unwrap();
            sampler.watch_switches(cgroup.id(), cgroup.open()).unwrap();
            cgroup.go();
            assert!(cgroup.shell.wait().unwrap().success());
            let mut switches: Vec<Stamped<Switch>> = Vec::new();
            sampler.drain_switches(&mut switches);
            switches.sort_by_key(|switch| switch.time_ns);
            let tid = Pid(cgroup.shell.id());
            let ours = |switch: &&Stamped<Switch>| match &switch.value {
                Switch::Leaves(sample) => sample.tid == tid,
                Switch::Left { tid: of, .. } | Switch::Back { tid: of } => *of == tid,
                Switch::Lost(_) => panic!("{switch:?}"),
            };
            let own: Vec<_> = switches.iter().filter(ours).collect();
            let longest = own.windows(3).filter_map(|three| match three {
                [Stamped { time_ns, value: Switch::Leaves(sample), .. }, left, back]
                    if back.value == (Switch::Back { tid }) =>
                {
                    let preempted = matches!(left.value, Switch::Left { preempted: true, .. });
                    Some((back.time_ns - time_ns, preempted, sample.clone()))
                }
                _ => None,
            });
            let (ns, preempted, sample) = longest.max_by_key(|(ns, ..)| *ns).expect("it slept");
            assert!((300_000_000..1_000_000_000).contains(&ns) && !preempted, "{ns} {preempted}");
            assert_eq!((sample.cgroup, sample.chain.len() > 3), (cgroup.id(), true));
            assert_eq!(sample.user.is_some_and(|user| !user.stack.is_empty()), copies.is_some());
            assert!(sampler.leave_switches(cgroup.id()) && !sampler.leave_switches(cgroup.id()));
            let mut rest = Vec::new();
            sampler.drain_switches(&mut rest);
        }
    }

    #[test]
    fn a_cgroup_that_is_gone_is_told_so_and_nothing_stays_attached() {
        let cgroup = Cgroup::with("gone", "exit");
        let (id, dirs) = (cgroup.id(), [cgroup.open(), cgroup.open()]);
        drop(cgroup);
        let mut sampler = Sampler::open(options(None)).unwrap();
        let [for_samples, for_switches] = dirs;
        let gone = |done| matches!(done, Err(PerfError::CgroupGone { .. }));
        assert!(gone(sampler.attach(id, for_samples)));
        assert!(gone(sampler.watch_switches(id, for_switches)));
        assert!(!sampler.leave_switches(id), "where one cpu refuses, none watches");
    }

    #[test]
    fn rings_of_switches_are_memory_while_they_are_there() {
        let cgroup = Cgroup::with("memory", "exit");
        let mut sampler = Sampler::open(options(None)).unwrap();
        let without = sampler.ring_bytes();
        sampler.watch_switches(cgroup.id(), cgroup.open()).unwrap();
        assert!(sampler.ring_bytes() >= without + (sampler.cpu_count() << 20));
        sampler.leave_switches(cgroup.id());
        sampler.drain_switches(&mut Vec::new());
        assert_eq!(sampler.ring_bytes(), without);
    }
}
