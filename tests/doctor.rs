//! `twinboot doctor` on a simulated board: one that is well is told to be, and of each that is not, just what is wrong.
//!
//! The daemon, the environment's bytes, the hub are real; what a machine's kernel and `/etc` say are files here.
#![allow(clippy::unwrap_used)]

#[path = "doctor/planted.rs"]
mod planted;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use support::env::Variables;
use support::{Checked, Cloud, Recipe, Sides, SimDevice};

/// Far longer than anything here takes, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(40);

static V1: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("1.0.0", 1 << 20).make());

/// A root key, as OpenSSL writes its public half.
const ROOT: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAbFwAlRhm0cqT+itSDynMAfhj2Tgz53ZOmNgNzKjZuBs=\n-----END PUBLIC KEY-----\n";

/// What the command line of its kernel says beside `root=`.
const ARGUMENTS: &str = "rootwait init=/sbin/init panic=10";

/// The variables of a board that goes back by itself.
const VARIABLES: [(&str, &str); 8] = [
    ("bootdelay", "0"),
    ("bootcmd", "run boot_slot; reset"),
    ("altbootcmd", "run flip_slot; saveenv; run bootcmd"),
    (
        "flip_slot",
        "if test ${slot} = a; then setenv slot b; else setenv slot a; fi; setenv upgrade_available 0; setenv bootcount 0",
    ),
    ("bootlimit", "3"),
    ("slot", "a"),
    ("upgrade_available", "0"),
    ("bootcount", "0"),
];

/// A board that runs version 1.0.0 from slot A and is connected.
struct Board {
    cloud: Cloud,
    device: SimDevice,
}

impl Board {
    /// One that nothing is wrong with, and whose loader has shown that it reads what is written.
    fn well() -> Checked<Self> {
        let cloud = Cloud::start("gateway")?.with(Sides::One);
        let device = cloud.device(&V1, "[control]\ngroup = \"root\"\n")?;
        let board = Self { cloud, device };
        board.variables(&[])?;
        board.furnish()?;
        board.boot()?;
        board.doctor(&["--canary"])?;
        board.device.power_cut();
        board.boot()?;
        board.hand_on(board.device.environment().load().unwrap().text("twinboot_canary"))?;
        Ok(board)
    }

    /// The machine's own files, beside those that every simulated device has.
    fn furnish(&self) -> Checked {
        let state = self.device.path("state").canonicalize()?;
        let state = state.display();
        for (name, text) in [
            (
                "etc/fstab",
                format!("# <what> <where> <kind>\nPARTLABEL=data {state} ext4 defaults,noatime 0 2\n"),
            ),
            (
                "proc/self/mountinfo",
                format!(
                    "25 1 179:2 / / rw,relatime - ext4 /dev/root rw\n\
                     31 25 179:7 / {state} rw,noatime shared:9 - ext4 /dev/mmcblk0p7 rw\n"
                ),
            ),
            ("proc/sys/kernel/panic", "10\n".to_owned()),
            ("sys/class/watchdog/watchdog0/identity", "Board watchdog\n".to_owned()),
            ("sys/class/watchdog/watchdog0/state", "active\n".to_owned()),
            ("sys/class/watchdog/watchdog0/timeout", "30\n".to_owned()),
            ("sys/class/rtc/rtc0/name", "rtc\n".to_owned()),
            ("run/systemd/timesync/synchronized", String::new()),
        ] {
            self.write(name, &text)?;
        }
        fs::create_dir_all(self.machine("tmp"))?;
        self.key("root.pem", ROOT)?;
        self.configure("[trust]\nproduct = \"gateway\"\ncompatible = [\"rev-b\"]\n")?;
        fs::rename(self.device.path("conf.d/60-planted.toml"), self.device.path("conf.d/55-trust.toml"))?;
        for unit in ["multi-user.target.wants/twinboot.service", "timers.target.wants/twinboot-trial.timer"] {
            let link = self.machine(&format!("etc/systemd/system/{unit}"));
            fs::create_dir_all(link.parent().unwrap())?;
            symlink("/usr/lib/systemd/system/unit", link)?;
        }
        Ok(())
    }

