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
