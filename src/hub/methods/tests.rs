use serde_json::json;

use super::*;
use crate::model::{Failure, Kind, Location, Terms};

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const LAX: Vouching = Vouching { signed: false, undigested: true };

fn call(name: &str, payload: &str) -> Result<Request, Reason> {
    read(name, payload.as_bytes(), LAX).unwrap().request
}

fn update(payload: &str, vouching: Vouching) -> Result<Install, Reason> {
    let request = read("firmwareUpdate", payload.as_bytes(), vouching).unwrap().request?;
    let Request::Install(install) = request else { panic!("{request:?}") };
    Ok(*install)
}

fn address(install: Install) -> String {
    match install.artifact.location {
        Location::Url(url) => url.expose().to_owned(),
        Location::File(path) => panic!("{path:?}"),
    }
}

fn refused(reason: &Reason) -> MethodReply {
    MethodReply::new(Method::FirmwareUpdate, Err(reason.into()))
}

#[test]
fn every_spelling_of_a_payload_is_one_request() {
    let object = r#"{"fwPackageUri":"https://h/fw"}"#;
    for payload in [
        object.to_owned(),
        r#"{"fwPackageURI":"https://h/fw"}"#.to_owned(),
        r#"{"fwPackageURI":"https://h/fw","fwPackageUri":"https://h/fw"}"#.to_owned(),
        json!(object).to_string(),
        json!("https://h/fw").to_string(),
        json!(json!("https://h/fw").to_string()).to_string(),
    ] {
        let install = update(&payload, LAX).unwrap();
        assert_eq!(install.origin, Origin::Method);
        assert_eq!(address(install), "https://h/fw", "{payload}");
    }
}

#[test]
fn the_tutorials_fields_serve_as_arguments() {
    let payload = json!({
        "fwPackageURI": "https://h/fw", "fwVersion": "2", "fwPackageCheckValue": DIGEST, "fwSize": 9,
        "jobId": "again", "fwConsent": true,
    });
    let install = update(&payload.to_string(), Vouching::default()).unwrap();
    assert_eq!(install.artifact.size, Some(9));
    assert_eq!(install.artifact.version.unwrap().as_str(), "2");
    assert_eq!(install.artifact.sha256.unwrap().to_string(), DIGEST);
    assert_eq!(install.terms, Terms { consent: true, ..Terms::default() });
}

#[test]
fn to_download_is_to_update_and_hold() {
    let payload = json!({"fwPackageUri": "https://h/fw", "fwHold": false}).to_string();
    let Ok(Request::Install(install)) = call("firmwareDownload", &payload) else { panic!() };
    assert!(install.terms.hold);
    assert!(!update(&payload, LAX).unwrap().terms.hold);
    for name in ["firmwareApply", "apply"] {
        assert_eq!(call(name, "{}"), Ok(Request::Apply));
    }
}

