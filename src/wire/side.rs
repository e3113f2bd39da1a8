//! How a connection begins: who is there, and what the network side has to know.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::frames::{Frames, Kind, read};
use super::{Broken, PROTOCOL};
use crate::model::Timestamp;

/// How long the other side may take to say who it is: it may have to be started first, on a slow machine.
const GREETING: Duration = Duration::from_secs(30);

/// How long the other side may take to leave for new credentials.
const LEAVING: Duration = Duration::from_secs(5);
/// How soon it may be had to leave for new credentials again, at first and at last. Whoever is refused with the new ones as
/// well must not break off what else is under way more often than this, and each time that gets longer without being.
const RENEWAL: Duration = Duration::from_secs(600);
const LONGEST_RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// After so many times its pause, a refusal has nothing to do with the one before.
const FORGOTTEN: u32 = 4;

/// The first thing that each side says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Hello {
    protocol: u32,
    version: String,
}

impl Hello {
    fn ours() -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Fine if it is the same program.
    fn check(self) -> Result<(), Broken> {
        let ours = Self::ours();
        if self == ours {
            return Ok(());
        }
        let printable = |it: &Self| -> String {
            let version: String = it.version.chars().filter(|c| !c.is_control()).take(32).collect();
            format!("{version} (protocol {})", it.protocol)
        };
        Err(Broken::Version { theirs: printable(&self), ours: printable(&ours) })
    }
}

/// What the network side has to know. No secret is in it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The configuration as TOML, as it is in force on the device side.
    pub config: String,
    /// What time it is for a clock that cannot be right.
    pub floor: Timestamp,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("floor", &self.floor).finish_non_exhaustive()
    }
}

/// The way from the device side to the network side.
#[derive(Clone, Debug)]
pub struct Side {
    socket: Arc<Path>,
    setup: Arc<Setup>,
    /// When it was last had to leave for new credentials, and how long it then may stay.
    renewed: Arc<Mutex<Option<(Instant, Duration)>>>,
}

impl Side {
    /// The network side behind `socket`, which is to work by `setup`.
    pub fn new(socket: PathBuf, setup: Setup) -> Self {
        Self { socket: socket.into(), setup: Arc::new(setup), renewed: Arc::default() }
    }

    /// A new connection, on which both have said hello.
    ///
    /// # Errors
    /// If there is nobody, or it is not the same program.
    pub async fn connect(&self) -> Result<Frames, Broken> {
        let unreachable = |cause| Broken::Unreachable { socket: self.socket.display().to_string(), cause };
        let begin = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
            let mut frames = Frames::new(stream);
            let said = async {
                frames.say(Kind::Hello, &Hello::ours()).await?;
                frames.say(Kind::Setup, &*self.setup).await
            };
            // The other side does not read on if it is another program, and then its hello says so.
            let said = said.await;
            frames.expect::<Hello>(Kind::Hello).await?.check()?;
            said.map(|()| frames)
        };
        timeout(GREETING, begin).await.unwrap_or_else(|_| {
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer");
            Err(unreachable(silent))
        })
    }

    /// What the network side showed for us was refused. It has the credentials as they were when it began, and while somebody
    /// is connected it does not end by itself: has it end as [`Side::leave`] does, unless it was had to a short while ago.
    /// Call it while still connected, so that it is this one that leaves.
    pub async fn renew(&self) {
        {
            // Nobody panics while holding it.
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(pause) = stays(renewed.map(|(at, pause)| (at.elapsed(), pause))) else { return };
            *renewed = Some((Instant::now(), pause));
        }
        match timeout(LEAVING, self.leave()).await {
            Ok(Ok(())) => tracing::debug!("the network side left for the credentials as they are by now"),
            Ok(Err(error)) => tracing::debug!(%error, "the network side was not told to leave"),
            Err(_) => tracing::debug!("the network side does not leave"),
        }
    }

    /// Has the network side end, so that it is started anew: with the credentials as they are by then.
    ///
    /// # Errors
    /// If it cannot be told. It may not run at all, which is as good.
    pub async fn leave(&self) -> Result<(), Broken> {
        let mut frames = self.connect().await?;
        frames.send(Kind::Leave, b"").await?;
        // Until it has really gone: whoever connects next must find another one.
        let _ = timeout(GREETING, frames.gone()).await;
        Ok(())
    }
}

