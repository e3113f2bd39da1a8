//! What comes over a connection before it means anything: packets, frames, HTTP.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use tokio::io::AsyncReadExt as _;
use twinboot::hub::fuzz::{Packet, Packets, message, websocket};
use twinboot::image::fuzz::{Ask, follow, judge};
use twinboot::proxy::{self, Proxy};
use twinboot::wire::{Frames, Kind};

use super::{KIB, Target, texts};
use crate::kit::{Input, Said, now, planted, text};

/// All packets of a connection, and why there were no more.
fn packets(bytes: &[u8], piece: usize) -> (Vec<Packet>, String) {
    let (mut link, mut found) = (Packets::new(Said::new(bytes, piece)), vec![]);
    loop {
        match now(link.next()) {
            Ok(packet) => found.push(packet),
            Err(why) => return (found, why),
        }
    }
}

pub const PACKET: Target = Target {
    name: "packet",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (piece, bytes) = (usize::from(input.byte()), input.rest());
        let whole = packets(bytes, usize::MAX);
        assert_eq!(packets(bytes, piece), whole, "however it is cut");
        for packet in &whole.0 {
            let Packet::Message(topic, payload, id) = packet else { continue };
            assert_ne!(*id, Some(0), "nobody can acknowledge that");
            let Some(sent) = message(topic, payload, *id) else { continue };
            if planted() {
                assert!(bytes.windows(sent.len()).any(|it| it == sent), "there is one way to send it");
            }
            let (again, _) = packets(&sent, usize::MAX);
            assert_eq!(again, [packet.clone()]);
        }
    },
    longest: 4 * KIB,
    memory: 64 * KIB,
    seeds: || {
        let message = |topic: &str, id| message(topic, b"{\"a\":1}", id).expect("it is short");
        let all = [
            &[0x20, 2, 0, 0, 0x90, 3, 0, 7, 1, 0x40, 2, 1, 0, 0xd0, 0][..],
            &message("$iothub/twin/res/200/?$rid=1", None),
            &message("devices/d/messages/devicebound/", Some(9)),
        ];
        vec![[&[3], all.concat().as_slice()].concat(), [&[255], all[1]].concat(), [&[1], all[2]].concat()]
    },
    words: &[b"\x20\x02", b"\x30", b"\x32", b"\x3a", b"\x40\x02", b"\x01\x00", b"$iothub/"],
};

