//! Threads of the agent whose end is heard of: better an agent that ends than one that goes on and records nothing.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::Notify;

/// Starts a thread whose end, a panic too, is told to `broken`.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    broken: &Arc<Notify>,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let told = Told { broken: broken.clone(), of_panics_alone: false };
    start(name, told, run)
}

/// Starts a thread that comes and goes, such as a CPU's: of its end a panic alone is told to `broken`.
pub(super) fn spawn_passing<T: Send + 'static>(
    name: &str,
    broken: &Arc<Notify>,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let told = Told { broken: broken.clone(), of_panics_alone: true };
    start(name, told, run)
}

struct Told {
    broken: Arc<Notify>,
    of_panics_alone: bool,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.of_panics_alone {
            self.broken.notify_one();
        }
    }
}

fn start<T: Send + 'static>(
    name: &str,
    told: Told,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let run = move || {
        let _told = told;
        run()
    };
    std::thread::Builder::new().name(name.into()).spawn(run).with_context(|| format!("start thread {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_heard_of() {
        let broken = Arc::new(Notify::new());
        let thread = spawn("victim", &broken, || panic!("this panic is the test's")).unwrap();
        let reactor = tokio::runtime::Builder::new_current_thread().build().unwrap();
        reactor.block_on(broken.notified());
        assert!(thread.join().is_err());
    }

    #[test]
    fn a_thread_that_comes_and_goes_is_heard_of_when_it_panics_alone() {
        let broken = Arc::new(Notify::new());
        let heard = || std::pin::pin!(broken.notified()).as_mut().enable();
        // Such as the reader of a CPU that was switched off.
        spawn_passing("passing", &broken, || ()).unwrap().join().unwrap();
        assert!(!heard());
        let panics = spawn_passing("passing", &broken, || panic!("this panic is the test's")).unwrap();
        assert!(panics.join().is_err() && heard());
        spawn("staying", &broken, || ()).unwrap().join().unwrap();
        assert!(heard());
    }
}
