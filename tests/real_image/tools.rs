//! Small things that every part needs.

use std::path::Path;
use std::process::Command;

use twinboot::model::Sha256;

/// The digest of a file.
pub(crate) fn sha256(path: &Path) -> Sha256 {
    let output = run(Command::new("sha256sum").arg(path));
    output.split_whitespace().next().unwrap().parse().unwrap()
}

/// What a program prints; it must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The next of a row of numbers that looks random, and is the same for the same beginning.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}
