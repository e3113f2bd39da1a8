//! Where the environment lies: the file `fw_env.config`, as U-Boot's tools and libubootenv read it.
//!
//! Pure: text in, places out; nothing is opened. Called by [`UBoot::open`](super::UBoot::open).
//!
//! The classic form has one line per copy, one or two of them:
//!
//! ```text
//! # device       offset    size    [erase size]  [number of erase blocks]  [1: leave flash locks alone]
//! /dev/mmcblk0   0xc0000   0x20000
//! /dev/mmcblk0   -0x20000  0x20000
//! ```
//!
//! As with the tools, the sizes are hexadecimal even without `0x`, while the offset follows C: `0x` is hexadecimal, a
//! leading `0` octal, anything else decimal; below zero counts from the end of the device. The other form is YAML,
//! see `yaml`. Unlike the tools we refuse a line that we do not understand: a copy that is silently left out
//! turns a redundant environment into a single one.

use std::path::{Path, PathBuf};

use super::yaml;

/// What the file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EnvConfig {
    /// One copy or two.
    pub copies: Vec<Place>,
    /// The lock file, where the file names one (YAML only).
    pub lock_file: Option<PathBuf>,
    /// The variables that may be written, where the file restricts them (YAML only).
    pub writable: Option<Vec<String>>,
}

/// Where one copy lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The configuration file and the line that names this copy, for messages.
    pub named_by: String,
    /// A block device, a regular file or an MTD character device.
    pub path: PathBuf,
    /// Bytes from the start of the device, or from its end if negative.
    pub offset: i64,
    /// Bytes of this copy, header included.
    pub size: u64,
    /// Flash only: bytes of an erase block; without it, what the device says.
    pub erase_size: Option<u64>,
    /// Flash only: how many erase blocks this copy may use, bad ones included.
    pub erase_blocks: Option<u64>,
    /// Flash only: whether to lift and restore the lock of the blocks written.
    pub handle_locks: bool,
}

impl Place {
    /// For messages: file and line, device and offset.
    pub fn label(&self) -> String {
        let sign = if self.offset < 0 { "-" } else { "" };
        format!("{}: {} at {sign}{:#x}", self.named_by, self.path.display(), self.offset.unsigned_abs())
    }
}

/// What is wrong with the file, where, and what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}:{line}: {problem}; {remedy}")]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line, from 1; the last one if something is missing at the end.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The largest environment believed in: real ones have up to 512 KiB, a slip of the pen has gigabytes.
const LARGEST: u64 = 16 << 20;

/// A problem at a line, before the file's name is known.
pub(super) type Flaw = (usize, String, &'static str);

/// Reads either form. `file` is only for messages.
///
/// # Errors
/// [`ConfigError`] for the first thing that is not understood or cannot be safe.
pub fn parse(file: &Path, text: &str) -> Result<EnvConfig, ConfigError> {
    let name = file.display().to_string();
    let is_yaml = significant(text).next().is_some_and(|(_, line)| yaml::begins(line));
    let parsed = if is_yaml { yaml::parse(text) } else { classic(text) };
    let checked = parsed.and_then(|mut config| {
        for (place, line) in &mut config {
            place.named_by = format!("{name}:{line}");
        }
        check(&config.places)?;
        Ok(config)
    });
    match checked {
        Ok(parsed) => Ok(EnvConfig {
            copies: parsed.places.into_iter().map(|(place, _)| place).collect(),
            lock_file: parsed.lock_file,
            writable: parsed.writable,
        }),
        Err((line, problem, remedy)) => Err(ConfigError { file: name, line, problem, remedy }),
    }
}

/// What both forms give: places with their lines.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) places: Vec<(Place, usize)>,
    pub(super) lock_file: Option<PathBuf>,
    pub(super) writable: Option<Vec<String>>,
}

impl<'a> IntoIterator for &'a mut Parsed {
    type Item = &'a mut (Place, usize);
    type IntoIter = std::slice::IterMut<'a, (Place, usize)>;

    fn into_iter(self) -> Self::IntoIter {
        self.places.iter_mut()
    }
}

/// Lines with something on them, counted from 1.
pub(super) fn significant(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
    lines.filter(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    })
}

fn classic(text: &str) -> Result<Parsed, Flaw> {
    let mut parsed = Parsed::default();
    for (line, content) in significant(text) {
        let place = classic_line(content).map_err(|(problem, remedy)| (line, problem, remedy))?;
        parsed.places.push((place, line));
    }
    Ok(parsed)
}

