//! Where the network side listens: at a socket that whoever started it hands over, or at one that it makes itself.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
use std::path::Path;

use rustix::fs::Mode;
use tokio::net::UnixListener;

/// For the owner alone, from the first moment on.
const UMASK: Mode = Mode::from_raw_mode(0o177);

/// The listening socket that is our standard input: `StandardInput=socket` of systemd, or `wait` of an inetd.
///
/// # Errors
/// If it is none.
pub fn inherited() -> io::Result<UnixListener> {
    let listener = Listener::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Which fails for whatever is no such socket.
    listener.local_addr()?;
    listening(listener)
}

/// A socket of our own at `path`. One that nobody listens to any more gives place to it. To be called before there is a
/// second thread: it changes the mask for new files for a moment.
///
/// # Errors
/// If it cannot be made, or somebody listens there.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(it) if !it.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if Stream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let before = rustix::process::umask(UMASK);
    let bound = Listener::bind(path);
    rustix::process::umask(before);
    listening(bound?)
}

fn listening(listener: Listener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_its_owner_and_takes_the_place_of_a_dead_one_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("net.sock");
        let first = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
