//! One walk: from frame to caller until a root, the end of the copy, or where nothing leads on.

use super::code::{
    AFTER_BYTES, Call, RETURN_BYTES, ends_thread, is_returning_from_signal, returns_from_signal,
};
use super::memory::{Memory, State, Stop};
use super::place::{Place, Where};
use super::rule::{Rule, apply_frame_pointer, apply_go, apply_signal_return};
use super::scan::{Budget, Choice};
use super::{End, Frame, Parts, Snapshot};
use crate::stack::space::Mapping;

/// Most frames of a walk.
pub(super) const MAX_FRAMES: usize = 512;
/// Most steps of a walk, those that came to nothing with them.
const MAX_STEPS: u32 = 2_048;
/// Most times a walk may go down or to another stack: signals, and code that changes stacks.
const MAX_SWITCHES: u32 = 8;

/// A walk under way.
pub(super) struct Walk<'a, 'u> {
    pub(super) parts: &'u mut Parts,
    pub(super) mappings: &'a [Mapping],
    pub(super) memory: Memory<'a>,
    pub(super) frames: &'u mut Vec<Frame>,
    pub(super) budget: Budget,
    /// Whether the words of the copy that point into code have been looked for.
    pub(super) has_pointers: bool,
    switches: u32,
}

/// A caller that was found by rule.
struct Caller {
    state: State,
    /// Whether it may lie anywhere, because stacks were changed.
    switched: bool,
}

impl<'a, 'u> Walk<'a, 'u> {
    pub(super) fn new(
        parts: &'u mut Parts,
        mappings: &'a [Mapping],
        snapshot: &Snapshot<'a>,
        frames: &'u mut Vec<Frame>,
    ) -> Walk<'a, 'u> {
        frames.clear();
        parts.choices.clear();
        parts.pointers.clear();
        let (memory, budget) = (Memory::new(snapshot), Budget::new());
        Walk { parts, mappings, memory, frames, budget, has_pointers: false, switches: 0 }
    }

    /// Walks from `state` on.
    pub(super) fn run(mut self, mut state: State) -> End {
        self.frames.push(Frame { address: state.ip(), guessed: false });
        for _ in 0..MAX_STEPS {
            let stop = match self.caller(&state) {
                Ok(_) if self.frames.len() >= MAX_FRAMES => return self.at_limit(),
                Ok(next) => {
                    if next.exact && self.is_signal_under_way(&next) {
                        self.frames.truncate(1);
                    } else {
                        let address = next.ip().wrapping_add(u64::from(next.exact));
                        self.frames.push(Frame { address, guessed: false });
                    }
                    state = next;
                    continue;
                }
                Err(Ended::At(stop)) => stop,
                Err(Ended::NoRule) if self.frames.len() < MAX_FRAMES => match self.guess(&state) {
                    Some(next) => {
                        state = next;
                        continue;
                    }
                    None => return End::Short,
                },
                Err(Ended::NoRule) => return self.at_limit(),
            };
            match stop {
                Stop::Root => return End::Root,
                Stop::Truncated if self.is_believed() => return End::Truncated,
                _ => match self.resume() {
                    Some(next) => state = next,
                    None => return End::Short,
                },
            }
        }
        self.parts.stats.steps_limited += 1;
        self.take_back();
        End::Short
    }

    /// Whether a signal that interrupted `next` was being delivered when the sample was taken: the kernel sets the stack
    /// pointer to the handler's frame before it sets the handler's address. A sample in between has the function twice,
    /// the second time as if it were the handler.
    fn is_signal_under_way(&self, next: &State) -> bool {
        matches!(self.frames[..], [Frame { address, guessed: false }, _] if address == next.ip())
    }

    /// The limit on frames is reached.
    fn at_limit(&mut self) -> End {
        if self.is_believed() {
            return End::Truncated;
        }
        self.take_back();
        End::Short
    }

    /// Takes all back that hangs on a guess.
    fn take_back(&mut self) {
        let kept = self.parts.choices.first().map_or(self.frames.len(), Choice::frames);
        self.frames.truncate(kept);
    }