fn classic_line(line: &str) -> Result<Place, (String, &'static str)> {
    let mut fields = line.split_whitespace().take_while(|field| !field.starts_with('#'));
    let path = fields.next().unwrap_or_default().to_owned();
    let mut field = |what: &str, parse: fn(&str) -> Option<i64>| match fields.next() {
        None => Ok(None),
        Some(text) => {
            parse(text).map(Some).ok_or_else(|| (format!("the {what} {text:?} is no number"), LINE))
        }
    };
    let offset = field("offset", c_number)?.ok_or_else(|| ("the offset is missing".to_owned(), LINE))?;
    let size = field("size", hex)?.ok_or_else(|| ("the size is missing".to_owned(), LINE))?;
    let erase_size = field("erase size", hex)?;
    let erase_blocks = field("number of erase blocks", hex)?;
    let leave_locks = field("lock switch", c_number)?.unwrap_or(0);
    let positive =
        |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|n| *n > 0);
    Ok(Place {
        named_by: String::new(),
        path: path.into(),
        offset,
        size: positive(Some(size)).unwrap_or(0),
        erase_size: positive(erase_size),
        erase_blocks: positive(erase_blocks),
        handle_locks: leave_locks == 0,
    })
}

const LINE: &str =
    "write \"device offset size [erase-size [erase-blocks]]\", such as /dev/mmcblk0 0xc0000 0x20000";

/// What is needed for safety whatever the form.
fn check(places: &[(Place, usize)]) -> Result<(), Flaw> {
    let lines = "name one copy of the environment, or better two";
    let Some((first, first_line)) = places.first() else {
        return Err((1, "no device is named".to_owned(), lines));
    };
    if let Some((_, line)) = places.get(2) {
        return Err((
            *line,
            "a third copy is named".to_owned(),
            "U-Boot knows two at most; remove the others",
        ));
    }
    for (place, line) in places {
        if place.size < 16 || place.size > LARGEST {
            let problem = format!("the size {:#x} cannot be right", place.size);
            return Err((*line, problem, "use U-Boot's CONFIG_ENV_SIZE, in hexadecimal"));
        }
        let path = place.path.to_string_lossy();
        if path.starts_with("/dev/ubi") || (path.starts_with("/dev/mtd") && path.contains(':')) {
            let remedy = "use a block device, a file or a plain MTD device";
            return Err((*line, format!("{path} is an UBI volume, which is not supported"), remedy));
        }
        if !place.path.is_absolute() {
            return Err((*line, format!("{path} is not an absolute path"), LINE));
        }
    }
    let Some((second, line)) = places.get(1) else {
        return Ok(());
    };
    if first.size != second.size {
        let problem =
            format!("the size {:#x} differs from {:#x} in line {first_line}", second.size, first.size);
        return Err((*line, problem, "both copies have U-Boot's CONFIG_ENV_SIZE"));
    }
    let apart = i128::from(first.offset).abs_diff(second.offset.into());
    let same_end = (first.offset < 0) == (second.offset < 0);
    if first.path == second.path && same_end && apart < u128::from(extent(first).max(extent(second))) {
        let problem = format!("this copy overlaps the one in line {first_line}");
        return Err((*line, problem, "use U-Boot's CONFIG_ENV_OFFSET and CONFIG_ENV_OFFSET_REDUND"));
    }
    Ok(())
}

/// How far a copy may reach: on flash, as far as its erase blocks.
fn extent(place: &Place) -> u64 {
    let window = place.erase_size.unwrap_or(0).saturating_mul(place.erase_blocks.unwrap_or(0));
    match place.path.to_string_lossy().starts_with("/dev/mtd") {
        true => window.max(place.size),
        false => place.size,
    }
}

/// A number as C's `strtoll` with base 0 reads it, with nothing after it.
pub(super) fn c_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    let number = unsigned(digits, radix)?;
    Some(if negative { -number } else { number })
}

/// A number as `%zx` reads it.
fn hex(text: &str) -> Option<i64> {
    unsigned(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text), 16)
}

fn unsigned(digits: &str, radix: u32) -> Option<i64> {
    // from_str_radix would take a second sign.
    digits.chars().all(|digit| digit.is_digit(radix)).then(|| i64::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
