//! Files to keys: which files there are, what they say, and on which line.
//!
//! Not here: what a value must look like ([`super::value`]).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Error, Origin, Problem, nearest};

/// The directory of drop-ins, beside the main file.
const DROP_INS: &str = "conf.d";
/// No sane configuration is longer; a device file by mistake would be read for ever.
const MAX_LEN: u64 = 256 * 1024;

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// Reads the main file and the drop-ins, in the order in which they count.
pub(super) fn sources(main: &Path) -> Result<Vec<Source>, Error> {
    let mut files = vec![main.to_owned()];
    files.extend(drop_ins(&main.with_file_name(DROP_INS))?);
    Ok(files.into_iter().map(read).collect::<Result<_, _>>()?)
}

/// The same as far as they can be read.
pub(super) fn readable(main: &Path) -> Vec<Source> {
    let drop_ins = drop_ins(&main.with_file_name(DROP_INS)).unwrap_or_default();
    std::iter::once(main.to_owned()).chain(drop_ins).filter_map(|file| read(file).ok()).collect()
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable =
        |error: std::io::Error| Problem::Unreadable { file: directory.to_owned(), cause: error.to_string() };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        // Editors leave `.x.toml.swp` and the like; those begin with a dot or end differently.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: PathBuf) -> Result<Source, Problem> {
    let mut text = String::new();
    let result = File::open(&file).and_then(|open| open.take(MAX_LEN + 1).read_to_string(&mut text));
    let cause = match result {
        Ok(len) if len as u64 > MAX_LEN => format!("longer than {MAX_LEN} bytes"),
        Ok(_) => return Ok(Source { file, text }),
        Err(error) => error.to_string(),
    };
    Err(Problem::Unreadable { file, cause })
}

impl Source {
    /// Sets in `config` what this file says. Goes on after a problem, so that an operator sees all of them at once.
    pub(super) fn apply(&self, config: &mut Config, problems: &mut Vec<Problem>) {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if !errors.is_empty() {
            problems.extend(errors.iter().map(|error| Problem::Syntax {
                origin: self.origin(error.span().map_or(0, |span| span.start)),
                message: error.message().replace('\n', ", "),
            }));
            return;
        }
        let mut leaves = Vec::new();
        self.walk(table.get_ref(), "", &Config::keys(), &mut leaves);
        // Tables are kept in the order of their keys; people read in the order of lines.
        leaves.sort_by_key(|leaf| leaf.origin.line);
        for leaf in leaves {
            match leaf.known {
                Ok((key, value)) => match config.set(key, value) {
                    Ok(()) => drop(config.origins.insert(key, leaf.origin)),
                    Err(message) => {
                        let (origin, key) = (Some(leaf.origin), key.to_owned());
                        problems.push(Problem::Value { origin, key, message });
                    }
                },
                Err(key) if is_section(&key, &Config::keys()) => {
                    let message = format!("is a section: write [{key}]");
                    problems.push(Problem::Value { origin: Some(leaf.origin), key, message });
                }
                Err(key) => {
                    let hint = nearest::hint(&key, &Config::keys());
                    problems.push(Problem::UnknownKey { origin: leaf.origin, key, hint });
                }
            }
        }
    }

    /// Collects every key below `table`. A table that is no section is one unknown key, not many.
    fn walk<'t>(
        &self,
        table: &'t DeTable<'_>,
        section: &str,
        keys: &[&'static str],
        leaves: &mut Vec<Leaf<'t>>,
    ) {
        for (name, value) in table {
            let key = format!("{section}{}", name.get_ref());
            if let (true, DeValue::Table(table)) = (is_section(&key, keys), value.get_ref()) {
                self.walk(table, &format!("{key}."), keys, leaves);
                continue;
            }
            let known = keys.iter().find(|known| **known == key);
            let origin = self.origin(name.span().start);
            leaves.push(Leaf {
                origin,
                known: known.map(|known| (*known, Spanned::get_ref(value))).ok_or(key),
            });
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin { file: self.file.clone(), line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    }
}

fn is_section(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// A key in a file: known with its value, or not known.
struct Leaf<'t> {
    origin: Origin,
    known: Result<(&'static str, &'t DeValue<'t>), String>,
}
