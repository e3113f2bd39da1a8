//! Each way to prove who one is and to get through, to a finished update. What the hub sees of it packet by packet is
//! tested beside the code; here the real daemon does it, as it is configured.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hub_emulator::{Emulator, EventKind};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::proxy::{Asked, CREDENTIALS, Proxy};
use super::support::{Checked, Cloud, Fault, Happening, Sides, Slot};
use super::{Bench, LIMIT, V2};

/// A directory for what a device is given beside its configuration.
fn drawer() -> Checked<TempDir> {
    Ok(tempfile::tempdir()?)
}

fn secret(directory: &Path, name: &str, text: &str) -> Checked<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

/// A certificate with this common name, and its key.
fn certificate(name: &str) -> Checked<(String, String)> {
    let make = || {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Ok::<_, rcgen::Error>((params.self_signed(&key)?.pem(), key.serialize_pem()))
    };
    make().map_err(|error| Fault(error.to_string()))
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
        Happening::PowerOn
        | Happening::Loader(_)
        | Happening::Hung(_)
        | Happening::Booted(..)
        | Happening::RebootRequested
        | Happening::Stopped(_)
        | Happening::PowerCut
        | Happening::Broken(_) => None,
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
    bench.device.wait(needle, 0, LIMIT, |happening| {
        let Happening::Said(line) = happening else { return None };
        line.contains(needle).then(|| line.clone())
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
fn p065_proxy_variables_are_never_looked_at() -> Checked {
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
fn p121_a_key_that_others_may_read_is_refused_with_the_remedy_until_it_is_guarded() -> Checked {
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

/// P130: the hub takes the certificate that the device gets while it runs, and no other.
/// A daemon that has its network itself remembers the pair that was good.
#[test]
fn a_certificate_is_exchanged_under_a_running_daemon() -> Checked {
    let pairs = Pairs::new(Sides::One)?;
    let bench = &pairs.bench;
    // The first file alone is no pair, and what was read goes on to be used.
    fs::write(&pairs.chain, &pairs.new.0)?;
    bench.cloud.idle_after(|| drop_link(bench))?;
    let warns = |status: &Value| status["warnings"].to_string().contains("no pair");
    bench.device.wait_status("the warning", 0, LIMIT, warns)?;
    let before = bench.device.now();
    secret(pairs.drawer.path(), "device.key", &pairs.new.1)?;
    bench.cloud.idle_after(|| drop_link(bench))?;
    bench.device.wait_status("no warning", before, LIMIT, |status| !warns(status))?;
    pairs.updates()
}

/// A network side of its own remembers nothing: it says what is wrong until the pair is whole.
#[test]
fn a_certificate_is_exchanged_under_a_network_side_that_keeps_nothing() -> Checked {
    let pairs = Pairs::new(Sides::Two)?;
    let bench = &pairs.bench;
    fs::write(&pairs.chain, &pairs.new.0)?;
    let before = bench.device.now();
    drop_link(bench)?;
    bench.device.wait("why there is no hub", before, LIMIT, |happening| {
        matches!(happening, Happening::Said(line) if line.contains("no hub until this is corrected")
            && line.contains("no pair: exchange both"))
        .then_some(())
    })?;
    bench.cloud.idle_after(|| secret(pairs.drawer.path(), "device.key", &pairs.new.1).map(drop))?;
    pairs.updates()
}

/// A device that connects with one of two certificates that its hub knows.
struct Pairs {
    drawer: TempDir,
    chain: PathBuf,
    old: (String, String),
    new: (String, String),
    bench: Bench,
}

impl Pairs {
    fn new(sides: Sides) -> Checked<Self> {
        let drawer = drawer()?;
        let (old, new) = (certificate("gateway")?, certificate("gateway")?);
        let chain = drawer.path().join("device.pem");
        fs::write(&chain, &old.0)?;
        let key = secret(drawer.path(), "device.key", &old.1)?;
        let bench = Bench::of(sides, |cloud| {
            let emulator = &cloud.emulator;
            let thumbprints = [Emulator::thumbprint(&old.0)?, Emulator::thumbprint(&new.0)?];
            emulator.create_x509_device(
                "by-certificate",
                &[&thumbprints[0], &thumbprints[1]],
                Value::Null,
            )?;
            let port = emulator.mqtt_port();
            let connection = format!("HostName=localhost:{port};DeviceId=by-certificate;x509=true\n");
            let string = secret(drawer.path(), "connection-string", &connection)?;
            Ok(format!(
                "[hub]\nconnection_string_file = {string:?}\ncertificate_file = {chain:?}\nprivate_key_file = {key:?}\n"
            ))
        })?;
        let bench = Bench { cloud: bench.cloud.of("by-certificate"), ..bench };
        bench.device.power_on()?;
        bench.runs("1.0.0")?;
        Ok(Self { drawer, chain, old, new, bench })
    }

    /// To the end of an update, without any key where it must not be.
    fn updates(&self) -> Checked {
        let inner = |pem: &str| pem.lines().nth(1).unwrap_or_default().to_owned();
        updates(&self.bench, &[&inner(&self.old.1), &inner(&self.new.1)])
    }
}

fn drop_link(bench: &Bench) -> Checked {
    assert!(bench.cloud.emulator.drop_device(bench.cloud.id));
    Ok(())
}

/// The configuration of a device that registers with the emulator's service.
fn provisioning(cloud: &Cloud, attestation: &str, rest: &str) -> String {
    let (scope, port) = (cloud.emulator.id_scope(), cloud.emulator.mqtt_port());
    format!(
        "[provisioning]\nid_scope = {scope:?}\nregistration_id = \"reg-1\"\nendpoint = \"localhost:{port}\"\n\
         attestation = {attestation:?}\n{rest}\n"
    )
}

/// In place of the device's own connection string.
const NO_STRING: &str = "[hub]\nconnection_string_file = \"connection-string\"\n";

fn key_of(enrolment: &Value) -> Checked<String> {
    let key = enrolment["attestation"]["symmetricKey"]["primaryKey"].as_str().map(str::to_owned);
    key.ok_or_else(|| Fault(format!("no key in {enrolment}")))
}

#[test]
fn a_device_that_was_only_enrolled_finds_its_hub_and_remembers_it() -> Checked {
    let drawer = drawer()?;
    let mut told = String::new();
    let bench = Bench::by(|cloud| {
        let body = json!({"registrationId": "reg-1", "deviceId": "dev-7"});
        told = key_of(&cloud.emulator.create_enrollment(body)?)?;
        let file = secret(drawer.path(), "key", &told)?;
        let rest = format!("symmetric_key_file = {file:?}");
        Ok(format!("{NO_STRING}{}", provisioning(cloud, "symmetric_key", &rest)))
    })?;
    let bench = Bench { cloud: bench.cloud.of("dev-7"), ..bench };
    let events = bench.cloud.emulator.events();
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    updates(&bench, &[&told])?;
    // Several processes and two systems came and went; one of them asked.
    let registered = events.try_iter().filter(|it| matches!(it.kind, EventKind::Registered { .. })).count();
    assert_eq!(registered, 1);
    Ok(())
}

#[test]
fn a_member_of_a_group_registers_through_a_websocket_and_a_proxy_and_is_warned() -> Checked {
    let (proxy, drawer) = (Proxy::start()?, drawer()?);
    let credentials = secret(drawer.path(), "proxy-credentials", CREDENTIALS)?;
    let mut told = String::new();
    let bench = Bench::by(|cloud| {
        let group = cloud.emulator.create_enrollment_group(json!({"enrollmentGroupId": "factory"}))?;
        told = key_of(&group)?;
        let file = secret(drawer.path(), "key", &told)?;
        let rest = format!(
            "symmetric_key_file = {file:?}\n[proxy]\nurl = {:?}\ncredentials_file = {credentials:?}",
            proxy.url()
        );
        let port = cloud.emulator.https_port();
        let transport = format!("transport = \"websocket\"\nwebsocket_port = {port}\n");
        Ok(format!("{NO_STRING}{transport}{}", provisioning(cloud, "group_key", &rest)))
    })?;
    let bench = Bench { cloud: bench.cloud.of("reg-1"), ..bench };
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let warns = |status: &Value| status["warnings"].to_string().contains("any of the fleet");
    bench.device.wait_status("the warning", 0, LIMIT, warns)?;
    assert!(proxy.asked().len() >= 2, "the service and the hub");
    updates(&bench, &[&told, "open sesame"])
}

#[test]
fn a_certificate_registers_and_lets_in() -> Checked {
    let drawer = drawer()?;
    let (pem, private) = certificate("reg-1")?;
    let chain = drawer.path().join("device.pem");
    fs::write(&chain, &pem)?;
    let key = secret(drawer.path(), "device.key", &private)?;
    let bench = Bench::by(|cloud| {
        let x509 = json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": pem}}}});
        cloud.emulator.create_enrollment(json!({"registrationId": "reg-1", "attestation": x509}))?;
        let files = format!("certificate_file = {chain:?}\nprivate_key_file = {key:?}\n");
        Ok(format!("{NO_STRING}{files}{}", provisioning(cloud, "x509", "")))
    })?;
    let bench = Bench { cloud: bench.cloud.of("reg-1"), ..bench };
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    updates(&bench, &[private.lines().nth(1).unwrap_or_default()])
}
