//! `devices`, `query` and `twin`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use super::tool::Desk;

/// So many devices, of which every tenth is in Berlin.
fn many(count: usize) -> Desk {
    let desk = Desk::new();
    for at in 0..count {
        let site = if at % 10 == 0 { "berlin" } else { "tokyo" };
        desk.hub.create_device(&format!("gateway-{at:04}"), json!({"site": site, "at": at})).unwrap();
    }
    desk
}

#[test]
fn devices_come_page_by_page_and_none_is_missing() {
    let desk = many(250);
    let text = desk.good(&["devices", "--columns", "id,tags.site"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 251);
    assert_eq!((lines[0], lines[250]), ("ID            TAGS.SITE", "gateway-0249  tokyo"));
    let ids: std::collections::BTreeSet<_> = lines.iter().map(|line| line.split(' ').next()).collect();
    assert_eq!(ids.len(), 251, "none twice");

    let berlin = ["devices", "--where", "tags.site = 'berlin'", "--columns", "id,tags.at,status", "--json"];
    let rows = desk.lines(&berlin);
    assert_eq!(rows.len(), 25);
    assert_eq!(rows[1], json!({"id": "gateway-0010", "tags.at": 10, "status": null}));
    assert_eq!(desk.good(&["devices", "--limit", "120"]).lines().count(), 121);
    assert_eq!(desk.good(&["devices", "--where", "tags.site = 'rome'", "--columns", "id"]), "ID\n");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let desk = many(250);
    let mut tool = desk.tool(&["devices", "--json"]);
    let mut child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("gateway-0000"));
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn queries_give_their_rows_and_the_hubs_words_when_they_are_wrong() {
    let desk = many(25);
    let rows = desk.lines(&["query", "SELECT COUNT() AS n FROM devices WHERE tags.site = 'berlin'"]);
    assert_eq!(rows, [json!({"n": 3})]);
    let rows = desk.lines(&["query", "SELECT deviceId FROM devices", "--limit", "2"]);
    assert_eq!(rows, [json!({"deviceId": "gateway-0000"}), json!({"deviceId": "gateway-0001"})]);
    let ran = desk.run(&["query", "SELECT FROM"]);
    assert!(ran.status == 1 && ran.err.contains("400") && !ran.err.contains("Message"), "{ran:?}");
    let ran = desk.run(&["devices", "--columns", "id,x FROM devices.jobs"]);
    assert!(ran.status == 2 && ran.err.contains("is no path"), "{ran:?}");
}

#[test]
fn twins_are_shown_and_changed() {
    let desk = many(1);
    let whole: Value = serde_json::from_str(&desk.good(&["twin", "get", "gateway-0000"])).unwrap();
    assert_eq!(whole["tags"], json!({"site": "berlin", "at": 0}));
    assert_eq!(desk.good(&["twin", "get", "gateway-0000", "--path", "tags.site"]), "\"berlin\"\n");
    let set = |values: &[&str]| desk.run(&[&["twin", "set", "gateway-0000"], values].concat());
    let ran = set(&["tags.site=null", "tags.floor=3", "properties.desired.twinboot.window=02:00-04:00"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let twin = desk.hub.twin("gateway-0000");
    assert_eq!(twin["tags"], json!({"floor": 3, "at": 0}));
    assert_eq!(twin["properties"]["desired"]["twinboot"], json!({"window": "02:00-04:00"}));
    assert_eq!(ran.out.trim_end(), twin["etag"]);

    let etag = ran.out.trim_end().to_owned();
    assert_eq!(set(&["tags.floor=4", "--etag", &etag]).status, 0);
    let stale = set(&["tags.floor=5", "--etag", &etag]);
    assert!(stale.status == 1 && stale.err.contains("412"), "{stale:?}");
    for (bad, wanted) in [("deviceId=x", "neither"), ("tags=1", "neither"), ("tags.a", "NAME=VALUE")] {
        let ran = set(&[bad]);
        assert!(ran.status == 2 && ran.err.contains(wanted), "{ran:?}");
    }
    let ran = desk.run(&["twin", "get", "nobody"]);
    assert!(ran.status == 1 && ran.err.contains("404 DeviceNotFound"), "{ran:?}");
    let ran = desk.run(&["twin", "get", "gateway-0000", "--path", "tags.none"]);
    assert!(ran.status == 1 && ran.err.contains("has no tags.none"), "{ran:?}");
}
