//! The sending of an image, with the faults that may befall it. Not headers.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::Image;
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::shared::Shared;

const PIECE: u64 = 64 * 1024;
/// A slow body comes in this many pieces per second.
const PIECES_PER_SECOND: u64 = 20;
/// Before a connection is dropped, what was handed over gets this long to reach the socket: hyper writes when a body
/// has nothing more to give, and forgets what it holds when one fails.
const FLUSH: Duration = Duration::from_millis(30);

/// Bytes `at..end` of an image on their way out.
pub(super) struct ImageBody {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
    pub(super) image: Image,
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) faults: Faults,
    /// The entry in the log.
    pub(super) index: usize,
    pub(super) sent: u64,
    pub(super) pause: Option<Pin<Box<Sleep>>>,
    pub(super) flushed: bool,
    pub(super) ended: bool,
}

/// Faults of a body; offsets count bytes of this body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    drop_after: Option<u64>,
    stall_after: Option<u64>,
    change_after: Option<u64>,
    bytes_per_second: Option<u64>,
}

impl Faults {
    pub(super) fn of(kinds: &[FaultKind]) -> Faults {
        let mut faults = Faults::default();
        for kind in kinds {
            if let FaultKind::DropAfter { bytes } = kind {
                faults.drop_after = Some(*bytes);
            } else if let FaultKind::StallAfter { bytes } = kind {
                faults.stall_after = Some(*bytes);
            } else if let FaultKind::ChangeAfter { bytes } = kind {
                faults.change_after = Some(*bytes);
            } else if let FaultKind::Slow { bytes_per_second } = kind {
                faults.bytes_per_second = Some((*bytes_per_second).max(1));
            }
        }
        faults
    }
}

impl ImageBody {
    /// How many bytes may go before something else has to happen.
    fn piece(&self) -> u64 {
        let offsets = [self.faults.drop_after, self.faults.stall_after, self.faults.change_after];
        let until = offsets
            .into_iter()
            .flatten()
            .map(|offset| offset - self.sent.min(offset))
            .filter(|left| *left > 0);
        let slow = self.faults.bytes_per_second.map(|rate| rate.div_ceil(PIECES_PER_SECOND));
        until.chain(slow).chain([PIECE, self.end - self.at]).min().unwrap_or(PIECE)
    }

    fn next_piece(&mut self) -> io::Result<Bytes> {
        let wanted = self.piece();
        let bytes = self.image.read(self.at, usize::try_from(wanted).unwrap_or(usize::MAX))?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes.len() as u64;
        self.sent += bytes.len() as u64;
        if let Some(rate) = self.faults.bytes_per_second {
            let seconds = bytes.len() as f64 / rate as f64;
            self.pause = Some(Box::pin(sleep(Duration::from_secs_f64(seconds))));
        }
        self.shared.images.log_progress(self.index, self.sent, self.at == self.end);
        self.shared.touch();
        Ok(bytes)
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let (path, bytes, complete) = (self.name.clone(), self.sent, self.at == self.end);
            self.shared.events.emit(EventKind::ImageSent { path, bytes, complete });
            self.shared.touch();
        }
    }
}

impl Body for ImageBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        if this.faults.change_after.is_some_and(|offset| this.sent >= offset) {
            this.faults.change_after = None;
            this.image.mask = this.shared.images.change(&this.name);
        }
        if this.faults.drop_after.is_some_and(|offset| this.sent >= offset) {
            if this.flushed {
                this.finish();
                return Poll::Ready(Some(Err(io::Error::other("fault: the connection is dropped"))));
            }
            this.flushed = true;
            let mut pause = Box::pin(sleep(FLUSH));
            // Polled at once, or nothing would wake this body again.
            let _ = pause.as_mut().poll(context);
            this.pause = Some(pause);
            return Poll::Pending;
        }
        if this.at >= this.end {
            this.finish();
            return Poll::Ready(None);
        }
        if this.faults.stall_after.is_some_and(|offset| this.sent >= offset) {
            // For ever: only the end of the connection ends this.
            return Poll::Pending;
        }
        let piece = this.next_piece();
        if this.at >= this.end && this.faults.drop_after.is_none() {
            this.finish();
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end && self.faults.drop_after.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

impl Drop for ImageBody {
    fn drop(&mut self) {
        self.finish();
    }
}
