//! Values of the configuration: from TOML to the final type, and back to the text a person would have written.
//!
//! Not here: bounds and agreement between keys ([`super::check`]).

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::network::{Attestation, Transport};
use super::sections::{Backoff, ProgramRunner, ReportDialect, UbootDialect};
use crate::hub::identity::HubName;
use crate::model::{Hours, Sha256, Window, Zone};
use crate::proxy::{Address, Exception};

/// Something that can stand behind a key.
pub(super) trait Value {
    /// Takes the value of a file; on error, says what is wanted and what was found instead.
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String>;

    /// The value as TOML; `None` if there is none.
    fn print(&self) -> Option<String>;
}

/// An enum each of whose values is a word.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Each value with its word.
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for UbootDialect {
    const WORDS: &'static [(&'static str, Self)] =
        &[("upgrade_available", Self::UpgradeAvailable), ("boot_order", Self::BootOrder)];
}

impl Words for Transport {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("mqtt", Self::Mqtt), ("websocket", Self::WebSocket)];
}

impl Words for Attestation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("symmetric_key", Self::SymmetricKey), ("group_key", Self::GroupKey), ("x509", Self::X509)];
}

impl Words for ProgramRunner {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("systemd", Self::Systemd), ("direct", Self::Direct)];
}

impl Words for ReportDialect {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("firmware", Self::Firmware),
        ("flat", Self::Flat),
        ("iothub_dm", Self::IothubDm),
        ("lwm2m", Self::Lwm2m),
    ];
}

impl<T: Words> Value for T {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = word(value)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        T::WORDS.iter().find(|(_, value)| value == self).map(|(word, _)| quote(word))
    }
}

impl<T: Words> Value for Vec<T> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = list(value, &wanted::<T>(), word)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(array(self.iter().filter_map(Value::print)))
    }
}

impl Value for bool {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let DeValue::Boolean(it) = value else { return Err(unlike("true or false", value)) };
        *self = *it;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A count.
impl Value for u32 {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "a number from 0 to 4294967295";
        *self = integer(value).and_then(|n| n.try_into().ok()).ok_or_else(|| unlike(WANTED, value))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A size in bytes.
impl Value for u64 {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "a size such as \"64KiB\", \"16MiB\" or a number of bytes";
        let size = match value.as_str() {
            Some(text) => parse_size(text),
            None => integer(value).and_then(|n| n.try_into().ok()),
        };
        *self = size.ok_or_else(|| unlike(WANTED, value))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(match in_largest_unit(*self, &SIZES) {
            (n, "B") => n.to_string(),
            (n, unit) => quote(&format!("{n}{unit}")),
        })
    }
}

impl Value for Duration {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = duration(value)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(print_duration(*self))
    }
}

impl Value for Backoff {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "two durations such as [\"1s\", \"5m\"]";
        let [first, last] = list(value, WANTED, duration)?[..] else { return Err(unlike(WANTED, value)) };
        *self = Self { first, last };
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(array([self.first, self.last].map(print_duration)))
    }
}

impl Value for String {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = text(value, "text")?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(quote(self))
    }
}

impl Value for Option<String> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = Some(text(value, "text")?);
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.as_ref().and_then(Value::print)
    }
}

/// The text is never repeated: people write passwords into addresses.
impl Value for Option<Address> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let DeValue::String(text) = value else { return Err(unlike("an address as text", value)) };
        *self = Some(text.parse().map_err(str::to_owned)?);
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.as_ref().map(|address| quote(&address.to_string()))
    }
}

impl Value for Vec<Exception> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        let one = |value: &DeValue<'_>| text(value, "text")?.parse().map_err(str::to_owned);
        *self = list(value, "names and addresses", one)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(array(self.iter().map(|exception| quote(&exception.to_string()))))
    }
}

impl Value for HubName {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "a host name, or name:port";
        *self = text(value, WANTED)?.parse().map_err(|_| unlike(WANTED, value))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(quote(&self.to_string()))
    }
}

impl Value for PathBuf {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = path(value)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(quote(&self.to_string_lossy()))
    }
}

impl Value for Option<PathBuf> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = Some(path(value)?);
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.as_ref().and_then(Value::print)
    }
}

