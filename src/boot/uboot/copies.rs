//! One or two copies as one environment: which one counts, and how a change becomes durable.
//!
//! Not here: the bytes (`env`), the devices (`device`), the meaning of the variables (`dialect`). Called by
//! [`UBoot`](super::UBoot).
//!
//! # Why a change is atomic
//! With two copies, the one that does not count is overwritten, in one write of its whole length, and gets the flag
//! that makes it count. Until its checksum is right, the loader keeps using the other. So whatever part of the write
//! reaches the device, the environment is the old one or the new one. On NOR flash the old copy is then marked
//! obsolete by clearing one byte; between the two steps both are active and the loader takes the first, which is one
//! of the two wanted all the same.
//!
//! With one copy there is no such thing: it is overwritten where it lies, by one write, and a power cut within it
//! may leave it unreadable; the loader then runs on its compiled-in variables. No backup beside it would help, for
//! the loader would not look at it. That is why [`Copies::load`] warns of it every time, and why the write is short:
//! an environment of a few blocks goes to the device in one command.
//!
//! # Why a failed write is repeated whole
//! After an error the kernel forgets that the pages were dirty: a second `fsync` says success though nothing was
//! written, and a plain read returns the bytes that never arrived. So a failure means writing everything again, and
//! what was written is read back from the device and not from memory.

use std::io;

use tracing::debug;

use super::env::{self, Damage, Decoded, Env, Layout, Scheme};
use crate::boot::{Aspect, Observation};

/// Where one copy is kept. Each call opens and closes what it needs.
pub(super) trait Medium: Send {
    /// Which meaning the flag byte has here.
    fn scheme(&mut self) -> io::Result<Scheme>;

    /// All bytes of the copy, from the device itself and not from the page cache.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Replaces all bytes of the copy and makes them durable.
    fn write(&mut self, image: &[u8]) -> io::Result<()>;

    /// Clears the flag byte in place: only asked of media with [`Scheme::Boolean`].
    fn clear_flag(&mut self) -> io::Result<()>;
}

/// The copies of one environment.
pub(super) struct Copies {
    media: Vec<Box<dyn Medium>>,
    labels: Vec<String>,
    layout: Layout,
    size: usize,
}

/// The environment as it counts now.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) env: Env,
    /// Damage that was survived.
    pub(super) warnings: Vec<String>,
    current: usize,
    flag: u8,
    scheme: Scheme,
}

/// Why one copy does not count.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("{0}")]
    Damaged(#[from] Damage),
}

impl Copies {
    /// One or two media, each with a label for messages, of `size` bytes each.
    pub(super) fn new(media: Vec<(Box<dyn Medium>, String)>, size: usize) -> Self {
        let layout = if media.len() > 1 { Layout::Redundant } else { Layout::Single };
        let (media, labels) = media.into_iter().unzip();
        Self { media, labels, layout, size }
    }

    /// Bytes for variables.
    pub(super) fn capacity(&self) -> usize {
        self.layout.capacity(self.size)
    }

    /// Reads the environment. The error is a sentence; nothing is ever replaced by defaults.
    pub(super) fn load(&mut self) -> Result<Loaded, String> {
        let scheme = self.scheme()?;
        let mut copies: Vec<Result<Decoded, Useless>> = Vec::new();
        for medium in &mut self.media {
            copies.push(read_copy(medium.as_mut(), self.layout));
        }
        let mut warnings = Vec::new();
        if self.layout == Layout::Single {
            warnings.push(format!(
                "the U-Boot environment is not redundant ({}): a power cut while it is written can lose it",
                self.labels[0]
            ));
        }
        for (copy, label) in copies.iter().zip(&self.labels) {
            if let Err(useless) = copy {
                warnings.push(format!("a copy of the U-Boot environment is lost: {label}: {useless}"));
            }
        }
        let flags =
            |index: usize| copies.get(index).and_then(|copy| copy.as_ref().ok()).map(|copy| copy.flag);
        let current = match (flags(0), flags(1)) {
            (Some(first), Some(second)) => scheme.choose([first, second]),
            (Some(_), None) => 0,
            (None, Some(_)) => 1,
            (None, None) => return Err(self.nothing_usable(&copies)),
        };
        match copies.swap_remove(current) {
            Ok(Decoded { env, flag }) => {
                debug!(copy = %self.labels[current], flag, "environment read");
                Ok(Loaded { env, warnings, current, flag, scheme })
            }
            Err(_) => Err(self.nothing_usable(&copies)),
        }
    }

