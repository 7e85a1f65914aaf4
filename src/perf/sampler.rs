//! The sampler: three rings on every online CPU, or four, armed and disarmed as a whole; one more while switches of
//! threads are watched.
//!
//! The ring of new cgroups always runs and always wakes. The side-band ring, what happens to processes, always runs,
//! and wakes while the sampler is armed: what went on before the first container is there to be read when it comes,
//! and costs a host without containers nothing. Of the two sample rings, one with chains and one with copies of stacks
//! as well, one runs while it is armed, and hands out only samples of cgroups somebody wants. CPUs that come are opened,
//! CPUs that go are drained and closed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::cpus::{self, Online};
use super::event::{PerfError, Sampling, open_cgroups, open_side_band};
use super::options::{RingOptions, SWITCH_BYTES, SWITCH_COPY_BYTES, switch_bytes};
use super::record::{Layout, RawSample, SideBand, Stamped, Switch, parse_side_band};
use super::ring::Ring;
use super::sample_ring::SampleRing;
use super::switches::SwitchRing;
use super::told::Told;
use super::wait::{CpuWait, Kind};
use crate::model::{CgroupId, CpuStats};

/// What is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Off,
    /// The kernel's chains.
    Chains,
    /// Chains, with a copy of the user's registers and stack.
    Copies,
}

/// The open events of this host.
pub struct Sampler {
    cpus: BTreeMap<u32, CpuRings>,
    online: Online,
    /// Statistics of CPUs that went away before they were asked for.
    gone: Vec<CpuStats>,
    /// What their side-band rings still held.
    left: Vec<Stamped<SideBand>>,
    /// And their rings of switches.
    left_switches: Vec<Stamped<Switch>>,
    options: RingOptions,
    mode: Mode,
    /// Directories of cgroups that are sampled, where events are scoped by them.
    attached: BTreeMap<CgroupId, OwnedFd>,
    /// Those of which switches are watched.
    switching: BTreeMap<CgroupId, OwnedFd>,
    /// Whether samples were taken at any time since the statistics were asked for.
    was_armed: bool,
    told: Told,
}

struct CpuRings {
    /// See [`cpus::coming`].
    coming: u64,
    wait: Arc<CpuWait>,
    /// None where events are scoped by cgroups: kernels that need that tell of none.
    cgroups: Option<Ring>,
    side_band: Ring,
    chains: SampleRing,
    copies: Option<SampleRing>,
    /// While switches of any cgroup are watched.
    switches: Option<SwitchRing>,
}

