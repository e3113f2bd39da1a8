//! The daemon's end of the control socket: bounded in every direction, so that nobody who can connect can hold up the
//! daemon, and everybody is told why not.
//!
//! It answers `status` and `watch` by itself from the engine's watch channel, so that they work whatever the engine is
//! doing, passes `reload` on to whoever holds the engines, and everything else to the engine, as a [`Call`]. Both outlive
//! an engine, and so does whoever waits for an answer or watches.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Peer;
use super::access::{self, Standing};
use super::proto::{self, Response};
use super::socket::Socket;
use crate::model::{Answer, Request};

/// A request that was permitted, who asked, and where the answer goes.
pub type Call = (Request, Peer, oneshot::Sender<Answer>);

/// Where to listen, and to whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The socket.
    pub socket: PathBuf,
    /// Its members may change things. If there is no such group, only root may.
    pub group: String,
}

/// Clients at a time.
const MOST_CLIENTS: usize = 8;
/// With this many more for root, so that nobody can lock the operator out.
const MORE_FOR_ROOT: usize = 4;
/// The longest request in bytes, its line end not counted. An address may have 4096 bytes (`SecretUrl::MAX_LEN`).
const MOST_BYTES: usize = 8 * 1024;
/// A request must be complete within this, and an answer taken.
const LINE_LIMIT: Duration = Duration::from_secs(5);
/// The engine must answer within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A watcher is told at most this often.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// The listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    group: String,
}

/// To whom requests go, and what the status is.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The engine, whichever it is.
    pub engine: mpsc::Sender<Call>,
    /// Who holds the engines.
    pub keeper: mpsc::Sender<Call>,
    /// What the engine last said of itself.
    pub status: watch::Receiver<Value>,
}

/// The clients that were there when a server was closed.
#[derive(Debug)]
pub struct Guests(JoinSet<()>);