    /// Switches it on and waits until it is connected.
    fn boot(&self) -> Checked {
        self.device.power_on()?;
        self.hand_on("")?;
        let connected = |status: &Value| status["hub"]["connected"] == true && status["phase"] == "idle";
        self.device.wait_status("connected", self.device.now().saturating_sub(1), LIMIT, connected)?;
        Ok(())
    }

    /// The command line of its kernel, with what the loader read of the canary.
    fn hand_on(&self, canary: &str) -> Checked {
        self.write("proc/cmdline", &format!("{} twinboot.canary={canary}\n", self.root_and_arguments()))
    }

    fn root_and_arguments(&self) -> String {
        format!("root={} {ARGUMENTS}", self.device.path("slot-a").display())
    }

    /// Gives the environment these variables beside the usual ones, keeping its canary; an empty value removes one.
    fn variables(&self, other: &[(&str, &str)]) -> Checked {
        let canary = self.device.environment().load().map(|it| it.text("twinboot_canary").to_owned());
        let mut all: Vec<_> =
            VARIABLES.into_iter().filter(|(name, _)| other.iter().all(|it| it.0 != *name)).collect();
        all.extend(other.iter().copied().filter(|(_, value)| !value.is_empty()));
        let canary = canary.unwrap_or_default();
        if !canary.is_empty() {
            all.push(("twinboot_canary", &canary));
        }
        self.device.environment().format(&Variables::new(&all))?;
        Ok(())
    }

    /// A file of the machine.
    fn machine(&self, name: &str) -> PathBuf {
        self.device.path("machine").join(name)
    }

    fn write(&self, name: &str, text: &str) -> Checked {
        let path = self.machine(name);
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(path, text)?;
        Ok(())
    }

