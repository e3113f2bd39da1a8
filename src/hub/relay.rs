//! Links for another process: the network side's end.
//!
//! It makes a link as a session would: the way, the proxy, TLS, the WebSocket, the provisioning service, the greeting
//! with the token, the subscriptions. From then on it passes bytes on, both ways, and knows nothing of what they say.

use std::time::Duration;

use super::Lost;
use super::access::{Access, Introduction};
use super::dial::Opened;
use super::mqtt::{self, Link, Received, Sent};
use super::remote::{Answer, Ask};
use super::settings::Settings;
use crate::wire::{Broken, Frames, Kind};

/// How long the device side may be busy with something else before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Makes the link that is asked for in `ask`, the body of a [`Kind::Open`], and carries its bytes until one end is gone.
/// `way` says who we are, how we get through and how to behave, or in words why nothing does. Ends as well when the
/// device side hangs up.
///
/// # Errors
/// If the connection to the device side broke, or it says what it may not say.
pub async fn relay(
    mut frames: Frames,
    ask: &[u8],
    way: Result<(Access, Settings), String>,
) -> Result<(), Broken> {
    let meaningless = |_| Broken::Garbled("a request for a link that means nothing".to_owned());
    let Ask { now, memory } = serde_json::from_slice(ask).map_err(meaningless)?;
    let (access, settings) = match way {
        Ok(way) => way,
        Err(words) => {
            let (outcome, introduction) = (Err(Lost::Apart(words)), Introduction::default());
            return frames.say(Kind::Opened, &Answer { outcome, introduction, memory }).await;
        }
    };
    let mut access = access.recalling(memory);
    let opened = tokio::select! {
        opened = access.open(&settings, now) => opened,
        () = frames.gone() => return Ok(()),
    };
    let (outcome, link) = match opened {
        Ok(Opened { link, early, lives }) => (Ok(lives), Some((link, early))),
        Err(lost) => (Err(lost), None),
    };
    let (introduction, memory) = (access.introduction().clone(), access.memory().clone());
    frames.say(Kind::Opened, &Answer { outcome, introduction, memory }).await?;
    let Some((mut link, early)) = link else { return Ok(()) };
    let end = match repeat(&mut frames, early).await {
        Ok(()) => carry(&mut frames, &mut link, settings.answer_timeout).await,
        Err(end) => end,
    };
    match end {
        End::Lost(lost) => frames.say(Kind::Lost, &lost).await,
        // It has said goodbye to the hub already, or has no use for it any more.
        End::Apart(Broken::Ended) => {
            link.end(FAREWELL).await;
            Ok(())
        }
        End::Apart(broken) => Err(broken),
    }
}

/// Which end has gone.
enum End {
    Lost(Lost),
    Apart(Broken),
}

/// Passes on what came before the link was ready.
async fn repeat(frames: &mut Frames, early: Vec<Received>) -> Result<(), End> {
    for packet in early {
        let Received::Message { topic, payload, id } = packet else { continue };
        let packet = Sent::Message { topic, payload: payload.to_vec(), id };
        give(frames, &mqtt::bytes(packet).map_err(End::Lost)?).await?;
    }
    Ok(())
}

/// Passes bytes on, both ways.
async fn carry(frames: &mut Frames, link: &mut Link, limit: Duration) -> End {
    loop {
        let passed = tokio::select! {
            bytes = link.read_raw() => match bytes {
                Ok(bytes) => give(frames, &bytes).await,
                Err(lost) => Err(End::Lost(lost)),
            },
            frame = frames.receive(&[Kind::Bytes]) => match frame {
                Ok((_, bytes)) => link.write_raw(&bytes, limit).await.map_err(End::Lost),
                Err(broken) => Err(End::Apart(broken)),
            },
        };
        if let Err(end) = passed {
            return end;
        }
    }
}

async fn give(frames: &mut Frames, bytes: &[u8]) -> Result<(), End> {
    for piece in bytes.chunks(Kind::Bytes.limit()) {
        let given = tokio::time::timeout(PATIENCE, frames.send(Kind::Bytes, piece)).await;
        given.unwrap_or_else(|_| Err(Broken::Io(std::io::ErrorKind::TimedOut.into()))).map_err(End::Apart)?;
    }
    Ok(())
}
