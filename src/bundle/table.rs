//! The page table: what the image is made of, page by page, in 28 bytes each.

use super::body::Body;
use super::manifest::Payload;
use super::page::PageKey;
use super::refusal::Refusal;
use crate::model::Sha256;

/// One page of an image, and where in the file it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What it is called.
    pub key: PageKey,
    /// Where in the image it begins.
    pub image_at: u64,
    /// Its length in the image, in bytes.
    pub image_len: u32,
    /// Where its body begins, counted from [`Layout::bodies`](super::Layout::bodies).
    pub body_at: u64,
    /// Length of its body in bytes; 0 for a page of nothing but zeros.
    pub body_len: u32,
    /// Where its data begins, counted from [`Layout::data`](super::Layout::data).
    pub data_at: u64,
    /// Length of its data in bytes; 0 for a page of nothing but zeros.
    pub data_len: u32,
}

impl Entry {
    /// Bytes of an entry in the file.
    pub const LEN: usize = 28;

    /// Whether the page is nothing but zeros.
    pub fn is_zero(&self) -> bool {
        self.body_len == 0
    }

    /// The entry as it stands in the file.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.key.0);
        for (at, number) in [(16, self.image_len), (20, self.body_len), (24, self.data_len)] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// The page table of a payload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table(Vec<Entry>);

impl Table {
    /// Reads the bytes of a page table.
    ///
    /// # Errors
    /// They are not the table that the manifest promises, or contradict it: `bundle.damaged`.
    pub fn parse(bytes: &[u8], payload: &Payload) -> Result<Self, Refusal> {
        if bytes.len() as u64 != payload.table.size || Sha256::of(bytes) != payload.table.sha256 {
            return Err(Refusal::damaged("the page table is not the one that the manifest promises"));
        }
        let (entries, rest) = bytes.as_chunks::<{ Entry::LEN }>();
        if entries.len() as u64 != payload.table.pages || !rest.is_empty() {
            return Err(Refusal::damaged("the page table has not as many pages as the manifest promises"));
        }
        let (mut image_at, mut body_at, mut data_at) = (0, 0, 0);
        let mut pages = Vec::with_capacity(entries.len());
        for bytes in entries {
            let entry = read(bytes, image_at, body_at, data_at);
            // 32-bit lengths, and at most 2^22 / 28 of them: the sums cannot overflow.
            image_at += u64::from(entry.image_len);
            body_at += u64::from(entry.body_len);
            data_at += u64::from(entry.data_len);
            let is_empty = entry.image_len == 0 || (entry.body_len == 0) != (entry.data_len == 0);
            let is_long = entry.image_len > payload.longest_page() || entry.body_len > Body::LONGEST;
            if is_empty || is_long || entry.data_len > entry.image_len {
                return Err(Refusal::damaged("the page table has a page that cannot be"));
            }
            pages.push(entry);
        }
        if (image_at, body_at, data_at) != (payload.size, payload.bodies, payload.data) {
            return Err(Refusal::damaged("the pages are not as long together as the manifest promises"));
        }
        Ok(Self(pages))
    }

    /// The pages, in the order of the image.
    pub fn pages(&self) -> &[Entry] {
        &self.0
    }
}

fn read(bytes: &[u8; Entry::LEN], image_at: u64, body_at: u64, data_at: u64) -> Entry {
    let [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        j,
        k,
        l,
        m,
        n,
        o,
        p, // the key
        i0,
        i1,
        i2,
        i3,
        b0,
        b1,
        b2,
        b3,
        d0,
        d1,
        d2,
        d3,
    ] = *bytes;
    Entry {
        key: PageKey([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]),
        image_at,
        image_len: u32::from_le_bytes([i0, i1, i2, i3]),
        body_at,
        body_len: u32::from_le_bytes([b0, b1, b2, b3]),
        data_at,
        data_len: u32::from_le_bytes([d0, d1, d2, d3]),
    }
}
