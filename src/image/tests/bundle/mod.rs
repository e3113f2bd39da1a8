//! Installing bundles: real sockets and TLS, slots that change, lie and lose power.

mod cost;
mod pair;
mod power;
mod ranges;
mod seeds;
pub(crate) mod writer;

use std::sync::Mutex;

use super::*;
use crate::bundle::{Chunking, Device, RootKeys, SigningKey, Trust};
use crate::model::{Cost, Seal, Timestamp};
use writer::{Maker, sections};

/// A slot that runs, in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) bytes: Mutex<Vec<u8>>,
    /// From so many reads on, everything is another: somebody writes there.
    pub(super) changes_after: Mutex<Option<u32>>,
}

impl Seed for Memory {
    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap();
        if let Some(left) = &mut *self.changes_after.lock().unwrap() {
            if *left == 0 {
                bytes.iter_mut().step_by(4096).for_each(|byte| *byte = byte.wrapping_add(1));
                *left = u32::MAX;
            } else {
                *left -= 1;
            }
        }
        let rest = &bytes[(offset as usize).min(bytes.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// What a device needs to take bundles.
pub(super) struct Rig {
    roots: RootKeys,
    trust: Mutex<Trust>,
    pub(super) seed: Memory,
    pub(super) has_seed: bool,
    pub(super) allowance: Option<u64>,
    pub(super) now: Option<Timestamp>,
}

impl Rig {
    pub(super) fn signed(&self) -> Signed<'_> {
        Signed {
            roots: &self.roots,
            ledger: &self.trust,
            device: Device {
                product: Some("gateway"),
                compatible: &[],
                floor: 3,
                now: self.now,
                twinboot: env!("CARGO_PKG_VERSION"),
            },
            allowance: self.allowance,
            seed: self.has_seed.then_some(&self.seed as &dyn Seed),
        }
    }
}

/// A device that runs `old`, and a server with a bundle of `new` by `maker`.
fn rig_by(maker: &Maker, old: &[u8], new: &[u8]) -> Bench {
    rig_of(maker, &maker.make(new), old, new.len())
}

/// A device that runs `old`, and a server with this bundle by `maker`, of an image of `len` bytes.
pub(super) fn rig_of(maker: &Maker, file: &[u8], old: &[u8], len: usize) -> Bench {
    let mut bench = Bench::new(file, (len as u64).next_multiple_of(1 << 20) + (1 << 20));
    bench.artifact = Artifact {
        version: None,
        location: Location::Url(bench.server.url("/fw-2.twb?sig=SECRET").parse().unwrap()),
        sha256: None,
        size: None,
    };
    bench.rig = Some(Rig {
        roots: maker.roots(),
        trust: Mutex::default(),
        seed: Memory { bytes: Mutex::new(old.to_vec()), changes_after: Mutex::default() },
        has_seed: true,
        allowance: None,
        now: None,
    });
    bench
}

fn rig(old: &[u8], new: &[u8]) -> Bench {
    rig_by(&Maker::new(), old, new)
}

/// The same image with `count` runs of bytes exchanged for noise, all over it.
pub(super) fn edit(image: &[u8], count: usize) -> Vec<u8> {
    let mut new = image.to_vec();
    let step = new.len() / (count + 1);
    for index in 1..=count {
        let at = index * step + index * 37;
        for (offset, byte) in new[at..at + 3000].iter_mut().enumerate() {
            *byte = ((offset * 7919 + index * 104_729) >> 3) as u8;
        }
    }
    new
}

/// How many bytes of `new` differ from `old` by blocks of 4 KiB.
fn differing(old: &[u8], new: &[u8]) -> u64 {
    let block = |bytes: &[u8], at: usize| bytes.get(at..bytes.len().min(at + 4096)).map(<[u8]>::to_vec);
    let blocks = (0..new.len()).step_by(4096).filter(|at| {
        let new = block(new, *at).unwrap();
        old.get(*at..*at + new.len()) != Some(&new[..])
    });
    blocks.map(|at| (new.len() - at).min(4096) as u64).sum()
}

#[test]
fn what_is_in_the_running_slot_is_not_fetched() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let old = image(6_000_000);
        let new = edit(&old, 5);
        let bench = rig_by(&Maker { chunking, ..Maker::new() }, &old, &new);
        let seen = bench.succeeds(&new);
        let file = bench.server.file();
        let parts = sections(&file);
        // Head and table, and for each edit a body and a group or two.
        let most = (parts.bodies + 5 * (2 * 4000 + 3 * (40 << 10))) as u64;
        assert!(
            seen.fetched <= most.max(8 << 10),
            "{chunking:?}: {} of {}, {most}",
            seen.fetched,
            file.len()
        );
        let cost = seen.plan.unwrap();
        assert_eq!((cost.fetch, cost.full), (seen.fetched, file.len() as u64), "what was said");
        assert_eq!(
            seen.written,
            differing(&vec![0xdb; new.len()], &new),
            "the slot was full of something else"
        );
        assert_eq!(bench.server.connections(), 1, "all over one connection");
    }
}

