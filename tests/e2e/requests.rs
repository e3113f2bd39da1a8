//! What the hub may ask for, well and badly: cases P001 to P026 of the catalogue of failures, each by its number. Those
//! that a test beside the code or in another file here proves are in the table of `tests/README.md`.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Checked, Fault, Happening, Slot};
use super::{Bench, LIMIT, V1, V2, V3};

impl Bench {
    /// Wants this and nothing else, and waits until it is refused with this code and these words.
    fn refuses(&self, firmware: &Value, code: &str, words: &str) -> Checked {
        // Another refusal in between: the last one must not be taken for this one, which may have the same words.
        let no_object = "must be an object";
        let (between, said) =
            if words == no_object { (json!({}), "is missing") } else { (json!("between"), no_object) };
        self.is_refused(&between, "request.invalid", said)?;
        self.is_refused(firmware, code, words)
    }

    fn is_refused(&self, firmware: &Value, code: &str, words: &str) -> Checked {
        self.cloud.emulator.set_desired("gateway", json!({ "firmware": firmware }))?;
        let what = format!("{code} with {words:?} for {firmware}");
        self.reports(&what, |it| {
            it["fwUpdateStatus"] == "error"
                && it["fwUpdateCode"] == code
                && it["fwUpdateSubstatus"].as_str().unwrap_or("").contains(words)
        })?;
        Ok(())
    }

    /// The method `status` answers that nothing goes on: whatever was wanted before has been seen by then.
    fn is_idle(&self) -> Checked {
        match self.cloud.call("status", Value::Null)? {
            (200, status) if status["phase"] == "idle" => Ok(()),
            (code, status) => Err(Fault(format!("it is not idle: {code} {status}"))),
        }
    }
}

/// Every member with every wrong type, and every one of them missing.
#[test]
fn p002_p003_missing_members_and_wrong_types_are_named() -> Checked {
    let bench = Bench::new()?;
    let good = bench.publish("2.0.0", &V2).desired();
    for (name, code) in [
        ("fwVersion", "request.invalid"),
        ("fwPackageURI", "request.invalid"),
        ("fwPackageCheckValue", "request.unverifiable"),
    ] {
        let mut firmware = good.clone();
        firmware.as_object_mut().unwrap().remove(name);
        bench.refuses(&firmware, code, &format!("{name} is missing"))?;
    }
    let wrong = [json!(true), json!(7), json!("seven"), json!([1]), json!({"a": 1})];
    for name in ["fwVersion", "fwPackageURI", "fwPackageCheckValue", "jobId", "fwSize"] {
        for wrong in &wrong {
            let fits = match name {
                "fwSize" => wrong.is_number(),
                _ => wrong.is_string(),
            };
            if fits {
                continue;
            }
            let mut firmware = good.clone();
            firmware[name] = wrong.clone();
            bench.refuses(&firmware, "request.invalid", name)?;
        }
    }
    for whole in &wrong[..4] {
        bench.refuses(whole, "request.invalid", "must be an object")?;
    }
    bench.is_untouched()
}

#[test]
fn p004_check_values_are_64_hex_digits_of_either_case() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    let mut firmware = image.desired();
    let digest = image.sha256.clone();
    let longer = format!("{digest}0");
    let spoilt = format!("g{}", &digest[1..]);
    for bad in ["", &digest[..63], &longer, &spoilt, "123456abcde"] {
        firmware["fwPackageCheckValue"] = bad.into();
        bench.refuses(&firmware, "request.invalid", "64 hex digits")?;
    }
    bench.is_untouched()?;
    firmware["fwPackageCheckValue"] = digest.to_uppercase().into();
    bench.cloud.desire(firmware)?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

