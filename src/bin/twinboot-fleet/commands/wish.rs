//! The wish for an image: the tutorial's desired property `firmware`, which is the argument of the direct methods, too.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256 as Hasher};
use twinboot::model::{SecretUrl, Sha256, Version};

use super::bundle;
use crate::arguments::Image;
use crate::failure::{Failure, Outcome};

/// An image that devices can be told to install.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// What the version is called.
    pub(super) version: String,
    uri: SecretUrl,
    sha256: Sha256,
    size: Option<u64>,
    job_id: Option<String>,
}

impl Wish {
    /// What the command line says, with digest and size of the file if one is named.
    ///
    /// # Errors
    /// If the file cannot be read, or the address is none that devices would take.
    pub(super) fn read(image: &Image) -> Outcome<Self> {
        let firmware = image.firmware.as_deref().map(Firmware::read).transpose()?;
        let uri = match (&image.uri, &firmware) {
            (Some(uri), _) => address(uri)?,
            (None, Some(Firmware { uri: Some(uri), .. })) => uri.clone(),
            (None, _) => return Err(Failure::usage("--uri is needed: the address is not in --firmware")),
        };
        let uri = uri.trim().parse().map_err(|error| Failure::usage(format!("--uri: {error}")))?;
        let job_id = image.job_id.clone();
        if let Some(Firmware { version, sha256, size, .. }) = firmware {
            return Ok(Self { version: version.to_string(), uri, sha256, size, job_id });
        }
        let version = image.version_label.as_ref().map(ToString::to_string).unwrap_or_default();
        let (sha256, size) = match (&image.sha256, &image.image) {
            (Some(sha256), _) => (*sha256, None),
            (None, Some(path)) if bundle::is_bundle(&path.to_string_lossy()) => {
                let (id, size, inside) = bundle::told(path)?;
                if inside != version {
                    return Err(Failure::usage(format!(
                        "--version-label: {} is version {inside}",
                        path.display()
                    ))
                    .remedy("a device refuses a bundle of another version than it was told"));
                }
                (id, Some(size))
            }
            (None, Some(path)) => {
                let (sha256, size) = measure(path)
                    .map_err(|error| Failure::usage(format!("--image: {}: {error}", path.display())))?;
                (sha256, Some(size))
            }
            (None, None) => return Err(Failure::usage("--sha256 or --image is needed")),
        };
        Ok(Self { version, uri, sha256, size, job_id })
    }

    /// As a whole new document.
    pub(super) fn document(&self) -> Value {
        self.with(self.uri.expose())
    }

    /// The same to be looked at, without what may be secret in the address.
    pub(super) fn redacted(&self) -> Value {
        self.with(&self.uri.to_string())
    }

    fn with(&self, uri: &str) -> Value {
        let mut document = json!({
            "fwVersion": self.version,
            "fwPackageURI": uri,
            "fwPackageCheckValue": self.sha256.to_string(),
        });
        if let Some(size) = self.size {
            document["fwSize"] = json!(size);
        }
        if let Some(job_id) = &self.job_id {
            document["jobId"] = json!(job_id);
        }
        document
    }

    /// Whether a twin asks for just this already, to be held or not.
    pub(super) fn is_in(&self, twin: &Value, hold: bool) -> bool {
        let mut document = self.document();
        if hold {
            document["fwHold"] = json!(true);
        }
        document == twin["properties"]["desired"]["firmware"]
    }

    /// As a patch of the desired properties: what an earlier wish said and this one does not is taken away.
    pub(super) fn patch(&self, hold: bool) -> Value {
        let mut firmware = json!({
            "fwSize": null, "jobId": null, "fwConsent": null, "fwForceBy": null,
            "fwHold": if hold { json!(true) } else { Value::Null },
        });
        if let (Some(firmware), Value::Object(wish)) = (firmware.as_object_mut(), self.document()) {
            firmware.extend(wish);
        }
        json!({"properties": {"desired": {"firmware": firmware}}})
    }
}

/// What `bundle create` tells of a bundle.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Firmware {
    #[serde(rename = "fwVersion")]
    version: Version,
    #[serde(rename = "fwPackageURI")]
    uri: Option<String>,
    #[serde(rename = "fwPackageCheckValue")]
    sha256: Sha256,
    #[serde(rename = "fwSize")]
    size: Option<u64>,
}

