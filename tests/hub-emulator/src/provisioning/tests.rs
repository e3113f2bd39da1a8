#![allow(clippy::unwrap_used)]
use super::*;
use crate::sas::sign;

const GROUP_KEY: &str =
    "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
const DERIVED_KEY: &str = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=";
const MEMBER: &str = "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6";

fn credentials(id: &str, key: &str) -> Credentials {
    let token = sign(&format!("{ID_SCOPE}/registrations/{id}"), key, u64::MAX, None).unwrap();
    Credentials { token: Some(Token::parse(&token).unwrap()), peer: Peer::default() }
}

#[test]
fn a_groups_key_makes_the_key_of_each_device() {
    assert_eq!(enrollment::derive(GROUP_KEY, MEMBER).unwrap(), DERIVED_KEY);
    let mut service = Provisioning::new(ID_SCOPE);
    let keys = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": GROUP_KEY}});
    service.enroll("factory", true, &json!({ "attestation": keys })).unwrap();
    let (_, proof) = service.attest(ID_SCOPE, MEMBER, &credentials(MEMBER, DERIVED_KEY)).unwrap();
    let Proof::Keys([primary, _]) = proof else { panic!("keys") };
    assert_eq!(primary, DERIVED_KEY);
    // The group's own key is not a device's.
    assert!(service.attest(ID_SCOPE, MEMBER, &credentials(MEMBER, GROUP_KEY)).is_err());
    assert!(service.attest(ID_SCOPE, "another", &credentials("another", DERIVED_KEY)).is_err());
    let refused = service.attest("0ne99999999", MEMBER, &credentials(MEMBER, DERIVED_KEY)).unwrap_err();
    assert_eq!(refused.status, 404);
}

#[test]
fn an_individual_enrolment_stands_before_every_group() {
    let mut service = Provisioning::new(ID_SCOPE);
    let group = json!({"attestation": {"symmetricKey": {"primaryKey": GROUP_KEY}}});
    service.enroll("factory", true, &group).unwrap();
    let own = service.enroll(MEMBER, false, &json!({"provisioningStatus": "disabled"})).unwrap();
    let key = own["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned();
    assert!(service.attest(ID_SCOPE, MEMBER, &credentials(MEMBER, DERIVED_KEY)).is_err());
    let upper = MEMBER.to_uppercase();
    assert!(!service.attest(ID_SCOPE, &upper, &credentials(&upper, &key)).unwrap().0.enabled);
    // Its key stays when it is changed without one.
    let again = service.enroll(MEMBER, false, &json!({"deviceId": "named"})).unwrap();
    assert_eq!(again["attestation"]["symmetricKey"]["primaryKey"], key.as_str());
    service.unenroll(MEMBER, false).unwrap();
    assert!(service.unenroll(MEMBER, false).is_err());
    assert!(service.attest(ID_SCOPE, MEMBER, &credentials(MEMBER, DERIVED_KEY)).is_ok());
}

#[test]
fn impossible_enrolments_are_refused() {
    let mut service = Provisioning::new(ID_SCOPE);
    for (id, body) in [
        ("ends-with.", json!({})),
        ("a b", json!({})),
        ("", json!({})),
        ("a", json!({"registrationId": "b"})),
        ("a", json!({"provisioningStatus": "maybe"})),
        ("a", json!({"outcome": "assigned"})),
        ("a", json!({"attestation": {"type": "tpm"}})),
        ("a", json!({"attestation": {"type": "x509"}})),
        ("a", json!({"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "short"}}})),
        (
            "a",
            json!({"attestation": {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": "AAAA"}}}}}),
        ),
    ] {
        assert!(service.enroll(id, false, &body).is_err(), "{id} {body}");
    }
    assert!(service.enroll("g", true, &json!({"attestation": {"type": "x509"}})).is_err());
}

#[test]
fn an_operation_belongs_to_its_device_and_takes_as_many_polls_as_set() {
    let mut service = Provisioning::new(ID_SCOPE);
    service.configure(&json!({"polls": 2, "retryAfter": 7})).unwrap();
    assert!(service.configure(&json!({"polls": -1})).is_err());
    let registration = Registration {
        id: "Dev".to_owned(),
        device: "dev".to_owned(),
        hub: "hub".to_owned(),
        status: "assigned".to_owned(),
        substatus: "initialAssignment".to_owned(),
        error: None,
        payload: Value::Null,
        created: clock::now(),
        updated: clock::now(),
        count: 1,
    };
    let Answer::Wait { body, retry_after } = service.begin(registration) else { panic!("wait") };
    assert_eq!((retry_after, &body["status"]), (7, &json!("assigning")));
    let operation = body["operationId"].as_str().unwrap();
    assert_eq!(service.poll("other", operation).unwrap_err().status, 404);
    assert_eq!(service.poll("dev", "5.none").unwrap_err().body()["errorCode"], 404_203);
    for _ in 0..2 {
        assert!(matches!(service.poll("dev", operation).unwrap(), Answer::Wait { .. }));
    }
    let Answer::Done { body } = service.poll("DEV", operation).unwrap() else { panic!("done") };
    assert_eq!(
        (&body["status"], &body["registrationState"]["assignedHub"]),
        (&json!("assigned"), &json!("hub"))
    );
}
