#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use super::file::Source;
use super::*;
use crate::model::Window;

const SHIPPED: &str = include_str!("../../config/twinboot.toml");

fn source(file: &str, text: &str) -> Source {
    Source { file: file.into(), text: text.into() }
}

fn parse(text: &str) -> Result<Config, Error> {
    Config::from_sources(&[source("t.toml", text)])
}

fn refusal(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// Every key and its value as text.
fn values(config: &Config) -> Vec<(&'static str, Option<String>)> {
    let mut values = Vec::new();
    config.clone().each(&mut |key, value| values.push((key, value.print())));
    values
}

#[test]
fn the_shipped_file_is_the_defaults_key_by_key() {
    let shipped = parse(SHIPPED).unwrap();
    assert_eq!(values(&shipped), values(&Config::default()));
    for (key, value) in values(&Config::default()) {
        let name = key.rsplit('.').next().unwrap();
        match value {
            Some(_) => assert!(shipped.origin(key).is_some(), "{key} is not in the shipped file"),
            None => assert!(SHIPPED.contains(&format!("#{name} =")), "{key} is not mentioned"),
        }
    }
    // What is commented out for want of a default must be right all the same.
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    let uncommented: String = SHIPPED.lines().map(uncomment).collect();
    let all = parse(&uncommented).unwrap();
    assert_eq!(all.policy.window, Some(Window { from: 120, to: 270 }));
    assert_eq!(all.factory_reset.program.as_deref(), Some(Path::new("/usr/libexec/factory-reset")));
    assert!(all.factory_reset.image.is_some() && all.factory_reset.sha256.is_some());
    assert_eq!(all.simulator.root.as_deref(), Some(Path::new("/tmp/device")));
}

#[test]
fn the_print_is_itself_a_configuration_and_says_where_values_came_from() {
    let text = "[hub]\nkeep_alive = '2m'\nbackoff = ['250ms', '90s']\n[policy]\nwindow = '22:00-24:00'\n\
                [tls]\nca_files = [\"/etc/a \\\"b\\\".pem\"]\n[download]\nrate_limit = 1000\n";
    let config = parse(text).unwrap();
    let printed = config.to_toml();
    assert!(printed.contains("keep_alive = \"2m\"  # t.toml:2\n"), "{printed}");
    assert!(printed.contains("\ntoken_lifetime = \"1h\"\n"), "{printed}");
    assert!(printed.contains("\n#root =\n"), "{printed}");
    assert_eq!(values(&parse(&printed).unwrap()), values(&config));
}

#[test]
fn later_files_win_key_by_key_and_keep_their_names() {
    let main = source("main.toml", "[hub]\nkeep_alive = '1m'\ntoken_lifetime = '2h'\n");
    let first = source("10.toml", "\n[hub]\nkeep_alive = '2m'\n[tls]\nca_files = ['/a', '/b']\n");
    let second = source("20.toml", "hub.keep_alive = '3m'\ntls.ca_files = ['/c']\n");
    let config = Config::from_sources(&[main, first, second]).unwrap();
    assert_eq!(config.hub.keep_alive, Duration::from_secs(180));
    assert_eq!(config.hub.token_lifetime, Duration::from_secs(7200));
    assert_eq!(config.tls.ca_files, [Path::new("/c")]);
    assert_eq!(config.origin("hub.keep_alive").unwrap().to_string(), "20.toml:1");
    assert_eq!(config.origin("hub.token_lifetime").unwrap().to_string(), "main.toml:3");
    assert_eq!(config.values_set(), 3);

    let bad = source("20.toml", "[hub]\n\nkeep_alive = 5\n");
    let error = Config::from_sources(&[source("main.toml", "[hub]\n"), bad]).unwrap_err().to_string();
    assert!(error.starts_with("20.toml:3: hub.keep_alive must be a duration"), "{error}");
}

#[test]
fn unknown_keys_are_named_with_file_line_and_the_nearest_one() {
    for (text, message) in [
        (
            "[hub]\n# a\nkeep_alivee = '1m'\n",
            "t.toml:3: unknown key \"hub.keep_alivee\"; did you mean \"keep_alive\"?",
        ),
        ("[contol]\ngroup = 'x'\n", "t.toml:1: unknown key \"contol\"; did you mean the section [control]?"),
        ("consent = true\n", "t.toml:1: unknown key \"consent\"; did you mean \"consent\" in [policy]?"),
        ("[hub]\nzebra = 1\n", "t.toml:2: unknown key \"hub.zebra\""),
        ("[hub.keep_alive]\nx = 1\n", "t.toml:1: hub.keep_alive must be a duration"),
        ("hub = 1\n", "t.toml:1: hub is a section: write [hub]"),
        ("[[hub]]\nkeep_alive = '1m'\n", "t.toml:1: hub is a section: write [hub]"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(message), "{text}: {error}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_lines() {
    let error = refusal("[trust]\nallow_undigested = 'no'\n[boot]\ntries = '3'\n[aaa]\n");
    let lines: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["t.toml:2", "t.toml:4", "t.toml:5"], "{error}");
}

#[test]
fn what_is_not_toml_names_its_line() {
    for (text, line) in [("[hub]\nkeep_alive = \n", "t.toml:2: "), ("[hub]\nx = 1\nx = 2\n", "t.toml:3: ")] {
        assert!(refusal(text).starts_with(line), "{}", refusal(text));
    }
}

#[test]
fn durations_and_sizes_are_strict() {
    let time = |text: &str| parse(&format!("[health]\ndeadline = {text}")).map(|it| it.health.deadline);
    for (text, seconds) in [("'90s'", 90), ("'10m'", 600), ("'2h'", 7200), ("'1d'", 86400), ("'5000ms'", 5)] {
        assert_eq!(time(text).unwrap(), Duration::from_secs(seconds));
    }
    for bad in ["90", "'90'", "'1.5h'", "'-1s'", "'1h30m'", "' 90s'", "'90 s'", "'90S'", "''", "'s'", "true"]
    {
        assert!(time(bad).is_err(), "{bad}");
    }
    assert!(time("'99999999999999999999d'").is_err() && time("'18446744073709551615d'").is_err());

    let size =
        |text: &str| parse(&format!("[download]\nrate_limit = {text}")).map(|it| it.download.rate_limit);
    for (text, bytes) in [
        ("0", 0),
        ("'64KiB'", 65536),
        ("'16MiB'", 16 << 20),
        ("'5GiB'", 5 << 30),
        ("'123'", 123),
        ("4096", 4096),
        ("0x10", 16),
        ("'1B'", 1),
    ] {
        assert_eq!(size(text).unwrap(), bytes, "{text}");
    }
    for bad in ["-1", "'64 KiB'", "'64KB'", "'1k'", "'+1'", "1.0", "[1]", "'99999999999GiB'"] {
        assert!(size(bad).is_err(), "{bad}");
    }
}

#[test]
fn windows_are_times_of_day() {
    let window = |text: &str| parse(&format!("[policy]\nwindow = '{text}'")).map(|it| it.policy.window);
    assert_eq!(window("22:30-01:05").unwrap(), Some(Window { from: 1350, to: 65 }));
    assert_eq!(window("00:00-24:00").unwrap(), Some(Window { from: 0, to: 1440 }));
    for bad in [
        "2:00-4:00",
        "02:00",
        "02:00-02:00",
        "24:00-01:00",
        "02:60-03:00",
        "02:00-24:01",
        "+2:00-04:00",
        "x-y",
    ] {
        assert!(window(bad).is_err(), "{bad}");
    }
}

#[test]
fn words_lists_and_bounds_are_checked() {
    for (text, message) in [
        (
            "[boot]\nloader = 'grubb'",
            "t.toml:2: boot.loader must be \"uboot\" or \"grub\" or \"tryboot\" or \"systemd_boot\" or \"efi\" or \"script\", found the text \"grubb\"",
        ),
        (
            "[health]\nhub = 'never'",
            "t.toml:2: health.hub must be \"auto\" or \"required\" or \"ignored\", found the text \"never\"",
        ),
        ("[report]\ndialects = 'flat'", "t.toml:2: report.dialects must be a list of "),
        ("[report]\ndialects = ['flat', 'flat']", "t.toml:2: report.dialects names the same shape twice"),
        ("[hub]\nbackoff = ['1s']", "t.toml:2: hub.backoff must be two durations"),
        ("[hub]\nbackoff = ['5m', '1s']", "t.toml:2: hub.backoff must grow"),
        ("[hub]\nbackoff = ['0s', '1s']", "t.toml:2: hub.backoff must grow"),
        ("[hub]\nkeep_alive = '1h'", "t.toml:2: hub.keep_alive must be from 10s to 1177s, found 3600s"),
        ("[boot]\ntries = 0", "t.toml:2: boot.tries must be from 1 to 99, found 0"),
        ("[boot]\ntries = 5000000000", "t.toml:2: boot.tries must be a number"),
        ("[boot.tryboot]\nb = 2", "t.toml:2: boot.tryboot.b must differ from boot.tryboot.a"),
        ("[boot.tryboot]\na = 0", "t.toml:2: boot.tryboot.a must be from 1 to 127, found 0"),
        ("[boot.script]\nprogram = 'loader'", "t.toml:2: boot.script.program must be an absolute file name"),
        ("[slots]\nb = '/dev/disk/by-partlabel/rootfs-a'", "t.toml:2: slots.b must differ from slots.a"),
        ("[slots]\na = ['LABEL=a', '/dev/x']", "slots.b must have as many partitions as slots.a, 2, found 1"),
        ("[slots]\na = []", "t.toml:2: slots.a must be from 1 to 8 partitions"),
        ("[slots]\na = ['/dev/x', '/dev/x']", "t.toml:2: slots.a names \"/dev/x\" twice"),
        ("[slots]\na = 'LABEL='", "t.toml:2: slots.a must be an absolute file name, or a partition by"),
        ("[slots]\na = 7", "t.toml:2: slots.a must be a partition, or a list"),
        ("[slots]\na = 'mmcblk0p2'", "t.toml:2: slots.a must be an absolute file name"),
        ("[boot.boot_order]\na = 'A B'", "t.toml:2: boot.boot_order.a must be printable ASCII"),
        ("[control]\nsocket = ''", "t.toml:2: control.socket must be a file name, not empty"),
        ("[state]\ndirectory = 7", "t.toml:2: state.directory must be a file name, found the number 7"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(parse("[report]\ndialects = []").unwrap().report.dialects, []);
}

#[test]
fn who_the_device_is_is_said_once_and_wholly() {
    for (text, message) in [
        (
            "[hub]\ntransport = 'amqp'",
            "t.toml:2: hub.transport must be \"auto\" or \"mqtt\" or \"websocket\"",
        ),
        ("[hub]\nwebsocket_port = 0", "t.toml:2: hub.websocket_port must be from 1 to 65535"),
        (
            "[hub]\ncertificate_file = '/c'",
            "t.toml:2: hub.certificate_file needs its key: set hub.private_key_file",
        ),
        ("[hub]\nprivate_key_file = '/k'", "t.toml:2: hub.private_key_file needs its certificate"),
        (
            "[provisioning]\nid_scope = '0ne'",
            "t.toml:2: provisioning.id_scope needs provisioning.registration_id",
        ),
        (
            "[provisioning]\nregistration_id = 'd'",
            "t.toml:2: provisioning.registration_id needs provisioning.id_scope",
        ),
        (
            "[provisioning]\nid_scope = '0ne/x'\nregistration_id = 'd'",
            "t.toml:2: provisioning.id_scope must be letters and digits",
        ),
        (
            "[provisioning]\nid_scope = '0ne'\nregistration_id = '@mac'",
            "t.toml:3: provisioning.registration_id must be at most 128 letters",
        ),
        (
            "[provisioning]\nid_scope = '0ne'\nregistration_id = 'd'\nattestation = 'x509'",
            "t.toml:4: provisioning.attestation needs the device's certificate: set hub.certificate_file",
        ),
        (
            "[hub]\nconnection_string_file = '/cs'\n[provisioning]\nid_scope = '0ne'\nregistration_id = 'd'",
            "t.toml:2: hub.connection_string_file contradicts provisioning.id_scope",
        ),
        (
            "[provisioning]\nendpoint = 'https://x'",
            "t.toml:2: provisioning.endpoint must be a host name, or name:port",
        ),
        ("[proxy]\nurl = 'proxy:3128'", "t.toml:2: proxy.url must be http://name:port"),
        (
            "[proxy]\ncredentials_file = '/c'",
            "t.toml:2: proxy.credentials_file is for a proxy: set proxy.url",
        ),
        ("[proxy]\nno_proxy = ['x']", "t.toml:2: proxy.no_proxy is for a proxy: set proxy.url"),
        ("[proxy]\nno_proxy = ['10.0.0.0/99']", "t.toml:2: proxy.no_proxy must be names"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(message), "{error}");
    }
    let error = refusal("[proxy]\nurl = 'http://user:hunter2@proxy:3128'");
    assert!(error.contains("proxy.credentials_file") && !error.contains("hunter2"), "{error}");
    let good = parse("[provisioning]\nid_scope = '0ne'\nregistration_id = '@serial'").unwrap();
    assert_eq!(good.provisioning.registration_id.as_deref(), Some("@serial"));
}

/// Pasted where the name of its file belongs, it would be told with that name as what is not there.
#[test]
fn p119_a_secret_in_place_of_its_files_name_is_refused_and_not_repeated() {
    for (section, name, secret) in [
        (
            "hub",
            "connection_string_file",
            "HostName=h;DeviceId=d;SharedAccessKey=aHVudGVyMmh1bnRlcjJodW50ZXI=",
        ),
        ("hub", "private_key_file", "-----BEGIN EC PRIVATE KEY----- MHcC"),
        ("provisioning", "symmetric_key_file", "aHVudGVyMmh1bnRlcjJodW50ZXI="),
        ("provisioning", "payload_file", "SharedAccessSignature sr=h&sig=x&se=1"),
    ] {
        let error = refusal(&format!("[{section}]\n{name} = '{secret}'"));
        let wanted = format!("t.toml:2: {section}.{name} must be the name of a file");
        assert!(error.contains(&wanted) && !error.contains(secret), "{error}");
    }
    for fine in ["device-key", "/etc/twinboot/device/key", "devicekeyofthefirstboard", "a=b"] {
        parse(&format!("[provisioning]\nsymmetric_key_file = '{fine}'")).unwrap();
    }
}

#[test]
fn the_connection_string_is_a_credential_first() {
    let names = |file: &str, credentials| candidates(Path::new(file), credentials);
    let credentials = Some(Path::new("/run/credentials/twinboot-net.service"));
    let kept = ["/var/lib/twinboot/credentials/cs", "/etc/twinboot/cs"].map(PathBuf::from);
    // The same order with and without systemd; what somebody loads by the name itself comes before both.
    let given = ["cs", "shared_cs", "etc_cs"]
        .map(|name| Path::new("/run/credentials/twinboot-net.service").join(name));
    assert_eq!(names("cs", credentials), [&given[..], &kept].concat());
    assert_eq!(names("cs", None), kept);
    let named = [PathBuf::from("/data/cs")];
    assert_eq!(names("/data/cs", credentials), [&named[..], &given, &named].concat());
    assert_eq!(names("/data/cs", None), named);
}

#[test]
fn time_zones_are_those_of_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("usr/share/zoneinfo");
    std::fs::create_dir_all(database.join("Europe")).unwrap();
    for name in ["Europe/Berlin", "Europe/Paris", "EST5EDT"] {
        std::fs::write(database.join(name), include_bytes!("../host/zones/berlin.tzif")).unwrap();
    }
    let root = directory.path().display();
    let parse = |zone: &str| parse(&format!("[policy]\ntimezone = '{zone}'\n[simulator]\nroot = '{root}'\n"));
    for zone in ["local", "UTC", "Europe/Berlin", "EST5EDT"] {
        assert_eq!(parse(zone).unwrap().policy.timezone.to_string(), zone);
    }
    for (zone, words) in [
        ("Europe/Berlim", "did you mean \"Europe/Berlin\"?"),
        ("europe/paris", "did you mean \"Europe/Paris\"?"),
        ("Berlin", "did you mean \"Europe/Berlin\"?"),
        ("Asia/Tokyo", "is no time zone of this system's database: \"Asia/Tokyo\""),
        ("../passwd", "must be \"local\", \"UTC\" or the name of a time zone"),
    ] {
        let error = parse(zone).unwrap_err().to_string();
        assert!(error.starts_with("t.toml:2: policy.timezone ") && error.contains(words), "{error}");
    }
    std::fs::remove_dir_all(&database).unwrap();
    // Its own database is gone, so the machine's counts; a name that none has is no longer known either.
    assert!(parse("Europe/Nowhere").is_err() || !Path::new("/usr/share/zoneinfo").is_dir());
}
