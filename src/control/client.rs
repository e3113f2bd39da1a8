//! The command line's end of the control socket. Blocking: there is nothing else to do meanwhile.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proto::{self, Response};
use crate::model::Request;

/// The longest answer taken, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Somewhat more than the daemon allows itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon that listens at `socket`.
    ///
    /// # Errors
    /// [`Error::Unreachable`], with its remedy.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| Error::Unreachable { socket: socket.to_owned(), source })?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is not one.
    pub fn ask(&mut self, request: &Request) -> Result<Response, Error> {
        self.stream.get_ref().set_read_timeout(Some(ANSWER_LIMIT)).map_err(Error::Lost)?;
        self.stream.get_ref().write_all(&proto::to_line(request)).or_else(|error| {
            // A daemon that has no room for us says so before it has read anything.
            if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(Error::Lost(error)) }
        })?;
        self.read()
    }

    /// After `watch`: waits for the next change, however long that takes.
    ///
    /// # Errors
    /// If the connection breaks, as it does when the daemon stops or the machine reboots.
    pub fn next_change(&mut self) -> Result<Response, Error> {
        self.stream.get_ref().set_read_timeout(None).map_err(Error::Lost)?;
        self.read()
    }

    fn read(&mut self) -> Result<Response, Error> {
        let mut line = Vec::new();
        self.stream.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line).map_err(Error::Lost)?;
        if line.last() != Some(&b'\n') {
            return Err(Error::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(Error::Garbled)
    }
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or not to us.
    #[error("connecting to twinboot at {}", socket.display())]
    Unreachable {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("talking to twinboot")]
    Lost(#[source] io::Error),
    /// What answered does not speak our language.
    #[error("understanding twinboot's answer")]
    Garbled(#[source] serde_json::Error),
}

impl Error {
    /// What the operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "use sudo, or have yourself added to the group that control.group names"
            }
            Self::Unreachable { .. } => "is it running? systemctl status twinboot",
            Self::Lost(_) => "it stopped or restarted just now; journalctl -u twinboot tells why",
            Self::Garbled(_) => {
                "is the daemon of the same version as this program? systemctl restart twinboot"
            }
        }
    }
}
