//! The bytes of a U-Boot environment: a pure codec, and the rule by which one of two copies is chosen.
//!
//! Not here: where the copies lie (`config`), how they are read and written (`device`), what the variables mean
//! (`dialect`). Called by `copies`, and by whoever needs to read an environment from bytes.
//!
//! The format, as U-Boot's `env/common.c`, `env/flash.c` and `lib/hashtable.c` and libubootenv have it:
//!
//! ```text
//! crc32 (4 bytes, the processor's byte order) | flag (1 byte, redundant only) | name=value NUL … NUL | padding
//! ```
//!
//! The checksum covers everything after the header, padding included, and not the flag. Entries are kept as raw
//! bytes in their order, so whatever we do not know, comes back as it was. The meaning of an entry is U-Boot's,
//! for U-Boot is who acts on it: the last of several entries of one name counts, `name` and `name=` delete, leading
//! blanks are skipped, `#` begins a comment, and an entry with a value but no name makes it refuse the whole
//! environment.

/// Whether there is one copy or two; it decides the length of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// One copy: a checksum, then the variables.
    Single,
    /// Two copies: a checksum, a flag byte, then the variables.
    Redundant,
}

impl Layout {
    /// Bytes before the variables.
    pub fn header(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Redundant => 5,
        }
    }

    /// Bytes for the variables in an environment of `size` bytes.
    pub fn capacity(self, size: usize) -> usize {
        size.saturating_sub(self.header())
    }
}

/// What the flag byte of a redundant environment means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// 1 is active, 0 is obsolete, 0xff is freshly written: NOR flash and DataFlash, where a byte can be cleared in
    /// place.
    Boolean,
    /// A serial number that wraps from 255 to 0: everything else.
    Incremental,
}

impl Scheme {
    /// Which of two copies with good checksums is the environment, given their flags.
    ///
    /// This is the loader's rule (`env_check_redund` for serial numbers, `env_init` of `env/flash.c` for
    /// boolean flags). libubootenv differs in one case that no writer produces: both flags 0xff. There we side with
    /// the loader.
    pub fn choose(self, flags: [u8; 2]) -> usize {
        match (self, flags) {
            (Self::Incremental, [0xff, 0]) => 1,
            (Self::Incremental, [0, 0xff]) => 0,
            (Self::Incremental, [first, second]) => usize::from(second > first),
            (Self::Boolean, [0, 1]) => 1,
            (Self::Boolean, [first, 0xff]) => usize::from(first != 0xff),
            (Self::Boolean, _) => 0,
        }
    }

    /// The flag of a copy that is to replace one with the flag `current`.
    pub fn successor(self, current: u8) -> u8 {
        match self {
            Self::Boolean => 1,
            Self::Incremental => current.wrapping_add(1),
        }
    }
}

/// One copy as it was read: the variables and the flag byte (0 where there is none).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decoded {
    /// The variables.
    pub env: Env,
    /// The flag byte; 0 for [`Layout::Single`].
    pub flag: u8,
}

/// Why bytes are not an environment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Damage {
    /// Not even room for a header and one entry.
    #[error("only {0} bytes")]
    TooShort(usize),
    /// The checksum is wrong.
    #[error("CRC {stored:08x}, should be {computed:08x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
}

/// The variables need more room than there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the variables need {needed} bytes, the environment has {capacity}")]
pub struct TooLarge {
    /// Bytes needed, with the terminator.
    pub needed: usize,
    /// Bytes there are.
    pub capacity: usize,
}

/// Reads one copy.
///
/// # Errors
/// [`Damage`] if the checksum is wrong or the copy is too short to be one.
pub fn decode(layout: Layout, image: &[u8]) -> Result<Decoded, Damage> {
    let short = || Damage::TooShort(image.len());
    let (crc, rest) = image.split_first_chunk::<4>().ok_or_else(short)?;
    let (flag, data) = match layout {
        Layout::Single => (0, rest),
        Layout::Redundant => rest.split_first().map(|(flag, data)| (*flag, data)).ok_or_else(short)?,
    };
    if data.len() < 2 {
        return Err(short());
    }
    let (stored, computed) = (u32::from_ne_bytes(*crc), crc32fast::hash(data));
    if stored == computed {
        Ok(Decoded { env: Env::from_data(data), flag })
    } else {
        Err(Damage::Checksum { stored, computed })
    }
}

