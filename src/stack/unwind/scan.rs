//! Where no rule leads on: frame pointers, and a guarded search of the stack for return addresses.
//!
//! What is found is a guess and marked so. A word counts only if it lies in an executable mapping of a file, behind a
//! call whose target is code of the same file; and the walk from there must reach a thread's beginning, else the next
//! word is tried. Best is a call of the very function that we are in, or of one that jumps to it. All of it has a
//! budget: a tenant's stack may be full of candidates.

use super::code::{BEFORE_BYTES, Call, call, jumps_to};
use super::memory::{Memory, State};
use super::place::{Gaps, Place, Where};
use super::rule::apply_frame_pointer;
use super::walk::Walk;
use super::{Frame, Registers};

/// Most points of a walk where one of several ways is chosen.
const MAX_CHOICES: usize = 512;
/// How far a call of our own function is looked for, in bytes of stack.
const NEAR_BYTES: u64 = 4_096;
/// How far behind its begin code of a function may lie where starts are not known.
const FUNCTION_BYTES: u64 = 4_096;
/// Frames by rules after which a guess is believed although the copy ends before its root.
const BELIEVED_FRAMES: usize = 4;
/// Bytes of a function in which a jump is looked for.
const JUMP_BYTES: usize = 192;

/// A point of a walk where one of several ways is chosen.
#[derive(Debug)]
pub(super) struct Choice {
    state: State,
    /// Frames that there were.
    frames: usize,
    /// First address of the function we are in, where it is known.
    start: Option<u64>,
    kind: Kind,
    /// The next word to look at.
    at: u64,
}

impl Choice {
    /// Frames that there were.
    pub(super) fn frames(&self) -> usize {
        self.frames
    }
}

/// What is tried, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Calls of our own function, near.
    Own,
    /// The frame pointer.
    FramePointer,
    /// Calls through registers and memory, and calls that come from another file.
    Indirect,
    /// Calls of other functions of the same file, which may have jumped here.
    Other,
}

/// What a walk may spend.
#[derive(Debug)]
pub(super) struct Budget {
    /// Words of the stack that point into code and are looked at for a guess.
    pointers: u32,
    /// Reads of code for a guess.
    reads: u32,
    /// Instructions of unwind programs.
    pub(super) steps: u32,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { pointers: 4_000, reads: 400, steps: 32_768 }
    }
}

fn spend(left: &mut u32) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

impl Walk<'_, '_> {
    /// Opens a choice at `state`, which no rule leads on from, and takes its first way.
    pub(super) fn guess(&mut self, state: &State) -> Option<State> {
        if self.parts.choices.len() >= MAX_CHOICES {
            return self.resume();
        }
        let place = match Where::find(self.mappings, state.lookup()) {
            Some(Where::Code(place)) => Some(place),
            _ => None,
        };
        let start = place.filter(|_| self.parts.options.scan).and_then(|place| self.function(&place));
        // Addresses of the process, as the words on the stack are.
        let start = start.map(|(start, address)| state.lookup().wrapping_sub(address - start));
        let kind = if self.parts.options.scan && place.is_some() { Kind::Own } else { Kind::FramePointer };
        let at = state.sp().checked_next_multiple_of(8).unwrap_or(u64::MAX);
        self.parts.choices.push(Choice { state: *state, frames: self.frames.len(), start, kind, at });
        self.resume()
    }

    /// Takes the next way of the last choice that has one left.
    pub(super) fn resume(&mut self) -> Option<State> {
        while let Some(mut choice) = self.parts.choices.pop() {
            self.frames.truncate(choice.frames);
            if let Some(next) = self.next_way(&mut choice) {
                self.frames.push(Frame { address: next.ip(), guessed: true });
                self.parts.choices.push(choice);
                return Some(next);
            }
        }
        None
    }

    /// Whether a walk that reached the end of the copy is believed.
    pub(super) fn is_believed(&self) -> bool {
        self.parts.choices.last().is_none_or(|choice| self.frames.len() > choice.frames + BELIEVED_FRAMES)
    }

    /// The call that ends at return address `address`.
    pub(super) fn call_before(&mut self, address: u64) -> Option<(Call, Place<'_>)> {
        let Some(Where::Code(place)) = Where::find(self.mappings, address.wrapping_sub(1)) else {
            return None;
        };
        let end = place.offset.checked_add(1)?;
        if let Some(known) = self.parts.calls.get(place.id, end) {
            return Some((*known, place));
        }
        spend(&mut self.budget.reads)?;
        let mut before = [0; BEFORE_BYTES];
        let read = place.read(end.checked_sub(BEFORE_BYTES as u64)?, &mut before)?;
        let found = read.first_chunk().map_or(Call::None, call);
        self.parts.calls.put(place.id, end, found);
        Some((found, place))
    }

