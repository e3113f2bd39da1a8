//! Why an update did not happen: a closed list for the fleet, and a sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an update failed or was rolled back. The codes are a public, versioned list: a fleet is queried by them, so
/// a code never changes its meaning. In the order of an update's life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Failure {
    /// The request is not well formed or lacks something.
    #[serde(rename = "request.invalid")]
    RequestInvalid,
    /// The package address is not https.
    #[serde(rename = "request.insecure-uri")]
    RequestInsecureUri,
    /// No digest or signature vouches for the bytes.
    #[serde(rename = "request.unverifiable")]
    RequestUnverifiable,
    /// The same artifact was rolled back on this device before and nobody asked to try it again.
    #[serde(rename = "request.rolled-back-before")]
    RolledBackBefore,
    /// The operator cancelled it.
    #[serde(rename = "request.cancelled")]
    Cancelled,
    /// A newer request took its place.
    #[serde(rename = "request.superseded")]
    Superseded,
    /// The server could not be reached or fell silent, and the time or attempts allowed are used up.
    #[serde(rename = "download.unreachable")]
    DownloadUnreachable,
    /// The server's certificate is not acceptable.
    #[serde(rename = "download.tls")]
    DownloadTls,
    /// The server refuses the request (such as an expired storage token).
    #[serde(rename = "download.http-status")]
    DownloadHttpStatus,
    /// A redirect leads somewhere that is not allowed, or in circles.
    #[serde(rename = "download.redirect")]
    DownloadRedirect,
    /// The server answers with something that contradicts itself or the request, or is no HTTP.
    #[serde(rename = "download.http-answer")]
    DownloadHttpAnswer,
    /// Slower than the configured floor, again and again.
    #[serde(rename = "download.too-slow")]
    DownloadTooSlow,
    /// The file changed on the server while it was being fetched.
    #[serde(rename = "download.content-changed")]
    DownloadContentChanged,
    /// More or fewer bytes than announced.
    #[serde(rename = "download.size-mismatch")]
    DownloadSizeMismatch,
    /// The bytes are not the ones asked for.
    #[serde(rename = "download.digest-mismatch")]
    DownloadDigestMismatch,
    /// Fetching would take, or took, more bytes than one update may.
    #[serde(rename = "download.data-cap")]
    DataCap,
    /// A file on this device cannot be read.
    #[serde(rename = "download.source-unreadable")]
    SourceUnreadable,
    /// The compressed stream is damaged or asks for more than is allowed.
    #[serde(rename = "image.undecodable")]
    ImageUndecodable,
    /// Nobody signed the image, and this device has keys to ask for.
    #[serde(rename = "bundle.unsigned")]
    BundleUnsigned,
    /// A signature of the bundle is missing, malformed or does not hold, or too few signed.
    #[serde(rename = "bundle.signature")]
    BundleSignature,
    /// The bundle is signed by a key that this device does not know, or that may not sign.
    #[serde(rename = "bundle.key")]
    BundleKey,
    /// The root keys of this device cannot be used, so nothing can be judged.
    #[serde(rename = "bundle.keys-unusable")]
    KeysUnusable,
    /// The bundle is signed by a key that has been revoked, or vouched for by what has been replaced.
    #[serde(rename = "bundle.revoked")]
    BundleRevoked,
    /// The bundle, or the key that signed it, has expired.
    #[serde(rename = "bundle.expired")]
    BundleExpired,
    /// The bundle is for another product, board or division into partitions, or for a newer twinboot.
    #[serde(rename = "bundle.incompatible")]
    BundleIncompatible,
    /// The bundle's rollback index is lower than what this device has confirmed.
    #[serde(rename = "bundle.downgrade")]
    BundleDowngrade,
    /// The file is no bundle, or not the one that was signed.
    #[serde(rename = "bundle.damaged")]
    BundleDamaged,
    /// The image does not fit into the slot.
    #[serde(rename = "target.too-small")]
    TargetTooSmall,
    /// The slot is booted, boots by default, is mounted, or somebody else holds it.
    #[serde(rename = "target.busy")]
    TargetBusy,
    /// The slot's device is missing or not a slot.
    #[serde(rename = "target.missing")]
    TargetMissing,
    /// The slot's device refuses writing.
    #[serde(rename = "target.read-only")]
    TargetReadOnly,
    /// The slot's device reported errors although regions were written again.
    #[serde(rename = "target.io")]
    TargetIo,
    /// What was read back from the slot is not what was written.
    #[serde(rename = "verify.readback-mismatch")]
    ReadbackMismatch,
    /// The bootloader environment cannot be read or means nothing.
    #[serde(rename = "boot.unreadable")]
    BootUnreadable,
    /// The bootloader environment cannot be written, or did not hold what was written.
    #[serde(rename = "boot.unwritable")]
    BootUnwritable,
    /// The new system never came up; the bootloader fell back.
    #[serde(rename = "boot.fallback")]
    BootFallback,
    /// The trial was cut short before a verdict, more often than is tried again.
    #[serde(rename = "boot.interrupted")]
    BootInterrupted,
    /// The machine would not reboot.
    #[serde(rename = "boot.refused")]
    RebootRefused,
    /// A health check of the new system failed.
    #[serde(rename = "health.failed")]
    Unhealthy,
    /// A health check had no verdict in time.
    #[serde(rename = "health.timeout")]
    HealthTimeout,
    /// The hub was reachable before the update and is not from the new system.
    #[serde(rename = "health.hub-unreachable")]
    HubUnreachable,
    /// The new system says it is another version than was asked for.
    #[serde(rename = "health.wrong-version")]
    WrongVersion,
    /// A program of the integrator that takes part in updates failed, or could not be run.
    #[serde(rename = "hook.failed")]
    HookFailed,
    /// The program that was to make the data as new failed, or could not be run.
    #[serde(rename = "factory-reset.failed")]
    FactoryReset,
    /// A trial was running that the record does not know.
    #[serde(rename = "state.record-lost")]
    RecordLost,
    /// The state directory cannot be written, so nothing new is begun.
    #[serde(rename = "state.unwritable")]
    StateUnwritable,
    /// Too many steps without an end: a loop was broken.
    #[serde(rename = "state.exhausted")]
    Exhausted,
    /// There is nothing known good to go back to.
    #[serde(rename = "request.no-previous")]
    NoPrevious,
    /// A fault of twinboot itself; or, in a record of a newer version that was gone back from, a code that this one does
    /// not know: better than to lose the record.
    #[serde(rename = "internal", other)]
    Internal,
}

