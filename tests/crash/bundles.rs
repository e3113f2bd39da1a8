//! Signed bundles for the story that installs some: made by the operator's own code.

use twinboot::bundle::build::{Packing, pack};
use twinboot::bundle::{
    Chunking, DelegatedKey, Delegation, DelegationType, Envelope, Manifest, ManifestType, PayloadType,
    SigningKey, encode_head,
};
use twinboot::model::{Sha256, Timestamp};

/// What the device is, as its configuration says.
pub(super) const TRUST: &str = "[trust]\nproduct = \"gateway\"\ncompatible = [\"rev-b\"]\n";

/// A root key, and a key that it lets sign.
pub(super) struct Bundled {
    root: SigningKey,
    signer: SigningKey,
}

impl Bundled {
    pub(super) fn new() -> Self {
        let key = || SigningKey::generate().expect("randomness").0;
        Self { root: key(), signer: key() }
    }

    /// The root key that devices have.
    pub(super) fn root(&self) -> String {
        self.root.public().to_pem()
    }

    /// A bundle of this image.
    pub(super) fn bundle(&self, version: &str, index: u64, image: &[u8]) -> Vec<u8> {
        let delegation = Delegation {
            document: DelegationType::Delegation,
            schema: 1,
            epoch: index,
            keys: vec![DelegatedKey { key: *self.signer.public(), not_after: None }],
            revoked: Vec::new().into_iter().collect(),
        };
        let delegation = delegation.encode().expect("it is sound");
        let delegation = sealed(PayloadType::Delegation, delegation, &self.root);
        let (mut bodies, mut data) = (Vec::new(), Vec::new());
        let packing = Packing { level: 1, threads: 1, ..Packing::usual(Chunking::Aligned) };
        let packed = pack(&mut &image[..], &packing, &mut bodies, &mut data, &mut |_| ());
        let (payload, table) = packed.expect("it is packed");
        let manifest = Manifest {
            document: ManifestType::Manifest,
            schema: 1,
            delegation: Sha256::of(&delegation),
            product: "gateway".into(),
            compatible: vec!["rev-b".into()],
            version: version.parse().expect("a version"),
            rollback_index: index,
            allow_downgrade: false,
            created: Timestamp(1_780_000_000_000),
            expires: None,
            min_twinboot: None,
            payloads: vec![payload],
        };
        let manifest = sealed(PayloadType::Manifest, manifest.encode().expect("it is sound"), &self.signer);
        [encode_head(&delegation, &manifest).expect("it is sound"), table, bodies, data].concat()
    }
}

fn sealed(payload_type: PayloadType, payload: Vec<u8>, key: &SigningKey) -> Vec<u8> {
    let mut envelope = Envelope { payload_type, payload, signatures: Vec::new() };
    key.seal(&mut envelope);
    envelope.encode()
}
