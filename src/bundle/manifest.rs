//! The manifest: what is in a bundle, and whom it is for.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::body::Body;
use super::chunk::Chunking;
use super::json;
use super::page::Pager;
use super::refusal::Refusal;
use super::table::Entry;
use crate::model::{Sha256, Timestamp, Version};

/// The `type` of a manifest.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestType {
    /// The only one.
    #[default]
    Manifest,
}

/// What is in a bundle, and whom it is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// That this is a manifest.
    #[serde(rename = "type")]
    pub document: ManifestType,
    /// [`Manifest::SCHEMA`].
    pub schema: u64,
    /// The digest of the delegation's envelope in the same head: so that whoever signs this vouches for every bit of the
    /// head, also for signatures that a device has no key to judge by.
    pub delegation: Sha256,
    /// The product that it is for: 1 to 64 printable ASCII characters without blanks.
    pub product: String,
    /// The boards that it is for, at most 64, each spelled like a product; none: all of the product's.
    pub compatible: Vec<String>,
    /// The version of the firmware inside.
    pub version: Version,
    /// What must not go down.
    pub rollback_index: u64,
    /// The signed permission to install this although the device has seen a higher index.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// When it was made.
    #[serde(with = "json::time")]
    pub created: Timestamp,
    /// From when on it is not installed any more.
    #[serde(default, with = "json::maybe_time", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The oldest twinboot that may install it, as `1.2.3`.
    #[serde(default, deserialize_with = "json::present", skip_serializing_if = "Option::is_none")]
    pub min_twinboot: Option<String>,
    /// What is inside. In this schema just one, of kind [`Kind::Slot`].
    pub payloads: Vec<Payload>,
}

/// What a payload is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All partitions of a slot, one behind the other.
    Slot,
}

/// A payload.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// What it is for.
    pub kind: Kind,
    /// Its length in bytes, once it is installed.
    pub size: u64,
    /// Its digest, once it is installed.
    pub sha256: Sha256,
    /// The lengths of the partitions that it consists of; left out: it is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// How it is cut into chunks.
    pub chunking: Chunking,
    /// A group is of at most so many bytes of the image (or one chunk).
    pub group: u32,
    /// A group is compressed as the continuation of so many bytes of the image.
    pub prefix: u32,
    /// Its page table.
    pub table: TableInfo,
    /// Length of all page bodies in bytes.
    pub bodies: u64,
    /// Length of all data in bytes.
    pub data: u64,
}

/// One of the partitions that a slot consists of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its length in bytes.
    pub size: u64,
}

/// What the page table must be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableInfo {
    /// Its length in bytes.
    pub size: u64,
    /// The number of its entries.
    pub pages: u64,
    /// Its digest.
    pub sha256: Sha256,
}

/// Where in the file its sections are, in bytes from its beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// The page table.
    pub table: Range<u64>,
    /// The bodies of all pages.
    pub bodies: Range<u64>,
    /// The data of all pages.
    pub data: Range<u64>,
    /// Length of the file.
    pub total: u64,
}

/// What tells that a newer twinboot is needed, whatever else the manifest has.
#[derive(Deserialize)]
struct Preview {
    min_twinboot: Option<String>,
    payloads: Vec<PayloadPreview>,
}

#[derive(Deserialize)]
struct PayloadPreview {
    kind: String,
    chunking: String,
}

impl Manifest {
    /// The schema of this version of the format.
    pub const SCHEMA: u64 = 1;
    /// The longest image: 1 TiB.
    pub const MAX_SIZE: u64 = 1 << 40;
    /// The longest page table: 4 MiB, which are 149,796 pages. Usual data has some 300 KiB a page, so that is an image of some
    /// 40 GiB; the worst that can be made has 16 chunks a page. A device holds some 100 bytes for each.
    pub const MAX_TABLE: u64 = 4 << 20;
    /// The shortest and the longest group.
    pub const GROUP: std::ops::RangeInclusive<u32> = 4096..=1 << 20;
    /// The longest prefix: 4 MiB.
    pub const MAX_PREFIX: u32 = 4 << 20;

    /// Reads and checks a manifest. `twinboot` is the version that reads it, if that is to be judged.
    ///
    /// Whether anybody signed it is not asked here: [`open`](super::open) does that before.
    ///
    /// # Errors
    /// It is none, is contradictory or out of bounds: `bundle.damaged`. It needs a newer twinboot:
    /// `bundle.incompatible`.
    pub fn parse(bytes: &[u8], twinboot: Option<&str>) -> Result<Self, Refusal> {
        json::check(bytes, "manifest", Self::SCHEMA)?;
        // What is newer says so here, before its new members are refused as unknown.
        let preview: Preview = json::parse(bytes, "manifest")?;
        if let Some(refusal) = preview.needs_newer(twinboot) {
            return Err(refusal);
        }
        let manifest: Self = json::parse(bytes, "manifest")?;
        manifest.check().map_err(|what| Refusal::damaged(format!("the manifest: {what}")))?;
        Ok(manifest)
    }

