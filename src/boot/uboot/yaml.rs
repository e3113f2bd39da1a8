//! The YAML form of `fw_env.config`, read strictly: just the shape libubootenv gives it, nothing more.
//!
//! Not a YAML parser. Called by [`config::parse`](super::config::parse).
//!
//! ```yaml
//! uboot:                                  # a name space; the first one counts, as for fw_printenv
//!   size: 0x4000
//!   lockfile: /run/lock/fw_printenv.lock  # optional
//!   devices:                              # one or two
//!     - path: /dev/mmcblk0
//!       offset: 0xc0000
//!       sectorsize: 0x20000               # optional, flash only
//!       disablelock: yes                  # optional, flash only
//!   writelist:                            # optional: only these variables may be written
//!     - slot:sw
//! ```
//!
//! Keys and their meaning are those of libubootenv's `src/extended_config.c`. Flow style (`[…]`, `{…}`), anchors and
//! multi-line text are refused with the line.

use super::config::{Flaw, Parsed, Place, c_number, significant};

const STYLE: &str = "write \"key: value\" lines in block style, indented with blanks";
const NAMESPACE_KEYS: &str = "the keys here are size, lockfile, devices, writelist";
const DEVICE_KEYS: &str = "the keys of a device are path, offset, sectorsize, disablelock";
const NUMBER: &str = "write a number such as 0x4000";

/// Whether the first line with something on it looks like YAML: `name:`.
pub(super) fn begins(line: &str) -> bool {
    let end = line.find(" #").unwrap_or(line.len());
    line[..end].trim_end().ends_with(':')
}

/// One line, taken apart.
struct Line<'a> {
    number: usize,
    /// Blanks before the content, the dash of an item counted as one.
    indent: usize,
    starts_item: bool,
    key: &'a str,
    value: &'a str,
}

/// Reads the first name space; the others must be well-formed all the same.
pub(super) fn parse(text: &str) -> Result<Parsed, Flaw> {
    let mut spaces: Vec<Space> = Vec::new();
    for (number, raw) in significant(text) {
        let Some(line) = take_apart(number, raw)? else {
            continue;
        };
        if line.indent == 0 && !line.starts_item {
            if !line.value.is_empty() {
                return Err((number, format!("{:?} is no name space", raw.trim()), STYLE));
            }
            spaces.push(Space::new(number));
            continue;
        }
        let space = spaces.last_mut().ok_or((number, "a name space is missing".to_owned(), STYLE))?;
        space.take(&line)?;
    }
    let mut finished = spaces.into_iter().map(Space::finish).collect::<Result<Vec<_>, _>>()?;
    if finished.is_empty() { Ok(Parsed::default()) } else { Ok(finished.swap_remove(0)) }
}

fn take_apart(number: usize, raw: &str) -> Result<Option<Line<'_>>, Flaw> {
    let blanks = raw.len() - raw.trim_start_matches(' ').len();
    let flaw = |problem: &str| (number, format!("{problem}: {:?}", raw.trim()), STYLE);
    if raw[blanks..].starts_with('\t') {
        return Err(flaw("a tab indents this line"));
    }
    let end = raw.find(" #").unwrap_or(raw.len());
    let content = raw[blanks..end.max(blanks)].trim_end();
    if content.is_empty() {
        return Ok(None);
    }
    let (starts_item, rest) = match content.strip_prefix('-') {
        Some(rest) if rest.starts_with(' ') => (true, rest.trim_start()),
        _ => (false, content),
    };
    let indent = blanks + content.len() - rest.len();
    if rest.starts_with(['[', '{', '&', '*', '|', '>', '!', '?']) {
        return Err(flaw("this is not understood"));
    }
    let (key, value) = match rest.split_once(':') {
        Some((key, value)) if value.is_empty() || value.starts_with([' ', '\t']) => {
            (key.trim_end(), value.trim())
        }
        // An item of the write list: name:flags.
        _ if starts_item => ("", rest),
        _ => return Err(flaw("a colon and a blank are missing")),
    };
    if value.starts_with(['[', '{', '&', '*', '|', '>', '!']) {
        return Err(flaw("this value is not understood"));
    }
    Ok(Some(Line { number, indent, starts_item, key: unquote(key), value: unquote(value) }))
}

