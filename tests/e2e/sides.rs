//! The daemon as one process and as two, and what becomes of it when one of the two dies.
//!
//! All other stories are told with as many as it ships with; `TWINBOOT_SIDES=one` tells them with one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::support::{Checked, Happening, Sides, Slot};
use super::{Bench, LIMIT, LONG, TWICE, V1, V2};

fn bench(sides: Sides) -> Checked<Bench> {
    let bench = Bench::of(sides, |_| Ok(String::new()))?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    Ok(bench)
}

#[test]
fn one_process_does_it_all() -> Checked {
    let bench = bench(Sides::One)?;
    assert_eq!(bench.device.network_process(), None);
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)
}

/// The network side has nothing open that could be a device or hold a state, and the other no connection to anywhere.
#[test]
fn of_two_processes_one_has_the_network_and_the_other_the_devices() -> Checked {
    let bench = bench(Sides::Two)?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 4 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 1 << 20, LIMIT)?;
    let (network, device) = (bench.device.network_process().unwrap(), bench.device.process().unwrap());
    let place = bench.device.path("").canonicalize()?;
    let files = |process| -> Checked<Vec<_>> {
        let links = fs::read_dir(format!("/proc/{process}/fd"))?
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        Ok(links.filter(|file| file.starts_with(&place)).collect())
    };
    assert_eq!(files(network)?, Vec::<std::path::PathBuf>::new(), "nothing of the device is open");
    assert!(files(device)?.iter().any(|file| file.ends_with("slot-b")));
    let is_out = |process| -> Checked<bool> {
        let text = ["tcp", "tcp6"]
            .map(|kind| fs::read_to_string(format!("/proc/{process}/net/{kind}")).unwrap_or_default());
        let links = fs::read_dir(format!("/proc/{process}/fd"))?
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        let ours = links
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()));
        let ours: Vec<_> = ours.collect();
        // The tenth column of the kernel's table is the number of the socket.
        let sockets = text.iter().flat_map(|it| it.lines()).filter_map(|line| line.split_whitespace().nth(9));
        Ok(sockets.into_iter().any(|inode| ours.iter().any(|it| it == inode)))
    };
    assert!(is_out(network)? && !is_out(device)?);
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)
}

#[test]
fn a_network_side_that_is_killed_costs_a_connection_and_nothing_else() -> Checked {
    let bench = bench(Sides::Two)?;
    let daemon = bench.device.process();
    // In mid-session.
    bench.cloud.idle_after(|| bench.device.kill_network())?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 16 << 20);
    bench.cloud.desire(image.desired())?;
    for kill in 1..=5 {
        // In mid-download.
        bench.cloud.wait_sent(&image, kill * (3 << 20), LIMIT)?;
        bench.device.kill_network()?;
    }
    bench.cloud.wait_sent(&image, image.len, LIMIT)?;
    assert_eq!(bench.device.process(), daemon, "it is the same daemon");
    bench.runs("2.0.0")?;
    let requests = bench.cloud.requests(&image);
    assert!(requests.len() >= 3, "{requests:?}");
    let twice = bench.cloud.sent_twice(&image);
    assert!(twice <= 5 * TWICE, "{twice} bytes were fetched twice");
    bench.settled(Slot::B, &LONG)
}

/// It starts without an identity, says so, and goes on by itself once there is one.
#[test]
fn an_identity_that_comes_later_is_found() -> Checked {
    for sides in [Sides::One, Sides::Two] {
        let mut later = std::path::PathBuf::new();
        let drawer = tempfile::tempdir()?;
        let bench = Bench::of(sides, |_| {
            later = drawer.path().join("connection-string");
            Ok(format!("[hub]\nconnection_string_file = {later:?}\n"))
        })?;
        bench.device.power_on()?;
        let missing = |status: &Value| status["warnings"].to_string().contains("no connection string");
        bench.device.wait_status("what is missing", 0, LIMIT, missing)?;
        fs::copy(bench.device.path("connection-string"), &later)?;
        fs::set_permissions(&later, fs::Permissions::from_mode(0o600))?;
        bench.runs("1.0.0")?;
        let told = bench.device.since(0);
        let says = |line: &String| line.contains("warning: no connection string: write");
        let lines = told.iter().filter(|it| matches!(&it.what, Happening::Said(line) if says(line))).count();
        assert_eq!(lines, 1, "once is enough: {told:#?}");
        bench.settled(Slot::A, &V1)?;
    }
    Ok(())
}