    /// The caller by rule alone.
    pub(super) fn caller(&mut self, state: &State) -> Result<State, Ended> {
        let found = Where::find(self.mappings, state.lookup());
        let Some(Where::Code(place)) = found else { return Err(Ended::NoRule) };
        let rule = self.rule(&place, state.exact);
        let signal = match &rule {
            Rule::SignalReturn => true,
            Rule::Full(row) => row.signal,
            _ => false,
        };
        // A handler returns to the first instruction of a stub that calls nothing: one before is another function.
        if let (true, false, Some(frame)) = (signal, state.exact, self.frames.last_mut())
            && frame.address == state.ip()
        {
            frame.address = state.ip().wrapping_add(1);
        }
        let (next, switched) = match &rule {
            Rule::None => (self.by_kept_frame_pointer(&place, state)?, false),
            Rule::Root => return Err(Ended::At(Stop::Root)),
            Rule::Plain(plain) => (plain.apply(state, &self.memory)?, false),
            Rule::Full(row) => (row.apply(state, &self.memory)?, row.signal),
            Rule::Go(delta) => (apply_go(*delta, state, &self.memory)?, false),
            Rule::GoSwitch => (apply_frame_pointer(state, &self.memory)?, true),
            Rule::SignalReturn => (apply_signal_return(state, &self.memory)?, true),
        };
        self.check(state, Caller { state: next, switched })
    }

    fn by_kept_frame_pointer(&mut self, place: &Place<'_>, state: &State) -> Result<State, Ended> {
        let keeps = match place.file.map(|file| self.parts.tables.of(file)) {
            Some(Ok(Some(table))) => table.keeps_frame_pointers(),
            _ => false,
        };
        if !keeps {
            return Err(Ended::NoRule);
        }
        match apply_frame_pointer(state, &self.memory) {
            Err(Stop::NoRule) => Err(Ended::NoRule),
            other => Ok(other?),
        }
    }

    /// Whether a caller can be one.
    fn check(&mut self, state: &State, caller: Caller) -> Result<State, Ended> {
        let Caller { state: next, switched } = caller;
        if next.ip() == 0 && !next.exact {
            return Err(Ended::At(Stop::Root)); // where nothing called, the return address is 0
        }
        let grows =
            next.sp() > state.sp() || cfg!(target_arch = "aarch64") && state.exact && next.sp() == state.sp();
        if !grows {
            self.switches += 1;
            if !switched || self.switches > MAX_SWITCHES {
                return Err(Ended::At(Stop::NoRule));
            }
        }
        if Where::find(self.mappings, next.lookup()).is_none() {
            return Err(Ended::At(Stop::NoRule));
        }
        // A chain that hangs on a guess must hold at each link.
        if !self.parts.choices.is_empty() && !next.exact {
            let calls = self.call_before(next.ip()).is_some_and(|(call, _)| call != Call::None);
            if !calls {
                return Err(Ended::At(Stop::NoRule));
            }
        }
        Ok(next)
    }

    fn rule(&mut self, place: &Place<'_>, exact: bool) -> Rule {
        let key = place.offset.wrapping_shl(1) | u64::from(exact);
        if let Some(rule) = self.parts.rules.get(place.id, key) {
            return rule.clone();
        }
        if let Some(row) = self.parts.rows.get(place.id, key) {
            return Rule::Full(row.clone());
        }
        let Some(rule) = self.look_up(place, exact) else { return Rule::None };
        match &rule {
            Rule::Full(row) => self.parts.rows.put(place.id, key, row.clone()),
            rule => self.parts.rules.put(place.id, key, rule.clone()),
        }
        rule
    }

    /// The rule by the file's tables and code; none where the file is closed or the budget spent.
    fn look_up(&mut self, place: &Place<'_>, exact: bool) -> Option<Rule> {
        let mut code = [0; RETURN_BYTES + AFTER_BYTES];
        let at = place.offset.checked_add(u64::from(!exact))?;
        let before = at.min(RETURN_BYTES as u64) as usize;
        let around = place.read(at - before as u64, &mut code).unwrap_or_default();
        let code = around.get(before..).unwrap_or_default();
        // What returns to a trampoline returns to its begin; who is in its system call goes on behind it.
        if returns_from_signal(code) || exact && is_returning_from_signal(around, before) {
            return Some(Rule::SignalReturn);
        }
        let table = match place.file {
            Some(file) => self.parts.tables.of(file).ok()?,
            None => self.parts.tables.vdso(),
        };
        let found = match table.and_then(|table| Some((table, table.address(place.offset)?))) {
            Some((table, address)) => Some(table.rule(address, &mut self.budget.steps)?),
            None => None,
        };
        self.parts.stats.rules_limited += u64::from(found.as_ref().is_some_and(|found| found.limited));
        let rule = found.map_or(Rule::None, |found| found.rule);
        Some(if matches!(rule, Rule::None) && !exact && ends_thread(code) { Rule::Root } else { rule })
    }
}

/// Why there is no caller.
#[derive(Debug)]
pub(super) enum Ended {
    /// There is no rule at all: guessing may help.
    NoRule,
    /// The rule says so, or cannot be followed.
    At(Stop),
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Ended {
        Ended::At(stop)
    }
}
