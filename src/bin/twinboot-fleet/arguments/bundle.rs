//! Signed bundles: what is made and looked at on this machine, without a hub.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use twinboot::model::{Timestamp, Version};

const BUNDLE_HELP: &str = "\
No hub is asked, and none has to be named. The format, keys and their rotation, and signing with a key in a PKCS#11 token
are explained in twinboot-bundle(5).

Examples:
  twinboot-fleet bundle keygen maker
  twinboot-fleet bundle keygen release
  twinboot-fleet bundle delegate --help";

/// Make, sign and look at signed bundles
#[derive(Args, Clone, Debug)]
#[command(after_help = BUNDLE_HELP)]
pub(crate) struct Bundle {
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: BundleCommand,
}

/// What to do with bundles.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Make a key: NAME.key for you alone, and NAME.pem for devices
    Keygen(Keygen),
    /// Say by root keys which keys may sign bundles, or add a root key's signature to that
    Delegate(Delegate),
    /// Make a bundle of images
    Create(Create),
    /// Sign a bundle, or sign it anew
    Sign(Sign),
    /// Show what a bundle says of itself, and what a device that has another image would fetch
    Inspect(Inspect),
    /// Check all of a bundle, down to the last byte of the image in it
    Verify(Verify),
}

/// Make a key: NAME.key for you alone, and NAME.pem for devices
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Both are PEM files that OpenSSL reads (Ed25519, PKCS#8). Root keys belong on a machine without a \
    network, or into a token.\n\nExamples:\n  twinboot-fleet bundle keygen root-1\n  \
    twinboot-fleet bundle keygen root-2\n  twinboot-fleet bundle keygen ci-2026"
)]
pub(crate) struct Keygen {
    /// What to call the files; none of them may be there
    #[arg(value_name = "NAME")]
    pub(crate) name: PathBuf,
}

/// How something is signed.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("how").multiple(false).args(["key", "to_sign", "signature"]))]
pub(crate) struct Signing {
    /// Sign with this private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Vec<PathBuf>,
    /// Write the bytes that are to be signed elsewhere, in a token for example, and change nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) to_sign: Option<PathBuf>,
    /// Add a signature that was made elsewhere: 64 bytes, as openssl writes them
    #[arg(long, value_name = "FILE", requires = "public")]
    pub(crate) signature: Option<PathBuf>,
    /// The public key that --signature was made with
    #[arg(long, value_name = "FILE", requires = "signature")]
    pub(crate) public: Option<PathBuf>,
}

const DELEGATE_HELP: &str = "\
With --signer it makes FILE anew; without it, it adds signatures to the FILE that is there. As many root keys have to sign
as the devices' `trust.threshold` says. A device takes no delegation with a lower epoch than it has seen, and never a key
again that was revoked. Whoever renews the delegation names all keys that are to go on signing.

Examples:
  twinboot-fleet bundle delegate delegation-1 --epoch 1 --signer release.pem --key root-1.key
  twinboot-fleet bundle delegate delegation-1 --key root-2.key
  twinboot-fleet bundle delegate delegation-2 --epoch 2 --signer ci-2026.pem --not-after 2099-01-01T00:00Z \
--revoke release.pem --key root-1.key";

/// Say by root keys which keys may sign bundles, or add a root key's signature to that
#[derive(Args, Clone, Debug)]
#[command(after_help = DELEGATE_HELP)]
pub(crate) struct Delegate {
    /// The delegation
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Grows with each delegation
    #[arg(long, value_name = "NUMBER", requires = "signer")]
    pub(crate) epoch: Option<u64>,
    /// A public key that may sign bundles; can be repeated
    #[arg(long, value_name = "FILE", requires = "epoch")]
    pub(crate) signer: Vec<PathBuf>,
    /// Until when these keys may sign, in UTC, such as 2027-11-21T00:00Z; otherwise for ever
    #[arg(long, value_name = "TIME", requires = "signer")]
    pub(crate) not_after: Option<Timestamp>,
    /// A public key, or the id of one, that must never be trusted again; can be repeated
    #[arg(long, value_name = "FILE|ID", requires = "signer")]
    pub(crate) revoke: Vec<String>,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

/// How an image is cut into pieces that devices find again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Cut {
    /// As the image needs it: content for squashfs, aligned for all others
    Auto,
    /// Every 4096 bytes: for file systems that are made of blocks, such as ext4, erofs and btrfs
    Aligned,
    /// By content: for squashfs, where everything behind a change has moved
    Content,
}

/// What a roll-out is told of a bundle.
#[derive(Args, Clone, Debug)]
pub(crate) struct Announced {
    /// Where devices will find the bundle; it has to end in .twb
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Write what `deploy` and the desired property `firmware` need to know to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) deploy_json: Option<PathBuf>,
}

const CREATE_HELP: &str = "\
IMAGE is the raw image of a partition (unpack .gz, .xz and .zst first). With more than one partition in a slot name them in
the order of the device's [slots], and the SIZE of each partition but the last (bytes, or with K, M or G): zeros fill up
what an image leaves. The rollback index is a number that grows whenever older bundles must not be installed any more: a
device refuses indexes that are lower than the highest it has committed.