impl Value for Vec<PathBuf> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = list(value, "a list of file names", path)?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(array(self.iter().filter_map(Value::print)))
    }
}

impl Value for Option<Window> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "two different times of day such as \"02:00-04:30\", or \"none\"";
        let hours = value.as_str().and_then(|text| text.parse::<Hours>().ok());
        *self = hours.ok_or_else(|| unlike(WANTED, value))?.window();
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.map(|window| quote(&window.to_string()))
    }
}

impl Value for Zone {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "\"local\", \"UTC\" or the name of a time zone such as \"Europe/Berlin\"";
        *self = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| unlike(WANTED, value))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(quote(&self.to_string()))
    }
}

impl Value for Option<Sha256> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "a SHA-256 digest: 64 hexadecimal digits";
        let digest = value.as_str().and_then(|text| text.parse().ok());
        *self = Some(digest.ok_or_else(|| unlike(WANTED, value))?);
        Ok(())
    }

    fn print(&self) -> Option<String> {
        self.map(|digest| quote(&digest.to_string()))
    }
}

const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn word<T: Words>(value: &DeValue<'_>) -> Result<T, String> {
    let found = value.as_str().and_then(|text| T::WORDS.iter().find(|(word, _)| *word == text));
    found.map(|(_, value)| *value).ok_or_else(|| unlike(&wanted::<T>(), value))
}

fn wanted<T: Words>() -> String {
    T::WORDS.iter().map(|(word, _)| quote(word)).collect::<Vec<_>>().join(" or ")
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    text(value, "a file name").map(PathBuf::from)
}

pub(super) fn text(value: &DeValue<'_>, wanted: &str) -> Result<String, String> {
    let DeValue::String(text) = value else { return Err(unlike(wanted, value)) };
    if text.is_empty() || text.contains('\0') {
        return Err(format!("must be {wanted}, not empty and without NUL"));
    }
    Ok(text.clone().into_owned())
}

fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    let millis = value.as_str().and_then(|text| with_unit(text, &TIMES));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| unlike("a duration such as \"500ms\", \"90s\", \"10m\", \"2h\" or \"1d\"", value))
}

fn parse_size(text: &str) -> Option<u64> {
    with_unit(text, &SIZES).or_else(|| digits(text))
}

/// A whole number directly followed by a unit.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (_, factor) = units.iter().find(|(unit, _)| *unit == &text[end..])?;
    digits(&text[..end])?.checked_mul(*factor)
}

/// Digits and nothing else: `parse` alone would take a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let DeValue::Integer(it) = value else { return None };
    i128::from_str_radix(it.as_str(), it.radix()).ok()
}

pub(super) fn list<T>(
    value: &DeValue<'_>,
    wanted: &str,
    item: impl Fn(&DeValue<'_>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let DeValue::Array(items) = value else { return Err(unlike(&format!("a list of {wanted}"), value)) };
    items.iter().map(|it| item(it.get_ref())).collect()
}

fn print_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (n, unit) = if millis == 0 { (0, "s") } else { in_largest_unit(millis, &TIMES) };
    quote(&format!("{n}{unit}"))
}

/// `n` in the largest unit that leaves no rest.
fn in_largest_unit(n: u64, units: &[(&'static str, u64)]) -> (u64, &'static str) {
    let fits = |(_, factor): &&(&str, u64)| n > 0 && n.is_multiple_of(*factor);
    let (unit, factor) = *units.iter().rev().find(fits).unwrap_or(&units[0]);
    (n / factor, unit)
}

/// What is wanted, and what was found: the values of a configuration are no secrets.
pub(super) fn unlike(wanted: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(text) => format!("the text {}", quote(text)),
        DeValue::Integer(it) => format!("the number {it}"),
        DeValue::Float(it) => format!("the number {it}"),
        DeValue::Boolean(it) => it.to_string(),
        DeValue::Datetime(it) => format!("the date {it}"),
        DeValue::Array(items) => format!("a list of {}", items.len()),
        DeValue::Table(_) => "a section".to_owned(),
    };
    format!("must be {wanted}, found {found}")
}

pub(super) fn array(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
