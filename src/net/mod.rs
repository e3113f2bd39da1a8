//! The network side: does for the device side what takes a network, and keeps nothing.
//!
//! One connection at a time is one job: a link to the hub ([`hub::relay`]) or one request for a file
//! ([`image::serve`]). It is told with each connection by which configuration to work, so it reads none itself; of this
//! machine it reads keys, certificates and the names of authorities. Whoever kills it costs the device side a
//! connection, which is made again.
//!
//! # When it ends
//!
//! - When another version of the program connects: it gives way, and whoever started it starts the new one.
//! - If it is started on demand, as systemd does: when it is told to ([`Kind::Leave`]), and as soon as nobody is connected
//!   any more. So each attempt to reach the hub begins with the credentials as they are by then, and a device whose hub
//!   cannot be reached has no process waiting for nothing. A link and a download keep it for each other; when the
//!   credentials that it has are refused, it is told to leave ([`Side::renew`](crate::wire::Side::renew)).

mod socket;

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::hub::{self, Access, Settings};
use crate::image::{self, Direct};
use crate::wire::{self, Broken, Kind, Setup};

pub use socket::{bind, inherited};

/// Most connections at once: a link and a download, and one of each that is about to end.
const MAX_CONNECTIONS: usize = 8;
/// How long whoever was started on demand waits for the one who wanted it.
const ATTENDANCE: Duration = Duration::from_secs(60);
/// How long a connection may take to say what it is for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a configuration means for the way out.
pub trait Outside {
    /// The way to the hub, and how to behave on it.
    ///
    /// # Errors
    /// In words, if there is none by this configuration.
    fn hub(&self, setup: &Setup) -> Result<(Access, Settings), String>;

    /// The way to servers with images.
    ///
    /// # Errors
    /// As above.
    fn direct(&self, setup: &Setup) -> Result<Direct, String>;
}

/// Why it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It was told to, or another version of the program is there.
    Left,
    /// Nobody needs it.
    Idle,
}

/// Serves the device side on `listener` until it is told to leave; `on_demand` until nobody is connected, too.
///
/// # Errors
/// If no connection can be taken any more.
pub async fn serve(
    listener: UnixListener,
    outside: &(impl Outside + Clone + Send + Sync + 'static),
    on_demand: bool,
) -> io::Result<End> {
    let mut connections = JoinSet::new();
    let mut served = false;
    loop {
        if on_demand && served && connections.is_empty() {
            return Ok(End::Idle);
        }
        let attendance = async {
            if on_demand && !served {
                tokio::time::sleep(ATTENDANCE).await
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let (stream, _) = accepted?;
                served = true;
                let outside = outside.clone();
                connections.spawn(async move { connection(stream, &outside).await });
            }
            Some(ended) = connections.join_next() => {
                match ended.unwrap_or(Wish::Stay) {
                    Wish::Stay => {}
                    // Whoever is not started on demand reads its files as they are anyway.
                    Wish::Leave if !on_demand => {}
                    Wish::Leave | Wish::GiveWay => return Ok(End::Left),
                }
            }
            () = attendance => return Ok(End::Idle),
        }
    }
}

/// What a connection amounts to for the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Stay,
    Leave,
    /// To another version of the program.
    GiveWay,
}

/// Does what one connection is for.
async fn connection(stream: UnixStream, outside: &impl Outside) -> Wish {
    match job(stream, outside).await {
        Ok(wish) => wish,
        Err(error @ Broken::Version { .. }) => {
            debug!(%error, "another version of the program");
            Wish::GiveWay
        }
        Err(error @ (Broken::Unreachable { .. } | Broken::Ended | Broken::Io(_) | Broken::Garbled(_))) => {
            debug!(%error, "a connection of the device side");
            Wish::Stay
        }
    }
}

async fn job(stream: UnixStream, outside: &impl Outside) -> Result<Wish, Broken> {
    let (mut frames, setup) = wire::accept(stream).await?;
    let first = timeout(PATIENCE, frames.receive(&[Kind::Open, Kind::Get, Kind::Leave])).await;
    let (kind, body) = first.unwrap_or_else(|_| Err(Broken::Io(io::ErrorKind::TimedOut.into())))?;
    match kind {
        Kind::Open => hub::relay(frames, &body, outside.hub(&setup)).await?,
        Kind::Get => image::serve(frames, &body, outside.direct(&setup)).await?,
        Kind::Leave => return Ok(Wish::Leave),
        Kind::Hello
        | Kind::Setup
        | Kind::Opened
        | Kind::Lost
        | Kind::Bytes
        | Kind::Answer
        | Kind::End
        | Kind::Failed => {}
    }
    Ok(Wish::Stay)
}

/// Waits for `serve` and tells the service manager that we live, for as long as it turns.
pub async fn watched<T>(serve: impl Future<Output = T>, alive: impl Fn(), interval: Option<Duration>) -> T {
    tokio::pin!(serve);
    loop {
        let pause = async {
            match interval {
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut serve => return ended,
            () = pause => alive(),
        }
    }
}
