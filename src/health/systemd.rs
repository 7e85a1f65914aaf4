//! The service manager's socket: readiness, watchdog, status.
//!
//! The socket is opened once, at the start, so that nothing has to be opened when rights are gone. Where there is no
//! service manager nothing is told, and where it does not listen nothing waits for it.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context as _;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// The one that started this process, as it says in the environment.
    ///
    /// # Errors
    /// It has named a socket that cannot be reached.
    pub fn of_environment() -> anyhow::Result<Systemd> {
        let variable = |name: &str| std::env::var_os(name);
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        let socket = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = socket.as_deref().map(connect).transpose()?;
        Ok(Systemd { watchdog: socket.as_ref().and(watchdog), socket })
    }

    /// How often it wants to hear that the agent works: half of what it waits for; none where it does not.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The agent watches; `status` is for people.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The agent reads its configuration anew; [`Systemd::ready`] ends it.
    pub fn reloading(&self) {
        // The time is what `Type=notify-reload` tells this reload from an earlier one by.
        let now_us = crate::metrics::now_ns() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reading the configuration"));
    }

    /// What the agent does, for people.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=writing what is left");
    }

    /// The agent works.
    pub fn works(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::debug!("tell the service manager {state:?}: {error}");
        }
    }
}

/// `name` is a path, or the name of an abstract socket behind an `@`.
fn connect(name: &OsStr) -> anyhow::Result<UnixDatagram> {
    let open = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match name.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(name)?,
        }
        std::io::Result::Ok(socket)
    };
    open().with_context(|| format!("reach the service manager at NOTIFY_SOCKET={}", name.display()))
}

/// What it waits for; none where it waits for another process.
fn watchdog(usec: Option<OsString>, pid: Option<OsString>, own: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    if pid.is_some_and(|pid| number(&pid) != Some(own.into())) {
        return None;
    }
    let usec = number(&usec?)?;
    // Less than a millisecond is no time that anything keeps.
    (usec >= 1_000).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_this_process_and_a_time() {
        for (usec, pid, expected) in [
            (None, None, None),
            (Some("30000000"), None, Some(30)),
            (Some("30000000"), Some("7"), Some(30)),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (Some("soon"), Some("7"), None),
        ] {
            let (usec_os, pid_os) = (usec.map(OsString::from), pid.map(OsString::from));
            assert_eq!(
                watchdog(usec_os, pid_os, 7).map(|limit| limit.as_secs()),
                expected,
                "{usec:?} {pid:?}"
            );
        }
    }

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("fnscope-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let cases = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (manager, name) in cases {
            let systemd = Systemd { socket: Some(connect(&name).unwrap()), watchdog: None };
            systemd.ready("watching");
            systemd.reloading();
            let mut text = [0; 200];
            let length = manager.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1\nSTATUS=watching");
            let length = manager.recv(&mut text).unwrap();
            assert!(text[..length].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
            drop(manager);
            systemd.works();
        }
        let error = format!("{:#}", connect(OsStr::new("/nowhere/notify")).unwrap_err());
        assert!(error.contains("NOTIFY_SOCKET=/nowhere/notify"), "{error}");
        Systemd::default().stopping();
    }
}
