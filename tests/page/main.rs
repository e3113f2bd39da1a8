//! The emulator's browser page in a real browser: Chromium without a window, driven through WebDriver, with a fleet of
//! real daemons behind the emulator. Needs what `tests/run peers` installs: chromium and chromedriver.
//!
//! Pictures of the page are left in `target/run/`: look at them when you have changed it.
#![allow(clippy::unwrap_used, missing_docs)]

mod browser;

use std::path::Path;
use std::time::{Duration, Instant};

use hub_emulator::device::Checked;
use hub_emulator::fleet::{Fleet, FleetOptions, RemoteHub, samples};
use hub_emulator::{Emulator, Fault, FaultKind, Options};
use serde_json::{Value, json};

use browser::Browser;

const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot");
/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(40);

/// A fleet at an emulator, and the page in a browser.
struct Scene {
    browser: Browser,
    fleet: Fleet,
    emulator: Emulator,
}

impl Scene {
    fn set(count: usize) -> Checked<Self> {
        let emulator = Emulator::start(Options::default())?;
        let samples = samples();
        for sample in &samples {
            emulator.images().put(sample.name, sample.bytes.clone());
        }
        let mut fleet = Fleet::new(FleetOptions {
            program: Path::new(PROGRAM).to_owned(),
            factory: samples[0].bytes.clone(),
            ca: emulator.ca_pem().to_owned(),
            config: String::new(),
            slot_size: 4 << 20,
            reset: Duration::from_millis(300),
        })?;
        for number in 1..=count {
            let id = format!("gateway-{number:03}");
            let connection = emulator.create_device(&id, json!({"devicetype": "chiller"}))?;
            let port = format!(":{};DeviceId=", emulator.mqtt_port());
            fleet.add(&id, &connection.replacen(";DeviceId=", &port, 1))?;
        }
        let browser = Browser::start(&format!("https://localhost:{}/", emulator.https_port()));
        Ok(Self { browser, fleet, emulator })
    }

