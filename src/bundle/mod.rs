//! The bundle: one signed file, trusted before it is parsed, of which a device fetches what it lacks.

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
#[cfg(test)]
mod tests;
mod trust;
mod unpack;

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
pub use trust::{Device, Opened, Trust, open};
pub use unpack::Unpacker;
