//! What is told over HTTP.
//!
//! | file | what |
//! |---|---|
//! | [`serve`] | connections, with limits on how many, how long and how large |
//! | [`health`] | `/healthz`, `/readyz`, `/metrics` |
//!
//! The health listener is one of its own: it may be opened to a Prometheus without a token, so nothing of a function,
//! not even a name, is ever told there.

pub mod health;
pub mod serve;
