//! The engine's end of a session, played: it writes down what it is told, answers every call, and reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::cloud::Cloud;
use super::{DIGEST, KEY};
use crate::hub::{
    Commands, Desired, HubEvent, Identity, Lost, MethodReply, Report, Session, Settings, channels,
};

/// Something the session said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Connected,
    Uncontested,
    Tuned,
    Ignored(u64),
    Lost(Lost),
    /// The version, or "absent", or "invalid".
    Desired(String),
    /// A call, as it is debugged.
    Called(String),
    Delivered(u64),
    Refused(u64, u16),
}

/// A session in a hub's memory, and all that it said.
pub(super) struct Desk {
    pub(super) cloud: Cloud,
    pub(super) id: String,
    pub(super) commands: Commands,
    log: Arc<Mutex<Vec<(Instant, Said)>>>,
    #[allow(dead_code)]
    session: JoinHandle<()>,
}

pub(super) fn identity(id: &str) -> Identity {
    format!("HostName=hub;DeviceId={id};SharedAccessKey={KEY}").parse().unwrap()
}

pub(super) fn firmware(version: u64) -> Value {
    json!({"fwVersion": version.to_string(), "fwPackageURI": "https://h/fw", "fwPackageCheckValue": DIGEST})
}

impl Desk {
    pub(super) fn new(cloud: &Cloud, id: &str) -> Self {
        Self::with(cloud, id, Settings::default(), 0)
    }

    /// Its clock is so many seconds behind the hub's.
    pub(super) fn with(cloud: &Cloud, id: &str, settings: Settings, behind: u64) -> Self {
        let (mut hub, port) = channels();
        let clock = {
            let cloud = cloud.clone();
            move || crate::model::Timestamp(cloud.now().0 - behind * 1000)
        };
        let dial = cloud.dial(identity(id), settings.clone());
        let session = tokio::spawn(Session::over(port, dial, settings, clock).run());
        let log: Arc<Mutex<Vec<(Instant, Said)>>> = Arc::default();
        let written = log.clone();
        tokio::spawn(async move {
            while let Some(event) = hub.events.recv().await {
                let said = said(event);
                written.lock().unwrap().push((Instant::now(), said));
            }
        });
        Self { cloud: cloud.clone(), id: id.to_owned(), commands: hub.commands, log, session }
    }

    pub(super) fn log(&self) -> Vec<(Instant, Said)> {
        self.log.lock().unwrap().clone()
    }

    /// What was said since the last time.
    pub(super) fn news(&self) -> Vec<Said> {
        self.log.lock().unwrap().drain(..).map(|(_, said)| said).collect()
    }

    /// Waits for this to be said, for so many seconds at most; how long it took.
    pub(super) async fn until(&self, seconds: u64, wanted: impl Fn(&Said) -> bool) -> Duration {
        let begun = Instant::now();
        while !self.log.lock().unwrap().iter().any(|(_, said)| wanted(said)) {
            assert!(
                begun.elapsed() < Duration::from_secs(seconds),
                "not within {seconds} s: {:?}",
                self.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }

    pub(super) async fn connected(&self, seconds: u64) -> Duration {
        self.until(seconds, |said| *said == Said::Connected).await
    }

    pub(super) async fn told(&self, seconds: u64, version: u64) -> Duration {
        self.until(seconds, |said| *said == Said::Desired(version.to_string())).await
    }

    pub(super) async fn delivered(&self, seconds: u64, generation: u64) -> Duration {
        self.until(seconds, |said| matches!(said, Said::Delivered(found) if *found >= generation)).await
    }

    pub(super) fn desire(&self, version: u64) {
        self.cloud.desire(&self.id, json!({ "firmware": firmware(version) }));
    }

    /// A document with a smaller form.
    pub(super) fn report(&self, generation: u64, urgent: bool) {
        let object = |value: Value| value.as_object().unwrap().clone();
        self.commands.report(Report {
            generation,
            full: object(json!({"firmware": {"n": generation, "detail": "a sentence"}})),
            minimal: Some(object(json!({"firmware": {"n": generation, "detail": ""}}))),
            urgent,
        });
    }

    /// The number in the reported document.
    pub(super) fn reported(&self) -> u64 {
        self.cloud.reported(&self.id)["firmware"]["n"].as_u64().unwrap_or(0)
    }

    pub(super) fn patches(&self) -> usize {
        self.cloud.state().devices.get(&self.id).map_or(0, |device| device.patched.len())
    }

    pub(super) fn attempts(&self) -> usize {
        self.cloud.state().attempts.len()
    }
}

fn said(event: HubEvent) -> Said {
    match event {
        HubEvent::Connected => Said::Connected,
        HubEvent::Introduced(_) => panic!("nobody is introduced by this cloud"),
        HubEvent::Uncontested => Said::Uncontested,
        HubEvent::Tuned(_) => Said::Tuned,
        HubEvent::Ignored(count) => Said::Ignored(count),
        HubEvent::Lost { why, .. } => Said::Lost(why),
        HubEvent::Desired(parsed) => Said::Desired(match parsed.desired {
            Desired::Absent => "absent".to_owned(),
            Desired::Wish(install) => install.artifact.version.unwrap().to_string(),
            Desired::Invalid { .. } => "invalid".to_owned(),
        }),
        HubEvent::Method { call, reply } => {
            reply.send(MethodReply::ok("done"));
            Said::Called(format!("{call:?}"))
        }
        HubEvent::ReportDelivered(generation) => Said::Delivered(generation),
        HubEvent::ReportRefused { generation, status } => Said::Refused(generation, status),
    }
}
