//! `config/twinboot.toml` as roff: it is the one place where keys are explained, and holds the defaults itself.
//!
//! What a comment is about is told by where it stands: above a key, it explains that one and those that follow at once;
//! before an empty line, it introduces its section. `#key = …` is a key without a default and an example of its value.
//! Within a comment, lines that begin with blanks are a list: a word, two blanks or more, and what is said about it,
//! which goes on in lines with more blanks.

use anyhow::{Context as _, Result};

use crate::prose::{bold, paragraph};

/// Keys that are explained together.
struct Entry<'a> {
    /// Each with its value, and whether that is only an example.
    keys: Vec<(&'a str, &'a str, bool)>,
    comment: Vec<&'a str>,
}

/// A heading for each section, and below it its keys. What stands before the first section is left out.
///
/// # Errors
///
/// A key that nothing explains.
pub(crate) fn list(toml: &str) -> Result<String> {
    let (mut roff, mut entries, mut comment) = (String::new(), Vec::<Entry<'_>>::new(), Vec::new());
    let lines = toml.lines().enumerate().skip_while(|(_, line)| section(line).is_none());
    for (at, line) in lines {
        if let Some(name) = section(line) {
            flush(&mut roff, &mut entries);
            roff.push_str(&format!(".SS [{name}]\n{}", told(&std::mem::take(&mut comment))));
        } else if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let (key, example) = key.strip_prefix('#').map_or((key, false), |key| (key, true));
            if comment.is_empty() {
                let last = entries.last_mut();
                let last = last.with_context(|| format!("line {}: nothing explains {key}", at + 1))?;
                last.keys.push((key, value, example));
            } else {
                let comment = std::mem::take(&mut comment);
                entries.push(Entry { keys: vec![(key, value, example)], comment });
            }
        } else if entries.is_empty() {
            roff.push_str(&told(&std::mem::take(&mut comment)));
        }
    }
    flush(&mut roff, &mut entries);
    Ok(roff)
}

/// The name of the section that begins at this line, also if it is commented out.
fn section(line: &str) -> Option<&str> {
    line.trim_start_matches('#').strip_prefix('[')?.strip_suffix(']')
}

/// A comment, in paragraphs and lists.
fn told(comment: &[&str]) -> String {
    let mut roff = String::new();
    let is_list = |line: &str| line.starts_with(' ');
    for (at, lines) in comment.chunk_by(|a, b| is_list(a) == is_list(b)).enumerate() {
        if is_list(lines[0]) {
            roff.push_str(&format!(".RS\n{}.RE\n", items(lines)));
        } else {
            // What follows a list still belongs to the same key.
            let begin = if at == 0 { "" } else { ".IP\n" };
            roff.push_str(&format!("{begin}{}\n", paragraph(&lines.join(" "))));
        }
    }
    roff
}

fn items(lines: &[&str]) -> String {
    let mut items: Vec<(&str, String)> = Vec::new();
    for line in lines.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)) {
        match (line.split_once("  ").filter(|_| !line.starts_with(' ')), items.last_mut()) {
            (Some((word, said)), _) => items.push((word, said.trim().to_owned())),
            (None, Some((_, said))) => said.push_str(&format!(" {}", line.trim())),
            (None, None) => items.push(("", line.trim().to_owned())),
        }
    }
    items.iter().map(|(word, said)| format!(".TP\n{}\n{}\n", bold(word), paragraph(said))).collect()
}

fn flush(roff: &mut String, entries: &mut Vec<Entry<'_>>) {
    for entry in entries.drain(..) {
        for (at, (key, value, example)) in entry.keys.iter().enumerate() {
            let request = if at == 0 { ".TP" } else { ".TQ" };
            let value = format!("{} {}", if *example { "for example" } else { "default" }, bold(value));
            roff.push_str(&format!("{request}\n{} ({value})\n", bold(key)));
        }
        roff.push_str(&told(&entry.comment));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::list;

    #[test]
    fn comments_belong_to_what_stands_below_them() {
        let toml =
            "# Before.\n\n[a]\n# About a.\n\n# Of x\n# and y.\nx = 1\n#y = \"2\"\n\n[b]\n# Of z.\nz = []\n";
        assert_eq!(
            list(toml).unwrap(),
            ".SS [a]\nAbout a.\n.TP\n\\fBx\\fR (default \\fB1\\fR)\n.TQ\n\\fBy\\fR (for example \\fB\"2\"\\fR)\nOf x and \
             y.\n.SS [b]\n.TP\n\\fBz\\fR (default \\fB[]\\fR)\nOf z.\n"
        );
    }

    #[test]
    fn a_list_in_a_comment_is_one() {
        let toml = "[a]\n# Of these:\n#   one    the first\n#          of them\n#   other  the last\n# And so on.\nx = 1\n";
        let roff = list(toml).unwrap();
        let lines: Vec<_> = roff.lines().skip(3).collect();
        let one = ["Of these:", ".RS", ".TP", "\\fBone\\fR", "the first of them"];
        assert_eq!(
            lines,
            [&one[..], &[".TP", "\\fBother\\fR", "the last", ".RE", ".IP", "And so on."]].concat()
        );
    }

    #[test]
    fn a_key_that_nothing_explains_is_an_error() {
        assert_eq!(list("[a]\nx = 1\n").unwrap_err().to_string(), "line 2: nothing explains x");
    }
}
