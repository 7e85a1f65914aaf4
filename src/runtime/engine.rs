//! What a runtime must be able to do to be watched by [`watch`](super::watch::watch): connect, list, inspect, tell events.

use std::path::Path;
use std::time::Duration;

use futures_util::Stream;
use thiserror::Error;

use super::book::{Event, Inspected, Listed};
use super::socket::Socket;
use crate::model::{ContainerId, Oddity};

/// Why a runtime gave no answer.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Nobody listens: there is no socket, or no process behind it.
    #[error("nobody listens on it ({0})")]
    Absent(String),
    /// Another runtime listens at a usual socket: it is watched by its own name.
    #[error("it is {0} that listens on it")]
    Another(&'static str),
    /// The runtime does not know the container.
    #[error("no such container")]
    NoSuchContainer,
    /// An answer that could not be understood. Events behind it are lost.
    #[error("answer not understood: {0}")]
    Garbled(String),
    /// No answer within so many seconds.
    #[error("no answer within {0} s")]
    Late(u64),
    /// An answer that is larger than any that is read.
    #[error("answer too large: {0}")]
    TooLarge(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl EngineError {
    /// What is odd about it; nothing where there is nobody to answer.
    pub fn oddity(&self) -> Option<Oddity> {
        match self {
            EngineError::Absent(_) | EngineError::Another(_) => None,
            EngineError::NoSuchContainer => Some(Oddity::Gone),
            EngineError::Garbled(_) | EngineError::TooLarge(_) => Some(Oddity::Garbled),
            EngineError::Late(_) => Some(Oddity::Late),
            EngineError::Other(_) => Some(Oddity::Fault),
        }
    }
}

/// A runtime on a unix socket.
pub trait Engine {
    /// A connection to it.
    type Connection: Connection;

    /// Its name in events, in metrics and in what people are told.
    fn name(&self) -> &'static str;

    /// Where it listens.
    fn socket(&self) -> &Socket;

    /// How often the list is compared with what is known: streams of events drop some without a word.
    fn relist_every(&self) -> Duration;

    /// How long after a stream of events was asked for on `connection` it is sure to tell all of them, where that is not at
    /// once: the list is asked for once more then.
    fn deaf_for(&self, _connection: &Self::Connection) -> Option<Duration> {
        None
    }

    /// Connects to who listens on `socket`.
    fn connect(&self, socket: &Path) -> impl Future<Output = Result<Self::Connection, EngineError>>;
}

/// A runtime that has answered once. Everything that it says is cut to what identity reads.
pub trait Connection {
    /// Every container, running or not.
    fn list(&self) -> impl Future<Output = Result<Vec<Listed>, EngineError>>;

    /// What it says of one container.
    fn inspected(&self, id: &ContainerId) -> impl Future<Output = Result<Inspected, EngineError>>;

    /// What happens from now on; where the runtime remembers, from `since_ns` (nanoseconds since 1970) on. Ends when the
    /// runtime does; nothing is to be expected behind an error.
    fn events(&self, since_ns: i64) -> impl Stream<Item = Result<Event, EngineError>>;
}
