//! A loader's own reading and writing of its environment: two copies of 16 KiB, each a checksum, a serial number and
//! `name=value` strings, all ended by NUL.
//!
//! Written from the format and not from `src/boot`: a misreading there must not be cancelled out by the same
//! misreading here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of one copy.
pub const SIZE: usize = 16 * 1024;
/// Checksum and serial number.
const HEADER: usize = 5;

/// The loader's variables, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// Variables with these values.
    pub fn new(values: &[(&str, &str)]) -> Self {
        let mut variables = Self::default();
        values.iter().for_each(|(name, value)| variables.set(name, value));
        variables
    }

    /// The value, or an empty one.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().rfind(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The value as a decimal number; what is no number is 0, as it is for U-Boot.
    pub fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Sets or adds a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn decode(copy: &[u8]) -> Option<(u8, Self)> {
        let stored = u32::from_le_bytes(copy.get(..4)?.try_into().ok()?);
        if copy.len() != SIZE || crc32(&copy[HEADER..]) != stored {
            return None;
        }
        let entries = copy[HEADER..].split(|byte| *byte == 0).take_while(|entry| !entry.is_empty());
        let mut variables = Self::default();
        for entry in entries {
            if let Some((name, value)) = String::from_utf8_lossy(entry).split_once('=') {
                variables.set(name, value);
            }
        }
        Some((copy[4], variables))
    }

    fn encode(&self, serial: u8) -> Vec<u8> {
        let mut copy = vec![0; HEADER];
        for (name, value) in &self.0 {
            copy.extend_from_slice(format!("{name}={value}\0").as_bytes());
        }
        assert!(copy.len() < SIZE, "the simulated board's variables fit");
        copy.resize(SIZE, 0);
        let sum = crc32(&copy[HEADER..]);
        copy[..4].copy_from_slice(&sum.to_le_bytes());
        copy[4] = serial;
        copy
    }
}

/// The two copies on the board's "disk".
#[derive(Clone, Debug)]
pub struct Environment {
    copies: [PathBuf; 2],
}

impl Environment {
    /// The copies `env0` and `env1` in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { copies: ["env0", "env1"].map(|name| directory.join(name)) }
    }

    /// Where a copy is.
    pub fn copy(&self, index: usize) -> &Path {
        &self.copies[index]
    }

    /// Writes both copies anew, as a factory does.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn format(&self, variables: &Variables) -> io::Result<()> {
        fs::write(&self.copies[0], variables.encode(1))?;
        fs::write(&self.copies[1], variables.encode(0))
    }

    /// The variables that count; `None` if no copy is sound.
    pub fn load(&self) -> Option<Variables> {
        self.current().map(|(_, _, variables)| variables)
    }

    /// How many copies are sound.
    pub fn sound_copies(&self) -> usize {
        self.decoded().iter().flatten().count()
    }

    /// Writes the copy that does not count, and makes it count.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn save(&self, variables: &Variables) -> io::Result<()> {
        let (index, serial) = self.current().map_or((1, 0), |(index, serial, _)| (index, serial));
        let file = File::options().write(true).open(&self.copies[1 - index])?;
        file.write_all_at(&variables.encode(serial.wrapping_add(1)), 0)?;
        file.sync_data()
    }

    /// Damages a copy: one bit of one value.
    ///
    /// # Errors
    /// Those of reading and writing a file.
    pub fn corrupt(&self, index: usize) -> io::Result<()> {
        let mut bytes = fs::read(&self.copies[index])?;
        bytes[HEADER + 2] ^= 0x10;
        fs::write(&self.copies[index], bytes)
    }

    fn decoded(&self) -> [Option<(u8, Variables)>; 2] {
        [0, 1].map(|index| fs::read(&self.copies[index]).ok().and_then(|copy| Variables::decode(&copy)))
    }

    /// The newer of two serial numbers counts; after 255 comes 0.
    fn current(&self) -> Option<(usize, u8, Variables)> {
        match self.decoded() {
            [Some((first, _)), Some((second, variables))]
                if (first, second) == (255, 0) || (second > first && (first, second) != (0, 255)) =>
            {
                Some((1, second, variables))
            }
            [Some((serial, variables)), _] => Some((0, serial, variables)),
            [None, Some((serial, variables))] => Some((1, serial, variables)),
            [None, None] => None,
        }
    }
}

/// The checksum of zlib and U-Boot, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
