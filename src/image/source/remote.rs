//! Requests that another process makes: both ends of them.
//!
//! The device side says which file, from which byte on and up to which; the network side makes that one request and
//! passes on what comes: the status, the headers by which an answer is judged, and bytes. Back-pressure is the socket's own: what the
//! device side does not read is not fetched. Whether the answer is any good is judged on the device side, as it is
//! without a network side.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::client::{Client, Direct};
use super::get::{self, Answer, Fault, Get, JUDGED};
use crate::wire::{Broken, Frames, Kind, Side};

/// How long the device side may be busy writing before it is given up: no disk takes that long, and a download that is
/// held back by a limit on its rate still reads.
const PATIENCE: Duration = Duration::from_secs(600);

/// Headers longer than this are not passed on, so that all of them fit into a frame: addresses are long where they are
/// signed, and of the others nobody makes anything that is longer.
fn longest(name: &HeaderName) -> usize {
    if *name == LOCATION { 8 << 10 } else { 1 << 10 }
}

/// A request on the wire.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: String,
    from: u64,
    #[serde(default)]
    until: Option<u64>,
    if_range: Option<String>,
}

/// The head of an answer on the wire.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
    length: Option<u64>,
}

/// The device side's end: asks the network side, for one answer after the other over the same connection.
#[derive(Debug)]
pub(super) struct Asker {
    side: Side,
    /// The connection, while no answer is on its way over it.
    idle: Arc<Mutex<Option<Frames>>>,
}

impl Asker {
    pub(super) fn new(side: Side) -> Self {
        Self { side, idle: Arc::default() }
    }

    /// Asks, and waits for the head of the answer.
    pub(super) async fn get(&self, get: &Get) -> Result<Answer, Fault> {
        let idle = lock(&self.idle).take();
        let asked = async {
            let mut frames = match idle {
                Some(frames) => frames,
                None => self.side.connect().await?,
            };
            let Get { url, from, until, if_range } = get.clone();
            frames.say(Kind::Get, &Asked { url: url.into(), from, until, if_range }).await?;
            let (kind, body) = frames.receive(&[Kind::Answer, Kind::Failed]).await?;
            Ok((frames, kind, body))
        };
        let (frames, kind, body) = asked.await.map_err(apart)?;
        if kind == Kind::Failed {
            let fault = fault(&body);
            if matches!(fault, Fault::Proxy(_)) {
                // It is not the line that is at fault but what is shown to the proxy.
                self.side.renew().await;
            }
            drop(frames);
            return Err(fault);
        }
        let head: Option<Head> = serde_json::from_slice(&body).ok();
        let head = head.and_then(|head| {
            let status = StatusCode::from_u16(head.status).ok()?;
            Some((status, headers(&head.headers)?, head.length))
        });
        let (status, headers, length) = head.ok_or_else(|| apart(meaningless()))?;
        let body = Body { frames: Some(frames), idle: self.idle.clone() };
        Ok(Answer { status, headers, length, body: get::Body::Remote(body) })
    }
}

/// What a thread that panicked left behind is no worse than any other.
fn lock(idle: &Mutex<Option<Frames>>) -> MutexGuard<'_, Option<Frames>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The headers of an answer; `None` if one of them cannot be, or is none that is asked for.
fn headers(pairs: &[(String, String)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().ok().filter(|name| JUDGED.contains(name))?;
        headers.insert(name, HeaderValue::from_str(value).ok()?);
    }
    Some(headers)
}

/// The body of an answer, on its way through the network side.
#[derive(Debug)]
pub(super) struct Body {
    /// None after its end.
    frames: Option<Frames>,
    /// Where the connection goes then.
    idle: Arc<Mutex<Option<Frames>>>,
}

