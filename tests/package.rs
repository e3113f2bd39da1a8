//! What the Debian package says, against what the rest of the repository says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

#[test]
fn the_package_has_the_version_of_the_program() {
    let changelog = read("packaging/debian/changelog");
    let (_, rest) = changelog.split_once('(').expect("a version in brackets");
    let (version, _) = rest.split_once(')').expect("a version in brackets");
    // A tilde sorts before the release, as Cargo's hyphen does.
    assert_eq!(version, env!("CARGO_PKG_VERSION").replacen('-', "~", 1));
}

/// The directories below `/etc/twinboot` that a file names.
fn directories(text: &str) -> BTreeSet<&str> {
    let names = text.split("etc/twinboot/").skip(1);
    let names = names.filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next());
    names.map(|name| name.trim_end_matches('.')).filter(|name| name.ends_with(".d")).collect()
}

#[test]
fn the_directories_that_the_configuration_names_are_in_the_package() {
    let (packaged, configuration) = (read("packaging/debian/twinboot.dirs"), read("config/twinboot.toml"));
    let mut wanted = directories(&configuration);
    // Read beside the main file, without being named in it.
    wanted.insert("conf.d");
    assert!(wanted.contains("health.d"), "{wanted:?}");
    let packaged = directories(&packaged);
    assert!(packaged.is_superset(&wanted), "{packaged:?} is less than {wanted:?}");
}

/// Whoever looks for where keys belong finds what they are.
#[test]
fn the_directory_of_keys_comes_with_a_readme_and_without_a_key() {
    let packaged = read("packaging/debian/twinboot.install");
    assert!(packaged.contains("source/packaging/keys.d/README etc/twinboot/keys.d\n"), "{packaged}");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/keys.d");
    let names: Vec<_> =
        fs::read_dir(directory).expect("it is there").map(|it| it.expect("a name").file_name()).collect();
    assert_eq!(names, ["README"]);
    assert!(read("packaging/keys.d/README").contains("openssl pkey -in root.key -pubout"));
}

/// The unit is there for whoever puts the rule in place, and nothing else of the package starts it.
#[test]
fn a_medium_is_installed_from_only_where_somebody_wants_that() {
    let (rule, unit) =
        (read("packaging/examples/72-twinboot-medium.rules"), read("systemd/twinboot-medium@.service"));
    let rule: Vec<_> = rule.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let [rule] = rule.as_slice() else { panic!("one rule is one line: {rule:?}") };
    for part in [
        r#"ENV{ID_FS_LABEL}=="TWINBOOT""#,
        r#"TAG+="systemd""#,
        r#"ENV{SYSTEMD_WANTS}+="twinboot-medium@%k.service""#,
    ] {
        assert!(rule.split(", ").any(|it| it == part), "{part}: {rule}");
    }
    assert!(!unit.contains("[Install]"), "nobody enables it by the way");
    assert!(!read("packaging/debian/twinboot.install").contains("rules"), "the rule is an example");
    assert!(!read("packaging/debian/rules").contains("medium"));
    // What is mounted cannot do anything but be read.
    let mount = unit.lines().find(|line| line.contains("/bin/mount ")).expect("it is mounted");
    let options = mount.split(" -o ").nth(1).and_then(|it| it.split(' ').next()).expect("with options");
    let mut options: Vec<_> = options.split(',').collect();
    options.sort_unstable();
    assert_eq!(options, ["nodev", "noexec", "nosuid", "ro"]);
    // A unit's mounts are its own otherwise, and gone with the command.
    for command in ["/usr/bin/mount ", "/usr/bin/umount "] {
        let line = unit.lines().find(|line| line.contains(command)).expect(command);
        assert!(line.contains("+/usr/bin/nsenter --target 1 --mount -- "), "{line}");
    }
    // A system that is put together from single packages has none of these by itself, and somebody has to say so.
    let version = env!("CARGO_PKG_VERSION");
    let recipe = read(&format!("packaging/yocto/recipes-core/twinboot/twinboot_{version}.bb"));
    let recommends =
        recipe.lines().find(|line| line.starts_with("RRECOMMENDS:${PN} = ")).expect("it recommends");
    for program in ["mount", "nsenter", "umount"] {
        assert!(unit.contains(&format!("/usr/bin/{program} ")), "{program}");
        assert!(
            recommends.split(['"', ' ']).any(|it| it == format!("util-linux-{program}")),
            "{program}: {recommends}"
        );
    }
    // It is denied otherwise, whoever calls it: what a unit may do with devices holds all its processes.
    assert!(mount.contains(" /dev/%I "), "{mount}");
    assert!(unit.contains("\nDeviceAllow=/dev/%I r\n"));
    // The same kinds of file systems are asked for by the rule, and mounted by the unit.
    let kinds = mount.split(" -t ").nth(1).and_then(|it| it.split(' ').next()).expect("with kinds");
    assert!(
        rule.contains(&format!(r#"ENV{{ID_FS_TYPE}}=="{}""#, kinds.replace(',', "|"))),
        "{kinds}: {rule}"
    );
    assert!(unit.contains("install --signed-only --wait --from-medium /run/twinboot-medium/%i\n"));
}
