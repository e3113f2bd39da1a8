//! Answers that are not what they say, made for the request that is asked.

use std::sync::LazyLock;
use std::time::Duration;

use super::super::server::{Act, Request};
use super::super::{gzip, zstd};

/// Sixteen megabytes of zeros, in a few thousand bytes: eight times the slot.
static BOMBS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let zeros = vec![0; 16 << 20];
    [gzip(&zeros), zstd(&zeros)]
});

/// The part that is asked for, its end excluded; `None` if all is.
fn part(request: &Request, file: &[u8]) -> Option<(usize, usize)> {
    let until = request.last().map_or(file.len(), |last| file.len().min(last + 1));
    let from = request.range()?.min(file.len() - 1);
    Some((from, until.max(from + 1)))
}

/// A head with these lines, each with its line end.
fn head(status: &str, etag: Option<&str>, lines: &str) -> Vec<u8> {
    let etag = etag.map_or(String::new(), |etag| format!("etag: {etag}\r\n"));
    format!("HTTP/1.1 {status}\r\n{etag}{lines}\r\n").into_bytes()
}

/// What a good server would send to this request, but as chunks without a length: the line of the range, and the body.
fn chunked(request: &Request, file: &[u8], etag: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let (status, line, body) = match part(request, file) {
        Some((from, until)) => {
            let line = format!("content-range: bytes {from}-{}/{}\r\n", until - 1, file.len());
            ("206 x", line, &file[from..until])
        }
        None => ("200 x", String::new(), file),
    };
    (head(status, etag, &format!("{line}transfer-encoding: chunked\r\n")), body.to_vec())
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// These bytes as the part from `from` on, or as the whole.
fn sent(from: Option<usize>, body: &[u8], total: usize, etag: Option<&str>) -> Vec<Act> {
    let len = format!("content-length: {}\r\n", body.len());
    let head = match from {
        Some(from) => {
            let last = from + body.len() - 1;
            head("206 x", etag, &format!("content-range: bytes {from}-{last}/{total}\r\n{len}"))
        }
        None => head("200 x", etag, &len),
    };
    vec![Act::Send(head), Act::Send(body.to_vec())]
}

/// Another place of the file than was asked for. Says so if `is_told`.
fn elsewhere(request: &Request, file: &[u8], etag: Option<&str>, number: u64, is_told: bool) -> Vec<Act> {
    let (from, until) = part(request, file).unwrap_or((0, file.len()));
    let by = 1 + number as usize % 5000;
    let there = if from >= by { from - by } else { (from + by).min(file.len() - 1) };
    let mut body = file[there..file.len().min(there + until - from)].to_vec();
    if is_told {
        return sent(Some(there), &body, file.len(), etag);
    }
    body.resize(until - from, 0);
    sent(part(request, file).map(|_| from), &body, file.len(), etag)
}

/// Another place of the file than was asked for.
pub(super) fn shifted(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    elsewhere(request, file, etag, number, true)
}

/// The same, and it says that it is the right one: as if nobody looked at what is said of it.
pub(super) fn shifted_unnoticed(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    elsewhere(request, file, etag, number, false)
}

/// A part of a file that is longer than it is.
pub(super) fn other_total(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let more = 1 + number as usize % 5000;
    let (from, until) = part(request, file).unwrap_or((0, file.len()));
    let mut body = file[from..until].to_vec();
    if request.last().is_none() {
        body.resize(body.len() + more, 0);
    }
    sent(Some(from), &body, file.len() + more, etag)
}

/// A part, without a word that can be understood of which.
pub(super) fn unsaid(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let (from, until) = part(request, file).unwrap_or((0, file.len()));
    let last = until - 1;
    let line = match number % 4 {
        0 => String::new(),
        1 => format!("content-range: bytes {from}-{last}/*\r\n"),
        2 => "content-range: nonsense\r\n".to_owned(),
        _ => format!("content-range: bytes {last}-{}/{}\r\n", last as i64 - 1, file.len()),
    };
    let lines = format!("{line}content-length: {}\r\n", until - from);
    vec![Act::Send(head("206 x", etag, &lines)), Act::Send(file[from..until].to_vec())]
}

/// The whole, and not as long as it is: a few bytes short of it, or more.
pub(super) fn wrong_length(_: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let by = 1 + (number / 2) as usize % 5000;
    let mut body = file.to_vec();
    body.resize(if number.is_multiple_of(2) { file.len() - by } else { file.len() + by }, 0);
    sent(None, &body, file.len(), etag)
}

/// What was asked for, and more.
pub(super) fn longer(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let (head, body) = chunked(request, file, etag);
    let more = vec![0x5a; 1 + number as usize % 5000];
    vec![Act::Send(head), Act::Send([chunk(&body), chunk(&more), b"0\r\n\r\n".to_vec()].concat())]
}

/// The beginning of what was asked for, as if it were all.
pub(super) fn shorter(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let (head, body) = chunked(request, file, etag);
    let len = 1 + number as usize % body.len();
    vec![Act::Send(head), Act::Send([chunk(&body[..len]), b"0\r\n\r\n".to_vec()].concat())]
}

/// What was asked for, but for some bytes around one place of the file.
pub(super) fn garbled(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let mut file = file.to_vec();
    let at = number as usize % file.len();
    let until = file.len().min(at + 1 + number as usize % 64);
    file[at..until].iter_mut().for_each(|byte| *byte ^= 0x2a);
    let (from, body) = match part(request, &file) {
        Some((from, until)) => (Some(from), &file[from..until]),
        None => (None, &file[..]),
    };
    sent(from, body, file.len(), etag)
}

/// Another version of the file, which has another entity tag: the whole, if the part was to be of the first one.
pub(super) fn other_version(request: &Request, file: &[u8], _: Option<&str>, _: u64) -> Vec<Act> {
    let file: Vec<u8> = file.iter().map(|byte| byte ^ 0x55).collect();
    versioned(request, &file, "\"another\"")
}

/// The right bytes under a tag of their own.
pub(super) fn other_tag(request: &Request, file: &[u8], _: Option<&str>, number: u64) -> Vec<Act> {
    versioned(request, file, &format!("\"{number}\""))
}

/// The right bytes, with nothing by which they could be known again.
pub(super) fn no_tag(request: &Request, file: &[u8], _: Option<&str>, _: u64) -> Vec<Act> {
    let found = part(request, file);
    let (from, until) = found.unwrap_or((0, file.len()));
    sent(found.map(|_| from), &file[from..until], file.len(), None)
}

fn versioned(request: &Request, file: &[u8], etag: &str) -> Vec<Act> {
    let is_part = request.header("if-range").is_none_or(|tag| tag == etag);
    let found = part(request, file).filter(|_| is_part);
    let (from, until) = found.unwrap_or((0, file.len()));
    sent(found.map(|_| from), &file[from..until], file.len(), Some(etag))
}

/// A body without an end.
pub(super) fn endless(request: &Request, file: &[u8], etag: Option<&str>, _: u64) -> Vec<Act> {
    let (head, _) = chunked(request, file, etag);
    vec![Act::Send(head), Act::Endless(chunk(&[1; 16 << 10]))]
}

/// Much out of little, with the length that the file has.
pub(super) fn bomb(_: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let mut body = BOMBS[number as usize % 2].clone();
    body.resize(file.len().max(body.len()), 0);
    sent(None, &body, file.len(), etag)
}

/// Whoever asks is sent to a page, and the page is what is there.
pub(super) fn login(request: &Request, _: &[u8], _: Option<&str>, number: u64) -> Vec<Act> {
    if !request.path.starts_with("/login") {
        let code = [302, 303, 307][number as usize % 3];
        let lines = format!("location: /login?from={number}\r\ncontent-length: 0\r\n");
        return vec![Act::Send(head(&format!("{code} x"), None, &lines))];
    }
    page(request, &[], None, number)
}

/// A page in place of the file.
pub(super) fn page(_: &Request, _: &[u8], _: Option<&str>, number: u64) -> Vec<Act> {
    let body = format!("<html>log in, number {number}</html>");
    let kind = ["text/html", "text/html; charset=utf-8", "TEXT/HTML"][number as usize % 3];
    let lines = format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len());
    vec![Act::Send(head("200 x", None, &lines)), Act::Send(body.into_bytes())]
}

