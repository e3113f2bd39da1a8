//! MQTT through the HTTPS port: the opening handshake of a WebSocket, and the WebSocket as a plain stream of bytes.
//! Not MQTT, which is `mqtt` and does not know the difference. Called by `server` for requests that ask for it.
//!
//! Source: RFC 6455; path and subprotocol as the SDKs send them. Extensions (Node offers permessage-deflate) are
//! declined by not being mentioned in the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Sink, Stream};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::images::{Body, full};
use crate::mqtt;
use crate::server::Caller;
use crate::shared::Shared;

const PATH: &str = "/$iothub/websocket";
const SUBPROTOCOL: &str = "mqtt";
/// RFC 6455, 1.3.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest message: far more than a packet, as a client may put many into one.
const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// Whether a request is for the WebSocket, well made or not.
pub(crate) fn is_meant(request: &Request<Incoming>) -> bool {
    request.uri().path() == PATH
}

/// Answers the handshake; devices are served in the background once the answer is out.
pub(crate) fn respond(shared: Arc<Shared>, mut request: Request<Incoming>, caller: Caller) -> Response<Body> {
    let key = match check(request.method(), request.headers()) {
        Ok(key) => key,
        Err((status, why)) => return refusal(status, why),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // Fails when the client goes before it has the answer.
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        mqtt::serve(Frames { socket, rest: Bytes::new() }, shared, caller).await;
    });
    let mut response = Response::new(full(String::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    // Base64 always makes a header.
    headers.extend(HeaderValue::from_str(&accept(&key)).map(|value| (header::SEC_WEBSOCKET_ACCEPT, value)));
    response
}

/// The client's key, or why there will be no WebSocket.
fn check(method: &Method, headers: &HeaderMap) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    let bad = |why| (StatusCode::BAD_REQUEST, why);
    if *method != Method::GET || !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(bad("this is a WebSocket: GET with Connection: Upgrade"));
    }
    if !lists(headers, &header::UPGRADE, "websocket") {
        return Err(bad("this is a WebSocket: Upgrade: websocket"));
    }
    if !lists(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "the WebSocket version is 13"));
    }
    if !lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(bad("the subprotocol here is mqtt; AMQP is not emulated"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(bad("Sec-WebSocket-Key is not base64 of 16 bytes"));
    }
    Ok(key.to_vec())
}

fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(full(why.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Whether one of the comma-separated words of a header is this one.
fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(wanted))
}

fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SALT].concat()))
}

/// The bytes in binary messages. Where a message begins means nothing: packets may span them or share one.
struct Frames<S> {
    socket: WebSocketStream<S>,
    /// Of the last message, what nobody has read yet.
    rest: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match Pin::new(&mut self.socket).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => self.rest = bytes,
                // Answered below; a Close comes here once more as the end.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)))) => {}
                Poll::Ready(Some(Ok(Message::Text(_) | Message::Frame(_)))) => {
                    return Poll::Ready(Err(io::Error::other("a WebSocket message that is not binary")));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    /// Each write becomes one message.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        let sent = match socket.as_mut().poll_ready(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => socket.start_send(Message::Binary(Bytes::copy_from_slice(bytes))),
            Poll::Ready(Err(error)) => Err(error),
        };
        Poll::Ready(sent.map(|()| bytes.len()).map_err(broken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(broken)
    }
}

fn broken(error: Error) -> io::Error {
    if let Error::Io(error) = error { error } else { io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_key_is_answered_as_the_standard_shows() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_whole_request_becomes_a_websocket() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "amqp, mqtt"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let check_without = |left_out: usize| {
            let mut headers = HeaderMap::new();
            for (index, (name, value)) in good.iter().enumerate() {
                if index != left_out {
                    headers.insert(*name, HeaderValue::from_static(value));
                }
            }
            check(&Method::GET, &headers).map_err(|(status, _)| status.as_u16())
        };
        assert!(check_without(good.len()).is_ok());
        let refused: Vec<_> = (0..good.len()).map(check_without).collect();
        assert_eq!(refused, [Err(400), Err(400), Err(426), Err(400), Err(400)]);
    }
}