    /// Waits until a script's value is what is wanted.
    fn until(&mut self, what: &str, script: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            self.fleet.look();
            let value = self.browser.run(script);
            if wanted(&value) {
                return value;
            }
            assert!(begun.elapsed() < LIMIT, "waited for {what}: {value:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an element's text is or contains what is wanted.
    fn until_text(&mut self, selector: &str, wanted: &str) {
        let script = format!("return document.querySelector({selector:?}).innerText");
        self.until(&format!("{wanted:?} in {selector}"), &script, |value| {
            value.as_str().is_some_and(|text| text.contains(wanted))
        });
    }
}

/// The cells of the table of devices.
const DEVICES: &str = "return [...document.querySelectorAll('#devices tbody tr')]
    .map((row) => [...row.children].map((cell) => cell.innerText.trim()))";

fn column(rows: &Value, number: usize) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[number].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "peers: needs chromium and chromedriver"]
fn peers_people_see_a_fleet_and_act_on_it() -> Checked {
    let mut scene = Scene::set(6)?;
    let rows = scene.until("six devices of the first version", DEVICES, |rows| {
        column(rows, 2) == ["1.0.0"; 6] && column(rows, 3) == ["current"; 6]
    });
    assert_eq!((rows[0][0].as_str(), rows[0][1].as_str()), (Some("gateway-001"), Some("connected")));
    scene.until_text("#count", "6 of 6 connected · 6 × 1.0.0");
    scene.until_text("#live", "live");
    // The first device is chosen; its twin is there, and no key is anywhere.
    scene.until_text("#device-title", "gateway-001");
    scene.until_text("#reported-now", "\"currentFwVersion\": \"1.0.0\"");
    scene.until_text("#tags-now", "\"devicetype\": \"chiller\"");
    let everything = scene.browser.run("return document.documentElement.outerHTML");
    let connection = scene.emulator.device_connection_string("gateway-001")?;
    let key = connection.rsplit_once("SharedAccessKey=").unwrap().1;
    assert!(!everything.as_str().unwrap().contains(key));
    scene.browser.picture("page-1-fleet");

    // A desired property, typed in.
    scene.browser.fill("#desired", "{\"season\": \"winter\"}");
    scene.browser.click("#desired-form button");
    scene.until_text("#desired-now", "\"season\": \"winter\"");
    let there = scene.emulator.wait_for(|hub| hub.desired("gateway-001")["season"] == "winter", LIMIT);
    assert!(there);
    scene.browser.fill("#desired", "no JSON");
    scene.browser.click("#desired-form button");
    scene.until(
        "the answer to nonsense",
        "return document.querySelector('#desired-answer').className",
        |value| value.as_str().unwrap().contains("bad"),
    );

    // A method, and one that is not there.
    scene.browser.click("#method-form button");
    scene.until_text("#method-answer", "200 {");
    scene.browser.fill("#method", "sing");
    scene.browser.click("#method-form button");
    scene.until_text("#method-answer", "404");

    // An update of all, to the end.
    scene.browser.choose("#image", "gateway-2.0.0.squashfs");
    scene.browser.choose("#scope", "all");
    scene.browser.click("#update");
    scene.until("all on the second version", DEVICES, |rows| {
        column(rows, 2) == ["2.0.0"; 6]
            && column(rows, 3) == ["current"; 6]
            && column(rows, 1) == ["connected"; 6]
    });
    scene.until_text("#events", "reported v");
    scene.browser.picture("page-2-updated");
    scene.browser.quiet();
    Ok(())
}

#[test]
#[ignore = "peers: needs chromium and chromedriver"]
fn peers_people_throw_faults_and_see_configurations_and_jobs() -> Checked {
    let mut scene = Scene::set(2)?;
    scene.until("two devices", DEVICES, |rows| column(rows, 3) == ["current"; 2]);

    // A fault from the form: the device's next connection is refused, once.
    scene.browser.choose("#fault", "refuseAuth");
    scene.browser.fill("#target", "gateway-002");
    scene.browser.fill("#times", "1");
    scene.browser.click("#fault-form button");
    scene.until_text("#faults", "refuseAuth");
    let on = scene.emulator.faults().list();
    assert_eq!(on, [Fault::once("gateway-002", FaultKind::RefuseAuth)]);
    scene.browser.click("#devices tbody tr:nth-child(2) button");
    scene.until_text("#device-title", "gateway-002");
    scene.browser.click("#drop");
    scene.until_text("#events", "REFUSED: fault: not authorised");
    scene.until("the device back again", DEVICES, |rows| column(rows, 1) == ["connected"; 2]);
    scene.until_text("#fault-count", "none is on");
    // One with a value of its own, switched off by hand.
    scene.browser.choose("#fault", "delayTwin");
    scene.browser.fill("#times", "");
    scene.browser.fill("#members input", "1234");
    scene.browser.click("#fault-form button");
    scene.until_text("#faults", "delayTwin (millis 1234)");
    scene.browser.picture("page-3-faults");
    scene.browser.click("#faults button");
    scene.until_text("#fault-count", "none is on");
    assert_eq!(scene.emulator.faults().list(), []);

    // A rollout that fails, with its metrics, and a job.
    let image =
        scene.emulator.images().list().into_iter().find(|image| image.name.contains("3.0.0")).unwrap();
    let applied = "SELECT deviceId FROM devices WHERE configurations.[[ill]].status = 'Applied'";
    let rolled_back = format!("{applied} AND properties.reported.firmware.fwUpdateStatus = 'rolledback'");
    scene.emulator.create_configuration(json!({
        "id": "ill", "priority": 5, "targetCondition": "tags.devicetype = 'chiller'",
        "content": {"deviceContent": {"properties.desired.firmware": {
            "fwVersion": "3.0.0", "fwPackageURI": image.url, "fwPackageCheckValue": image.sha256}}},
        "metrics": {"queries": {"rolledback": rolled_back}},
    }))?;
    scene.until("both rolled back", DEVICES, |rows| column(rows, 3) == ["rolledback"; 2]);
    scene.until_text("#configurations", "targeted 2 · applied 2");
    scene.until_text("#configurations", "rolledback 2");
    scene.browser.picture("page-4-rolledback");
    let service = scene.emulator.service_connection_string();
    let port = format!("localhost:{}", scene.emulator.https_port());
    let service = RemoteHub::new(&service.replacen("localhost", &port, 1), scene.emulator.ca_pem())?;
    let job = json!({
        "jobId": "ask", "type": "scheduleDeviceMethod", "queryCondition": "*", "maxExecutionTimeInSeconds": 60,
        "cloudToDeviceMethod": {"methodName": "readProperty", "payload": "kernel", "responseTimeoutInSeconds": 30},
    });
    assert_eq!(service.request("PUT", "/jobs/v2/ask?api-version=2021-04-12", &[], &job)?.0, 200);
    scene.until_text("#jobs", "2 devices · 2 succeeded");
    scene.until_text("#jobs", "└ gateway-002");
    scene.until_text("#jobs", "200 {\"kernel\":\"6.12.0-gateway\"}");
    scene.browser.picture("page-5-job");
    scene.browser.quiet();

    // When the emulator goes, the page says so.
    let Scene { mut browser, fleet, emulator } = scene;
    drop(fleet);
    drop(emulator);
    let begun = Instant::now();
    while browser.run("return document.querySelector('#live').innerText") != "the emulator does not answer" {
        assert!(begun.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