    fn next_way(&mut self, choice: &mut Choice) -> Option<State> {
        let scan = self.parts.options.scan;
        loop {
            let found = match choice.kind {
                Kind::FramePointer => self.by_frame_pointer(&choice.state),
                _ => self.by_words(choice),
            };
            if choice.kind != Kind::FramePointer && found.is_some() {
                return found;
            }
            choice.at = choice.state.sp().checked_next_multiple_of(8)?;
            choice.kind = match choice.kind {
                Kind::Own => Kind::FramePointer,
                Kind::FramePointer => Kind::Indirect,
                Kind::Indirect => Kind::Other,
                Kind::Other => return None,
            };
            if !scan && choice.kind == Kind::Indirect {
                choice.kind = Kind::Other;
                choice.at = u64::MAX;
            }
            if found.is_some() {
                return found;
            }
        }
    }

    fn by_frame_pointer(&mut self, state: &State) -> Option<State> {
        let next = plausible_frame_pointer(state, &self.memory)?;
        match Where::find(self.mappings, next.lookup())? {
            Where::Anonymous => Some(next),
            Where::Code(_) => {
                self.call_before(next.ip()).filter(|(call, _)| *call != Call::None).map(|_| next)
            }
        }
    }

    fn by_words(&mut self, choice: &mut Choice) -> Option<State> {
        let end = match choice.kind {
            Kind::Own => self.memory.end().min(choice.state.sp().saturating_add(NEAR_BYTES)),
            _ => self.memory.end(),
        };
        // Outside of the copy nothing is found.
        self.memory.word(choice.at).ok()?;
        self.find_pointers();
        let mut index = self.parts.pointers.partition_point(|(at, _)| *at < choice.at);
        while let Some((at, word)) = self.parts.pointers.get(index).copied().filter(|(at, _)| *at < end) {
            index += 1;
            choice.at = at.checked_add(8)?;
            spend(&mut self.budget.pointers)?;
            if self.kind_of(choice, word) == Some(choice.kind) {
                let mut next = choice.state;
                // What a function of unknown habits has done to registers is not known, but most leave them alone.
                next.set(Registers::SP, at.wrapping_add(8));
                next.set(Registers::IP, word);
                next.exact = false;
                return Some(next);
            }
        }
        None
    }

    /// Looks once for the words of the stack that point into code. Few do, and each choice goes through them several times.
    fn find_pointers(&mut self) {
        if self.has_pointers {
            return;
        }
        self.has_pointers = true;
        let mut gaps = Gaps::default();
        for (at, word) in self.memory.words() {
            if gaps.find(self.mappings, word.wrapping_sub(1)).is_some() {
                self.parts.pointers.push((at, word));
            }
        }
    }

    /// What `word` is as a return address from where `choice` stands; none if it is none.
    fn kind_of(&mut self, choice: &Choice, word: u64) -> Option<Kind> {
        let (call, from) = self.call_before(word)?;
        let (id, from_file) = (from.id, from.file.is_some());
        let target = match call {
            Call::None => return None,
            Call::Indirect => return from_file.then_some(Kind::Indirect),
            Call::Direct(by) => word.checked_add_signed(by)?,
        };
        match Where::find(self.mappings, target)? {
            Where::Code(place) if place.id == id && from_file => {}
            _ => return None,
        }
        let here = choice.state.lookup();
        match Where::find(self.mappings, here) {
            Some(Where::Code(place)) if place.id == id => {}
            _ => return Some(Kind::Indirect),
        }
        let own = match choice.start {
            // Where symbols name only some functions, ours may begin behind the one they name.
            Some(start) => (start..=here).contains(&target) || self.is_jump(target, start),
            None => here.checked_sub(target).is_some_and(|inside| inside < FUNCTION_BYTES),
        };
        Some(if own { Kind::Own } else { Kind::Other })
    }

    /// Whether the function at `from` jumps to the one at `to`, which then returns to the caller of the first.
    fn is_jump(&mut self, from: u64, to: u64) -> bool {
        let Some(Where::Code(place)) = Where::find(self.mappings, from) else { return false };
        let apart = to.wrapping_sub(from);
        if let Some((_, jumps)) =
            self.parts.jumps.get(place.id, place.offset).filter(|known| known.0 == apart)
        {
            return *jumps;
        }
        if spend(&mut self.budget.reads).is_none() {
            return false;
        }
        let mut code = [0; JUMP_BYTES];
        let jumps = place.read(place.offset, &mut code).is_some_and(|code| jumps_to(code, from, to));
        self.parts.jumps.put(place.id, place.offset, (apart, jumps));
        jumps
    }

    /// The virtual address of the function at `place`, and that of the place.
    fn function(&mut self, place: &Place<'_>) -> Option<(u64, u64)> {
        self.parts.tables.function(place.file?, place.offset)
    }
}

/// The caller by the frame pointer, if the pair it points at looks like one.
fn plausible_frame_pointer(state: &State, memory: &Memory<'_>) -> Option<State> {
    let pointer = state.get(Registers::FP).ok()?;
    let next = apply_frame_pointer(state, memory).ok()?;
    let saved = next.get(Registers::FP);
    let upward = |saved: u64| saved == 0 || saved > pointer && saved.is_multiple_of(8);
    saved.is_ok_and(upward).then_some(next)
}
