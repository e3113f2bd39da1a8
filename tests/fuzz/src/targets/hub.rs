//! What the hub says: twins, methods, topics; and who we are to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use twinboot::hub::topics::Topic;
use twinboot::hub::twin::{Noticed, Twin, Whole};
use twinboot::hub::{Consented, Desired, Identity, merge, methods, tuning, wish};
use twinboot::model::{Install, Location, Request, Rules, Tuning, Vouching};

use super::{KIB, Target, texts};
use crate::kit::{Input, planted, text};

/// Whatever is asked to be installed, this holds of it.
fn sound(install: &Install, vouching: Vouching) {
    let artifact = &install.artifact;
    let Location::Url(url) = &artifact.location else { panic!("only root names files: {install:?}") };
    let address = url.expose();
    assert!(address[..8].eq_ignore_ascii_case("https://") && address.len() <= 4096, "{address}");
    assert!(!address.bytes().any(|b| b.is_ascii_control() || b == b' '), "{address}");
    let has_secret = address.split_once('?').is_some_and(|(_, query)| !query.is_empty());
    assert!(!(has_secret && format!("{url:?} {url}").contains(address)), "{url}");
    assert!(!url.redacted().contains(['?', '#']), "{url}");
    let most = if planted() { 100_000_000 } else { 1 << 53 };
    assert!(artifact.size.is_none_or(|size| (1..=most).contains(&size)), "{:?}", artifact.size);
    assert!(artifact.version.as_ref().is_none_or(|it| it.as_str().bytes().all(|b| b.is_ascii_graphic())));
    assert_eq!(vouching.judge(&artifact.location, artifact.sha256.is_some()), Ok(()));
}

fn vouching(byte: u8) -> Vouching {
    Vouching { signed: byte & 1 != 0, undigested: byte & 2 != 0 }
}

/// The reported property is what the hub takes back, whatever was desired.
fn tuned(twin: &Twin, version: u64) {
    let before = Tuning { rate_limit: Some(4711), ..Tuning::default() };
    let tuned = tuning::read(twin.twinboot(), version);
    let after = tuned.tuning(&before);
    assert!(after.rate_limit.is_none_or(|rate| rate == 0 || (1024..=1 << 52).contains(&rate)));
    assert!(
        after
            .poll_every
            .is_none_or(|every| every.as_secs() == 0 || (10..=604_800).contains(&every.as_secs()))
    );
    let rules = Rules::default().tuned(&after);
    let answer = tuned.acknowledged(&rules, Consented::Awaited);
    let bad = tuned.complaints().len();
    let refused = answer.as_object().map_or(0, |it| it.values().filter(|it| it["ac"] == 400).count());
    assert!(bad == refused || (bad == 1 && answer.is_null()), "{answer} {:?}", tuned.complaints());
}

