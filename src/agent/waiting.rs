//! Whether a container lives that is no function yet: who asks Kubernetes for it rests while there is none.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Set by the capture thread, waited for by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    any: bool,
    ended: bool,
}

impl Waiting {
    /// Whether there is any.
    pub(super) fn set(&self, any: bool) {
        let mut state = self.lock();
        if state.any != any {
            state.any = any;
            self.changed.notify_all();
        }
    }

    /// Nobody is to wait any more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Whether nobody is to wait any more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Waits until there is one. False at the end.
    pub(super) fn wait(&self) -> bool {
        let waits = |state: &mut State| !state.any && !state.ended;
        let state = self.changed.wait_while(self.lock(), waits).unwrap_or_else(PoisonError::into_inner);
        !state.ended
    }

    /// Rests for `time`. False at the end, and then at once.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let rested = self.changed.wait_timeout_while(self.lock(), time, |state| !state.ended);
        let (state, _) = rested.unwrap_or_else(PoisonError::into_inner);
        !state.ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_is_waited_for_and_the_end_ends_all() {
        let waiting = Arc::<Waiting>::default();
        let theirs = waiting.clone();
        let waits =
            std::thread::spawn(move || (theirs.wait(), theirs.rest(Duration::from_secs(600)), theirs.wait()));
        waiting.set(true);
        waiting.end();
        let (_, rested, again) = waits.join().unwrap();
        assert!(!rested && !again);
        let fresh = Waiting::default();
        fresh.set(true);
        assert!(fresh.wait() && fresh.rest(Duration::ZERO));
    }
}
