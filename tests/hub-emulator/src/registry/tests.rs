#![allow(clippy::unwrap_used)]
use super::*;
use crate::sas;

#[test]
fn empty_keys_are_made_at_creation_and_kept_at_update() {
    let empty =
        json!({"deviceId": "d", "authentication": {"symmetricKey": {"primaryKey": "", "secondaryKey": ""}}});
    let mut device = Device::create("d", &empty).unwrap();
    let [primary, secondary] = device.authentication.keys.clone();
    assert!(sas::is_key(&primary));
    assert_ne!(primary, secondary);
    device.update(&json!({"deviceId": "d", "status": "disabled"})).unwrap();
    assert_eq!(device.authentication.keys[0], primary);
    assert!(!device.enabled);
    assert_eq!(device.identity(Standing::default())["etag"], "Mg==");
}

#[test]
fn impossible_devices_are_refused_and_change_nothing() {
    for (id, body) in [
        ("", json!({})),
        ("a/b", json!({})),
        ("a", json!({"deviceId": "b"})),
        ("a", json!({"status": "asleep"})),
        ("a", json!({"statusReason": "x".repeat(129)})),
        ("a", json!({"authentication": {"symmetricKey": {"primaryKey": "short"}}})),
        ("a", json!({"authentication": {"type": "password"}})),
        ("a", json!({"authentication": {"type": "selfSigned"}})),
        ("a", json!({"authentication": {"x509Thumbprint": {"primaryThumbprint": "12"}}})),
    ] {
        assert!(Device::create(id, &body).is_err(), "{id} {body}");
        let mut present = Device::create("a", &json!({})).unwrap();
        let before = present.identity(Standing::default());
        if id == "a" {
            assert!(present.update(&body).is_err(), "{body}");
        }
        assert_eq!(present.identity(Standing::default()), before);
    }
    assert!(Device::create(&"a".repeat(129), &json!({})).is_err());
}

#[test]
fn certificates_take_the_place_of_keys_and_keys_theirs() {
    let print = "ab".repeat(20);
    let body =
        json!({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print}}});
    let mut device = Device::create("d", &body).unwrap();
    let shown = |device: &Device| device.identity(Standing::default())["authentication"].clone();
    assert_eq!(shown(&device)["type"], "selfSigned");
    assert_eq!(shown(&device)["x509Thumbprint"]["primaryThumbprint"], "AB".repeat(20));
    assert_eq!(shown(&device)["symmetricKey"]["primaryKey"], Value::Null);
    assert_eq!(device.twin(Standing::default())["authenticationType"], "selfSigned");
    device.update(&json!({"authentication": {"type": "certificateAuthority"}})).unwrap();
    assert_eq!(shown(&device)["x509Thumbprint"]["primaryThumbprint"], Value::Null);
    device.update(&json!({"authentication": {"type": "sas"}})).unwrap();
    assert!(sas::is_key(shown(&device)["symmetricKey"]["primaryKey"].as_str().unwrap()));
    // A thumbprint without a type says which type is meant.
    let print = json!({"authentication": {"x509Thumbprint": {"primaryThumbprint": "0f".repeat(32)}}});
    device.update(&print).unwrap();
    assert_eq!(device.authentication.scheme, Scheme::SelfSigned);
}

#[test]
fn a_module_has_the_fields_of_a_module() {
    let module = Device::create_module("d", "m", &json!({"moduleId": "m", "managedBy": "me"})).unwrap();
    assert_eq!(module.key(), "d/m");
    let identity = module.identity(Standing::default());
    assert_eq!((&identity["moduleId"], &identity["managedBy"]), (&json!("m"), &json!("me")));
    assert!(identity.get("status").is_none());
    assert_eq!(module.twin(Standing::default())["moduleId"], "m");
    assert!(Device::create_module("d", "m", &json!({"moduleId": "n"})).is_err());
    assert!(Device::create_module("d", "m/n", &json!({})).is_err());
}

#[test]
fn an_identity_survives_being_written_down() {
    let mut device = Device::create("d", &json!({"capabilities": {"iotEdge": true}})).unwrap();
    device.tags.insert("a".to_owned(), json!(1));
    let text = serde_json::to_string(&device).unwrap();
    let again: Device = serde_json::from_str(&text).unwrap();
    let standing = Standing { connected: true, messages: 3 };
    assert_eq!(again.twin(standing), device.twin(standing));
    assert_eq!(again.identity(standing), device.identity(standing));
    assert!(again.twin(standing)["deviceScope"].as_str().unwrap().starts_with("ms-azure-iot-edge://d-"));
}

#[test]
fn only_a_quoted_etag_that_differs_is_a_failed_precondition() {
    for (header, holds) in [
        (None, true),
        (Some("\"*\""), true),
        (Some("\"MQ==\""), true),
        (Some("Mg=="), true),
        (Some("*"), true),
        (Some("\"Mg==\""), false),
    ] {
        assert_eq!(check_etag(header, "MQ==").is_ok(), holds, "{header:?}");
    }
}
