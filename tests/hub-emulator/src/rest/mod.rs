//! HTTPS requests: the service's REST API, images, and the emulator's own doors below `/emulator`. Not TLS and not
//! listening. Called by `emulator` for each connection.
//!
//! Any api-version is accepted. Errors look as the service's do today: a JSON text inside a JSON object.

mod configurations;
mod devices;
mod digital_twins;
mod emulator;
mod guard;
mod jobs;
mod live;
mod messages;
mod page;
mod query;
mod registrations;
mod twins;
mod veil;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::error::{Code, Error};
use crate::escape;
use crate::faults::FaultKind;
use crate::images::{self, Body, full};
use crate::policies::Right;
use crate::sas::Token;
use crate::server::Caller;
use crate::shared::Shared;

const BODY_LIMIT: usize = 1024 * 1024;

/// Who asks: in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A request, taken apart.
pub(crate) struct Request {
    method: Method,
    /// Of the path, decoded, empty ones left out: SDKs differ in whether they end with a slash.
    segments: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    caller: Caller,
    body: Value,
    /// Bytes of body.
    length: usize,
}

/// An answer in the making.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// None is an empty body.
    body: Option<Value>,
}

impl Reply {
    fn ok(body: Value) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: Some(body) }
    }

    fn nothing() -> Reply {
        Reply { status: 204, headers: Vec::new(), body: None }
    }

    fn status(mut self, status: u16) -> Reply {
        self.status = status;
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// A document and its ETag, which has quotes in the header and none in the body.
    fn tagged(body: Value) -> Reply {
        let etag = body["etag"].as_str().map(|etag| format!("\"{etag}\"")).unwrap_or_default();
        Reply::ok(body).with("ETag", etag)
    }

    fn error(error: &Error) -> Reply {
        let body = json!({"Message": error.body().to_string(), "ExceptionMessage": ""});
        let reply = Reply { status: error.code.status(), headers: Vec::new(), body: Some(body) };
        let reply = reply.with("iothub-errorcode", error.code.name());
        match error.retry_after {
            Some(seconds) => reply.with("Retry-After", seconds.to_string()),
            None => reply,
        }
    }

    /// Not for this one. No code of the service's: it knows no such refusal.
    fn forbidden(why: &str) -> Reply {
        Reply { status: 403, headers: Vec::new(), body: Some(json!({"Message": why})) }
    }

    fn into_response(self) -> Response<Body> {
        let body = self.body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = Response::new(full(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn if_match(&self) -> Option<&str> {
        self.header("if-match")
    }

    /// `?top=`, up to the service's own limit.
    fn top(&self, limit: usize) -> Result<usize, Error> {
        match escape::first(&self.query, "top") {
            None | Some("") => Ok(limit),
            Some(text) => match text.parse::<usize>() {
                Ok(top) if top > 0 => Ok(top.min(limit)),
                Ok(_) | Err(_) => {
                    Err(Error::invalid(format!("top={text} is not a number from 1 to {limit}")))
                }
            },
        }
    }

    /// Holds the Authorization header against the policies.
    fn authorize(&self, shared: &Shared, right: Right) -> Result<(), Error> {
        let refused = |why: &str| Error::new(Code::Unauthorized, why);
        let text = self.header("authorization").ok_or_else(|| refused("there is no Authorization header"))?;
        let token = Token::parse(text).map_err(|why| refused(&why))?;
        let host = self.header("host").unwrap_or_default();
        // Some SDKs sign the port along with the name, others do not.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let resource = if token.covers(host) { host } else { name };
        shared.read(|hub| hub.policies.check(&token, resource, right))
    }
}

/// Answers one request.
///
/// # Errors
/// If there is to be no answer: the connection ends.
pub(crate) async fn respond(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
    caller: Caller,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path == "/" || path.split('/').nth(1) == Some("emulator") {
        if let Err(why) = guard::admit(&shared.place, &head) {
            return Ok(Reply::forbidden(&why).into_response());
        }
        match (&head.method, path) {
            (&Method::GET, "/") => return Ok(page::serve()),
            (&Method::GET, "/emulator/events") => return Ok(live::serve(&shared, &head.headers)),
            _ => {}
        }
    }
    if let Some(name) = path.strip_prefix("/images/") {
        return Ok(images::serve(&shared, &head.method, &escape::decode(name), &head.headers));
    }
    let Ok(bytes) = Limited::new(body, BODY_LIMIT).collect().await else {
        let error = Error::new(Code::MessageTooLarge, "the body cannot be read or is too large");
        return Ok(Reply::error(&error).into_response());
    };
    let bytes = bytes.to_bytes();
    // No body is null; so is one that is not JSON until somebody needs it.
    let json = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
    let request = Request {
        method: head.method,
        segments: path.split('/').filter(|part| !part.is_empty()).map(escape::decode).collect(),
        query: escape::pairs(head.uri.query().unwrap_or_default()),
        headers: head.headers,
        caller,
        body: json.as_ref().cloned().unwrap_or_default(),
        length: bytes.len(),
    };
    let reply = match json {
        Ok(_) => route(&shared, &request).await,
        Err(error) => Err(Error::invalid(format!("the body is not JSON: {error}"))),
    };
    let part = request.segments.first().map_or("", String::as_str);
    let changes = request.method != Method::GET && part != "emulator";
    if changes && shared.faults.fires(part, &FaultKind::LoseServiceAnswer) {
        return Err(io::Error::other("fault: the answer is lost"));
    }
    Ok(reply.unwrap_or_else(|error| Reply::error(&error)).into_response())
}

async fn route(shared: &Shared, request: &Request) -> Result<Reply, Error> {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    let now = Instant::now();
    shared.read(|hub| match &hub.throttle {
        Some(throttle) => throttle.pass(request.method.as_str(), &segments, request.length, now),
        None => Ok(()),
    })?;
    if let Some(reply) = mishap(shared, segments.first().copied().unwrap_or_default()).await {
        return Ok(reply);
    }
    match segments[..] {
        ["devices", ref rest @ ..] => devices::route(shared, request, rest),
        ["twins", ref rest @ ..] => twins::route(shared, request, rest).await,
        ["configurations", ref rest @ ..] => configurations::route(shared, request, rest),
        ["digitaltwins", ref rest @ ..] => digital_twins::route(shared, request, rest).await,
        ["jobs", ref rest @ ..] => jobs::route(shared, request, rest),
        ["messages", ref rest @ ..] => messages::route(shared, request, rest),
        ["statistics", ref rest @ ..] => devices::statistics(shared, request, rest),
        ["emulator", ref rest @ ..] => emulator::route(shared, request, rest).await,
        [scope, "registrations", ref rest @ ..] => registrations::route(shared, request, scope, rest),
        _ => Err(unknown(request)),
    }
}

/// The faults that befall requests of the service, by the first part of their path. Never the emulator's own doors:
/// nobody could switch them off again.
async fn mishap(shared: &Shared, part: &str) -> Option<Reply> {
    if part == "emulator" {
        return None;
    }
    let delayed =
        |kind: &FaultKind| if let FaultKind::DelayService { millis } = kind { Some(*millis) } else { None };
    if let Some(delay) = shared.faults.delay(part, delayed) {
        tokio::time::sleep(delay).await;
    }
    let (status, retry_after) = shared.faults.take(part, |kind| {
        if let FaultKind::FailService { status, retry_after } = kind {
            Some((*status, *retry_after))
        } else {
            None
        }
    })?;
    let error = Error::new(Code::from_status(status), "fault: requests of the service fail");
    let reply = Reply { status, ..Reply::error(&error) };
    Some(match retry_after {
        Some(seconds) => reply.with("Retry-After", seconds.to_string()),
        None => reply,
    })
}

/// What is not emulated says so, rather than pretend.
fn unknown(request: &Request) -> Error {
    let path = request.segments.join("/");
    Error::new(Code::NotFound, format!("{} /{path} is not emulated", request.method))
}
