//! Groups: a group's bytes from its data.

use zstd::zstd_safe::{DCtx, MAGICNUMBER};

use super::manifest::Payload;
use super::refusal::Refusal;

/// Unpacks groups. Its memory is what the longest group takes, and some 200 KiB while it works.
#[derive(Debug)]
pub struct Unpacker {
    /// A frame with the magic number that it lacks in the file.
    frame: Vec<u8>,
    raw: Vec<u8>,
}

impl Unpacker {
    /// For the groups of this payload.
    pub fn new(payload: &Payload) -> Self {
        let longest = payload.longest_group() as usize;
        Self { frame: Vec::with_capacity(longest + 4), raw: Vec::with_capacity(longest) }
    }

    /// The `raw` bytes of the image that a group of `packed` data is. `prefix` is what stands before the group in the
    /// image, as many bytes of it as the manifest says, or all there are.
    ///
    /// The chunks still have to be compared with their ids: other data, or another prefix, may well unpack into
    /// something.
    ///
    /// # Errors
    /// The data does not unpack into just so many bytes: `bundle.damaged`.
    pub fn unpack(&mut self, prefix: &[u8], packed: &[u8], raw: u32) -> Result<&[u8], Refusal> {
        let len = raw as usize;
        if packed.len() == len {
            self.raw.clear();
            self.raw.extend_from_slice(packed);
            return Ok(&self.raw);
        }
        let damaged = || Refusal::damaged("a group of chunks cannot be unpacked");
        if packed.len() > len || len > self.raw.capacity() {
            return Err(damaged());
        }
        self.frame.clear();
        self.frame.extend_from_slice(&MAGICNUMBER.to_le_bytes());
        self.frame.extend_from_slice(packed);
        self.raw.clear();
        self.raw.resize(len, 0);
        // One for each group: it borrows the prefix for as long as it lives. Making it costs some microseconds.
        let mut zstd = DCtx::create();
        zstd.ref_prefix(prefix).map_err(|_| damaged())?;
        let got = zstd.decompress(self.raw.as_mut_slice(), &self.frame).map_err(|_| damaged())?;
        if got == len { Ok(&self.raw) } else { Err(damaged()) }
    }
}