#[test]
fn a_bundle_tells_what_was_written() {
    let new = image(1_000_000);
    let bench = rig(&[], &new);
    let written = bench.write().unwrap();
    let head = &bench.server.file()[..sections(&bench.server.file()).table];
    let seal = Seal {
        version: "2.0".parse().unwrap(),
        rollback_index: 3,
        allow_downgrade: false,
        bundle: Sha256::of(head),
    };
    assert_eq!(
        written,
        Written { image: Image { sha256: Sha256::of(&new), len: 1_000_000 }, seal: Some(seal) }
    );
    // Again, and nobody is asked.
    let requests = bench.server.requests();
    assert_eq!((bench.write().unwrap(), bench.server.requests()), (written, requests));
    assert_eq!(bench.rig.as_ref().unwrap().trust.lock().unwrap().epoch, 7, "who may sign is remembered");
}

/// What is there already is judged anew when those who judge have changed, and fetched no second time.
#[test]
fn a_bundle_that_is_there_is_judged_by_who_is_trusted_now() {
    let (new, maker) = (image(1_000_000), Maker::new());
    let mut bench = rig_by(&maker, &[], &new);
    let before = bench.succeeds(&new).fetched;
    let rig = bench.rig.as_ref().unwrap();
    let stranger = SigningKey::generate().unwrap().0;
    rig.trust.lock().unwrap().revoked.insert(stranger.public().id());
    let fetched = bench.succeeds(&new).fetched - before;
    assert!(fetched < 16 << 10, "{fetched} of {before}"); // Head and table.
    rig.trust.lock().unwrap().revoked.insert(maker.signer.public().id());
    assert_eq!(bench.fails().0, Failure::BundleRevoked);
    rig.trust.lock().unwrap().revoked.clear();
    bench.succeeds(&new);
    bench.rig.as_mut().unwrap().roots = RootKeys::new(1, [*stranger.public()]);
    assert_eq!(bench.fails().0, Failure::BundleKey);
}

#[test]
fn without_anything_here_it_is_one_stream_of_everything() {
    let new = image(5_000_000);
    let bench = rig(&[], &new);
    let seen = bench.succeeds(&new);
    assert_eq!((seen.fetched, seen.fetched_twice), (bench.server.file().len() as u64, 0));
    // The first bytes, the table, the bodies, the data.
    assert!(bench.server.requests() <= 4, "{}", bench.server.requests());
}

#[test]
fn what_is_to_be_signed_is() {
    let new = image(300_000);
    let mut bench = rig(&[], &new);
    bench.artifact.location = Location::Url(bench.server.url("/fw.bin").parse().unwrap());
    assert_eq!(bench.fails().0, Failure::BundleUnsigned);
    let mut bench = rig(&[], &new);
    bench.rig = None;
    assert_eq!(bench.fails().0, Failure::BundleKey);
    // A bundle by another name.
    bench.artifact.location = Location::Url(bench.server.url("/fw.bin").parse().unwrap());
    assert_eq!(bench.server.requests(), 0, "nobody was asked");
    assert_eq!(bench.fails().0, Failure::BundleDamaged);
    // Something else by the name of one.
    let mut bench = rig(&[], &new);
    for other in [&b"x"[..], &[7; 20_000], &zstd(&new)] {
        bench.server.replace(other.to_vec(), "\"other\"");
        assert_eq!(bench.fails().0, Failure::BundleDamaged);
    }
    // By somebody else.
    bench.server.replace(Maker::new().make(&new), "\"foreign\"");
    let failure = bench.fails().0;
    assert!([Failure::BundleKey, Failure::BundleSignature].contains(&failure), "{failure}");
    assert_eq!(bench.disk.operations(), 0);
    bench.rig = None;
}

