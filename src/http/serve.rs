//! Connections, with limits: what a stranger does to the listener costs the agent little and hinders nobody.
//!
//! A connection carries one request and lasts seconds. There are at most [`MAX_CONNECTIONS`]: one more ends the oldest,
//! so that idle ones cannot keep anybody out, and then no more than a hundred are taken in a second. Requests with
//! bodies are answered and their bodies not read.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 32;
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How large a request's head may be, in bytes; the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// How many headers it may have.
const MAX_HEADERS: usize = 64;
/// The pause behind a connection that has ended another one, or that could not be taken.
const CROWDED: Duration = Duration::from_millis(10);

/// Opens `address`, which the configuration calls `key`. What connects from now on waits until somebody serves it.
///
/// # Errors
/// It is in use, no address of this host, or not ours to open.
pub fn listen(address: SocketAddr, key: &str) -> anyhow::Result<std::net::TcpListener> {
    let open = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    open().with_context(|| {
        format!("listen on {address}; {key} names another address and port, or \"off\" for none")
    })
}

/// Serves `routes` on `listener` until `shutdown`; then what is under way ends.
///
/// # Errors
/// The listener is none that can be waited for.
pub async fn run(
    listener: std::net::TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut shutdown = pin!(shutdown);
    let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(MAX_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let crowded = match accepted {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                let oldest = if open.len() >= MAX_CONNECTIONS { open.pop_front() } else { None };
                open.push_back(tokio::spawn(connection(stream, routes.clone())).abort_handle());
                oldest.inspect(AbortHandle::abort).is_some()
            }
            Err(error) => {
                tracing::debug!("a connection was not taken: {error}");
                true
            }
        };
        if crowded {
            tokio::select! {
                () = &mut shutdown => break,
                () = tokio::time::sleep(CROWDED) => {}
            }
        }
    }
    open.iter().for_each(AbortHandle::abort);
    Ok(())
}

async fn connection(stream: TcpStream, routes: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // Who breaks off, or sends what is no request, has been told as much as can be; nobody else needs to know.
    let _ = tokio::time::timeout(CONNECTION_TIME, served).await;
}