    /// What there is to say of the copies beside the warnings of [`Copies::load`]: nothing, if it has some.
    pub(super) fn examine(&self, loaded: &Loaded) -> Option<Observation> {
        if !loaded.warnings.is_empty() {
            return None;
        }
        let what = format!("both copies of the environment are good; {} counts", self.labels[loaded.current]);
        Some(Observation::good(Aspect::Copies, what))
    }

    /// Makes `env` the environment, with one write beside the current copy where there are two, and proves it by
    /// reading back. The error is a sentence; the environment is then the one that was loaded, or `env`.
    pub(super) fn save(&mut self, loaded: &Loaded, env: &Env) -> Result<(), String> {
        let target = match self.layout {
            Layout::Single => 0,
            Layout::Redundant => 1 - loaded.current,
        };
        let label = self.labels[target].clone();
        let flag = loaded.scheme.successor(loaded.flag);
        let image = env::encode(self.layout, self.size, flag, env)
            .map_err(|error| format!("{error} ({label}); remove variables that are not needed"))?;
        self.write_proved(target, &image).map_err(|error| format!("writing {label}: {error}"))?;
        if self.layout == Layout::Redundant && loaded.scheme == Scheme::Boolean {
            self.retire(loaded.current, target)?;
        }
        Ok(())
    }

    /// Both media must agree on what flags mean: a mixed pair is one that the loader cannot have made.
    fn scheme(&mut self) -> Result<Scheme, String> {
        let mut schemes = Vec::new();
        for (medium, label) in self.media.iter_mut().zip(&self.labels) {
            match medium.scheme() {
                Ok(scheme) => schemes.push(scheme),
                Err(error) => debug!(%label, %error, "cannot tell the kind of device"),
            }
        }
        match schemes[..] {
            [first, second] if first != second => Err(format!(
                "{} and {} are of different kinds; use two alike",
                self.labels[0], self.labels[1]
            )),
            [first, ..] => Ok(first),
            // Nothing can be opened: reading says why.
            [] => Ok(Scheme::Incremental),
        }
    }

    fn nothing_usable(&self, copies: &[Result<Decoded, Useless>]) -> String {
        let each = copies
            .iter()
            .zip(&self.labels)
            .filter_map(|(copy, label)| copy.as_ref().err().map(|useless| format!("{label}: {useless}")));
        let each: Vec<_> = each.collect();
        // The remedy first: a reported detail is cut at 256 characters.
        format!("no U-Boot environment (compare offset and size with U-Boot's): {}", each.join("; "))
    }

    fn write_proved(&mut self, target: usize, image: &[u8]) -> Result<(), String> {
        let medium = &mut self.media[target];
        let mut failure = String::new();
        for attempt in 1..=2 {
            let written = medium.write(image).and_then(|()| medium.read());
            failure = match written {
                Ok(found) if found == image => return Ok(()),
                Ok(_) => "it does not hold what was written".to_owned(),
                Err(error) => error.to_string(),
            };
            debug!(copy = %self.labels[target], attempt, "writing the U-Boot environment failed: {failure}");
        }
        Err(failure)
    }

    /// NOR: the copy that counted is marked obsolete. If that fails, the loader's rule for two active copies decides
    /// whether the new one counts.
    fn retire(&mut self, old: usize, new: usize) -> Result<(), String> {
        let outcome = self.media[old].clear_flag().and_then(|()| self.media[old].read());
        let failure = match outcome {
            Ok(bytes) if bytes.get(4) == Some(&0) => return Ok(()),
            Ok(_) => "it keeps its flag".to_owned(),
            Err(error) => error.to_string(),
        };
        match read_copy(self.media[old].as_mut(), self.layout) {
            Ok(copy) => {
                let mut flags = [1; 2];
                flags[old] = copy.flag;
                if Scheme::Boolean.choose(flags) == new {
                    return Ok(());
                }
            }
            // A copy that is no longer one does not stand in the way of the new one.
            Err(Useless::Damaged(_)) => return Ok(()),
            Err(Useless::Unreadable(_)) => {}
        }
        Err(format!("marking {} obsolete: {failure}", self.labels[old]))
    }
}

fn read_copy(medium: &mut dyn Medium, layout: Layout) -> Result<Decoded, Useless> {
    Ok(env::decode(layout, &medium.read()?)?)
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
