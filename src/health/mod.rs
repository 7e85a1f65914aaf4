//! Whether the agent is well, and telling it: to who asks, and to systemd.
//!
//! | file | what |
//! |---|---|
//! | [`judge`] | what holds and what does not, of what the threads told; pure |
//! | [`probe`] | asks a running agent, without a shell and without curl |
//! | [`systemd`] | readiness, watchdog and status, to the service manager |
//!
//! *Live* is whether the threads keep to what they owe: a restart would mend it where they do not. *Ready* is whether
//! what functions do is recorded: rings open, store written, a runtime that answers. Not here: the listener
//! ([`crate::http`]).

pub mod judge;
pub mod probe;
pub mod systemd;
