//! A plain writer and a plain reader, for tests: a few lines each, and written after the specification.

use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

use super::*;

/// Nothing but what the format needs, in its shortest form.
pub(super) struct Packed {
    pub payload: Payload,
    pub table: Vec<u8>,
    pub bodies: Vec<u8>,
    pub data: Vec<u8>,
}

pub(super) fn cut(image: &[u8], chunking: Chunking) -> Vec<Vec<u8>> {
    let mut chunks = vec![];
    let mut chunker = Chunker::new(chunking);
    chunker.push(image, &mut |it| chunks.push(it.to_vec()));
    chunker.finish(&mut |it| chunks.push(it.to_vec()));
    chunks
}

pub(super) fn pages(image: &[u8], chunking: Chunking) -> Vec<Page> {
    let mut pager = Pager::new(chunking);
    let mut pages: Vec<_> =
        cut(image, chunking).iter().filter_map(|it| pager.push(chunk_id(it), it.len() as u32)).collect();
    pages.extend(pager.finish());
    pages
}

fn compress(prefix: &[u8], raw: &[u8]) -> Vec<u8> {
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::CompressionLevel(3)).unwrap();
    zstd.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
    zstd.set_parameter(CParameter::WindowLog((prefix.len() + raw.len()).ilog2().max(11) + 1)).unwrap();
    zstd.ref_prefix(prefix).unwrap();
    let mut out = vec![0; compress_bound(raw.len())];
    let len = zstd.compress2(&mut out[..], raw).unwrap();
    if len - 4 < raw.len() { out[4..len].to_vec() } else { raw.to_vec() }
}

pub(super) fn pack(image: &[u8], chunking: Chunking, group: u32, prefix: u32) -> Packed {
    let (mut table, mut bodies, mut data, mut at) = (vec![], vec![], vec![], 0_usize);
    for page in pages(image, chunking) {
        let mut packed = vec![];
        let before = data.len();
        for range in groups(&page.chunks, group) {
            let len = |chunks: &[Chunk]| chunks.iter().map(|it| it.len as usize).sum::<usize>();
            let start = at + len(&page.chunks[..range.start]);
            let end = start + len(&page.chunks[range]);
            let bytes = compress(&image[start.saturating_sub(prefix as usize)..start], &image[start..end]);
            packed.push(bytes.len() as u32);
            data.extend(bytes);
        }
        let body = if page.is_zero() { vec![] } else { Body::encode(chunking, &page.chunks, &packed) };
        let entry = Entry {
            key: page.key,
            image_at: 0,
            image_len: page.image_len() as u32,
            body_at: 0,
            body_len: body.len() as u32,
            data_at: 0,
            data_len: (data.len() - before) as u32,
        };
        table.extend(entry.encode());
        bodies.extend(body);
        at += page.image_len() as usize;
    }
    let payload = Payload {
        kind: Kind::Slot,
        size: image.len() as u64,
        sha256: Sha256::of(image),
        parts: vec![],
        chunking,
        group,
        prefix,
        table: TableInfo {
            size: table.len() as u64,
            pages: (table.len() / Entry::LEN) as u64,
            sha256: Sha256::of(&table),
        },
        bodies: bodies.len() as u64,
        data: data.len() as u64,
    };
    Packed { payload, table, bodies, data }
}

/// The image in a bundle, from all of its sections.
pub(super) fn unpack(
    payload: &Payload,
    table: &[u8],
    bodies: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let mut image: Vec<u8> = vec![];
    let mut unpacker = Unpacker::new(payload);
    for entry in Table::parse(table, payload)?.pages() {
        let start = image.len();
        image.resize(start + entry.image_len as usize, 0);
        if entry.is_zero() {
            continue;
        }
        let body = Body::parse(&bodies[entry.body_at as usize..][..entry.body_len as usize], entry, payload)?;
        let data = &data[entry.data_at as usize..][..entry.data_len as usize];
        let mut ends = vec![start];
        ends.extend(body.chunks.iter().scan(start, |at, chunk| {
            *at += chunk.len as usize;
            Some(*at)
        }));
        for group in &body.groups {
            let at = ends[group.chunks.start];
            let prefix = at.saturating_sub(payload.prefix as usize);
            let packed = &data[group.at as usize..][..group.packed as usize];
            let raw = unpacker.unpack(&image[prefix..at], packed, group.raw)?.to_vec();
            image[at..at + raw.len()].copy_from_slice(&raw);
            for chunk in group.chunks.clone() {
                let got = chunk_id(&image[ends[chunk]..ends[chunk + 1]]);
                if got != body.chunks[chunk].id {
                    return Err(Refusal::damaged("a chunk is not what its id says"));
                }
            }
        }
    }
    Ok(image)
}

