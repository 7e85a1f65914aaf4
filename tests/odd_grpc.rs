//! A gRPC server on a unix socket that answers what a test tells it to, odd things too: it stands where no real runtime
//! can be made to behave so. Whatever runs here for real is tested on the real one.
//!
//! It knows of messages only that they are bytes. Dropped, its socket is gone and its connections are cut.

use std::convert::Infallible;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A message.
    Message(Vec<u8>),
    /// Several of them, or none.
    Messages(Vec<Vec<u8>>),
    /// Those that a test sends, as long as it may send some.
    Feed(Feed),
    /// A status that is a fault, by its number, and what it says.
    Fault(u16, &'static str),
    /// Bytes that are no gRPC.
    Bytes(Vec<u8>),
    /// Another answer, after a while.
    Late(Duration, Box<Reply>),
    /// Nothing, ever.
    Silence,
}

/// What a test sends while an answer lasts.
#[derive(Debug, Clone)]
pub struct Feed(Arc<tokio::sync::Mutex<UnboundedReceiver<Vec<u8>>>>);

/// A feed, and what messages are sent to it by.
pub fn feed() -> (UnboundedSender<Vec<u8>>, Feed) {
    let (sender, receiver) = unbounded_channel();
    (sender, Feed(Arc::new(tokio::sync::Mutex::new(receiver))))
}

/// `NOT_FOUND`.
pub const NOT_FOUND: u16 = 5;
/// `RESOURCE_EXHAUSTED`.
pub const RESOURCE_EXHAUSTED: u16 = 8;
/// `INTERNAL`.
pub const INTERNAL: u16 = 13;

type Answers = dyn Fn(&str, &[u8]) -> Reply + Send + Sync;
type Body = BoxBody<Bytes, Infallible>;

/// A running server.
pub struct OddGrpc {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OddGrpc {
    /// Starts it on `socket`, in the place of whatever lies there. `answers` gets the method, as
    /// `/package.Service/Method`, and the message.
    pub fn start(socket: &Path, answers: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> OddGrpc {
        // Bound beside it and moved into its place: who connects meets the one before, or this one.
        let beside = socket.with_extension("new");
        let listener = StdListener::bind(&beside).expect("bind a socket");
        std::fs::rename(&beside, socket).expect("put the socket in its place");
        listener.set_nonblocking(true).expect("make it asynchronous");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (end, ended) = oneshot::channel();
        let (answers, log): (Arc<Answers>, _) = (Arc::new(answers), asked.clone());
        let thread = std::thread::spawn(move || {
            let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let reactor = reactor.expect("make an event loop");
            reactor.block_on(async {
                tokio::select! {
                    () = accept(listener, answers, log) => {}
                    _ = ended => {}
                }
            });
        });
        OddGrpc { socket: socket.to_owned(), asked, end: Some(end), thread: Some(thread) }
    }

    /// How often `method` was asked for, by its last word.
    pub fn asked(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|path| path.ends_with(&format!("/{method}"))).count()
    }

    /// Leaves its socket to whoever puts another in its place, and goes on serving those who are connected.
    pub fn leave_socket(&mut self) {
        self.socket = PathBuf::new();
    }
}

impl Drop for OddGrpc {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
        // If it panicked, its test has seen no answer.
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn accept(listener: StdListener, answers: Arc<Answers>, asked: Arc<Mutex<Vec<String>>>) {
    let listener = UnixListener::from_std(listener).expect("listen in the event loop");
    while let Ok((stream, _)) = listener.accept().await {
        let (answers, asked) = (answers.clone(), asked.clone());
        let service = hyper::service::service_fn(move |request| {
            let (answers, asked) = (answers.clone(), asked.clone());
            async move { answer(request, &*answers, &asked).await }
        });
        let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        // One that breaks off is the client's affair.
        tokio::spawn(async move { drop(serve.await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    answers: &Answers,
    asked: &Mutex<Vec<String>>,
) -> Result<Response<Body>, hyper::Error> {
    let method = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(method.clone());
    // A byte that says whether it is compressed, four with its length.
    let mut reply = answers(&method, body.get(5..).unwrap_or_default());
    while let Reply::Late(wait, later) = reply {
        tokio::time::sleep(wait).await;
        reply = *later;
    }
    let mut response = match reply {
        Reply::Message(message) => Response::new(framed(&[message])),
        Reply::Messages(messages) => Response::new(framed(&messages)),
        Reply::Feed(Feed(receiver)) => {
            let told = stream::unfold(receiver, |receiver| async move {
                let message = receiver.lock().await.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(frame(&message))), receiver))
            });
            Response::new(StreamBody::new(told).boxed())
        }
        Reply::Bytes(bytes) => Response::new(Full::new(Bytes::from(bytes)).boxed()),
        Reply::Fault(status, says) => {
            let mut response = Response::new(Full::default().boxed());
            response.headers_mut().extend(trailers(status, says));
            response
        }
        Reply::Late(..) | Reply::Silence => std::future::pending().await,
    };
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn frame(message: &[u8]) -> Bytes {
    let mut data = Vec::with_capacity(message.len() + 5);
    data.put_u8(0);
    data.put_u32(u32::try_from(message.len()).expect("a message fits"));
    data.extend_from_slice(message);
    Bytes::from(data)
}

fn framed(messages: &[Vec<u8>]) -> Body {
    let mut frames: Vec<_> = messages.iter().map(|message| Ok(Frame::data(frame(message)))).collect();
    frames.push(Ok(Frame::trailers(trailers(0, ""))));
    StreamBody::new(stream::iter(frames)).boxed()
}

fn trailers(status: u16, says: &'static str) -> HeaderMap {
    let pairs =
        [("grpc-status", HeaderValue::from(status)), ("grpc-message", HeaderValue::from_static(says))];
    pairs.into_iter().map(|(name, value)| (name.parse().expect("a header's name"), value)).collect()
}
