//! One life of one container: what is known of it, and what of that has been told.

use super::claim::Claim;
use super::{Moment, Settled};
use crate::model::{
    CgroupId, Confidence, CpuSource, Entry, Fact, Identity, InstanceInfo, InstanceNo, Timestamp,
};

/// Whether it is a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not known yet; samples wait.
    Undecided,
    /// Cannot be known now; samples go on unnamed.
    Unknown,
    /// Yes.
    Function,
    /// Yes; but what the host samples of it is its sandbox's.
    Unseen,
    /// No.
    Foreign,
}

impl Fate {
    pub(super) fn is_wanted(self) -> bool {
        self != Fate::Foreign
    }

    /// Whether its samples are, or may be, a function's own.
    pub(super) fn is_sampled(self) -> bool {
        self.is_wanted() && self != Fate::Unseen
    }
}

pub(super) struct Instance<S> {
    pub(super) no: InstanceNo,
    pub(super) info: InstanceInfo,
    /// The runtime whose it can only be, as far as its path says.
    pub(super) owner: Option<&'static str>,
    pub(super) born_ns: u64,
    pub(super) fate: Fate,
    pub(super) buffer: Vec<S>,
    pub(super) buffer_bytes: usize,
    /// What the samples stand for that wait.
    pub(super) buffer_count: u64,
    pub(super) dropped: u64,
    /// Samples of its sandbox that were dropped and not told of yet, and when some were last.
    hidden: u64,
    hidden_told_ns: u64,
    pub(super) nested: Vec<CgroupId>,
    pub(super) first_sample: Option<Timestamp>,
    /// Whether what it is was found out without a runtime: whatever one says holds from the start.
    pub(super) is_discovered: bool,
    /// Whether the store knows of it.
    declared: bool,
    /// What its runtime's claim says, of a container of which name; and what it is: another one where that was learned
    /// later.
    claimed: Option<(Identity, Option<String>)>,
    identity: Option<Identity>,
    /// When the container was made whose claim settled it, where ids are used again.
    pub(super) claimed_since: Option<Timestamp>,
    /// Since when it is what was learned last, of that which was learned later.
    learned_from: Option<Timestamp>,
    exec_at: Option<Timestamp>,
    /// The last exec of a runtime, init or tini: the function's own if no other follows.
    runtime_exec_at: Option<Timestamp>,
    /// A reading that waits until the store knows of it.
    usage_at_exec: Option<(Timestamp, u64)>,
    usage: Option<(Timestamp, u64, CpuSource)>,
    usage_told: Option<(u64, CpuSource)>,
    /// The last of each kind, and whether the store was told: few, most often one or two.
    facts: Vec<(Timestamp, Fact, bool)>,
    /// The kernel's word on its end, which is nearer than the runtime's.
    ended_at: Option<Timestamp>,
    exit: Option<(Option<i32>, bool)>,
    pub(super) gone: bool,
}

/// How long to wait for a function's exec behind that of an init before the init is taken for the function.
const EXEC_WAIT_US: i64 = 1_000_000;
/// Between two words on how many samples were a sandbox's.
const HIDDEN_WAIT_NS: u64 = 1_000_000_000;

/// Whether a process named `comm` after its exec is the container's runtime or an init, not the function.
///
/// runc re-executes itself from a sealed copy, so its own name is a number, `exe`, or that of the memory file.
pub fn is_runtime_command(comm: &str) -> bool {
    const NAMES: [&str; 14] = [
        "runc",
        "crun",
        "youki",
        "runsc",
        "exe",
        "docker-init",
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "init",
        "podman-init",
        "conmon",
        "pause",
    ];
    NAMES.contains(&comm)
        || comm.starts_with("runc:[")
        || comm.starts_with("memfd:")
        || comm.starts_with("runc_clone")
        || comm.starts_with("containerd-shi")
        || (!comm.is_empty() && comm.bytes().all(|b| b.is_ascii_digit()))
}

