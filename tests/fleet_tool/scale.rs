//! As many devices as a hub may have: memory does not grow with them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::tool::Desk;

/// KiB that the tool may take at its most.
const LIMIT: u64 = 64 << 10;

/// The most that a process has held so far, in KiB; nothing if it has gone.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Runs the tool and counts its lines and its memory.
fn measured(desk: &Desk, arguments: &[&str]) -> (usize, u64) {
    let mut child = desk.tool(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let (id, has_ended) = (child.id(), AtomicBool::new(false));
    thread::scope(|scope| {
        // All the time: when its last line has come it may be gone.
        let watching = scope.spawn(|| {
            let mut most = 0;
            while !has_ended.load(Ordering::Relaxed) {
                most = most.max(peak(id));
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().count();
        let status = child.wait().unwrap();
        has_ended.store(true, Ordering::Relaxed);
        assert!(status.success(), "{arguments:?}");
        (lines, watching.join().unwrap())
    })
}

fn listed_and_watched(count: usize) {
    let desk = Desk::new();
    for at in 0..count {
        let id = format!("gateway-{at:06}");
        desk.hub.create_device(&id, json!(null)).unwrap();
        desk.hub
            .report(&id, &json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": "1.0.0"}}))
            .unwrap();
    }
    let (lines, listing) = measured(&desk, &["devices"]);
    assert_eq!(lines, count + 1);
    let (lines, watching) = measured(&desk, &["watch"]);
    assert_eq!(lines, 2);
    println!("{count} devices: {listing} KiB to list, {watching} KiB to watch");
    for most in [listing, watching] {
        assert!(0 < most && most < LIMIT, "{most} KiB");
    }
}

#[test]
fn some_thousand_devices_are_listed_and_watched() {
    listed_and_watched(3000);
}

#[test]
#[ignore = "deep: takes minutes"]
fn deep_a_hundred_thousand_devices_are_listed_and_watched() {
    listed_and_watched(100_000);
}
