//! A daemon that tells a secret is found out, by whatever test it runs in.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hub_emulator::device::{Happening, Options, Recipe, SimDevice};

/// A device whose daemon is a script: it says this, and stays.
fn device(directory: &tempfile::TempDir, says: &str) -> SimDevice {
    let program = directory.path().join("daemon");
    fs::write(&program, format!("#!/bin/sh\ncd \"$(dirname \"$2\")\"\n{says} >&2\nexec sleep 60\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let factory = Recipe::good("1.0.0", 1 << 20).make();
    let connection = "HostName=localhost;DeviceId=d;SharedAccessKey=c2VjcmV0IGtleSBvZiBhIHRlc3Q=";
    let options = Options { followed: false, ..Options::new(&program, &factory, connection, "") };
    SimDevice::new(&options).unwrap()
}

fn said(device: &SimDevice, text: &str) -> Result<(), String> {
    let says = |what: &Happening| matches!(what, Happening::Said(line) if line.contains(text)).then_some(());
    device.wait(text, 0, Duration::from_secs(30), says).map_err(|failure| failure.to_string())
}

#[test]
fn a_secret_that_is_told_breaks_the_device_and_the_test() {
    let directory = tempfile::tempdir().unwrap();
    for leak in ["cat connection-string", "sed s/.*Key=// connection-string", "echo 'GET /x?sig=abc'"] {
        let device = device(&directory, leak);
        device.power_on().unwrap();
        let failure = said(&device, "nothing of the kind").unwrap_err();
        assert!(failure.contains("the daemon tells a secret"), "{leak}: {failure}");
        assert!(catch_unwind(AssertUnwindSafe(|| drop(device))).is_err(), "{leak}");
    }
}

#[test]
fn other_words_are_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let device = device(&directory, "echo 'no connection to the hub, trying again'");
    device.power_on().unwrap();
    said(&device, "trying again").unwrap();
}