impl<S> Instance<S> {
    pub(super) fn new(
        no: InstanceNo,
        info: InstanceInfo,
        owner: Option<&'static str>,
        born_ns: u64,
    ) -> Instance<S> {
        Instance {
            no,
            info,
            owner,
            born_ns,
            fate: Fate::Undecided,
            buffer: Vec::new(),
            buffer_bytes: 0,
            buffer_count: 0,
            dropped: 0,
            hidden: 0,
            hidden_told_ns: 0,
            nested: Vec::new(),
            first_sample: None,
            is_discovered: false,
            declared: false,
            claimed: None,
            identity: None,
            claimed_since: None,
            learned_from: None,
            exec_at: None,
            runtime_exec_at: None,
            usage_at_exec: None,
            usage: None,
            usage_told: None,
            facts: Vec::new(),
            ended_at: None,
            exit: None,
            gone: false,
        }
    }

    /// Takes a decision, and lets go of the samples that waited for it.
    pub(super) fn decide(&mut self, fate: Fate, claim: Option<&Claim>, at: Moment, out: &mut Settled<S>) {
        let waiting = std::mem::take(&mut self.buffer);
        self.buffer_bytes = 0;
        let waited = std::mem::take(&mut self.buffer_count);
        let first_decision = self.identity.is_none() || std::mem::take(&mut self.is_discovered);
        self.fate = fate;
        match fate {
            Fate::Function | Fate::Unknown => {
                self.declare(claim, &mut out.entries);
                out.samples.extend(waiting.into_iter().map(|sample| (self.no, sample)));
                if self.dropped > 0 {
                    let count = std::mem::take(&mut self.dropped);
                    out.entries.push(Entry::Dropped {
                        no: self.no,
                        at: at.wall,
                        reason: "buffer".into(),
                        count,
                    });
                }
            }
            Fate::Unseen => {
                self.declare(claim, &mut out.entries);
                self.hidden += waited + std::mem::take(&mut self.dropped);
            }
            // Nobody ever heard of it: nothing to take back.
            Fate::Foreign if !self.declared => return,
            Fate::Foreign | Fate::Undecided => self.declare(claim, &mut out.entries),
        }
        for fact in claim.iter().flat_map(|claim| &claim.facts) {
            self.fact(at.wall, fact.clone());
        }
        let (identity, name) = match (claim, fate) {
            (Some(claim), _) => (claim.identity.clone(), claim.name.clone()),
            (None, Fate::Foreign) => (Identity::not_a_function("unclaimed"), None),
            (None, _) => return,
        };
        if self.claimed.as_ref().is_none_or(|(claimed, _)| *claimed != identity) {
            // What a container was made of does not change: told better, it holds from the start, but for a new name.
            let same_name = self.claimed.as_ref().is_some_and(|(_, known)| claim.is_some() && *known == name);
            let from = if first_decision || same_name { self.info.started_at } else { at.wall };
            self.claimed = Some((identity.clone(), name));
            self.made(identity, from, &mut out.entries);
        }
    }

    /// Samples that stand for `count` are its sandbox's.
    pub(super) fn hide(&mut self, count: u64) {
        self.hidden = self.hidden.saturating_add(count);
    }

    /// Whether samples of it wait for a decision, or were dropped while they did.
    pub(super) fn holds_samples(&self) -> bool {
        self.fate == Fate::Undecided && (self.dropped > 0 || !self.buffer.is_empty())
    }

    /// Whether nobody has said that it is a container, and only two plain names in its path look like one.
    pub(super) fn is_guess(&self) -> bool {
        self.info.runtime.is_none() && self.claimed.is_none() && self.info.container_id.contains('/')
    }

    /// What it is, as far as anybody has said.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// What it is, where that may still change.
    pub(super) fn open_identity(&self) -> Option<&Identity> {
        self.identity.as_ref().filter(|identity| identity.is_told_by_children())
    }

