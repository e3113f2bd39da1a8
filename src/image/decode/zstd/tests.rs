//! What is read back from the slot to go on in the middle of a frame: it may be read wrongly, and it takes memory.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use super::super::tests::{Collect, Kept, LIMITS, go_on_by, image, unpack_within, zstd};
use super::super::{Decoder, Error, Limits};

/// A packed image, and a place in the middle of its frame.
fn middle(checksum: bool) -> (Vec<u8>, Vec<u8>, Kept) {
    let image = image(3_000_000, 11);
    let packed = zstd(&image, 3, checksum);
    let (_, mut states) = unpack_within(LIMITS, &packed, 16_384).unwrap();
    let kept = states.swap_remove(states.len() / 2);
    assert!((1_000_000..2_000_000).contains(&kept.1), "{}", kept.1);
    (image, packed, kept)
}

/// Reads back the image before `len`: wrongly where the number of the reading is in `wrong`. How often it was read.
fn reading<'a>(
    image: &'a [u8],
    len: usize,
    wrong: &'a [u32],
    count: &'a mut u32,
) -> impl FnMut(&mut [u8]) -> Result<(), Error> + 'a {
    move |buffer| {
        buffer.copy_from_slice(&image[len - buffer.len()..len]);
        if wrong.contains(count) {
            buffer.iter_mut().for_each(|byte| *byte ^= 1);
        }
        *count += 1;
        Ok(())
    }
}

/// Once is enough: the image's digest is made of what was copied, and so is the slot.
#[test]
fn what_was_read_wrongly_to_go_on_is_found_at_the_end_of_the_frame() {
    let (image, packed, kept) = middle(true);
    let mut count = 0;
    let rest = go_on_by(&packed, &kept, &mut reading(&image, kept.1, &[], &mut count)).unwrap();
    assert!(rest == image[kept.1..] && count == 1);
    let found = go_on_by(&packed, &kept, &mut reading(&image, kept.1, &[0], &mut 0));
    assert!(matches!(found, Err(Error::StartOver(_))), "{found:?}");
    // The next frame is one of its own.
    let two = [&packed[..], &packed].concat();
    let rest = go_on_by(&two, &kept, &mut reading(&image, kept.1, &[], &mut 0)).unwrap();
    assert!(rest == [&image[kept.1..], &image].concat());
}

#[test]
fn without_a_checksum_what_is_read_to_go_on_is_read_twice() {
    let (image, packed, kept) = middle(false);
    let mut count = 0;
    let rest = go_on_by(&packed, &kept, &mut reading(&image, kept.1, &[], &mut count)).unwrap();
    assert!(rest == image[kept.1..] && count == 2);
    for wrong in [0, 1] {
        let found = go_on_by(&packed, &kept, &mut reading(&image, kept.1, &[wrong], &mut 0));
        let words = found.expect_err("read differently").to_string();
        assert!(words.contains("second time"), "{words}");
    }
}

/// As versions wrote it that did not keep the checksum.
#[test]
fn a_checkpoint_without_the_checksum_so_far_is_good_and_read_twice() {
    let (image, packed, mut kept) = middle(true);
    let mut document = serde_json::to_value(&kept.2).unwrap();
    let frame = document["zstd"]["frame"].as_object_mut().unwrap();
    assert!(frame.remove("sum").is_some() && frame["checksum"] == true);
    kept.2 = serde_json::from_value(document).unwrap();
    let mut count = 0;
    let rest = go_on_by(&packed, &kept, &mut reading(&image, kept.1, &[], &mut count)).unwrap();
    assert!(rest == image[kept.1..] && count == 2);
}

/// A dictionary beside the window takes the window's memory once more.
#[test]
fn a_frame_is_not_taken_up_where_that_takes_more_memory_than_allowed() {
    let image = image(1_000_000, 12);
    let with_window = |log: u32| {
        let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&image).unwrap();
        encoder.finish().unwrap()
    };
    let within = |memory: u64| Limits { memory, total: None };
    let boundaries = |memory: u64, log: u32| {
        let (unpacked, states) = unpack_within(within(memory), &with_window(log), 16_384).unwrap();
        assert!(unpacked == image);
        let is_inside = |kept: &Kept| kept.1 > 0 && kept.1 < image.len();
        states.into_iter().find(is_inside)
    };
    assert!(boundaries(1 << 20, 23).is_some(), "windows of 8 MiB are always allowed");
    assert!(boundaries((32 << 20) - 1, 24).is_none());
    let kept = boundaries(32 << 20, 24).unwrap();
    // Less is allowed by now.
    let mut window = |_: &mut [u8]| -> Result<(), Error> { panic!("nothing is read") };
    let resumed = Decoder::resume(&kept.2, within((32 << 20) - 1), &mut window);
    assert!(resumed.is_err_and(|error| error.to_string().contains("memory")));
    let mut window = |buffer: &mut [u8]| {
        buffer.copy_from_slice(&image[kept.1 - buffer.len()..kept.1]);
        Ok(())
    };
    let mut decoder = Decoder::resume(&kept.2, within(32 << 20), &mut window).unwrap();
    let (packed, mut out) = (with_window(24), Collect::default());
    let mut rest = &packed[kept.0..];
    while !rest.is_empty() {
        rest = &rest[decoder.decode(rest, &mut out).unwrap().used..];
    }
    assert!(out.bytes == image[kept.1..]);
}
