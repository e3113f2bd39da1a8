//! Packets on a stream: whole ones in, bytes out. Not what they mean.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::packet::{self, Packet};

/// A client that takes nothing in is waited for this long.
const WRITING: Duration = Duration::from_secs(30);
/// A client that does not close its end is not waited for.
const CLOSING: Duration = Duration::from_secs(1);

pub(super) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Nothing is written any more, by a fault.
    pub(super) mute: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Wire<S> {
        Wire { stream, buffer: Vec::new(), mute: false }
    }

    /// The next packet; none at the end of the stream. Can be dropped and called again without losing a byte: what
    /// was read is in the buffer.
    pub(super) async fn packet(&mut self) -> Result<Option<Packet>, String> {
        loop {
            let decoded = packet::decode(&self.buffer).map_err(|error| format!("malformed: {}", error.0))?;
            if let Some((packet, used)) = decoded {
                self.buffer.drain(..used);
                return Ok(Some(packet));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // The usual end of a client that dies: no close_notify, no DISCONNECT.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(format!("the connection broke: {error}")),
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.mute {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITING, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err("it takes nothing in".to_owned()),
        }
    }

    /// Ends the stream as its protocols want it ended.
    pub(super) async fn close(&mut self) {
        // It is over in any case.
        let _ = tokio::time::timeout(CLOSING, self.stream.shutdown()).await;
    }
}
