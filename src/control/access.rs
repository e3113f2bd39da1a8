//! Who may ask for what: decided from what the kernel says of the other side, never from what it says itself.

use nix::unistd::{Gid, Group, Uid, User};

use super::proto::Fault;
use crate::model::{Location, Request};

/// The process at the other end, as the kernel has recorded it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
    /// Its process id, where it is known: for the journal only, since it may be another's by now.
    pub pid: Option<i32>,
}

/// What a peer is to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Root, or the user the daemon runs as.
    Root,
    /// A member of the configured group.
    Member,
    /// Anybody else.
    Other,
}

/// What `peer` is to a daemon that runs as user `us`; `member` tells whether it belongs to the group.
pub(super) fn standing(peer: Peer, us: u32, member: impl FnOnce() -> bool) -> Standing {
    if peer.uid == 0 || peer.uid == us {
        Standing::Root
    } else if member() {
        Standing::Member
    } else {
        Standing::Other
    }
}

/// Whether `standing` may ask for `request`.
///
/// Members of the group may install anything that a digest vouches for. A file without one is root's alone: the daemon
/// reads files as root, so anybody else could have it read what is not theirs.
pub(super) fn permit(standing: Standing, request: &Request, group: &str) -> Result<(), Fault> {
    let refuse =
        |message: &str, remedy| Err(Fault { code: "access.denied".into(), message: message.into(), remedy });
    let undigested_file = match request {
        Request::Install(install) => {
            matches!(install.artifact.location, Location::File(_)) && install.artifact.sha256.is_none()
        }
        Request::Apply
        | Request::Cancel
        | Request::Confirm
        | Request::FactoryReset
        | Request::ReadProperties(_)
        | Request::Reboot
        | Request::Reload
        | Request::Retry
        | Request::Rollback
        | Request::Status
        | Request::Watch
        | Request::WriteProperties(_) => false,
    };
    match standing {
        Standing::Root => Ok(()),
        Standing::Member if undigested_file => {
            refuse("only root may install a file without its digest", "give its --sha256, or use sudo".into())
        }
        Standing::Member => Ok(()),
        Standing::Other if request.only_asks() => Ok(()),
        Standing::Other => refuse(
            "only root and the configured group may change things",
            format!("use sudo, or have yourself added to the group: usermod -a -G {group} YOU"),
        ),
    }
}

/// Whether `peer` belongs to `group`, by its own group or by the system's user database. Looked up anew each time:
/// whoever is removed from the group loses the right at once.
pub(super) fn is_member(peer: Peer, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    if Gid::from_raw(peer.gid) == group.gid {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(peer.uid)) else { return false };
    user.gid == group.gid || group.mem.contains(&user.name)
}

/// The number of `group`, if there is such a group.
pub(super) fn group_id(group: &str) -> Option<u32> {
    Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Artifact, Install, Origin, Sha256};

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid, pid: Some(1) }
    }

    #[test]
    fn root_the_daemon_s_user_and_members_are_told_apart() {
        for (uid, us, member, wanted) in [
            (0, 0, false, Standing::Root),
            (0, 1000, false, Standing::Root),
            (1000, 1000, false, Standing::Root),
            (1001, 1000, false, Standing::Other),
            (1001, 0, true, Standing::Member),
            (1001, 0, false, Standing::Other),
        ] {
            assert_eq!(standing(peer(uid, 100), us, || member), wanted, "{uid} {us} {member}");
        }
    }

    #[test]
    fn p114_strangers_may_only_ask_and_members_need_a_digest_for_files() {
        let install = |location: Location, sha256| {
            let artifact = Artifact { version: None, location, sha256, size: None };
            Request::Install(Box::new(Install::new(artifact, Origin::Local, None)))
        };
        let file = || Location::File("/tmp/x".into());
        let url = Location::Url("https://h/x".parse().unwrap());
        let digest = Some(Sha256::of(b"x"));
        use Standing::{Member, Other, Root};
        for (request, allowed) in [
            (Request::Status, [Root, Member, Other].as_slice()),
            (Request::Watch, &[Root, Member, Other]),
            (Request::Apply, &[Root, Member]),
            (Request::Cancel, &[Root, Member]),
            (Request::Confirm, &[Root, Member]),
            (Request::FactoryReset, &[Root, Member]),
            (Request::ReadProperties(Vec::new()), &[Root, Member]),
            (Request::WriteProperties(std::collections::BTreeMap::new()), &[Root, Member]),
            (Request::Reboot, &[Root, Member]),
            (Request::Reload, &[Root, Member]),
            (Request::Retry, &[Root, Member]),
            (Request::Rollback, &[Root, Member]),
            (install(url, None), &[Root, Member]),
            (install(file(), digest), &[Root, Member]),
            (install(file(), None), &[Root]),
        ] {
            for standing in [Root, Member, Other] {
                let verdict = permit(standing, &request, "twinboot");
                assert_eq!(verdict.is_ok(), allowed.contains(&standing), "{standing:?} {request:?}");
                if let Err(fault) = verdict {
                    assert!(fault.code == "access.denied" && !fault.remedy.is_empty());
                }
            }
        }
    }

    #[test]
    fn membership_is_the_user_database_s_word() {
        assert!(is_member(peer(12345, 0), "root"), "by its own group");
        assert!(is_member(peer(0, 12345), "root"), "by its user's group");
        assert!(!is_member(peer(4_000_000_000, 4_000_000_000), "root"));
        assert!(!is_member(peer(0, 0), "no-such-group"));
        assert_eq!((group_id("root"), group_id("no-such-group")), (Some(0), None));
    }
}