impl Failure {
    /// The public code, such as `download.digest-mismatch`.
    pub fn code(self) -> &'static str {
        match self {
            Self::RequestInvalid => "request.invalid",
            Self::RequestInsecureUri => "request.insecure-uri",
            Self::RequestUnverifiable => "request.unverifiable",
            Self::RolledBackBefore => "request.rolled-back-before",
            Self::Cancelled => "request.cancelled",
            Self::Superseded => "request.superseded",
            Self::DownloadUnreachable => "download.unreachable",
            Self::DownloadTls => "download.tls",
            Self::DownloadHttpStatus => "download.http-status",
            Self::DownloadRedirect => "download.redirect",
            Self::DownloadHttpAnswer => "download.http-answer",
            Self::DownloadTooSlow => "download.too-slow",
            Self::DownloadContentChanged => "download.content-changed",
            Self::DownloadSizeMismatch => "download.size-mismatch",
            Self::DownloadDigestMismatch => "download.digest-mismatch",
            Self::DataCap => "download.data-cap",
            Self::SourceUnreadable => "download.source-unreadable",
            Self::ImageUndecodable => "image.undecodable",
            Self::BundleUnsigned => "bundle.unsigned",
            Self::BundleSignature => "bundle.signature",
            Self::BundleKey => "bundle.key",
            Self::KeysUnusable => "bundle.keys-unusable",
            Self::BundleRevoked => "bundle.revoked",
            Self::BundleExpired => "bundle.expired",
            Self::BundleIncompatible => "bundle.incompatible",
            Self::BundleDowngrade => "bundle.downgrade",
            Self::BundleDamaged => "bundle.damaged",
            Self::TargetTooSmall => "target.too-small",
            Self::TargetBusy => "target.busy",
            Self::TargetMissing => "target.missing",
            Self::TargetReadOnly => "target.read-only",
            Self::TargetIo => "target.io",
            Self::ReadbackMismatch => "verify.readback-mismatch",
            Self::BootUnreadable => "boot.unreadable",
            Self::BootUnwritable => "boot.unwritable",
            Self::BootFallback => "boot.fallback",
            Self::BootInterrupted => "boot.interrupted",
            Self::RebootRefused => "boot.refused",
            Self::Unhealthy => "health.failed",
            Self::HealthTimeout => "health.timeout",
            Self::HubUnreachable => "health.hub-unreachable",
            Self::WrongVersion => "health.wrong-version",
            Self::HookFailed => "hook.failed",
            Self::FactoryReset => "factory-reset.failed",
            Self::RecordLost => "state.record-lost",
            Self::StateUnwritable => "state.unwritable",
            Self::Exhausted => "state.exhausted",
            Self::NoPrevious => "request.no-previous",
            Self::Internal => "internal",
        }
    }

    /// This failure with a sentence about the case at hand.
    pub fn because(self, detail: impl Into<String>) -> Reason {
        Reason::new(self, detail)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A failure and what happened, for people. The detail is one printable line of at most 256 characters without
/// secrets: it goes into the journal and the twin.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Reason {
    /// The code for the fleet.
    pub failure: Failure,
    /// The sentence for people.
    pub detail: String,
}

impl Reason {
    /// Longest detail kept, in characters.
    pub const MAX_DETAIL: usize = 256;

    /// Cuts the detail to one printable line: whatever a server or a health check wrote must not forge journal
    /// lines or colour a terminal.
    pub fn new(failure: Failure, detail: impl Into<String>) -> Self {
        let line = |c: char| if c.is_control() { ' ' } else { c };
        let detail = detail.into().trim().chars().map(line).take(Self::MAX_DETAIL).collect();
        Self { failure, detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            return write!(f, "{}", self.failure);
        }
        write!(f, "{} ({})", self.detail, self.failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p118_details_are_one_printable_line() {
        let reason = Failure::Unhealthy.because(" broken\n\u{1b}[31mred\u{1b}[0m ");
        assert_eq!(reason.to_string(), "broken  [31mred [0m (health.failed)");
        assert_eq!(Failure::Unhealthy.because("x".repeat(1000)).detail.len(), Reason::MAX_DETAIL);
    }

    #[test]
    fn the_stored_word_is_the_public_code() {
        for failure in
            [Failure::Cancelled, Failure::ReadbackMismatch, Failure::HealthTimeout, Failure::Internal]
        {
            assert_eq!(serde_json::to_value(failure).expect("serialises"), failure.code());
        }
        let newer = serde_json::from_str::<Failure>("\"bundle.too-new\"").expect("it is read");
        assert_eq!(newer, Failure::Internal);
    }
}
