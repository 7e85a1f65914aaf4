//! An HTTPS server of a test's own, on any port of this host: what it answers, the test says, request by request.
//!
//! TLS is real: a certificate for 127.0.0.1, signed by an authority that the test makes, whose certificate lies in a file.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub path: String,
    /// The header `authorization`.
    pub authorization: Option<String>,
}

/// What is answered.
pub enum Answer {
    /// A status and a body.
    Body(u16, String),
    /// 200, and lines as they are sent; the end when the sender is gone.
    Lines(Receiver<String>),
    /// A part of a body that was said to be longer.
    Cut(String),
    /// Bytes as they are, instead of HTTP.
    Raw(Vec<u8>),
    /// Nothing, until the client goes away.
    Silence,
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server. It ends when it is dropped.
pub struct HttpsServer {
    port: u16,
    ca: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    listens: Option<JoinHandle<()>>,
}

impl HttpsServer {
    /// Starts it; the certificate of its authority is written into `directory`.
    pub fn start(
        directory: &Path,
        answers: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> HttpsServer {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("a certificate");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).expect("sign itself");
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let own = own.signed_by(&key, &issuer).expect("sign it");
        let ca = directory.join("ca.crt");
        std::fs::write(&ca, authority_certificate.pem()).expect("write a certificate");

        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)
            .expect("its own certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let (requests, ended) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let (theirs, told, answers) = (requests.clone(), ended.clone(), Arc::new(answers));
        let listens = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (config, requests, answers) = (config.clone(), theirs.clone(), answers.clone());
                // It ends with its connection.
                std::thread::spawn(move || serve(connection, config, &requests, &*answers));
            }
        });
        HttpsServer { port, ca, requests, ended, listens: Some(listens) }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file with its authority's certificate.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// What was asked until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // One more connection, that it looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(listens) = self.listens.take() {
            let _ = listens.join();
        }
    }
}

fn serve(
    connection: TcpStream,
    config: Arc<ServerConfig>,
    requests: &Mutex<Vec<Request>>,
    answers: &Answers,
) {
    let Ok(tls) = ServerConnection::new(config) else { return };
    // A client that does not trust the certificate goes away.
    let mut stream = BufReader::new(StreamOwned::new(tls, connection));
    while let Some(request) = request(&mut stream) {
        requests.lock().expect("nobody panics with it").push(request.clone());
        if answer(stream.get_mut(), answers(&request)).is_err() {
            return;
        }
    }
}

fn request(from: &mut impl std::io::BufRead) -> Option<Request> {
    let mut first = String::new();
    from.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut authorization = None;
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some(Request { path, authorization });
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.into());
        }
    }
}

fn answer(to: &mut (impl Read + Write), answer: Answer) -> std::io::Result<()> {
    let head = |status: u16, length: usize| {
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
    };
    match answer {
        Answer::Body(status, body) => write!(to, "{}{body}", head(status, body.len()))?,
        Answer::Cut(body) => {
            write!(to, "{}{body}", head(200, body.len() + 100))?;
            to.flush()?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Answer::Raw(bytes) => {
            to.write_all(&bytes)?;
            to.flush()?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Answer::Lines(lines) => {
            write!(
                to,
                "HTTP/1.1 200 x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            )?;
            to.flush()?;
            for line in lines {
                write!(to, "{:x}\r\n{line}\n\r\n", line.len() + 1)?;
                to.flush()?;
            }
            write!(to, "0\r\n\r\n")?;
        }
        Answer::Silence => {
            // Until it goes away, or so long that a test that waits for it has failed.
            let _ = to.read(&mut [0]);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    to.flush()
}
