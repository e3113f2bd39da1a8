//! A page: what a person wrote in `pages/`, with what the program knows put where it says `@verb`, `@verbs`, `@options`,
//! `@settings` or `@messages`, alone on a line, and `@VERSION@` anywhere.

use anyhow::{Context as _, Result, ensure};
use clap::Command;

use crate::{messages, settings, verbs};

/// What the pages are made from besides themselves.
pub(crate) struct Sources<'a> {
    /// The command line that the page is about.
    pub(crate) program: &'a Command,
    /// The annotated configuration.
    pub(crate) toml: &'a str,
    /// The journal's catalog.
    pub(crate) catalog: &'a str,
}

/// Puts in what is asked for.
///
/// # Errors
///
/// The page asks for a verb that there is not, or, if it tells verbs, not for one that there is.
pub(crate) fn fill(page: &str, sources: &Sources<'_>) -> Result<String> {
    let (mut roff, mut told) = (String::new(), Vec::new());
    for (at, line) in page.lines().enumerate() {
        let line = line.replace("@VERSION@", sources.program.get_version().unwrap_or_default());
        let part = directive(&line, sources, &mut told).with_context(|| format!("line {}", at + 1))?;
        roff.push_str(&part.unwrap_or(line + "\n"));
    }
    if !told.is_empty() {
        let untold: Vec<_> = verbs::all(sources.program).into_iter().map(|it| it.join(" ")).collect();
        let untold: Vec<_> = untold.iter().filter(|it| !told.contains(it)).map(String::as_str).collect();
        ensure!(untold.is_empty(), "nothing is told about: {}", untold.join(", "));
    }
    Ok(roff)
}

fn directive(line: &str, sources: &Sources<'_>, told: &mut Vec<String>) -> Result<Option<String>> {
    let Some(words) = line.strip_prefix('@') else { return Ok(None) };
    let words: Vec<_> = words.split(' ').collect();
    Ok(Some(match words.as_slice() {
        ["verb", path @ ..] => {
            told.push(path.join(" "));
            verbs::heading(sources.program, path)?
        }
        ["verbs"] => verbs::whole(sources.program)?,
        ["options", path @ ..] => verbs::list(sources.program, path)?,
        ["settings"] => settings::list(sources.toml)?,
        ["messages"] => messages::list(sources.catalog)?,
        _ => anyhow::bail!("{line:?} means nothing"),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn filled(page: &str) -> Result<String> {
        let open = Command::new("open")
            .about("Open it")
            .arg(clap::Arg::new("by").long("by").value_name("TOOL").help("Break it"));
        let verbs = [open, Command::new("close").about("Close it")];
        let mut program =
            Command::new("door").version("1.2").subcommands(verbs).disable_help_subcommand(true);
        program.build();
        fill(page, &Sources { program: &program, toml: "", catalog: "" })
    }

    #[test]
    fn a_page_keeps_its_words_and_gets_those_of_the_program() {
        let page = filled(".TH DOOR 1 @VERSION@\n@verb open\nSlowly.\n@options open\n@verb close\n");
        let page = page.unwrap();
        assert!(
            page.starts_with(".TH DOOR 1 1.2\n.SS open\n\\fBdoor open\\fR [\\fB\\-\\-by\\fR \\fITOOL\\fR]"),
            "{page}"
        );
        assert!(page.contains("\nOpen it.\nSlowly.\n.TP\n"), "{page}");
    }

    #[test]
    fn verbs_that_are_not_told_or_are_not_there_are_errors() {
        assert_eq!(filled("@verb open\n").unwrap_err().to_string(), "nothing is told about: close");
        assert!(
            format!("{:#}", filled("@verb lock\n").unwrap_err())
                .contains("line 1: there is no verb \"lock\"")
        );
        assert!(filled("@opitons open\n").is_err());
    }
}