#[test]
fn an_address_without_a_check_value_is_refused_by_default_and_the_answer_names_the_key() {
    let reply = refused(&update(r#""https://h/fw""#, Vouching::default()).unwrap_err());
    assert_eq!((reply.status, &reply.body["code"]), (400, &json!("request.unverifiable")));
    assert!(reply.body.to_string().contains("trust.allow_undigested"));
}

#[test]
fn where_there_are_root_keys_a_bundle_is_enough_and_a_plain_image_is_refused_at_once() {
    let signed = Vouching { signed: true, undigested: false };
    assert_eq!(update(r#""https://h/fw.twb""#, signed).unwrap().artifact.sha256, None);
    let plain = json!({"fwPackageUri": "https://h/fw", "fwPackageCheckValue": DIGEST}).to_string();
    let reply = refused(&update(&plain, signed).unwrap_err());
    assert_eq!((reply.status, &reply.body["code"]), (400, &json!(Failure::BundleUnsigned.code())));
    let reply = refused(&update(r#""https://h/fw.twb""#, LAX).unwrap_err());
    assert_eq!((reply.status, &reply.body["code"]), (400, &json!(Failure::BundleKey.code())));
}

#[test]
fn bad_payloads_are_400_with_the_reason() {
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let big = json!("x".repeat(MAX_PAYLOAD)).to_string();
    for (payload, needle) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("https://h/fw", "not JSON"),
        ("null", "found null"),
        ("42", "found a number"),
        ("[]", "found an array"),
        ("\"[]\"", "found an array"),
        ("{}", "fwPackageUri is missing"),
        (r#"{"fwpackageuri":"https://h"}"#, "fwPackageUri is missing"),
        (r#"{"fwPackageUri":7}"#, "fwPackageUri must be a string, found a number"),
        (r#"{"fwPackageUri":"test.com"}"#, "Insecure package URI"),
        (r#"{"fwPackageUri":"https://a/","fwPackageURI":"https://b/"}"#, "differ"),
        (r#"{"fwPackageUri":"https://a/","fwPackageUri":"https://b/"}"#, "\"fwPackageUri\" is given twice"),
        (r#""{\"fwSize\":1,\"fwSize\":2}""#, "\"fwSize\" is given twice"),
        (r#""http://h/fw""#, "Insecure package URI"),
        (&deep, "not JSON"),
        (&big, "larger than"),
    ] {
        for name in ["firmwareUpdate", "firmwareDownload"] {
            let reply = refused(&call(name, payload).unwrap_err());
            assert_eq!(reply.status, 400, "{:.60}", payload);
            assert!(reply.body["Response"].as_str().unwrap().contains(needle), "{:.60}: {reply:?}", payload);
        }
    }
    assert!(read("firmwareUpdate", &[0xff, 0xfe], LAX).unwrap().request.is_err());
}

#[test]
fn names_are_exact() {
    for name in ["reboot", "rebootDevice"] {
        assert_eq!(call(name, "not even JSON"), Ok(Request::Reboot));
    }
    for name in ["Reboot", "firmwareupdate", "%72eboot", "reboot/", "../reboot", "", "constructor"] {
        assert_eq!(read(name, b"{}", Vouching::default()), None, "{name}");
    }
    for (name, request) in [
        ("factoryReset", Request::FactoryReset),
        ("rollback", Request::Rollback),
        ("cancel", Request::Cancel),
        ("getStatus", Request::Status),
        ("status", Request::Status),
    ] {
        assert_eq!(call(name, ""), Ok(request));
    }
}

#[test]
fn properties_are_asked_for_by_one_name_by_some_or_all() {
    let some = |names: &[&str]| Ok(Request::ReadProperties(names.iter().map(ToString::to_string).collect()));
    for (payload, names) in [
        ("", &[][..]),
        ("null", &[]),
        ("{}", &[]),
        ("\"hostname\"", &["hostname"]),
        ("[\"hostname\",\"uptime\"]", &["hostname", "uptime"]),
        (r#""[\"hostname\",\"uptime\"]""#, &["hostname", "uptime"]),
    ] {
        assert_eq!(call("readProperty", payload), some(names), "{payload}");
    }
    let many = json!(vec!["x"; 65]).to_string();
    for bad in ["{", "42", "true", "[]", "[1]", "{\"name\":\"x\"}", &many] {
        assert!(call("readProperty", bad).is_err(), "{bad}");
    }
}

#[test]
fn properties_are_set_by_an_object() {
    let wanted = BTreeMap::from([("a".to_owned(), json!(1)), ("b".to_owned(), json!("x"))]);
    for payload in [r#"{"a":1,"b":"x"}"#.to_owned(), json!(r#"{"a":1,"b":"x"}"#).to_string()] {
        assert_eq!(
            call("writeProperty", &payload),
            Ok(Request::WriteProperties(wanted.clone())),
            "{payload}"
        );
    }
    for bad in ["", "null", "[]", "{}", "\"a\"", r#"{"a":1,"a":2}"#] {
        assert!(call("writeProperty", bad).is_err(), "{bad}");
    }
}

#[test]
fn answers_have_the_status_of_their_method() {
    let done = || Ok(Granted::Done("x".into()));
    let begun = || Ok(Granted::Begun("x".into()));
    for (_, method) in NAMES {
        assert_eq!(MethodReply::new(method, done()).status, 200);
        let status = MethodReply::new(method, begun()).status;
        let tutorial = matches!(method, Method::FirmwareUpdate | Method::Reboot);
        assert_eq!(status, if tutorial { 200 } else { 202 }, "{method:?}");
    }
    let told = MethodReply::new(Method::ReadProperty, Ok(Granted::Properties(json!({"a": 1}))));
    assert_eq!(told, MethodReply { status: 200, body: json!({"a": 1}) });
    let mut refusal = Refusal::new(Kind::Conflict, "request.busy", "an update is under way").remedy("wait");
    refusal.details.insert("update", json!("0123"));
    let told = MethodReply::new(Method::Reboot, Err(refusal));
    let body = json!({"Response": "an update is under way", "code": "request.busy", "update": "0123"});
    assert_eq!(told, MethodReply { status: 409, body });
}

#[test]
fn replies_are_the_tutorials_and_never_too_large() {
    let started = Ok(Granted::Begun("Firmware update started".into()));
    let (status, body) = MethodReply::new(Method::FirmwareUpdate, started).encode();
    assert_eq!((status, body.as_slice()), (200, br#"{"Response":"Firmware update started"}"#.as_slice()));
    let (status, body) = MethodReply::unknown_method().encode();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &body["Response"]), (404, &json!("Unknown method")));
    let long = Ok(Granted::Done("x".repeat(MAX_PAYLOAD)));
    let (status, body) = MethodReply::new(Method::Cancel, long).encode();
    assert!(status == 500 && body.len() < 100);
}