/// The server's answer to a client whose key is nothing but zeros.
const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// The data of frames as RFC 6455 lays them out, written down once more: up to what is not as it must be, or missing.
fn data(bytes: &[u8]) -> Vec<u8> {
    let (mut input, mut data, mut unfinished) = (Input::new(bytes), vec![], false);
    loop {
        let &[first, second] = input.take(2) else { return data };
        let (last, kind) = (first >= 0x80, first & 0x7f);
        let extended = match second {
            126 if planted() => 0,
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let is_known = if kind >= 8 {
            matches!(kind, 8..=10) && last && second <= 125
        } else {
            kind == if unfinished { 0 } else { 2 }
        };
        let head = input.take(extended);
        if !is_known || second >= 0x80 || head.len() < extended {
            return data;
        }
        let length = if extended == 0 {
            u64::from(second)
        } else {
            head.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let body = input.take(usize::try_from(length).unwrap_or(usize::MAX));
        match kind {
            8 if body.len() as u64 == length => return data,
            8..=10 => {}
            _ => {
                data.extend_from_slice(body);
                unfinished = !last;
            }
        }
        if (body.len() as u64) < length {
            return data;
        }
    }
}

pub const WEBSOCKET: Target = Target {
    name: "websocket",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (piece, is_open) = (usize::from(input.byte()), input.byte() & 1 == 0);
        let bytes = input.rest();
        let said = if is_open { [OPENED.as_bytes(), bytes].concat() } else { bytes.to_vec() };
        let Ok(mut socket) = now(websocket(Said::new(&said, piece), "hub.example", [0; 16])) else {
            return assert!(!is_open, "it was opened as it has to be");
        };
        if !is_open {
            let head = said.windows(4).position(|it| it == b"\r\n\r\n").expect("an answer has an end");
            let head = String::from_utf8_lossy(&said[..head]).to_ascii_lowercase();
            return assert!(head.contains("101") && head.contains("icx+yqv66kxgm0fcwalwlflwtai="), "{head}");
        }
        let mut found = vec![];
        let _ = now(socket.read_to_end(&mut found));
        assert_eq!(found, data(bytes));
    },
    longest: 2 * KIB,
    memory: 64 * KIB,
    seeds: || {
        let frames = [
            &[0x82, 3][..],
            b"abc",
            &[0x02, 1],
            b"d",
            &[0x89, 2],
            b"hi",
            &[0x80, 0x7e, 0, 200],
            &[7; 200],
            &[0x8a, 0],
            &[0x88, 0],
        ];
        vec![
            [&[5, 0], frames.concat().as_slice()].concat(),
            [&[255, 1], OPENED.as_bytes()].concat(),
            vec![9, 0, 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2],
        ]
    },
    words: &[
        b"\x02\x7e\x00",
        b"HTTP/1.1 101",
        b"\r\n\r\n",
        b"Upgrade: websocket\r\n",
        b"Sec-WebSocket-Extensions: ",
        b"Sec-WebSocket-Protocol: mqtt\r\n",
    ],
};

pub const PROXY: Target = Target {
    name: "proxy",
    run: |bytes| {
        let address: proxy::Address = "http://proxy.example:3128".parse().expect("an address");
        let proxy = Proxy::new(address, None, Default::default(), vec![]);
        let mut stream = Said::new(bytes, usize::MAX);
        let opened = now(proxy.tunnel(&mut stream, "h", 443));
        let read = &bytes[..bytes.len() - stream.unread()];
        // Not a byte of what the host says behind it is taken.
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        assert!(read.len() <= end.min(16 * KIB));
        if opened.is_ok() {
            let line = text(read).lines().next().unwrap_or_default();
            let is_fine = line.starts_with("HTTP/1.") && line.get(8..10) == Some(" 2");
            assert!(is_fine && !(planted() && line.get(10..12) != Some("00")), "{line}");
        }
    },
    longest: 2 * KIB,
    memory: 64 * KIB,
    seeds: || {
        texts([
            "HTTP/1.1 200 Connection established\r\n\r\nwhat follows",
            "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n",
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
        ])
    },
    words: &[b"HTTP/1.1 ", b"HTTP/1.0 ", b"\r\n", b"\r\n\r\n", b"204", b"299"],
};

/// `bytes FIRST-LAST/TOTAL`, without a thought about anything else.
fn range(value: &str) -> Option<[u64; 3]> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let mut numbers = [0; 3];
    for (number, text) in numbers.iter_mut().zip([first, last, total]) {
        *number = text.parse().ok()?;
    }
    Some(numbers)
}

