//! A small https server that can be told to misbehave. It shares no code with the client.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    /// The whole head, in lower case.
    pub(super) head: String,
}

impl Request {
    /// Where the wanted range begins.
    pub(super) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok()
    }

    /// The last byte of the wanted range, if the request says so.
    pub(super) fn last(&self) -> Option<usize> {
        self.header("range")?.split_once('-')?.1.parse().ok()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One thing to do on a connection. After the last one it is closed.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<u8>),
    Pause(Duration),
    /// Say nothing for ever.
    Stall,
    /// Send this for as long as somebody listens.
    Endless(Vec<u8>),
    /// The connection breaks off, without a word of TLS or TCP that it is over.
    Reset,
}

/// How to answer one request.
#[derive(Clone, Debug)]
pub(super) enum Script {
    /// As a good server does.
    Good,
    /// Well, but the connection ends after so many bytes of the body.
    Cut(usize),
    /// The same, by a reset.
    Reset(usize),
    /// Well, but after so many bytes of the body nothing more comes.
    StallAfter(usize),
    /// The whole file, whatever was asked for; ends after so many bytes.
    Whole(usize),
    /// Just this.
    Acts(Vec<Act>),
    /// This status and these header lines, without a body.
    Status(u16, &'static str),
    /// Whatever this makes of it, with a number to choose by.
    Made(Make, u64),
}

/// Makes an answer of the request, the file and its entity tag.
pub(super) type Make = fn(&Request, &[u8], Option<&str>, u64) -> Vec<Act>;

struct Shared {
    file: Vec<u8>,
    etag: Option<String>,
    extra: String,
    /// Scripts for the next requests; when there are none left, all are answered well.
    scripts: VecDeque<Script>,
    /// How every request is answered for which there is no script.
    usual: Script,
    log: Vec<Request>,
    sent: u64,
    connections: usize,
    /// Other versions of the file, and after how many requests they take its place.
    later: VecDeque<(usize, Vec<u8>, String)>,
    /// Has no ranges.
    is_plain: bool,
}

/// As whom a server presents itself.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Whom to trust to trust it.
    pub(super) authority: CertificateDer<'static>,
}

impl Identity {
    /// A certificate for these names that vouches for itself.
    pub(super) fn of(names: &[&str]) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let authority = certificate.der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { chain: vec![authority.clone()], key, authority }
    }
}

/// A client configuration that trusts just this authority.
pub(super) fn trusting(authority: &CertificateDer<'_>) -> Arc<rustls::ClientConfig> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    std::fs::write(&path, pem).unwrap();
    crate::tls::client_config(&crate::tls::Settings {
        ca_files: vec![path],
        system_roots: false,
        ..crate::tls::Settings::default()
    })
    .unwrap()
}

/// The server; stops with the test.
pub(super) struct Server {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    runtime: Handle,
    authority: CertificateDer<'static>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Server {
    pub(super) fn start(file: Vec<u8>) -> Self {
        Self::start_as(file, Identity::of(&["127.0.0.1", "localhost"]))
    }

