//! What is asked explicitly, from afar or on this device: one function from [`Request`] to [`Answer`], and one table
//! from refusal to what is said about it.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Engine;
use crate::control::server::Call;
use crate::events::About;
use crate::hub::{Method, MethodReply, Replier};
use crate::model::{
    Answer, Ended, Failure, Granted, Install, Kind, Origin, Outcome, Reason, Refusal, Request, UpdateId,
};
use crate::properties::Known;
use crate::update::{Event, Refused};

/// Who asks, and how the answer goes back.
pub(super) enum Asker {
    /// The hub.
    Method(Method, Replier),
    /// The control socket.
    Local(oneshot::Sender<Answer>),
}

impl Asker {
    fn origin(&self) -> Origin {
        match self {
            Self::Method(..) => Origin::Method,
            Self::Local(_) => Origin::Local,
        }
    }

    /// Gives the answer; whoever asked may have gone.
    pub(super) fn tell(self, answer: Answer) {
        match self {
            Self::Method(method, reply) => reply.send(MethodReply::new(method, answer)),
            Self::Local(reply) => drop(reply.send(answer)),
        }
    }
}

impl Engine {
    pub(super) async fn answer(&mut self, (request, _peer, reply): Call) {
        self.serve(request, Asker::Local(reply)).await;
    }

    /// Answers a request, now or, if it takes time, when the answer is ready; nothing waits for that.
    pub(super) async fn serve(&mut self, request: Request, asker: Asker) {
        let origin = asker.origin();
        let answer = match request {
            Request::ReadProperties(names) => {
                let (properties, known) = (self.properties.clone(), self.known());
                tokio::spawn(async move { asker.tell(properties.read(names, known).await) });
                return;
            }
            Request::WriteProperties(values) => {
                let (properties, known) = (self.properties.clone(), self.known());
                tokio::spawn(async move { asker.tell(properties.write(values, known).await) });
                return;
            }
            // Whoever holds the engines sees to that; here it arrives only by mistake.
            Request::Reload => Err(Refusal::new(Kind::Undeclared, "request.invalid", "not for an engine")),
            Request::Status | Request::Watch => Ok(Granted::Status(self.live.status.borrow().clone())),
            Request::Install(install) => self.install(*install).await,
            Request::Cancel => self.cancel().await,
            Request::Apply => {
                let is_dear = self.record.state.job().is_some_and(|job| job.cost.is_some());
                let words = match is_dear {
                    true => "Download started: its cost is agreed to",
                    false => "Apply started: switching over as soon as the image is ready",
                };
                let answer = self.ask(Event::Apply(origin)).await;
                answer.map(|()| Granted::Begun(self.as_kept(words)))
            }
            Request::Confirm => {
                self.start(Event::Confirm, "The system on trial is being made permanent").await
            }
            Request::FactoryReset => self.start(Event::FactoryReset(origin), "Factory reset started").await,
            Request::Reboot => self.start(Event::Reboot, "Reboot started").await,
            Request::Retry => self.start(Event::Retry, "Trying the desired update again").await,
            Request::Rollback => self.start(Event::GoBack(origin), "Rollback started").await,
        };
        if let Err(refusal) = &answer {
            self.repeat(|repeats, now, about| {
                repeats.refused(now, about, origin, &refusal.code, &refusal.words);
            });
        }
        // Whoever asks for the status next must not find what was before.
        self.live.tell(&self.record, &self.facts, self.worker.snapshot(), None);
        asker.tell(answer);
    }

    /// Answers a call that makes no sense. Those who poll the reported properties are told of an update that cannot
    /// be, too.
    pub(super) async fn decline(&mut self, reason: Reason, method: Method, reply: Replier) {
        let refusal = Refusal::from(&reason);
        self.repeat(|repeats, now, _| {
            repeats.refused(now, &About::default(), Origin::Method, &refusal.code, &refusal.words);
        });
        if method.is_update() {
            let id = UpdateId(format!("method-{}", reason.failure));
            let _ = self.take(Event::Declined(id, reason)).await;
        }
        reply.send(MethodReply::new(method, Err(refusal)));
    }

    /// The properties that only the engine knows.
    fn known(&self) -> Known {
        let text = |value: Option<String>, why: &str| value.map(Value::from).ok_or_else(|| why.to_owned());
        let status = self.live.status.borrow();
        let running = self.record.running(&self.facts).map(ToString::to_string);
        let clock = "the clock is not set";
        vec![
            ("agent", Ok(concat!("twinboot/", env!("CARGO_PKG_VERSION")).into())),
            ("bootTime", text(self.host.boot_time().map(|time| time.to_string()), clock)),
            ("os", text(self.host.system_name(), "os-release does not tell it")),
            (
                "slots",
                Ok(json!({
                    "booted": status["booted"],
                    "default": status["default"],
                    "trial": status["trial"],
                    "versions": {
                        "a": self.record.versions.a,
                        "b": self.record.versions.b,
                    },
                    "previous": self.record.previous,
                })),
            ),
            ("uptime", Ok(self.host.since_boot().as_secs().into())),
            ("version", text(running, "the running system does not tell its version")),
        ]
    }

