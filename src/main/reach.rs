//! Who has the network: this process, or another one.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use twinboot::config::Config;
use twinboot::hub::{self, Port, Remote, Session, Shelf, registration};
use twinboot::image::Net;
use twinboot::model::{Timestamp, Vouching};
use twinboot::wire::{Setup, Side};

use crate::settings;
use crate::way_out::WayOut;

/// How long the network side may take to leave: nothing else is done meanwhile.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Whoever has it.
#[derive(Clone)]
pub(crate) enum Reach {
    /// This process.
    Here(Box<WayOut>),
    /// The one behind a socket.
    Apart(Side),
}

impl Reach {
    /// As `config` says, through the process behind `socket` if there is one. `floor` is what time it is for a clock that
    /// cannot be right.
    pub(crate) fn new(config: &Config, socket: Option<&Path>, floor: Timestamp) -> anyhow::Result<Self> {
        Ok(match socket {
            None => Self::Here(Box::new(WayOut::new(config, floor)?)),
            Some(socket) => Self::Apart(Side::new(socket.to_owned(), Setup { config: told(config), floor })),
        })
    }

    /// Whether it is another process.
    pub(crate) fn is_apart(&self) -> bool {
        matches!(self, Self::Apart(_))
    }

    /// Has the network side end and be started anew, so that credentials are as they are by now.
    pub(crate) async fn refresh(&self) {
        match self {
            // Here everything is read again when it changed.
            Self::Here(_) => {}
            Self::Apart(side) => match tokio::time::timeout(LEAVE_LIMIT, side.leave()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the network side was not told to leave"),
                Err(_) => tracing::debug!("the network side does not leave"),
            },
        }
    }

    /// For downloads.
    pub(crate) fn net(&self, runtime: Handle) -> anyhow::Result<Net> {
        match self {
            Self::Here(out) => Net::new(out.direct(), runtime).context("setting up the download client"),
            Self::Apart(side) => Ok(Net::remote(side.clone(), runtime)),
        }
    }

    /// For the hub. `clock` tells wall-clock time.
    pub(crate) fn session(
        &self,
        port: Port,
        (config, vouching): (&Config, Vouching),
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Session {
        let shelf = Shelf::open(&config.state.directory);
        let settings = hub::Settings { vouching, ..settings::hub(config) };
        match self {
            Self::Here(out) => Session::new(port, out.access(config).remembering(shelf), settings, clock),
            Self::Apart(side) => Session::remote(port, Remote::new(side.clone(), shelf), settings, clock),
        }
    }
}

/// The configuration as the network side is told it. What it would have to look up on this machine, whose files it may
/// not read, is looked up here.
fn told(config: &Config) -> String {
    let mut config = config.clone();
    let root = config.simulator.root.clone();
    if let Some(id) = &mut config.provisioning.registration_id
        && let Ok(resolved) = registration::resolve(id, root.as_deref().unwrap_or(Path::new("/")))
    {
        *id = resolved;
    }
    config.to_toml()
}
