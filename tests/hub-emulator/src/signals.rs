//! The signals that end the program or make it speak.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGUSR1.
pub(crate) struct Signals {
    interrupt: Signal,
    print: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        let print = signal(SignalKind::user_defined1())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Signals { interrupt, print, terminate })
    }

    /// Returns when the program shall end.
    pub(crate) async fn stop(&mut self) {
        self.stop_or(|| {}).await;
    }

    /// The same; meanwhile, `speak` at each SIGUSR1.
    pub(crate) async fn stop_or(&mut self, speak: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.print.recv() => speak(),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}
