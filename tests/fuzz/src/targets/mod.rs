//! The targets, by what they belong to.

mod boot;
mod bundle;
mod hub;
mod image;
mod local;
mod network;
mod pages;

use std::fs;
use std::io;
use std::path::Path;

/// A parser and what must hold of it.
pub struct Target {
    pub name: &'static str,
    /// Panics if it does not hold.
    pub run: fn(&[u8]),
    /// The longest input that is of use.
    pub longest: usize,
    /// How much memory it may take, beside 64 bytes for each of the input's.
    pub memory: usize,
    /// What it usually meets.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What it looks for.
    pub words: &'static [&'static [u8]],
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

pub const TARGETS: &[Target] = &[
    hub::TWIN,
    hub::METHOD,
    hub::TOPIC,
    hub::IDENTITY,
    network::PACKET,
    network::WEBSOCKET,
    network::PROXY,
    network::ANSWER,
    network::FRAMES,
    bundle::BUNDLE,
    bundle::MANIFEST,
    bundle::DELEGATION,
    bundle::ENVELOPE,
    bundle::KEY,
    pages::TABLE,
    pages::BODY,
    pages::GROUP,
    pages::PACK,
    image::UNPACK,
    image::STATE,
    boot::UBOOT,
    boot::FW_ENV,
    boot::GRUB,
    boot::AUTOBOOT,
    boot::FAT,
    local::CONFIG,
    local::RECORD,
    local::GENERATIONS,
    local::CONTROL,
    local::WORDS,
];

impl Target {
    /// Writes the seeds, and the dictionary as libFuzzer reads it.
    pub fn write_seeds(&self, directory: &Path) -> io::Result<()> {
        for (number, seed) in (self.seeds)().iter().enumerate() {
            assert!(seed.len() <= self.longest, "seed {number} is too long: {}", seed.len());
            fs::write(directory.join(format!("seed-{number:02}")), seed)?;
        }
        let escaped = |word: &&[u8]| -> String {
            let byte = |byte: &u8| match *byte {
                b'"' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("\"{}\"\n", word.iter().map(byte).collect::<String>())
        };
        fs::write(directory.with_extension("dict"), self.words.iter().map(escaped).collect::<String>())
    }
}

/// Seeds that are texts.
fn texts<const N: usize>(seeds: [&str; N]) -> Vec<Vec<u8>> {
    seeds.map(|seed| seed.as_bytes().to_vec()).to_vec()
}