/// On to another place, and on from there.
pub(super) fn onward(request: &Request, _: &[u8], _: Option<&str>, number: u64) -> Vec<Act> {
    let hop = request.path.strip_prefix("/hop").and_then(|hop| hop.parse::<u32>().ok());
    let code = [301, 302, 303, 307, 308][number as usize % 5];
    let lines = format!("location: /hop{}\r\ncontent-length: 0\r\n", hop.map_or(0, |hop| hop + 1));
    vec![Act::Send(head(&format!("{code} x"), None, &lines))]
}

/// The file in an encoding that nobody asked for.
pub(super) fn encoded(_: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let encoding = ["gzip", "br", "zstd"][number as usize % 3];
    let lines = format!("content-encoding: {encoding}\r\ncontent-length: {}\r\n", file.len());
    vec![Act::Send(head("200 x", etag, &lines)), Act::Send(file.to_vec())]
}

/// What is no head of an answer.
pub(super) fn gibberish(_: &Request, file: &[u8], _: Option<&str>, number: u64) -> Vec<Act> {
    let bytes = match number % 8 {
        0 => b"this is the file".to_vec(),
        1 => b"220 mail.example.com ESMTP\r\n\r\n".to_vec(),
        2 => b"HTTP/1.1 20 OK\r\n\r\n".to_vec(),
        3 => b"HTTP/9.9 200 OK\r\n\r\n".to_vec(),
        4 => format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: {}\r\n\r\n", file.len()).into(),
        5 => (0..1000).fold(b"HTTP/1.1 200 OK\r\n".to_vec(), |head, n| {
            [head, format!("x-{n}: 1\r\n").into_bytes()].concat()
        }),
        6 => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).into(),
        _ => b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 5\r\n\r\n12345".to_vec(),
    };
    vec![Act::Send(bytes)]
}

/// A pause in the middle, which is none of the server's faults yet.
pub(super) fn paused(request: &Request, file: &[u8], etag: Option<&str>, number: u64) -> Vec<Act> {
    let found = part(request, file);
    let (from, until) = found.unwrap_or((0, file.len()));
    let acts = sent(found.map(|_| from), &file[from..until], file.len(), etag);
    let mut paused = vec![];
    for act in acts {
        paused.extend([act, Act::Pause(Duration::from_millis(number % 40))]);
    }
    paused
}
