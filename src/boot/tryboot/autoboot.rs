//! `autoboot.txt`: what the firmware reads to choose a partition, as a pure codec.
//!
//! The format is that of "autoboot.txt" in Raspberry Pi's documentation: at most 512 bytes of lines, `NAME=VALUE`
//! below the filters `[all]` (also in force before any filter) and `[tryboot]` (only when the boot was asked for with
//! that flag); the last value that applies counts. `boot_partition` is the number of a FAT partition, and
//! `tryboot_a_b=1` says that the flag changes the partition and not the names of the files in it.
//!
//! What we write is always [`LEN`] bytes, filled up with line breaks, and in one order: so two such files for
//! partitions below 10 differ in one byte. A file that has other filters is not understood, since we could not know
//! what it boots.

/// Bytes of the file, and all that the firmware looks at: one sector.
pub const LEN: usize = 512;

const PARTITION: &str = "boot_partition";
const A_B: &str = "tryboot_a_b";

/// What the file says. Lines that are no concern of ours are kept where they apply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Autoboot {
    /// The partition that boots by default.
    pub default: u32,
    /// The one that boots with the flag.
    pub tryboot: u32,
    /// The flag changes the partition.
    pub a_b: bool,
    all: Vec<String>,
    only_tryboot: Vec<String>,
}

impl Autoboot {
    /// A file that says this and no more.
    pub fn new(default: u32, tryboot: u32) -> Self {
        Self { default, tryboot, a_b: true, ..Self::default() }
    }

    /// Reads the file. The error is a phrase that says what is wrong.
    ///
    /// # Errors
    /// If it is too long, is no text, has a filter that we do not know, or names no partition.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LEN {
            return Err(format!("it is longer than {LEN} bytes, and then the firmware does not read it"));
        }
        let text = str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or("it is damaged: it is no text")?;
        let mut file = Self::default();
        let (mut default, mut tryboot, mut below_tryboot) = (None, None, false);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with('[') {
                below_tryboot = match line.to_ascii_lowercase().as_str() {
                    "[all]" => false,
                    "[tryboot]" => true,
                    _ => return Err(format!("it has the filter {line}, which is not understood")),
                };
                continue;
            }
            match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some((PARTITION, value)) => {
                    let partition = value.parse().ok().filter(|number| *number > 0);
                    let partition =
                        partition.ok_or_else(|| format!("it says {line}, which is no partition"))?;
                    tryboot = Some(partition);
                    if !below_tryboot {
                        default = Some(partition);
                    }
                }
                // Below [tryboot] it is in force just when it matters.
                Some((A_B, value)) => file.a_b = value == "1",
                Some(_) | None if below_tryboot => file.only_tryboot.push(line.to_owned()),
                Some(_) | None => file.all.push(line.to_owned()),
            }
        }
        file.default = default.ok_or_else(|| format!("it has no {PARTITION} below [all]"))?;
        file.tryboot = tryboot.unwrap_or(file.default);
        Ok(file)
    }

    /// The same with other partitions, for the flag to choose between.
    #[must_use]
    pub fn with(&self, default: u32, tryboot: u32) -> Self {
        Self { default, tryboot, a_b: true, ..self.clone() }
    }

    /// The file's bytes, [`LEN`] of them. The error is a phrase that says what is wrong.
    ///
    /// # Errors
    /// If what others wrote into it leaves no room.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let (a_b, default, tryboot) = (u8::from(self.a_b), self.default, self.tryboot);
        let mut lines = vec!["[all]".to_owned(), format!("{A_B}={a_b}"), format!("{PARTITION}={default}")];
        lines.extend(self.all.iter().cloned());
        lines.extend(["[tryboot]".to_owned(), format!("{PARTITION}={tryboot}")]);
        lines.extend(self.only_tryboot.iter().cloned());
        let text = lines.join("\n") + "\n";
        if text.len() > LEN {
            return Err(format!("its lines do not fit into {LEN} bytes; remove some that are not needed"));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(LEN, b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "autoboot_tests.rs"]
pub(crate) mod tests;
