//! Requests whose answers are read piece by piece: what makes them large is what tenants write on containers and images,
//! and the client that asks for the rest takes in any answer whole.
//!
//! Each has a connection of its own, as that client's have, and it ends with the answer. Not here: time limits.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::runtime::engine::EngineError;

/// What is read of a fault, in bytes.
const MAX_FAULT: usize = 16 << 10;
/// What is told of a fault and of bytes that are not understood, in characters: they quote.
const MAX_TOLD: usize = 300;

/// The answer to a request, as it comes.
pub struct Answer {
    body: Incoming,
    /// The connection lasts as long as these.
    _sender: SendRequest<Empty<Bytes>>,
    _connection: JoinSet<()>,
}

/// Asks who listens on `socket` for `path`.
///
/// # Errors
/// Nobody listens, or does not speak HTTP; or the answer is a fault.
pub async fn get(socket: &Path, path: &str) -> Result<Answer, EngineError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| EngineError::Absent(error.to_string()))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(other)?;
    let mut connections = JoinSet::new();
    connections.spawn(async move {
        // What breaks it is told by the answer.
        let _ = connection.await;
    });
    let request = Request::get(path).header("Host", "localhost").body(Empty::new()).map_err(other)?;
    let response = sender.send_request(request).await.map_err(other)?;
    let status = response.status();
    let answer = Answer { body: response.into_body(), _sender: sender, _connection: connections };
    match status {
        StatusCode::OK => Ok(answer),
        StatusCode::NOT_FOUND => Err(EngineError::NoSuchContainer),
        _ => {
            let said = answer.whole(MAX_FAULT).await.unwrap_or_default();
            let said =
                serde_json::from_slice(&said).map_or_else(|_| String::new(), |Fault { message }| message);
            Err(EngineError::Other(cut(format!("it answers {status}: {said}"))))
        }
    }
}

impl Answer {
    /// The next piece of it; none at its end.
    ///
    /// # Errors
    /// It breaks off.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, EngineError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(piece) = frame.map_err(other)?.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// All of it, where that is no more than `most` bytes.
    ///
    /// # Errors
    /// It is more, or breaks off.
    pub async fn whole(mut self, most: usize) -> Result<Vec<u8>, EngineError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > most {
                return Err(EngineError::TooLarge(format!("it is longer than {most} bytes")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// What `json` says.
///
/// # Errors
/// It says something else.
pub fn parsed<T: DeserializeOwned>(json: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(json).map_err(|error| EngineError::Garbled(cut(error.to_string())))
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

fn other(error: impl std::error::Error) -> EngineError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    EngineError::Other(cut(format!("{error}{cause}")))
}

fn cut(text: String) -> String {
    if text.len() <= MAX_TOLD { text } else { text.chars().take(MAX_TOLD).chain(['…']).collect() }
}
