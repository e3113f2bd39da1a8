//! Which hub: as an operator sets it, and what is said when something is wrong with it.

use hub_emulator::{Fault, Options, Tier};
use serde_json::json;

use super::tool::{Desk, ran};

#[test]
fn a_hub_is_found_by_profile_by_file_and_by_variable() {
    let desk = Desk::new();
    desk.hub.create_device("one", json!({})).unwrap();
    let string = desk.connection_string("iothubowner");
    let profile = format!("connection_string = \"{string}\"\nca_file = \"../../../ca.pem\"\n");
    desk.secret(".config/twinboot/fleet/lab.toml", &profile);
    let mut by_profile = desk.bare();
    by_profile.env_remove("TWINBOOT_CA_FILE").args(["--hub", "lab"]);
    let mut by_file = desk.bare();
    by_file.arg("--connection-string-file").arg(desk.path("connection-string"));
    let mut by_variable = desk.bare();
    by_variable.env("TWINBOOT_CONNECTION_STRING", string);
    for mut command in [by_profile, by_file, by_variable] {
        let ran = ran(command.args(["devices", "--columns", "id"]).output().unwrap());
        assert_eq!((ran.status, ran.out.as_str()), (0, "ID\none\n"), "{ran:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_the_flag_to_set_and_without_the_key() {
    let desk = Desk::new();
    let string = desk.connection_string("iothubowner");
    let key = string.rsplit_once("SharedAccessKey=").unwrap().1.to_owned();
    let other = string.replace(&key, "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=");
    let nobody = string.replace(&format!(":{}", desk.hub.https_port()), ":1");
    let mut stranger = desk.bare();
    stranger.env("TWINBOOT_CONNECTION_STRING", other);
    let mut unheard = desk.bare();
    unheard.env("TWINBOOT_CONNECTION_STRING", nobody);
    let mut distrustful = desk.bare();
    distrustful.env("TWINBOOT_CONNECTION_STRING", &string).env_remove("TWINBOOT_CA_FILE");
    let mut pasted = desk.bare();
    pasted.arg("--connection-string-file").arg(&string);
    for (mut command, status, wanted) in [
        (desk.bare(), 2, "--connection-string-file"),
        (pasted, 2, "name of a file"),
        (stranger, 3, "is the key right"),
        (unheard, 3, "cannot be reached"),
        (distrustful, 3, "--ca-file or $TWINBOOT_CA_FILE"),
    ] {
        let ran = ran(command.arg("devices").output().unwrap());
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.err.contains(wanted) && !ran.err.contains(&key) && ran.out.is_empty(), "{ran:?}");
    }
    // A policy that may not: the hub's own words, and what to look at.
    desk.secret("connection-string", &desk.connection_string("device"));
    let ran = desk.run(&["devices"]);
    assert!(ran.status == 3 && ran.err.contains("policy"), "{ran:?}");
}

#[test]
fn a_hub_without_room_is_waited_for_as_long_as_it_says() {
    let desk = Desk::with(Options { throttle: Some(Tier::S1), ..Options::default() });
    let fault =
        json!({"fault": "failService", "status": 429, "retryAfter": 1, "target": "devices", "times": 2});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
    let begun = std::time::Instant::now();
    desk.good(&["devices"]);
    assert!(begun.elapsed().as_secs() >= 2, "{:?}", begun.elapsed());
    // Faults of the hub's are got over where asking again cannot do harm.
    let fault = json!({"fault": "failService", "status": 503, "target": "devices", "times": 1});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
    desk.good(&["devices"]);
}
