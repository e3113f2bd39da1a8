//! Fuzz targets: one for each parser that meets bytes from outside, each with what must hold beside not panicking.
//!
//! One program for all of them, or each would link the whole crate: `FUZZ_TARGET` says which one runs. With `FUZZ_SEEDS`
//! it writes that target's seeds and dictionary into a directory and ends. With `FUZZ_PLANTED` the target holds its
//! parser to a rule that is wrong, which the fuzzer has to find out. `tests/fuzz/run` knows how to build and run it.
#![no_main]

mod kit;
mod memory;
mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

/// The target that runs.
fn target() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|it| it.name == name);
        found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}, which is none of {:?}", names()))
    })
}

fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|it| it.name).collect()
}

/// Does what is asked for instead of fuzzing, if that is asked for.
fn prepare() {
    if std::env::var_os("FUZZ_LIST").is_some() {
        TARGETS.iter().for_each(|it| println!("{} {}", it.name, it.longest));
        std::process::exit(0);
    }
    if let Some(directory) = std::env::var_os("FUZZ_SEEDS") {
        target().write_seeds(directory.as_ref()).expect("the seeds can be written");
        std::process::exit(0);
    }
    // What is made once, such as keys, is no input's memory.
    (target().seeds)().iter().for_each(|seed| (target().run)(seed));
    kit::plant(std::env::var_os("FUZZ_PLANTED").is_some());
}

libfuzzer_sys::fuzz_target!(
    init: prepare(),
    |bytes: &[u8]| {
        let before = memory::begin();
        (target().run)(bytes);
        let (most, took) = (target().memory + bytes.len() * 64, memory::peak() - before);
        assert!(took <= most, "{took} bytes of memory for {} bytes, where {most} is the most", bytes.len());
    }
);
