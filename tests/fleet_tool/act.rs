//! Commands that make devices do something, with real daemons.

use hub_emulator::Fault;
use hub_emulator::device::Recipe;
use serde_json::{Value, json};

use super::tool::{Park, Ran};

/// Runs the tool with an image's arguments behind.
fn with(park: &Park, arguments: &[&str], image: &[String]) -> Ran {
    let image: Vec<&str> = image.iter().map(String::as_str).collect();
    park.desk.run(&[arguments, &image].concat())
}

#[test]
fn an_update_is_watched_to_its_end_on_each_device() {
    let mut park = Park::new(&["one", "two"]);
    let good = park.publish(&Recipe::good("2.0.0", 1 << 18));
    // More than one device reboots: somebody must agree, and there is nobody to ask.
    let unasked = with(&park, &["update", "one", "two"], &good);
    assert!(unasked.status == 2 && unasked.err.contains("--yes"), "{unasked:?}");
    assert_eq!(park.boots(), [1, 1]);

    park.desk.hub.create_device("away", json!({})).unwrap();
    let ran = with(&park, &["update", "--yes", "one", "two", "away", "nobody"], &good);
    assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{ran:#?}");
    for line in
        ["one  done  2.0.0", "two  done  2.0.0", "away  failed    not connected: --by twin waits for it"]
    {
        assert!(ran.out.lines().any(|found| found == line), "{line}: {}", ran.out);
    }
    assert!(ran.out.contains("nobody  failed") && ran.out.contains("404 DeviceNotFound"), "{}", ran.out);
    assert_eq!(ran.out.lines().last(), Some("2 of 4 done: 2 done, 2 failed"));

    // One that is ill goes back, and that is told with its reason, to machines too.
    park.idle();
    let ill = park.publish(&Recipe::unhealthy("3.0.0", 1 << 17));
    let ran = with(&park, &["update", "one", "--by", "twin", "--json"], &ill);
    assert_eq!(ran.status, 1, "{ran:#?}");
    let last: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["failed"], &last["devices"][0]["status"]),
        (&json!(1), &json!("rolledback")),
        "{last:#}"
    );
    assert!(last["devices"][0]["detail"].as_str().unwrap().contains("Rolled back to: 2.0.0"), "{last:#}");
    // The same again is refused, and it is told how to ask for it anew.
    park.idle();
    let ran = with(&park, &["update", "one", "--by", "twin"], &ill);
    assert!(ran.status == 1 && ran.out.contains("--job-id"), "{ran:#?}");
}

#[test]
fn a_wish_in_the_twin_waits_for_a_device_and_we_do_not_wait_for_ever() {
    let park = Park::new(&[]);
    park.desk.hub.create_device("away", json!({})).unwrap();
    let old = json!({"properties": {"desired": {"firmware": {"fwHold": true, "jobId": "old"}}}});
    park.desk.hub.patch_twin("away", old).unwrap();
    let image = park.publish(&Recipe::good("2.0.0", 1 << 17));
    let ran = with(&park, &["update", "away", "--by", "twin", "--timeout", "1s"], &image);
    assert_eq!((ran.status, ran.out.lines().last()), (4, Some("0 of 1 done: 1 away")), "{ran:#?}");
    let firmware = &park.desk.hub.twin("away")["properties"]["desired"]["firmware"];
    assert_eq!((&firmware["fwVersion"], &firmware["fwHold"]), (&json!("2.0.0"), &Value::Null));
    assert!(firmware["jobId"].is_null() && firmware["fwSize"].is_u64(), "{firmware:#}");
}

#[test]
fn a_device_whose_answer_was_lost_is_followed_all_the_same() {
    let mut park = Park::new(&["one"]);
    let image = park.publish(&Recipe::good("2.0.0", 1 << 17));
    let lose_an_answer = || {
        let fault = json!({"fault": "loseServiceAnswer", "target": "twins", "times": 1});
        park.desk.hub.throw(Fault::from_json(&fault).unwrap());
    };
    lose_an_answer();
    let ran = with(&park, &["update", "one"], &image);
    assert_eq!((ran.status, ran.out.lines().last()), (0, Some("1 of 1 done: 1 done")), "{ran:#?}");
    // Nobody looks what came of it: then it is not known to have gone well.
    lose_an_answer();
    let ran = park.desk.run(&["reboot", "one", "--no-watch"]);
    assert!(ran.status == 1 && ran.out.contains("cannot be reached"), "{ran:#?}");
    park.idle();
}

