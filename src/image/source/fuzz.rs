//! Doors to how an answer is judged, for `tests/fuzz` and nobody else.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};

use super::Validator;
use super::answer::{self, Verdict};

/// What was asked for, and what is known of the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// From which byte on.
    pub offset: u64,
    /// Up to which byte, without that.
    pub until: Option<u64>,
    /// The file's length, from an earlier answer.
    pub total: Option<u64>,
    /// The file's length, as the update's author said.
    pub size: Option<u64>,
    /// The file's entity tag, from an earlier answer.
    pub etag: Option<&'a str>,
}

/// What comes of an answer: in a word, and the file's length if a body was accepted. `None` if HTTP has no such status.
/// Headers that HTTP does not know as such are left out.
pub fn judge(
    ask: Ask<'_>,
    status: u16,
    headers: &[(&str, &[u8])],
    length: Option<u64>,
) -> Option<(&'static str, Option<u64>)> {
    let status = StatusCode::from_u16(status).ok()?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    let ask = answer::Ask {
        host: "host".to_owned(),
        offset: ask.offset,
        until: ask.until,
        total: ask.total,
        size: ask.size,
        validator: Validator { etag: ask.etag.map(str::to_owned), last_modified: None },
    };
    // In 2026.
    Some(match answer::judge(&ask, status, &map, length, 1_795_000_000) {
        Verdict::Body(file) => ("body", file.total),
        Verdict::Whole(file) => ("whole", file.total),
        Verdict::Changed(file) => ("changed", file.and_then(|file| file.total)),
        Verdict::RangeRefused(_) => ("range refused", None),
        Verdict::Redirect(_) => ("redirect", None),
        Verdict::Fatal(_) => ("fatal", None),
        Verdict::Later(..) => ("later", None),
    })
}

/// Where a redirect leads that is followed from an https address.
pub fn follow(from: &str, location: &str) -> Option<String> {
    let from: Url = from.parse().ok()?;
    answer::follow(&from, location, std::slice::from_ref(&from)).ok().map(String::from)
}