fn unquote(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Which list the lines belong to.
#[derive(Clone, Copy, Eq, PartialEq)]
enum List {
    None,
    Devices,
    Writable,
}

/// A name space while it is read.
struct Space {
    line: usize,
    indent: Option<usize>,
    list: List,
    item_indent: Option<usize>,
    size: Option<u64>,
    parsed: Parsed,
}

impl Space {
    fn new(line: usize) -> Self {
        let parsed = Parsed::default();
        Self { line, indent: None, list: List::None, item_indent: None, size: None, parsed }
    }

    fn take(&mut self, line: &Line<'_>) -> Result<(), Flaw> {
        if line.starts_item || self.item_indent == Some(line.indent) {
            return self.item(line);
        }
        if *self.indent.get_or_insert(line.indent) != line.indent {
            return Err((line.number, "the indentation fits nothing above".to_owned(), STYLE));
        }
        (self.list, self.item_indent) = (List::None, None);
        match line.key {
            "size" => self.size = Some(number(line)?),
            "lockfile" if line.value.starts_with('/') => self.parsed.lock_file = Some(line.value.into()),
            "lockfile" => return Err((line.number, "the lock file is no absolute path".to_owned(), STYLE)),
            "devices" if line.value.is_empty() => self.list = List::Devices,
            "writelist" if line.value.is_empty() => {
                self.list = List::Writable;
                self.parsed.writable.get_or_insert_default();
            }
            key => return Err((line.number, format!("{key:?} does not belong here"), NAMESPACE_KEYS)),
        }
        Ok(())
    }

    fn item(&mut self, line: &Line<'_>) -> Result<(), Flaw> {
        match (self.list, &mut self.parsed.writable) {
            (List::Writable, Some(writable)) if line.starts_item => {
                let entry = if line.key.is_empty() { line.value } else { line.key };
                writable.push(entry.split(':').next().unwrap_or_default().to_owned());
                return Ok(());
            }
            (List::Devices, _) => {}
            (List::None | List::Writable, _) => {
                return Err((line.number, "this item belongs to no list".to_owned(), NAMESPACE_KEYS));
            }
        }
        if line.starts_item {
            self.item_indent = Some(line.indent);
            self.parsed.places.push((Place::unnamed(), line.number));
        }
        let Some((place, _)) = self.parsed.places.last_mut() else {
            return Err((line.number, "a device begins with a dash".to_owned(), STYLE));
        };
        match line.key {
            "path" => place.path = line.value.into(),
            "offset" => {
                let flaw = || (line.number, format!("{:?} is no number", line.value), NUMBER);
                place.offset = c_number(line.value).ok_or_else(flaw)?;
            }
            "sectorsize" => place.erase_size = Some(number(line)?),
            "disablelock" => place.handle_locks = line.value != "yes",
            key => return Err((line.number, format!("{key:?} does not belong here"), DEVICE_KEYS)),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Parsed, Flaw> {
        let size = self.size.ok_or((self.line, "size is missing".to_owned(), NAMESPACE_KEYS))?;
        for (place, line) in &mut self.parsed {
            if place.path.as_os_str().is_empty() {
                return Err((*line, "path is missing".to_owned(), DEVICE_KEYS));
            }
            place.size = size;
        }
        Ok(self.parsed)
    }
}

impl Place {
    fn unnamed() -> Self {
        Self {
            named_by: String::new(),
            path: Default::default(),
            offset: 0,
            size: 0,
            erase_size: None,
            erase_blocks: None,
            handle_locks: true,
        }
    }
}

fn number(line: &Line<'_>) -> Result<u64, Flaw> {
    let number =
        c_number(line.value).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| (line.number, format!("{:?} is no number", line.value), NUMBER))
}
