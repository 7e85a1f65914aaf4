//! A stack as it is stored: frames in the one grammar of [`super::frame`], root first.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// What is wrong, or guessed, about a stack. Bits, so that kinds can be added without a new format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Quality(pub u8);

impl Quality {
    /// Reaches the thread's real root.
    pub const COMPLETE: Quality = Quality(1);
    /// No rule led further up.
    pub const SHORT: Quality = Quality(2);
    /// A limit on depth was reached.
    pub const TRUNCATED: Quality = Quality(4);
    /// Holds frames found by scanning.
    pub const GUESSED: Quality = Quality(8);
    /// Holds at least one frame without a symbol.
    pub const UNSYMBOLIZED: Quality = Quality(16);

    /// Whether every bit of `other` is set.
    pub fn has(self, other: Quality) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Quality) -> Quality {
        Quality(self.0 | other.0)
    }
}

/// Samples by what the quality of their stacks says. A sample may count in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QualityCounts {
    /// Those that reach the thread's root.
    pub complete: u64,
    /// Those that no rule led further up.
    pub short: u64,
    /// Those that reached a limit on depth.
    pub truncated: u64,
    /// Those with frames that were found by scanning.
    pub guessed: u64,
    /// Those with a frame that has no symbol.
    pub unsymbolized: u64,
}

impl QualityCounts {
    /// Counts `samples` of `quality`.
    pub fn add(&mut self, quality: Quality, samples: u64) {
        for (count, bit) in [
            (&mut self.complete, Quality::COMPLETE),
            (&mut self.short, Quality::SHORT),
            (&mut self.truncated, Quality::TRUNCATED),
            (&mut self.guessed, Quality::GUESSED),
            (&mut self.unsymbolized, Quality::UNSYMBOLIZED),
        ] {
            if quality.has(bit) {
                *count = count.saturating_add(samples);
            }
        }
    }

    /// Counts all of `other`.
    pub fn add_all(&mut self, other: QualityCounts) {
        for (count, more) in [
            (&mut self.complete, other.complete),
            (&mut self.short, other.short),
            (&mut self.truncated, other.truncated),
            (&mut self.guessed, other.guessed),
            (&mut self.unsymbolized, other.unsymbolized),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// How many of `samples` have a symbol for every frame.
    pub fn named(&self, samples: u64) -> u64 {
        samples.saturating_sub(self.unsymbolized)
    }
}

/// 128 bits that stand for a text or a stack in this process: it is remembered by them and need not be held. The keys are
/// drawn when the process begins, so that no tenant can choose two that have the same: among 2^40 of them it happens once
/// in 10^14 times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// That of `value`.
    pub fn of(value: &(impl Hash + ?Sized)) -> Fingerprint {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let [first, second] = &*KEYS;
        Fingerprint(first.hash_one(value), second.hash_one(value))
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A symbolized stack. Cheap to compare and to hash: made once for each distinct one, then shared.
#[derive(Debug)]
pub struct Stack {
    frames: Vec<Arc<str>>,
    quality: Quality,
    fingerprint: Fingerprint,
}

impl Stack {
    /// A stack of `frames`, root first, each in the grammar of [`super::frame`].
    pub fn new(frames: Vec<Arc<str>>, quality: Quality) -> Stack {
        let fingerprint = Fingerprint::of(&(&frames, quality));
        Stack { frames, quality, fingerprint }
    }

    /// Its frames, root first.
    pub fn frames(&self) -> &[Arc<str>] {
        &self.frames
    }

    /// Its quality.
    pub fn quality(&self) -> Quality {
        self.quality
    }

    /// What stands for its frames and its quality.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl PartialEq for Stack {
    fn eq(&self, other: &Stack) -> bool {
        std::ptr::eq(self, other)
            || (self.fingerprint == other.fingerprint
                && self.quality == other.quality
                && self.frames == other.frames)
    }
}

impl Eq for Stack {}

impl Hash for Stack {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}