impl Guests {
    /// Serves them until the last has gone. Each is given the answer it waits for, and whoever watches goes on
    /// watching; further requests belong to the server that took the place of this one.
    pub async fn leave(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

impl Server {
    /// Opens the socket: mode 0660, for the group if there is one. A socket that nobody listens to any more is
    /// replaced; anything else in its place is left alone.
    ///
    /// # Errors
    /// If something is in the way, or the directory is not safe.
    pub async fn bind(settings: &Settings) -> Result<Self, Error> {
        let socket = Socket::bind(&settings.socket, &settings.group).await?;
        Ok(Self { socket, group: settings.group.clone() })
    }

    /// Serves clients until `close` is ready, each in a task of its own. Then nobody listens any more, and the file is
    /// removed.
    pub async fn serve(self, wiring: Wiring, close: impl Future<Output = ()>) -> Guests {
        let context = Arc::new(Context { group: self.group, wiring, is_closed: AtomicBool::new(false) });
        // Dropped with this future, and all clients with it.
        let mut clients = JoinSet::new();
        tokio::pin!(close);
        loop {
            tokio::select! {
                () = &mut close => {
                    context.is_closed.store(true, Ordering::Relaxed);
                    return Guests(clients);
                }
                accepted = self.socket.listener.accept() => match accepted {
                    Ok((stream, _)) => admit(stream, &context, &mut clients),
                    Err(error) => {
                        // Out of file descriptors, most likely: trying again at once would only burn the processor.
                        debug!(%error, "accepting a client");
                        sleep(WATCH_PAUSE).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

struct Context {
    group: String,
    wiring: Wiring,
    /// The configuration that decided who may do what is not in force any more.
    is_closed: AtomicBool,
}

fn admit(stream: UnixStream, context: &Arc<Context>, clients: &mut JoinSet<()>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let us = rustix::process::geteuid().as_raw();
    let standing = access::standing(peer, us, || access::is_member(peer, &context.group));
    let most = if standing == Standing::Root { MOST_CLIENTS + MORE_FOR_ROOT } else { MOST_CLIENTS };
    if clients.len() >= most {
        let busy = Response::fault("control.busy", "too many clients at once", "try again in a moment");
        // Into the empty buffer of a new connection, or not at all.
        let _ = stream.try_write(&busy.to_line());
        return;
    }
    let (reader, writer) = stream.into_split();
    let client = Client { reader, writer, unread: Vec::new(), peer, standing, context: context.clone() };
    clients.spawn(client.serve());
}

struct Client {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// What was read and is not yet a whole line.
    unread: Vec<u8>,
    peer: Peer,
    standing: Standing,
    context: Arc<Context>,
}

/// The connection is of no more use.
struct Gone;

impl Client {
    async fn serve(mut self) {
        while let Ok(()) = self.one_request().await {
            if self.context.is_closed.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn one_request(&mut self) -> Result<(), Gone> {
        let line = match timeout(LINE_LIMIT, self.line()).await {
            Ok(line) => line?,
            Err(_) if self.unread.is_empty() => return Err(Gone),
            Err(_) => {
                let late = Response::fault(
                    "control.too-slow",
                    "no whole request within 5 s",
                    "end it with a line end",
                );
                return self.last_words(&late).await;
            }
        };
        let Some(line) = line else {
            let long =
                Response::fault("control.too-long", "request of more than 8 KiB", "send a shorter one");
            return self.last_words(&long).await;
        };
        let request = match proto::parse(&line) {
            Ok(request) => request,
            // What follows junk is junk.
            Err(reason) => {
                return self.last_words(&Response::refused(&reason, "see `twinboot --help`")).await;
            }
        };
        debug!(?request, peer = ?self.peer, standing = ?self.standing, "control request");
        let response = match access::permit(self.standing, &request, &self.context.group) {
            Err(fault) => fault.into(),
            Ok(()) => match request {
                Request::Status => Response::status(self.context.wiring.status.borrow().clone()),
                Request::Watch => return self.watch().await,
                Request::Apply
                | Request::Cancel
                | Request::Confirm
                | Request::FactoryReset
                | Request::Install(_)
                | Request::ReadProperties(_)
                | Request::Reboot
                | Request::Retry
                | Request::Rollback
                | Request::WriteProperties(_) => self.ask(&self.context.wiring.engine, request).await,
                Request::Reload => self.ask(&self.context.wiring.keeper, request).await,
            },
        };
        self.write(&response).await
    }

    /// The next line without its end; `None` if it is too long.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.truncate(end);
                return Ok((line.len() <= MOST_BYTES).then_some(line));
            }
            if self.unread.len() > MOST_BYTES {
                return Ok(None);
            }
            let mut buffer = [0; 1024];
            match self.reader.read(&mut buffer).await {
                Ok(n) if n > 0 => self.unread.extend_from_slice(&buffer[..n]),
                Ok(_) | Err(_) => return Err(Gone),
            }
        }
    }

    async fn ask(&self, whom: &mpsc::Sender<Call>, request: Request) -> Response {
        let ask = async {
            let (sender, answer) = oneshot::channel();
            whom.send((request, self.peer, sender)).await.ok()?;
            answer.await.ok()
        };
        match timeout(ANSWER_LIMIT, ask).await {
            Ok(Some(answer)) => answer.into(),
            Ok(None) => {
                Response::fault("control.stopping", "twinboot is stopping", "try again when it is back")
            }
            Err(_) => {
                let remedy = "`twinboot status` shows what it is doing";
                Response::fault("control.no-answer", "twinboot is busy and has not answered", remedy)
            }
        }
    }

    /// Tells the status now and at every change, until one side goes.
    async fn watch(&mut self) -> Result<(), Gone> {
        let mut status = self.context.wiring.status.clone();
        loop {
            let value = status.borrow_and_update().clone();
            self.write(&Response::status(value)).await?;
            sleep(WATCH_PAUSE).await;
            let mut buffer = [0; 1];
            tokio::select! {
                changed = status.changed() => changed.map_err(|_| Gone)?,
                // It hung up; or it has more to say, which nobody should while watching.
                _ = self.reader.read(&mut buffer) => return Err(Gone),
            }
        }
    }

    async fn write(&mut self, response: &Response) -> Result<(), Gone> {
        match timeout(LINE_LIMIT, self.writer.write_all(&response.to_line())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    async fn last_words(&mut self, response: &Response) -> Result<(), Gone> {
        self.write(response).await?;
        Err(Gone)
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is missing and cannot be made.
    #[error("using the control socket's directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could put something in the socket's place.
    #[error("{} can be written by others: it must belong to root, mode 0755", path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// There is something that is not a socket.
    #[error("{} is not a socket: remove it", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
    },
    /// Another daemon listens.
    #[error("{} is in use: another twinboot is running", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// A step of making the socket failed.
    #[error("{what} the control socket {}", path.display())]
    Create {
        /// The step.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
