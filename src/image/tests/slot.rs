//! What slots do, and what of an image goes into them.

use super::disk::Fault;
use super::*;

/// Ten megabytes: several flushes.
fn large() -> Vec<u8> {
    image(10_000_123)
}

/// From a file, which is quicker.
fn bench(file: &[u8], size: u64) -> Bench {
    let mut bench = Bench::new(b"", size);
    let path = bench.state.path().join("package");
    std::fs::write(&path, file).unwrap();
    bench.artifact = Artifact {
        version: None,
        location: Location::File(path),
        sha256: Some(Sha256::of(file)),
        size: None,
    };
    bench
}

#[test]
fn p072_every_format_makes_the_same_slot() {
    let image = large();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&image).unwrap();
    for packed in [image.clone(), gzip(&image), zstd(&image), xz.finish().unwrap()] {
        let bench = bench(&packed, 12 << 20);
        bench.succeeds(&image);
        assert!(bench.disk.durable()[image.len()..].iter().all(|byte| *byte == 0xdb), "beyond the image");
        assert_eq!(bench.server.requests(), 0);
    }
}

#[test]
fn p069_a_failed_flush_means_writing_again() {
    let image = large();
    for flush in [0, 1, 2] {
        let bench = bench(&zstd(&image), 12 << 20);
        bench.disk.flush_fault(flush, Fault::LoseAll);
        bench.disk.flush_fault(flush + 1, Fault::LoseAll);
        bench.disk.flush_fault(flush + 2, Fault::LoseAll);
        bench.succeeds(&image);
    }
}

#[test]
fn p068_a_failed_write_means_writing_again() {
    let image = large();
    let clean = bench(&zstd(&image), 12 << 20);
    clean.succeeds(&image);
    let operations = clean.disk.operations();
    for operation in [0, 1, operations / 2, operations - 1] {
        let bench = bench(&zstd(&image), 12 << 20);
        bench.disk.fault(operation, Fault::LoseAll);
        bench.succeeds(&image);
    }
}

#[test]
fn p068_a_device_that_keeps_failing_is_given_up_and_nothing_is_built_upon_it() {
    let image = large();
    let bench = bench(&zstd(&image), 12 << 20);
    for flush in 1..5 {
        bench.disk.flush_fault(flush, Fault::LoseAll);
    }
    assert_eq!(bench.fails().0, Failure::TargetIo);
    assert!(matches!(bench.checkpoint().load(), crate::durable::Loaded::Empty));
}

#[test]
fn p076_what_the_device_only_pretends_to_write_is_found_by_reading_back() {
    let image = image(3_000_000);
    let bench = bench(&image, 4 << 20);
    bench.disk.fault(1, Fault::Lie);
    let written = bench.write().unwrap().image;
    let read = || read_back(&bench.disk.open(), &written, &bench.progress, &bench.cancel);
    assert_ne!(read().unwrap(), written.sha256);
    let bench = self::bench(&image, 4 << 20);
    let written = bench.write().unwrap().image;
    bench.disk.spoil(2_999_999);
    let read = |cancel: &Cancel| read_back(&bench.disk.open(), &written, &bench.progress, cancel);
    assert_ne!(read(&bench.cancel).unwrap(), written.sha256);
    assert_eq!(bench.progress.snapshot().verified, 3_000_000);
    bench.cancel.cancel();
    assert!(matches!(read(&bench.cancel), Err(Error::Cancelled)));
}

#[test]
fn p066_an_image_that_does_not_fit_is_refused_before_the_first_write() {
    let image = image(2_000_000);
    for packed in [image.clone(), zstd(&image)] {
        let bench = bench(&packed, 1_999_999);
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::TargetTooSmall);
        assert!(detail.contains("1999999"), "{detail}");
        assert_eq!(bench.disk.operations(), 0);
        self::bench(&packed, 2_000_000).succeeds(&image);
    }
    // As devices are: of whole sectors, and one is missing.
    let image = super::image(4 << 20);
    assert_eq!(self::bench(&image, (4 << 20) - 512).fails().0, Failure::TargetTooSmall);
    self::bench(&image, 4 << 20).succeeds(&image);
}

#[test]
fn p074_a_bomb_stops_at_the_end_of_the_slot() {
    let zeros = vec![0; 64 << 20];
    let mut endless = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    endless.write_all(&zeros).unwrap();
    for packed in [gzip(&zeros), endless.finish().unwrap()] {
        let bench = bench(&packed, 1 << 20);
        assert_eq!(bench.fails().0, Failure::TargetTooSmall);
    }
}

