//! What several targets need: inputs taken apart, and streams that are there at once.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

static PLANTED: AtomicBool = AtomicBool::new(false);

/// From now on the rule that is held up is a wrong one, or the right one.
pub fn plant(is_wrong: bool) {
    PLANTED.store(is_wrong, Relaxed);
}

/// Whether it is a wrong one: `tests/fuzz/run --planted`.
pub fn planted() -> bool {
    PLANTED.load(Relaxed)
}

/// An input from its front. What is not there is zero, so that short inputs mean something.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    /// A number of so many bytes, the lowest first.
    pub fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Up to the next such byte, which is dropped.
    pub fn until(&mut self, end: u8) -> &'a [u8] {
        let found = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let taken = self.take(found);
        self.take(1);
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// The longest text at the front of these bytes.
pub fn text(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&bytes[..error.valid_up_to()]).expect("it is valid up to there"),
    }
}

/// The other side of a connection that said all it will say.
pub struct Said {
    /// What is left of it.
    left: Vec<u8>,
    at: usize,
    /// At most so many bytes are had at once.
    piece: usize,
    /// What it was told.
    pub heard: usize,
}

impl Said {
    pub fn new(bytes: &[u8], piece: usize) -> Self {
        Self { left: bytes.to_vec(), at: 0, piece: piece.max(1), heard: 0 }
    }

    /// How much nobody has read.
    pub fn unread(&self) -> usize {
        self.left.len() - self.at
    }
}

impl AsyncRead for Said {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let count = this.unread().min(this.piece).min(out.remaining());
        out.put_slice(&this.left[this.at..this.at + count]);
        this.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().heard += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What never waits, for all is there.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits, and there is nothing to wait for"),
    }
}