/// How long it may stay if it leaves now, where it left `ago` to stay for `pause`; `None` if that is not over.
fn stays(last: Option<(Duration, Duration)>) -> Option<Duration> {
    match last {
        Some((ago, pause)) if ago < pause => None,
        Some((ago, pause)) if ago < pause * FORGOTTEN => Some(LONGEST_RENEWAL.min(pause * 2)),
        Some(_) | None => Some(RENEWAL),
    }
}

/// The network side's end: says hello on a new connection, and reads what to work by.
///
/// # Errors
/// If the other side is another program, or says what it may not say.
pub async fn accept(stream: UnixStream) -> Result<(Frames, Setup), Broken> {
    let mut frames = Frames::new(stream);
    let begin = async {
        let (_, theirs) = frames.receive(&[Kind::Hello]).await?;
        frames.say(Kind::Hello, &Hello::ours()).await?;
        read::<Hello>(&theirs)?.check()?;
        frames.expect(Kind::Setup).await
    };
    let silent = || Broken::Io(std::io::ErrorKind::TimedOut.into());
    let setup = timeout(GREETING, begin).await.unwrap_or_else(|_| Err(silent()))?;
    Ok((frames, setup))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    fn setup() -> Setup {
        Setup { config: "[hub]\n".repeat(20_000), floor: Timestamp(7) }
    }

    fn listen() -> (tempfile::TempDir, UnixListener, Side) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("net.sock");
        (directory, UnixListener::bind(&socket).unwrap(), Side::new(socket, setup()))
    }

    #[tokio::test]
    async fn both_say_hello_and_the_setup_arrives() {
        let (_directory, listener, side) = listen();
        let serve = async { accept(listener.accept().await.unwrap().0).await };
        let (frames, accepted) = tokio::join!(side.connect(), serve);
        assert!(frames.is_ok());
        assert_eq!(accepted.unwrap().1, setup());
    }

    #[tokio::test]
    async fn another_program_is_told_on_both_sides() {
        let other = Hello { protocol: PROTOCOL, version: "99.0.0\n".to_owned() };
        let (_directory, listener, side) = listen();
        let serve = async {
            let mut frames = Frames::new(listener.accept().await.unwrap().0);
            frames.say(Kind::Hello, &other).await.unwrap();
        };
        let (error, ()) = tokio::join!(side.connect(), serve);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("twinboot 99.0.0 (protocol 2), this is"), "{error}");

        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut frames = Frames::new(ours);
        frames.say(Kind::Hello, &Hello { protocol: 1, ..Hello::ours() }).await.unwrap();
        assert!(matches!(accept(theirs).await, Err(Broken::Version { .. })));
        frames.expect::<Hello>(Kind::Hello).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_socket() {
        let side = Side::new("/nowhere/net.sock".into(), setup());
        let error = side.connect().await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/net.sock") && error.contains("No such file"), "{error}");
    }

    /// A download from a server that does not go on where it was takes as long as it takes.
    #[test]
    fn who_is_refused_again_and_again_leaves_the_rest_alone_for_longer_each_time() {
        let (mut pause, mut pauses) = (stays(None).unwrap(), Vec::new());
        for _ in 0..9 {
            pauses.push(pause.as_secs());
            assert_eq!(stays(Some((pause - Duration::from_millis(1), pause))), None);
            pause = stays(Some((pause, pause))).unwrap();
        }
        assert_eq!(pauses, [600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800, 86_400]);
        assert_eq!(stays(Some((pause * 4, pause))), Some(RENEWAL), "that was another matter");
    }

    #[test]
    fn the_configuration_is_not_shown() {
        assert!(!format!("{:?}", setup()).contains("hub"));
    }
}
