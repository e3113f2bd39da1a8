//! A WebSocket client by hand, RFC 6455 and no more: what is written goes out in masked binary frames of a length of
//! the caller's choice, what comes in must be unmasked.

use std::io::{self, Read, Write};

use super::{Emulator, Tls, dial};

/// Key and answer of RFC 6455, 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// The headers that Node's SDK sends.
pub const HEADERS: [&str; 6] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: mqtt",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
];

pub struct WebSocket {
    tls: Tls,
    /// Longest frame that is sent.
    pub piece: usize,
    /// Opcodes of frames that were no data.
    pub control: Vec<u8>,
    unread: Vec<u8>,
}

/// Sends a request for the WebSocket; the connection and the head of the answer.
pub fn ask(mut tls: Tls, headers: &[&str]) -> (Tls, String) {
    let mut head = "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\n".to_owned();
    headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    tls.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    tls.flush().unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    (tls, String::from_utf8(answer).unwrap())
}

impl WebSocket {
    pub fn open(emulator: &Emulator) -> WebSocket {
        WebSocket::over(dial(emulator, emulator.https_port()))
    }

    /// The handshake on a connection that is there.
    pub fn over(tls: Tls) -> WebSocket {
        let (tls, answer) = ask(tls, &HEADERS);
        let lower = answer.to_lowercase();
        assert!(lower.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains(ACCEPT), "{answer}");
        assert!(lower.contains("\r\nsec-websocket-protocol: mqtt\r\n"), "{answer}");
        assert!(!lower.contains("sec-websocket-extensions"), "{answer}");
        WebSocket { tls, piece: usize::MAX, control: Vec::new(), unread: Vec::new() }
    }

    /// Sends one frame with the first byte given (0x82 is a whole binary message).
    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(0x80 | length as u8),
            length @ 126..0x1_0000 => {
                out.push(0x80 | 126);
                out.extend((length as u16).to_be_bytes());
            }
            length => {
                out.push(0x80 | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(MASK);
        out.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
        self.tls.write_all(&out).unwrap();
        self.tls.flush().unwrap();
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            let mut head = [0; 2];
            self.tls.read_exact(&mut head)?;
            assert_eq!(head[1] & 0x80, 0, "a server does not mask");
            let mut length = [0; 8];
            let digits = match head[1] {
                126 => 2,
                127 => 8,
                short => {
                    length[7] = short;
                    0
                }
            };
            self.tls.read_exact(&mut length[8 - digits..])?;
            let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
            self.tls.read_exact(&mut payload)?;
            match head[0] {
                0x82 => self.unread = payload,
                first => self.control.push(first),
            }
            if head[0] == 0x88 {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.unread.len());
        buffer[..length].copy_from_slice(&self.unread[..length]);
        self.unread.drain(..length);
        Ok(length)
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
            self.frame(0x82, piece);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