    fn mode(&self, name: &str, mode: u32) -> Checked {
        fs::set_permissions(self.device.path(name), fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// A file beside its root keys.
    fn key(&self, name: &str, text: &str) -> Checked {
        let path = format!("keys.d/{name}");
        fs::write(self.device.path(&path), text)?;
        self.mode(&path, 0o644)
    }

    /// Makes it known by a certificate that counts since so many days, and ends in so many.
    fn certificate(&self, before: u64, ends: i64) -> Checked {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let (day, now) = (24 * 60 * 60, SystemTime::now());
        params.not_before = (now - Duration::from_secs(before * day)).into();
        params.not_after = if ends < 0 {
            (now - Duration::from_secs(ends.unsigned_abs() * day)).into()
        } else {
            (now + Duration::from_secs(ends.unsigned_abs() * day)).into()
        };
        for (name, text, mode) in [
            ("device.pem", params.self_signed(&key).unwrap().pem(), 0o644),
            ("device.key", key.serialize_pem(), 0o600),
        ] {
            fs::write(self.device.path(name), text)?;
            self.mode(name, mode)?;
        }
        let path = |name| self.device.path(name).display().to_string();
        let (certificate, key) = (path("device.pem"), path("device.key"));
        self.configure(&format!("[hub]\ncertificate_file = {certificate:?}\nprivate_key_file = {key:?}\n"))
    }

    /// Adds to its configuration.
    fn configure(&self, text: &str) -> Checked {
        let path = self.device.path("conf.d/60-planted.toml");
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// The exit status and what is said, as JSON.
    fn doctor(&self, arguments: &[&str]) -> Checked<(i32, Value)> {
        let (code, said) = self.device.command(&[&["doctor", "--json"], arguments].concat())?;
        Ok((code.unwrap(), serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))))
    }

    /// What is not well: level, check, what, remedy.
    fn ills(&self) -> Checked<Vec<[String; 4]>> {
        let (code, said) = self.doctor(&[])?;
        let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let all = said["checks"].as_array().unwrap().iter();
        let all = all.map(|it| ["level", "check", "what", "remedy"].map(|name| text(it, name)));
        let ills: Vec<_> = all.filter(|[level, ..]| level != "ok").collect();
        let has_failed = ills.iter().any(|[level, ..]| level == "fail");
        assert_eq!(code, i32::from(has_failed), "{said:#}");
        assert_eq!(
            said["verdict"],
            if has_failed {
                "fail"
            } else if ills.is_empty() {
                "ok"
            } else {
                "warn"
            }
        );
        Ok(ills)
    }
}

#[test]
fn a_board_that_is_well_is_told_to_be() -> Checked {
    let board = Board::well()?;
    let before = fs::read(board.device.environment().copy(0))?;
    assert_eq!(board.ills()?, Vec::<[String; 4]>::new());
    let (code, said) = board.device.command(&["doctor", "--strict"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" ok, 0 warn, 0 fail: this board can be trusted"), "{said}");
    assert!(!said.contains(&board.cloud.key()?));
    assert_eq!(fs::read(board.device.environment().copy(0))?, before, "looking writes nothing");
    Ok(())
}

#[test]
fn each_check_is_told_by_a_name_of_its_own() -> Checked {
    let board = Board::well()?;
    let (_, said) = board.doctor(&[])?;
    let mut names: Vec<_> =
        said["checks"].as_array().unwrap().iter().map(|it| it["check"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
    assert!(all >= 25, "{names:?}");
    Ok(())
}

#[test]
fn a_canary_is_written_once_and_asks_for_a_reboot() -> Checked {
    let board = Board::well()?;
    let came_back = board.device.environment().load().unwrap().text("twinboot_canary").to_owned();
    let (code, said) = board.doctor(&["--canary"])?;
    assert_eq!(code, 0);
    let written = board.device.environment().load().unwrap();
    assert_ne!(written.text("twinboot_canary"), came_back);
    for (name, value) in VARIABLES {
        assert_eq!(written.text(name), value);
    }
    assert_eq!(board.device.environment().sound_copies(), 2);
    let canary = said["checks"].as_array().unwrap().iter().find(|it| it["check"] == "canary").unwrap();
    assert_eq!((&canary["level"], &canary["remedy"]), (&"warn".into(), &"reboot, and ask again".into()));
    // An update is not disturbed.
    board.variables(&[("slot", "b"), ("upgrade_available", "1")])?;
    let (code, _) = board.doctor(&["--canary"])?;
    assert_eq!(code, 1);
    Ok(())
}

/// Without a daemon it goes through to the hub by itself.
#[test]
fn without_the_service_the_hub_is_tried_from_here() -> Checked {
    let board = Board::well()?;
    board.device.stop_daemon()?;
    let ills = board.ills()?;
    assert_eq!(ills.len(), 1, "{ills:?}");
    assert_eq!([&ills[0][0], &ills[0][1]], ["warn", "service"]);
    let (code, said) = board.device.command(&["doctor", "--strict"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("lets this device in"), "{said}");
    // A hub that is not there.
    let file = board.device.path("connection-string");
    let nowhere = "HostName=localhost:1;DeviceId=gateway;SharedAccessKey=c2VjcmV0LWtleS1vZi1ub2JvZHk=\n";
    fs::write(&file, nowhere)?;
    let ills = board.ills()?;
    assert!(
        ills.iter().any(|it| it[0] == "fail" && it[1] == "hub" && it[2].contains("localhost")),
        "{ills:?}"
    );
    Ok(())
}

#[test]
fn a_configuration_that_cannot_be_read_is_the_first_thing_to_put_right() -> Checked {
    let board = Board::well()?;
    board.configure("[policy]\nconsnet = true\n[slots]\na = 7\n")?;
    let ills = board.ills()?;
    assert_eq!(ills.len(), 2, "{ills:?}");
    assert!(ills.iter().all(|it| it[0] == "fail" && it[1] == "configuration"), "{ills:?}");
    assert!(ills[0][2].contains("60-planted.toml:2: unknown key"), "{ills:?}");
    Ok(())
}
