//! Steps of doing less: which are taken now, how often each was, and for how long.
//!
//! Steps come and go in seconds, so they stand behind a lock that nothing of the sampling takes.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepState {
    /// Its name.
    pub name: &'static str,
    /// How often it was taken.
    pub count: u64,
    /// How long it lasted when it was taken before, in nanoseconds.
    past_ns: u64,
    /// Since when it lasts, by the monotonic clock in nanoseconds, while it does.
    since_ns: Option<u64>,
}

impl StepState {
    /// Whether it lasts.
    pub fn is_taken(&self) -> bool {
        self.since_ns.is_some()
    }

    /// How long it has lasted in all at `now_ns`, in nanoseconds.
    pub fn lasted_ns(&self, now_ns: u64) -> u64 {
        let present = self.since_ns.map_or(0, |since| now_ns.saturating_sub(since));
        self.past_ns.saturating_add(present)
    }
}

/// The steps, in the order in which they were first named.
#[derive(Debug, Default)]
pub struct Steps(Mutex<Vec<StepState>>);

impl Steps {
    /// Names steps that may be taken, so that they are told before they are.
    pub fn declare(&self, names: &[&'static str]) {
        let mut steps = self.lock();
        names.iter().for_each(|name| {
            find(&mut steps, name);
        });
    }

    /// `name` is taken at `now_ns`. Nothing changes where it is already.
    pub fn take(&self, name: &'static str, now_ns: u64) {
        let mut steps = self.lock();
        let step = find(&mut steps, name);
        if step.since_ns.is_none() {
            step.since_ns = Some(now_ns);
            step.count += 1;
        }
    }

    /// `name` is taken back at `now_ns`.
    pub fn take_back(&self, name: &'static str, now_ns: u64) {
        let mut steps = self.lock();
        let step = find(&mut steps, name);
        if let Some(since_ns) = step.since_ns.take() {
            step.past_ns = step.past_ns.saturating_add(now_ns.saturating_sub(since_ns));
        }
    }

    /// All of them as they are.
    pub fn all(&self) -> Vec<StepState> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StepState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(steps: &'a mut Vec<StepState>, name: &'static str) -> &'a mut StepState {
    let at = steps.iter().position(|step| step.name == name).unwrap_or_else(|| {
        steps.push(StepState { name, count: 0, past_ns: 0, since_ns: None });
        steps.len() - 1
    });
    &mut steps[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_counted_once_each_time_and_its_time_adds_up() {
        let steps = Steps::default();
        steps.declare(&["copies", "rate"]);
        steps.declare(&["rate"]);
        steps.take("rate", 10);
        steps.take("rate", 20);
        steps.take_back("rate", 40);
        steps.take_back("rate", 50);
        steps.take("rate", 100);
        let all = steps.all();
        let told = |step: &StepState| (step.name, step.count, step.is_taken(), step.lasted_ns(105));
        assert_eq!(
            all.iter().map(told).collect::<Vec<_>>(),
            [("copies", 0, false, 0), ("rate", 2, true, 35)]
        );
    }
}
