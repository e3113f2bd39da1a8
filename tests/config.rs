//! The files that are shipped, read the way they are read on a device; and the drop-ins beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use twinboot::config::{Config, candidates};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/twinboot.toml")
}

/// A copy of the shipped file with drop-ins beside it.
fn installed(drop_ins: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let main = directory.path().join("twinboot.toml");
    fs::copy(shipped(), &main).expect("copied");
    fs::create_dir(directory.path().join("conf.d")).expect("created");
    for (name, text) in drop_ins {
        fs::write(directory.path().join("conf.d").join(name), text).expect("written");
    }
    (directory, main)
}

#[test]
fn the_shipped_file_loads_and_prints_as_what_it_is() {
    let config = Config::load(&shipped()).expect("the shipped file is right");
    let printed = config.to_toml();
    let note = format!("# {}:", shipped().display());
    assert_eq!(printed.matches(&note).count(), config.values_set());
    let (_directory, again) = installed(&[]);
    fs::write(&again, &printed).expect("written");
    assert_eq!(Config::load(&again).expect("the print is right").hub, config.hub);
}

#[test]
fn drop_ins_win_in_the_order_of_their_names() {
    let (_directory, main) = installed(&[
        ("90-site.toml", "[hub]\nkeep_alive = '3m'\n"),
        ("10-board.toml", "[hub]\nkeep_alive = '2m'\n[boot]\ntries = 5\n"),
        (".90-site.toml.swp", "\u{1}not toml"),
        ("README", "neither"),
        ("old.toml~", "nor this"),
    ]);
    let config = Config::load(&main).expect("right");
    assert_eq!(config.hub.keep_alive, Duration::from_secs(180));
    assert_eq!(config.boot.tries, 5);
    let origin = config.origin("hub.keep_alive").expect("set").to_string();
    assert!(origin.ends_with("conf.d/90-site.toml:2"), "{origin}");
}

