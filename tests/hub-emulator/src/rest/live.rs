//! `/emulator/events`: what happens, as it happens, as Server-Sent Events. Not the state, which is asked for when
//! something has happened. Source of the format: the HTML standard, section 9.2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Bytes, Frame};
use hyper::header::{self, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::veil::veiled;
use crate::images::Body;
use crate::shared::Shared;

/// Changes that follow each other closely are told together.
const PAUSE: Duration = Duration::from_millis(150);
/// When nothing happens, this often a comment finds out whether somebody still listens.
const ALIVE: Duration = Duration::from_secs(15);

/// Streams until the listener goes. `Last-Event-ID` is where it was; without it the latest events come first.
pub(super) fn serve(shared: &Arc<Shared>, headers: &HeaderMap) -> Response<Body> {
    let after = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let (sender, receiver) = channel(4);
    // Not the emulator itself: it must be able to end while somebody listens.
    tokio::spawn(tell(Arc::clone(shared), after.unwrap_or(0), sender));
    let mut response = Response::new(Stream(receiver).boxed_unsync());
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ] {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn tell(shared: Arc<Shared>, mut after: u64, sender: Sender<Bytes>) {
    let mut ticks = shared.ticks();
    // At once, so that the listener has something to begin with.
    let mut news = Some(latest(&shared, &mut after));
    loop {
        let text = news.take().unwrap_or_else(|| ": still here\n\n".to_owned());
        if sender.send(Bytes::from(text)).await.is_err() {
            return;
        }
        let changed = tokio::time::timeout(ALIVE, ticks.changed());
        let gone = tokio::select! {
            changed = changed => {
                if changed.is_ok() {
                    tokio::time::sleep(PAUSE).await;
                    ticks.mark_unchanged();
                    news = Some(latest(&shared, &mut after));
                }
                false
            }
            () = sender.closed() => true,
        };
        if gone {
            return;
        }
    }
}

/// One message: the events since, and the number of the last one.
fn latest(shared: &Shared, after: &mut u64) -> String {
    let (last, events) = shared.events.since(*after);
    *after = last;
    let events: Vec<Value> = events
        .iter()
        .map(|event| {
            let at = event.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let at = u64::try_from(at).unwrap_or(u64::MAX);
            json!({"at": at, "device": event.kind.device(), "text": veiled(&event.kind.to_string())})
        })
        .collect();
    format!("id: {last}\ndata: {}\n\n", json!({"last": last, "events": events}))
}

struct Stream(Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
