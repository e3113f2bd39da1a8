//! MQTT over a WebSocket (RFC 6455), as the hub takes it on port 443: where only web traffic gets through.
//!
//! Not a general WebSocket: a client's side, binary, without extensions, which looks like any other stream of bytes to
//! what is above it. Packets may span frames and frames may hold several packets, so frames mean nothing here.
//!
//! # Why our own framing
//!
//! `tungstenite` brings a second generation of hashing and random number crates, which `deny.toml` forbids, and keeps
//! whole messages in memory; `fastwebsockets` depends on a whole HTTP server stack for its handshake. A client that
//! sends one kind of frame and reads a stream is what is below.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

/// Where the hub has its WebSocket.
const PATH: &str = "/$iothub/websocket";
/// The one subprotocol.
const SUBPROTOCOL: &str = "mqtt";
/// What every server adds to the client's key before it hashes it (RFC 6455, 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest answer to the upgrade that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// Most headers in it.
const MAX_HEADERS: usize = 64;
/// Most bytes that go into one frame.
const MAX_FRAME: usize = 16 * 1024;
/// Most bytes of unsent answers to pings; a server that sends more of them than it reads is cut off.
const MAX_UNSENT: usize = 64 * 1024;

/// Asks the web server behind `stream` for a WebSocket to the hub `host`.
///
/// `key` is any random bytes: they only prove that the answer is one to us.
///
/// # Errors
/// In words, what else the server answers.
pub(super) async fn upgrade<S>(mut stream: S, host: &str, key: [u8; 16]) -> Result<WebSocket<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = STANDARD.encode(key);
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    // To the blank line and not a byte further: frames follow.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_ANSWER {
            return Err("the answer to the WebSocket upgrade has no end".to_owned());
        }
        head.push(stream.read_u8().await.map_err(|error| error.to_string())?);
    }
    accepted(&head, &key)?;
    Ok(WebSocket { stream, incoming: Incoming::default(), unsent: Vec::new(), sent: 0, closing: false })
}

/// Whether the server's answer is a WebSocket for us.
fn accepted(head: &[u8], key: &str) -> Result<(), String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(head);
    let Ok(httparse::Status::Complete(_)) = parsed else {
        return Err("what answers does not speak HTTP".to_owned());
    };
    let status = answer.code.unwrap_or(0);
    if status != 101 {
        return Err(format!("the server answers {status} to the WebSocket upgrade"));
    }
    let value = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let digest =
        ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes());
    if value("upgrade").is_none_or(|it| !it.eq_ignore_ascii_case("websocket")) {
        return Err("the server switches to something else than a WebSocket".to_owned());
    }
    if value("sec-websocket-accept") != Some(&STANDARD.encode(digest)) {
        return Err("the WebSocket was not opened for us: an answer out of a cache?".to_owned());
    }
    if value("sec-websocket-protocol") != Some(SUBPROTOCOL) {
        return Err("the server does not agree to speak MQTT on its WebSocket".to_owned());
    }
    if value("sec-websocket-extensions").is_some_and(|it| !it.is_empty()) {
        return Err("the server uses a WebSocket extension that was not offered".to_owned());
    }
    Ok(())
}

/// A stream of bytes in frames.
#[derive(Debug)]
pub(super) struct WebSocket<S> {
    stream: S,
    incoming: Incoming,
    /// Frames on their way out, of which `sent` bytes have gone.
    unsent: Vec<u8>,
    sent: usize,
    /// A close frame was sent.
    closing: bool,
}

/// Where we are among the frames that arrive.
#[derive(Debug, Default)]
struct Incoming {
    /// The head of the next frame, or a control frame, as far as it is here.
    head: Vec<u8>,
    /// Bytes of data left in the frame that is being read.
    left: u64,
    /// The message goes on in the next data frame.
    unfinished: bool,
    /// The server has closed.
    closed: bool,
}

/// What the head of a frame says.
enum Frame {
    /// This many bytes of data follow.
    Data(u64),
    Ping(Vec<u8>),
    Pong,
    Close,
}

