//! Direct methods, with the answers that the vendor's tutorials print.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, V1, V2};

#[test]
fn firmware_update_answers_at_once_and_reports_as_it_goes() -> Checked {
    let bench = Bench::with("[trust]\nallow_undigested = true\n")?;
    let image = bench.publish("2.0.0", &V2);
    let (code, body) = bench.cloud.call("firmwareUpdate", json!({"fwPackageUri": image.url}))?;
    assert_eq!((code, body), (200, json!({"Response": "Firmware update started"})));
    let reported = bench.cloud.wait_reported("completed", LIMIT, |it| it["firmwareStatus"] == "completed")?;
    assert_eq!(reported["firmware"]["currentFwVersion"], "2.0.0");
    bench.settled(Slot::B, &V2)?;
    let times = ["logTime", "downloadComplete", "startedApplyingImage", "lastFirmwareUpdate"];
    let times = times.map(|name| reported[name].as_str().unwrap_or_default());
    assert!(times.is_sorted() && !times[0].is_empty(), "{times:?}");
    Ok(())
}

#[test]
fn a_bare_address_is_refused_unless_that_was_allowed() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    // As the Python service sends it: JSON in a JSON string.
    for payload in [
        json!({"fwPackageUri": image.url}),
        json!(json!({"fwPackageUri": image.url}).to_string()),
        json!(image.url),
    ] {
        let (code, body) = bench.cloud.call("firmwareUpdate", payload)?;
        assert_eq!((code, &body["code"]), (400, &json!("request.unverifiable")), "{body}");
        assert!(body["Response"].as_str().unwrap().contains("trust.allow_undigested"), "{body}");
    }
    for payload in [json!(null), json!(42), json!({}), json!({"fwPackageUri": 7})] {
        assert_eq!(bench.cloud.call("firmwareUpdate", payload)?.0, 400);
    }
    let (code, body) = bench.cloud.call("firmwareUpdate", json!({"fwPackageUri": "http://example.com/x"}))?;
    assert_eq!((code, &body["Response"]), (400, &json!("Insecure package URI")));
    bench.cloud.wait_reported("a failed status for pollers", LIMIT, |it| it["firmwareStatus"] == "failed")?;
    bench.is_untouched()
}

#[test]
fn p022_p026_a_second_request_and_a_reboot_are_refused_while_one_is_under_way() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 1 << 20);
    let arguments = json!({"fwPackageUri": image.url, "fwPackageCheckValue": image.sha256});
    assert_eq!(bench.cloud.call("firmwareUpdate", arguments)?.0, 200);
    bench.cloud.wait_sent(&image, 400_000, LIMIT)?;
    let other = bench.publish("3.0.0", &V1);
    let arguments = json!({"fwPackageUri": other.url, "fwPackageCheckValue": other.sha256});
    for (method, payload) in
        [("firmwareUpdate", arguments), ("reboot", Value::Null), ("rebootDevice", Value::Null)]
    {
        let (code, body) = bench.cloud.call(method, payload)?;
        assert_eq!((code, &body["Response"]), (409, &json!("an update is under way")), "{method}");
        let told = [&body["code"], &body["phase"]];
        assert_eq!(told, [&json!("request.busy"), &json!("downloading")], "{method}");
        let status = bench.cloud.call("getStatus", Value::Null)?.1;
        assert_eq!(body["update"], status["update"]["id"], "{method}");
    }
    assert_eq!(bench.device.boots(), 1);
    let (code, _) = bench.cloud.call("cancel", Value::Null)?;
    assert_eq!(code, 200);
    bench.fails("current", "request.cancelled")?;
    bench.settled(Slot::A, &V1)
}

#[test]
fn reboots_are_answered_first_and_reported_after() -> Checked {
    let bench = Bench::new()?;
    let mut last = String::new();
    for (boots, method) in [(2, "reboot"), (3, "rebootDevice")] {
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let (code, body) = bench.cloud.call(method, json!({"whatever": 1}))?;
        assert_eq!((code, body), (200, json!({"Response": "Reboot started"})));
        let reported = bench.cloud.wait_reported("rebootTime", LIMIT, |it| {
            it["rebootTime"].is_string() && it["rebootTime"] != last.as_str()
        })?;
        assert_eq!(bench.device.boots(), boots);
        last = reported["rebootTime"].as_str().unwrap().to_owned();
        let then = twinboot::model::Timestamp(u64::try_from(before)?).to_string();
        assert!(last >= then, "{last} is before the call at {then}");
    }
    // Nothing repeats it.
    bench.reconnects_idle()?;
    assert_eq!(bench.device.boots(), 3);
    bench.settled(Slot::A, &V1)
}

#[test]
fn p024_unknown_methods_are_answered_so() -> Checked {
    let bench = Bench::new()?;
    let unknown = json!({"Response": "Unknown method", "code": "request.unknown-method"});
    for method in ["lockDoor", "Reboot", "firmwareupdate", "factoryReset!"] {
        let (code, body) = bench.cloud.call(method, json!({"a": 1}))?;
        assert_eq!((code, body), (404, unknown.clone()), "{method}");
    }
    bench.is_untouched()
}
