//! The command line as roff: how each verb is called, and its options.

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction, Command};

use crate::prose::{self, bold, italic, paragraph};

/// The verb that `path` names, such as `["properties", "get"]`.
///
/// # Errors
///
/// There is no such verb.
pub(crate) fn find<'a>(program: &'a Command, path: &[&str]) -> Result<&'a Command> {
    path.iter().try_fold(program, |command, name| {
        command.find_subcommand(name).with_context(|| format!("there is no verb {name:?}"))
    })
}

/// Every verb that can be called, by its path: one with further verbs is there, and so are these.
pub(crate) fn all(program: &Command) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    for verb in program.get_subcommands().filter(|it| !it.is_hide_set()) {
        paths.push(vec![verb.get_name()]);
        for mut path in all(verb) {
            path.insert(0, verb.get_name());
            paths.push(path);
        }
    }
    paths
}

/// The heading of a verb, how it is called, and what it does in one sentence.
///
/// # Errors
///
/// There is no such verb.
pub(crate) fn heading(program: &Command, path: &[&str]) -> Result<String> {
    let verb = find(program, path)?;
    let name = path.join(" ");
    let mut roff =
        format!(".SS {}\n{}", name.replace('-', "\\-"), bold(&format!("{} {name}", program.get_name())));
    for argument in options(verb).chain(verb.get_positionals()) {
        roff.push(' ');
        roff.push_str(&synopsis(argument));
    }
    let about = verb.get_about().with_context(|| format!("{name}: nothing says what it does"))?;
    Ok(format!("{roff}\n.PP\n{}.\n", paragraph(&about.to_string())))
}

/// A list of the options and arguments of a verb; of the whole program if `path` is empty.
///
/// # Errors
///
/// There is no such verb.
pub(crate) fn list(program: &Command, path: &[&str]) -> Result<String> {
    let command = find(program, path)?;
    let global =
        command.get_arguments().filter(|it| path.is_empty() && !it.is_positional() && !it.is_hide_set());
    let own = options(command).filter(|_| !path.is_empty()).chain(command.get_positionals());
    let mut roff = String::new();
    for argument in global.chain(own) {
        let help = argument.get_help().with_context(|| format!("{}: no help", argument.get_id()))?;
        let short =
            argument.get_short().map(|it| format!("{}, ", bold(&format!("-{it}")))).unwrap_or_default();
        let default = argument.get_default_values().first().filter(|_| argument.get_action().takes_values());
        let default =
            default.map(|it| format!(" (default: {})", bold(&it.to_string_lossy()))).unwrap_or_default();
        roff.push_str(&format!(
            ".TP\n{short}{}\n{}{default}.\n",
            name(argument),
            paragraph(&help.to_string())
        ));
    }
    Ok(roff)
}

/// All verbs, with what their help says besides: where the help is written as a manual, that is the page.
///
/// # Errors
///
/// A verb or an option without a sentence of its own.
pub(crate) fn whole(program: &Command) -> Result<String> {
    let mut roff = String::new();
    for path in all(program) {
        roff.push_str(&heading(program, &path)?);
        roff.push_str(&list(program, &path)?);
        let help = find(program, &path)?.get_after_help().map(ToString::to_string).unwrap_or_default();
        roff.push_str(&text(&help));
    }
    Ok(roff)
}

/// A text of paragraphs with empty lines between them, in which lines that begin with two blanks stay as they are.
fn text(help: &str) -> String {
    let is_typed = |line: &str| line.starts_with("  ");
    let mut roff = String::new();
    for block in help.split("\n\n") {
        let lines: Vec<_> = block.lines().collect();
        for group in lines.chunk_by(|a, b| is_typed(a) == is_typed(b)) {
            if is_typed(group[0]) {
                let typed: String = group.iter().map(|line| prose::typed(line.trim_start()) + "\n").collect();
                roff.push_str(&format!(".PP\n.in +4\n.EX\n{typed}.EE\n.in\n"));
            } else {
                roff.push_str(&format!(".PP\n{}\n", paragraph(&group.join(" "))));
            }
        }
    }
    roff
}

/// The options of a verb that are not those of every verb.
fn options(verb: &Command) -> impl Iterator<Item = &Arg> {
    verb.get_opts().chain(flags(verb)).filter(|it| !it.is_global_set() && !it.is_hide_set())
}

fn flags(verb: &Command) -> impl Iterator<Item = &Arg> {
    let is_flag = |it: &&Arg| {
        !it.is_positional()
            && !it.get_action().takes_values()
            && !matches!(it.get_action(), ArgAction::Help | ArgAction::Version)
    };
    verb.get_arguments().filter(is_flag)
}

/// An option with its value, or an argument, as it is written.
fn name(argument: &Arg) -> String {
    let values: Vec<_> = argument.get_value_names().unwrap_or_default().iter().map(|it| italic(it)).collect();
    let values = values.join(" ");
    match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => {
            format!("{} {values}", bold(&format!("--{long}")))
        }
        Some(long) => bold(&format!("--{long}")),
        None => values,
    }
}

fn synopsis(argument: &Arg) -> String {
    let more = argument.get_num_args().is_some_and(|it| it.max_values() > 1);
    let name = format!("{}{}", name(argument), if more { " ..." } else { "" });
    if argument.is_required_set() { name } else { format!("[{name}]") }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_is_typed_stays_as_it_is() {
        assert_eq!(
            text("One\nparagraph.\n\nExamples:\n  a -b\n  .c"),
            ".PP\nOne paragraph.\n.PP\nExamples:\n.PP\n.in +4\n.EX\na \\-b\n\\&.c\n.EE\n.in\n"
        );
        assert_eq!(text(""), "");
    }
}