/// Keys, and a device that trusts them.
pub(super) struct Maker {
    pub roots: Vec<SigningKey>,
    pub threshold: usize,
    pub delegation: Delegation,
    pub signers: Vec<SigningKey>,
    pub manifest: Manifest,
}

pub(super) fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

pub(super) fn delegated(key: &SigningKey) -> DelegatedKey {
    DelegatedKey { key: *key.public(), not_after: None }
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Maker {
    pub(super) fn new(payload: Payload) -> Self {
        let signer = key();
        let delegation = Delegation {
            document: DelegationType::Delegation,
            schema: 1,
            epoch: 1,
            keys: vec![delegated(&signer)],
            revoked: BTreeSet::new(),
        };
        let manifest = Manifest {
            document: ManifestType::Manifest,
            schema: 1,
            delegation: Sha256::of(b""),
            product: "gateway".into(),
            compatible: vec!["rev-b".into(), "rev-c".into()],
            version: "2.8.5".parse().unwrap(),
            rollback_index: 7,
            allow_downgrade: false,
            created: at("2026-11-01T00:00:00Z"),
            expires: None,
            min_twinboot: None,
            payloads: vec![payload],
        };
        Self { roots: vec![key()], threshold: 1, delegation, signers: vec![signer], manifest }
    }

    pub(super) fn small() -> Self {
        Self::new(pack(&[7; 5000], Chunking::Aligned, 65_536, 65_536).payload)
    }

    pub(super) fn root_keys(&self) -> RootKeys {
        RootKeys::new(self.threshold, self.roots.iter().map(|it| *it.public()))
    }

    pub(super) fn delegation(&self) -> Envelope {
        sealed(PayloadType::Delegation, self.delegation.encode().unwrap(), &self.roots)
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.head_with(&self.delegation())
    }

    pub(super) fn head_with(&self, delegation: &Envelope) -> Vec<u8> {
        let delegation = delegation.encode();
        let manifest = Manifest { delegation: Sha256::of(&delegation), ..self.manifest.clone() };
        let manifest = sealed(PayloadType::Manifest, manifest.encode().unwrap(), &self.signers);
        encode_head(&delegation, &manifest.encode()).unwrap()
    }

    /// As a device of this product sees it, with a clock that can be trusted.
    pub(super) fn open(&self, trust: &Trust) -> Result<Opened, Refusal> {
        open(&self.head(), &self.root_keys(), trust, &device())
    }
}

pub(super) fn sealed(payload_type: PayloadType, payload: Vec<u8>, keys: &[SigningKey]) -> Envelope {
    let signatures = keys.iter().map(|it| it.sign(payload_type, &payload)).collect();
    Envelope { payload_type, payload, signatures }
}

pub(super) fn device() -> Device<'static> {
    static BOARD: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["rev-b".into()]);
    Device {
        product: Some("gateway"),
        compatible: &BOARD,
        floor: 7,
        now: Some(at("2026-11-21T00:00:00Z")),
        twinboot: "0.1.0",
    }
}

/// Bytes that look like a system's: text that repeats itself, noise, and zeros.
pub(super) fn image(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut image = Vec::with_capacity(len + 65_536);
    while image.len() < len {
        let piece = 1 + next() as usize % 60_000;
        match next() % 4 {
            0 => image.resize(image.len() + piece, 0),
            1 => image.extend((0..piece / 8).flat_map(|_| next().to_le_bytes())),
            _ => {
                let words: Vec<_> = (0..20).map(|_| format!("{:x} ", next() % 5000)).collect();
                (0..piece / 5).for_each(|_| image.extend(words[next() as usize % 20].bytes()));
            }
        }
    }
    image.truncate(len);
    image
}
