//! Makes bundles: a second writer, which shares the words of the format with the tool that makes real ones, and no code.

use crate::bundle::{
    Body, Chunk, Chunker, Chunking, DelegatedKey, Delegation, DelegationType, Entry, Envelope, HEAD_FIXED,
    Kind, Manifest, ManifestType, Page, Pager, Part, Payload, PayloadType, RootKeys, SigningKey, TableInfo,
    chunk_id, encode_head, groups, head_len,
};
use crate::model::{Sha256, Timestamp};

/// Whoever makes bundles, and how.
pub(crate) struct Maker {
    pub(crate) root: SigningKey,
    pub(crate) signer: SigningKey,
    pub(crate) chunking: Chunking,
    pub(crate) group: u32,
    pub(crate) prefix: u32,
    pub(crate) parts: Vec<u64>,
    pub(crate) version: &'static str,
    /// When the bundle expires, and when the key that signs it does.
    pub(crate) ends: [Option<Timestamp>; 2],
}

/// Where the sections of a file are.
pub(crate) struct Sections {
    pub(crate) table: usize,
    pub(crate) bodies: usize,
    pub(crate) data: usize,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self {
            root: SigningKey::generate().unwrap().0,
            signer: SigningKey::generate().unwrap().0,
            chunking: Chunking::Aligned,
            group: 32 << 10,
            prefix: 128 << 10,
            parts: vec![],
            version: "2.0",
            ends: [None; 2],
        }
    }

    pub(crate) fn roots(&self) -> RootKeys {
        RootKeys::new(1, [*self.root.public()])
    }

    /// A bundle of this image.
    pub(crate) fn make(&self, image: &[u8]) -> Vec<u8> {
        let (mut table, mut bodies, mut data) = (vec![], vec![], vec![]);
        let mut at = 0;
        for page in pages(image, self.chunking) {
            let entry = self.page(image, &page, at, &mut bodies, &mut data);
            at += page.image_len();
            table.extend(entry.encode());
        }
        let payload = Payload {
            kind: Kind::Slot,
            size: image.len() as u64,
            sha256: Sha256::of(image),
            parts: self.parts.iter().map(|size| Part { size: *size }).collect(),
            chunking: self.chunking,
            group: self.group,
            prefix: self.prefix,
            table: TableInfo {
                size: table.len() as u64,
                pages: (table.len() / Entry::LEN) as u64,
                sha256: Sha256::of(&table),
            },
            bodies: bodies.len() as u64,
            data: data.len() as u64,
        };
        [self.head(payload), table, bodies, data].concat()
    }

    fn page(&self, image: &[u8], page: &Page, at: u64, bodies: &mut Vec<u8>, data: &mut Vec<u8>) -> Entry {
        let (body_at, data_at) = (bodies.len(), data.len());
        if !page.is_zero() {
            let mut packed = vec![];
            for group in groups(&page.chunks, self.group) {
                let offset = |chunk: usize| {
                    at as usize + page.chunks[..chunk].iter().map(|it| it.len as usize).sum::<usize>()
                };
                let (from, until) = (offset(group.start), offset(group.end));
                let prefix = &image[from.saturating_sub(self.prefix as usize)..from];
                let bytes = squeeze(prefix, &image[from..until]);
                packed.push(bytes.len() as u32);
                data.extend(bytes);
            }
            bodies.extend(Body::encode(self.chunking, &page.chunks, &packed));
        }
        Entry {
            key: page.key,
            image_at: at,
            image_len: page.image_len() as u32,
            body_at: body_at as u64,
            body_len: (bodies.len() - body_at) as u32,
            data_at: data_at as u64,
            data_len: (data.len() - data_at) as u32,
        }
    }

    fn head(&self, slot: Payload) -> Vec<u8> {
        let delegation = Delegation {
            document: DelegationType::default(),
            schema: Delegation::SCHEMA,
            epoch: 7,
            keys: vec![DelegatedKey { key: *self.signer.public(), not_after: self.ends[1] }],
            revoked: Default::default(),
        };
        let payload = delegation.encode().unwrap();
        let mut delegation = Envelope { payload_type: PayloadType::Delegation, payload, signatures: vec![] };
        self.root.seal(&mut delegation);
        let delegation = delegation.encode();
        let manifest = Manifest {
            document: ManifestType::default(),
            schema: Manifest::SCHEMA,
            product: "gateway".into(),
            compatible: vec![],
            version: self.version.parse().unwrap(),
            rollback_index: 3,
            allow_downgrade: false,
            created: Timestamp(1_700_000_000),
            expires: self.ends[0],
            min_twinboot: None,
            delegation: Sha256::of(&delegation),
            payloads: vec![slot],
        };
        let payload = manifest.encode().unwrap();
        let mut manifest = Envelope { payload_type: PayloadType::Manifest, payload, signatures: vec![] };
        self.signer.seal(&mut manifest);
        encode_head(&delegation, &manifest.encode()).unwrap()
    }
}

/// Where in a bundle its sections begin.
pub(crate) fn sections(file: &[u8]) -> Sections {
    let table = head_len(&file[..HEAD_FIXED]).unwrap() as usize;
    let (_, manifest) = crate::bundle::split_head(&file[..table]).unwrap();
    let manifest = Envelope::parse(manifest, PayloadType::Manifest).unwrap();
    let layout = Manifest::parse(&manifest.payload, None).unwrap().layout(table as u64);
    Sections { table, bodies: layout.bodies.start as usize, data: layout.data.start as usize }
}

/// The pages of an image.
pub(crate) fn pages(image: &[u8], chunking: Chunking) -> Vec<Page> {
    let (mut chunker, mut chunks) = (Chunker::new(chunking), vec![]);
    let mut each = |bytes: &[u8]| chunks.push(Chunk { id: chunk_id(bytes), len: bytes.len() as u32 });
    chunker.push(image, &mut each);
    chunker.finish(&mut each);
    let mut pager = Pager::new(chunking);
    let mut pages: Vec<Page> = chunks.iter().filter_map(|it| pager.push(it.id, it.len)).collect();
    pages.extend(pager.finish());
    pages
}

fn squeeze(prefix: &[u8], bytes: &[u8]) -> Vec<u8> {
    use ::zstd::zstd_safe::{CCtx, CParameter, compress_bound};
    let window = (prefix.len() + bytes.len()).next_power_of_two().ilog2().max(10);
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::CompressionLevel(3)).unwrap();
    zstd.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
    zstd.set_parameter(CParameter::WindowLog(window)).unwrap();
    zstd.ref_prefix(prefix).unwrap();
    let mut packed = vec![0; compress_bound(bytes.len())];
    let len = zstd.compress2(&mut packed[..], bytes).unwrap();
    if len - 4 < bytes.len() { packed[4..len].to_vec() } else { bytes.to_vec() }
}