    async fn start(&mut self, event: Event, words: &str) -> Answer {
        self.ask(event).await.map(|()| Granted::Begun(words.to_owned()))
    }

    async fn install(&mut self, install: Install) -> Answer {
        // A method's or a desired property's request was read with the same rule.
        let artifact = &install.artifact;
        if let Err(reason) = self.vouching.judge(&artifact.location, artifact.sha256.is_some()) {
            let is_undigested = reason.failure == Failure::RequestUnverifiable;
            let remedy = if is_undigested { "give --sha256" } else { "see [trust] of the configuration" };
            return Err(Refusal::from(&reason).remedy(remedy));
        }
        // Whoever is there to ask is told at once; a wish of the hub waits for the keys.
        if let Some(why) = self.live.unusable_keys().filter(|_| artifact.location.is_bundle()) {
            return Err(Refusal::new(Kind::Unready, Failure::KeysUnusable.code(), why.to_owned()));
        }
        let (id, hold) = (install.id.clone(), install.terms.hold);
        self.ask(Event::Asked(install)).await?;
        let ended =
            self.record.last.as_ref().filter(|last| last.id == id && self.record.state.job().is_none());
        Ok(match ended {
            Some(last) if last.outcome == Outcome::UpToDate => {
                Granted::Done("Firmware already up to date".to_owned())
            }
            // Nobody is there to read a refusal, and nothing went wrong: it was found and not asked for, see `Terms`.
            Some(Ended { outcome: Outcome::Failed(why), .. }) => {
                Granted::Done(format!("Not begun: {}", why.detail))
            }
            Some(_) | None if hold => Granted::Begun("Firmware download started".to_owned()),
            Some(_) | None => Granted::Begun("Firmware update started".to_owned()),
        })
    }

    /// Granted however often it is asked for.
    async fn cancel(&mut self) -> Answer {
        let busy = self.record.state.job().is_some();
        self.ask(Event::Cancel).await?;
        Ok(Granted::Done(if busy { self.as_kept("Cancelled") } else { "No update is under way".to_owned() }))
    }

    /// An update that cannot be saved can be cancelled or consented to all the same, and that is saved when the disk is
    /// well again. If the power goes before, the update is where it was: whoever asked must know.
    fn as_kept(&self, words: &str) -> String {
        if self.unsaved {
            format!("{words}, but not saved: the state directory cannot be written, and a restart forgets it")
        } else {
            words.to_owned()
        }
    }

    async fn ask(&mut self, event: Event) -> Result<(), Refusal> {
        let answer = self.take(event).await;
        answer.map_err(|refused| {
            let mut refusal = refusal(refused);
            if refusal.kind == Kind::Conflict {
                self.explain(&mut refusal);
            }
            refusal
        })
    }

    /// Adds what is in the way.
    fn explain(&self, refusal: &mut Refusal) {
        if let Some(job) = self.record.state.job() {
            refusal.details.insert("update", json!(job.id));
            refusal.details.insert("phase", json!(job.phase.name()));
            if let Some(version) = &job.version {
                refusal.details.insert("version", json!(version));
            }
        }
    }
}

/// What is said about each refusal: its kind, its code, its words and what to do about it.
fn refusal(refused: Refused) -> Refusal {
    let (kind, code, remedy) = match refused {
        Refused::Busy => {
            (Kind::Conflict, "request.busy", "wait for its end (twinboot status --watch), or cancel it")
        }
        Refused::TooLate => {
            (Kind::Conflict, "request.too-late", "wait for the trial's end; twinboot rollback sends it back")
        }
        Refused::Unsaved => (
            Kind::Conflict,
            Failure::StateUnwritable.code(),
            "make room in the state directory, or mount it writable",
        ),
        Refused::NotOnTrial => (Kind::Unready, "request.not-on-trial", "look at twinboot status"),
        Refused::NothingStaged => (Kind::Unready, "request.nothing-staged", "look at twinboot status"),
        Refused::NoPrevious => {
            (Kind::Unready, Failure::NoPrevious.code(), "install the version you want instead")
        }
        Refused::NothingToRetry => {
            (Kind::Unready, "request.nothing-to-retry", "set the desired property, or use twinboot install")
        }
        Refused::NoFactoryReset => {
            (Kind::Undeclared, "request.no-factory-reset", "declare one: [factory_reset] image or program")
        }
    };
    Refusal::new(kind, code, refused.to_string()).remedy(remedy)
}