/// Ten gigabytes in some hundred kilobytes: blocks that say a byte and how often (RFC 8878, section 3.1.1.2), in one
/// frame, and in very many.
#[test]
fn p074_ten_gigabytes_of_nothing_cost_no_more_than_the_slot() {
    const BLOCK: u32 = 128 << 10;
    let block = |is_last: bool| (BLOCK << 3 | 1 << 1 | u32::from(is_last)).to_le_bytes()[..3].to_vec();
    // A magic number, no length, a window of 128 KiB.
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let filled = |is_last| [block(is_last), vec![0x5a]].concat();
    let one_frame = [head.to_vec(), filled(false).repeat(81_919), filled(true)].concat();
    let many_frames = [head.to_vec(), filled(true)].concat().repeat(81_920);
    let member = gzip(&vec![0x5a; 1 << 20]);
    for packed in [one_frame, many_frames, member.repeat(10 << 10)] {
        let bench = bench(&packed, 1 << 20);
        let (failure, detail) = bench.fails();
        // Of gzip there is one member and no more.
        let is_named = matches!(failure, Failure::TargetTooSmall | Failure::ImageUndecodable);
        assert!(is_named, "{failure}: {detail}");
        assert!(bench.disk.written() <= 1 << 20, "{} bytes were written", bench.disk.written());
    }
}

/// What a stream says of its own length has to be so.
#[test]
fn p075_an_image_that_is_a_byte_longer_or_shorter_than_its_stream_says_is_none() {
    let image = image(100_000);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&image).unwrap();
    let (gzip, zstd, xz) = (gzip(&image), zstd(&image), xz.finish().unwrap());
    let len = (image.len() as u32).to_le_bytes();
    // In gzip it is the end, in zstd behind the first bytes; in xz it is in the index, as a number of seven bits each.
    let place = |packed: &[u8], wanted: &[u8]| {
        packed.windows(wanted.len()).rposition(|window| window == wanted).unwrap()
    };
    for (packed, at) in [
        (&gzip, gzip.len() - 4),
        (&zstd, zstd[..20].windows(4).position(|window| window == len).unwrap()),
        (&xz, place(&xz, &[0xa0, 0x8d, 0x06])),
    ] {
        bench(packed, 1 << 20).succeeds(&image);
        for other in [packed[at] + 1, packed[at] - 1] {
            let mut wrong = packed.clone();
            wrong[at] = other;
            let (failure, detail) = bench(&wrong, 1 << 20).fails();
            let is_named = matches!(failure, Failure::ImageUndecodable | Failure::DownloadSizeMismatch);
            assert!(is_named, "{failure}: {detail}");
        }
    }
}

/// A flash that stands still for longer than a server may be silent, and than a slow line is watched.
#[test]
fn p080_a_slow_slot_is_nobodys_fault() {
    let image = image(1_000_000);
    let mut bench = Bench::new(&image, 1 << 20);
    // Were the flushes counted, it would be 200 kB in 900 ms. What waits in the socket meanwhile is there at once.
    bench.settings.checkpoint_every = 200_000;
    bench.settings.minimum_rate = 300_000;
    bench.settings.minimum_rate_window = Duration::from_millis(800);
    bench.disk.flushes_take(Duration::from_millis(900));
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice, seen.trouble), (1, 0, None));
}

#[test]
fn zeros_replace_what_was_there() {
    let mut image = vec![0; 5_000_000];
    image[2_500_000] = 1;
    bench(&zstd(&image), 6 << 20).succeeds(&image);
    bench(&vec![0; 3 << 20], 3 << 20).succeeds(&vec![0; 3 << 20]);
}

#[test]
fn p073_a_damaged_stream_is_named() {
    let image = image(500_000);
    for mut packed in [gzip(&image), zstd(&image)] {
        let middle = packed.len() / 2;
        packed[middle] ^= 0x40;
        let bench = bench(&packed, 1 << 20);
        assert_eq!(bench.fails().0, Failure::ImageUndecodable);
    }
}

/// A single bit at any of two hundred places, and as many ends: named, and never taken for the image.
#[test]
fn p073_a_bit_or_an_end_anywhere_is_noticed() {
    let image = image(300_000);
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&image).unwrap();
    for packed in [gzip(&image), zstd(&image), xz.finish().unwrap()] {
        for step in 0..200 {
            let at = step * packed.len() / 200;
            let mut flipped = packed.clone();
            flipped[at] ^= 1 << (step % 8);
            for damaged in [flipped, packed[..at].to_vec()] {
                let mut bench = bench(&damaged, 1 << 20);
                bench.artifact.sha256 = Some(Sha256::of(&packed));
                // What is no beginning of any format is written as it is; the digest has the last word.
                let (failure, detail) = bench.fails();
                let is_named = matches!(
                    failure,
                    Failure::ImageUndecodable | Failure::DownloadDigestMismatch | Failure::TargetTooSmall
                );
                assert!(is_named, "at {at}: {failure}: {detail}");
            }
        }
    }
}

#[test]
fn each_byte_of_the_digest_counts() {
    let mut bench = bench(b"x", 4096);
    for at in 0..32 {
        let mut wrong = Sha256::of(b"x");
        wrong.0[at] ^= 1;
        bench.artifact.sha256 = Some(wrong);
        assert_eq!(bench.fails().0, Failure::DownloadDigestMismatch, "byte {at}");
    }
}

#[test]
fn files_that_are_not_there_or_not_files_are_unreadable() {
    let mut bench = bench(b"x", 4096);
    for path in ["/nonexistent", "/proc", "/dev/null"] {
        bench.artifact.location = Location::File(path.into());
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::SourceUnreadable);
        assert!(detail.contains(path), "{detail}");
    }
}
