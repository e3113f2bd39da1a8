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
    assert!(start.contains("service connection string: HostName=localhost:"));
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

#[test]
fn with_a_state_directory_the_next_start_knows_the_same_devices() {
    let directory = std::env::temp_dir().join(format!("hub-emulator-program-{}", std::process::id()));
    let lines = || {
        let program = Command::new(env!("CARGO_BIN_EXE_hub-emulator"))
            .args(["--mqtt-port", "0", "--https-port", "0", "--device", "dev", "--device", "cert,x509"])
            .args(["--enrollment", "reg,device=named", "--enrollment-group", "factory", "--ca"])
            .arg(directory.join("ca.pem"))
            .arg("--state")
            .arg(directory.join("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut program = Running(program);
        let output = BufReader::new(program.0.stdout.take().unwrap());
        let lines: Vec<String> =
            output.lines().map(Result::unwrap).take_while(|line| line != "ready").collect();
        signal("TERM", program.0.id());
        assert!(program.0.wait().unwrap().success());
        // The ports are others every time.
        let port = |line: &String| line.split("localhost:").nth(1)?.split(';').next().map(str::to_owned);
        let same =
            |line: String| port(&line).map_or(line.clone(), |port| line.replace(&format!(":{port}"), ""));
        let told: Vec<String> = lines.into_iter().filter(|line| line.contains(": ")).map(same).collect();
        (told, std::fs::read_to_string(directory.join("ca.pem")).unwrap())
    };
    std::fs::create_dir_all(&directory).unwrap();
    let first = lines();
    assert!(
        first.0.contains(&"device connection string: HostName=localhost;DeviceId=cert;x509=true".to_owned())
    );
    for name in [
        "service connection string: ",
        "id scope: 0ne00000001",
        "enrolment reg key: ",
        "enrolment group factory key: ",
    ] {
        assert!(first.0.iter().any(|line| line.starts_with(name)), "{name} {:?}", first.0);
    }
    assert_eq!(lines(), first);
    std::fs::remove_dir_all(directory).unwrap();
}
