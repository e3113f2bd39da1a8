//! GET and HEAD of an image: validators, ranges, and the faults of headers. Not the sending of bodies.
//! Source: RFC 9110, sections 8.8, 13 and 14.

use std::io;
use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::response::Builder;
use hyper::{Method, Response, StatusCode};

use super::body::{Faults, ImageBody};
use super::{Image, Request};
use crate::clock;
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::shared::Shared;

/// The body of every answer of the emulator.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Answers a request for `/images/{name}`.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    method: &Method,
    name: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let faults = shared.images.faults.take_for_image(name);
    let mut answer = Answer { shared, method, name, range: text(headers, header::RANGE) };
    if let Some(response) = answer.instead(&faults) {
        return response;
    }
    if method != Method::GET && method != Method::HEAD {
        return answer.plain(StatusCode::METHOD_NOT_ALLOWED, &[(header::ALLOW, "GET, HEAD".to_owned())]);
    }
    let Some(image) = shared.images.find(name) else { return answer.plain(StatusCode::NOT_FOUND, &[]) };
    let truncated = faults
        .iter()
        .find_map(|kind| if let FaultKind::Truncate { bytes } = kind { Some(*bytes) } else { None });
    let length = image.length().min(truncated.unwrap_or(u64::MAX));
    let has = |kind: &FaultKind| faults.contains(kind);
    let mut fixed = vec![(header::ACCEPT_RANGES, "bytes".to_owned())];
    if !has(&FaultKind::NoValidators) {
        fixed.push((header::ETAG, image.quoted_etag()));
        fixed.push((header::LAST_MODIFIED, clock::http_date(image.modified)));
    }
    if has(&FaultKind::IgnoreRanges) {
        fixed.remove(0);
        answer.range = None;
    }
    let wanted = answer.range.as_deref().filter(|_| still_the_same(headers, &image));
    match wanted.map_or(Range::Whole, |range| parse(range, length)) {
        Range::Whole => answer.stream(StatusCode::OK, fixed, image, (0, length), &faults),
        Range::Unsatisfiable => {
            fixed.push((header::CONTENT_RANGE, format!("bytes */{length}")));
            answer.plain(StatusCode::RANGE_NOT_SATISFIABLE, &fixed)
        }
        Range::Part(start, end) => {
            let shown = if has(&FaultKind::WrongContentRange) { start + 1 } else { start };
            fixed.push((header::CONTENT_RANGE, format!("bytes {shown}-{}/{length}", end - 1)));
            answer.stream(StatusCode::PARTIAL_CONTENT, fixed, image, (start, end), &faults)
        }
    }
}

struct Answer<'a> {
    shared: &'a Arc<Shared>,
    method: &'a Method,
    name: &'a str,
    range: Option<String>,
}

impl Answer<'_> {
    /// The answer of a fault that puts something else in the image's place.
    fn instead(&self, faults: &[FaultKind]) -> Option<Response<Body>> {
        faults.iter().find_map(|kind| {
            if let FaultKind::Status { status, retry_after } = kind {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let after = retry_after.map(|seconds| (header::RETRY_AFTER, seconds.to_string()));
                return Some(self.plain(status, after.as_slice()));
            }
            if let FaultKind::Redirect { location } = kind {
                return Some(self.plain(StatusCode::FOUND, &[(header::LOCATION, location.clone())]));
            }
            None
        })
    }

    fn plain(&self, status: StatusCode, headers: &[(HeaderName, String)]) -> Response<Body> {
        self.log(status, 0, true);
        let reason = status.canonical_reason().unwrap_or_default();
        respond(Response::builder().status(status), headers, full(format!("{reason}\n")))
    }

    fn stream(
        &self,
        status: StatusCode,
        mut headers: Vec<(HeaderName, String)>,
        image: Image,
        (at, end): (u64, u64),
        faults: &[FaultKind],
    ) -> Response<Body> {
        headers.push((header::CONTENT_TYPE, "application/octet-stream".to_owned()));
        headers.push((header::CONTENT_LENGTH, (end - at).to_string()));
        let builder = Response::builder().status(status);
        if self.method == Method::HEAD {
            self.log(status, at, true);
            return respond(builder, &headers, full(Bytes::new()));
        }
        let body = ImageBody {
            shared: Arc::clone(self.shared),
            name: self.name.to_owned(),
            image,
            at,
            end,
            faults: Faults::of(faults),
            index: self.log(status, at, false),
            sent: 0,
            pause: None,
            flushed: false,
            ended: false,
        };
        respond(builder, &headers, body.boxed_unsync())
    }

    fn log(&self, status: StatusCode, start: u64, complete: bool) -> usize {
        let (status, range) = (status.as_u16(), self.range.clone());
        let (name, method) = (self.name.to_owned(), self.method.to_string());
        let path = name.clone();
        self.shared.events.emit(EventKind::ImageRequested { path, range: range.clone(), status });
        let index = self.shared.images.log_request(Request {
            name,
            method,
            range,
            status,
            start,
            bytes: 0,
            complete,
        });
        self.shared.touch();
        index
    }
}

fn respond(builder: Builder, headers: &[(HeaderName, String)], body: Body) -> Response<Body> {
    let mut response = builder.body(body).unwrap_or_default();
    for (name, value) in headers {
        // A redirect's target comes from outside and may be no header value; then there is none.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// If-Range: a range is only good for the content that the client has the beginning of. Only a strong ETag counts.
fn still_the_same(headers: &HeaderMap, image: &Image) -> bool {
    text(headers, header::IF_RANGE)
        .is_none_or(|known| known == image.quoted_etag() || known == clock::http_date(image.modified))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// First byte, and the one after the last.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range; of several, or of what is no range, the whole is served, as the RFC allows.
fn parse(header: &str, length: u64) -> Range {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(start), Ok(last)) if last >= start => (start, last.saturating_add(1).min(length)),
        (Ok(start), Err(_)) if last.is_empty() => (start, length),
        (Err(_), Ok(0)) if first.is_empty() => return Range::Unsatisfiable,
        (Err(_), Ok(count)) if first.is_empty() => (length.saturating_sub(count), length),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => return Range::Whole,
    };
    if start < length { Range::Part(start, end) } else { Range::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        for (header, expected) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=10-19", Range::Part(10, 20)),
            ("bytes=90-", Range::Part(90, 100)),
            ("bytes=90-5000", Range::Part(90, 100)),
            ("bytes=-10", Range::Part(90, 100)),
            ("bytes=-500", Range::Part(0, 100)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=x-", Range::Whole),
        ] {
            assert_eq!(parse(header, 100), expected, "{header}");
        }
    }
}
