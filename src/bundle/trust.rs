//! The trust decision: who signed, whether they may, and whether this is for this device.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::delegation::{DelegatedKey, Delegation};
use super::envelope::{Envelope, PayloadType};
use super::head::split_head;
use super::keys::{KeyId, RootKeys};
use super::manifest::Manifest;
use super::refusal::Refusal;
use crate::model::{Failure, Sha256, Timestamp};

/// The furthest that the rollback index goes up by one bundle.
const MAX_JUMP: u64 = u32::MAX as u64;

/// What a device remembers of those whom it trusts. Only ever grows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trust {
    /// The highest epoch of a delegation that was accepted.
    pub epoch: u64,
    /// The digest of that delegation: there is one of each epoch.
    pub delegation: Option<Sha256>,
    /// Every key that a delegation has ever revoked.
    pub revoked: BTreeSet<KeyId>,
}

/// What a bundle is judged against.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// Its product, if it has been told.
    pub product: Option<&'a str>,
    /// The names of its board; none: it has not been told.
    pub compatible: &'a [String],
    /// The lowest rollback index that may be installed.
    pub floor: u64,
    /// What the time is, only if the clock can be trusted.
    pub now: Option<Timestamp>,
    /// The version of this program.
    pub twinboot: &'a str,
}

/// A bundle that is trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Opened {
    /// What is in it.
    pub manifest: Manifest,
    /// Length of its head in bytes.
    pub head_len: u64,
    /// Digest of its head, which binds all the rest: what names this bundle.
    pub id: Sha256,
    /// What to remember from now on.
    pub trust: Trust,
    /// From when on it is expired, or nobody who signed it counts any more.
    pub good_until: Option<Timestamp>,
    /// What could not be judged on this device, in words.
    pub notes: Vec<String>,
}

/// A bundle whose delegation holds. Nothing of its manifest was looked at.
#[derive(Clone, Debug)]
pub struct Delegated<'a> {
    head: &'a [u8],
    manifest: &'a [u8],
    envelope: Sha256,
    delegation: Delegation,
    trust: Trust,
}

/// Whether enough root keys say who may sign, in the bundle with this head, and nothing newer is known.
///
/// What they say is to be remembered ([`Delegated::trust`]) before the rest of the bundle is judged, and whatever comes of
/// that: else who can have a bundle refused could keep a revocation from a device. All that somebody who passes bundles on
/// can do with it is to bring a word of the root keys that is newer, and true.
///
/// # Errors
/// They do not, with the reason.
pub fn delegated<'a>(head: &'a [u8], roots: &RootKeys, trust: &Trust) -> Result<Delegated<'a>, Refusal> {
    let (delegation, manifest) = split_head(head)?;
    let envelope = Sha256::of(delegation);
    let (delegation, trust) = delegation_of(delegation, roots, trust)?;
    Ok(Delegated { head, manifest, envelope, delegation, trust })
}

impl Delegated<'_> {
    /// What to remember from now on.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether the bundle may be installed on this device.
    ///
    /// # Errors
    /// It may not, with the reason.
    pub fn open(self, device: &Device<'_>) -> Result<Opened, Refusal> {
        let Self { head, manifest, envelope, delegation, trust } = self;
        let mut notes = vec![];
        let (manifest, signed_until) = manifest_of(manifest, &delegation, &trust, device, &mut notes)?;
        if manifest.delegation != envelope {
            return Err(Refusal::signature("the manifest was signed along with another delegation"));
        }
        suits(&manifest, device, &mut notes)?;
        let good_until = manifest.expires.into_iter().chain(signed_until).min();
        let (head_len, id) = (head.len() as u64, Sha256::of(head));
        Ok(Opened { manifest, head_len, id, trust, good_until, notes })
    }
}

/// Whether the bundle with this head, just so many bytes, may be installed on this device: [`delegated`] and
/// [`Delegated::open`] at once, for who remembers nothing.
///
/// Nothing of a document is parsed before its signatures hold.
///
/// # Errors
/// It may not, with the reason.
pub fn open(head: &[u8], roots: &RootKeys, trust: &Trust, device: &Device<'_>) -> Result<Opened, Refusal> {
    delegated(head, roots, trust)?.open(device)
}