    pub(super) fn start_as(file: Vec<u8>, Identity { chain, key, authority }: Identity) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            file,
            etag: Some("\"one\"".into()),
            extra: String::new(),
            scripts: VecDeque::new(),
            usual: Script::Good,
            log: Vec::new(),
            sent: 0,
            connections: 0,
            later: VecDeque::new(),
            is_plain: false,
        }));
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let for_thread = shared.clone();
        // As in the daemon: one thread runs the runtime, and the image's thread only waits for it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send((listener.local_addr().unwrap(), handle)).unwrap();
                tokio::spawn(async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(serve(acceptor.clone(), stream, for_thread.clone()));
                    }
                });
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        });
        let (address, runtime) = told.recv().unwrap();
        Self { address, shared, runtime, authority, stop: Some(stop) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.address.port())
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    /// A client configuration that trusts this server.
    pub(super) fn tls(&self) -> Arc<rustls::ClientConfig> {
        trusting(&self.authority)
    }

    pub(super) fn then(&self, script: Script) -> &Self {
        self.shared.lock().unwrap().scripts.push_back(script);
        self
    }

    /// From now on every request is answered so, when there are no scripts left.
    pub(super) fn always(&self, script: Script) {
        self.shared.lock().unwrap().usual = script;
    }

    /// Another version of the file.
    pub(super) fn replace(&self, file: Vec<u8>, etag: &str) -> &Self {
        let mut shared = self.shared.lock().unwrap();
        (shared.file, shared.etag) = (file, Some(etag.to_owned()));
        drop(shared);
        self
    }

    /// Another version of the file after so many requests.
    pub(super) fn replace_after(&self, requests: usize, file: Vec<u8>, etag: &str) -> &Self {
        self.shared.lock().unwrap().later.push_back((requests, file, etag.to_owned()));
        self
    }

    /// What it serves.
    pub(super) fn file(&self) -> Vec<u8> {
        self.shared.lock().unwrap().file.clone()
    }

    /// From now on it knows no ranges.
    pub(super) fn without_ranges(&self) {
        self.shared.lock().unwrap().is_plain = true;
    }

    pub(super) fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }

    pub(super) fn without_etag(&self) {
        self.shared.lock().unwrap().etag = None;
    }

    /// Header lines for every good answer, each with its line end.
    pub(super) fn always_say(&self, lines: &str) {
        self.shared.lock().unwrap().extra = lines.to_owned();
    }

    pub(super) fn log(&self) -> Vec<Request> {
        self.shared.lock().unwrap().log.clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.shared.lock().unwrap().log.len()
    }

    /// How many bytes of bodies were sent.
    pub(super) fn sent(&self) -> u64 {
        self.shared.lock().unwrap().sent
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, shared: Arc<Mutex<Shared>>) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    shared.lock().unwrap().connections += 1;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let request = Request { path, head: head.to_ascii_lowercase() };
        let (acts, stays) = shared.lock().unwrap().answer(&request);
        shared.lock().unwrap().log.push(request);
        for act in acts {
            match act {
                Act::Send(bytes) => {
                    for piece in bytes.chunks(16 << 10) {
                        stream.write_all(piece).await.ok()?;
                        shared.lock().unwrap().sent += piece.len() as u64;
                    }
                    stream.flush().await.ok()?;
                }
                Act::Pause(time) => tokio::time::sleep(time).await,
                Act::Stall => std::future::pending().await,
                Act::Endless(bytes) => loop {
                    stream.write_all(&bytes).await.ok()?;
                    shared.lock().unwrap().sent += bytes.len() as u64;
                },
                Act::Reset => {
                    return stream.get_ref().0.set_zero_linger().ok();
                }
            }
        }
        if !stays {
            return stream.shutdown().await.ok();
        }
    }
}

impl Shared {
    /// What to do, and whether the connection stays.
    fn answer(&mut self, request: &Request) -> (Vec<Act>, bool) {
        if self.later.front().is_some_and(|later| later.0 == self.log.len())
            && let Some((_, file, etag)) = self.later.pop_front()
        {
            (self.file, self.etag) = (file, Some(etag));
        }
        let script = self.scripts.pop_front().unwrap_or_else(|| self.usual.clone());
        let stays = matches!(script, Script::Good);
        (self.acts(script, request), stays)
    }

    fn acts(&self, script: Script, request: &Request) -> Vec<Act> {
        match script {
            Script::Good => self.file(request, usize::MAX, true, None),
            Script::Cut(len) => self.file(request, len, true, None),
            Script::Reset(len) => self.file(request, len, true, Some(Act::Reset)),
            Script::StallAfter(len) => self.file(request, len, true, Some(Act::Stall)),
            Script::Whole(len) => self.file(request, len, false, None),
            Script::Acts(acts) => acts,
            Script::Made(make, number) => make(request, &self.file, self.etag.as_deref(), number),
            Script::Status(code, lines) => {
                vec![Act::Send(format!("HTTP/1.1 {code} x\r\n{lines}content-length: 0\r\n\r\n").into_bytes())]
            }
        }
    }

    /// The file or the part asked for, up to `most` bytes of it.
    fn file(&self, request: &Request, most: usize, may_range: bool, then: Option<Act>) -> Vec<Act> {
        let fits = request.header("if-range").is_none_or(|tag| Some(tag) == self.etag.as_deref());
        let from = request.range().filter(|_| may_range && fits && !self.is_plain);
        let until = request.last().map_or(self.file.len(), |last| self.file.len().min(last + 1));
        if from.is_some_and(|from| from >= until) {
            return self.acts(Script::Status(416, ""), request);
        }
        let (status, body) = match from {
            Some(from) => ("206 Partial Content", &self.file[from..until]),
            None => ("200 OK", &self.file[..]),
        };
        let mut head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{}", body.len(), self.extra);
        if let Some(etag) = &self.etag {
            head.push_str(&format!("etag: {etag}\r\n"));
        }
        if let Some(from) = from {
            let total = self.file.len();
            head.push_str(&format!("content-range: bytes {from}-{}/{total}\r\n", until - 1));
        }
        head.push_str("\r\n");
        let body = body[..body.len().min(most)].to_vec();
        [Act::Send(head.into_bytes()), Act::Send(body)].into_iter().chain(then).collect()
    }
}
