//! What the hot parts cost in instructions, by callgrind: a number that is the same on a busy machine, where a time is not.
//!
//! A limit is what was counted when it was set, and a quarter more, for a compiler may change its mind. A part that has
//! become cheaper for good gets a lower one. Valgrind's processor has no instructions for SHA-256, so what is counted of
//! hashes is the software of a device that has none either.
#![allow(clippy::unwrap_used, missing_docs)]

use std::env;
use std::hint::black_box;
use std::process::Command;

use twinboot::boot::uboot::env::{Env, Layout, decode, encode};
use twinboot::bundle::{Chunker, Chunking, Pager, chunk_id};
use twinboot::hub::twin::{Twin, Whole};
use twinboot::hub::wish;
use twinboot::image::fuzz::unpack;
use twinboot::model::{Sha256, Vouching};

/// Says to the process below valgrind which part it is to do, and how often.
const PART: &str = "INSTRUCTIONS_PART";

/// What is counted: its name, what is done once, and the most instructions that may take.
const PARTS: [(&str, fn(), u64); 6] = [
    ("the SHA-256 of 64 KiB", hash, 4_350_000),
    ("the chunks and pages of 256 KiB, aligned", || index(Chunking::Aligned), 16_100_000),
    ("the chunks and pages of 256 KiB, by content", || index(Chunking::Content), 25_300_000),
    ("unpacking 256 KiB of zstd", zstd, 18_100_000),
    ("an environment of U-Boot's, read and written", environment, 1_000_000),
    ("a twin, read and understood", twin, 1_060_000),
];

#[test]
#[ignore = "deep: needs valgrind"]
fn deep_hot_parts_take_no_more_instructions() {
    if let Ok(wanted) = env::var(PART) {
        let (name, count) = wanted.split_once('=').unwrap();
        let (_, part, _) = PARTS.iter().find(|(part, ..)| *part == name).unwrap();
        return (0..count.parse().unwrap()).for_each(|_| part());
    }
    let mut dear = Vec::new();
    for (name, _, limit) in PARTS {
        // What a process costs that does less of it is not the part's.
        let took = (instructions(name, 5) - instructions(name, 1)) / 4;
        println!("{name}: {took} instructions, at most {limit}");
        if took > limit {
            dear.push(format!("{name} takes {took} instructions, and may take {limit}"));
        }
    }
    assert!(dear.is_empty(), "{}", dear.join("\n"));
}

/// How many instructions this program takes when it does a part so often.
fn instructions(part: &str, count: u32) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe().unwrap());
    valgrind.args(["--exact", "deep_hot_parts_take_no_more_instructions", "--include-ignored"]);
    let output = valgrind.env(PART, format!("{part}={count}")).output().expect("valgrind is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{part}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or_else(|| panic!("{part}: {said}"))
}

/// Bytes that cannot be packed, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 20_261_122_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn hash() {
    black_box(Sha256::of(black_box(&vec![7; 64 << 10])));
}

fn index(chunking: Chunking) {
    let mut image = noise(192 << 10);
    image.resize(256 << 10, 0);
    let (mut chunker, mut pager, mut pages) = (Chunker::new(chunking), Pager::new(chunking), 0);
    let mut each = |chunk: &[u8]| {
        pages += usize::from(pager.push(chunk_id(chunk), chunk.len() as u32).is_some());
    };
    // As they come from a device.
    image.chunks(64 << 10).for_each(|piece| chunker.push(piece, &mut each));
    chunker.finish(&mut each);
    pages += usize::from(pager.finish().is_some());
    assert!(black_box(pages) > 0);
}

fn zstd() {
    let image: Vec<u8> = (0..64_u32 << 10).flat_map(|number| (number / 3 * 7).to_le_bytes()).collect();
    let packed = ::zstd::bulk::compress(&image, 3).unwrap();
    let unpacked = unpack(packed.chunks(16 << 10), 8 << 20, image.len()).unwrap();
    assert!(black_box(unpacked.image) == image);
}

fn environment() {
    let data: Vec<u8> =
        (0..200).flat_map(|number| format!("variable{number}=value {number}\0").into_bytes()).collect();
    let mut env = Env::from_data(&data);
    env.set("upgrade_available", "1");
    let copy = encode(Layout::Redundant, 16 << 10, 1, &env).unwrap();
    assert_eq!(black_box(decode(Layout::Redundant, &copy).unwrap()).env, env);
}

fn twin() {
    let digest = "e3b0c44298fc1c149afbf4c8996fb924".repeat(2);
    let others: String =
        (0..40).map(|number| format!(r#""other{number}":{{"a":{number},"b":"text"}},"#)).collect();
    let text = format!(
        r#"{{"desired":{{{others}"firmware":{{"fwVersion":"2.8.5","fwPackageURI":"https://h/fw.img?sig=abc",
        "fwPackageCheckValue":"sha256:{digest}","fwSize":73400320,"jobId":"first"}},"$version":7}},
        "reported":{{{others}"$version":3}}}}"#
    );
    let whole = Whole::parse(text.as_bytes()).unwrap();
    let mut twin = Twin::default();
    twin.replace(whole.desired);
    let parsed = wish::desired(twin.firmware(), Vouching { signed: false, undigested: false });
    assert!(matches!(black_box(parsed).desired, wish::Desired::Wish(_)));
}
