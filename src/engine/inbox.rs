//! What comes in from the hub and from the control socket, turned into events, and the answers that go back.

use serde_json::Value;
use tokio::sync::oneshot;

use super::Engine;
use crate::control::Peer;
use crate::control::proto::{Request, Response};
use crate::events::{self, About};
use crate::hub::{Desired, Hub, HubEvent, MethodCall, MethodReply, Parsed, Replier};
use crate::model::{Artifact, Failure, Install, Location, Origin, Outcome, UpdateId};
use crate::update::{Event, Refused, Wish};

/// The hub's next event; for ever, without a hub.
pub(super) async fn next_event(hub: &mut Option<Hub>) -> Option<HubEvent> {
    match hub {
        Some(hub) => hub.events.recv().await,
        None => std::future::pending().await,
    }
}

impl Engine {
    pub(super) async fn hear(&mut self, event: HubEvent) {
        match event {
            HubEvent::Connected => self.link_made(),
            HubEvent::Lost { why, retry_in } => self.link_lost(&why, retry_in),
            HubEvent::Uncontested => self.live.hub_warning.clear(),
            HubEvent::Desired(parsed) => self.wanted(parsed).await,
            HubEvent::Method { call, reply } => self.called(call, reply).await,
            HubEvent::ReportDelivered(_) => {}
            HubEvent::ReportRefused { generation, status } => {
                events::hub_refused(&format!("report {generation} was refused with status {status}"));
            }
        }
    }

    async fn wanted(&mut self, parsed: Parsed) {
        if !parsed.unknown.is_empty() {
            tracing::debug!(names = %parsed.unknown.join(", "), "the desired property has unknown members");
        }
        match parsed.desired {
            Desired::Absent => {
                self.postponed = None;
                let _ = self.take(Event::DesiredCleared).await;
            }
            Desired::Wish(install) => self.desire(Wish::Install(install)).await,
            Desired::Invalid { reason, version, id } => {
                self.desire(Wish::Invalid { id, version, reason }).await
            }
        }
    }

    /// Wishes for `wish`; kept for later if nothing can be begun now.
    pub(super) async fn desire(&mut self, wish: Wish) {
        self.postponed = match self.take(Event::Desired(wish.clone())).await {
            Err(Refused::Unsaved) => Some(wish),
            Ok(()) | Err(_) => None,
        };
    }

    async fn called(&mut self, call: MethodCall, reply: Replier) {
        let answer = match call {
            MethodCall::FirmwareUpdate(Ok(install)) => {
                let id = install.id.clone();
                let asked = self.ask(Event::Asked(install), Origin::Method).await;
                asked.map(|()| self.begun(&id))
            }
            MethodCall::FirmwareUpdate(Err(reason)) => {
                events::refused(&About::default(), Origin::Method, &reason);
                let id = UpdateId(format!("method-{}", reason.failure));
                let _ = self.take(Event::Declined(id, reason.clone())).await;
                return reply.send(MethodReply::refused(&reason));
            }
            MethodCall::Reboot => {
                self.ask(Event::Reboot, Origin::Method).await.map(|()| MethodReply::ok("Reboot started"))
            }
            MethodCall::Cancel => {
                self.ask(Event::Cancel, Origin::Method).await.map(|()| MethodReply::ok("Cancelled"))
            }
            MethodCall::Rollback => {
                let asked = self.ask(Event::GoBack(Origin::Method), Origin::Method).await;
                asked.map(|()| MethodReply::ok("Rollback started"))
            }
            MethodCall::Apply => self
                .ask(Event::Apply(Origin::Method), Origin::Method)
                .await
                .map(|()| MethodReply::ok("Apply started")),
            MethodCall::Status => Ok(MethodReply { status: 200, body: self.live.status.borrow().clone() }),
            MethodCall::Unknown => Ok(MethodReply::unknown_method()),
        };
        reply.send(answer.unwrap_or_else(|refused| MethodReply::busy(&refused.to_string())));
    }

