//! Certificates for devices, and a TLS connection that presents them.

use std::net::TcpStream;
use std::sync::Arc;

use hub_emulator::Emulator;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::{PATIENCE, Tls};

/// A certificate with its key and those that vouch for it.
pub struct Holder {
    pub pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    params: CertificateParams,
}

fn params(name: &str, authority: bool) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

impl Holder {
    pub fn self_signed(name: &str, authority: bool) -> Holder {
        let (params, key) = (params(name, authority), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Holder { pem: certificate.pem(), chain: vec![certificate.der().clone()], key, params }
    }

    /// A certificate that this one signs.
    pub fn sign(&self, name: &str, authority: bool) -> Holder {
        let (params, key) = (params(name, authority), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let chain = [vec![certificate.der().clone()], self.chain.clone()].concat();
        Holder { pem: certificate.pem(), chain, key, params }
    }

    /// Without those that vouch for it.
    pub fn alone(mut self) -> Holder {
        self.chain.truncate(1);
        self
    }

    /// Connects with it.
    pub fn dial(&self, emulator: &Emulator, port: u16, version: &'static SupportedProtocolVersion) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }
}
