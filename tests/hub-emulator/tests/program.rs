//! The program: what it prints, and how it is asked and ended by signals.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

fn signal(name: &str, process: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().unwrap();
    assert!(sent.success());
}

/// Ends the program when a test fails: left alone, it would keep the test run's own output open for ever.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_prints_what_clients_need_then_its_state_on_request_and_ends_in_peace() {
    let ca = std::env::temp_dir().join(format!("hub-emulator-ca-{}.pem", std::process::id()));
    let program = Command::new(env!("CARGO_BIN_EXE_hub-emulator"))
        .args(["--mqtt-port", "0", "--https-port", "0", "--device", "dev,tag.kind=chiller"])
        .args(["--state-at-exit", "--quiet", "--ca"])
        .arg(&ca)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Running(program);
    let mut lines = BufReader::new(program.0.stdout.take().unwrap());
    let mut until = |wanted: &str| {
        let mut text = String::new();
        while !text.ends_with(wanted) {
            assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
        }
        text
    };
    let start = until("ready\n");
    assert!(start.contains("service connection string: HostName=localhost;SharedAccessKeyName=iothubowner;"));
    assert!(start.contains("device connection string: HostName=localhost;DeviceId=dev;SharedAccessKey="));
    assert!(std::fs::read_to_string(&ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    std::fs::remove_file(ca).unwrap();
    signal("USR1", program.0.id());
    let state: serde_json::Value = serde_json::from_str(&until("\n}\n")).unwrap();
    assert_eq!(state["devices"]["dev"]["twin"]["tags"]["kind"], "chiller");
    signal("TERM", program.0.id());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"dev\""));
    assert!(program.0.wait().unwrap().success());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let holder = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let program = Command::new(env!("CARGO_BIN_EXE_hub-emulator"))
        .args(["--mqtt-port", &port, "--https-port", "0", "--ca", "/dev/null"])
        .output()
        .unwrap();
    assert!(!program.status.success());
    assert!(String::from_utf8(program.stderr).unwrap().contains(&format!("127.0.0.1:{port}")));
}
