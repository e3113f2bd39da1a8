//! `twinboot net`: the network side as a process.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use twinboot::cli::NetLaunch;
use twinboot::config::Config;
use twinboot::host::{self, service};
use twinboot::hub::{self, Access};
use twinboot::image::Direct;
use twinboot::net::{self, Outside};
use twinboot::wire::Setup;
use twinboot::{cli, events};

use crate::settings;
use crate::way_out::WayOut;

/// Runs until nobody needs it, or it is told to leave.
pub(crate) fn run(launch: NetLaunch) -> ExitCode {
    events::init(events::journal_is_connected(), launch.verbose);
    match serve(&launch) {
        Ok(end) => {
            tracing::debug!(?end, "the network side ends");
            ExitCode::SUCCESS
        }
        Err(error) => {
            cli::complain(&format!("{error:#}"), "name a socket by --socket, or have systemd start it");
            ExitCode::FAILURE
        }
    }
}

fn serve(launch: &NetLaunch) -> anyhow::Result<net::End> {
    if let Err(error) = host::disable_core_dumps() {
        tracing::warn!(%error, "core dumps of this process, which holds the device's key, could not be forbidden");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let listener = match &launch.socket {
            Some(path) => net::bind(path).with_context(|| format!("listening at {}", path.display()))?,
            None => net::inherited().context("listening at standard input")?,
        };
        service::ready();
        let outside = Ways::default();
        let serve = net::serve(listener, &outside, launch.socket.is_none());
        net::watched(serve, service::alive, service::watchdog_interval()).await.context("taking connections")
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    ended
}

/// What configurations mean for the way out. The newest is kept at hand: reading a hundred authorities takes a while.
#[derive(Clone, Default)]
struct Ways(Arc<Mutex<Option<Known>>>);

#[derive(Clone)]
struct Known {
    setup: Setup,
    config: Config,
    out: WayOut,
}

impl Ways {
    fn known(&self, setup: &Setup) -> Result<Known, String> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = newest.as_ref().filter(|known| known.setup == *setup) {
            return Ok(known.clone());
        }
        let config = Config::from_toml(&setup.config).map_err(|error| error.to_string())?;
        let out = WayOut::new(&config, setup.floor).map_err(|error| format!("{error:#}"))?;
        let known = Known { setup: setup.clone(), config, out };
        *newest = Some(known.clone());
        Ok(known)
    }
}

impl Outside for Ways {
    fn hub(&self, setup: &Setup) -> Result<(Access, hub::Settings), String> {
        let Known { config, out, .. } = self.known(setup)?;
        Ok((out.access(&config), settings::hub(&config)))
    }

    fn direct(&self, setup: &Setup) -> Result<Direct, String> {
        Ok(self.known(setup)?.out.direct())
    }
}
