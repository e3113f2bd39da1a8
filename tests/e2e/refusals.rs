//! What is not done, and how that is told.

use serde_json::json;

use super::support::{Checked, Recipe, Slot};
use super::{Bench, MIB, V1, V2};

#[test]
fn an_insecure_address_is_refused_in_the_tutorials_words() -> Checked {
    let bench = Bench::new()?;
    let mut desired = bench.publish("2.0.0", &V2).desired();
    desired["fwPackageURI"] = "http://example.com/fw.bin".into();
    bench.cloud.desire(desired)?;
    let reported = bench.fails("error", "request.insecure-uri")?;
    assert_eq!(reported["firmware"]["fwUpdateSubstatus"], "Insecure package URI");
    assert_eq!(reported["firmwareStatus"], "failed");
    bench.is_untouched()?;
    // A good wish after it is done.
    bench.update("2.0.0", &V2)?;
    Ok(())
}

#[test]
fn a_check_value_that_is_none_is_refused_with_what_is_accepted() -> Checked {
    let bench = Bench::new()?;
    let mut desired = bench.publish("2.0.0", &V2).desired();
    // The tutorial's own.
    desired["fwPackageCheckValue"] = "123456abcde".into();
    bench.cloud.desire(desired.clone())?;
    let reported = bench.fails("error", "request.invalid")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap();
    assert!(why.contains("SHA-256") && why.contains("64 hex digits"), "{why}");
    desired["fwPackageCheckValue"] = serde_json::Value::Null;
    bench.cloud.desire(desired)?;
    let reported = bench.fails("error", "request.unverifiable")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap();
    assert!(why.contains("trust.allow_undigested"), "{why}");
    bench.is_untouched()
}

#[test]
fn a_wish_of_wrong_types_is_an_error_and_no_crash() -> Checked {
    let bench = Bench::new()?;
    for (wish, why) in [
        (json!("2.0.0"), "must be an object"),
        (json!({"fwVersion": 2}), "fwVersion must be a string"),
        (json!({"fwVersion": "2.0.0", "fwPackageURI": ["x"]}), "fwPackageURI must be a string"),
    ] {
        bench.cloud.desire(serde_json::Value::Null)?;
        bench.cloud.desire(wish)?;
        bench.reports(why, |it| {
            it["fwUpdateCode"] == "request.invalid"
                && it["fwUpdateSubstatus"].as_str().unwrap_or("").contains(why)
        })?;
    }
    bench.is_untouched()
}

#[test]
fn other_bytes_than_promised_are_not_booted_and_not_fetched_again() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    let mut desired = image.desired();
    desired["fwPackageCheckValue"] = bench.publish("other", &V1).desired()["fwPackageCheckValue"].clone();
    bench.cloud.desire(desired)?;
    bench.fails("error", "download.digest-mismatch")?;
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)?;
    let sent = bench.cloud.emulator.images().bytes_sent(&image.name);
    bench.reconnects_idle()?;
    bench.cloud.idle_after(|| bench.device.power_cycle())?;
    assert_eq!(bench.cloud.emulator.images().bytes_sent(&image.name), sent);
    Ok(())
}

#[test]
fn what_was_rolled_back_is_not_tried_again_however_often_it_reconnects() -> Checked {
    let bench = Bench::new()?;
    let sick = Recipe::unhealthy("2.0.0", MIB).make();
    let image = bench.publish("2.0.0", &sick);
    bench.cloud.desire(image.desired())?;
    let reported = bench.fails("rolledback", "health.failed")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap();
    assert!(
        why.starts_with("Rolled back to: 1.0.0: ") && why.contains("the application does not answer"),
        "{why}"
    );
    assert_eq!(reported["firmwareStatus"], "rolledBack");
    bench.settled(Slot::A, &V1)?;
    assert_eq!(bench.device.boots(), 3);
    let (sent, boots) = (bench.cloud.emulator.images().bytes_sent(&image.name), bench.device.boots());
    bench.reconnects_idle()?;
    // A hub that hangs up again and again is given time. A new process does not know of that.
    for _ in 0..4 {
        bench.cloud.idle_after(|| bench.device.kill_daemon())?;
    }
    bench.cloud.idle_after(|| bench.device.power_cycle())?;
    // Nor if it is taken away and wanted again.
    bench.cloud.desire(serde_json::Value::Null)?;
    // Its answer tells that it has seen this: only the newest wish counts.
    bench.cloud.call("status", serde_json::Value::Null)?;
    bench.cloud.desire(image.desired())?;
    bench.fails("error", "request.rolled-back-before")?;
    assert_eq!(bench.cloud.emulator.images().bytes_sent(&image.name), sent);
    assert_eq!(bench.device.boots(), boots + 1, "only the one that the test caused");
    // But when somebody asks for it, it is.
    assert_eq!(bench.device.command(&["retry"])?.0, Some(0));
    bench.fails("rolledback", "health.failed")?;
    assert_eq!(bench.device.boots(), boots + 3);
    bench.settled(Slot::A, &V1)
}

#[test]
fn a_system_of_another_version_than_promised_is_not_kept() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("9.9.9", &V2);
    bench.cloud.desire(image.desired())?;
    bench.fails("rolledback", "health.wrong-version")?;
    bench.settled(Slot::A, &V1)
}

#[test]
fn p007_p066_an_image_that_does_not_fit_is_not_begun() -> Checked {
    let bench = Bench::new()?;
    // A byte more than the slot has.
    let image = bench.publish("2.0.0", &vec![0x5a; (64 << 20) + 1]);
    bench.cloud.desire(image.desired())?;
    bench.fails("error", "target.too-small")?;
    assert!(bench.device.slot_bytes(Slot::B, 4 * MIB)?.iter().all(|byte| *byte == 0), "slot b was written");
    bench.settled(Slot::A, &V1)
}
