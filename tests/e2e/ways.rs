//! Each way to prove who one is and to get through, to a finished update. What the hub sees of it packet by packet is
//! tested beside the code; here the real daemon does it, as it is configured.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::proxy::{Asked, CREDENTIALS, Proxy};
use super::support::{Checked, Cloud, Happening, Slot};
use super::{Bench, LIMIT, V2};

/// A directory for what a device is given beside its configuration.
fn drawer() -> Checked<tempfile::TempDir> {
    Ok(tempfile::tempdir()?)
}

fn secret(directory: &Path, name: &str, text: &str) -> Checked<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// Updates, and sees that it was kept and that nobody said any of the secrets.
fn updates(bench: &Bench, secrets: &[&str]) -> Checked {
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)?;
    silent(bench, secrets)
}

fn silent(bench: &Bench, secrets: &[&str]) -> Checked {
    let mut texts = 0;
    let (_, shown) = bench.device.command(&["status", "--json"])?;
    let said = bench.device.since(0).into_iter().filter_map(|entry| match entry.what {
        Happening::Said(line) => Some(line),
        Happening::Status(status) => Some(status.to_string()),
        _ => None,
    });
    let reported = bench.cloud.reported().to_string();
    for text in said.chain([shown, reported]) {
        texts += 1;
        for secret in secrets {
            assert!(!text.contains(secret), "a secret was told: {text}");
        }
    }
    assert!(texts > 10, "only {texts} texts were looked at");
    Ok(())
}

/// Waits for a line of the daemon's.
fn says(bench: &Bench, needle: &str) -> Checked<String> {
    bench.device.wait(needle, 0, LIMIT, |happening| match happening {
        Happening::Said(line) if line.contains(needle) => Some(line.clone()),
        _ => None,
    })
}

#[test]
fn a_websocket_carries_an_update() -> Checked {
    let bench = Bench::by(|cloud| {
        let port = cloud.emulator.https_port();
        Ok(format!("[hub]\ntransport = \"websocket\"\nwebsocket_port = {port}\n"))
    })?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    says(&bench, "over a WebSocket")?;
    updates(&bench, &[&bench.cloud.key()?])
}

/// 8883 is closed, as in many a company network.
#[test]
fn where_the_port_of_mqtt_is_closed_the_websocket_is_found() -> Checked {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let drawer = drawer()?;
    let bench = Bench::by(|cloud| {
        let connection = cloud.emulator.device_connection_string(cloud.id)?;
        let connection = connection.replacen(";DeviceId=", &format!(":{closed};DeviceId="), 1);
        let file = secret(drawer.path(), "connection-string", &connection)?;
        let port = cloud.emulator.https_port();
        Ok(format!("[hub]\nconnection_string_file = {file:?}\nwebsocket_port = {port}\n"))
    })?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    updates(&bench, &[&bench.cloud.key()?])
}

#[test]
fn hub_and_download_go_through_a_proxy_with_a_password_that_is_never_told() -> Checked {
    let (proxy, drawer) = (Proxy::start()?, drawer()?);
    let file = secret(drawer.path(), "proxy-credentials", "Aladdin:something else\n")?;
    let bench =
        Bench::by(|_| Ok(format!("[proxy]\nurl = {:?}\ncredentials_file = {file:?}\n", proxy.url())))?;
    bench.device.power_on()?;
    let line = says(&bench, "(407)")?;
    assert!(line.contains("proxy.credentials_file"), "{line}");
    // The next start is sooner than the next attempt after a refusal.
    secret(drawer.path(), "proxy-credentials", &format!("{CREDENTIALS}\n"))?;
    bench.device.stop_daemon()?;
    bench.device.start_daemon()?;
    bench.runs("1.0.0")?;
    updates(&bench, &[&bench.cloud.key()?, "open sesame", "QWxhZGRpb", "something else"])?;
    let asked = proxy.asked();
    let (mqtt, https) = (bench.cloud.emulator.mqtt_port(), bench.cloud.emulator.https_port());
    assert_eq!(asked[0], Asked { port: mqtt, granted: false });
    for port in [mqtt, https] {
        assert!(asked.contains(&Asked { port, granted: true }), "{port} is not in {asked:?}");
    }
    Ok(())
}

/// P065: who may set a variable does not decide where credentials go.
#[test]
fn proxy_variables_are_never_looked_at() -> Checked {
    let (proxy, drawer) = (Proxy::start()?, drawer()?);
    let script = drawer.path().join("twinboot");
    let names = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let variables: String = names.iter().map(|name| format!("export {name}={}\n", proxy.url())).collect();
    let program = env!("CARGO_BIN_EXE_twinboot");
    fs::write(&script, format!("#!/bin/sh\n{variables}exec {program} \"$@\"\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let cloud = Cloud::start("gateway")?;
    let device = cloud.device_of(&script, &super::V1)?;
    let bench = Bench { device, cloud };
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    bench.update("2.0.0", &V2)?;
    assert_eq!(proxy.asked(), []);
    Ok(())
}

/// P121: never silently, and good again as soon as it is corrected.
#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy_until_it_is_guarded() -> Checked {
    let bench = Bench::off("")?;
    let file = bench.device.path("connection-string");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    bench.device.power_on()?;
    let line = says(&bench, "chmod 600")?;
    assert!(line.contains("mode 0644"), "{line}");
    let warns = |status: &Value| status["warnings"].to_string().contains("chmod 600");
    bench.device.wait_status("the warning", 0, LIMIT, warns)?;
    assert!(!bench.cloud.emulator.device_connected(bench.cloud.id));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    bench.runs("1.0.0")?;
    silent(&bench, &[&bench.cloud.key()?])
}