impl Firmware {
    fn read(path: &Path) -> Outcome<Self> {
        let wrong = |why: String| Failure::usage(format!("--firmware: {}: {why}", path.display()));
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        // What is wrong is told by its place alone: the address may hold a secret.
        serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("not understood at line {}, column {}", error.line(), error.column()))
                .remedy("`twinboot-fleet bundle create --deploy-json` writes such a file")
        })
    }
}

/// An address as it stands, or from the file that it names.
fn address(text: &str) -> Outcome<String> {
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("--uri: reading {file}: {error}"))),
        None => Ok(text.to_owned()),
    }
}

/// Digest and size of a file, in pieces.
fn measure(path: &Path) -> std::io::Result<(Sha256, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Sha256(hasher.finalize().into()), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn image(uri: &str) -> Image {
        Image {
            version_label: Some("2.0.0".parse().unwrap()),
            uri: Some(uri.to_owned()),
            sha256: Some(Sha256::of(b"x")),
            image: None,
            firmware: None,
            job_id: None,
        }
    }

    #[test]
    fn a_file_tells_its_digest_and_size_and_may_tell_the_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let secret = directory.path().join("uri");
        std::fs::write(&secret, "https://h/p?sig=SECRET\n").unwrap();
        let image = Image { sha256: None, image: Some(path), ..image(&format!("@{}", secret.display())) };
        let wish = Wish::read(&image).unwrap();
        assert!(!format!("{wish:?}").contains("SECRET"));
        let document = wish.document();
        assert_eq!(document["fwPackageURI"], "https://h/p?sig=SECRET");
        assert_eq!(wish.redacted()["fwPackageURI"], "https://h/p?…");
        assert_eq!((&document["fwSize"], &document["jobId"]), (&json!(200_000), &Value::Null));
        assert_eq!(document["fwPackageCheckValue"], Sha256::of(&vec![7; 200_000]).to_string());
    }

    #[test]
    fn a_bundle_tells_all_of_it_by_the_file_that_was_written_along_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("firmware.json");
        let document = json!({
            "fwVersion": "2.0.0", "fwPackageURI": "https://h/p.twb?sig=SECRET",
            "fwPackageCheckValue": Sha256::of(b"head").to_string(), "fwSize": 5,
        });
        std::fs::write(&path, document.to_string()).unwrap();
        let firmware = |uri: Option<&str>| Image {
            version_label: None,
            uri: uri.map(str::to_owned),
            sha256: None,
            firmware: Some(path.clone()),
            ..image("")
        };
        assert_eq!(Wish::read(&firmware(None)).unwrap().document(), document);
        let other = Wish::read(&firmware(Some("https://other/p.twb"))).unwrap().document();
        assert_eq!(other["fwPackageURI"], "https://other/p.twb");
        std::fs::write(&path, "{\"fwVersion\": \"SECRET").unwrap();
        let failure = Wish::read(&firmware(None)).unwrap_err();
        assert!(failure.text.contains("line 1") && !failure.text.contains("SECRET"), "{failure:?}");
    }

    #[test]
    fn a_wish_is_there_already_only_if_it_is_held_as_well() {
        let wish = Wish::read(&image("https://h/p")).unwrap();
        let twin = |hold: Value| {
            let mut twin = json!({"properties": {"desired": {"firmware": wish.document()}}});
            if !hold.is_null() {
                twin["properties"]["desired"]["firmware"]["fwHold"] = hold;
            }
            twin
        };
        assert!(wish.is_in(&twin(Value::Null), false) && wish.is_in(&twin(json!(true)), true));
        assert!(!wish.is_in(&twin(Value::Null), true) && !wish.is_in(&twin(json!(true)), false));
    }

    #[test]
    fn a_patch_leaves_nothing_of_an_earlier_wish() {
        let patch = Wish::read(&image("https://h/p")).unwrap().patch(true);
        let firmware = &patch["properties"]["desired"]["firmware"];
        assert_eq!((&firmware["fwHold"], firmware["fwConsent"].is_null()), (&json!(true), true));
        assert!(firmware.as_object().unwrap().contains_key("jobId"));
        assert_eq!(firmware["fwVersion"], "2.0.0");
        assert!(Wish::read(&image("http://h/p")).unwrap_err().text.contains("Insecure package URI"));
    }
}