impl Sampler {
    /// Opens both events on every online CPU; samples are not taken before [`Sampler::arm`].
    ///
    /// # Errors
    /// Says which CPU, what was refused and what would allow it.
    pub fn open(options: RingOptions) -> Result<Sampler, PerfError> {
        let online = Online::open().map_err(PerfError::Cpus)?;
        let cpus = online.read().map_err(PerfError::Cpus)?;
        let mut sampler = Sampler {
            cpus: BTreeMap::new(),
            online,
            gone: Vec::new(),
            left: Vec::new(),
            left_switches: Vec::new(),
            options,
            mode: Mode::Off,
            attached: BTreeMap::new(),
            switching: BTreeMap::new(),
            was_armed: false,
            told: Told::default(),
        };
        for cpu in cpus {
            match sampler.open_cpu(cpu) {
                // Should it come again, it is followed.
                Ok(()) | Err(PerfError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sampler)
    }

    /// CPUs that are open.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Bytes of locked memory that the rings take.
    pub fn ring_bytes(&self) -> usize {
        let watching = self.cpus.values().filter(|rings| rings.switches.is_some()).count();
        self.cpus.len() * self.options.cpu_bytes() + watching * switch_bytes()
    }

    /// Whether events are scoped by cgroups, each of which is to be attached.
    pub fn is_scoped(&self) -> bool {
        self.options.scoped
    }

    /// What is sampled.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The rings of each CPU, to wait for.
    pub fn waits(&self) -> impl Iterator<Item = &Arc<CpuWait>> {
        self.cpus.values().map(|rings| &rings.wait)
    }

    /// Starts, changes or stops sampling, and being woken by the side-band, on all CPUs; 2-38 us a CPU. What the
    /// side-band holds already wakes nobody (the kernel tells once, and has told the epoll as it was added): drain it
    /// after arming. Where copies were not asked for when it was opened, chains are what is sampled.
    ///
    /// # Errors
    /// The kernel's, for the first CPU that refused; the others are switched all the same.
    pub fn arm(&mut self, mode: Mode) -> Result<(), PerfError> {
        let was = std::mem::replace(&mut self.mode, mode);
        self.was_armed |= mode != Mode::Off;
        if mode == Mode::Off {
            self.told.clear();
        }
        let mut result = Ok(());
        for (cpu, rings) in &self.cpus {
            if let Err(error) = rings.switch(*cpu, was, mode) {
                result = Err(error);
            }
        }
        result
    }

    /// Samples the cgroup of directory `dir` too, and what is below it, where events are scoped by cgroups: on all CPUs,
    /// or on none. A CPU that has gone is left out.
    ///
    /// # Errors
    /// The kernel's, for the first CPU that refused: too many open files, for one. [`PerfError::CgroupGone`] where
    /// nothing runs in it any more.
    pub fn attach(&mut self, cgroup: CgroupId, dir: OwnedFd) -> Result<(), PerfError> {
        if !self.options.scoped {
            return Ok(());
        }
        let mode = self.mode;
        let mut attached = self.cpus.iter_mut().map(|(cpu, rings)| rings.attach(*cpu, cgroup, &dir, mode));
        let result = attached.try_for_each(unless_gone);
        self.attached.insert(cgroup, dir);
        if result.is_err() {
            self.detach(cgroup);
        }
        result
    }

    /// No more; a cgroup that is removed is kept alive by its events.
    pub fn detach(&mut self, cgroup: CgroupId) {
        if self.attached.remove(&cgroup).is_some() {
            self.cpus.values_mut().for_each(|rings| rings.detach(cgroup));
        }
    }

    /// Watches every switch of the threads in the cgroup of directory `dir` and below it: on all CPUs, or on none. A CPU
    /// that has gone is left out.
    ///
    /// # Errors
    /// As of [`Sampler::attach`].
    pub fn watch_switches(&mut self, cgroup: CgroupId, dir: OwnedFd) -> Result<(), PerfError> {
        let copies = self.options.copies.is_some();
        let mut watched = self.cpus.iter_mut().map(|(cpu, rings)| rings.watch(*cpu, cgroup, &dir, copies));
        let result = watched.try_for_each(unless_gone);
        self.switching.insert(cgroup, dir);
        if result.is_err() {
            self.leave_switches(cgroup);
        }
        result
    }

    /// No more. True if they were watched.
    pub fn leave_switches(&mut self, cgroup: CgroupId) -> bool {
        let watched = self.switching.remove(&cgroup).is_some();
        if watched {
            self.cpus.values_mut().for_each(|rings| rings.leave(cgroup));
        }
        watched
    }

    /// Everything the rings of switches hold, added to `out` unordered.
    pub fn drain_switches(&mut self, out: &mut Vec<Stamped<Switch>>) {
        out.append(&mut self.left_switches);
        for rings in self.cpus.values_mut() {
            if let Some(switches) = &mut rings.switches {
                switches.drain(out);
                if self.switching.is_empty() {
                    rings.switches = None;
                }
            }
        }
    }

    /// Everything the rings of the side-band and of new cgroups hold, added to `out` unordered. Returns how full the
    /// fullest side-band ring was, in percent.
    pub fn drain_side_band(&mut self, out: &mut Vec<Stamped<SideBand>>) -> u64 {
        out.append(&mut self.left);
        let fullest = self.cpus.values_mut().map(|rings| rings.drain_processes(out)).max().unwrap_or(0);
        // Behind the processes: whatever one of them did in a cgroup, that was made before.
        for rings in self.cpus.values_mut() {
            rings.drain_cgroups(out);
        }
        fullest * 100 / self.options.side_band_bytes.max(1) as u64
    }

    /// Every sample that `wanted` wants, by its cgroup and its time (monotonic clock, nanoseconds); unordered.
    pub fn drain_samples(&mut self, wanted: impl Fn(CgroupId, u64) -> bool, mut each: impl FnMut(RawSample)) {
        for rings in self.cpus.values_mut() {
            rings.drain_samples(&wanted, &mut each, &mut self.told);
        }
    }

    /// The same of one CPU alone.
    pub fn drain_samples_of(
        &mut self,
        cpu: u32,
        wanted: impl Fn(CgroupId, u64) -> bool,
        mut each: impl FnMut(RawSample),
    ) {
        if let Some(rings) = self.cpus.get_mut(&cpu) {
            rings.drain_samples(&wanted, &mut each, &mut self.told);
        }
    }

    /// Samples seen and lost on each CPU since the last call.
    pub fn take_stats(&mut self) -> Vec<CpuStats> {
        let mut stats = std::mem::take(&mut self.gone);
        // Asking for the kernel's count interrupts the CPU: only where samples were taken at all.
        let ask = std::mem::replace(&mut self.was_armed, self.mode != Mode::Off);
        stats.extend(self.cpus.iter_mut().map(|(cpu, rings)| rings.take_stats(*cpu, ask)));
        stats
    }

    /// Opens CPUs that have come and closes those that have gone, draining them first. True if anything changed.
    ///
    /// # Errors
    /// The list cannot be read, or a new CPU refuses; the others go on.
    pub fn follow_cpus(
        &mut self,
        wanted: impl Fn(CgroupId, u64) -> bool,
        mut each: impl FnMut(RawSample),
    ) -> Result<bool, PerfError> {
        let online = self.online.read().map_err(PerfError::Cpus)?;
        // The events of a CPU that went and came again, as all but the first do while a machine sleeps, are dead.
        let stays =
            |(cpu, rings): (&u32, &CpuRings)| online.contains(cpu) && cpus::coming(*cpu) == rings.coming;
        let gone: Vec<u32> = self.cpus.iter().filter(|open| !stays(*open)).map(|(cpu, _)| *cpu).collect();
        if gone.is_empty() && online.len() == self.cpus.len() {
            return Ok(false);
        }
        for cpu in gone {
            if let Some(mut rings) = self.cpus.remove(&cpu) {
                rings.drain_samples(&wanted, &mut each, &mut self.told);
                rings.drain_processes(&mut self.left);
                rings.drain_cgroups(&mut self.left);
                if let Some(switches) = &mut rings.switches {
                    switches.drain(&mut self.left_switches);
                }
                self.gone.push(rings.take_stats(cpu, true));
            }
        }
        let mut result = Ok(true);
        for cpu in online {
            if !self.cpus.contains_key(&cpu)
                && let Err(error) = self.open_cpu(cpu)
                && !matches!(error, PerfError::Gone { .. })
            {
                result = Err(error);
            }
        }
        result
    }

    fn open_cpu(&mut self, cpu: u32) -> Result<(), PerfError> {
        let RingOptions { hz, sample_bytes, side_band_bytes, cgroup_bytes, copies, event, scoped } =
            self.options;
        // Before the events: one that goes meanwhile is opened again.
        let coming = cpus::coming(cpu);
        let map = |event, bytes| {
            let ring = Ring::new(event, bytes, Layout::default());
            ring.map_err(|source| PerfError::Map { cpu, bytes, source })
        };
        let sampling = |bytes: usize, copy_bytes: Option<u32>| {
            let layout = Layout { copies: copy_bytes.is_some(), scoped };
            SampleRing::open(cpu, Sampling { event, hz, copy_bytes: copy_bytes.unwrap_or(0), layout }, bytes)
        };
        let cgroups = || map(open_cgroups(cpu)?, cgroup_bytes);
        let mut rings = CpuRings {
            coming,
            wait: Arc::new(CpuWait::new(cpu)?),
            cgroups: (!scoped).then(cgroups).transpose()?,
            side_band: map(open_side_band(cpu)?, side_band_bytes)?,
            chains: sampling(sample_bytes, None)?,
            copies: copies.map(|copies| sampling(copies.ring_bytes, Some(copies.stack_bytes))).transpose()?,
            switches: None,
        };
        if let Some(cgroups) = &rings.cgroups {
            rings.wait.hear(cgroups.fd(), Kind::Cgroups)?;
        }
        for samples in rings.sample_rings() {
            rings.wait.hear(samples.fd(), Kind::Samples)?;
        }
        // One cgroup that is refused is no reason to do without the CPU.
        for (cgroup, dir) in &self.attached {
            let attached = rings.attach(cpu, *cgroup, dir, self.mode);
            told(attached, cpu, *cgroup, "its container is not sampled")?;
        }
        for (cgroup, dir) in &self.switching {
            let watched = rings.watch(cpu, *cgroup, dir, copies.is_some());
            told(watched, cpu, *cgroup, "its time off the cpu is not recorded")?;
        }
        rings.switch(cpu, Mode::Off, self.mode)?;
        self.cpus.insert(cpu, rings);
        Ok(())
    }
}

/// A CPU that has gone is no refusal: what is open there is closed as soon as that is seen.
fn unless_gone(done: Result<(), PerfError>) -> Result<(), PerfError> {
    done.or_else(|error| if matches!(error, PerfError::Gone { .. }) { Ok(()) } else { Err(error) })
}

/// Tells what `cgroup` does without on a CPU that has come; it is an error only where that CPU has gone again.
fn told(done: Result<(), PerfError>, cpu: u32, cgroup: CgroupId, without: &str) -> Result<(), PerfError> {
    match done {
        // Nothing runs in it.
        Ok(()) | Err(PerfError::CgroupGone { .. }) => Ok(()),
        Err(error @ PerfError::Gone { .. }) => Err(error),
        Err(error) => {
            tracing::error!(cgroup = cgroup.0, "{error}; {without} on cpu {cpu}");
            Ok(())
        }
    }
}

impl CpuRings {
    fn sample_rings(&self) -> impl Iterator<Item = &SampleRing> {
        std::iter::once(&self.chains).chain(&self.copies)
    }

    /// Changes what is sampled. The side-band is heard while anything is.
    fn switch(&self, cpu: u32, was: Mode, mode: Mode) -> Result<(), PerfError> {
        let heard = match (was == Mode::Off, mode == Mode::Off) {
            (true, false) => self.wait.hear(self.side_band.fd(), Kind::Processes),
            (false, true) => self.wait.leave(self.side_band.fd()),
            _ => Ok(()),
        };
        let copies = mode == Mode::Copies && self.copies.is_some();
        let what = "switch the sampling event";
        let mut result = heard;
        // What stops, stops first: no moment counts twice.
        for on in [false, true] {
            for samples in self.sample_rings() {
                if on == (mode != Mode::Off && samples.copies() == copies)
                    && let Err(source) = samples.enable(on)
                {
                    result = Err(PerfError::Other { what, cpu, source });
                }
            }
        }
        result
    }

    fn drain_processes(&mut self, out: &mut Vec<Stamped<SideBand>>) -> u64 {
        self.side_band.drain(|bytes| out.extend(parse_side_band(bytes)))
    }

    fn drain_cgroups(&mut self, out: &mut Vec<Stamped<SideBand>>) {
        if let Some(cgroups) = &mut self.cgroups {
            cgroups.drain(|bytes| out.extend(parse_side_band(bytes)));
        }
    }

    fn attach(&mut self, cpu: u32, cgroup: CgroupId, dir: &OwnedFd, mode: Mode) -> Result<(), PerfError> {
        let copies = mode == Mode::Copies && self.copies.is_some();
        for samples in std::iter::once(&mut self.chains).chain(&mut self.copies) {
            let on = mode != Mode::Off && samples.copies() == copies;
            samples.attach(cpu, cgroup, dir.as_fd(), on)?;
        }
        Ok(())
    }

    fn detach(&mut self, cgroup: CgroupId) {
        for samples in std::iter::once(&mut self.chains).chain(&mut self.copies) {
            samples.detach(cgroup);
        }
    }

    fn watch(&mut self, cpu: u32, cgroup: CgroupId, dir: &OwnedFd, copies: bool) -> Result<(), PerfError> {
        let switches = match &mut self.switches {
            Some(switches) => switches,
            none => {
                let switches = SwitchRing::open(cpu, SWITCH_BYTES, copies.then_some(SWITCH_COPY_BYTES))?;
                self.wait.hear(switches.fd(), Kind::Samples)?;
                none.insert(switches)
            }
        };
        switches.attach(cpu, cgroup, dir.as_fd())
    }

    fn leave(&mut self, cgroup: CgroupId) {
        if let Some(switches) = &mut self.switches {
            switches.detach(cgroup);
        }
    }

    fn drain_samples(
        &mut self,
        wanted: &impl Fn(CgroupId, u64) -> bool,
        each: &mut impl FnMut(RawSample),
        told: &mut Told,
    ) {
        for samples in std::iter::once(&mut self.chains).chain(&mut self.copies) {
            samples.drain(wanted, each, told);
        }
    }

    fn take_stats(&mut self, cpu: u32, ask: bool) -> CpuStats {
        let mut stats = CpuStats { cpu, samples: 0, lost: 0 };
        for samples in std::iter::once(&mut self.chains).chain(&mut self.copies) {
            stats.samples += samples.take_seen();
            stats.lost += samples.take_lost(ask);
        }
        stats
    }
}