The same images, keys and options make the same bytes, if --created or $SOURCE_DATE_EPOCH tells the time. Without --key
the bundle is not signed yet: see `twinboot-fleet bundle sign`.

Examples:
  twinboot-fleet bundle create --version-label 2.0.0 --product gateway --compatible gateway-rev-b --rollback-index 4 \
--part gateway-2.0.0.squashfs --delegation delegation-1 --key release.key -o gateway-2.0.0.twb
  twinboot-fleet bundle create --version-label 3.0.0 --product gateway --compatible gateway-rev-b --rollback-index 5 \
--part gateway-3.0.0.squashfs:4M --delegation delegation-2 --created 2026-11-21T00:00Z -o gateway-3.0.0.twb";

/// Make a bundle of images
#[derive(Args, Clone, Debug)]
#[command(after_help = CREATE_HELP)]
pub(crate) struct Create {
    /// What the version is called
    #[arg(long, value_name = "VERSION")]
    pub(crate) version_label: Version,
    /// What devices it is for: `trust.product` of their configuration
    #[arg(long, value_name = "NAME")]
    pub(crate) product: String,
    /// Hardware that it runs on: one of `trust.compatible` of a device's configuration; can be repeated
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) compatible: Vec<String>,
    /// Grows when older bundles must not be installed any more
    #[arg(long, value_name = "NUMBER")]
    pub(crate) rollback_index: u64,
    /// Until when it may be installed, in UTC, such as 2027-11-21T00:00Z; otherwise for ever
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Timestamp>,
    /// Let it be installed although its rollback index is lower than what a device has committed
    #[arg(long)]
    pub(crate) allow_downgrade: bool,
    /// The oldest twinboot that can install it
    #[arg(long, value_name = "VERSION")]
    pub(crate) min_twinboot: Option<String>,
    /// The image of a partition, and the size of the partition; can be repeated
    #[arg(long, value_name = "IMAGE[:SIZE]", required = true)]
    pub(crate) part: Vec<String>,
    /// How the image is cut into pieces that devices find again
    #[arg(long, value_enum, default_value_t = Cut::Auto)]
    pub(crate) chunking: Cut,
    /// How hard zstd tries: 1 to 22. From 16 on it takes several times as long
    #[arg(long, value_name = "NUMBER", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(crate) level: i32,
    /// When it was made, in UTC; otherwise $SOURCE_DATE_EPOCH, or now
    #[arg(long, value_name = "TIME")]
    pub(crate) created: Option<Timestamp>,
    /// Who may sign: made by `twinboot-fleet bundle delegate`
    #[arg(long, value_name = "FILE")]
    pub(crate) delegation: PathBuf,
    /// The private key to sign with; otherwise it is not signed yet
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The bundle, FILE.twb
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) announced: Announced,
}

const SIGN_HELP: &str = "\
The image stays as it is; the head is written anew, so the digest that names the bundle is another one. A signature by a key
that has signed already takes the place of the old one.

Examples:
  twinboot-fleet bundle sign gateway-3.0.0.twb --to-sign gateway-3.0.0.tbs
  twinboot-fleet bundle sign gateway-3.0.0.twb --key ci-2026.key --deploy-json gateway-3.0.0.json \
--url https://example.com/gateway-3.0.0.twb";

/// Sign a bundle, or sign it anew
#[derive(Args, Clone, Debug)]
#[command(after_help = SIGN_HELP)]
pub(crate) struct Sign {
    /// Which
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// Put this delegation in place of the one in the bundle; signatures are dropped
    #[arg(long, value_name = "FILE")]
    pub(crate) delegation: Option<PathBuf>,
    /// Into another file; otherwise in its place
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) announced: Announced,
}

const INSPECT_HELP: &str = "\
Nothing is verified but what is needed to read it. --against tells what a device would fetch whose booted slot holds the
image OLD: an image of before, or the slot of a device itself.

Examples:
  twinboot-fleet bundle inspect gateway-3.0.0.twb
  twinboot-fleet bundle inspect gateway-3.0.0.twb --against gateway-2.0.0.squashfs --json";

/// Show what a bundle says of itself, and what a device that has another image would fetch
#[derive(Args, Clone, Debug)]
#[command(after_help = INSPECT_HELP)]
pub(crate) struct Inspect {
    /// Which
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// What a device has; can be repeated
    #[arg(long, value_name = "OLD")]
    pub(crate) against: Vec<PathBuf>,
    /// As one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Check all of a bundle, down to the last byte of the image in it
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "It is judged as a device would that has never seen another bundle, and whatever its product.\n\n\
    Examples:\n  twinboot-fleet bundle verify gateway-3.0.0.twb --root root-1.pem\n  \
    twinboot-fleet bundle verify gateway-2.0.0.twb --root root-1.pem --root root-2.pem --threshold 2"
)]
pub(crate) struct Verify {
    /// Which
    #[arg(value_name = "BUNDLE")]
    pub(crate) bundle: PathBuf,
    /// A root key: a file of the devices' keys.d; can be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) root: Vec<PathBuf>,
    /// How many of them must have signed
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) threshold: usize,
}
