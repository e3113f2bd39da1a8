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
fn every_format_makes_the_same_slot() {
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
fn a_failed_flush_means_writing_again() {
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
fn a_failed_write_means_writing_again() {
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
fn a_device_that_keeps_failing_is_given_up_and_nothing_is_built_upon_it() {
    let image = large();
    let bench = bench(&zstd(&image), 12 << 20);
    for flush in 1..5 {
        bench.disk.flush_fault(flush, Fault::LoseAll);
    }
    assert_eq!(bench.fails().0, Failure::TargetIo);
    assert!(matches!(bench.checkpoint().load(), crate::durable::Loaded::Empty));
}

#[test]
fn what_the_device_only_pretends_to_write_is_found_by_reading_back() {
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
fn an_image_that_does_not_fit_is_refused_before_the_first_write() {
    let image = image(2_000_000);
    for packed in [image.clone(), zstd(&image)] {
        let bench = bench(&packed, 1_999_999);
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::TargetTooSmall);
        assert!(detail.contains("1999999"), "{detail}");
        assert_eq!(bench.disk.operations(), 0);
        self::bench(&packed, 2_000_000).succeeds(&image);
    }
}

#[test]
fn a_bomb_stops_at_the_end_of_the_slot() {
    let zeros = vec![0; 64 << 20];
    let mut endless = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    endless.write_all(&zeros).unwrap();
    for packed in [gzip(&zeros), endless.finish().unwrap()] {
        let bench = bench(&packed, 1 << 20);
        assert_eq!(bench.fails().0, Failure::TargetTooSmall);
    }
}

#[test]
fn zeros_replace_what_was_there() {
    let mut image = vec![0; 5_000_000];
    image[2_500_000] = 1;
    bench(&zstd(&image), 6 << 20).succeeds(&image);
    bench(&vec![0; 3 << 20], 3 << 20).succeeds(&vec![0; 3 << 20]);
}

#[test]
fn a_damaged_stream_is_named() {
    let image = image(500_000);
    for mut packed in [gzip(&image), zstd(&image)] {
        let middle = packed.len() / 2;
        packed[middle] ^= 0x40;
        let bench = bench(&packed, 1 << 20);
        assert_eq!(bench.fails().0, Failure::ImageUndecodable);
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
