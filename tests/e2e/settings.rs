//! Settings and consent by the twin, and how they are acknowledged.

use serde_json::{Value, json};

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, V2};

impl Bench {
    /// Wants these settings, or changes them; the version of the desired section.
    fn tune(&self, settings: Value) -> Checked<Value> {
        self.cloud
            .emulator
            .patch_twin(self.cloud.id, json!({"properties": {"desired": {"twinboot": settings}}}))?;
        let twin = self.cloud.emulator.twin(self.cloud.id);
        Ok(twin["properties"]["desired"]["$version"].clone())
    }

    /// Waits for the acknowledgements of this version.
    fn acknowledged(&self, version: &Value) -> Checked<Value> {
        let reported = self.cloud.wait_reported(&format!("av {version}"), LIMIT, |reported| {
            reported["twinboot"].as_object().is_some_and(|all| all.values().all(|one| one["av"] == *version))
        })?;
        Ok(reported["twinboot"].clone())
    }
}

#[test]
fn settings_are_acknowledged_hold_over_a_restart_and_can_be_taken_back() -> Checked {
    let bench = Bench::new()?;
    let settings = json!({
        "window": "02:00-04:30", "timeZone": "UTC", "consentRequired": true, "rateLimit": 1 << 20,
        "progressInterval": 3, "pollInterval": 3600, "logLevel": "debug",
    });
    let version = bench.tune(settings.clone())?;
    let acknowledged = bench.acknowledged(&version)?;
    for (name, value) in settings.as_object().unwrap() {
        let wanted = json!({"value": value, "ac": 200, "av": version, "ad": "in force"});
        assert_eq!(acknowledged[name], wanted, "{name}");
    }
    // A bad value: what was in force stays, also for an update that waits.
    let version =
        bench.tune(json!({"window": "soon", "rateLimit": "fast", "colour": "red", "logLevel": null}))?;
    let acknowledged = bench.acknowledged(&version)?;
    let told = |name: &str| (acknowledged[name]["ac"].as_u64(), acknowledged[name]["value"].clone());
    assert_eq!(told("window"), (Some(400), json!("02:00-04:30")));
    assert_eq!(told("rateLimit"), (Some(400), json!(1 << 20)));
    assert_eq!(told("consentRequired"), (Some(200), json!(true)));
    assert_eq!(told("colour").0, Some(404));
    assert!(acknowledged.get("logLevel").is_none(), "deleted there, deleted here");
    // They hold over a restart of the daemon, too.
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let waits = |status: &Value| status["gate"].as_str().is_some_and(|gate| gate.contains("consent"));
    bench.device.wait_status("waiting for consent", 0, LIMIT, waits)?;
    bench.device.kill_daemon()?;
    let from = bench.device.now();
    bench.device.start_daemon()?;
    bench.device.wait_status("still waiting", from, LIMIT, waits)?;
    // All taken back: as configured, which is neither window nor consent.
    bench.tune(Value::Null)?;
    bench.runs("2.0.0")?;
    bench.cloud.wait_reported("no acknowledgement", LIMIT, |reported| reported.get("twinboot").is_none())?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn consent_can_be_given_by_the_twin() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    let version = bench.tune(json!({"consent": "1.9.9"}))?;
    assert_eq!(bench.acknowledged(&version)?["consent"]["ac"], 202, "nothing of that name waits");
    let image = bench.publish("2.0.0", &V2);
    let mut desired = image.desired();
    desired["jobId"] = json!("roll-out 7");
    bench.cloud.desire(desired)?;
    let substatus =
        |firmware: &Value| firmware["fwUpdateSubstatus"].as_str().is_some_and(|it| it.contains("consent"));
    bench.reports("waiting for consent", substatus)?;
    let version = bench.tune(json!({"consent": "roll-out 7"}))?;
    assert_eq!(bench.acknowledged(&version)?["consent"]["ac"], 200);
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn an_update_may_ask_for_consent_itself_and_says_what_is_wrong_with_its_terms() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    for (name, bad) in [("fwHold", json!("yes")), ("fwConsent", json!(1)), ("fwForceBy", json!("tomorrow"))] {
        let mut desired = image.desired();
        desired[name] = bad;
        bench.cloud.desire(desired)?;
        bench.reports(&format!("what is wrong with {name}"), |firmware| {
            let substatus = firmware["fwUpdateSubstatus"].as_str().unwrap_or_default();
            firmware["fwUpdateStatus"] == "error" && substatus.contains(&format!("firmware.{name} must be"))
        })?;
        bench.cloud.desire(Value::Null)?;
    }
    bench.is_untouched()?;
    let mut desired = image.desired();
    desired["fwConsent"] = json!(true);
    bench.cloud.desire(desired)?;
    bench.reports("waiting for consent", |firmware| {
        firmware["fwUpdateSubstatus"].as_str().is_some_and(|it| it.contains("consent"))
    })?;
    assert_eq!(bench.cloud.call("firmwareApply", Value::Null)?.0, 202);
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}
