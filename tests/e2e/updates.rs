//! What goes well, in all its forms.

use std::io::Write as _;

use serde_json::{Value, json};

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, V1, V2, V3};

#[test]
fn p001_an_update_goes_from_the_twin_to_the_slot_and_back() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;
    assert_eq!(bench.device.boots(), 2);
    assert_eq!(bench.cloud.sent_twice(&image), 0);
    let firmware = &reported["firmware"];
    assert_eq!(firmware["pendingFwVersion"], "");
    assert_eq!(firmware["fwUpdateSubstatus"], "");
    assert_eq!(firmware["fwUpdateCode"], Value::Null);
    let (start, end) = (&firmware["lastFwUpdateStartTime"], &firmware["lastFwUpdateEndTime"]);
    assert!(start.as_str().unwrap() < end.as_str().unwrap(), "{start} {end}");
    assert_eq!(reported["firmwareStatus"], "completed");
    assert_eq!(&reported["lastFirmwareUpdate"], end);
    // The old system is untouched, and one can go back to it.
    assert_eq!(bench.device.slot_bytes(Slot::A, V1.len())?, *V1);
    bench.reconnects_idle()
}

#[test]
fn two_updates_use_the_slots_in_turn() -> Checked {
    let bench = Bench::new()?;
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)?;
    bench.update("3.0.0", &V3)?;
    bench.settled(Slot::A, &V3)?;
    assert_eq!(bench.device.boots(), 3);
    Ok(())
}

#[test]
fn packed_images_are_unpacked_by_what_they_are_and_not_by_their_names() -> Checked {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&V2)?;
    let packed = [gzip.finish()?, zstd::encode_all(&V2[..], 1)?];
    for image in packed {
        let bench = Bench::new()?;
        bench.update("2.0.0", &image)?;
        bench.settled(Slot::B, &V2)?;
    }
    Ok(())
}

#[test]
fn p019_the_same_version_again_is_neither_written_nor_booted() -> Checked {
    let bench = Bench::new()?;
    let environment = [0, 1].map(|copy| std::fs::read(bench.device.environment().copy(copy)).unwrap());
    let image = bench.publish("1.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    bench.reports("it is up to date", |it| it["fwUpdateSubstatus"] == "Firmware already up to date")?;
    assert_eq!(bench.cloud.reported()["firmware"]["fwUpdateStatus"], "current");
    bench.is_untouched()?;
    let after = [0, 1].map(|copy| std::fs::read(bench.device.environment().copy(copy)).unwrap());
    assert!(environment == after, "the bootloader's environment was written");
    Ok(())
}

#[test]
fn p017_a_newer_wish_replaces_the_download_that_is_under_way() -> Checked {
    let bench = Bench::new()?;
    let old = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&old, 1 << 20);
    bench.cloud.desire(old.desired())?;
    bench.cloud.wait_sent(&old, 600_000, LIMIT)?;
    bench.update("3.0.0", &V3)?;
    bench.settled(Slot::B, &V3)?;
    assert_eq!(bench.device.boots(), 2);
    assert!(!bench.cloud.requests(&old).iter().any(|request| request.complete));
    bench.reconnects_idle()
}

#[test]
fn clearing_the_wish_cancels_the_download() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 1 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 600_000, LIMIT)?;
    bench.cloud.desire(Value::Null)?;
    let cancelled = "Update to 2.0.0 cancelled";
    let reported = bench.reports(cancelled, |it| it["fwUpdateSubstatus"] == cancelled)?;
    assert_eq!(reported["firmware"]["fwUpdateStatus"], "current", "what an operator stops is no error");
    assert_eq!(reported["firmware"]["pendingFwVersion"], "");
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)?;
    // Wanted again, it is done.
    bench.cloud.emulator.faults().clear();
    bench.cloud.desire(image.desired())?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p109_one_goes_back_on_request_and_stays_there() -> Checked {
    let bench = Bench::new()?;
    let image = bench.update("2.0.0", &V2)?;
    let sent = bench.cloud.emulator.images().bytes_sent(&image.name);
    assert_eq!(bench.device.command(&["rollback"])?.0, Some(0));
    let reported = bench.reports("1.0.0 is back", |it| it["fwUpdateStatus"] == "rolledback")?;
    assert_eq!(reported["firmware"]["currentFwVersion"], "1.0.0");
    assert_eq!(reported["firmware"]["fwUpdateSubstatus"], "Rolled back to: 1.0.0 (on request)");
    bench.settled(Slot::A, &V1)?;
    // The hub still wants 2.0.0. That wish had its end.
    bench.reconnects_idle()?;
    bench.cloud.idle_after(|| bench.device.power_cycle())?;
    bench.settled(Slot::A, &V1)?;
    assert_eq!(bench.cloud.emulator.images().bytes_sent(&image.name), sent);
    Ok(())
}

#[test]
fn with_consent_required_it_waits_until_somebody_agrees() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    bench.reports("it waits", |it| it["fwUpdateSubstatus"].as_str().unwrap_or("").contains("consent"))?;
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)?;
    // A restart meanwhile changes nothing.
    bench.device.power_cycle()?;
    let from = bench.device.now();
    bench.device.wait_status("it waits again", from, LIMIT, |status| status["gate"].is_string())?;
    bench.cloud.wait_connected(true, LIMIT)?;
    let (code, body) = bench.cloud.call("apply", Value::Null)?;
    assert_eq!(
        (code, body),
        (202, json!({"Response": "Apply started: switching over as soon as the image is ready"}))
    );
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_local_file_is_installed_by_the_command_line() -> Checked {
    let bench = Bench::new()?;
    let file = bench.device.path("image");
    std::fs::write(&file, &*V2)?;
    let (code, output) =
        bench.device.command(&["install", file.to_str().unwrap(), "--version-label", "2.0.0"])?;
    assert_eq!(code, Some(0), "{output}");
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

/// Follows `status --watch` over the restart, as an operator would.
#[test]
fn the_command_line_follows_an_update_to_its_end() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 2 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 200_000, LIMIT)?;
    let (code, output) = bench.device.command(&["status", "--watch"])?;
    assert_eq!(code, Some(0), "{output}");
    for text in ["downloading", "twinboot is away", "2.0.0"] {
        assert!(output.contains(text), "{output}");
    }
    assert!(!output.contains('\x1b'), "no colours in a pipe: {output}");
    bench.settled(Slot::B, &V2)
}