fn delegation_of(bytes: &[u8], roots: &RootKeys, trust: &Trust) -> Result<(Delegation, Trust), Refusal> {
    if roots.is_empty() {
        let what = "no root keys on this device: put them into its directory of keys to install bundles";
        return Err(Refusal::new(Failure::BundleKey, what));
    }
    let envelope = Envelope::parse(bytes, PayloadType::Delegation)?;
    if envelope.signatures.is_empty() {
        return Err(Refusal::signature("nobody signed the delegation"));
    }
    let signed = envelope.signed_bytes();
    let mut known = BTreeSet::new();
    let mut revoked = None;
    for signature in &envelope.signatures {
        // The others may be roots of other devices, which know another generation of them.
        let Some(key) = roots.keys().get(&signature.key) else { continue };
        if !key.verifies(&signed, &signature.bytes) {
            let what = format!("the delegation's signature by root key {} does not hold", signature.key);
            return Err(Refusal::signature(what));
        }
        if trust.revoked.contains(&signature.key) {
            revoked = Some(signature.key);
        } else {
            known.insert(signature.key);
        }
    }
    if known.len() < roots.threshold() {
        let (count, needed) = (known.len(), roots.threshold());
        return Err(match revoked {
            Some(key) => Refusal::new(Failure::BundleRevoked, format!("root key {key} has been revoked")),
            None if count == 0 => {
                let what = format!(
                    "no root key of this device signed the delegation, but {}",
                    envelope.signatures[0].key
                );
                Refusal::new(Failure::BundleKey, what)
            }
            None => Refusal::signature(format!("{count} root keys signed the delegation, {needed} have to")),
        });
    }
    let delegation = Delegation::parse(&envelope.payload)?;
    let digest = Sha256::of(&envelope.payload);
    if delegation.epoch < trust.epoch {
        let (told, seen) = (delegation.epoch, trust.epoch);
        let what = format!(
            "the delegation is of epoch {told}, and this device has seen epoch {seen}: make the bundle anew"
        );
        return Err(Refusal::new(Failure::BundleRevoked, what));
    }
    if delegation.epoch == trust.epoch && trust.delegation.is_some_and(|it| it != digest) {
        let what = format!(
            "this device has seen another delegation of epoch {}: a new one needs a higher",
            trust.epoch
        );
        return Err(Refusal::new(Failure::BundleKey, what));
    }
    let revoked = trust.revoked.union(&delegation.revoked).copied().collect();
    let trust = Trust { epoch: delegation.epoch, delegation: Some(digest), revoked };
    Ok((delegation, trust))
}

/// The manifest, and from when on none of those who signed it counts any more.
fn manifest_of(
    bytes: &[u8],
    delegation: &Delegation,
    trust: &Trust,
    device: &Device<'_>,
    notes: &mut Vec<String>,
) -> Result<(Manifest, Option<Timestamp>), Refusal> {
    let envelope = Envelope::parse(bytes, PayloadType::Manifest)?;
    let signed = envelope.signed_bytes();
    let mut good: Vec<&DelegatedKey> = vec![];
    let mut bad = None;
    for signature in &envelope.signatures {
        let id = signature.key;
        if trust.revoked.contains(&id) {
            bad = Some(Refusal::new(
                Failure::BundleRevoked,
                format!("key {id}, which signed this, has been revoked"),
            ));
        }
        let Some(delegated) = delegation.keys.iter().find(|it| it.key.id() == id) else {
            let what =
                format!("key {id}, which signed this, may not: the bundle's delegation does not name it");
            return Err(bad.unwrap_or_else(|| Refusal::new(Failure::BundleKey, what)));
        };
        if !delegated.key.verifies(&signed, &signature.bytes) {
            return Err(Refusal::signature(format!("the manifest's signature by key {id} does not hold")));
        }
        if trust.revoked.contains(&id) {
            continue;
        }
        match (delegated.not_after, device.now) {
            (Some(end), Some(now)) if now >= end => {
                let what = format!("key {id}, which signed this, was good until {end}");
                bad = Some(Refusal::new(Failure::BundleExpired, what));
            }
            (Some(_) | None, _) => good.push(delegated),
        }
    }
    if good.is_empty() {
        return Err(bad.unwrap_or_else(|| Refusal::signature("nobody signed the manifest")));
    }
    // One key without an end is enough to have none.
    let ends: Option<Vec<Timestamp>> = good.iter().map(|it| it.not_after).collect();
    if device.now.is_none() && ends.is_some() {
        notes.push("whether the signing key has expired was not judged: the clock is not trusted".into());
    }
    let manifest = Manifest::parse(&envelope.payload, Some(device.twinboot))?;
    Ok((manifest, ends.into_iter().flatten().max()))
}

fn suits(manifest: &Manifest, device: &Device<'_>, notes: &mut Vec<String>) -> Result<(), Refusal> {
    match device.product {
        Some(product) if product != manifest.product => {
            let what = format!("the bundle is for product {}, this is {product}", manifest.product);
            return Err(Refusal::incompatible(what));
        }
        Some(_) => {}
        None => notes.push(format!(
            "the bundle is for product {}, which this device does not know of itself",
            manifest.product
        )),
    }
    let is_ours = manifest.compatible.iter().any(|it| device.compatible.contains(it));
    if !manifest.compatible.is_empty() && !is_ours {
        if !device.compatible.is_empty() {
            let (theirs, ours) = (manifest.compatible.join(", "), device.compatible.join(", "));
            return Err(Refusal::incompatible(format!("the bundle is for {theirs}, this is {ours}")));
        }
        notes.push("the bundle is for certain boards, and this device does not know its own".into());
    }
    match (manifest.expires, device.now) {
        (Some(end), Some(now)) if now >= end => {
            return Err(Refusal::new(Failure::BundleExpired, format!("the bundle was good until {end}")));
        }
        (Some(_), None) => {
            notes.push("whether the bundle has expired was not judged: the clock is not trusted".into())
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    let (index, floor) = (manifest.rollback_index, device.floor);
    let what = match manifest.allow_downgrade {
        true => return Ok(()),
        false if index < floor => "lower than",
        // One bad bundle must not leave a device with an index that nothing can follow.
        false if index - floor > MAX_JUMP => "more than 4294967295 above",
        false => return Ok(()),
    };
    let what = format!(
        "the bundle's rollback index is {index}, {what} this device's, {floor}, without a permission"
    );
    Err(Refusal::new(Failure::BundleDowngrade, what))
}
