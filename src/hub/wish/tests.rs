#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const STRICT: Vouching = Vouching { signed: false, undigested: false };
const LAX: Vouching = Vouching { signed: false, undigested: true };
const SIGNED: Vouching = Vouching { signed: true, undigested: false };

fn good() -> Value {
    json!({"fwVersion": "2.8.5", "fwPackageURI": "https://h/fw?sig=S3CRET", "fwPackageCheckValue": DIGEST})
}

fn with(name: &str, value: Value) -> Value {
    let mut firmware = good();
    firmware[name] = value;
    firmware
}

fn refused(firmware: &Value) -> Reason {
    match desired(Some(firmware), STRICT).desired {
        Desired::Invalid { reason, .. } => reason,
        other @ (Desired::Absent | Desired::Wish(_)) => panic!("{firmware}: {other:?}"),
    }
}

#[test]
fn the_tutorials_object_is_a_wish() {
    let firmware = json!({
        "fwVersion": "2.8.5", "fwPackageURI": "https://h/fw", "fwPackageCheckValue": format!("SHA256:{DIGEST}"),
        "fwSize": 1u64 << 53, "jobId": "j".repeat(128),
    });
    let Parsed { desired: Desired::Wish(install), unknown } = desired(Some(&firmware), STRICT) else {
        panic!()
    };
    assert_eq!(install.artifact.version.unwrap().as_str(), "2.8.5");
    assert_eq!(install.artifact.sha256.unwrap().to_string(), DIGEST);
    assert_eq!(install.artifact.size, Some(1 << 53));
    assert_eq!(install.origin, Origin::Desired);
    assert!(unknown.is_empty());
}

/// Whoever has to vouch for it: rules that change do not make another wish of it.
#[test]
fn a_wish_that_only_lacks_a_voucher_is_the_same_wish() {
    let bundle = with("fwPackageURI", json!("https://h/fw.twb"));
    for (firmware, takes, refuses) in [(good(), STRICT, SIGNED), (bundle, SIGNED, STRICT)] {
        let Desired::Wish(taken) = desired(Some(&firmware), takes).desired else { panic!() };
        let Desired::Invalid { id, .. } = desired(Some(&firmware), refuses).desired else { panic!() };
        assert_eq!(id, taken.id);
    }
}

#[test]
fn none_and_null_are_absent() {
    assert_eq!(desired(None, STRICT).desired, Desired::Absent);
    assert_eq!(desired(Some(&Value::Null), STRICT).desired, Desired::Absent);
}

#[test]
fn each_missing_field_is_named() {
    for name in ["fwVersion", "fwPackageURI", "fwPackageCheckValue"] {
        for absent in [None, Some(Value::Null)] {
            let mut firmware = good();
            match absent {
                None => drop(firmware.as_object_mut().unwrap().remove(name)),
                Some(null) => firmware[name] = null,
            }
            let reason = refused(&firmware);
            assert!(reason.detail.contains(&format!("firmware.{name} is missing")), "{reason}");
        }
    }
    assert_eq!(refused(&json!({})).failure, Failure::RequestInvalid);
}

#[test]
fn each_wrong_type_is_named_with_what_was_found() {
    let values = [json!(true), json!(1), json!(1.5), json!("text"), json!([1]), json!({"a": 1})];
    for name in ["fwVersion", "fwPackageURI", "fwPackageCheckValue", "fwSize", "jobId", "fwForceBy"] {
        for value in &values {
            if value.is_string() && name != "fwSize" || value == &json!(1) && name == "fwSize" {
                continue;
            }
            let reason = refused(&with(name, value.clone()));
            assert_eq!(reason.failure, Failure::RequestInvalid);
            assert!(reason.detail.contains(&format!("firmware.{name} must be")), "{reason}");
            assert!(reason.detail.ends_with(&format!("found {}", kind(value))), "{reason}");
        }
    }
    for value in values {
        if !value.is_object() {
            let reason = refused(&value);
            assert_eq!(reason.detail, format!("firmware must be an object, found {}", kind(&value)));
        }
    }
}

#[test]
fn sizes_are_whole_and_in_bounds() {
    for bad in [json!(0), json!(-1), json!((1u64 << 53) + 1), json!(u64::MAX), json!(1e3), json!("123")] {
        assert!(refused(&with("fwSize", bad)).detail.contains("from 1 to 9007199254740992"));
    }
}

#[test]
fn addresses_must_be_https_and_are_never_repeated() {
    for (bad, failure) in [
        ("http://h/fw?sig=S3CRET", Failure::RequestInsecureUri),
        ("", Failure::RequestInsecureUri),
        (" https://h/S3CRET", Failure::RequestInsecureUri),
        ("file:///S3CRET", Failure::RequestInsecureUri),
        ("https:///S3CRET", Failure::RequestInvalid),
        ("https://u:S3CRET@h/", Failure::RequestInvalid),
    ] {
        let reason = refused(&with("fwPackageURI", json!(bad)));
        assert_eq!(reason.failure, failure, "{bad}");
        assert!(!reason.detail.contains("S3CRET"), "{reason}");
    }
    let reason = refused(&with("fwPackageURI", json!("http://h/fw")));
    assert_eq!(reason.detail, "Insecure package URI");
    // The sample checks the address first of what it can act on, so a missing digest does not hide it.
    let both = json!({"fwVersion": "1", "fwPackageURI": "http://h"});
    assert_eq!(refused(&both).failure, Failure::RequestInsecureUri);
}