#[test]
fn a_wish_that_was_cancelled_is_not_waited_for_again() {
    let mut park = Park::new(&["one"]);
    let image = park.publish(&Recipe::good("2.0.0", 1 << 17));
    let download = ["download", "one", "--by", "twin", "--timeout", "1m"];
    let ran = with(&park, &download, &image);
    assert_eq!(ran.status, 0, "{ran:#?}");
    park.desk.good(&["cancel", "one"]);
    park.idle();
    let ran = with(&park, &download, &image);
    assert!(ran.status == 1 && ran.out.contains("cancelled; a new --job-id"), "{ran:#?}");
    // On other terms it is another wish.
    let ran = with(&park, &["update", "one", "--by", "twin", "--timeout", "1m"], &image);
    assert_eq!(ran.status, 0, "{ran:#?}");
}

#[test]
fn devices_go_step_by_step_and_back() {
    let mut park = Park::new(&["one", "two"]);
    let image = park.publish(&Recipe::good("2.0.0", 1 << 18));
    let ran = with(&park, &["download", "one", "two"], &image);
    assert_eq!(ran.status, 0, "{ran:#?}");
    assert_eq!(park.boots(), [1, 1], "nothing reboots for a download");
    park.desk.good(&["cancel", "two"]);
    let ran = park.desk.run(&["apply", "one", "two", "--yes"]);
    assert_eq!((ran.status, ran.out.lines().last()), (1, Some("1 of 2 done: 1 done, 1 failed")), "{ran:#?}");
    assert!(
        ran.out.contains("two  failed  1.0.0") && ran.out.contains("request.nothing-staged"),
        "{}",
        ran.out
    );
    park.idle();
    assert!(park.desk.good(&["rollback", "one"]).contains("one  done  1.0.0"));
    park.idle();
    let before = park.boots();
    park.desk.good(&["reboot", "--where", "tags.devicetype = 'gateway'", "--yes"]);
    assert!(park.boots().iter().zip(&before).all(|(now, before)| now > before));
    let ran = park.desk.run(&["factory-reset", "one"]);
    assert!(
        ran.status == 2 && ran.err.contains("--yes"),
        "a factory reset is asked for, of one device too: {ran:?}"
    );
}

#[test]
fn properties_and_settings_are_read_set_and_refused_in_the_devices_words() {
    let park = Park::new(&["one"]);
    let all = park.desk.good(&["read-property", "one"]);
    assert!(all.contains("one  site: north\n") && all.contains("one  version: 1.0.0\n"), "{all}");
    assert_eq!(park.desk.good(&["write-property", "one", "--set", "site=south"]), "one  site: south\n");
    let rows = park.desk.lines(&["read-property", "one", "--name", "site", "--json"]);
    assert_eq!(rows, [json!({"device": "one", "status": 200, "payload": {"site": "south"}})]);
    let ran = park.desk.run(&["write-property", "one", "--set", "uptime=5"]);
    assert!(ran.status == 1 && ran.err.contains("property.read-only"), "{ran:?}");

    let ran = park.desk.run(&["configure", "one", "--set", "rateLimit=1000000", "--set", "window=whenever"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("one  window: refused: ") && ran.out.contains("one  rateLimit: "), "{ran:?}");
    assert_eq!(
        park.desk.hub.twin("one")["properties"]["reported"]["twinboot"]["rateLimit"]["value"],
        1_000_000
    );
    park.desk.good(&["configure", "one", "--set", "rateLimit=null", "--set", "window=null"]);
    park.desk.hub.create_device("away", json!({})).unwrap();
    let ran = park.desk.run(&["configure", "away", "--set", "rateLimit=0", "--timeout", "1s"]);
    assert!(ran.status == 4 && ran.err.contains("is not connected"), "{ran:?}");
}
