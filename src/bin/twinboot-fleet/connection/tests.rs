#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::failure::Exit;

const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

fn string(host: &str) -> String {
    format!("HostName={host};SharedAccessKeyName=service;SharedAccessKey={KEY}")
}

/// A home directory and variables.
struct Home(tempfile::TempDir, BTreeMap<String, OsString>);

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = BTreeMap::from([("HOME".to_owned(), directory.path().as_os_str().to_owned())]);
        Self(directory, home)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.1.insert(name.to_owned(), value.into());
    }

    fn find(&self, given: &arguments::Connection) -> Outcome<Connection> {
        Connection::find(given, &|name| self.1.get(name).cloned())
    }

    fn host(&self, given: &arguments::Connection) -> String {
        self.find(given).unwrap().service.hub.to_string()
    }
}

#[test]
fn the_first_that_is_there_is_taken() {
    let mut home = Home::new();
    let mut given = arguments::Connection::default();
    let lost = home.find(&given).unwrap_err();
    assert_eq!(lost.exit, Exit::Usage);
    assert!(lost.remedy.contains("--connection-string-file"), "{lost:?}");
    let profile = |host: &str| format!("connection_string = \"{}\"\n", string(host));
    home.write(".config/twinboot/fleet/default.toml", &profile("of-default"), 0o600);
    assert_eq!(home.host(&given), "of-default");
    home.set("TWINBOOT_CONNECTION_STRING", string("of-variable"));
    assert_eq!(home.host(&given), "of-variable");
    home.set("TWINBOOT_CONNECTION_STRING_FILE", home.write("file", &string("of-file:8443"), 0o600));
    assert_eq!(home.host(&given), "of-file:8443");
    home.write(".config/twinboot/fleet/lab.toml", &profile("of-lab"), 0o600);
    home.set("TWINBOOT_HUB", "lab");
    assert_eq!(home.host(&given), "of-lab");
    given.connection_string_file = Some(home.write("given", &string("given"), 0o600));
    assert_eq!(home.host(&given), "given");
    let other = "connection_string_file = \"../../../given\"\nca_file = \"ca.pem\"\n";
    home.write(".config/twinboot/fleet/other.toml", other, 0o600);
    given = arguments::Connection { hub: Some("other".into()), ..Default::default() };
    assert_eq!(home.host(&given), "given");
    let beside = home.0.path().join(".config/twinboot/fleet/ca.pem");
    assert_eq!(home.find(&given).unwrap().ca_files, [beside]);
    home.set("TWINBOOT_CA_FILE", "/elsewhere.pem");
    assert_eq!(home.find(&given).unwrap().ca_files, [Path::new("/elsewhere.pem")]);
    home.set("XDG_CONFIG_HOME", "/nowhere");
    let lost = home.find(&given).unwrap_err();
    assert!(
        lost.text.contains("--hub") && lost.text.contains("/nowhere/twinboot/fleet/other.toml"),
        "{lost:?}"
    );
}

#[test]
fn what_is_wrong_names_the_flag_and_never_the_key() {
    let mut home = Home::new();
    let given =
        |path: PathBuf| arguments::Connection { connection_string_file: Some(path), ..Default::default() };
    let open = home.write("open", &string("h"), 0o644);
    let short = home.write("short", &string("h").replace("T4=", ""), 0o600);
    let device = home.write("device", &format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}"), 0o600);
    let pasted = PathBuf::from(string("h"));
    for (path, wanted) in [
        (open, "chmod 600"),
        (short, "SharedAccessKey"),
        (device, "of one device"),
        (pasted, "name of a file"),
        (home.0.path().join("none"), "No such file"),
    ] {
        let failure = home.find(&given(path)).unwrap_err();
        let all = format!("{failure:?}");
        assert!(all.contains("--connection-string-file") && all.contains(wanted), "{all}");
        assert!(!all.contains(&KEY[..8]), "{all}");
    }
    for (text, wanted) in [
        (format!("connection_string = {}\n", string("h")), "line 1"),
        (format!("# lab\nconection_string = \"{}\"\n", string("h")), "line"),
        (format!("connection_string = \"x{KEY}\"\n"), "part 1"),
        ("ca_file = \"x\"\n".to_owned(), "either"),
    ] {
        home.write(".config/twinboot/fleet/bad.toml", &text, 0o600);
        home.set("TWINBOOT_HUB", "bad");
        let all = format!("{:?}", home.find(&arguments::Connection::default()).unwrap_err());
        assert!(all.contains("$TWINBOOT_HUB") && all.contains("bad.toml") && all.contains(wanted), "{all}");
        assert!(!all.contains(&KEY[..8]), "{all}");
    }
    for bad in ["../x", "", ".x", "a/b"] {
        let given = arguments::Connection { hub: Some(bad.into()), ..Default::default() };
        assert!(home.find(&given).unwrap_err().text.contains("--hub"), "{bad}");
    }
}

#[test]
fn a_connection_string_is_whole() {
    let good: ServiceString = format!(" {} \n", string("h.example:8443")).parse().unwrap();
    assert_eq!(
        (good.hub.host.as_str(), good.hub.port, good.policy.as_str()),
        ("h.example", Some(8443), "service")
    );
    assert!(!format!("{good:?}").contains(&KEY[..8]));
    for bad in [
        "",
        "HostName=h",
        "HostName=h;SharedAccessKeyName=p",
        "HostName=h;HostName=h",
        "HostName=h/;SharedAccessKeyName=p;SharedAccessKey=AAAA",
        "HostName=h;SharedAccessKeyName=p&sr=x;SharedAccessKey=AAAA",
        "HostName=h;Surprise=1",
        "HostName=h;what",
    ] {
        assert!(bad.parse::<ServiceString>().is_err(), "{bad}");
    }
}