    /// Whether it lived at `at`, or began `apart_us` later at most.
    pub(super) fn lived(&self, at: Timestamp, apart_us: i64) -> bool {
        self.info.started_at <= at.plus_us(apart_us) && self.ended_at.is_none_or(|ended| at <= ended)
    }

    /// It is another function from `from` on; what its runtime says of its making changes nothing in that.
    pub(super) fn became(&mut self, identity: Identity, from: Timestamp, entries: &mut Vec<Entry>) {
        let mut from = from.max(self.info.started_at);
        // What its own processes said of it was said of what it was given by then.
        let childs_word = self.identity.as_ref().is_some_and(Identity::is_childs_word);
        if let Some(since) = self.learned_from.filter(|_| childs_word && !identity.is_childs_word()) {
            from = from.min(since);
        }
        // A second function takes nothing back of what the first has done.
        if let Some(since) = self.learned_from.filter(|_| identity.confidence == Confidence::Ambiguous) {
            from = from.max(since.plus_us(1));
        }
        entries.push(Entry::Identity { no: self.no, from, identity: identity.clone() });
        // What is told late of an earlier moment holds from then on: what was thought between is over.
        if let Some(since) = self.learned_from.filter(|since| *since > from) {
            entries.push(Entry::Identity { no: self.no, from: since, identity: identity.clone() });
        }
        self.learned_from = self.learned_from.max(Some(from));
        self.identity = Some(identity);
    }

    /// Its runtime says what it is from `from` on.
    fn made(&mut self, identity: Identity, from: Timestamp, entries: &mut Vec<Entry>) {
        entries.push(Entry::Identity { no: self.no, from, identity: identity.clone() });
        if self.learned_from.is_none_or(|since| from >= since) {
            self.identity = Some(identity);
        }
    }

    /// Tells the store of it: once, and again when a runtime adds what it knows.
    fn declare(&mut self, claim: Option<&Claim>, entries: &mut Vec<Entry>) {
        // The first program that it runs on the host is none of the function's.
        if self.fate == Fate::Unseen {
            (self.exec_at, self.runtime_exec_at, self.usage_at_exec) = (None, None, None);
        }
        let mut news = !self.declared;
        if let Some(claim) = claim
            && (self.info.runtime.as_deref() != Some(&claim.runtime) || self.info.image != claim.image)
        {
            self.info.runtime = Some(claim.runtime.clone());
            self.info.image.clone_from(&claim.image);
            news = true;
        }
        if !news {
            return;
        }
        entries.push(Entry::Instance { no: self.no, info: self.info.clone() });
        if !self.declared {
            self.declared = true;
            if let Some(at) = self.exec_at {
                entries.push(Entry::Exec { no: self.no, at });
            }
            self.tell_usage_at_exec(entries);
            self.tell_end(entries);
        }
    }

    /// A process of it called exec. True if that was the function's own.
    pub(super) fn exec(&mut self, comm: &str, at: Timestamp, entries: &mut Vec<Entry>) -> bool {
        if self.exec_at.is_some() || self.fate == Fate::Unseen {
            return false;
        }
        if is_runtime_command(comm) {
            self.runtime_exec_at = Some(at);
            return false;
        }
        self.set_exec(at, entries);
        true
    }

    /// What its account was at the function's exec: where its runtime's part ends. Kept beside later readings, at the
    /// exec's own time: it is read a millisecond behind it, and nothing nearer will ever be known.
    pub(super) fn usage_at_exec(&mut self, cpu_us: u64, entries: &mut Vec<Entry>) {
        self.usage_at_exec = self.exec_at.map(|at| (at, cpu_us));
        if self.declared {
            self.tell_usage_at_exec(entries);
        }
    }

    fn tell_usage_at_exec(&mut self, entries: &mut Vec<Entry>) {
        if let Some((at, cpu_us)) = self.usage_at_exec.take() {
            entries.push(Entry::Usage { no: self.no, at, cpu_us, source: CpuSource::Running });
        }
    }