#[test]
fn an_error_in_a_drop_in_names_that_file_and_line() {
    let (_directory, main) = installed(&[("50.toml", "[policy]\nconsnet = true\n")]);
    let error = Config::load(&main).expect_err("misspelt").to_string();
    assert!(error.contains("conf.d/50.toml:2: unknown key \"policy.consnet\"; did you mean"), "{error}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let (directory, main) = installed(&[]);
    fs::remove_file(&main).expect("removed");
    let error = Config::load(&main).expect_err("absent").to_string();
    assert!(error.contains("twinboot.toml: cannot be read: No such file"), "{error}");
    fs::copy(shipped(), &main).expect("copied");
    fs::write(directory.path().join("conf.d/1.toml"), [0xff, 0xfe]).expect("written");
    let error = Config::load(&main).expect_err("not text").to_string();
    assert!(error.contains("1.toml: cannot be read: "), "{error}");
    let error = Config::load(Path::new("/dev/zero")).expect_err("endless").to_string();
    assert!(error.contains("longer than 262144 bytes"), "{error}");
}

/// The values of a setting of a shipped unit.
fn unit(name: &str, setting: &str) -> Vec<String> {
    let text = fs::read_to_string(units().join(name)).expect("shipped");
    text.lines().filter_map(|line| line.strip_prefix(&format!("{setting}="))).map(str::to_owned).collect()
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

#[test]
fn the_units_provide_what_the_defaults_name() {
    let config = Config::default();
    let device = |setting| unit("twinboot.service", setting);
    let below = |base: &str, setting| Path::new(base).join(&device(setting)[0]);
    assert_eq!(config.control.socket.parent(), Some(&*below("/run", "RuntimeDirectory")));
    assert_eq!(config.state.directory, below("/var/lib", "StateDirectory"));
    assert_eq!(Path::new(Config::PATH).parent(), Some(&*below("/etc", "ConfigurationDirectory")));
    let socket = &unit("twinboot-net.socket", "ListenStream")[0];
    assert_eq!(device("ExecStart"), [format!("/usr/bin/twinboot run --net {socket}")]);
    assert_eq!(unit("twinboot-net.service", "ExecStart"), ["/usr/bin/twinboot net"]);
    assert_eq!(unit("twinboot-trial.service", "ExecStart"), ["/usr/bin/twinboot guard"]);
}

/// The guard is there wherever the daemon is to be, comes as far as any system does, and is not over before the daemon.
#[test]
fn the_guard_over_a_trial_needs_as_little_as_can_be() {
    assert_eq!(unit("twinboot.service", "Also"), ["twinboot-trial.timer"]);
    for name in ["twinboot-trial.timer", "twinboot-trial.service", "twinboot-trial-over.service"] {
        assert_eq!(unit(name, "DefaultDependencies"), ["no"], "{name}: also in emergency mode");
        for setting in ["Requires", "Requisite", "BindsTo", "After", "Wants"] {
            assert_eq!(unit(name, setting), [""; 0], "{name}: {setting}");
        }
    }
    assert_eq!(unit("twinboot-trial.service", "OnFailure"), ["twinboot-trial-over.service"]);
    // Its end, by systemd alone, and in a trial only.
    let over = |setting| unit("twinboot-trial-over.service", setting);
    assert_eq!(over("ConditionKernelCommandLine"), ["twinboot.trial=1"]);
    assert_eq!((over("SuccessAction"), over("ExecStart")), (vec!["reboot".to_owned()], vec![]));
    let minutes = unit("twinboot-trial.timer", "OnBootSec")[0].replace("min", "");
    let minutes: u64 = minutes.parse().expect("minutes");
    assert!(Config::default().health.deadline < std::time::Duration::from_secs(60 * minutes));
}

/// Keys go to the side with the network alone, and none that is missing keeps it from starting.
#[test]
fn the_network_side_is_given_the_keys_and_the_device_side_is_not() {
    let net = |setting| unit("twinboot-net.service", setting);
    let given: Vec<_> = net("LoadCredential");
    let config = Config::default();
    let names: Vec<_> =
        given.iter().filter_map(|it| it.split_once(":/etc/twinboot/")).map(|it| it.1).collect();
    for file in [&config.hub.connection_string_file, &config.provisioning.symmetric_key_file] {
        assert!(names.contains(&file.to_str().expect("text")), "{file:?}");
    }
    // Each by itself: systemd 249 loads no directories. The name alone is nobody's: a drop-in that loads it wins.
    let loaded = |from: &str, path: &str| {
        names.iter().map(|name| format!("{from}{name}:{path}/{name}")).collect::<Vec<_>>()
    };
    let places = [("shared_", "/var/lib/twinboot/credentials"), ("etc_", "/etc/twinboot")];
    assert_eq!(given, places.map(|(from, path)| loaded(from, path)).concat());
    let blank: Vec<_> =
        net("SetCredential").iter().map(|it| it.trim_end_matches(":\\n").to_owned()).collect();
    let called = ["", "shared_", "etc_"].map(|from| names.iter().map(move |name| format!("{from}{name}")));
    assert_eq!(blank, called.into_iter().flatten().collect::<Vec<_>>());
    // As what each is found again, in the order of the places themselves.
    let credentials = Path::new("/run/credentials/twinboot-net.service");
    for name in names {
        let sought = candidates(Path::new(name), Some(credentials));
        let given = ["", "shared_", "etc_"].map(|from| credentials.join(format!("{from}{name}")));
        assert_eq!(sought[..3], given);
        assert_eq!(sought[3..], places.map(|(_, path)| Path::new(path).join(name)));
    }
    assert_eq!(unit("twinboot.service", "LoadCredential"), [""; 0]);
}

#[test]
#[ignore = "peers: needs systemd-analyze"]
fn peers_the_units_are_what_systemd_understands_and_keep_their_walls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names: Vec<_> = fs::read_dir(units())
        .expect("shipped")
        .map(|entry| entry.expect("shipped").file_name().into_string().expect("text"))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in &names {
        let text = fs::read_to_string(units().join(name)).expect("shipped");
        // The program is not installed here.
        let lines = text.lines().map(|line| match line.split_once("=/usr/bin/twinboot") {
            Some((exec, _)) => format!("{exec}=/bin/true\n"),
            None => format!("{line}\n"),
        });
        fs::write(directory.path().join(name), lines.collect::<String>()).expect("written");
    }
    let analyze = |arguments: &[&str], name: &str| {
        let mut command = std::process::Command::new("systemd-analyze");
        let output = command.args(arguments).arg(directory.path().join(name)).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?} {name}: {said}");
        said
    };
    for name in &names {
        // The pages that they name are not installed either.
        assert_eq!(analyze(&["verify", "--man=no"], name), "", "{name}");
    }
    analyze(&["security", "--offline=true", "--threshold=20"], "twinboot.service");
    analyze(&["security", "--offline=true", "--threshold=15"], "twinboot-net.service");
    analyze(&["security", "--offline=true", "--threshold=40"], "twinboot-trial.service");
}

/// The examples that people copy: each is a configuration that loads, and sets something.
#[test]
fn the_examples_are_configurations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |file: &str| fs::read_to_string(root.join(file)).expect(file);
    let between = |file: &str, from: &str, to: &str| {
        let parts: Vec<_> =
            text(file).split(from).skip(1).map(|it| it.split(to).next().unwrap_or(it).to_owned()).collect();
        assert!(!parts.is_empty(), "{file}");
        parts
    };
    let mut examples = between("README.md", "```toml\n", "```");
    let page = between("packaging/manual/pages/twinboot.toml.5", "\n.EX\n", ".EE");
    examples.extend(page.iter().map(|example| example.replace("\\-", "-")));
    examples.push(text("packaging/yocto/examples/twinboot/edison/50-board.toml"));
    for example in examples {
        let (_directory, main) = installed(&[("50-example.toml", &example)]);
        let config = Config::load(&main).unwrap_or_else(|error| panic!("{example}\n{error}"));
        assert!(config.to_toml().contains("conf.d/50-example.toml:"), "{example}");
    }
}
