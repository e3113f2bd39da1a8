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

/// The numbers of LwM2M's firmware update object, as getStatus tells them.
fn lwm2m(bench: &Bench) -> Checked<(u64, u64)> {
    let (code, status) = bench.cloud.call("getStatus", Value::Null)?;
    let number = |name: &str| status["lwm2m"][name].as_u64();
    match (code, number("state"), number("result")) {
        (200, Some(state), Some(result)) => Ok((state, result)),
        _ => Err(super::support::Fault(format!("{code} {status}"))),
    }
}

#[test]
fn an_update_in_two_steps_waits_to_be_applied() -> Checked {
    let bench = Bench::new()?;
    assert_eq!(lwm2m(&bench)?, (0, 0));
    let (code, body) = bench.cloud.call("firmwareApply", json!({}))?;
    assert_eq!((code, &body["code"]), (412, &json!("request.nothing-staged")));
    let image = bench.publish("2.0.0", &V2);
    let arguments =
        json!({"fwPackageUri": image.url, "fwPackageCheckValue": image.sha256, "fwVersion": "2.0.0"});
    let (code, body) = bench.cloud.call("firmwareDownload", arguments)?;
    assert_eq!((code, body), (202, json!({"Response": "Firmware download started"})));
    bench.reports("download complete", |firmware| {
        let substatus = firmware["fwUpdateSubstatus"].as_str().unwrap_or_default();
        firmware["fwUpdateStatus"] == "verifying" && substatus.contains("waiting")
    })?;
    assert_eq!((lwm2m(&bench)?, bench.device.boots()), ((2, 0), 1));
    assert_eq!(bench.cloud.call("firmwareApply", Value::Null)?.0, 202);
    bench.runs("2.0.0")?;
    assert_eq!(lwm2m(&bench)?, (0, 1));
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_refusal_has_its_status_a_code_and_words() -> Checked {
    let bench = Bench::new()?;
    for (method, payload, status, code) in [
        ("firmwareUpdate", json!({"fwPackageUri": 1}), 400, "request.invalid"),
        ("firmwareDownload", json!("http://h/x"), 400, "request.insecure-uri"),
        ("firmwareApply", Value::Null, 412, "request.nothing-staged"),
        ("apply", Value::Null, 412, "request.nothing-staged"),
        ("rollback", Value::Null, 412, "request.no-previous"),
        ("factoryReset", Value::Null, 501, "request.no-factory-reset"),
        ("readProperty", json!(["hostname", "colour"]), 404, "property.unknown"),
        ("readProperty", json!(5), 400, "request.invalid"),
        ("writeProperty", json!({"uptime": 5}), 409, "property.read-only"),
        ("writeProperty", json!({"colour": "red"}), 404, "property.unknown"),
        ("writeProperty", json!([]), 400, "request.invalid"),
    ] {
        let (found, body) = bench.cloud.call(method, payload)?;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{method}: {body}");
        assert!(body["Response"].as_str().is_some_and(|words| !words.is_empty()), "{method}: {body}");
    }
    for _ in 0..2 {
        let (code, body) = bench.cloud.call("cancel", json!("whatever"))?;
        assert_eq!((code, body), (200, json!({"Response": "No update is under way"})));
    }
    bench.is_untouched()
}

#[test]
fn properties_are_read_and_those_with_a_program_are_set() -> Checked {
    let bench = Bench::off("")?;
    let directory = bench.device.path("properties.d");
    std::fs::create_dir(&directory)?;
    std::fs::write(
        bench.device.path("conf.d/60-properties.toml"),
        format!("[properties]\ndirectory = \"{}\"\n", directory.display()),
    )?;
    let kept = bench.device.path("site");
    std::fs::write(&kept, "north\n")?;
    let kept = kept.display();
    let script = format!("#!/bin/sh\ncase $1 in get) cat {kept};; set) cat > {kept};; esac\n");
    for (name, script) in [("site.string.rw", script.as_str()), ("doors.integer", "#!/bin/sh\necho 4\n")] {
        std::fs::write(directory.join(name), script)?;
        executable(&directory.join(name))?;
    }
    executable(&directory)?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let (code, all) = bench.cloud.call("readProperty", Value::Null)?;
    assert_eq!(
        (code, &all["site"], &all["doors"], &all["version"]),
        (200, &json!("north"), &json!(4), &json!("1.0.0"))
    );
    assert_eq!(all["slots"]["booted"], "a");
    assert!(all["freeSpace"].is_u64() && all["uptime"].is_u64() && all["bootTime"].is_string(), "{all:#}");
    // As the Python service sends it: JSON in a JSON string.
    let (code, told) = bench.cloud.call("writeProperty", json!(json!({"site": "south"}).to_string()))?;
    assert_eq!((code, told), (200, json!({"site": "south"})));
    assert_eq!(bench.cloud.call("readProperty", json!("site"))?.1, json!({"site": "south"}));
    let (code, body) = bench.cloud.call("writeProperty", json!({"site": 5}))?;
    assert_eq!((code, &body["code"]), (400, &json!("property.wrong-type")), "{body}");
    assert_eq!(bench.cloud.call("writeProperty", json!({"doors": 5}))?.0, 409);
    // The same on the device itself.
    let (code, text) = bench.device.command(&["properties", "set", "site", "east"])?;
    assert_eq!((code, text.trim()), (Some(0), "site  east"));
    let (code, text) = bench.device.command(&["properties", "get", "site", "doors"])?;
    assert_eq!((code, text.trim()), (Some(0), "doors  4\nsite   east"));
    let (code, text) = bench.device.command(&["properties", "get", "colour"])?;
    assert!(code == Some(1) && text.contains("there is no property colour (property.unknown)"), "{text}");
    Ok(())
}

fn executable(path: &std::path::Path) -> Checked {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn the_command_line_downloads_applies_and_asks_before_a_factory_reset() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    let (code, text) = bench.device.command(&["factory-reset"])?;
    assert!(code == Some(2) && text.contains("--yes"), "{text}");
    let (code, text) = bench.device.command(&["factory-reset", "--yes"])?;
    assert!(code == Some(1) && text.contains("request.no-factory-reset"), "{text}");
    let (code, text) = bench.device.command(&["download", &image.url, "--sha256", &image.sha256])?;
    assert_eq!((code, text.trim()), (Some(0), "Firmware download started"));
    bench.device.wait_status("staged", 0, LIMIT, |status| status["phase"] == "staged")?;
    assert_eq!(bench.device.boots(), 1);
    assert_eq!(bench.device.command(&["apply"])?.0, Some(0));
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}