impl Incoming {
    /// How many bytes of the frame's head, or of a whole control frame, are missing; the frame once none is.
    fn frame(&mut self) -> io::Result<Result<Frame, usize>> {
        let [first, second, rest @ ..] = &self.head[..] else { return Ok(Err(2 - self.head.len())) };
        let (last, reserved, kind) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        if reserved != 0 || second & 0x80 != 0 {
            return Err(broken("a WebSocket frame that a server never sends"));
        }
        let short = u64::from(second & 0x7f);
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if kind & 0x8 != 0 {
            if !last || short > 125 {
                return Err(broken("a WebSocket control frame in parts"));
            }
            let missing = (short as usize).saturating_sub(rest.len());
            if missing > 0 {
                return Ok(Err(missing));
            }
            let body = rest.to_vec();
            self.head.clear();
            return match kind {
                8 => Ok(Ok(Frame::Close)),
                9 => Ok(Ok(Frame::Ping(body))),
                10 => Ok(Ok(Frame::Pong)),
                _ => Err(broken("a WebSocket frame of an unknown kind")),
            };
        }
        // A message begins with its kind and goes on with 0.
        if kind != if self.unfinished { 0 } else { 2 } {
            return Err(broken("a WebSocket frame that is not binary, or out of order"));
        }
        if rest.len() < extended {
            return Ok(Err(extended - rest.len()));
        }
        let long = rest.iter().take(extended).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        self.head.clear();
        self.unfinished = !last;
        Ok(Ok(Frame::Data(if extended == 0 { short } else { long })))
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Puts a frame behind what is on its way out.
    fn push(&mut self, kind: u8, payload: &[u8]) {
        self.unsent.push(0x80 | kind);
        match payload.len() {
            length @ ..126 => self.unsent.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                self.unsent.push(0x80 | 126);
                self.unsent.extend((length as u16).to_be_bytes());
            }
            length => {
                self.unsent.push(0x80 | 127);
                self.unsent.extend((length as u64).to_be_bytes());
            }
        }
        // Masks defend careless proxies against pages in browsers, not us; below TLS any number will do.
        let mask = getrandom::u32().unwrap_or(0x5bd1_e995).to_be_bytes();
        self.unsent.extend(mask);
        self.unsent.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.unsent.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends what is on its way out as far as the network takes it now.
    fn send_some(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.poll_send(context) {
            // What TLS has taken must go on its way without another byte from us.
            Poll::Ready(Ok(())) => match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(result) => result,
                Poll::Pending => Ok(()),
            },
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(()),
        }
    }

    fn take(&mut self, frame: Frame, context: &mut Context<'_>) -> io::Result<()> {
        match frame {
            Frame::Data(length) => self.incoming.left = length,
            Frame::Pong => {}
            Frame::Ping(body) => {
                if self.unsent.len() > MAX_UNSENT {
                    return Err(broken("a flood of WebSocket pings"));
                }
                self.push(10, &body);
                self.send_some(context)?;
            }
            Frame::Close => {
                self.incoming.closed = true;
                if !std::mem::replace(&mut self.closing, true) {
                    self.push(8, &1000_u16.to_be_bytes());
                    // The server has gone already if this fails.
                    let _ = self.send_some(context);
                }
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.incoming.closed || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.incoming.left > 0 {
                let most = usize::try_from(this.incoming.left).unwrap_or(usize::MAX).min(out.remaining());
                let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
                ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
                let read = part.filled().len();
                out.advance(read);
                this.incoming.left -= read as u64;
                return Poll::Ready(Ok(()));
            }
            match this.incoming.frame()? {
                Ok(frame) => this.take(frame, context)?,
                Err(missing) => {
                    let mut bytes = [0; 125];
                    let mut buffer = ReadBuf::new(&mut bytes[..missing]);
                    ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer))?;
                    if buffer.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    this.incoming.head.extend_from_slice(buffer.filled());
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        if this.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let part = &bytes[..bytes.len().min(MAX_FRAME)];
        this.push(2, part);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.closing, true) {
            this.push(8, &1000_u16.to_be_bytes());
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