    fn set_exec(&mut self, at: Timestamp, entries: &mut Vec<Entry>) {
        self.exec_at = Some(at);
        if self.declared {
            entries.push(Entry::Exec { no: self.no, at });
        }
    }

    /// Remembers a reading. One that is less sure never replaces a surer one of the same amount.
    pub(super) fn usage(&mut self, at: Timestamp, cpu_us: u64, source: CpuSource) {
        let better = self.usage.is_none_or(|(_, known, known_source)| {
            cpu_us > known || (cpu_us == known && source < known_source)
        });
        if better {
            self.usage = Some((at, cpu_us, source));
        }
    }

    /// Remembers a fact. That it runs is none as long as it was never paused. True if it is new.
    pub(super) fn fact(&mut self, at: Timestamp, fact: Fact) -> bool {
        match self.facts.iter_mut().find(|(_, known, _)| known.kind() == fact.kind()) {
            Some((_, known, _)) if *known == fact => false,
            Some(known) => {
                *known = (at, fact, false);
                true
            }
            None if fact == Fact::Frozen(false) => false,
            None => {
                self.facts.push((at, fact, false));
                true
            }
        }
    }

    pub(super) fn exited(&mut self, code: Option<i32>, oom: bool, at: Timestamp, entries: &mut Vec<Entry>) {
        self.ended_at.get_or_insert(at);
        self.exit = Some((code, oom));
        self.tell_end(entries);
    }

    pub(super) fn cgroup_gone(&mut self, ended: Timestamp, entries: &mut Vec<Entry>) {
        self.gone = true;
        self.ended_at = Some(ended);
        self.tell_end(entries);
        self.nested.shrink_to_fit();
    }

    fn tell_end(&self, entries: &mut Vec<Entry>) {
        if let Some(at) = self.ended_at
            && self.declared
            && (self.gone || self.exit.is_some())
        {
            let (exit_code, oom) = self.exit.unwrap_or((None, false));
            entries.push(Entry::Ended { no: self.no, at, exit_code, oom });
        }
    }

    /// Tells what has changed, and settles what the exec was if no better one came. Whether time alone may still change
    /// anything.
    pub(super) fn tick(&mut self, now: Moment, entries: &mut Vec<Entry>) -> bool {
        let mut waits = match self.fate {
            Fate::Undecided => true,
            Fate::Unknown => !self.gone,
            Fate::Function | Fate::Unseen | Fate::Foreign => false,
        };
        if self.exec_at.is_none() && self.fate.is_sampled() {
            let fallback = self.runtime_exec_at.or(self.first_sample);
            let due = |at: &Timestamp| self.gone || now.wall.since_us(*at) >= EXEC_WAIT_US;
            match fallback.filter(due) {
                Some(at) => self.set_exec(at, entries),
                None => waits |= fallback.is_some(),
            }
        }
        if self.hidden > 0 {
            let due = self.gone || now.ns.saturating_sub(self.hidden_told_ns) >= HIDDEN_WAIT_NS;
            waits |= !due;
            if due {
                self.hidden_told_ns = now.ns;
                let (count, reason) = (std::mem::take(&mut self.hidden), Entry::UNSEEN.into());
                entries.push(Entry::Dropped { no: self.no, at: now.wall, reason, count });
            }
        }
        if let Some((at, cpu_us, source)) = self.usage
            && self.declared
            && self.usage_told != Some((cpu_us, source))
        {
            self.usage_told = Some((cpu_us, source));
            entries.push(Entry::Usage { no: self.no, at, cpu_us, source });
        }
        if self.declared {
            for (at, fact, told) in self.facts.iter_mut().filter(|(.., told)| !told) {
                *told = true;
                entries.push(Entry::Fact { no: self.no, at: *at, fact: fact.clone() });
            }
        }
        waits
    }
}
