//! Frames: one byte for the kind, four for the length of the body, the body.

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Broken;

/// What stands before a body.
const HEAD: usize = 5;
/// How much is asked of the kernel at once, whatever a length claims.
const READ: usize = 64 * 1024 + HEAD;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// Which program this is. JSON.
    Hello = 1,
    /// The configuration. JSON.
    Setup = 2,
    /// End, and let others start you anew. Empty.
    Leave = 3,
    /// Make a link to the hub. JSON.
    Open = 4,
    /// There is one, or why there is none. JSON.
    Opened = 5,
    /// The link is gone, and why. JSON.
    Lost = 6,
    /// Bytes, as they are.
    Bytes = 7,
    /// Ask a server for a file. JSON.
    Get = 8,
    /// It answers. JSON.
    Answer = 9,
    /// The file's bytes have all been sent. Empty.
    End = 10,
    /// It does not answer, or not to the end. JSON.
    Failed = 11,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Hello,
        Self::Setup,
        Self::Leave,
        Self::Open,
        Self::Opened,
        Self::Lost,
        Self::Bytes,
        Self::Get,
        Self::Answer,
        Self::End,
        Self::Failed,
    ];

    /// The longest body, in bytes.
    pub fn limit(self) -> usize {
        match self {
            Self::Hello => 256,
            // The longest configuration is 256 KiB, and grows when it is written as a JSON string.
            Self::Setup => 1024 * 1024,
            Self::Leave | Self::End => 0,
            Self::Open | Self::Lost | Self::Failed => 8 * 1024,
            Self::Opened | Self::Get | Self::Answer => 32 * 1024,
            Self::Bytes => 64 * 1024,
        }
    }
}

/// A connection, as frames.
#[derive(Debug)]
pub struct Frames {
    stream: UnixStream,
    received: BytesMut,
}

impl Frames {
    /// Frames over `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, received: BytesMut::new() }
    }

    /// The next frame, which must be one of `wanted`. May be dropped at any await and called again.
    ///
    /// # Errors
    /// If the connection ended, or brings anything else. Then it is of no further use.
    pub async fn receive(&mut self, wanted: &[Kind]) -> Result<(Kind, Bytes), Broken> {
        loop {
            let missing = match head(&self.received, wanted)? {
                Some((kind, length)) if self.received.len() >= HEAD + length => {
                    self.received.advance(HEAD);
                    return Ok((kind, self.received.split_to(length).freeze()));
                }
                Some((_, length)) => HEAD + length - self.received.len(),
                None => READ,
            };
            self.received.reserve(missing.min(READ));
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(Broken::Ended);
            }
        }
    }

    /// The next frame, which must be a `kind`, read as what it says.
    ///
    /// # Errors
    /// As for [`Frames::receive`], and if it does not say that.
    pub async fn expect<T: DeserializeOwned>(&mut self, kind: Kind) -> Result<T, Broken> {
        let (_, body) = self.receive(&[kind]).await?;
        read(&body)
    }

    /// Waits until the other side has gone, or says anything at all: for when it has nothing to say.
    pub async fn gone(&mut self) {
        let _ = self.receive(&[]).await;
    }

    /// Sends a frame. It has no limit of its own in time, and what was begun and dropped ends the connection's use.
    ///
    /// # Errors
    /// If the connection broke, or `body` is too long for its kind.
    pub async fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), Broken> {
        if body.len() > kind.limit() {
            return Err(Broken::Garbled(format!("{} bytes are too many for {kind:?}", body.len())));
        }
        let mut head = [kind as u8, 0, 0, 0, 0];
        head[1..].copy_from_slice(&(body.len() as u32).to_le_bytes());
        self.stream.write_all_buf(&mut Buf::chain(&head[..], body)).await?;
        Ok(())
    }

    /// Sends what `body` says.
    ///
    /// # Errors
    /// As for [`Frames::send`].
    pub async fn say<T: Serialize>(&mut self, kind: Kind, body: &T) -> Result<(), Broken> {
        let body = serde_json::to_vec(body).map_err(|error| Broken::Garbled(error.to_string()))?;
        self.send(kind, &body).await
    }

    /// Tells the other side that nothing more will come.
    ///
    /// # Errors
    /// If the connection broke.
    pub async fn finish(&mut self) -> Result<(), Broken> {
        Ok(self.stream.shutdown().await?)
    }
}

