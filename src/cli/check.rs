//! `twinboot check-config`: the configuration that results on standard output; on standard error what is wrong with it,
//! and with what it names on this machine.

use std::path::Path;

use super::Exit;
use super::output::{clean, complain, say};
use crate::config::{Config, Finding, Weight};

/// Prints all that can be found out.
pub(super) fn show(path: &Path, inspect: impl FnOnce(&Config) -> Vec<Finding>) -> Exit {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let remedy = "correct what these lines name, and ask again; the keys and what they take: the shipped \
                          twinboot.toml, or man twinboot.toml";
            complain(&error.to_string(), remedy);
            return Exit::Failed;
        }
    };
    say(config.to_toml().trim_end());
    let mut findings = inspect(&config);
    // The worst first; of the same weight as they were found.
    findings.sort_by_key(|finding| finding.weight);
    for finding in &findings {
        complain(&line(finding), &clean(&finding.remedy));
    }
    if findings.iter().any(|finding| finding.weight == Weight::Error) { Exit::Failed } else { Exit::Done }
}

fn line(finding: &Finding) -> String {
    let weight = match finding.weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
        Weight::Unseen => "not looked at",
        Weight::Note => "note",
    };
    clean(&format!("{weight}: {}: {}", finding.key, finding.what))
}
