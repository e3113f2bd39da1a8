//! The image of a slot: those of its partitions, one behind the other, with zeros between.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use twinboot::bundle::{Chunking, Part};

use super::write::open;
use crate::arguments::Cut;
use crate::failure::{Failure, Outcome};

/// What files begin with that are no images of partitions as they are, and what to do about that.
const OTHERS: [(&[u8], &str, &str); 7] = [
    (&[0x1f, 0x8b], "is packed with gzip", "gunzip"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "is packed with xz", "unxz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "is packed with zstd", "unzstd"),
    (b"BZh", "is packed with bzip2", "bunzip2"),
    (&[0x3a, 0xff, 0x26, 0xed], "is a sparse image of Android's", "simg2img"),
    (b"QFI\xfb", "is a disk of QEMU's", "qemu-img convert -O raw"),
    (b"\x89TWB", "is a bundle", "take the image that it was made of, not"),
];

/// The images, as one.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<(File, u64, u64)>,
    chunking: Chunking,
}

impl Parts {
    /// Opens what `--part` names.
    pub(super) fn open(wanted: &[String], cut: Cut) -> Outcome<Self> {
        let mut parts = Vec::new();
        let mut largest = (0, Chunking::Aligned);
        for (at, text) in wanted.iter().enumerate() {
            let (path, size) = split(text);
            let mut file = open(Path::new(path), "--part")?;
            let wrong = |error: io::Error| Failure::usage(format!("--part: {path}: {error}"));
            let len = file.seek(SeekFrom::End(0)).map_err(wrong)?;
            file.rewind().map_err(wrong)?;
            let mut magic = vec![];
            Read::by_ref(&mut file).take(8).read_to_end(&mut magic).map_err(wrong)?;
            file.rewind().map_err(wrong)?;
            if len == 0 {
                return Err(Failure::usage(format!("--part: {path} is empty")));
            }
            if let Some((_, what, tool)) = OTHERS.iter().find(|(begin, ..)| magic.starts_with(begin)) {
                return Err(Failure::usage(format!(
                    "--part: {path} {what}; the raw image of a partition is needed"
                ))
                .remedy(format!("{tool} {path}")));
            }
            let is_last = at + 1 == wanted.len();
            let whole = match size {
                Some(size) if size < len => {
                    return Err(Failure::usage(format!(
                        "--part: {path} has {len} bytes and does not fit into {size}"
                    ))
                    .remedy("make the file system smaller, or say the right size of the partition"));
                }
                Some(size) => size,
                None if is_last => len,
                None => {
                    return Err(Failure::usage(format!("--part: {path}: how long is its partition?"))
                        .remedy(format!("another one comes after it, so its size is needed: {path}:SIZE")));
                }
            };
            // For squashfs: hsqs, in little endian.
            let chunking = if magic.starts_with(b"hsqs") { Chunking::Content } else { Chunking::Aligned };
            largest = if len > largest.0 { (len, chunking) } else { largest };
            parts.push((file, len, whole));
        }
        let chunking = match cut {
            Cut::Auto => largest.1,
            Cut::Aligned => Chunking::Aligned,
            Cut::Content => Chunking::Content,
        };
        Ok(Self { parts, chunking })
    }

    /// How the image is cut.
    pub(super) fn chunking(&self) -> Chunking {
        self.chunking
    }

    /// Length of the whole image in bytes.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|(_, _, whole)| whole).sum()
    }

    /// What the manifest says of partitions: nothing of a single one.
    pub(super) fn told(&self) -> Vec<Part> {
        match self.parts.as_slice() {
            [_] => Vec::new(),
            all => all.iter().map(|(_, _, size)| Part { size: *size }).collect(),
        }
    }

    /// The image from its beginning.
    pub(super) fn read(self) -> Box<dyn Read> {
        let mut all: Box<dyn Read> = Box::new(io::empty());
        for (file, len, whole) in self.parts {
            // A file that becomes shorter under us is found out: the image is not as long as it was told to be.
            all = Box::new(all.chain(file.take(len)).chain(io::repeat(0).take(whole - len)));
        }
        all
    }
}

/// The name and the size, if there is one: `rootfs.ext4:512M`.
fn split(text: &str) -> (&str, Option<u64>) {
    match text.rsplit_once(':').map(|(path, size)| (path, bytes(size))) {
        Some((path, Some(size))) => (path, Some(size)),
        Some((_, None)) | None => (text, None),
    }
}

fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_after_the_last_colon_and_names_may_have_others() {
        assert_eq!(split("a.ext4"), ("a.ext4", None));
        assert_eq!(split("a.ext4:512M"), ("a.ext4", Some(512 << 20)));
        assert_eq!(split("C:a.ext4:4096"), ("C:a.ext4", Some(4096)));
        assert_eq!(split("a:b"), ("a:b", None));
        for (text, size) in [
            ("1K", Some(1024)),
            ("2G", Some(2 << 30)),
            ("", None),
            ("M", None),
            ("+1", None),
            ("99999999999G", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