    /// What became of an update that was asked for and granted: it runs, or was over at once.
    fn begun(&self, id: &UpdateId) -> MethodReply {
        match self.record.last.as_ref().filter(|last| last.id == *id && self.record.state.job().is_none()) {
            Some(last) if last.outcome == Outcome::UpToDate => MethodReply::ok("Firmware already up to date"),
            Some(_) | None => MethodReply::started(),
        }
    }

    /// An explicit request: a refusal is written down.
    async fn ask(&mut self, event: Event, origin: Origin) -> Result<(), Refused> {
        let answer = self.take(event).await;
        if let Err(refused) = answer {
            let failure = match refused {
                Refused::NoPrevious => Failure::NoPrevious,
                Refused::Unsaved => Failure::StateUnwritable,
                Refused::Busy
                | Refused::TooLate
                | Refused::NotOnTrial
                | Refused::NothingStaged
                | Refused::NothingToRetry
                | Refused::NoFactoryReset => Failure::RequestInvalid,
            };
            let reason = failure.because(refused.to_string());
            events::refused(&self.about(), origin, &reason);
        }
        answer
    }

    pub(super) async fn answer(
        &mut self,
        (request, _peer, reply): (Request, Peer, oneshot::Sender<Response>),
    ) {
        let response = match self.event(request) {
            Ok((event, message)) => match self.ask(event, Origin::Local).await {
                Ok(()) => Response::done(message),
                Err(refused) => Response::fault(code(refused), refused.to_string(), remedy(refused)),
            },
            Err(response) => *response,
        };
        // Whoever asked may have gone.
        let _ = reply.send(response);
    }

    /// What a local request amounts to, or its answer if that can be given at once.
    fn event(&self, request: Request) -> Result<(Event, &'static str), Box<Response>> {
        Ok(match request {
            Request::Apply => (Event::Apply(Origin::Local), "switching over as soon as the image is ready"),
            Request::Cancel => (Event::Cancel, "cancelled, if an update was under way"),
            Request::Confirm => (Event::Confirm, "the system on trial is being made permanent"),
            Request::Install(artifact) => (Event::Asked(self.local(artifact)?), "update accepted"),
            Request::Reboot => (Event::Reboot, "rebooting"),
            Request::Retry => (Event::Retry, "trying the desired update again"),
            Request::Rollback => (Event::GoBack(Origin::Local), "going back to the previous system"),
            Request::Status | Request::Watch => return Err(Box::new(Response::status(self.status()))),
        })
    }

    fn status(&self) -> Value {
        self.live.status.borrow().clone()
    }

    /// A local wish. Whoever may ask here may hand over any file; what comes over the network needs a digest.
    fn local(&self, artifact: Artifact) -> Result<Install, Box<Response>> {
        let vouched = artifact.sha256.is_some() || matches!(artifact.location, Location::File(_));
        if !vouched && !self.allow_undigested {
            let reason = Failure::RequestUnverifiable.because("nothing says what the bytes must be");
            return Err(Box::new(Response::refused(
                &reason,
                "give --sha256, or allow it in the configuration: trust.allow_undigested",
            )));
        }
        Ok(Install::new(artifact, Origin::Local, None))
    }
}

fn code(refused: Refused) -> &'static str {
    match refused {
        Refused::Busy => "request.busy",
        Refused::TooLate => "request.too-late",
        Refused::NotOnTrial => "request.not-on-trial",
        Refused::NothingStaged => "request.nothing-staged",
        Refused::NoPrevious => Failure::NoPrevious.code(),
        Refused::Unsaved => Failure::StateUnwritable.code(),
        Refused::NothingToRetry => "request.nothing-to-retry",
        Refused::NoFactoryReset => "request.no-factory-reset",
    }
}

fn remedy(refused: Refused) -> &'static str {
    match refused {
        Refused::Busy => "wait for its end (twinboot status --watch), or cancel it",
        Refused::TooLate => "wait for the trial's end; twinboot rollback sends it back",
        Refused::NotOnTrial | Refused::NothingStaged => "look at twinboot status",
        Refused::NoPrevious => "install the version you want instead",
        Refused::Unsaved => "make room in the state directory, or mount it writable",
        Refused::NothingToRetry => "set the desired property, or use twinboot install",
        Refused::NoFactoryReset => "declare one: [factory_reset] image or program",
    }
}
