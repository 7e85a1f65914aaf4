//! gRPC over unix sockets, as containerd and CRI-O speak it: a channel, and what its faults mean.
//!
//! | file | what |
//! |---|---|
//! | `containerd`, `cri` | the clients, made by `tests/grpc/make`; nobody changes them by hand |
//!
//! Promises: a request has a time limit, an answer a largest size. Not here: what is asked.

#[expect(missing_docs, clippy::all, reason = "made, not written")]
pub mod containerd;
#[expect(missing_docs, clippy::all, reason = "made, not written")]
pub mod cri;

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::engine::EngineError;

/// Largest answer in bytes: what the CRI's own clients take.
pub const MAX_ANSWER: usize = 16 << 20;
/// For the socket, which is on this host.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Window of a connection and of a stream in bytes: the events of a burst fit.
const WINDOW: u32 = 1 << 20;

/// A channel to who listens on `socket`. When the connection breaks, requests fail: who wants it anew makes another channel.
///
/// # Errors
/// Nobody listens, or does not speak HTTP/2.
pub async fn connect(socket: &Path) -> Result<Channel, EngineError> {
    // Looked at beforehand, because what tonic says of a failed connection does not tell which failure it was.
    match tokio::time::timeout(CONNECT_LIMIT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(EngineError::Absent(error.to_string())),
        Err(_) => {
            return Err(EngineError::Other(format!("no connection within {} s", CONNECT_LIMIT.as_secs())));
        }
    }
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The authority: servers refuse a path for one.
    let endpoint = Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_LIMIT)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        EngineError::Other(cause)
    })
}

/// The answer to `request` within `limit`.
///
/// # Errors
/// There is none in time, or it is a fault: see [`fault`].
pub async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(fault),
        Err(_) => Err(EngineError::Late(limit.as_secs())),
    }
}

/// What a status means.
pub fn fault(status: Status) -> EngineError {
    let says = || format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::NotFound => EngineError::NoSuchContainer,
        // As tonic calls a message over our limit, and a server written in Go one over its own. Bytes that are no message
        // come as Internal.
        Code::OutOfRange | Code::ResourceExhausted => EngineError::TooLarge(says()),
        Code::Internal | Code::DataLoss => EngineError::Garbled(says()),
        // The connection is gone.
        Code::Unavailable => EngineError::Absent(says()),
        _ => EngineError::Other(says()),
    }
}
