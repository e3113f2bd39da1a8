//! Links that another process makes: the device side's end.
//!
//! What the session says and hears on such a link is what it says to a hub and hears of it, packet by packet, and it is
//! judged here as if it came straight from there. So whoever took over the network side can do what a hub could do, and
//! no more; the session's defences against a hub that lies or floods hold against it as they are.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Lost;
use super::access::Introduction;
use super::dial::{Dial, Opened, Opening};
use super::identity::is_device_id;
use super::memory::{Memory, Shelf};
use super::mqtt::Link;
use crate::model::Timestamp;
use crate::wire::{Broken, Frames, Kind, Side};

/// So long the making of a link may take, the longest talk with the provisioning service before it included.
const LIMIT: Duration = Duration::from_secs(400);
/// What may be said of how long a link lives. Shorter, and links would be made one after the other without a pause; longer
/// is as good as for ever, and no clock counts to the end of all that can be said.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const LONGEST_LIFE: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Most warnings that are taken over.
const MAX_WARNINGS: usize = 16;
/// Longest text that is taken over, in characters.
const MAX_TEXT: usize = 512;

/// What is asked of the network side.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// The time to sign for.
    pub now: Timestamp,
    /// What is remembered.
    pub memory: Memory,
}

/// What it answers.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// How long the link lives, as in [`Opened`]; or why there is none.
    pub outcome: Result<Option<Duration>, Lost>,
    /// Who we are to the hub.
    pub introduction: Introduction,
    /// What is to be remembered.
    pub memory: Memory,
}

/// Whoever has another process make the links.
#[derive(Debug)]
pub struct Remote {
    side: Side,
    shelf: Shelf,
    memory: Memory,
    known: Introduction,
    told: Introduction,
}

impl Remote {
    /// Links that the network side `side` makes; `shelf` keeps what has to outlive a restart.
    pub fn new(side: Side, shelf: Shelf) -> Self {
        let (known, told) = <(Introduction, Introduction)>::default();
        Self { side, memory: shelf.memory(), shelf, known, told }
    }

    async fn reach(&mut self, now: Timestamp) -> Result<Opened, Lost> {
        let asked = async {
            let mut frames = self.side.connect().await?;
            frames.say(Kind::Open, &Ask { now, memory: self.memory.clone() }).await?;
            let answer: Answer = frames.expect(Kind::Opened).await?;
            Ok((frames, answer))
        };
        let asked = timeout(LIMIT, asked).await;
        let (frames, answer) =
            asked.unwrap_or_else(|_| Err(Broken::Garbled("it does not answer".to_owned()))).map_err(apart)?;
        self.memory = answer.memory.vetted();
        self.shelf.keep(&self.memory);
        self.known = vetted(answer.introduction);
        self.known.warnings.extend(self.shelf.problem().map(str::to_owned));
        if answer.outcome.as_ref().is_err_and(Lost::is_of_credentials) {
            self.side.renew().await;
        }
        let lives = answer.outcome?.map(|lives| lives.clamp(SHORTEST_LIFE, LONGEST_LIFE));
        Ok(Opened { link: Link::relayed(Relayed(frames)), early: Vec::new(), lives })
    }
}

impl Dial for Remote {
    fn open(&mut self, now: Timestamp) -> Opening<'_> {
        Box::pin(self.reach(now))
    }

    fn device(&self) -> &str {
        &self.known.device
    }

    fn news(&mut self) -> Option<Introduction> {
        if self.told == self.known {
            return None;
        }
        self.told.clone_from(&self.known);
        Some(self.known.clone())
    }
}

/// The bytes of a link, on their way through the network side.
#[derive(Debug)]
pub(super) struct Relayed(Frames);

impl Relayed {
    /// Most bytes at once.
    pub(super) const PIECE: usize = 16 * 1024;

    /// More bytes. May be dropped at any await and called again.
    pub(super) async fn read(&mut self) -> Result<Bytes, Lost> {
        let (kind, body) = self.0.receive(&[Kind::Bytes, Kind::Lost]).await.map_err(apart)?;
        if kind == Kind::Bytes {
            return Ok(body);
        }
        let meaningless = || apart(Broken::Garbled("a message that means nothing".to_owned()));
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| meaningless()))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        for piece in bytes.chunks(Self::PIECE) {
            self.0.send(Kind::Bytes, piece).await.map_err(apart)?;
        }
        Ok(())
    }

    pub(super) async fn shut_down(&mut self) {
        // It has gone already, or it goes with us.
        let _ = self.0.finish().await;
    }
}

/// The network side is not there or not sound: a matter between the two of us, and not of the hub's.
fn apart(broken: Broken) -> Lost {
    Lost::Apart(broken.to_string())
}

/// An introduction as it may be shown: anybody might have written it.
fn vetted(introduction: Introduction) -> Introduction {
    let printable =
        |text: String| -> String { text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect() };
    let Introduction { hub, device, way, warnings } = introduction;
    Introduction {
        hub: printable(hub),
        device: Some(device).filter(|device| is_device_id(device)).unwrap_or_default(),
        way: printable(way),
        warnings: warnings.into_iter().take(MAX_WARNINGS).map(printable).collect(),
    }
}
