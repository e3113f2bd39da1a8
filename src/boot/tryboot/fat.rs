//! The names in the root directory of a FAT file system: as much of the format as it takes to see whether a certain file
//! lies there, in a partition that is not mounted. Microsoft's "FAT32 File System Specification" (2000); pure but for the
//! reader it is given. Only 8.3 names: those asked for have no other.

use std::io::{self, ErrorKind};

const ENTRY: usize = 32;
/// Attribute bits of a long name's entries, and of the label.
const VOLUME: u8 = 0x08;
const DELETED: u8 = 0xe5;
/// The largest root directory believed in, in bytes, so that a damaged one ends.
const LARGEST: u64 = 2 << 20;

/// Reads so many bytes from a position.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// Where things are, in bytes.
struct Volume {
    cluster: u64,
    fat: u64,
    data: u64,
    clusters: u64,
    root: Root,
}

enum Root {
    /// FAT12 and FAT16: in one piece.
    Fixed { start: u64, len: u64 },
    /// FAT32: a chain of clusters.
    Chain { first: u32 },
}

/// The 8.3 names in the root directory, such as `CONFIG.TXT`.
///
/// # Errors
/// If it cannot be read, or is no FAT file system.
pub fn root_names(device: &impl ReadAt) -> io::Result<Vec<String>> {
    let volume = volume(device)?;
    let mut names = Vec::new();
    match volume.root {
        Root::Fixed { start, len } => {
            collect(&read(device, start, len)?, &mut names);
        }
        Root::Chain { first } => {
            let (mut cluster, mut seen) = (first, 0);
            while (2..0x0fff_fff7).contains(&cluster) {
                seen += volume.cluster;
                if seen > LARGEST || u64::from(cluster) - 2 >= volume.clusters {
                    return Err(io::Error::other("its root directory is damaged"));
                }
                let start = volume.data + (u64::from(cluster) - 2) * volume.cluster;
                if !collect(&read(device, start, volume.cluster)?, &mut names) {
                    break;
                }
                let next = read(device, volume.fat + u64::from(cluster) * 4, 4)?;
                cluster = u32_at(&next, 0) & 0x0fff_ffff;
            }
        }
    }
    Ok(names)
}

fn volume(device: &impl ReadAt) -> io::Result<Volume> {
    let boot = read(device, 0, 512)?;
    let none = || io::Error::new(ErrorKind::InvalidData, "it holds no FAT file system");
    let sector = u64::from(u16_at(&boot, 11));
    let per_cluster = u64::from(boot[13]);
    let fats = u64::from(boot[16]);
    let is_fat = boot[510..] == [0x55, 0xaa]
        && [512, 1024, 2048, 4096].contains(&sector)
        && per_cluster.is_power_of_two()
        && (1..=2).contains(&fats);
    if !is_fat {
        return Err(none());
    }
    let either = |small: u16, large: u32| if small == 0 { u64::from(large) } else { u64::from(small) };
    let reserved = u64::from(u16_at(&boot, 14));
    let entries = u64::from(u16_at(&boot, 17));
    let sectors = either(u16_at(&boot, 19), u32_at(&boot, 32));
    let fat_sectors = either(u16_at(&boot, 22), u32_at(&boot, 36));
    let root_len = (entries * ENTRY as u64).next_multiple_of(sector);
    let root_start = (reserved + fats * fat_sectors) * sector;
    let data = root_start + root_len;
    let clusters = (sectors * sector).checked_sub(data).ok_or_else(none)? / (per_cluster * sector);
    // The specification tells the kinds apart by the number of clusters alone.
    let root = if clusters < 65_525 && entries > 0 {
        Root::Fixed { start: root_start, len: root_len.min(LARGEST) }
    } else {
        Root::Chain { first: u32_at(&boot, 44) }
    };
    Ok(Volume { cluster: per_cluster * sector, fat: reserved * sector, data, clusters, root })
}

/// Adds the names of a piece of a directory; `false` if it ends in there.
fn collect(piece: &[u8], names: &mut Vec<String>) -> bool {
    for entry in piece.chunks_exact(ENTRY) {
        match entry[0] {
            0 => return false,
            DELETED => continue,
            _ if entry[11] & VOLUME != 0 => continue,
            _ => {}
        }
        let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_ascii_uppercase();
        let (name, end) = (part(&entry[..8]), part(&entry[8..11]));
        names.push(if end.is_empty() { name } else { format!("{name}.{end}") });
    }
    true
}

fn read(device: &impl ReadAt, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    device.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
#[path = "fat_tests.rs"]
pub(crate) mod tests;
