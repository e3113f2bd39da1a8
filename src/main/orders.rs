//! What is asked of the process from outside of its work: to stop, and to read its configuration again.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use twinboot::control::server::Call;
use twinboot::model::Answer;

/// The service manager, or the person at the terminal, wants us to stop.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// From now on these signals do not end the process by themselves.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    /// Ready when that is so. May be dropped and called again.
    pub(crate) async fn wanted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Somebody wants the configuration to be read again: by SIGHUP, or by the control socket.
pub(crate) struct Reloads {
    hangup: Signal,
    calls: mpsc::Receiver<Call>,
}

/// Who wants it; told how it went, if there is a way to.
pub(crate) struct Asker(Option<oneshot::Sender<Answer>>);

impl Asker {
    /// Gives the answer; whoever asked may have gone.
    pub(crate) fn tell(self, answer: Answer) {
        if let Self(Some(reply)) = self {
            let _ = reply.send(answer);
        }
    }
}

impl Reloads {
    /// From now on SIGHUP does not end the process. `calls` are the control socket's.
    pub(crate) fn new(calls: mpsc::Receiver<Call>) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        Ok(Self { hangup, calls })
    }

    /// The next one. May be dropped and called again; what was asked meanwhile is not lost.
    pub(crate) async fn next(&mut self) -> Asker {
        tokio::select! {
            _ = self.hangup.recv() => Asker(None),
            Some((_request, _peer, reply)) = self.calls.recv() => Asker(Some(reply)),
        }
    }
}
