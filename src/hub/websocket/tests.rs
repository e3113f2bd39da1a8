//! A server of WebSockets played byte by byte, from RFC 6455 and not from the code under test.
#![allow(clippy::unwrap_used)]

use tokio::io::{DuplexStream, duplex};

use super::*;

/// RFC 6455, 1.3: "dGhlIHNhbXBsZSBub25jZQ==" is answered with "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".
const KEY: [u8; 16] = *b"the sample nonce";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

async fn open(then: &[u8]) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, mut theirs) = duplex(1 << 20);
    theirs.write_all(GOOD.as_bytes()).await.unwrap();
    theirs.write_all(then).await.unwrap();
    let socket = upgrade(ours, "hub.example", KEY).await.unwrap();
    let mut request = vec![0; 4096];
    let length = theirs.read(&mut request).await.unwrap();
    let request = String::from_utf8(request[..length].to_vec()).unwrap();
    assert_eq!(
        request,
        "GET /$iothub/websocket HTTP/1.1\r\nHost: hub.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    (socket, theirs)
}

/// One frame of the client's, unmasked: its first byte and its payload.
async fn frame(server: &mut DuplexStream) -> (u8, Vec<u8>) {
    let first = server.read_u8().await.unwrap();
    let second = server.read_u8().await.unwrap();
    assert!(second & 0x80 != 0, "clients mask");
    let length = match second & 0x7f {
        126 => u64::from(server.read_u16().await.unwrap()),
        127 => server.read_u64().await.unwrap(),
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    server.read_exact(&mut mask).await.unwrap();
    let mut payload = vec![0; length as usize];
    server.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (first, payload)
}

#[tokio::test]
async fn bytes_go_out_in_masked_binary_frames() {
    let (mut socket, mut server) = open(b"").await;
    for length in [1, 125, 126, 1000, MAX_FRAME, 3 * MAX_FRAME + 1] {
        let sent: Vec<u8> = (0..length).map(|n| n as u8).collect();
        socket.write_all(&sent).await.unwrap();
        socket.flush().await.unwrap();
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let (first, payload) = frame(&mut server).await;
            assert_eq!(first, 0x82);
            got.extend(payload);
        }
        assert_eq!(got, sent);
    }
}

#[tokio::test]
async fn frames_mean_nothing_to_what_is_above() {
    // A message in one frame, one in three frames with a ping between them, an empty frame, lengths in two and eight
    // bytes, and a pong nobody asked for.
    let mut bytes =
        b"\x82\x02ab\x02\x01c\x89\x03hey\x00\x01d\x80\x02ef\x82\x00\x82\x7e\0\x01g\x8a\x00".to_vec();
    bytes.extend(b"\x82\x7f\0\0\0\0\0\0\0\x02hi");
    bytes.extend([0x82, 0x7e, 0x01, 0x00]);
    bytes.extend([b'z'; 256]);
    for step in [1, 2, 3, 7, 1000] {
        let (mut socket, mut server) = open(b"").await;
        let expected = [&b"abcdefghi"[..], &[b'z'; 256]].concat();
        let mut got = vec![0; expected.len()];
        let send = async {
            for part in bytes.chunks(step) {
                server.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (read, ()) = tokio::join!(socket.read_exact(&mut got), send);
        read.unwrap();
        assert_eq!(got, expected, "in steps of {step}");
        assert_eq!(frame(&mut server).await, (0x8a, b"hey".to_vec()), "the ping was answered");
    }
}

#[tokio::test]
async fn a_close_is_answered_and_is_the_end() {
    let (mut socket, mut server) = open(b"\x82\x01a\x88\x02\x03\xe8").await;
    let mut got = Vec::new();
    socket.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"a");
    assert_eq!(frame(&mut server).await, (0x88, vec![0x03, 0xe8]));
    assert!(socket.write_all(b"x").await.is_err());

    let (mut socket, mut server) = open(b"").await;
    socket.shutdown().await.unwrap();
    assert_eq!(frame(&mut server).await, (0x88, vec![0x03, 0xe8]), "we say goodbye too");
}

#[tokio::test]
async fn what_a_server_never_sends_ends_the_connection() {
    for (bytes, what) in [
        (&b"\x82\x81\0\0\0\0a"[..], "masked"),
        (b"\xc2\x01a", "compressed"),
        (b"\x81\x01a", "text"),
        (b"\x80\x01a", "the middle of nothing"),
        (b"\x02\x01a\x82\x01b", "a new message inside another"),
        (b"\x09\x01a", "a ping in parts"),
        (b"\x89\x7e\0\x01a", "a long ping"),
        (b"\x83\x00", "an unknown kind"),
        (b"\x8b\x00", "an unknown control frame"),
    ] {
        let (mut socket, _server) = open(bytes).await;
        let error = socket.read_to_end(&mut Vec::new()).await.expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
    }
}

#[tokio::test]
async fn only_an_upgrade_for_us_and_for_mqtt_is_accepted() {
    for (from, to, needle) in [
        ("101 Switching Protocols", "403 Forbidden", "answers 403"),
        ("101 Switching Protocols", "200 OK", "answers 200"),
        ("HTTP/1.1", "SSH", "HTTP"),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "AAAALMBiTxaQ9kYGzzhZRbK+xOo=", "not opened for us"),
        ("Protocol: mqtt", "Protocol: amqp", "MQTT"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "", "MQTT"),
        ("Upgrade: WebSocket", "Upgrade: h2c", "something else"),
        ("Connection:", "Sec-WebSocket-Extensions: permessage-deflate\r\nConnection:", "extension"),
    ] {
        let (ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(GOOD.replace(from, to).as_bytes()).await.unwrap();
        let error = upgrade(ours, "hub.example", KEY).await.unwrap_err();
        assert!(error.contains(needle), "{to}: {error}");
    }
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(&b"HTTP/1.1 101 x\r\na: b\r\n".repeat(2000)).await.unwrap();
    assert!(upgrade(ours, "hub.example", KEY).await.unwrap_err().contains("no end"));
    let (ours, theirs) = duplex(1 << 16);
    drop(theirs);
    assert!(upgrade(ours, "hub.example", KEY).await.is_err());
}
