//! The control socket, kept open over every change of the configuration, and looked after when it cannot be opened.

use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::oneshot;

use twinboot::config;
use twinboot::control::server::{Server, Settings, Wiring};
use twinboot::events::Repeats;
use twinboot::host::Host;

/// How long after a failure it is tried again; twice as long each time, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// The control socket.
pub(crate) struct Door {
    wiring: Wiring,
    open: Option<Open>,
}

/// One place where we listen, or try to.
struct Open {
    settings: Settings,
    /// Dropped, it closes.
    close: oneshot::Sender<()>,
    /// Ready, with an error, when nobody listens there any more.
    closed: oneshot::Receiver<()>,
}

impl Door {
    /// A door that leads to `wiring`; closed.
    pub(crate) fn new(wiring: Wiring) -> Self {
        Self { wiring, open: None }
    }

    /// Listens as `control` says from now on. Clients that are inside are served to their end; nothing is done if it
    /// says what it said before.
    pub(crate) fn fit(&mut self, control: &config::Control) {
        let settings = Settings { socket: control.socket.clone(), group: control.group.clone() };
        if self.open.as_ref().is_some_and(|open| open.settings == settings) {
            return;
        }
        let before = self.open.take().map(|open| {
            drop(open.close);
            open.closed
        });
        let (close, closing) = oneshot::channel();
        let (is_open, closed) = oneshot::channel();
        let (own, wiring) = (settings.clone(), self.wiring.clone());
        tokio::spawn(async move {
            if let Some(before) = before {
                // It may have been the same place.
                let _ = before.await;
            }
            keep(own, wiring, closing, is_open).await;
        });
        self.open = Some(Open { settings, close, closed });
    }
}

/// Without the socket the device can still be updated by its hub, so failing is told and survived.
async fn keep(
    settings: Settings,
    wiring: Wiring,
    mut closing: oneshot::Receiver<()>,
    is_open: oneshot::Sender<()>,
) {
    let (mut pause, mut repeats) = (PAUSES[0], Repeats::default());
    let server = loop {
        match Server::bind(&settings).await {
            Ok(server) => break server,
            Err(error) => {
                let now = Host::new(None).since_boot();
                repeats.control_unavailable(now, &format!("{:#}", anyhow!(error)));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(PAUSES[1]),
            _ = &mut closing => return,
        }
    };
    let guests = server.serve(wiring, async { drop(closing.await) }).await;
    drop(is_open);
    guests.leave().await;
}