    /// The exact bytes to be signed, always the same for the same manifest.
    ///
    /// # Errors
    /// Something is out of bounds; says what.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        serde_json::to_vec(self).map_err(|it| it.to_string())
    }

    /// The payload for the slot.
    pub fn slot(&self) -> &Payload {
        &self.payloads[0]
    }

    /// Where everything is in a file whose head has this length.
    pub fn layout(&self, head_len: u64) -> Layout {
        let slot = self.slot();
        let bodies = head_len + slot.table.size;
        let data = bodies + slot.bodies;
        let total = data + slot.data;
        Layout { table: head_len..bodies, bodies: bodies..data, data: data..total, total }
    }

    /// What is out of bounds, if anything is.
    fn check(&self) -> Result<(), String> {
        if self.schema != Self::SCHEMA {
            return Err(format!("its schema must be {}", Self::SCHEMA));
        }
        if self.compatible.len() > 64 || !self.compatible.iter().chain([&self.product]).all(|it| is_label(it))
        {
            return Err(
                "product and boards are 1 to 64 printable characters without blanks, at most 64 boards"
                    .into(),
            );
        }
        if self.min_twinboot.as_ref().is_some_and(|it| numbers(it).is_none()) {
            return Err("min_twinboot must be three numbers, such as 1.2.3".into());
        }
        match self.payloads.as_slice() {
            [slot] => slot.check(),
            _ => Err("it must have just one payload".into()),
        }
    }
}

impl Payload {
    /// Bytes of a chunk in a page's key.
    pub(super) fn key_len(&self) -> usize {
        match self.chunking {
            Chunking::Aligned => 8,
            Chunking::Content => 12,
        }
    }

    /// No page is longer, in bytes of the image.
    pub fn longest_page(&self) -> u32 {
        self.chunking.longest() * Pager::LONGEST as u32
    }

    /// No group is longer, in bytes of the image.
    pub fn longest_group(&self) -> u32 {
        self.group.max(self.chunking.longest())
    }

    fn check(&self) -> Result<(), String> {
        let within = |fits: bool, what: &str| if fits { Ok(()) } else { Err(what.to_owned()) };
        within((1..=Manifest::MAX_SIZE).contains(&self.size), "the image must be of 1 byte to 1 TiB")?;
        within(Manifest::GROUP.contains(&self.group), "a group must be of 4 KiB to 1 MiB")?;
        within(self.prefix <= Manifest::MAX_PREFIX, "the prefix must be of at most 4 MiB")?;
        within(self.parts.len() <= 16, "a slot has at most 16 partitions")?;
        let parts = self
            .parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.size).filter(|_| part.size > 0));
        within(
            self.parts.is_empty() || parts == Some(self.size),
            "the partitions are not as long as the image",
        )?;
        let pages = self.table.pages;
        let is_table = self.table.size <= Manifest::MAX_TABLE
            && pages.checked_mul(Entry::LEN as u64) == Some(self.table.size)
            && pages > 0;
        within(
            is_table,
            "a page table must be of at most 4 MiB, 28 bytes a page: the image has too many pages",
        )?;
        within(
            self.bodies <= pages * u64::from(Body::LONGEST),
            "the page bodies are longer than they can be",
        )?;
        within(self.data <= self.size, "the data is longer than the image")
    }
}

impl Preview {
    fn needs_newer(&self, twinboot: Option<&str>) -> Option<Refusal> {
        let newer = |what: String| Some(Refusal::incompatible(format!("{what}: a newer twinboot is needed")));
        let ours = twinboot.and_then(numbers);
        if let (Some(needed), Some(ours)) = (self.min_twinboot.as_deref().and_then(numbers), ours)
            && needed > ours
        {
            let (a, b, c) = needed;
            return newer(format!("the bundle is for twinboot {a}.{b}.{c} and later"));
        }
        for payload in &self.payloads {
            if payload.kind != "slot" {
                return newer(format!("the bundle has a payload of kind {:?}", short(&payload.kind)));
            }
            if ![Chunking::Aligned, Chunking::Content].iter().any(|it| it.name() == payload.chunking) {
                return newer(format!("the bundle is cut by {:?}", short(&payload.chunking)));
            }
        }
        if self.payloads.len() > 1 {
            return newer(format!("the bundle has {} payloads", self.payloads.len()));
        }
        None
    }
}

fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

fn is_label(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

/// The three numbers of a version of twinboot; what follows a `-` is left out.
fn numbers(text: &str) -> Option<(u64, u64, u64)> {
    let text = text.split_once(['-', '+']).map_or(text, |(numbers, _)| numbers);
    let mut parts =
        text.split('.').map(|it| it.parse().ok().filter(|_| it.bytes().all(|b| b.is_ascii_digit())));
    let numbers = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(numbers)
}