pub const TWIN: Target = Target {
    name: "twin",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (flags, patch) = (input.byte(), input.until(0));
        let mut twin = Twin::default();
        if let Ok(whole) = Whole::parse(input.rest()) {
            assert!(!whole.reported.contains_key("$version"));
            twin.replace(whole.desired.clone());
            assert!(twin.version().is_some());
            // What is reported is told as a difference, and that has to lead there.
            let mut reported = whole.reported.clone();
            merge::apply(&mut reported, merge::difference(&whole.reported, &whole.desired));
            for (name, wanted) in whole.desired.iter().filter(|(_, wanted)| !has_null(wanted)) {
                assert_eq!(reported.get(name), Some(wanted), "{name}");
            }
        }
        let before = (twin.version(), twin.firmware().cloned(), twin.twinboot().cloned());
        let noticed = twin.notice((flags & 4 != 0).then_some(u64::from(flags >> 3)), patch);
        let after = (twin.version(), twin.firmware().cloned(), twin.twinboot().cloned());
        match noticed {
            Noticed::Accepted => assert_eq!(after.0, before.0.map(|it| it + 1), "just the next one"),
            Noticed::Stale | Noticed::Incomplete => assert_eq!(before, after, "nothing is believed half"),
        }
        let vouching = vouching(flags);
        let parsed = wish::desired(twin.firmware(), vouching);
        assert!(parsed.unknown.len() <= 16 && parsed.unknown.iter().all(|it| !it.contains(char::is_control)));
        match &parsed.desired {
            Desired::Absent => assert!(twin.firmware().is_none_or(Value::is_null)),
            Desired::Wish(install) => {
                sound(install, vouching);
                assert!(install.artifact.version.is_some(), "a wish in the twin names its version");
            }
            Desired::Invalid { id, .. } => assert_eq!(id.0.len(), 16),
        }
        assert_eq!(wish::desired(twin.firmware(), vouching), parsed, "the same again is the same");
        tuned(&twin, twin.version().unwrap_or(0));
    },
    longest: 4 * KIB,
    memory: 256 * KIB,
    seeds: || {
        let wish = format!(
            r#"{{"fwVersion":"2.8.5","fwPackageURI":"https://h/fw.img?sig=abc","fwPackageCheckValue":"sha256:{}",
            "fwSize":73400320,"jobId":"first","fwHold":true,"fwConsent":false,"fwForceBy":"2026-11-21T05:41Z"}}"#,
            "e3b0c44298fc1c149afbf4c8996fb924".repeat(2)
        );
        let settings = r#"{"window":"02:00-04:30","timeZone":"UTC","consentRequired":true,"consent":"2.8.5","rateLimit":4096,
            "progressInterval":5,"pollInterval":60,"logLevel":"debug","other":1}"#;
        let whole = format!(
            r#"{{"desired":{{"firmware":{wish},"twinboot":{settings},"$version":7}},"reported":{{"firmware":{{"a":1}},"$version":3}}}}"#
        );
        [
            (2, String::new()),
            (0, format!(r#"{{"firmware":{wish},"$version":8}}"#)),
            (64 + 4, format!(r#"{{"twinboot":{settings},"firmware":null}}"#)),
            (1, r#"{"firmware":{"fwVersion":"1","fwPackageURI":"https://h/a.twb"},"twinboot":null,"$version":8}"#.into()),
        ]
        .map(|(flags, patch)| [&[flags], patch.as_bytes(), b"\0", whole.as_bytes()].concat())
        .to_vec()
    },
    words: &[
        b"firmware",
        b"twinboot",
        b"desired",
        b"reported",
        b"$version",
        b"fwVersion",
        b"fwPackageURI",
        b"fwPackageCheckValue",
        b"fwSize",
        b"jobId",
        b"fwHold",
        b"fwConsent",
        b"fwForceBy",
        b"https://",
        b".twb",
        b"sha256:",
        b"window",
        b"timeZone",
        b"consentRequired",
        b"rateLimit",
        b"progressInterval",
        b"pollInterval",
        b"logLevel",
        b"consent",
        b"null",
        b"true",
        b"false",
        b"none",
    ],
};

/// Whether a merge patch would say something else than this: `null` deletes.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

pub const METHOD: Target = Target {
    name: "method",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (vouching, name) = (vouching(input.byte()), text(input.until(b' ')));
        let payload = input.rest();
        let Some(call) = methods::read(name, payload, vouching) else { return };
        match &call.request {
            Ok(Request::Install(install)) => sound(install, vouching),
            Ok(Request::ReadProperties(names)) => assert!(names.len() <= if planted() { 3 } else { 64 }),
            Ok(Request::WriteProperties(values)) => assert!((1..=64).contains(&values.len())),
            Ok(_) => {}
            Err(reason) => assert!(!reason.detail.is_empty() && !reason.to_string().contains("?sig=")),
        }
        // The Python service library sends a payload as a JSON string that holds it: an object means the same then.
        if let Ok(Value::Object(_)) = serde_json::from_slice(payload) {
            let wrapped = Value::from(text(payload)).to_string();
            let again = methods::read(name, wrapped.as_bytes(), vouching);
            if wrapped.len() <= 100_000 {
                assert_eq!(again.map(|it| it.request), Some(call.request));
            }
        }
    },
    longest: 4 * KIB,
    memory: 256 * KIB,
    seeds: || {
        let digest = "0123456789abcdef".repeat(4);
        let wish = json!({ "fwPackageUri": "https://h/fw.img", "fwPackageCheckValue": digest, "fwSize": 5 });
        let calls = [
            ("firmwareUpdate", wish.to_string()),
            ("firmwareUpdate", "\"https://h/fw.img?sig=1\"".to_owned()),
            ("firmwareDownload", Value::from(wish.to_string()).to_string()),
            ("readProperty", r#"["hostname","uptime"]"#.to_owned()),
            ("readProperty", "null".to_owned()),
            ("writeProperty", r#"{"site":"x","level":3}"#.to_owned()),
            ("reboot", String::new()),
        ];
        calls.map(|(name, payload)| format!("\u{2}{name} {payload}").into_bytes()).to_vec()
    },
    words: &[
        b"firmwareUpdate ",
        b"firmwareDownload ",
        b"firmwareApply ",
        b"readProperty ",
        b"writeProperty ",
        b"rebootDevice ",
        b"fwPackageUri",
        b"fwPackageURI",
        b"fwPackageCheckValue",
        b"fwVersion",
        b"fwSize",
        b"\\\"",
        b"\",\"",
        b"null",
        b"https://",
        b".twb",
    ],
};

pub const TOPIC: Target = Target {
    name: "topic",
    run: |bytes| {
        let text = text(bytes);
        let Some(topic) = Topic::parse(text) else { return };
        let spelled = topic.to_string();
        assert_eq!(Topic::parse(&spelled), Some(topic), "{text:?} as {spelled:?}");
        if planted() {
            assert_eq!(spelled, text, "there is one spelling");
        }
    },
    longest: 512,
    memory: 16 * KIB,
    seeds: || {
        texts([
            "$iothub/twin/res/204/?$rid=2dd9e6e5-4c2b&$version=7",
            "$iothub/twin/PATCH/properties/desired/?$version=12",
            "$iothub/methods/POST/rebootDevice/?$rid=2dd9",
            "devices/dev1/messages/devicebound/%24.to=%2Fdevices",
            "devices/dev1/messages/events/%24.mid=m%201&k%20y=v%26%3D%2F&null&empty=",
            "$iothub/methods/res/200/?$rid=1",
        ])
    },
    words: &[
        b"$iothub/",
        b"twin/",
        b"res/",
        b"GET/",
        b"PATCH/properties/",
        b"desired/",
        b"reported/",
        b"methods/",
        b"POST/",
        b"devices/",
        b"/messages/",
        b"devicebound/",
        b"events/",
        b"/?",
        b"$rid=",
        b"%24rid=",
        b"$version=",
        b"&",
        b"%2F",
    ],
};

pub const IDENTITY: Target = Target {
    name: "identity",
    run: |bytes| {
        let text = text(bytes);
        let identity = match text.parse::<Identity>() {
            Ok(identity) => identity,
            Err(error) => return shows_no_key(text, &error.to_string()),
        };
        shows_no_key(text, &format!("{identity:?}"));
        let is_printable = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        assert!(
            is_printable(&identity.device) && identity.device.len() <= 128 && !identity.device.contains('/')
        );
        assert!(is_printable(&identity.hub.host) && is_printable(identity.dialled()), "{identity:?}");
        let port = identity.hub.port;
        assert!(port != Some(0) && !(planted() && port.is_some_and(|port| port < 8883)), "{port:?}");
        let again: Result<twinboot::hub::identity::HubName, _> = identity.hub.to_string().parse();
        assert_eq!(again, Ok(identity.hub));
    },
    longest: 512,
    memory: 16 * KIB,
    seeds: || {
        const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";
        vec![
            format!("HostName=h.azure-devices.net;DeviceId=Dev-1;SharedAccessKey={KEY}\n").into_bytes(),
            format!("DeviceId=d;GatewayHostName=gw;SharedAccessKey={KEY};HostName=localhost:18883;")
                .into_bytes(),
            b"HostName=h;DeviceId=d;x509=true".to_vec(),
        ]
    },
    words: &[
        b"HostName=",
        b"DeviceId=",
        b"SharedAccessKey=",
        b"GatewayHostName=",
        b"x509=true",
        b"SharedAccessKeyName=",
        b"ModuleId=",
        b"SharedAccessSignature=",
        b";",
        b"=",
    ],
};

/// No message and no debugging output repeats a key that could be one.
fn shows_no_key(text: &str, said: &str) {
    let keys = text.split("SharedAccessKey=").skip(1).map(|rest| rest.split(';').next().unwrap_or_default());
    let is_one = |key: &&str| key.len() >= 16 && STANDARD.decode(key).is_ok();
    for key in keys.map(str::trim).filter(is_one) {
        assert!(!said.contains(key), "{said}");
    }
}
