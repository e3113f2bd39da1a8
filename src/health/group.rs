//! A program and everything it starts: one process group, which ends with it.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

/// How much of a program's output is kept: its end, where the reason is.
const TAIL: usize = 256;

/// Reads that empty the largest pipe there is by default (64 KiB), and some.
const MOST_READS: usize = 64;

/// A running program. Dropping it kills the whole group.
///
/// Its leader is only reaped after the last signal was sent. Until then its process id, which is the group's, cannot
/// be another's, so no signal ever reaches a stranger.
pub(super) struct Group {
    child: Child,
    leader: Pid,
    reaped: bool,
    exits: tokio::signal::unix::Signal,
    output: Option<pipe::Receiver>,
    tail: Vec<u8>,
}

impl Group {
    /// Starts `command` as the leader of a new group, without input, its output to be read by us.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        // Before the program starts, or its exit could be missed.
        let exits = signal(SignalKind::child())?;
        let (reader, writer) = io::pipe()?;
        command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let output = pipe::Receiver::from_owned_fd(reader.into())?;
        let child = command.spawn()?;
        // `command` holds our copies of the writing end; while they are open the output has no end.
        drop(command);
        let leader = Pid::from_child(&child);
        Ok(Self { child, leader, reaped: false, exits, output: Some(output), tail: Vec::new() })
    }

    /// Waits until the leader has exited, or for `limit`; true if it has exited. Reads the output meanwhile.
    pub(super) async fn exited_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.exited()).await.is_ok()
    }

    /// Asks the group to end, and makes it end after `grace`.
    pub(super) async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if !self.exited_within(grace).await {
            self.signal(Signal::KILL);
            // Only a process stuck in the kernel survives this; it is left to `drop`.
            self.exited_within(grace).await;
        }
    }

    /// Ends what is left of the group, and says how the leader exited; `None` if it has not.
    pub(super) fn finish(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        // What is in the pipe now. Straight from the descriptor: the runtime may not know yet that there is something.
        // Not for ever: what has left the group may still be writing.
        for _ in 0..MOST_READS {
            let Some(output) = &self.output else { break };
            let mut buffer = [0; 4096];
            match rustix::io::read(output.as_fd(), &mut buffer) {
                Ok(n) if n > 0 => self.keep(&buffer[..n]),
                Ok(_) | Err(_) => self.output = None,
            }
        }
        let status = self.child.try_wait().ok().flatten();
        self.reaped = status.is_some();
        status
    }

    /// The end of the output, as text.
    pub(super) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).trim_matches(['\u{fffd}', '\n', ' ']).to_owned()
    }

    async fn exited(&mut self) {
        while !self.leader_is_dead() {
            let mut buffer = [0; 4096];
            let read = async {
                match &mut self.output {
                    Some(output) => output.read(&mut buffer).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                _ = self.exits.recv() => continue,
                read = read => read,
            };
            match read {
                Ok(n) if n > 0 => self.keep(&buffer[..n]),
                // Closed, though the program may still run.
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    fn leader_is_dead(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // An error means there is no such child any more.
        !matches!(waitid(WaitId::Pid(self.leader), look), Ok(None))
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped {
            // The one way to fail is that nobody is left.
            let _ = kill_process_group(self.leader, signal);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.finish().is_some() || self.reaped {
            return;
        }
        // Dying takes a moment, or for ever in a broken driver: somebody must wait, but not the engine. Nobody else
        // reaps this child, so its id stays its own until then.
        let leader = self.leader;
        let wait = move || {
            let _ = waitid(WaitId::Pid(leader), WaitIdOptions::EXITED);
        };
        // Without a thread it stays a zombie until we exit, which is harmless.
        let _ = std::thread::Builder::new().name("reaper".into()).spawn(wait);
    }
}
