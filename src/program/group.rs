//! A program and everything it starts as our children: one process group, which ends with it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Output, pair};
use super::{Keep, NotRun, PATH, Ran, Task};

/// Runs a program as a child of ours.
///
/// # Errors
/// If it cannot be started.
pub(super) async fn run(task: &Task<'_>) -> Result<Ran, NotRun> {
    let mut command = clean(Command::new(task.path));
    command.envs(task.environment.iter().map(|(name, value)| (name, value))).args(task.arguments);
    let mut group =
        Group::start(command, task.input, task.keep).map_err(|error| NotRun::Never(error.to_string()))?;
    let in_time = group.exited_within(task.limit).await;
    if !in_time {
        group.stop(task.grace).await;
    }
    let status = group.finish().filter(|_| in_time);
    let answer = group.answer();
    Ok(Ran { status, tail: group.tail(), answer })
}

/// A command in the root directory, with a fixed `PATH` and nothing else for an environment.
pub(super) fn clean(mut command: Command) -> Command {
    command.env_clear().env("PATH", PATH).current_dir("/");
    command
}

/// A running program. Dropping it kills the whole group.
///
/// Its leader is only reaped after the last signal was sent. Until then its process id, which is the group's, cannot
/// be another's, so no signal ever reaches a stranger.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    leader: Pid,
    reaped: bool,
    exits: tokio::signal::unix::Signal,
    answer: Output,
    words: Output,
}

impl Group {
    /// Starts `command` as the leader of a new group, its output to be read by us, and nothing (or `input`) for it to
    /// read.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(mut command: Command, input: Option<&[u8]>, keep: Keep) -> io::Result<Self> {
        // Before the program starts, or its exit could be missed.
        let exits = signal(SignalKind::child())?;
        let (reader, writer) = pair()?;
        let words = Output::of(reader, 0);
        let answer = match keep {
            Keep::Tail => {
                command.stdout(writer.try_clone()?);
                Output::none()
            }
            Keep::Answer(most) => {
                let (reader, writer) = pair()?;
                command.stdout(writer);
                Output::of(reader, most)
            }
        };
        let input = input.map_or(Ok(Stdio::null()), readable)?;
        command.process_group(0).stdin(input).stderr(writer);
        let child = command.spawn()?;
        // `command` holds our copies of the writing ends; while they are open the output has no end.
        drop(command);
        let leader = Pid::from_child(&child);
        Ok(Self { child, leader, reaped: false, exits, answer, words })
    }

    /// Waits until the leader has exited, or for `limit`; true if it has exited. Reads the output meanwhile.
    pub(super) async fn exited_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.exited()).await.is_ok()
    }

    /// Asks the group to end, and makes it end after `grace`.
    async fn stop(&mut self, grace: Duration) {
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
        self.answer.drain();
        self.words.drain();
        let status = self.child.try_wait().ok().flatten();
        self.reaped = status.is_some();
        status
    }

    /// Its answer; `None` if it is longer than was to be kept.
    pub(super) fn answer(&self) -> Option<Vec<u8>> {
        self.answer.whole().map(<[u8]>::to_vec)
    }

    /// The end of the output that is for people, as text.
    pub(super) fn tail(&self) -> String {
        self.words.tail()
    }

    /// Waits until the leader has exited. May be dropped and called again.
    pub(super) async fn exited(&mut self) {
        while !self.leader_is_dead() {
            tokio::select! {
                _ = self.exits.recv() => {}
                () = self.answer.read() => {}
                () = self.words.read() => {}
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

/// `bytes` as a program's input. From memory and not from a pipe: nobody need be there to fill it.
fn readable(bytes: &[u8]) -> io::Result<Stdio> {
    use std::io::{Seek as _, Write as _};
    let memory = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
