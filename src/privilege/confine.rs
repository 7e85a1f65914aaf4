//! Giving up: capabilities, new privileges, and every system call that the agent does not need.
//!
//! [`Sandbox::confine`] is called once, when all is open and before any other thread is there: threads inherit. What is
//! held by the process from then on is what its capture and reader threads need; every other thread gives up the rest
//! at its own start. Threads share their memory, so this is no wall between them: it is that a flaw in what parses
//! files of containers, which is Rust without unsafe code, has little to ask the kernel for: the parser nothing but to
//! read what it holds, the keeper files and the store.

use std::io;

use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

use super::calls::{ALL, DISCOVERY, FETCHER, KEEPER, LOGS, PARSER, PODS, REST, RUNTIMES};
use super::capabilities::{DISCOVERS, kept, names};
use super::filter;
use crate::sys;

/// Highest capability that is looked for; the kernel says where its own end.
const MAX_CAPABILITY: u32 = 63;

/// Why the agent could not give something up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Other threads would keep what they have.
    #[error(
        "give up rights: {0} threads run already; this is a fault of fnscope, run with sandbox = \"off\" until it is mended"
    )]
    Threads(usize),
    /// The kernel, or what a container runtime put before it, refused.
    #[error("{what}: {source}; {cure}, or run with sandbox = \"off\"")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// What would let it.
        cure: &'static str,
    },
}

/// Which of its threads one is: what it may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The one that waits for signals and answers for its health.
    Main,
    /// Capture, and the threads that it starts: readers, and the one that hears of new cgroups. They keep what the
    /// process does, but for the fetcher's network.
    Capture,
    /// Keeper and seal: they name what was sampled, and write the store.
    Keeper,
    /// It is handed open files of containers, and parses them.
    Parser,
    /// It talks to an engine.
    Runtimes,
    /// It reads what the host shows of containers that no runtime has claimed. It keeps the rights to read that of
    /// other users' processes, and no others.
    Discovery,
    /// It fetches debug files.
    Fetcher,
    /// It follows logs of platforms.
    Logs,
    /// It asks Kubernetes for labels of pods.
    Pods,
}

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Names of the capabilities that the process keeps.
    pub kept: Vec<String>,
    /// Names of those that it held and gave up.
    pub dropped: Vec<String>,
    /// Whether they are also out of reach of any program it could start: not without CAP_SETPCAP.
    pub bounded: bool,
}

/// A process that has given up what it does not need, or one that keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sandbox {
    on: bool,
    network: bool,
}

impl Sandbox {
    /// No thread gives anything up.
    pub fn off() -> Sandbox {
        Sandbox { on: false, network: false }
    }

    /// Gives up, for good: every capability but those that are needed while the agent runs, `no_new_privs`, and each
    /// system call outside the table; `network` says that debug files are fetched, or Kubernetes is asked.
    ///
    /// # Errors
    /// More than one thread runs, or something was refused. What was given up until then stays so.
    pub fn confine(network: bool) -> Result<(Sandbox, GivenUp), ConfineError> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        if threads > 1 {
            return Err(ConfineError::Threads(threads));
        }
        let refused = |what, cure| {
            move |source: rustix::io::Errno| ConfineError::Refused { what, source: source.into(), cure }
        };
        let capset = refused("give up capabilities", "let the seccomp profile pass capget and capset");
        let held = capabilities(None).map_err(capset)?;
        let kept = kept(held.permitted.bits());
        let bounded = held.effective.contains(CapabilitySet::SETPCAP);
        if bounded {
            bound(kept).map_err(refused("bound capabilities", "let the seccomp profile pass prctl"))?;
        }
        // Kernels before 4.3 have none.
        let _ = clear_ambient_capability_set();
        hold(kept).map_err(refused("give up capabilities", "let the seccomp profile pass capset"))?;
        set_no_new_privs(true).map_err(refused("set no_new_privs", "let the seccomp profile pass prctl"))?;
        install(ALL, network)?;
        let dropped = held.permitted.bits() & !kept;
        let given = GivenUp { kept: names(kept), dropped: names(dropped), bounded };
        Ok((Sandbox { on: true, network }, given))
    }

    /// In the calling thread: gives up what `part` has no use for, all capabilities among it but for those of
    /// [`Part::Capture`], and two of [`Part::Discovery`].
    ///
    /// # Errors
    /// The kernel refused.
    pub fn give_up(self, part: Part) -> Result<(), ConfineError> {
        if !self.on {
            return Ok(());
        }
        let cure = "let the seccomp profile pass capset";
        if part != Part::Capture {
            let kept = match part {
                Part::Discovery => capabilities(None).map(|held| held.permitted.bits() & DISCOVERS),
                _ => Ok(0),
            };
            kept.and_then(hold).map_err(|source| ConfineError::Refused {
                what: "give up capabilities",
                source: source.into(),
                cure,
            })?;
        }
        match part {
            // A second filter of the same calls would only cost time.
            Part::Main | Part::Capture if !self.network => Ok(()),
            Part::Main | Part::Capture => install(REST, false),
            Part::Keeper => install(KEEPER, false),
            Part::Parser => install(PARSER, false),
            Part::Runtimes => install(RUNTIMES, false),
            Part::Discovery => install(DISCOVERY, false),
            Part::Fetcher => install(FETCHER, self.network),
            Part::Logs => install(LOGS, false),
            Part::Pods => install(PODS, self.network),
        }
    }

    /// What `make` makes, made by a thread of `part`: the threads that it starts hold no more than that.
    ///
    /// # Errors
    /// The kernel refused to take rights away.
    pub fn made_by<T: Send>(self, part: Part, make: impl FnOnce() -> T + Send) -> Result<T, ConfineError> {
        if !self.on {
            return Ok(make());
        }
        std::thread::scope(|scope| {
            let made = scope.spawn(move || self.give_up(part).map(|()| make()));
            made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Permitted and effective, and nothing to inherit.
fn hold(bits: u64) -> rustix::io::Result<()> {
    let set = CapabilitySet::from_bits_retain(bits);
    set_capabilities(
        None,
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() },
    )
}

/// Puts all but `kept` out of reach, and has uid 0 stand for nothing, for good.
fn bound(kept: u64) -> rustix::io::Result<()> {
    use CapabilitiesSecureBits as Bits;
    for number in 0..=MAX_CAPABILITY {
        if kept >> number & 1 == 1 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            removed => removed?,
        }
    }
    // Where a runtime has locked them in another way they stay so: `no_new_privs` says the same of programs.
    let _ = set_capabilities_secure_bits(
        Bits::NO_ROOT
            | Bits::NO_ROOT_LOCKED
            | Bits::NO_SETUID_FIXUP
            | Bits::NO_SETUID_FIXUP_LOCKED
            | Bits::KEEP_CAPS_LOCKED
            | Bits::NO_CAP_AMBIENT_RAISE
            | Bits::NO_CAP_AMBIENT_RAISE_LOCKED,
    );
    Ok(())
}

fn install(who: u8, network: bool) -> Result<(), ConfineError> {
    let refused = |source| ConfineError::Refused {
        what: "install the filter of system calls",
        source,
        cure: "use a kernel built with CONFIG_SECCOMP_FILTER",
    };
    let programs = filter::programs(who, network).map_err(|error| refused(io::Error::other(error)))?;
    for mut program in programs {
        sys::install_filter(&mut program).map_err(refused)?;
    }
    Ok(())
}