/// Refused by its words alone: nobody is looked up, nobody is connected to.
#[test]
fn p005_p006_addresses_that_are_not_https() -> Checked {
    let bench = Bench::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let mut firmware = bench.publish("2.0.0", &V2).desired();
    for bad in [
        format!("http://localhost:{port}/fw"),
        format!("HTTP://localhost:{port}/fw"),
        format!("ftp://localhost:{port}/fw"),
        "file:///etc/shadow".to_owned(),
        "test.com".to_owned(),
        format!(" https://localhost:{port}/fw"),
    ] {
        firmware["fwPackageURI"] = bad.clone().into();
        bench.cloud.emulator.set_desired("gateway", json!({ "firmware": firmware }))?;
        bench.reports(&format!("a refusal of {bad}"), |it| {
            let words = it["fwUpdateSubstatus"].as_str().unwrap_or("");
            it["fwUpdateCode"] == "request.insecure-uri"
                || it["fwUpdateCode"] == "request.invalid" && !words.contains("must be an object")
        })?;
        // So that the next one is told anew.
        bench.is_refused(&json!("between"), "request.invalid", "must be an object")?;
    }
    for (bad, code) in
        [("", "request.insecure-uri"), ("https://", "request.invalid"), ("https:///fw", "request.invalid")]
    {
        firmware["fwPackageURI"] = bad.into();
        bench.refuses(&firmware, code, "ackage URI")?;
    }
    // Longer than a twin's string cannot come from a real hub; a method may say it.
    let long = format!("https://localhost:{port}/{}", "x".repeat(5000));
    let arguments = json!({"fwPackageUri": long, "fwPackageCheckValue": "0".repeat(64)});
    let (code, _) = bench.cloud.call("firmwareUpdate", arguments)?;
    assert!(code == 400, "{code}");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody connected");
    bench.is_untouched()
}

#[test]
fn p007_sizes_that_are_none_and_one_that_is_not_the_files() -> Checked {
    let bench = Bench::new()?;
    let good = bench.publish("2.0.0", &V2).desired();
    let mut firmware = good.clone();
    for (bad, words) in [
        (json!(0), "fwSize must be a whole number"),
        (json!(-1), "fwSize must be a whole number"),
        (json!(1.5), "fwSize must be a whole number"),
        (json!("123"), "found a string"),
    ] {
        firmware["fwSize"] = bad;
        bench.refuses(&firmware, "request.invalid", words)?;
    }
    bench.is_untouched()?;
    // Larger than the slot, and than the file; for a file that is, see `refusals.rs`.
    firmware["fwSize"] = json!((64u64 << 20) + 1);
    bench.refuses(&firmware, "download.size-mismatch", "67108865 were announced")?;
    assert!(bench.device.slot_bytes(Slot::B, 4 * super::MIB)?.iter().all(|byte| *byte == 0));
    bench.settled(Slot::A, &V1)
}

