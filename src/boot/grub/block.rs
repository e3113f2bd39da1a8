//! GRUB's environment block: 1024 bytes of text, and the order of writes that changes them without a moment in which
//! our variables are neither old nor new.
//!
//! Pure: no input or output here. Called by [`Grub`](super::Grub).
//!
//! # Format
//! As GRUB's `lib/envblk.c` reads it: a first line that tells what it is; then lines `NAME=VALUE`, in which a backslash
//! goes before a backslash or a line feed; lines that begin with `#` are comments; and what is left is filled with `#`.
//! If a name is there twice, the last one counts. There is no checksum and no second copy.
//!
//! # One sector decides
//! The block is two disk sectors of 512 bytes. A power cut may leave one of them new and the other one old; within a
//! sector, disks write all or nothing. So our variables stand in the first sector, with values of constant length:
//! then nothing behind them ever moves, and a change is a change of that sector. The second sector begins with a line
//! feed that ends a comment which began in the first: whatever is found there instead after a power cut, no half line
//! of it can be taken for a variable. (A line that has a line feed in it could be: GRUB itself makes none.)
//!
//! A block that is not laid out so (made by `grub-editenv`, with other people's variables first) is brought into this
//! form by writes of the whole block that differ in one sector each, and of our variables say the same each:
//! `Block::steps`. Only other people's variables, pushed into the second sector, could be lost to a power cut then.

/// How long GRUB's own tools make it.
pub const SIZE: usize = 1024;
/// A disk's smallest unit of writing.
pub(super) const SECTOR: usize = 512;
/// The first line.
pub(super) const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";

/// Why a block cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Damage {
    /// An interrupted writer leaves an empty file.
    #[error("is {0} bytes long, and GRUB's environment block has 1024")]
    Size(usize),
    /// The first line is another.
    #[error("does not begin with the line that GRUB looks for")]
    Signature,
    /// GRUB would not find the place for a variable that it saves.
    #[error("its last line has no end, so that GRUB could not save to it")]
    Unfinished,
}

/// The variables do not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "GRUB's environment block is full; remove variables that are not needed (grub-editenv FILE unset NAME)"
)]
pub struct Full;

/// The lines of a block, in their order and as they stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Block {
    lines: Vec<Vec<u8>>,
}

impl Block {
    /// Reads a block as GRUB does.
    ///
    /// # Errors
    /// If GRUB could not read or could not save it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() != SIZE {
            return Err(Damage::Size(bytes.len()));
        }
        let text = bytes.strip_prefix(SIGNATURE).ok_or(Damage::Signature)?;
        let end = text.iter().rposition(|byte| *byte != b'#').map_or(0, |last| last + 1);
        // Filled from its first line on, it is empty.
        if end > 0 && text[end - 1] != b'\n' {
            return Err(Damage::Unfinished);
        }
        Self::lines(&text[..end])
    }

    /// What can be read of a block that GRUB cannot use: nothing more is known to be in it.
    pub fn salvage(bytes: &[u8]) -> Self {
        let text = bytes.strip_prefix(SIGNATURE).unwrap_or_default();
        let ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        ends.map(|(at, _)| Self::lines(&text[..=at])).find_map(Result::ok).unwrap_or_default()
    }

    fn lines(text: &[u8]) -> Result<Self, Damage> {
        let mut lines = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = end_of_line(rest).ok_or(Damage::Unfinished)?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            // Fill between two sectors, ours: it says nothing.
            if line.is_empty() || line.iter().any(|byte| *byte != b'#') {
                lines.push(line.to_vec());
            }
        }
        Ok(Self { lines })
    }

    /// The value that counts, as it stands.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let mut variables = self.lines.iter().rev().filter_map(|line| variable(line));
        variables.find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// Sets a variable. Its place is given by [`encode`](Self::encode).
    pub fn set(&mut self, name: &str, value: &str) {
        self.lines.retain(|line| variable(line).is_none_or(|(found, _)| found != name.as_bytes()));
        self.lines.push(format!("{name}={value}").into_bytes());
    }

    /// The bytes: the comments at the beginning, the variables `first` in this order, and then everything else in the
    /// order in which it is.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn encode(&self, first: &[String]) -> Result<Vec<u8>, Full> {
        let ours = first.iter().filter_map(|name| {
            let value = self.get(name)?;
            Some([name.as_bytes(), b"=", value].concat())
        });
        let ours: Vec<_> = ours.collect();
        let is_ours = |line: &Vec<u8>| {
            variable(line).is_some_and(|(name, _)| first.iter().any(|ours| ours.as_bytes() == name))
        };
        let comments = self.lines.iter().take_while(|line| line.starts_with(b"#")).count();
        let (comments, rest) = self.lines.split_at(comments);
        let rest = rest.iter().filter(|line| !is_ours(line));
        // One byte at least of the first sector is for the comment that leads into the second.
        let room = SECTOR - 1 - SIGNATURE.len();
        if length(&ours) > room {
            return Err(Full);
        }
        let lines: Vec<_> = if length(comments) + length(&ours) <= room {
            comments.iter().chain(&ours).chain(rest).collect()
        } else {
            ours.iter().chain(comments).chain(rest).collect()
        };
        let mut bytes = SIGNATURE.to_vec();
        for line in lines {
            if bytes.len() < SECTOR && bytes.len() + line.len() + 1 >= SECTOR {
                bytes.resize(SECTOR, b'#');
                bytes.push(b'\n');
            }
            bytes.extend(line);
            bytes.push(b'\n');
        }
        if bytes.len() > SIZE {
            return Err(Full);
        }
        bytes.resize(SIZE, b'#');
        Ok(bytes)
    }

    /// What is to be written, one after the other and each made durable before the next, to get from the block
    /// `before` (which was read as `self`) to `wanted`. Each differs from the one before it in one sector, and each but
    /// the last says of our variables what `before` says. Nearly always it is one write; never none.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn steps(&self, before: &[u8], wanted: &Self, first: &[String]) -> Result<Vec<Vec<u8>>, Full> {
        let (tidy, wanted) = (self.encode(first)?, wanted.encode(first)?);
        let join = |one: &[u8], two: &[u8]| [&one[..SECTOR], &two[SECTOR..]].concat();
        let mut steps = vec![join(&tidy, before), tidy.clone(), join(&tidy, &wanted)];
        let mut last = before;
        let is_news = steps.iter().map(|step| std::mem::replace(&mut last, step) != step.as_slice());
        let is_news: Vec<_> = is_news.collect();
        let mut is_news = is_news.into_iter();
        steps.retain(|_| is_news.next().unwrap_or_default());
        if steps.last() != Some(&wanted) {
            steps.push(wanted);
        }
        Ok(steps)
    }
}

fn length(lines: &[Vec<u8>]) -> usize {
    lines.iter().map(|line| line.len() + 1).sum()
}

/// Name and value of a line; `None` for a comment, and for a line without `=`.
fn variable(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if line.starts_with(b"#") {
        return None;
    }
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..]))
}

/// Where the line that begins here ends. In a comment and in a value, a backslash takes the next byte with it; a name
/// goes on to its `=`, over the ends of lines.
fn end_of_line(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    if text[0] != b'#' {
        match text.iter().position(|byte| *byte == b'=') {
            Some(equals) => at = equals + 1,
            // GRUB reads nothing from here on. It is kept as it is.
            None => return Some(text.len() - 1),
        }
    }
    while at < text.len() {
        match text[at] {
            b'\n' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