#[test]
fn p028_another_bundle_than_was_asked_for_is_not_begun() {
    let new = image(300_000);
    let mut bench = rig(&[], &new);
    let file = bench.server.file();
    bench.artifact.sha256 = Some(Sha256::of(&file));
    assert_eq!(bench.fails().0, Failure::DownloadDigestMismatch, "it is the head's that counts");
    let head = Sha256::of(&file[..sections(&file).table]);
    for at in 0..head.0.len() {
        let mut wrong = head;
        wrong.0[at] ^= 1;
        bench.artifact.sha256 = Some(wrong);
        assert_eq!(bench.fails().0, Failure::DownloadDigestMismatch, "byte {at} of it counts");
    }
    bench.artifact.sha256 = Some(head);
    for size in [file.len() as u64 - 1, file.len() as u64 + 1] {
        bench.artifact.size = Some(size);
        assert_eq!(bench.fails().0, Failure::DownloadSizeMismatch);
    }
    bench.artifact.size = None;
    bench.artifact.version = Some("2.1".parse().unwrap());
    assert_eq!(bench.fails().0, Failure::RequestInvalid);
    bench.artifact.version = Some("2.0".parse().unwrap());
    assert_eq!(bench.disk.operations(), 0);
    bench.artifact.size = Some(file.len() as u64);
    bench.succeeds(&new);
}

#[test]
fn an_image_that_does_not_fit_is_refused_before_anything_is_fetched() {
    let new = image(2_000_000);
    for (parts, ours, failure) in [
        (vec![], vec![1_999_999], Some(Failure::TargetTooSmall)),
        (vec![], vec![2_000_000], None),
        (vec![], vec![1_000_000, 2_000_000], Some(Failure::BundleIncompatible)),
        (vec![4096, 1_995_904], vec![4096, 1_995_905], None),
        (vec![4096, 1_995_904], vec![4097, 1_995_904], Some(Failure::BundleIncompatible)),
        (vec![4096, 1_995_904], vec![2_000_000], Some(Failure::BundleIncompatible)),
    ] {
        let mut bench = rig_by(&Maker { parts, ..Maker::new() }, &[], &new);
        bench.disk = Disk::of_parts(&ours);
        match failure {
            None => drop(bench.succeeds(&new)),
            Some(failure) => {
                assert_eq!(bench.fails().0, failure, "{ours:?}");
                assert_eq!((bench.server.requests(), bench.disk.operations()), (1, 0), "{ours:?}");
            }
        }
    }
}

#[test]
fn a_file_on_this_device_is_installed_as_well() {
    let (old, maker) = (image(3_000_000), Maker::new());
    let new = edit(&old, 3);
    let mut bench = rig_by(&maker, &old, &new);
    let path = bench.state.path().join("stick.twb");
    let file = bench.server.file();
    std::fs::write(&path, &file).unwrap();
    bench.artifact.location = Location::File(path.clone());
    // What is read from a file costs nothing.
    bench.settings.data_cap = 1;
    assert!(bench.succeeds(&new).fetched < file.len() as u64 / 2);
    assert_eq!(bench.server.requests(), 0);
    // Cut off: an ordinary error.
    std::fs::write(&path, &file[..file.len() - 1]).unwrap();
    discard(&mut bench.checkpoint());
    assert_eq!(bench.fails().0, Failure::DownloadSizeMismatch);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bench.fails().0, Failure::SourceUnreadable);
}

/// Nothing that was signed can be exchanged, and what is not as it was signed is refused before it is written.
#[test]
fn what_is_damaged_is_refused() {
    let new = image(700_000);
    let bench = rig(&[], &new);
    let file = bench.server.file();
    let parts = sections(&file);
    for at in [0, 9, 20, parts.table / 2, parts.table, parts.bodies - 1, parts.bodies, parts.data - 1] {
        let mut file = file.clone();
        file[at] ^= 0x10;
        bench.server.replace(file, &format!("\"{at}\""));
        let failure = bench.fails().0;
        let expected = [Failure::BundleDamaged, Failure::BundleSignature, Failure::BundleKey];
        assert!(expected.contains(&failure), "{at}: {failure}");
        assert_eq!(bench.disk.operations(), 0, "{at}");
    }
    for at in [parts.data + 3, (parts.data + file.len()) / 2, file.len() - 1] {
        let mut file = file.clone();
        file[at - 3..=at].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bench.server.replace(file, &format!("\"{at}\""));
        assert_eq!(
            bench.write().map_err(|error| error.reason().failure),
            Err(Failure::BundleDamaged),
            "{at}"
        );
    }
}