/// What a body says.
///
/// # Errors
/// If it does not say that. The words never quote it: it may hold an address with a token.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Broken> {
    serde_json::from_slice(body).map_err(|error| {
        Broken::Garbled(format!(
            "a message that means nothing (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

/// Kind and length of the first frame, as soon as they are there.
fn head(bytes: &[u8], wanted: &[Kind]) -> Result<Option<(Kind, usize)>, Broken> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let Some(kind) = wanted.iter().find(|kind| **kind as u8 == *first) else {
        return Err(Broken::Garbled(format!("a frame of kind {first}, which is not expected here")));
    };
    let Some(length) = bytes.get(1..HEAD) else { return Ok(None) };
    let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    if length > kind.limit() {
        return Err(Broken::Garbled(format!(
            "a frame of {length} bytes, where {} is the most",
            kind.limit()
        )));
    }
    Ok(Some((*kind, length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn pair() -> (UnixStream, Frames) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours, Frames::new(theirs))
    }

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_in_whatever_pieces() {
        let (ours, mut theirs) = pair();
        let mut sender = Frames::new(ours);
        let big = vec![7; Kind::Bytes.limit()];
        let send = async {
            sender.send(Kind::Bytes, &big).await.unwrap();
            sender.send(Kind::End, b"").await.unwrap();
            sender.finish().await.unwrap();
        };
        let receive = async {
            let wanted = [Kind::Bytes, Kind::End];
            assert_eq!(theirs.receive(&wanted).await.unwrap(), (Kind::Bytes, Bytes::from(big.clone())));
            assert_eq!(theirs.receive(&wanted).await.unwrap(), (Kind::End, Bytes::new()));
            assert!(matches!(theirs.receive(&wanted).await, Err(Broken::Ended)));
        };
        tokio::join!(send, receive);

        let (mut ours, mut theirs) = pair();
        let drip = async {
            for byte in *b"\x07\x03\0\0\0abc" {
                ours.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (_, got) = tokio::join!(drip, theirs.receive(&[Kind::Bytes]));
        assert_eq!(got.unwrap(), (Kind::Bytes, Bytes::from_static(b"abc")));
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_halfway_loses_nothing() {
        let (mut ours, mut theirs) = pair();
        ours.write_all(b"\x07\x03\0\0\0ab").await.unwrap();
        for _ in 0..3 {
            tokio::select! {
                biased;
                got = theirs.receive(&[Kind::Bytes]) => panic!("{got:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        ours.write_all(b"c").await.unwrap();
        assert_eq!(theirs.receive(&[Kind::Bytes]).await.unwrap().1, "abc");
    }

    #[tokio::test]
    async fn what_is_unknown_unexpected_or_too_long_is_refused_before_it_is_read() {
        for (bytes, what) in [
            (&b"\0"[..], "kind 0"),
            (b"\xff", "kind 255"),
            (b"\x02", "a setup where bytes are wanted"),
            (b"\x07\x01\0\x01\0", "one byte too many"),
            (b"\x07\xff\xff\xff\xff", "4 GiB"),
            (b"\x0a\x01\0\0\0", "an end with a body"),
        ] {
            let (mut ours, mut theirs) = pair();
            ours.write_all(bytes).await.unwrap();
            let got = theirs.receive(&[Kind::Bytes, Kind::End]).await;
            assert!(matches!(got, Err(Broken::Garbled(_))), "{what}: {got:?}");
            assert!(theirs.received.capacity() <= 2 * READ, "{what}");
        }
        let (ours, _theirs) = pair();
        let too_long = vec![0; Kind::Bytes.limit() + 1];
        assert!(matches!(Frames::new(ours).send(Kind::Bytes, &too_long).await, Err(Broken::Garbled(_))));
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        let error = read::<u32>(b"\"https://h/?sig=SECRET\"").unwrap_err().to_string();
        assert!(!error.contains("SECRET"), "{error}");
    }

    #[test]
    fn kinds_are_told_apart() {
        for kind in Kind::ALL {
            assert_eq!(Kind::ALL.iter().filter(|it| **it as u8 == kind as u8).count(), 1);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in vec(any::<u8>(), 0..60), kind in 0..12u8) {
            let _ = head(&bytes, &Kind::ALL);
            let framed: Vec<u8> = [kind].into_iter().chain(bytes).collect();
            let _ = head(&framed, &Kind::ALL);
        }
    }
}