/// Writes one copy of exactly `size` bytes; what the variables leave over is zero.
///
/// # Errors
/// [`TooLarge`] if the variables do not fit.
pub fn encode(layout: Layout, size: usize, flag: u8, env: &Env) -> Result<Vec<u8>, TooLarge> {
    let data = env.to_data(layout.capacity(size))?;
    let mut image = Vec::with_capacity(size);
    image.extend_from_slice(&crc32fast::hash(&data).to_ne_bytes());
    if layout == Layout::Redundant {
        image.push(flag);
    }
    image.extend_from_slice(&data);
    Ok(image)
}

/// Variables in their order, as raw entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Env {
    entries: Vec<Vec<u8>>,
}

/// What U-Boot makes of one raw entry.
#[derive(Debug, Eq, PartialEq)]
enum Meaning<'a> {
    Set(&'a [u8], &'a [u8]),
    Unset(&'a [u8]),
    Comment,
    /// A value without a name: U-Boot refuses the environment and runs on its compiled-in one.
    Nameless,
}

fn meaning(entry: &[u8]) -> Meaning<'_> {
    let start = entry.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(entry.len());
    let entry = &entry[start..];
    if entry.first() == Some(&b'#') {
        return Meaning::Comment;
    }
    match entry.iter().position(|byte| *byte == b'=') {
        None => Meaning::Unset(entry),
        Some(equals) if equals + 1 == entry.len() => Meaning::Unset(&entry[..equals]),
        Some(0) => Meaning::Nameless,
        Some(equals) => Meaning::Set(&entry[..equals], &entry[equals + 1..]),
    }
}

impl Env {
    /// Reads the bytes after the header. Like U-Boot, it ends at an empty entry or at the end of the bytes,
    /// whichever comes first: a full environment without the closing double NUL is still one.
    pub fn from_data(data: &[u8]) -> Self {
        let entries = data.split(|byte| *byte == 0).take_while(|entry| !entry.is_empty());
        Self { entries: entries.map(<[u8]>::to_vec).collect() }
    }

    /// The bytes after the header, exactly `capacity` of them.
    ///
    /// # Errors
    /// [`TooLarge`] if the entries and the closing NUL need more.
    pub fn to_data(&self, capacity: usize) -> Result<Vec<u8>, TooLarge> {
        // Each entry ends with a NUL and one more ends them all. An empty environment is two NULs: some readers look
        // at the byte after the first without asking whether anything came before.
        let needed = (self.entries.iter().map(|entry| entry.len() + 1).sum::<usize>() + 1).max(2);
        if needed > capacity {
            return Err(TooLarge { needed, capacity });
        }
        let mut data = Vec::with_capacity(capacity);
        for entry in &self.entries {
            data.extend_from_slice(entry);
            data.push(0);
        }
        data.resize(capacity, 0);
        Ok(data)
    }

    /// Whether U-Boot's own `saveenv` would still fit. Its `hexport_r` asks for two bytes more per variable than
    /// it uses; where that fails, it cannot store its boot counter, and a trial would be repeated for ever.
    pub fn can_be_saved_by_loader(&self, capacity: usize) -> bool {
        self.entries.iter().map(|entry| entry.len() + 3).sum::<usize>() < capacity
    }

    /// The value of a variable; `None` if there is none (U-Boot knows no empty values).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut value = None;
        for entry in &self.entries {
            match meaning(entry) {
                Meaning::Set(found, new) if found == name.as_bytes() => value = Some(new),
                Meaning::Unset(found) if found == name.as_bytes() => value = None,
                Meaning::Set(..) | Meaning::Unset(_) | Meaning::Comment | Meaning::Nameless => {}
            }
        }
        value
    }

    /// Sets a variable where its last entry stands, or at the end; an empty value removes it. Its other entries go.
    pub fn set(&mut self, name: &str, value: &str) {
        let concerns = |entry: &Vec<u8>| matches!(meaning(entry), Meaning::Set(found, _) | Meaning::Unset(found) if found == name.as_bytes());
        let last = self.entries.iter().rposition(concerns);
        let place = match last {
            Some(last) => last - self.entries[..last].iter().filter(|entry| concerns(entry)).count(),
            None => self.entries.len(),
        };
        self.entries.retain(|entry| !concerns(entry));
        if !value.is_empty() {
            self.entries.insert(place, format!("{name}={value}").into_bytes());
        }
    }

    /// Whether an entry has a value but no name, which makes U-Boot refuse all of them.
    pub fn is_refused_by_loader(&self) -> bool {
        self.entries.iter().any(|entry| meaning(entry) == Meaning::Nameless)
    }

    /// Removes entries with a value but no name.
    pub fn remove_nameless(&mut self) {
        self.entries.retain(|entry| meaning(entry) != Meaning::Nameless);
    }

    /// The raw entries in their order, without their NULs.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
