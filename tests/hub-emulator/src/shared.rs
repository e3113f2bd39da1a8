//! What the parts of a running emulator share: the hub under its lock, and the means to wait for a change of it.
//! Not the hub itself. Held by every connection and by the handle.

use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

use crate::error::{Code, Error};
use crate::events::Events;
use crate::faults::{Fault, FaultKind, Faults};
use crate::hub::Hub;
use crate::images::Images;

/// Where the emulator listens.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The name in connection strings.
    pub(crate) host: String,
    pub(crate) mqtt_port: u16,
    pub(crate) https_port: u16,
    /// The names that it was told, that one included.
    pub(crate) names: Vec<String>,
}

impl Place {
    /// Whether `host`, with or without a port, is a name of this emulator.
    pub(crate) fn is_called(&self, host: &str) -> bool {
        let name = name_of(host);
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The host without its port and without the brackets of an address.
fn name_of(host: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    name.trim_start_matches('[').trim_end_matches(']')
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    hub: Mutex<Hub>,
    changed: Condvar,
    /// The same signal for tasks.
    tick: watch::Sender<u64>,
    pub(crate) events: Arc<Events>,
    pub(crate) faults: Faults,
    pub(crate) images: Images,
}

impl Shared {
    pub(crate) fn new(place: Place, hub: Hub, events: Arc<Events>, faults: Faults, images: Images) -> Shared {
        let (hub, changed) = (Mutex::new(hub), Condvar::new());
        Shared { place, hub, changed, tick: watch::Sender::new(0), events, faults, images }
    }

    /// Does something with the hub and wakes everyone who waits for a change.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Hub) -> R) -> R {
        let result = act(&mut self.lock());
        self.changed.notify_all();
        self.tick.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Switches a fault on, also for connections that are there already; its number.
    pub(crate) fn throw(&self, fault: Fault) -> u64 {
        let befalls = matches!(
            fault.kind,
            FaultKind::DropLink { .. } | FaultKind::ExpireToken { .. } | FaultKind::Mute
        );
        let id = self.faults.set(fault);
        // In any case: what is on has changed.
        self.with(|hub| {
            if befalls {
                hub.befall()
            }
        });
        id
    }

    /// Changes whenever something may have happened.
    pub(crate) fn ticks(&self) -> watch::Receiver<u64> {
        self.tick.subscribe()
    }

    /// Looks at the hub.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Hub) -> R) -> R {
        look(&self.lock())
    }

    /// Wakes everyone after a change outside of the hub, such as an image that was sent. Takes the lock, or a waiter
    /// between its look and its sleep would miss it.
    pub(crate) fn touch(&self) {
        self.with(|_| ());
    }

    /// Waits, not in a task, until the hub satisfies a condition; whether it did in time.
    pub(crate) fn wait_for(&self, mut condition: impl FnMut(&Hub) -> bool, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut hub = self.lock();
        while !condition(&hub) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            hub = self.changed.wait_timeout(hub, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// A direct method from call to answer. `connect`: how long to wait for a device that is away.
    pub(crate) async fn invoke(
        &self,
        id: &str,
        method: &str,
        payload: Value,
        respond: Duration,
        connect: Duration,
    ) -> Result<(i64, Value), Error> {
        let mut ticks = self.tick.subscribe();
        let takes_methods = async {
            while self.read(|hub| hub.find(id).is_some() && !hub.takes_methods(id)) {
                // The sender lives as long as self.
                let _ = ticks.changed().await;
            }
        };
        // Out of time is no error yet: the call itself then says what is wrong.
        let _ = tokio::time::timeout(connect, takes_methods).await;
        let (rid, answer) = self.with(|hub| hub.call(id, method, payload))?;
        let answered = async {
            let answer = answer.await;
            let delayed = |kind: &FaultKind| {
                if let FaultKind::DelayMethodAnswer { millis } = kind { Some(*millis) } else { None }
            };
            if let Some(delay) = self.faults.delay(id, delayed) {
                tokio::time::sleep(delay).await;
            }
            answer
        };
        match tokio::time::timeout(respond, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                self.with(|hub| hub.forget_call(id, &rid));
                Err(Error::new(Code::GatewayTimeout, format!("{id} did not answer within {respond:?}")))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // A panic elsewhere is its own failure; the hub's methods leave it whole.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
