//! Tests of choosing and saving, on media that fail and lie.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::*;

const SIZE: usize = 2048;
const SECTOR: usize = 512;

/// A medium whose cache may differ from what lasts, as after a failed write.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    boolean: bool,
    lasting: Vec<u8>,
    writes: usize,
    /// How the next writes go; empty means well.
    faults: Vec<Fault>,
}

enum Fault {
    /// An error, after so many bytes have reached the medium.
    Error(usize),
    /// No error, and nothing reaches the medium.
    Lie,
}

impl Memory {
    fn holding(image: Vec<u8>) -> Self {
        let memory = Self::default();
        memory.0.lock().unwrap().lasting = image;
        memory
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().lasting.clone()
    }

    fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    fn fail(&self, faults: Vec<Fault>) {
        self.0.lock().unwrap().faults = faults;
    }
}

impl Medium for Memory {
    fn scheme(&mut self) -> io::Result<Scheme> {
        Ok(if self.0.lock().unwrap().boolean { Scheme::Boolean } else { Scheme::Incremental })
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.bytes();
        if bytes.is_empty() { Err(io::Error::other("gone")) } else { Ok(bytes) }
    }

    fn write(&mut self, image: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.writes += 1;
        let fault = if state.faults.is_empty() { None } else { Some(state.faults.remove(0)) };
        match fault {
            None => state.lasting = image.to_vec(),
            Some(Fault::Lie) => {}
            Some(Fault::Error(len)) => {
                state.lasting[..len].copy_from_slice(&image[..len]);
                return Err(io::Error::other("it burns"));
            }
        }
        Ok(())
    }

    fn clear_flag(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        match state.faults.pop() {
            None => state.lasting[4] = 0,
            Some(Fault::Lie) => {}
            Some(Fault::Error(_)) => return Err(io::Error::other("it burns")),
        }
        Ok(())
    }
}

fn env(value: &str) -> Env {
    let mut env = Env::default();
    env.set("slot", value);
    // Long enough that a change shows in the last sector as well.
    env.set("long", &value.repeat(SIZE - 40));
    env
}

fn image(flag: u8, value: &str) -> Vec<u8> {
    env::encode(Layout::Redundant, SIZE, flag, &env(value)).unwrap()
}

fn copies(media: &[&Memory]) -> Copies {
    let labelled = media.iter().enumerate().map(|(index, medium)| {
        (Box::new((*medium).clone()) as Box<dyn Medium>, format!("f:{}: /e{index} at 0x0", index + 1))
    });
    Copies::new(labelled.collect(), SIZE)
}

fn value(media: &[&Memory]) -> Result<String, String> {
    let loaded = copies(media).load()?;
    Ok(String::from_utf8(loaded.env.get("slot").unwrap_or(b"none").to_vec()).unwrap())
}

fn save(media: &[&Memory], value: &str) -> Result<(), String> {
    let mut copies = copies(media);
    let loaded = copies.load()?;
    copies.save(&loaded, &env(value))
}

#[test]
fn only_the_copy_that_does_not_count_is_written_once() {
    for (flags, target) in [([3, 2], 1), ([2, 3], 0), ([255, 0], 0), ([0, 255], 1), ([7, 7], 1)] {
        let media = [Memory::holding(image(flags[0], "a")), Memory::holding(image(flags[1], "a"))];
        let before = media[1 - target].bytes();
        save(&[&media[0], &media[1]], "b").unwrap();
        assert_eq!(media[1 - target].bytes(), before, "{flags:?}");
        assert_eq!((media[target].writes(), media[1 - target].writes()), (1, 0));
        assert_eq!(media[target].bytes(), image(flags[1 - target].wrapping_add(1), "b"));
        assert_eq!(value(&[&media[0], &media[1]]).unwrap(), "b");
    }
}

