//! Firmware of the simulated board: real squashfs images, made and read without a mount, root, or any installed tool.
//!
//! An image holds what a small root file system would: `etc/os-release` with its version, a kernel that makes it
//! bootable, programs that fill it, and the file that its own health check looks for.

use std::fs::File;
use std::io::{BufReader, Cursor, Read as _};
use std::path::Path;

use backhand::compression::Compressor;
use backhand::{FilesystemCompressor, FilesystemReader, FilesystemWriter, InnerNode, NodeHeader};

/// What makes an image bootable.
const KERNEL: &str = "boot/vmlinuz";
/// What the health check looks for.
const APPLICATION: &str = "etc/app-ok";
const OS_RELEASE: &str = "etc/os-release";
/// 2026-01-01: the same recipe gives the same bytes.
const MADE: u32 = 1_767_225_600;

/// How an image shall be.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// `IMAGE_VERSION` in its os-release.
    pub version: String,
    /// Roughly how many bytes the image has.
    pub size: usize,
    /// Whether it has a kernel.
    pub boots: bool,
    /// Whether its application works.
    pub is_healthy: bool,
}

impl Recipe {
    /// A good image of this version and about this many bytes.
    pub fn good(version: &str, size: usize) -> Self {
        Self { version: version.to_owned(), size, boots: true, is_healthy: true }
    }

    /// One that boots, and whose application does not work.
    pub fn unhealthy(version: &str, size: usize) -> Self {
        Self { is_healthy: false, ..Self::good(version, size) }
    }

    /// One that does not boot.
    pub fn unbootable(version: &str, size: usize) -> Self {
        Self { boots: false, ..Self::good(version, size) }
    }

    /// Makes it.
    pub fn make(&self) -> Vec<u8> {
        let mut image = FilesystemWriter::default();
        let gzip = FilesystemCompressor::new(Compressor::Gzip, None).expect("gzip needs no options");
        image.set_compressor(gzip);
        image.set_time(MADE);
        image.set_only_root_id();
        let directory = NodeHeader::new(0o755, 0, 0, MADE);
        for path in ["boot", "etc", "usr", "usr/bin", "usr/lib"] {
            image.push_dir(path, directory).expect("parents come first");
        }
        let mut push = |path: &str, bytes: Vec<u8>| {
            let file = NodeHeader::new(0o644, 0, 0, MADE);
            image.push_file(Cursor::new(bytes), path, file).expect("its directory is there");
        };
        let version = &self.version;
        let os_release = format!(
            "NAME=\"Gateway OS\"\nID=gateway\nVERSION_ID=\"{version}\"\nIMAGE_ID=gateway\nIMAGE_VERSION={version}\n"
        );
        push(OS_RELEASE, os_release.into_bytes());
        if self.is_healthy {
            push(APPLICATION, b"ok\n".to_vec());
        }
        // An unbootable image is as long as the others: only its kernel lies in the wrong place.
        let kernel = if self.boots { KERNEL } else { "boot/vmlinuz.new" };
        let mut filling = Filling::new(version);
        push(kernel, filling.take(self.size / 4));
        for index in 0..6 {
            push(&format!("usr/lib/module-{index}.ko"), filling.take(self.size / 8));
        }
        let mut bytes = Cursor::new(Vec::new());
        image.write(&mut bytes).expect("writing into memory");
        bytes.into_inner()
    }
}

/// Bytes like those of programs: after packing, about as long as it was asked for.
struct Filling(u64);

impl Filling {
    fn new(version: &str) -> Self {
        // FNV-1a: another version, other bytes.
        let seed = version.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Enough to take `packed` bytes of the image: random bytes, with runs of text between them.
    fn take(&mut self, packed: usize) -> Vec<u8> {
        const TEXT: &[u8] =
            b"GCC: (GNU) 14.2.0 /usr/lib/gateway/modem.so: error while reading the register map\n";
        let mut bytes = Vec::with_capacity(packed * 3 / 2);
        let mut random = 0;
        while random < packed {
            for _ in 0..16 {
                bytes.extend_from_slice(&self.next().to_le_bytes());
            }
            random += 128;
            let run = (self.next() % 96) as usize;
            bytes.extend_from_slice(&TEXT[..run.min(TEXT.len())]);
        }
        bytes
    }
}

/// What a loader and a kernel find in a slot.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The text of its os-release.
    pub os_release: String,
    /// Whether there is a kernel.
    pub boots: bool,
    /// Whether its application works.
    pub is_healthy: bool,
}

impl Installed {
    /// Reads the file system in `slot`; `None` if there is none.
    pub fn read(slot: &Path) -> Option<Self> {
        let image = FilesystemReader::from_reader(BufReader::new(File::open(slot).ok()?)).ok()?;
        let content = |wanted: &str| {
            let node = image.files().find(|node| node.fullpath == Path::new("/").join(wanted))?;
            let InnerNode::File(file) = &node.inner else { return None };
            let mut bytes = Vec::new();
            image.file(file).reader().read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        let os_release = content(OS_RELEASE).map(|text| String::from_utf8_lossy(&text).into_owned());
        Some(Self {
            os_release: os_release.unwrap_or_default(),
            // Read whole: a kernel that is damaged does not boot.
            boots: content(KERNEL).is_some_and(|kernel| !kernel.is_empty()),
            is_healthy: content(APPLICATION).is_some(),
        })
    }

    /// `IMAGE_VERSION`, or nothing.
    pub fn version(&self) -> &str {
        self.os_release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).unwrap_or("")
    }
}
