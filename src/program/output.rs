//! What a program writes, read as it comes: how it begins, how it ends, and nothing in between.

use std::io;
use std::os::fd::AsFd as _;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// How much of what is kept for people is kept: the end, where the reason is.
const TAIL: usize = 256;

/// Room for the service manager's last word behind it; see `ending.rs`.
const LAST_WORD: usize = 512;

/// Reads that empty the largest pipe there is by default (64 KiB), and some.
const MOST_READS: usize = 64;

/// One stream of a program's, and what is kept of it.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` once it has ended.
    pipe: Option<pipe::Receiver>,
    /// The beginning, `most` bytes of it.
    beginning: Vec<u8>,
    most: usize,
    /// The end.
    end: Vec<u8>,
    /// How many bytes came in all.
    all: usize,
}

impl Output {
    /// What comes out of `pipe`; its first `most` bytes are kept besides its end.
    pub(super) fn of(pipe: pipe::Receiver, most: usize) -> Self {
        Self { pipe: Some(pipe), beginning: Vec::new(), most, end: Vec::new(), all: 0 }
    }

    /// A stream of which nothing comes.
    pub(super) fn none() -> Self {
        Self { pipe: None, beginning: Vec::new(), most: 0, end: Vec::new(), all: 0 }
    }

    /// Reads once; for ever, if there is nothing more to come. May be dropped at any time.
    pub(super) async fn read(&mut self) {
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
    pub(super) fn drain(&mut self) {
        for _ in 0..MOST_READS {
            let Some(pipe) = &self.pipe else { break };
            let mut buffer = [0; 4096];
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(n) if n > 0 => self.keep(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.all += bytes.len();
        let room = self.most.saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.end.extend_from_slice(bytes);
        let more = self.end.len().saturating_sub(TAIL + LAST_WORD);
        self.end.drain(..more);
    }

    /// The end of it, in which a last word is to be looked for.
    pub(super) fn end(&self) -> &[u8] {
        &self.end
    }

    /// Takes its last `n` bytes for something else than output.
    pub(super) fn cut(&mut self, n: usize) {
        self.end.truncate(self.end.len().saturating_sub(n));
        self.all = self.all.saturating_sub(n);
        self.beginning.truncate(self.all);
    }

    /// All of it; `None` if it is longer than was to be kept.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.all <= self.most).then_some(&self.beginning)
    }

    /// The end of it as text, for people.
    pub(super) fn tail(&self) -> String {
        let tail = &self.end[self.end.len().saturating_sub(TAIL)..];
        String::from_utf8_lossy(tail).trim_matches(['\u{fffd}', '\n', ' ']).to_owned()
    }
}

/// Both ends of a new pipe: ours, and the one that a program writes to.
pub(super) fn pair() -> io::Result<(pipe::Receiver, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer))
}