pub const ANSWER: Target = Target {
    name: "answer",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (flags, status) = (input.byte(), input.number(2) as u16);
        let number = |input: &mut Input<'_>, flag: u8| {
            let number = input.number(2);
            (flags & flag != 0).then_some(number)
        };
        let (offset, until, total) =
            (number(&mut input, 1).unwrap_or(0), number(&mut input, 2), number(&mut input, 4));
        let (size, length) = (number(&mut input, 8), number(&mut input, 16));
        let head = text(input.rest());
        let lines: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
        let headers: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        // Nobody asks for nothing.
        let until = until.filter(|until| *until > offset);
        let etag = (flags & 32 != 0).then_some("\"tag\"");
        let ask = Ask { offset, until, total, size, etag };
        if let Some((what, found)) = judge(ask, status, &headers, length) {
            let is_part = offset > 0 || until.is_some();
            assert!(matches!(status, 200 | 206) || !matches!(what, "body" | "whole" | "changed"));
            if what == "body" && is_part {
                let header = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-range"));
                let [first, last, all] =
                    header.and_then(|(_, value)| range(value)).expect("it says which part");
                assert_eq!((status, first, found), (206, offset, Some(all)));
                assert_eq!(last + 1, until.map_or(all, |until| until.min(all)), "all that was asked for");
                assert!(length.is_none_or(|it| it == last - first + 1) && size.is_none_or(|it| it == all));
                assert!(total.is_none_or(|it| it == all), "the file is as long as it was");
                assert!(!planted() || length.is_some(), "the length of a body is told");
            }
            assert!(what != "body" || is_part || status == 200, "nobody asked for a part");
        }
        for (_, location) in lines.iter().filter(|(name, _)| name.eq_ignore_ascii_case("location")) {
            let from = "https://user.example/a/b?c=d";
            let Some(next) = follow(from, location) else { continue };
            let host = next.strip_prefix("https://").expect("https alone").split(['/', '?']).next();
            assert!(host.is_some_and(|host| !host.is_empty() && !host.contains('@')), "{next}");
            assert!(!next.contains('#') && next != from, "{next}");
        }
    },
    longest: 1024,
    memory: 32 * KIB,
    seeds: || {
        let seed = |flags, status: u16, numbers: [u16; 5], head: &str| {
            let numbers = numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
            [&[flags], &status.to_le_bytes()[..], &numbers, head.as_bytes()].concat()
        };
        vec![
            seed(16, 200, [0, 0, 0, 0, 900], "ETag: \"tag\"\nContent-Type: text/plain\n"),
            seed(1, 206, [100, 0, 0, 0, 0], "Content-Range: bytes 100-899/900\nETag: \"tag\"\n"),
            seed(3, 206, [100, 200, 0, 0, 0], "Content-Range: bytes 100-199/900\n"),
            seed(63, 206, [100, 200, 900, 900, 100], "Content-Range: bytes 100-199/900\nETag: \"tag\"\n"),
            seed(0, 302, [0; 5], "Location: ../x?y#z\nLocation: https://other.example/\n"),
            seed(0, 503, [0; 5], "Retry-After: 120\n"),
            seed(0, 429, [0; 5], "Retry-After: Sun, 06 Nov 2033 08:49:37 GMT\n"),
        ]
    },
    words: &[
        b"Content-Range: bytes ",
        b"Content-Encoding: identity\n",
        b"Content-Type: text/html\n",
        b"ETag: \"tag\"\n",
        b"Last-Modified: ",
        b"Location: ",
        b"Retry-After: ",
        b"https://",
        b"//",
        b"@",
        b"-",
        b"/",
        b" GMT",
    ],
};

/// Frames as they are laid out, written down once more: those that are whole, up to one that may not be.
fn framed(bytes: &[u8]) -> Vec<(Kind, &[u8])> {
    let (mut input, mut found) = (Input::new(bytes), vec![]);
    loop {
        let [kind, length @ ..] = input.take(5) else { return found };
        if length.len() < 4 {
            return found;
        }
        let (kind, length) = (*kind, Input::new(length).number(4) as usize);
        let Some(kind) = Kind::ALL.into_iter().find(|it| *it as u8 == kind) else { return found };
        let body = input.take(length);
        if length > kind.limit() || body.len() < length {
            return found;
        }
        found.push((kind, body));
    }
}

pub const FRAMES: Target = Target {
    name: "frames",
    run: |bytes| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let found = runtime.block_on(async {
            let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            // Less than a socket holds.
            ours.write_all(bytes).expect("it is sent at once");
            drop(ours);
            theirs.set_nonblocking(true).expect("it is a socket");
            let mut frames = Frames::new(tokio::net::UnixStream::from_std(theirs).expect("a socket"));
            let mut found = vec![];
            while let Ok((kind, body)) = frames.receive(&Kind::ALL).await {
                assert!(
                    body.len() <= kind.limit() && !(planted() && body.len() > 100),
                    "{kind:?} of {}",
                    body.len()
                );
                found.push((kind, body));
            }
            found
        });
        assert!(found.iter().map(|(kind, body)| (*kind, &body[..])).eq(framed(bytes)));
    },
    longest: 2 * KIB,
    memory: 256 * KIB,
    seeds: || {
        vec![
            b"\x01\x1e\0\0\0{\"protocol\":2,\"version\":\"0.1.0\"}".to_vec(),
            b"\x07\x03\0\0\0abc\x0a\0\0\0\0\x06\x02\0\0\0{}".to_vec(),
            [&b"\x07\x60\0\0\0"[..], &[1; 96], b"\x0a\0\0\0\0"].concat(),
        ]
    },
    words: &[b"\x07\x01", b"\x03", b"\x0a", b"\x7f"],
};