impl Body {
    /// The next bytes, or `None` at the end. May be dropped at any await and called again.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        let wanted = [Kind::Bytes, Kind::End, Kind::Failed];
        let Some(frames) = &mut self.frames else { return Ok(None) };
        let (kind, body) = frames.receive(&wanted).await.map_err(apart)?;
        match kind {
            Kind::Bytes => Ok(Some(body)),
            Kind::Failed => Err(fault(&body)),
            Kind::End => {
                *lock(&self.idle) = self.frames.take();
                Ok(None)
            }
            Kind::Hello
            | Kind::Setup
            | Kind::Leave
            | Kind::Open
            | Kind::Opened
            | Kind::Lost
            | Kind::Get
            | Kind::Answer => Ok(None),
        }
    }
}

fn fault(body: &[u8]) -> Fault {
    serde_json::from_slice(body).unwrap_or_else(|_| apart(meaningless()))
}

fn meaningless() -> Broken {
    Broken::Garbled("a message that means nothing".to_owned())
}

fn apart(broken: Broken) -> Fault {
    Fault::Apart(format!("the network side (twinboot-net.service): {broken}"))
}

/// The network side's end: makes the request that is asked for in `asked`, the body of a [`Kind::Get`], passes on what
/// comes of it, and then does the same with what is asked next; `direct` makes them, over the same connection where the
/// server keeps it, or says in words why nothing does. Ends when the device side hangs up.
///
/// # Errors
/// If the connection to the device side broke, or it says what it may not say.
pub async fn serve(mut frames: Frames, asked: &[u8], direct: Result<Direct, String>) -> Result<(), Broken> {
    let mut asked = Bytes::copy_from_slice(asked);
    let client = direct.map_err(Fault::Client).and_then(|mut direct| direct.client());
    while pass_on(&mut frames, &asked, &client).await? {
        let next = timeout(PATIENCE, frames.receive(&[Kind::Get])).await;
        asked = match next {
            Ok(Ok((_, next))) => next,
            Ok(Err(Broken::Ended)) | Err(_) => return Ok(()),
            Ok(Err(broken)) => return Err(broken),
        };
    }
    Ok(())
}

/// One request and its answer. Whether there may be another one on this connection.
async fn pass_on(frames: &mut Frames, asked: &[u8], client: &Result<Client, Fault>) -> Result<bool, Broken> {
    let meaningless = || Broken::Garbled("a request for a file that means nothing".to_owned());
    let Asked { url, from, until, if_range } = serde_json::from_slice(asked).map_err(|_| meaningless())?;
    let get = Get { url: Url::parse(&url).map_err(|_| meaningless())?, from, until, if_range };
    let client = match client {
        Ok(client) => client,
        Err(fault) => return frames.say(Kind::Failed, fault).await.map(|()| false),
    };
    let answered = tokio::select! {
        answered = client.get(&get) => answered,
        () = frames.gone() => return Ok(false),
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(fault) => return frames.say(Kind::Failed, &fault).await.map(|()| false),
    };
    let named = |name: &HeaderName| {
        let value = answer.headers.get(name)?.to_str().ok().filter(|value| value.len() <= longest(name))?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let headers = JUDGED.iter().filter_map(named).collect();
    let head = Head { status: answer.status.as_u16(), headers, length: answer.length };
    frames.say(Kind::Answer, &head).await?;
    let mut body = answer.body;
    loop {
        let chunk = tokio::select! {
            chunk = body.chunk() => chunk,
            () = frames.gone() => return Ok(false),
        };
        match chunk {
            Ok(Some(bytes)) => {
                for piece in bytes.chunks(Kind::Bytes.limit()) {
                    let sent = timeout(PATIENCE, frames.send(Kind::Bytes, piece)).await;
                    sent.unwrap_or_else(|_| Err(Broken::Io(std::io::ErrorKind::TimedOut.into())))?;
                }
            }
            Ok(None) => return frames.send(Kind::End, b"").await.map(|()| true),
            Err(fault) => return frames.say(Kind::Failed, &fault).await.map(|()| false),
        }
    }
}
