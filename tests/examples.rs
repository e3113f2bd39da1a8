//! The shipped examples of programs: each is run, as twinboot would, and says what its first lines promise.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What stands for `systemctl`: it says what a test wrote down, and notes what it was asked.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >> asked
case $1 in
    is-system-running) cat state ;;
    is-active) grep -qx "$2" active && echo active || { echo failed; exit 3; } ;;
    list-units) cat failed ;;
    *) ! grep -qx "$*" refused ;;
esac
"#;

/// The examples, and a place where they find what they look at.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("systemctl", SYSTEMCTL),
            ("state", "running\n"),
            ("active", ""),
            ("failed", ""),
            ("refused", ""),
        ] {
            new.write(name, text);
        }
        new.program("ping", "#!/bin/sh\nfor host; do :; done\ntest \"$host\" != 192.0.2.9\n");
        fs::set_permissions(new.path("systemctl"), Permissions::from_mode(0o755)).unwrap();
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn program(&self, name: &str, text: &str) -> String {
        self.write(name, text);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
        self.path(name).display().to_string()
    }

    /// An example whose settings, the lines `NAME=…` at its beginning, are these.
    fn example(&self, name: &str, settings: &[(&str, &str)]) -> Example<'_> {
        let mut text = fs::read_to_string(shipped(name)).unwrap();
        for (setting, value) in settings {
            let begins = format!("\n{setting}=");
            let at = text.find(&begins).unwrap_or_else(|| panic!("{name} has no setting {setting}")) + 1;
            let end = if text[at..].starts_with(&format!("{setting}=\"\n")) {
                at + text[at..].find("\n\"\n").unwrap() + 2
            } else {
                at + text[at..].find('\n').unwrap()
            };
            text.replace_range(at..end, &format!("{setting}='{value}'"));
        }
        let path = self.path(&name.replace('/', "-"));
        // Written by another process: had this one the file open for writing while a neighbouring test forks, running
        // it would fail with "text file busy".
        let mut writer = Command::new("/bin/sh");
        writer.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&path).arg(text);
        assert!(writer.status().unwrap().success());
        Example { bench: self, path }
    }
}

struct Example<'a> {
    bench: &'a Bench,
    path: PathBuf,
}

impl Example<'_> {
    /// Exit status and all that was printed.
    fn run(&self) -> (i32, String) {
        self.told("", &[])
    }

    /// The same with an argument, and what is to be read.
    fn told(&self, input: &str, arguments: &[&str]) -> (i32, String) {
        let file = self.bench.path("input");
        fs::write(&file, input).unwrap();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bench.0.path().display());
        let mut command = Command::new(&self.path);
        command.args(arguments).env_clear().env("PATH", path).current_dir("/");
        let Output { status, stdout, stderr } =
            command.stdin(Stdio::from(fs::File::open(file).unwrap())).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.code().unwrap(), said.trim_end().to_owned())
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn is(status: i32, words: &str) -> (i32, String) {
    (status, words.to_owned())
}

