//! Devices that prove themselves with a client certificate.
#![allow(clippy::unwrap_used)]

mod support;

use hub_emulator::{Emulator, sign};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use support::pki::Holder;
use support::websocket::WebSocket;
use support::*;

/// As the SDKs connect with a certificate: a user name and no password.
fn without_password(id: &str) -> Dialect {
    Dialect {
        clean: false,
        keep_alive: 60,
        username: format!("localhost/{id}/?api-version=2021-04-12"),
        password: None,
    }
}

/// The return code of a CONNECT with this certificate; the hub must close after a refusal.
fn code(emulator: &Emulator, holder: &Holder, id: &str) -> u8 {
    let tls = holder.dial(emulator, emulator.mqtt_port(), &TLS12);
    let (mut device, connack) = Device::over(Box::new(tls), id, &without_password(id));
    assert!(connack[1] == 0 || device.is_closed());
    connack[1]
}

fn sha1(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    digest(&SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_thumbprint_lets_its_certificate_in_and_no_other() {
    let emulator = start();
    let (first, second) = (Holder::self_signed("any name", false), Holder::self_signed("dev", false));
    let stranger = Holder::self_signed("dev", false);
    let long = Emulator::thumbprint(&first.pem).unwrap();
    let text = emulator.create_x509_device("dev", &[&long, &sha1(&second.pem)], json!({"a": 1})).unwrap();
    assert_eq!(text, "HostName=localhost;DeviceId=dev;x509=true");
    assert_eq!(emulator.twin("dev")["authenticationType"], "selfSigned");
    for version in [&TLS12, &TLS13] {
        let tls = first.dial(&emulator, emulator.mqtt_port(), version);
        let (mut device, connack) = Device::over(Box::new(tls), "dev", &without_password("dev"));
        assert_eq!(connack[1], 0);
        assert_eq!(device.subscribe(TWIN, 1), [1]);
        assert_eq!(device.twin()["desired"]["$version"], 1);
    }
    assert_eq!(code(&emulator, &second, "dev"), 0);
    assert_eq!(code(&emulator, &stranger, "dev"), 5);
    // None presented, and a token where none is wanted.
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &without_password("dev"));
    assert_eq!(connack[1], 5);
    assert!(device.is_closed());
    let token = sign("localhost/devices/dev", "AAAAAAAAAAAAAAAAAAAAAA==", now() + 60, None);
    let with_token = Dialect { password: token, ..without_password("dev") };
    let tls = first.dial(&emulator, emulator.mqtt_port(), &TLS12);
    assert_eq!(Device::over(Box::new(tls), "dev", &with_token).1[1], 5);
    // The certificate through a WebSocket.
    let socket = WebSocket::over(first.dial(&emulator, emulator.https_port(), &TLS12));
    assert_eq!(Device::over(Box::new(socket), "dev", &without_password("dev")).1[1], 0);
}

#[test]
fn a_certificate_does_not_stand_in_for_a_token_nor_harm_one() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let holder = Holder::self_signed("dev", false);
    assert_eq!(code(&emulator, &holder, "dev"), 5);
    let tls = holder.dial(&emulator, emulator.mqtt_port(), &TLS12);
    assert_eq!(Device::over(Box::new(tls), "dev", &dialect(&emulator, "dev")).1[1], 0);
}

#[test]
fn an_authority_vouches_for_the_device_named_in_the_certificate() {
    let emulator = start();
    let root = Holder::self_signed("root", true);
    let middle = root.sign("middle", true);
    emulator.create_x509_device("dev", &[], Value::Null).unwrap();
    assert_eq!(emulator.twin("dev")["authenticationType"], "certificateAuthority");
    assert_eq!(code(&emulator, &root.sign("dev", false), "dev"), 5, "the authority is not known");
    emulator.add_ca(&root.pem).unwrap();
    assert_eq!(code(&emulator, &root.sign("dev", false), "dev"), 0);
    assert_eq!(code(&emulator, &root.sign("dev", false).alone(), "dev"), 0);
    assert_eq!(code(&emulator, &middle.sign("dev", false), "dev"), 0);
    assert_eq!(code(&emulator, &middle.sign("dev", false).alone(), "dev"), 5, "the chain has a gap");
    assert_eq!(code(&emulator, &root.sign("other", false), "dev"), 5);
    assert_eq!(code(&emulator, &root.sign("DEV", false), "dev"), 5);
    assert_eq!(code(&emulator, &Holder::self_signed("root", true).sign("dev", false), "dev"), 5);
    let door = http(&emulator, "GET", "/emulator/authorities", &[], b"").json();
    assert_eq!(door[0]["subject"], "root");
    let path = format!("/emulator/authorities/{}", door[0]["sha256Thumbprint"].as_str().unwrap());
    assert_eq!(http(&emulator, "DELETE", &path, &[], b"").status, 204);
    assert_eq!(code(&emulator, &root.sign("dev", false), "dev"), 5);
    let body = json!({"certificate": middle.pem}).to_string();
    assert_eq!(http(&emulator, "POST", "/emulator/authorities", &[], body.as_bytes()).status, 200);
    assert_eq!(code(&emulator, &middle.sign("dev", false).alone(), "dev"), 0);
    assert_eq!(http(&emulator, "POST", "/emulator/authorities", &[], b"{}").status, 400);
}

#[test]
fn the_registry_changes_how_a_device_proves_itself() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let with_token = dialect(&emulator, "dev");
    let holder = Holder::self_signed("dev", false);
    let thumbprint = Emulator::thumbprint(&holder.pem).unwrap();
    let body = json!({
        "deviceId": "dev",
        "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}},
    });
    assert_eq!(owner(&emulator).send("PUT", "/devices/dev", &[("If-Match", "\"*\"")], body).status, 200);
    assert_eq!(code(&emulator, &holder, "dev"), 0);
    assert_eq!(Device::try_connect(&emulator, "dev", &with_token).1[1], 5);
}
