//! The socket in the file system: made so that there is no moment in which the wrong people could connect, and so that
//! nothing in its place is followed or destroyed.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tracing::debug;

use super::access;
use super::server::Error;

/// Root and the group may connect.
const MODE: u32 = 0o660;

/// How long another daemon has to answer before its socket counts as dead.
const ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// A listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Listens at `path`, for root and the members of `group`.
    pub(super) async fn bind(path: &Path, group: &str) -> Result<Self, Error> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        prepare_directory(directory)?;
        clear(path).await?;
        let failed = |what: &'static str| {
            move |source: io::Error| Error::Create { what, path: path.to_owned(), source }
        };
        // Under another name first: it gets its own only when owner and mode are right.
        let new = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replacing")(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed("creating"))?;
        fs::set_permissions(&new, Permissions::from_mode(MODE)).map_err(failed("setting the mode of"))?;
        if let Some(gid) = access::group_id(group) {
            // Not ours to give, where we are not root: then it is for our own user.
            if let Err(error) = std::os::unix::fs::lchown(&new, None, Some(gid)) {
                debug!(%error, group, "giving the control socket to the group");
            }
        }
        let metadata = fs::symlink_metadata(&new).map_err(failed("examining"))?;
        fs::rename(&new, path).map_err(failed("naming"))?;
        Ok(Self { listener, path: path.to_owned(), inode: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon's socket may be there by now.
        let ours = |metadata: Metadata| (metadata.dev(), metadata.ino()) == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whoever can write the directory can put another socket in our place and answer for us.
fn prepare_directory(directory: &Path) -> Result<(), Error> {
    let unusable = |source| Error::Directory { path: directory.to_owned(), source };
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    let metadata = fs::metadata(directory).map_err(unusable)?;
    let us = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || writable_by_others(metadata.uid(), metadata.mode(), us) {
        return Err(Error::UnsafeDirectory { path: directory.to_owned() });
    }
    Ok(())
}

/// A user's own group is trusted where that user runs us, as in a simulation; root trusts nobody's.
fn writable_by_others(owner: u32, mode: u32, us: u32) -> bool {
    let foreign = owner != 0 && owner != us;
    foreign || mode & 0o002 != 0 || (us == 0 && mode & 0o020 != 0)
}

/// Makes sure that nothing is at `path` but, perhaps, a socket that nobody listens to.
async fn clear(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Create { what: "examining", path: path.to_owned(), source }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::InTheWay { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    // A daemon that is too busy to answer is alive all the same.
    match tokio::time::timeout(ALIVE_LIMIT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(Error::InUse { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_safe_if_nobody_else_can_write_it() {
        for (owner, mode, us, writable) in [
            (0, 0o755, 0, false),
            (0, 0o755, 1000, false),
            (1000, 0o775, 1000, false),
            (0, 0o775, 0, true),
            (0, 0o1777, 0, true),
            (1000, 0o777, 1000, true),
            (1000, 0o755, 0, true),
            (1001, 0o755, 1000, true),
        ] {
            assert_eq!(writable_by_others(owner, mode, us), writable, "{owner} {mode:o} {us}");
        }
    }
}