#[test]
fn p008_unknown_members_are_ignored() -> Checked {
    let bench = Bench::new()?;
    let mut firmware = bench.publish("2.0.0", &V2).desired();
    firmware["fwColour"] = "blue".into();
    firmware["nested"] = json!({"a": {"b": [1, 2]}});
    bench.cloud.desire(firmware)?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p014_a_patch_of_the_address_alone_is_merged_and_judged_whole() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    let mut firmware = image.desired();
    firmware["fwPackageURI"] = image.url.replace("2.0.0.squashfs", "nothing-there").into();
    bench.cloud.desire(firmware)?;
    bench.fails("error", "download.http-status")?;
    bench.cloud.desire(json!({"fwPackageURI": image.url}))?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p015_nothing_wanted_while_nothing_goes_on() -> Checked {
    let bench = Bench::new()?;
    let before = bench.cloud.reported();
    for _ in 0..3 {
        bench.cloud.desire(Value::Null)?;
        bench.is_idle()?;
    }
    assert_eq!(bench.cloud.reported(), before);
    bench.is_untouched()
}

/// At the beginning, in the middle and just before the end; what comes next is done.
#[test]
fn p016_cancelled_at_1_50_and_99_percent() -> Checked {
    let bench = Bench::with("[report]\nprogress_every = \"1s\"\n")?;
    for (number, percent) in [1, 50, 99].into_iter().enumerate() {
        let version = format!("2.{number}.0");
        let image = bench.publish(&version, &super::Recipe::good(&version, 8 * super::MIB).make());
        bench.cloud.slow(&image, 8 << 20);
        bench.cloud.desire(image.desired())?;
        bench.cloud.wait_sent(&image, image.len * percent / 100, LIMIT)?;
        bench.cloud.desire(Value::Null)?;
        let asked = Instant::now();
        bench.fails("current", "request.cancelled")?;
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        bench.settled(Slot::A, &V1)?;
        assert_eq!(bench.device.boots(), 1);
    }
    bench.cloud.emulator.faults().clear();
    bench.update("3.0.0", &V3)?;
    bench.settled(Slot::B, &V3)
}

/// Whatever the first update is doing when the second one is wanted: the second one runs in the end, and the
/// bootloader's environment is whole.
#[test]
fn p018_a_newer_wish_in_every_later_phase() -> Checked {
    let bench = Bench::new()?;
    let mut number = 2;
    for phase in ["verifying", "applying", "rebooting", "confirming", "committing"] {
        let labels = [format!("{number}.0.0"), format!("{}.0.0", number + 1)];
        number += 2;
        let images = labels.each_ref().map(|version| {
            let image = super::Recipe::good(version, super::MIB).make();
            (bench.publish(version, &image), image)
        });
        let from = bench.device.now();
        bench.cloud.desire(images[0].0.desired())?;
        bench.says(&format!("-> {phase}"), from)?;
        bench.cloud.desire(images[1].0.desired())?;
        bench.runs(&labels[1])?;
        let slot = bench.device.booted().expect("it runs");
        bench.settled(slot, &images[1].1)?;
        let lies = bench.device.since(from).iter().any(|entry| matches!(entry.what, Happening::Broken(_)));
        assert!(!lies, "{}", bench.device.tail());
    }
    Ok(())
}

#[test]
fn p021_of_several_wishes_while_it_was_away_the_last_is_done() -> Checked {
    let bench = Bench::new()?;
    bench.device.power_cut();
    let images = ["2.0.0", "2.1.0", "2.2.0"]
        .map(|version| (bench.publish(version, &super::Recipe::good(version, super::MIB).make()), version));
    for (image, _) in &images {
        bench.cloud.desire(image.desired())?;
    }
    bench.device.power_on()?;
    bench.runs("2.2.0")?;
    for (image, _) in &images[..2] {
        assert_eq!(bench.cloud.requests(image), []);
    }
    Ok(())
}

#[test]
fn p023_payloads_that_are_none_are_answered_at_once() -> Checked {
    let bench = Bench::new()?;
    let big = json!({"fwPackageUri": "x".repeat(127 * 1024 - 30)});
    for payload in [Value::Null, json!(""), json!([]), json!("{"), big] {
        let asked = Instant::now();
        let (code, body) = bench.cloud.call("firmwareUpdate", payload)?;
        assert_eq!(code, 400, "{body}");
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    // Those that need no arguments do not mind.
    for payload in [Value::Null, json!("x".repeat(100_000))] {
        assert_eq!(bench.cloud.call("cancel", payload)?.0, 200);
    }
    bench.is_untouched()
}

#[test]
fn p025_cancelling_nothing_and_twice_is_well() -> Checked {
    let bench = Bench::new()?;
    assert_eq!(bench.cloud.call("cancel", Value::Null)?.0, 200);
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 1 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 300_000, LIMIT)?;
    for _ in 0..2 {
        assert_eq!(bench.cloud.call("cancel", Value::Null)?.0, 200);
    }
    bench.fails("current", "request.cancelled")?;
    assert_eq!(bench.cloud.call("cancel", Value::Null)?.0, 200);
    bench.settled(Slot::A, &V1)
}

/// While a slot is written: see `methods.rs`.
#[test]
fn p026_a_reboot_on_trial_is_refused() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("go")?;
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.waits_on_trial(from)?;
    bench.cloud.wait_connected(true, LIMIT)?;
    for method in ["reboot", "rebootDevice"] {
        // It may have connected without having subscribed to methods yet.
        let deadline = Instant::now() + LIMIT;
        let code = loop {
            match bench.cloud.call(method, Value::Null) {
                Ok((code, _)) => break code,
                Err(fault) if Instant::now() > deadline => return Err(fault),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert_eq!(code, 409, "{method}");
    }
    assert_eq!(bench.device.boots(), 2);
    std::fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

/// The end of an update is told although the hub took no report of it before the daemon was killed: it is derived from
/// the record again.
#[test]
fn p126_an_end_that_was_not_taken_is_told_by_the_next_daemon() -> Checked {
    use hub_emulator::{Fault as Switch, FaultKind};
    let bench = Bench::new()?;
    let mut firmware = bench.publish("2.0.0", &V2).desired();
    firmware["fwPackageCheckValue"] = "0".repeat(64).into();
    bench.cloud.emulator.faults().set(Switch::always("gateway", FaultKind::FailTwin { status: 429 }));
    let from = bench.device.now();
    bench.cloud.emulator.patch_twin("gateway", json!({"properties": {"desired": {"firmware": firmware}}}))?;
    bench.device.wait_status("its end", from, LIMIT, |status| {
        status["last"]["code"] == "download.digest-mismatch" && status["phase"] == "idle"
    })?;
    assert_eq!(bench.cloud.reported()["firmware"]["fwUpdateStatus"], "current", "nothing was taken");
    // The old one waits for a quarter of a minute at least.
    bench.cloud.emulator.faults().clear();
    bench.device.kill_daemon()?;
    bench.fails("error", "download.digest-mismatch")?;
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)
}
