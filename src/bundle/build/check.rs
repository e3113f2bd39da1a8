//! All of a bundle, looked through once from front to back.

use std::io::{Read, Seek, SeekFrom};

use sha2::Digest as _;

use super::{Fault, read_at, read_table};
use crate::bundle::{Body, Manifest, Refusal, Unpacker, chunk_id};
use crate::model::Sha256;

/// Checks table, bodies and data of a bundle whose head has this length, down to each chunk's id and the digest of the
/// image. `told` is told how many bytes of the image there are so far.
///
/// # Errors
/// If the file cannot be read, or something in it is not what the manifest promises.
pub fn check<F: Read + Seek>(
    bundle: &mut F,
    manifest: &Manifest,
    head_len: u64,
    told: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let (slot, layout) = (manifest.slot(), manifest.layout(head_len));
    let len = bundle.seek(SeekFrom::End(0))?;
    if len != layout.total {
        let what = format!("the file has {len} bytes, and its manifest promises {}", layout.total);
        return Err(Refusal::damaged(what).into());
    }
    let table = read_table(bundle, manifest, head_len)?;
    let (mut hasher, mut unpacker) = (sha2::Sha256::new(), Unpacker::new(slot));
    let prefix = slot.prefix as usize;
    let (mut body, mut data, mut image) = (vec![], vec![], vec![]);
    for (number, entry) in table.pages().iter().enumerate() {
        let begin = image.len();
        if entry.is_zero() {
            image.resize(begin + entry.image_len as usize, 0);
        } else {
            read_at(bundle, layout.bodies.start + entry.body_at, entry.body_len, &mut body)?;
            read_at(bundle, layout.data.start + entry.data_at, entry.data_len, &mut data)?;
            restore(&Body::parse(&body, entry, slot)?, &data, prefix, &mut unpacker, &mut image).map_err(
                |what| Refusal::damaged(format!("page {number} of {}: {what}", table.pages().len())),
            )?;
        }
        hasher.update(&image[begin..]);
        image.drain(..image.len().saturating_sub(prefix));
        told(entry.image_at + u64::from(entry.image_len));
    }
    if Sha256(hasher.finalize().into()) != slot.sha256 {
        return Err(Refusal::damaged("the image in it has another digest than the manifest says").into());
    }
    Ok(())
}

/// Adds a page to the image, of which at least the prefix is there.
fn restore(
    body: &Body,
    data: &[u8],
    prefix: usize,
    unpacker: &mut Unpacker,
    image: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut next = 0;
    for group in &body.groups {
        zeros(body, next..group.chunks.start, image);
        let packed = &data[group.at as usize..][..group.packed as usize];
        let before = &image[image.len().saturating_sub(prefix)..];
        let raw = unpacker.unpack(before, packed, group.raw)?;
        let mut at = 0;
        for chunk in &body.chunks[group.chunks.clone()] {
            let end = at + chunk.len as usize;
            if chunk_id(&raw[at..end]) != chunk.id {
                return Err(Refusal::damaged("a chunk is not what its id says"));
            }
            at = end;
        }
        image.extend_from_slice(raw);
        next = group.chunks.end;
    }
    zeros(body, next..body.chunks.len(), image);
    Ok(())
}

/// Adds chunks of zeros.
fn zeros(body: &Body, chunks: std::ops::Range<usize>, image: &mut Vec<u8>) {
    let len: usize = body.chunks[chunks].iter().map(|it| it.len as usize).sum();
    image.resize(image.len() + len, 0);
}