/// Routing tables as the kernel shows them: interface, destination, gateway, flags, …, metric, mask, …
fn routes(rows: &[(&str, &str, &str, u32)]) -> String {
    let head =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n".to_owned();
    rows.iter().fold(head, |text, (interface, to, flags, metric)| {
        let mask = if *to == "00000000" { to } else { "00FFFFFF" };
        text + &format!("{interface}\t{to}\t0102A8C0\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    })
}

#[test]
fn every_example_is_a_program_and_is_run_here() {
    let here = include_str!("examples.rs");
    for directory in ["health.d", "hooks.d", "properties.d"] {
        let mut directories = vec![shipped(directory)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let name = path.strip_prefix(shipped("")).unwrap().display().to_string();
                let mode = path.metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o111, 0o111, "{name} cannot be executed");
                assert!(here.contains(&format!("(\"{name}\", ")), "{name} is not run by a test");
            }
        }
    }
}

#[test]
fn the_first_health_check_waits_for_the_start_and_asks_for_units_and_devices() {
    let bench = Bench::new();
    let device = bench.path("ttyS9").display().to_string();
    let check = bench.example("health.d/10-example", &[("UNITS", "app.service"), ("DEVICES", &device)]);
    bench.write("state", "starting\n");
    assert_eq!(check.run(), is(75, "the system is still starting"));
    bench.write("state", "maintenance\n");
    assert_eq!(check.run(), is(1, "the system is in rescue or emergency mode"));
    bench.write("state", "degraded\n");
    assert_eq!(check.run(), is(1, "app.service is failed"));
    bench.write("active", "app.service\n");
    assert_eq!(check.run(), is(75, &format!("{device} is not there")));
    bench.write("ttyS9", "");
    assert_eq!(check.run(), is(0, ""));
}

#[test]
fn a_unit_that_had_failed_before_is_not_held_against_the_new_system() {
    let bench = Bench::new();
    let note = bench.path("note").display().to_string();
    let hook = bench.example("hooks.d/pre-arm/80-note-failed-units", &[("NOTE", &note)]);
    let may_fail = "avahi-daemon.service";
    let check = bench.example("health.d/20-failed-units", &[("NOTE", &note), ("MAY_FAIL", may_fail)]);
    let failed = |units: &[&str]| {
        let line = |unit: &&str| format!("{unit} loaded failed failed Some service\n");
        bench.write("failed", &units.iter().map(line).collect::<String>());
    };
    failed(&["old.service"]);
    assert_eq!(check.run(), is(1, "failed, and did not before: old.service"));
    assert_eq!(hook.run(), is(0, ""));
    assert_eq!(bench.read("note"), "old.service\n");
    assert_eq!(check.run(), is(0, ""));
    failed(&["old.service", "new.service", may_fail]);
    assert_eq!(check.run(), is(1, "failed, and did not before: new.service"));
    // Nothing had failed before: an empty note is one.
    failed(&[]);
    assert_eq!((hook.run(), check.run()), (is(0, ""), is(0, "")));
    failed(&["old.service"]);
    assert_eq!(check.run().0, 1);
    bench.write("state", "starting\n");
    assert_eq!(check.run(), is(75, "the system is still starting"));
}

#[test]
fn the_network_is_there_when_there_is_a_default_route_and_hosts_answer() {
    let bench = Bench::new();
    let table = bench.path("route").display().to_string();
    let check = bench.example("health.d/30-network", &[("ROUTES", &table)]);
    let lan = ("eth0", "0002A8C0", "0001", 100);
    bench.write("route", &routes(&[lan]));
    assert_eq!(check.run(), is(75, "there is no default route"));
    bench.write("route", &routes(&[lan, ("eth0", "00000000", "0002", 100)]));
    assert_eq!(check.run().0, 75, "it is not up");
    bench.write("route", &routes(&[lan, ("eth0", "00000000", "0003", 100)]));
    assert_eq!(check.run(), is(0, ""));
    // IPv6 alone will do; what the kernel refuses by the loopback interface is none.
    bench.write("route", &routes(&[]));
    let v6 = |interface: &str| {
        let zeros = "0".repeat(32);
        format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 {interface}\n")
    };
    bench.write("ipv6_route", &v6("lo"));
    assert_eq!(check.run().0, 75);
    bench.write("ipv6_route", &(v6("lo") + &v6("eth0")));
    assert_eq!(check.run(), is(0, ""));
    let hosts = [("ROUTES", table.as_str()), ("HOSTS", "192.0.2.1 192.0.2.9")];
    let check = bench.example("health.d/30-network", &hosts);
    assert_eq!(check.run(), is(75, "192.0.2.9 does not answer"));
}

#[test]
fn a_full_disk_is_no_good_start() {
    let bench = Bench::new();
    let directory = bench.0.path().display().to_string();
    for (kib, status) in [("1", 0), ("99999999999999", 1)] {
        let wanted = format!("\n/ 1\n{directory} {kib}\n");
        let (found, said) = bench.example("health.d/40-disk-space", &[("WANTED", &wanted)]).run();
        assert_eq!((found, said.is_empty()), (status, status == 0), "{said}");
    }
    let missing = bench.example("health.d/40-disk-space", &[("WANTED", "/no/such/directory 1")]).run();
    assert_eq!(missing.0, 1, "{}", missing.1);
}

#[test]
fn a_metered_link_is_waited_out() {
    let bench = Bench::new();
    let table = bench.path("route").display().to_string();
    let hook = bench.example("hooks.d/pre-download/50-metered", &[("ROUTES", &table)]);
    let uplink = bench.example("properties.d/uplink.string", &[("ROUTES", &table)]);
    let (lte, lan) = (("wwan0", "00000000", "0003", 700), ("eth0", "00000000", "0003", 100));
    for (table, status, name) in [
        (routes(&[lte]), 75, "wwan0"),
        (routes(&[lte, lan]), 0, "eth0"),
        (routes(&[("usb0", "00000000", "0003", 9), lan]), 75, "usb0"),
        (routes(&[]), 0, ""),
    ] {
        bench.write("route", &table);
        let said = if status == 0 { String::new() } else { format!("{name} is metered") };
        assert_eq!(hook.run(), (status, said), "{table}");
        assert_eq!(uplink.told("", &["get"]), is(0, name));
    }
}

#[test]
fn the_application_is_stopped_when_it_is_idle_and_started_again() {
    let bench = Bench::new();
    let busy = bench.program("busy", "#!/bin/sh\ntest -e \"$(dirname \"$0\")/producing\"\n");
    let stop = bench.example("hooks.d/pre-arm/90-stop-application", &[("IS_BUSY", &busy)]);
    let start = bench.example("hooks.d/post-rollback/10-start-application", &[]);
    bench.write("producing", "");
    assert_eq!(stop.run(), is(75, "application.service is busy"));
    assert_eq!(bench.read("asked"), "");
    fs::remove_file(bench.path("producing")).unwrap();
    assert_eq!((stop.run(), start.run()), (is(0, ""), is(0, "")));
    assert_eq!(bench.read("asked"), "stop application.service\nstart application.service\n");
    bench.write("refused", "stop application.service\n");
    assert_eq!(stop.run().0, 1, "what does not stop is not switched away from");
}

#[test]
fn data_is_migrated_once_and_never_half() {
    let bench = Bench::new();
    let data = bench.path("data");
    fs::create_dir_all(data.join("form-1")).unwrap();
    bench.write("data/form-1/values", "1 2 3\n");
    std::os::unix::fs::symlink("form-1", data.join("current")).unwrap();
    let migrate = "#!/bin/sh\necho run >> \"$(dirname \"$0\")/runs\"\n\
                   test ! -e \"$(dirname \"$0\")/full\" || { echo half > \"$2/values\"; exit 1; }\n\
                   tr ' ' , < \"$1/values\" > \"$2/values\"\n";
    let settings = [("DATA", data.display().to_string()), ("MIGRATE", bench.program("migrate", migrate))];
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let hook = bench.example("hooks.d/post-commit/50-migrate-data", &settings);
    bench.write("full", "");
    assert_eq!(hook.run().0, 1);
    assert_eq!(bench.read("data/current/values"), "1 2 3\n", "the old form stays until the new one is whole");
    fs::remove_file(bench.path("full")).unwrap();
    for _ in 0..2 {
        assert_eq!(hook.run(), is(0, ""));
        assert_eq!(bench.read("data/current/values"), "1,2,3\n");
    }
    assert_eq!(bench.read("runs"), "run\nrun\n", "it is not done again");
}

#[test]
fn a_property_is_set_and_read_back() {
    let bench = Bench::new();
    let file = bench.path("site").display().to_string();
    let site = bench.example("properties.d/site.string.rw", &[("FILE", &file)]);
    assert_eq!(site.told("", &["get"]), is(0, ""));
    assert_eq!(site.told("Hall 7, north\n", &["set"]).0, 1, "no comma");
    assert_eq!(site.told("Hall 7 - north\n", &["set"]), is(0, ""));
    assert_eq!(site.told("", &["get"]), is(0, "Hall 7 - north"));
}
