//! The bundle: one signed file, trusted before it is parsed, of which a device fetches what it lacks.
//!
//! This page specifies the format, `.twb`, version 1: whoever has read it can write a reader. What a device fetches and
//! how it puts an image together is another module's business; here is no I/O, no clock and no state.
//!
//! # Why
//!
//! Whoever has the hub's credentials can say what is to be installed, and whoever has the server can change it. So what
//! may run is said by keys that neither has: **root keys**, which are on the device and offline otherwise, name
//! **signing keys**, and one of these signs a **manifest**, which binds every other byte. And who pays for each byte
//! should not fetch what it has already: the image is cut into **chunks**, and what a chunk is called tells a device
//! whether it has it, whatever version it runs. No server computes anything: it is a file, and is asked for ranges.
//!
//! | who | can | cannot |
//! | --- | --- | --- |
//! | has the network, the server or the storage | refuse, delay, serve an older bundle | change a byte, go below the rollback index, outlive `expires` |
//! | has the hub's credentials | wish for any bundle that was ever signed for this product | the same |
//! | has a signing key | sign, until it is revoked or expires | name other keys, undo its revocation, sign for ever |
//! | has fewer root keys than the threshold | nothing | |
//! | has root on the device | everything; the bundle protects what is installed, not what runs | |
//!
//! Everything is a closed world: no names of files, no paths, nothing in it is run, what is not known is refused. A
//! root key's theft is answered by other root keys, which revoke it, and by images with other files of keys.
//!
//! # The file
//!
//! Numbers are little endian. Where a thing is follows from what stands before it.
//!
//! ```text
//! head     0   8  magic: 89 54 57 42 0D 0A 1A 01; the last byte is the version of the format
//!          8   4  length of the delegation's envelope, 1 to 65536
//!         12   4  length of the manifest's envelope, 1 to 65536
//!         16      the delegation's envelope: who may sign
//!                 the manifest's envelope: what is in here
//! table           28 bytes a page; digest and length are in the manifest
//! bodies          of all pages that are not zeros, in order
//! data            of all pages that are not zeros, in order; the file ends with it
//! ```
//!
//! # Envelopes
//!
//! A document and its signatures, in the form of DSSE (<https://github.com/secure-systems-lab/dsse>). This is the one
//! spelling, without blanks; base64 is the standard alphabet with padding and no bits that mean nothing:
//!
//! ```text
//! {"payloadType":"TYPE","payload":"BASE64","signatures":[{"keyid":"KEYID","sig":"BASE64"},…]}
//! ```
//!
//! TYPE is `application/vnd.twinboot.delegation+json` or `application/vnd.twinboot.manifest+json`. A signature is 64 bytes
//! of Ed25519 (RFC 8032, without prehash) over `DSSEv1 LEN(TYPE) TYPE LEN(DOCUMENT) DOCUMENT`, where one blank divides,
//! lengths are decimal numbers of bytes, and the document is its exact bytes. At most 16 signatures. KEYID is the first
//! 16 bytes of the SHA-256 of the key's 32 bytes, in hex digits of lower case.
//!
//! Signatures are strict: S is below the group's order; R and keys are reduced and not of small order. (ring does the
//! first and compares R; the other two are asked in `keys.rs`.)
//!
//! # Documents
//!
//! JSON of at most 64 KiB, nested at most 10 deep, in which members that are not known, repeated or `null` are
//! refused. Numbers are integers below 2^64. Times are RFC 3339 in UTC, with `Z`. A document is read only after its
//! signatures hold. A `schema` or a `kind` that is not known asks for a newer twinboot.
//!
//! The **delegation**, signed by as many different root keys as the device's threshold says (others are not judged):
//!
//! ```json
//! {"type":"delegation","schema":1,"epoch":3,
//!  "keys":[{"key":"BASE64 of 32 bytes","not_after":"2027-01-01T00:00:00Z"}],"revoked":["KEYID"]}
//! ```
//!
//! * `keys`: 1 to 32. `not_after` may be left out; it counts where the clock is trusted.
//! * `epoch`: goes up with every change. A device remembers the highest with the document's digest, and refuses a lower
//!   one, or another document of the same. It remembers everything `revoked`, for ever: such a key counts no more, as
//!   signing key or as root key, whatever names it.
//!
//! The **manifest**, signed by at least one key of the delegation; every signature there must be one's and hold, and at
//! least one must be neither revoked nor expired:
//!
//! ```json
//! {"type":"manifest","schema":1,"delegation":"SHA-256 of the delegation's envelope",
//!  "product":"gateway","compatible":["rev-b","rev-c"],"version":"2.8.5","rollback_index":7,
//!  "created":"2026-11-21T00:00:00Z","expires":"2027-11-21T00:00:00Z","min_twinboot":"0.2.0",
//!  "payloads":[{"kind":"slot","size":1073741824,"sha256":"HEX","parts":[{"size":1073741824}],
//!    "chunking":"aligned-4096","group":65536,"prefix":1048576,
//!    "table":{"size":28000,"pages":1000,"sha256":"HEX"},"bodies":654321,"data":123456789}]}
//! ```
//!
//! * `delegation` makes the manifest's signature cover the whole head, and lets nobody mix two heads.
//! * `compatible`: names of boards, one of which must be the device's; empty: all of the product's.
//! * `rollback_index`: not below the device's, nor more than 2^32 - 1 above it, unless `"allow_downgrade":true`, which may be
//!   left out. Versions are not compared.
//! * `expires`, `min_twinboot` and `parts` may be left out; `parts` are the lengths of the partitions that the image is
//!   divided among, for the device to compare with its own, and add up to `size`.
//! * Just one payload, of kind `slot`: `size` up to 1 TiB, `sha256` of the image as it is installed. `group` is 4 KiB to
//!   1 MiB, `prefix` up to 4 MiB, the table up to 4 MiB.
//!
//! # Chunks
//!
//! `aligned-4096` cuts the image every 4096 bytes; the last chunk may be shorter. `content-4096` cuts where a rolling
//! hash says so: a chunk has at least 1025 bytes and at most 16384, the last may be shorter. From the chunk's 1025th byte
//! on, for each byte b: hash = 2 × hash + GEAR\[b\] modulo 2^64, from 0. The chunk ends with the first byte after which the
//! hash's highest 14 bits are 0 (byte 1025 to 4096), or its highest 10 bits (byte 4097 and later), or with the 16384th.
//! GEAR is 256 outputs of SplitMix64, in order, from the state `0x7477696E626F6F74` ("twinboot"): state += 0x9E3779B97F4A7C15;
//! z = state; z = (z ^ z >> 30) × 0xBF58476D1CE4E5B9; z = (z ^ z >> 27) × 0x94D049BB133111EB; z ^ z >> 31.
//!
//! A chunk's id is the first 8 bytes of its SHA-256 (if these are all 0, the last is 1). Of a chunk of zeros, of any
//! length, it is 8 zero bytes; such chunks have no data.
//!
//! # Pages, table, bodies
//!
//! A page is a run of chunks. It ends after a chunk if it then has 256 chunks; or at least 16, and one of these holds: the
//! low 6 bits of the id's last byte are 0 and the chunk is not zeros; one of this chunk and the next is zeros and the
//! other is not; the chunk is zeros and the page has others, too; the image ends. So a page is found again wherever
//! it has moved to. A reader need not care, except to cut what it has in the same way.
//!
//! A page's key bytes are its chunks' ids, one after the other, and for `content-4096` then its chunks' lengths, 4 bytes
//! each. Its key is the first 16 bytes of their SHA-256. Entries of the table, in the image's order, 28 bytes each:
//!
//! ```text
//!  0  16  key of the page
//! 16   4  its length in the image
//! 20   4  length of its body, 0 for a page of nothing but zeros
//! 24   4  length of its data, 0 for a page of nothing but zeros
//! ```
//!
//! A device that finds all chunks of a page in what it has knows its key, and needs neither its body nor, if it can
//! copy the chunks, its data. A body:
//!
//! ```text
//!  0   2  number of chunks, 1 to 256
//!  2      the page's key bytes: 8 or 12 bytes a chunk
//!         for each group, in order: the length of its data, LEB128 in its shortest form, 1 to the group's own length
//! ```
//!
//! # Groups
//!
//! The chunks of a page that are not zeros are packed in groups: from the first on, each takes the chunks that follow
//! each other, none of them zeros, as long as they are not more than `group` bytes (but one in any case). The data of a
//! group is either its bytes as they are, if it is as long as they are; or one Zstandard frame (RFC 8878) without the
//! four bytes of its magic number. The frame has the `prefix` bytes of the image before the group (all, if there are
//! fewer) for a raw dictionary, as `ZSTD_DCtx_refPrefix` takes it; zeros are zeros there. So whoever restores an image from
//! front to back can unpack any group alone.
//!
//! Neither body nor data is trusted for itself. Lengths have to fit; each chunk has to have its id, which finds
//! mistakes; and what is installed is judged by the manifest's `sha256` of all of it, which finds everything.
//!
//! # Bounds
//!
//! A head takes at most 128 KiB; what it decodes into, some ten times as much. A table of n pages takes 56 n bytes, and n is
//! at most 149796: usual data of some 40 GiB, and of the worst 9 GiB (2.4 GiB, if cut by content). A body has at most
//! 3842 bytes, and takes 8 KiB; a group `group` + `prefix` and what zstd needs, some 200 KiB. No length that is read makes
//! anything be allocated beyond these.
//!
//! # Other formats
//!
//! Bundles of SWUpdate (`.swu`), Mender and RAUC could come through the same seam, which is: a head that is judged as a
//! whole ([`open`]) gives a manifest; what follows gives an image of known length and digest. A `.swu` is a cpio archive that
//! begins with `sw-description` and its signature (CMS or RSA); `.mender` is a tar with `manifest`, `manifest.sig` and
//! `header.tar` before the data; both are read from front to back, which is what a plain image does today: they would
//! be a decoder in front of it, with a trust decision of their own over those first members, for one image and no
//! scripts. A RAUC bundle in `verity` format is a squashfs with a CMS signature at its end over a dm-verity root hash: it is
//! fetched by ranges, as here, and its hash tree takes the table's place. Each brings keys in X.509: that is what they
//! cost (a parser for certificates and CMS in the most exposed place), and why none is here yet.

mod body;
#[cfg(feature = "fleet")]
pub mod build;
mod chunk;
mod delegation;
mod envelope;
mod head;
mod json;
mod keys;
mod manifest;
mod page;
mod refusal;
#[cfg(feature = "fleet")]
mod signing;
mod table;
mod trust;
mod unpack;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use body::{Body, Group, groups};
pub use chunk::{ChunkId, Chunker, Chunking, chunk_id};
pub use delegation::{DelegatedKey, Delegation, DelegationType};
pub use envelope::{Envelope, PayloadType, Signature, signed_bytes};
pub use head::{HEAD_FIXED, MAGIC, MAX_ENVELOPE, encode_head, head_len, split_head};
pub use keys::{BadKey, BadKeyId, KeyId, PublicKey, RootKeys};
pub use manifest::{Kind, Layout, Manifest, ManifestType, Part, Payload, TableInfo};
pub use page::{Chunk, Page, PageKey, Pager, key_bytes};
pub use refusal::Refusal;
#[cfg(feature = "fleet")]
pub use signing::SigningKey;
pub use table::{Entry, Table};
pub use trust::{Delegated, Device, Opened, Trust, delegated, open};
pub use unpack::Unpacker;
