//! What to install, and how to know that it is right.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Failure, Reason, SecretUrl, Sha256, Version};

/// The bytes of one firmware version: where they are and what they must be.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Artifact {
    /// The label of the firmware inside, if the request told it.
    pub version: Option<Version>,
    /// Where the bytes are.
    pub location: Location,
    /// Digest of the bytes as they are fetched (compressed, if they are). `None` only where the integrator allowed
    /// it, or for a file that root hands over on the device itself.
    pub sha256: Option<Sha256>,
    /// Length in bytes of what is fetched, if the request told it.
    pub size: Option<u64>,
}

/// The way back to the state in which the device was made, as the integrator declared it for the system that runs.
/// Neither of the two: there is none.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Factory {
    /// The image to install, a file on this device.
    pub image: Option<Artifact>,
    /// Whether there is a program that makes the data as new.
    pub program: bool,
}

impl Factory {
    /// Whether there is a way at all.
    pub fn is_declared(&self) -> bool {
        self.image.is_some() || self.program
    }
}

/// Where an artifact's bytes are.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// On a server.
    Url(SecretUrl),
    /// On this device; only ever named on this device, never by the hub.
    File(PathBuf),
}

impl Location {
    /// Whether a signed bundle is there, which its name says: it ends in `.twb`, in letters of either case. The query of an
    /// address is no part of the name. So nobody can have a plain image taken for a bundle, nor a bundle for a plain image.
    pub fn is_bundle(&self) -> bool {
        let name = match self {
            Self::Url(url) => url.redacted().as_bytes(),
            Self::File(path) => path.as_os_str().as_encoded_bytes(),
        };
        name.to_ascii_lowercase().ends_with(b".twb")
    }
}

/// What vouches for bytes on this device: `[trust]` of the configuration, as far as requests are judged by it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vouching {
    /// There are root keys: signed bundles are taken, and nothing else is.
    pub signed: bool,
    /// A request may leave open what the bytes must be: `trust.allow_undigested`.
    pub undigested: bool,
}

impl Vouching {
    /// Whether a request may name `location`, with a digest or without one. A bundle's signatures say what its bytes
    /// must be. So does root, who alone may name a file of this device without a digest.
    ///
    /// # Errors
    /// If nothing vouches for what is there.
    pub fn judge(self, location: &Location, has_digest: bool) -> Result<(), Reason> {
        const UNSIGNED: &str =
            "it is no signed bundle (*.twb), and this device has root keys: it takes nothing else";
        const NO_KEYS: &str = "it is a signed bundle, and this device has no root keys to judge it by: put them into trust.keys";
        const UNKNOWN: &str = "nothing says what the bytes must be, and trust.allow_undigested is off";
        match (location.is_bundle(), self.signed) {
            (true, true) => Ok(()),
            (false, true) => Err(Failure::BundleUnsigned.because(UNSIGNED)),
            (true, false) => Err(Failure::BundleKey.because(NO_KEYS)),
            (false, false) if has_digest || self.undigested || matches!(location, Location::File(_)) => {
                Ok(())
            }
            (false, false) => Err(Failure::RequestUnverifiable.because(UNKNOWN)),
        }
    }
}

/// What a slot holds once an artifact has been unpacked into it, computed while it was written.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Image {
    /// Digest of the slot's first `len` bytes.
    pub sha256: Sha256,
    /// Length of the image in bytes.
    pub len: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Location {
        Location::Url(text.parse().expect("an address"))
    }

    #[test]
    fn a_bundle_is_known_by_its_name_and_not_by_its_query() {
        for yes in ["https://h/a.twb", "https://h/a.twb?sig=x", "https://h/.twb#a.img", "https://h/A.TWB"] {
            assert!(url(yes).is_bundle(), "{yes}");
        }
        for no in ["https://h/a.img?x=.twb", "https://h/a.twb.gz", "https://h/#.twb"] {
            assert!(!url(no).is_bundle(), "{no}");
        }
        assert!(Location::File("/media/a.twb".into()).is_bundle());
        assert!(!Location::File("/media/a.twb/image".into()).is_bundle());
    }

    #[test]
    fn where_there_are_root_keys_nothing_but_bundles_is_taken_and_they_need_no_digest() {
        let (image, bundle) = (url("https://h/a.img"), url("https://h/a.twb"));
        let files = [Location::File("/a.img".into()), Location::File("/a.twb".into())];
        let [plain, signed, lax] = [(false, false), (true, false), (false, true)]
            .map(|(signed, undigested)| Vouching { signed, undigested });
        use Failure::{BundleKey, BundleUnsigned, RequestUnverifiable};
        for (vouching, location, digest, wanted) in [
            (plain, &image, true, None),
            (plain, &image, false, Some(RequestUnverifiable)),
            (plain, &bundle, true, Some(BundleKey)),
            (plain, &bundle, false, Some(BundleKey)),
            (plain, &files[0], false, None),
            (plain, &files[1], false, Some(BundleKey)),
            (lax, &image, false, None),
            (lax, &bundle, false, Some(BundleKey)),
            (signed, &image, true, Some(BundleUnsigned)),
            (signed, &image, false, Some(BundleUnsigned)),
            (signed, &bundle, true, None),
            (signed, &bundle, false, None),
            (signed, &files[0], false, Some(BundleUnsigned)),
            (signed, &files[1], false, None),
        ] {
            let found = vouching.judge(location, digest).err().map(|reason| reason.failure);
            assert_eq!(found, wanted, "{vouching:?} {location:?} {digest}");
        }
        let both = Vouching { signed: true, undigested: true };
        assert!(both.judge(&image, true).is_err(), "allow_undigested does not undo it");
    }
}
