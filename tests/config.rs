//! The files that are shipped, read the way they are read on a device; and the drop-ins beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use twinboot::config::Config;

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

/// The values of a setting of the shipped unit.
fn unit(setting: &str) -> Vec<String> {
    let text = fs::read_to_string(service()).expect("shipped");
    text.lines().filter_map(|line| line.strip_prefix(&format!("{setting}="))).map(str::to_owned).collect()
}

fn service() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/twinboot.service")
}

#[test]
fn the_unit_provides_what_the_defaults_name() {
    let config = Config::default();
    let below = |base: &str, setting| Path::new(base).join(&unit(setting)[0]);
    assert_eq!(config.control.socket.parent(), Some(&*below("/run", "RuntimeDirectory")));
    assert_eq!(config.state.directory, below("/var/lib", "StateDirectory"));
    assert_eq!(Path::new(Config::PATH).parent(), Some(&*below("/etc", "ConfigurationDirectory")));
    let credential = config.hub.connection_string_file.to_str().expect("text");
    assert_eq!(unit("LoadCredential"), [format!("{credential}:/etc/twinboot/{credential}")]);
    assert_eq!(unit("ExecStart"), ["/usr/bin/twinboot run"]);
}

#[test]
#[ignore = "peers: needs systemd-analyze"]
fn peers_the_unit_is_what_systemd_understands_and_keeps_its_walls() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("twinboot.service");
    let text = fs::read_to_string(service()).expect("shipped");
    // The program is not installed here.
    fs::write(&path, text.replace("/usr/bin/twinboot run", "/bin/true")).expect("written");
    let analyze = |arguments: &[&str]| {
        let output = std::process::Command::new("systemd-analyze").args(arguments).arg(&path).output();
        let output = output.expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    assert_eq!(analyze(&["verify"]), "");
    analyze(&["security", "--offline=true", "--threshold=30"]);
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