#[test]
fn p091_one_bad_copy_is_warned_of_and_healed_by_the_next_write() {
    for bad in [0, 1] {
        for bytes in [vec![0xff; SIZE], image(9, "z")[..100].to_vec(), Vec::new()] {
            let media =
                [0, 1].map(|index| Memory::holding(if index == bad { bytes.clone() } else { image(5, "a") }));
            let media = [&media[0], &media[1]];
            let loaded = copies(&media).load().unwrap();
            assert_eq!(loaded.env, env("a"));
            assert_eq!(loaded.warnings.len(), 1);
            let wanted = format!("a copy of the U-Boot environment is lost: f:{}: /e{bad}", bad + 1);
            assert!(loaded.warnings[0].starts_with(&wanted), "{:?}", loaded.warnings);
            save(&media, "b").unwrap();
            assert_eq!((media[bad].bytes(), value(&media).unwrap()), (image(6, "b"), "b".to_owned()));
            assert!(copies(&media).load().unwrap().warnings.is_empty());
        }
    }
}

#[test]
fn p092_two_bad_copies_are_an_error_that_says_where_and_nothing_is_written() {
    let media = [Memory::holding(vec![0; SIZE]), Memory::default()];
    let media = [&media[0], &media[1]];
    let error = copies(&media).load().unwrap_err();
    assert_eq!(
        error,
        "no U-Boot environment (compare offset and size with U-Boot's): \
         f:1: /e0 at 0x0: CRC 00000000, should be a738ea1c; f:2: /e1 at 0x0: gone"
            .replace("a738ea1c", &format!("{:08x}", crc32fast::hash(&vec![0; SIZE - 5])))
    );
    assert!(error.len() < crate::model::Reason::MAX_DETAIL);
    assert!(save(&media, "b").is_err());
    assert_eq!(media.map(Memory::writes), [0, 0]);
}

#[test]
fn p094_a_failed_write_is_repeated_whole_and_then_given_up() {
    let media = [Memory::holding(image(1, "a")), Memory::holding(image(0, "a"))];
    let media = [&media[0], &media[1]];
    media[1].fail(vec![Fault::Error(700)]);
    save(&media, "b").unwrap();
    assert_eq!((media[1].writes(), value(&media).unwrap()), (2, "b".to_owned()));

    media[0].fail(vec![Fault::Error(700), Fault::Error(SECTOR)]);
    let error = save(&media, "c").unwrap_err();
    assert_eq!(error, "writing f:1: /e0 at 0x0: it burns");
    assert_eq!(value(&media).unwrap(), "b", "as before");
}

#[test]
fn what_does_not_last_is_noticed() {
    let media = [Memory::holding(image(1, "a")), Memory::holding(image(0, "a"))];
    let media = [&media[0], &media[1]];
    media[1].fail(vec![Fault::Lie]);
    save(&media, "b").unwrap();
    assert_eq!(media[1].writes(), 2, "written again");
    media[0].fail(vec![Fault::Lie, Fault::Lie]);
    let error = save(&media, "c").unwrap_err();
    assert_eq!(error, "writing f:1: /e0 at 0x0: it does not hold what was written");
    assert_eq!(value(&media).unwrap(), "b");
}

#[test]
fn a_single_copy_is_written_in_place_and_warned_of() {
    let medium = Memory::holding(env::encode(Layout::Single, SIZE, 0, &env("a")).unwrap());
    let mut single = copies(&[&medium]);
    let loaded = single.load().unwrap();
    assert_eq!(
        loaded.warnings,
        [
            "the U-Boot environment is not redundant (f:1: /e0 at 0x0): a power cut while it is written can lose it"
        ]
    );
    single.save(&loaded, &env("b")).unwrap();
    assert_eq!(medium.writes(), 1);
    assert_eq!(value(&[&medium]).unwrap(), "b");
}

#[test]
fn what_does_not_fit_is_not_written() {
    let media = [Memory::holding(image(1, "a")), Memory::holding(image(0, "a"))];
    let mut pair = copies(&[&media[0], &media[1]]);
    let loaded = pair.load().unwrap();
    let mut large = loaded.env.clone();
    large.set("more", &"x".repeat(60));
    let error = pair.save(&loaded, &large).unwrap_err();
    assert!(error.starts_with("the variables need 2088 bytes, the environment has 2043"), "{error}");
    assert_eq!(media[1].writes(), 0);
}

