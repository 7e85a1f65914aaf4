//! Events scoped by cgroups (`attach = "per-cgroup"`): each container's are opened when its cgroup is made.
//!
//! Nobody tells of that in perf records where events are scoped (kernels that need it cannot): a thread of its own waits
//! for inotify to, so that it is heard while stacks are walked. From a cgroup's making to the function's exec a runtime
//! takes ten milliseconds and more.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::Notify;

use super::{Capture, NICE, Shared};
use crate::agent::threads::spawn;
use crate::cgroup::{CgroupWatch, Heard, MAX_DEPTH};
use crate::model::{CgroupId, InstanceNo};
use crate::perf::{Clock, PerfError};

/// The running thread.
pub(super) struct Newcomers {
    thread: JoinHandle<()>,
    end: Arc<OwnedFd>,
}

impl Newcomers {
    /// Starts it, if there is something to listen to.
    pub(super) fn start(shared: &Arc<Shared>, broken: &Arc<Notify>) -> anyhow::Result<Option<Newcomers>> {
        let made = match &shared.lock().newcomers {
            Some(watch) => watch.as_fd().try_clone_to_owned()?,
            None => return Ok(None),
        };
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (shared, ended) = (shared.clone(), end.clone());
        let thread = spawn("fnscope-cgroups", broken, move || listen(&shared, &made, &ended))?;
        Ok(Some(Newcomers { thread, end }))
    }

    /// Ends it.
    pub(super) fn end(self) {
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        // If it panicked, it has told so.
        let _ = self.thread.join();
    }
}

fn listen(shared: &Shared, made: &OwnedFd, end: &OwnedFd) {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("new cgroups are heard of at the usual priority: {error}");
    }
    loop {
        let mut ready = [PollFd::new(made, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        // Interrupted, it looks at everything anyway.
        let _ = poll(&mut ready, None);
        let [_, ended] = ready;
        if !ended.revents().is_empty() {
            return;
        }
        let mut capture = shared.lock();
        capture.take_newcomers();
        capture.follow_demand();
    }
}

impl Capture {
    /// Begins to listen for new cgroups, where events are scoped by them.
    pub(super) fn listen_for_newcomers(&mut self) {
        if !self.setup.sampler.is_scoped() {
            return;
        }
        match CgroupWatch::new(&self.setup.cgroups) {
            Ok(watch) => self.newcomers = Some(watch),
            Err(error) => tracing::error!(
                "watch the cgroups of this host: {error}; containers are found when their first process runs; \
                 mend: sysctl fs.inotify.max_user_watches=65536"
            ),
        }
    }

    /// Takes in cgroups that were made since.
    pub(super) fn take_newcomers(&mut self) {
        let Some(watch) = &mut self.newcomers else { return };
        for heard in watch.take() {
            match heard {
                Heard::Made(path) => self.made(&path),
                Heard::Overflow => self.rescan = true,
            }
        }
    }

    /// A cgroup was made: it, and what was made in it before it was watched, as deep as trees are walked.
    pub(super) fn made(&mut self, path: &str) {
        let Ok(id) = self.setup.cgroups.id(path) else { return };
        let at = self.moment(Clock::monotonic_ns());
        self.cgroup_seen(id, path, at, true);
        if self.setup.attribution.instance_at(path).is_some() {
            return;
        }
        self.listen_below(path);
        if path.matches('/').count() >= MAX_DEPTH {
            return;
        }
        let mut below = Vec::new();
        self.setup.cgroups.children(path, |child| below.push(child));
        below.iter().for_each(|child| self.made(child));
    }

    /// Hears of what is made in the cgroup at `path`, which is no container.
    pub(super) fn listen_below(&mut self, path: &str) {
        let Some(watch) = &mut self.newcomers else { return };
        if let Err(error) = watch.follow(path)
            && !std::mem::replace(&mut self.told_of_watches, true)
        {
            tracing::warn!(
                path,
                "watch a cgroup: {error}; containers in it are found late; mend: sysctl fs.inotify.max_user_watches=65536"
            );
        }
    }

    /// Opens the events of an instance, where events are scoped.
    pub(super) fn attach(&mut self, id: CgroupId, path: &str) {
        if !self.setup.sampler.is_scoped() {
            return;
        }
        let attached = match self.setup.cgroups.open_dir(path) {
            Ok(Some(dir)) => self.setup.sampler.attach(id, dir).map_err(anyhow::Error::from),
            Ok(None) => Ok(()),
            Err(error) => Err(anyhow::Error::from(error).context("open its cgroup")),
        };
        let Err(error) = attached else { return };
        // Gone already: nothing runs in it.
        if matches!(error.downcast_ref(), Some(PerfError::CgroupGone { .. })) {
            return;
        }
        self.stats.unattached += 1;
        if !std::mem::replace(&mut self.told_of_attach, true) {
            tracing::error!(path, "{error:#}; this container is not sampled, and others may not be");
        }
    }

    /// An instance has ended, or is none of ours: nothing of it is kept open.
    pub(super) fn leave(&mut self, no: InstanceNo) {
        if let Some(id) = self.accounts.close(no) {
            self.setup.sampler.detach(id);
            self.stop_switches(id);
            self.switching.forget(id);
        }
        self.plain.remove(&no);
        self.waiting_stale = true;
    }
}
