//! Writes man pages and completions: `manual DIRECTORY`.
//!
//! They are laid out as packages install them, `DIRECTORY/PACKAGE/usr/share/…`, and say the same wherever and whenever
//! they are made. Pages are `pages/` with what the program itself knows filled in; completions are clap's.

// The fleet's command line is no part of a library. What is not used of it here is used there.
#[path = "../../../src/bin/twinboot-fleet/arguments/mod.rs"]
#[allow(dead_code, unused_imports)]
mod fleet;
mod messages;
mod page;
mod prose;
mod settings;
mod verbs;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use page::Sources;

/// A page: its name with its section, and its text.
type Page = (&'static str, &'static str);

/// A program, which is a package of the same name, and the pages about it.
struct Program {
    command: Command,
    pages: &'static [Page],
}

const TWINBOOT: [Page; 4] = [
    ("twinboot.8", include_str!("../pages/twinboot.8")),
    ("twinboot.toml.5", include_str!("../pages/twinboot.toml.5")),
    ("twinboot-journal.7", include_str!("../pages/twinboot-journal.7")),
    ("twinboot-programs.7", include_str!("../pages/twinboot-programs.7")),
];

const FLEET: [Page; 2] = [
    ("twinboot-fleet.1", include_str!("../pages/twinboot-fleet.1")),
    ("twinboot-bundle.5", include_str!("../pages/twinboot-bundle.5")),
];

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: manual DIRECTORY")?;
    write_all(Path::new(&directory))
}

fn programs() -> [Program; 2] {
    [
        Program { command: twinboot::cli::Arguments::command(), pages: &TWINBOOT },
        Program { command: fleet::command(), pages: &FLEET },
    ]
}

fn write_all(directory: &Path) -> Result<()> {
    for Program { mut command, pages } in programs() {
        command.build();
        let share = directory.join(command.get_name()).join("usr/share");
        let sources = Sources {
            program: &command,
            toml: include_str!("../../../config/twinboot.toml"),
            catalog: include_str!("../../twinboot.catalog"),
        };
        for (name, page) in pages {
            let (_, section) = name.rsplit_once('.').context("a page has a section")?;
            let filled = page::fill(page, &sources).with_context(|| format!("pages/{name}"))?;
            write(&share.join(format!("man/man{section}")).join(name), filled.as_bytes())?;
        }
        for (shell, file) in completions(command.get_name()) {
            let mut script = Vec::new();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut script);
            write(&share.join(file), &script)?;
        }
    }
    Ok(())
}

/// The shells, and where Debian's look for what a package completes.
fn completions(name: &str) -> [(Shell, PathBuf); 3] {
    [
        (Shell::Bash, format!("bash-completion/completions/{name}").into()),
        (Shell::Zsh, format!("zsh/vendor-completions/_{name}").into()),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish").into()),
    ]
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, bytes))
        .with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_program_gets_its_pages_and_completions_with_nothing_left_to_fill_in() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path()).unwrap();
        for program in programs() {
            let share = directory.path().join(program.command.get_name()).join("usr/share");
            for (name, _) in program.pages {
                let (_, section) = name.rsplit_once('.').unwrap();
                let page = fs::read_to_string(share.join(format!("man/man{section}/{name}"))).unwrap();
                let heading = format!(".TH {} {section} ", name.rsplit_once('.').unwrap().0.to_uppercase());
                assert!(page.contains(&heading), "{name}: {heading}");
                assert!(!page.lines().any(|line| line.starts_with('@')), "{name}");
                assert!(page.contains("\n.SH SEE ALSO\n"), "{name}");
            }
            for (_, file) in completions(program.command.get_name()) {
                assert!(fs::metadata(share.join(&file)).unwrap().len() > 1000, "{}", file.display());
            }
        }
    }
}