/// The heart of it: whatever part of our write reaches the medium, the environment is the old or the new one.
#[test]
fn p107_every_torn_write_leaves_old_or_new() {
    let mut cases = 0;
    for flags in [[1, 0], [0, 1], [255, 254], [255, 0], [0, 255], [4, 4], [9, 200]] {
        for (other, next) in [("a", "b"), ("b", "b"), ("b", "a"), ("c", "b")] {
            let current = Scheme::Incremental.choose(flags);
            let value_of = |index: usize| if index == current { "a" } else { other };
            let media = [0, 1].map(|index| Memory::holding(image(flags[index], value_of(index))));
            let media = [&media[0], &media[1]];
            let (target, old) = (media[1 - current], media[1 - current].bytes());
            save(&media, next).unwrap();
            let new = target.bytes();
            // Every subset of sectors: prefixes, suffixes and whatever a reordering cache leaves.
            let sectors = SIZE / SECTOR;
            for written in 0..1_u32 << sectors {
                let mut torn = old.clone();
                for sector in (0..sectors).filter(|sector| written & (1 << sector) != 0) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    torn[range.clone()].copy_from_slice(&new[range]);
                }
                target.0.lock().unwrap().lasting = torn;
                let found = value(&media).unwrap();
                assert!(found == "a" || found == next, "{flags:?} {other} {next} {written:b}: {found}");
                cases += 1;
            }
            // And every prefix, byte by byte where the header is.
            for len in (0..16).chain((0..=SIZE).step_by(97)) {
                let mut torn = old.clone();
                torn[..len].copy_from_slice(&new[..len]);
                target.0.lock().unwrap().lasting = torn;
                let found = value(&media);
                assert!(
                    found.as_deref() == Ok("a") || found.as_deref() == Ok(next),
                    "{flags:?} {len}: {found:?}"
                );
                cases += 1;
            }
        }
    }
    assert!(cases > 1000, "{cases}");
}

fn boolean_pair(flags: [u8; 2]) -> [Memory; 2] {
    flags.map(|flag| {
        let memory = Memory::holding(image(flag, "a"));
        memory.0.lock().unwrap().boolean = true;
        memory
    })
}

#[test]
fn boolean_flags_retire_the_old_copy() {
    for flags in [[1, 0], [0, 1], [0xff, 0]] {
        let current = Scheme::Boolean.choose(flags);
        let media = boolean_pair(flags);
        let media = [&media[0], &media[1]];
        save(&media, "b").unwrap();
        assert_eq!((media[current].bytes()[4], media[1 - current].bytes()[4]), (0, 1), "{flags:?}");
        assert_eq!(value(&media).unwrap(), "b");
    }
}

#[test]
fn a_copy_that_cannot_be_retired_decides_by_the_loaders_rule() {
    for fault in [|| Fault::Error(0), || Fault::Lie] {
        // Both active: the loader takes the first. If that is the old one, the change did not happen.
        let media = boolean_pair([1, 0]);
        let media = [&media[0], &media[1]];
        media[0].fail(vec![fault()]);
        assert!(save(&media, "b").unwrap_err().starts_with("marking f:1: /e0 at 0x0 obsolete: it "));
        assert_eq!(value(&media).unwrap(), "a");
        // If it is the new one, it did.
        let media = boolean_pair([0, 1]);
        let media = [&media[0], &media[1]];
        media[1].fail(vec![fault()]);
        save(&media, "b").unwrap();
        assert_eq!(value(&media).unwrap(), "b");
    }
}

#[test]
fn a_mixed_pair_is_refused() {
    let media = boolean_pair([1, 0]);
    media[1].0.lock().unwrap().boolean = false;
    let error = copies(&[&media[0], &media[1]]).load().unwrap_err();
    assert_eq!(error, "f:1: /e0 at 0x0 and f:2: /e1 at 0x0 are of different kinds; use two alike");
}
