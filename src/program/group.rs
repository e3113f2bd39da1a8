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

/// How much of what is kept for people is kept: the end, where the reason is.
const TAIL: usize = 256;

/// Reads that empty the largest pipe there is by default (64 KiB), and some.
const MOST_READS: usize = 64;

/// What becomes of a program's output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// The end of all that it writes, for people.
    Tail,
    /// The beginning of its standard output, so many bytes at most, as its answer; and the end of what it writes to
    /// standard error, for people.
    Answer(usize),
}

/// A running program. Dropping it kills the whole group.
///
/// Its leader is only reaped after the last signal was sent. Until then its process id, which is the group's, cannot
/// be another's, so no signal ever reaches a stranger.
#[derive(Debug)]
pub struct Group {
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
    pub fn start(mut command: Command, input: Option<&[u8]>, keep: Keep) -> io::Result<Self> {
        // Before the program starts, or its exit could be missed.
        let exits = signal(SignalKind::child())?;
        let (reader, writer) = io::pipe()?;
        let words = Output::of(reader, TAIL, End::Last)?;
        let answer = match keep {
            Keep::Tail => {
                command.stdout(writer.try_clone()?);
                Output::none()
            }
            Keep::Answer(most) => {
                let (reader, writer) = io::pipe()?;
                command.stdout(writer);
                Output::of(reader, most, End::First)?
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
    pub async fn exited_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.exited()).await.is_ok()
    }

    /// Asks the group to end, and makes it end after `grace`.
    pub async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        if !self.exited_within(grace).await {
            self.signal(Signal::KILL);
            // Only a process stuck in the kernel survives this; it is left to `drop`.
            self.exited_within(grace).await;
        }
    }

    /// Ends what is left of the group, and says how the leader exited; `None` if it has not.
    pub fn finish(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        self.answer.drain();
        self.words.drain();
        let status = self.child.try_wait().ok().flatten();
        self.reaped = status.is_some();
        status
    }

    /// The end of the output that is for people, as text.
    pub fn tail(&self) -> String {
        String::from_utf8_lossy(&self.words.kept).trim_matches(['\u{fffd}', '\n', ' ']).to_owned()
    }

    /// The program's answer, if one was to be kept; `None` if it is longer than was to be kept.
    pub fn answer(&self) -> Option<&[u8]> {
        (!self.answer.overflowed).then_some(&self.answer.kept)
    }

    async fn exited(&mut self) {
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

/// One stream of a program's, and what is kept of it.
#[derive(Debug)]
struct Output {
    /// `None` once it has ended.
    pipe: Option<pipe::Receiver>,
    kept: Vec<u8>,
    most: usize,
    end: End,
    overflowed: bool,
}

/// Which end of a stream is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    First,
    Last,
}

impl Output {
    fn of(reader: io::PipeReader, most: usize, end: End) -> io::Result<Self> {
        let pipe = Some(pipe::Receiver::from_owned_fd(reader.into())?);
        Ok(Self { pipe, kept: Vec::new(), most, end, overflowed: false })
    }

    fn none() -> Self {
        Self { pipe: None, kept: Vec::new(), most: 0, end: End::First, overflowed: false }
    }

    /// Reads once; for ever, if there is nothing more to come. May be dropped at any time.
    async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        let mut buffer = [0; 4096];
        match pipe.read(&mut buffer).await {
            Ok(n) if n > 0 => self.keep(&buffer[..n]),
            // Closed, though the program may still run.
            Ok(_) | Err(_) => self.pipe = None,
        }
    }

    /// Takes what is in the pipe now. Straight from the descriptor: the runtime may not know yet that there is
    /// something. Not for ever: what has left the group may still be writing.
    fn drain(&mut self) {
        for _ in 0..MOST_READS {
            let Some(pipe) = &self.pipe else { break };
            let mut buffer = [0; 4096];
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(n) if n > 0 => self.keep(&buffer[..n]),
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let more = self.kept.len().saturating_sub(self.most);
        self.overflowed |= more > 0;
        match self.end {
            End::First => self.kept.truncate(self.most),
            End::Last => drop(self.kept.drain(..more)),
        }
    }
}
