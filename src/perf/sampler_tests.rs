//! The sampler on this host's own perf events. Needs root, and says so by failing.

/// Real events: these run alone.
pub(super) mod real {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::super::{
        Clock, CopyOptions, Hotplug, Mode, RawSample, Ready, RingOptions, Sampler, SideBand, Stamped,
        timespec,
    };
    use crate::model::CgroupId;

    const OPTIONS: RingOptions = RingOptions {
        hz: 997,
        sample_bytes: 256 << 10,
        side_band_bytes: 256 << 10,
        cgroup_bytes: 32 << 10,
        copies: None,
        event: crate::model::SampledEvent::CpuClock,
        scoped: false,
    };
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Where cgroup2 is mounted, whose ids samples carry on every host without a v1 `perf_event` hierarchy.
    pub fn cgroup2() -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        mount.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted").into()
    }

    fn own_cgroup() -> CgroupId {
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("we are in a cgroup");
        CgroupId(fs::metadata(cgroup2().join(path)).unwrap().ino())
    }

    /// Whether the reader of any CPU is woken in time by what `by` looks for.
    fn woken(sampler: &Sampler, timeout_ns: u64, by: impl Fn(Ready) -> bool) -> bool {
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for wait in sampler.waits() {
                let told = told.clone();
                scope.spawn(move || told.send(wait.wait(Some(timeout_ns))));
            }
            (0..sampler.cpu_count()).any(|_| by(tell.recv().unwrap()))
        })
    }

    /// Burns CPU time and drains until `enough`.
    fn drain_until(sampler: &mut Sampler, wanted: CgroupId, mut enough: impl FnMut(&[RawSample]) -> bool) {
        let begin = Instant::now();
        let mut samples = Vec::new();
        while !enough(&samples) {
            assert!(begin.elapsed() < DEADLINE, "only {} samples in {DEADLINE:?}", samples.len());
            (0..100_000u64).fold(1u64, |a, b| std::hint::black_box(a.wrapping_mul(31).wrapping_add(b)));
            sampler.drain_samples(|id, _| id == wanted, |sample| samples.push(sample));
        }
    }

    #[test]
    fn we_are_sampled_where_we_are_while_it_is_armed() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        let (own, before) = (own_cgroup(), Clock::monotonic_ns());
        sampler.arm(Mode::Chains).unwrap();
        drain_until(&mut sampler, own, |samples| {
            let ours: Vec<_> = samples.iter().filter(|s| s.pid.0 == std::process::id()).collect();
            assert!(samples.iter().all(|s| s.cgroup == own && s.period_ns == 1_000_000_000 / 997));
            assert!(ours.iter().all(|s| s.time_ns > before && s.time_ns <= Clock::monotonic_ns()));
            ours.len() >= 20 && ours.iter().any(|s| s.chain.len() > 2)
        });
        assert!(sampler.take_stats().iter().map(|cpu| cpu.samples).sum::<u64>() >= 20);

        sampler.arm(Mode::Off).unwrap();
        sampler.drain_samples(|_, _| true, |_| {});
        let mut later = 0;
        (0..20_000_000u64).fold(1u64, |a, b| std::hint::black_box(a.wrapping_mul(31).wrapping_add(b)));
        sampler.drain_samples(|_, _| true, |_| later += 1);
        assert_eq!(later, 0, "nothing is sampled while it is not armed");
    }

    #[test]
    fn copies_hold_the_stack_that_the_registers_point_to() {
        let copies = Some(CopyOptions { stack_bytes: 16 << 10, ring_bytes: 4 << 20 });
        let mut sampler = Sampler::open(RingOptions { copies, ..OPTIONS }).unwrap();
        let own = own_cgroup();
        // A value that lies on this stack, and where.
        let mark = std::hint::black_box([0x0123_4567_89ab_cdefu64; 4]);
        let at = mark.as_ptr().addr() as u64;
        let found = |sample: &RawSample| {
            let user = sample.user.as_ref()?;
            let sp = user.registers[if cfg!(target_arch = "aarch64") { 31 } else { 7 }];
            let offset = usize::try_from(at.checked_sub(sp)?).ok()?;
            Some(user.stack.get(offset..offset + 8)? == mark[0].to_ne_bytes())
        };
        sampler.arm(Mode::Chains).unwrap();
        drain_until(&mut sampler, own, |samples| samples.len() >= 20);
        sampler.arm(Mode::Copies).unwrap();
        sampler.drain_samples(|_, _| false, |_| {});
        drain_until(&mut sampler, own, |samples| {
            assert!(samples.iter().all(|sample| sample.period_ns == 1_000_000_000 / 997));
            let ours = samples.iter().filter(|sample| sample.tid == tid());
            ours.filter(|sample| found(sample) == Some(true)).count() >= 20
        });
        sampler.arm(Mode::Chains).unwrap();
        sampler.drain_samples(|_, _| false, |_| {});
        drain_until(&mut sampler, own, |samples| {
            assert!(samples.iter().all(|sample| sample.user.is_none()), "copies are no longer taken");
            samples.len() >= 20
        });
    }

    fn tid() -> crate::model::Pid {
        crate::model::Pid(u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap())
    }

    #[test]
    fn samples_of_other_cgroups_are_counted_and_not_handed_out() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        sampler.arm(Mode::Chains).unwrap();
        let (mut seen, begin) = (0, Instant::now());
        while seen < 20 {
            assert!(begin.elapsed() < DEADLINE, "only {seen} samples");
            (0..100_000u64).fold(1u64, |a, b| std::hint::black_box(a.wrapping_mul(31).wrapping_add(b)));
            sampler.drain_samples(|_, _| false, |sample| panic!("{sample:?} is nobody's"));
            seen += sampler.take_stats().iter().map(|cpu| cpu.samples).sum::<u64>();
        }
        // Nor those of another time.
        let (from_ns, mut times) = (Clock::monotonic_ns(), Vec::new());
        while times.len() < 20 {
            assert!(begin.elapsed() < DEADLINE, "only {} samples", times.len());
            (0..100_000u64).fold(1u64, |a, b| std::hint::black_box(a.wrapping_mul(31).wrapping_add(b)));
            sampler.drain_samples(|_, time_ns| time_ns >= from_ns, |sample| times.push(sample.time_ns));
        }
        assert!(times.iter().all(|time_ns| *time_ns >= from_ns));
    }

    #[test]
    fn the_side_band_wakes_and_tells_of_cgroups_and_processes() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        let path = format!("/fnscope-test-{}", std::process::id());
        let dir = cgroup2().join(&path[1..]);
        fs::create_dir(&dir).unwrap();
        let id = CgroupId(fs::metadata(&dir).unwrap().ino());
        let ended = std::process::Command::new("/bin/true").status();
        fs::remove_dir(&dir).unwrap();
        assert!(ended.unwrap().success());
        assert!(woken(&sampler, 10_000_000_000, |ready| ready.cgroups), "a record wakes the reader");
        let mut records: Vec<Stamped<SideBand>> = Vec::new();
        sampler.drain_side_band(&mut records);
        let told = |wanted: &dyn Fn(&SideBand) -> bool| records.iter().any(|record| wanted(&record.value));
        assert!(told(&|r| *r == SideBand::Cgroup { id, path: path.clone() }), "{path}");
        assert!(told(&|r| matches!(r, SideBand::Comm { exec: true, comm, .. } if comm == "true")));
        assert!(told(
            &|r| matches!(r, SideBand::Mmap { path, len, .. } if path.ends_with("/true") && *len > 0)
        ));
        assert!(told(&|r| matches!(r, SideBand::Exit { pid, tid } if pid == tid)));
    }

    #[test]
    fn processes_wake_it_only_while_it_is_armed_and_are_told_all_the_same() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        let run = || assert!(std::process::Command::new("/bin/true").status().unwrap().success());
        let drained = |sampler: &mut Sampler| {
            let mut records: Vec<Stamped<SideBand>> = Vec::new();
            sampler.drain_side_band(&mut records);
            records
        };
        let tells_of_it = |records: &[Stamped<SideBand>]| {
            records
                .iter()
                .any(|r| matches!(&r.value, SideBand::Comm { exec: true, comm, .. } if comm == "true"))
        };
        // Where somebody else makes a cgroup meanwhile, that has woken us: once more.
        while {
            run();
            let woken = woken(&sampler, 200_000_000, |ready| ready.cgroups || ready.processes);
            let records = drained(&mut sampler);
            assert!(tells_of_it(&records), "it is told all the same");
            let by_cgroup = records.iter().any(|r| matches!(r.value, SideBand::Cgroup { .. }));
            assert!(!woken || by_cgroup, "woken by a process");
            by_cgroup
        } {}
        run();
        sampler.arm(Mode::Chains).unwrap();
        assert!(tells_of_it(&drained(&mut sampler)), "what was there before is there to be read");
        for mode in [Mode::Off, Mode::Chains, Mode::Chains] {
            sampler.arm(mode).unwrap();
        }
        run();
        assert!(woken(&sampler, 10_000_000_000, Ready::is_of_processes_alone));
    }

    #[test]
    fn a_ring_that_overflows_says_how_much_was_lost() {
        let small = RingOptions { hz: 4_999, sample_bytes: 4096, ..OPTIONS };
        let mut sampler = Sampler::open(small).unwrap();
        sampler.arm(Mode::Chains).unwrap();
        let begin = Instant::now();
        // Nobody drains; a page holds some ten samples.
        let mut lost = 0;
        while lost == 0 {
            assert!(begin.elapsed() < DEADLINE, "nothing was lost");
            (0..10_000_000u64).fold(1u64, |a, b| std::hint::black_box(a.wrapping_mul(31).wrapping_add(b)));
            lost = sampler.take_stats().iter().map(|cpu| cpu.lost).sum::<u64>();
        }
    }

    /// Puts CPU 1 back whatever happens.
    struct Offline;

    impl Offline {
        const FILE: &str = "/sys/devices/system/cpu/cpu1/online";

        fn new() -> Offline {
            fs::write(Self::FILE, "0").expect("take cpu 1 away: needs root and a second cpu that may go");
            Offline
        }
    }

    impl Drop for Offline {
        fn drop(&mut self) {
            let _ = fs::write(Self::FILE, "1");
        }
    }

    #[test]
    fn cpus_that_come_and_go_are_followed() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        let all = sampler.cpu_count();
        sampler.arm(Mode::Chains).unwrap();
        let own = own_cgroup();
        let offline = Offline::new();
        assert!(sampler.follow_cpus(|_, _| true, |_| {}).unwrap());
        assert_eq!(sampler.cpu_count(), all - 1);
        assert!(!sampler.follow_cpus(|_, _| true, |_| {}).unwrap(), "nothing has changed since");
        drain_until(&mut sampler, own, |samples| samples.len() > 5);
        drop(offline);
        assert!(sampler.follow_cpus(|_, _| true, |_| {}).unwrap());
        assert_eq!(sampler.cpu_count(), all);
        // The new CPU is armed as the others are.
        assert_all_are_sampled(&mut sampler);
    }

    #[test]
    fn the_kernel_tells_of_cpus_that_go_and_come_and_of_nothing_else() {
        let told_within = |hotplug: &Hotplug, ms: u64| {
            let timeout = timespec(ms * 1_000_000);
            let ready = poll(&mut [PollFd::new(hotplug, PollFlags::IN)], Some(&timeout)).unwrap();
            assert_eq!(hotplug.take(), ready > 0, "who is woken is told something");
            ready > 0
        };
        let hotplug = Hotplug::open().unwrap();
        // In order: had it passed, this one would be first.
        fs::write("/sys/devices/system/cpu/cpu0/uevent", "change").unwrap();
        assert!(
            !told_within(&hotplug, 0),
            "a message of another kind, which was sent before the write returned"
        );
        let offline = Offline::new();
        assert!(told_within(&hotplug, 5_000), "one went");
        assert!(!told_within(&hotplug, 0), "and that is all");
        drop(offline);
        assert!(told_within(&hotplug, 5_000), "it came");
    }

    #[test]
    fn a_cpu_that_went_and_came_between_two_looks_is_sampled_again() {
        let mut sampler = Sampler::open(OPTIONS).unwrap();
        sampler.arm(Mode::Chains).unwrap();
        drop(Offline::new());
        sampler.follow_cpus(|_, _| true, |_| {}).unwrap();
        // What it took before it went.
        sampler.drain_samples(|_, _| false, |_| {});
        assert_all_are_sampled(&mut sampler);
    }

    /// With a thread on each CPU, all of them are seen.
    fn assert_all_are_sampled(sampler: &mut Sampler) {
        let (all, own) = (sampler.cpu_count(), own_cgroup());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..all {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let mut seen = BTreeSet::new();
            let begin = Instant::now();
            while seen.len() < all && begin.elapsed() < DEADLINE {
                sampler.drain_samples(
                    |id, _| id == own,
                    |sample| {
                        seen.insert(sample.cpu);
                    },
                );
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(seen.len(), all, "{seen:?}");
        });
    }
}