#[test]
fn check_values_are_sha256_or_told_what_is_accepted() {
    for bad in ["123456abcde", "", &DIGEST[1..], "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let reason = refused(&with("fwPackageCheckValue", json!(bad)));
        assert!(reason.detail.contains("SHA-256 digest of 64 hex digits"), "{reason}");
    }
    let mut bare = good();
    bare.as_object_mut().unwrap().remove("fwPackageCheckValue");
    let reason = refused(&bare);
    assert_eq!(reason.failure, Failure::RequestUnverifiable);
    assert!(reason.detail.contains("trust.allow_undigested"), "{reason}");
    let Desired::Wish(install) = desired(Some(&bare), LAX).desired else { panic!() };
    assert_eq!(install.artifact.sha256, None);
}

#[test]
fn a_signed_bundle_needs_no_check_value_where_there_are_root_keys() {
    let reason = |firmware: &Value, vouching| match desired(Some(firmware), vouching).desired {
        Desired::Invalid { reason, .. } => reason,
        other @ (Desired::Absent | Desired::Wish(_)) => panic!("{firmware}: {other:?}"),
    };
    let bundle = json!({"fwVersion": "2.8.5", "fwPackageURI": "https://h/fw.twb?sig=S3CRET"});
    let Desired::Wish(install) = desired(Some(&bundle), SIGNED).desired else { panic!() };
    assert_eq!(install.artifact.sha256, None);
    // One that is given is kept, and has to be one.
    let mut digested = bundle.clone();
    digested["fwPackageCheckValue"] = json!(DIGEST);
    let Desired::Wish(install) = desired(Some(&digested), SIGNED).desired else { panic!() };
    assert_eq!(install.artifact.sha256, DIGEST.parse().ok());
    digested["fwPackageCheckValue"] = json!("123456abcde");
    assert_eq!(reason(&digested, SIGNED).failure, Failure::RequestInvalid);
    for vouching in [STRICT, LAX] {
        let reason = reason(&bundle, vouching);
        assert_eq!(reason.failure, Failure::BundleKey);
        assert!(reason.detail.contains("trust.keys") && !reason.detail.contains("S3CRET"), "{reason}");
    }
    assert_eq!(reason(&good(), SIGNED).failure, Failure::BundleUnsigned);
}

#[test]
fn terms_are_read_strictly() {
    let mut firmware = with("fwHold", json!(true));
    firmware["fwConsent"] = json!(true);
    firmware["fwForceBy"] = json!("2026-12-01T04:00:00Z");
    let Parsed { desired: Desired::Wish(install), unknown } = desired(Some(&firmware), STRICT) else {
        panic!()
    };
    let force_by = "2026-12-01T04:00:00Z".parse().ok();
    assert_eq!(install.terms, Terms { hold: true, consent: true, force_by, unattended: false });
    assert!(unknown.is_empty());
    let Desired::Wish(plain) = desired(Some(&good()), STRICT).desired else { panic!() };
    assert!(plain.terms.is_usual());
    assert_ne!(plain.id, install.id, "other terms, another wish");
    assert_eq!(plain.intent, install.intent, "for the same thing");
    for name in ["fwHold", "fwConsent"] {
        for bad in [json!("true"), json!(1), json!([true]), json!({"a": 1})] {
            let reason = refused(&with(name, bad.clone()));
            let wanted = format!("firmware.{name} must be true or false, found {}", kind(&bad));
            assert_eq!((reason.failure, reason.detail), (Failure::RequestInvalid, wanted));
        }
    }
    for bad in [json!("tomorrow"), json!("2026-12-01T04:00:00"), json!("2026-12-01T04:00:00+01:00")] {
        assert!(
            refused(&with("fwForceBy", bad)).detail.starts_with("firmware.fwForceBy must be a time in UTC")
        );
    }
}

#[test]
fn bounds_hold() {
    assert!(refused(&with("jobId", json!("j".repeat(129)))).detail.contains("128"));
    assert!(refused(&with("note", json!("x".repeat(MAX_BYTES)))).detail.contains("larger than"));
    let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    assert!(matches!(desired(Some(&with("x", nested(9))), STRICT).desired, Desired::Wish(_)));
    for levels in [10, 11, 100] {
        assert!(refused(&with("x", nested(levels))).detail.contains("nested deeper"));
    }
}

#[test]
fn unknown_members_are_told_and_nothing_else() {
    let mut firmware = with("fwPackageUri", json!("https://wrong.case/"));
    firmware["\u{1b}[31m"] = json!({"a": [1]});
    let parsed = desired(Some(&firmware), STRICT);
    assert!(matches!(parsed.desired, Desired::Wish(_)));
    assert_eq!(parsed.unknown, ["\\u{1b}[31m", "fwPackageUri"]);
}

#[test]
fn the_same_nonsense_has_the_same_id_and_other_nonsense_another() {
    let id = |firmware: &Value| match desired(Some(firmware), STRICT).desired {
        Desired::Invalid { id, version, .. } => (id, version.map(|version| version.to_string())),
        Desired::Absent | Desired::Wish(_) => panic!(),
    };
    let bad = with("fwPackageURI", json!("http://h/1"));
    assert_eq!(id(&bad), id(&bad.clone()));
    assert_ne!(id(&bad).0, id(&with("fwPackageURI", json!("http://h/2"))).0);
    assert_eq!(id(&bad).1.unwrap(), "2.8.5");
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,40}", n in any::<i64>(), field in 0..5usize) {
        let name = ["fwVersion", "fwPackageURI", "fwPackageCheckValue", "fwSize", "jobId"][field];
        for value in [json!(text), json!(n), json!([text])] {
            let _ = desired(Some(&with(name, value)), STRICT);
        }
    }
}
