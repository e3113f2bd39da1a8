//! The shape of the program, held by a test, because modules cannot hold it: which module may use which, what is kept
//! out of the decisions, and a few rules of the house.
//!
//! The tables below are the documentation. A row that is not needed any more is an error too.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "architecture/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Token, paths, shipped, tokens};

/// A module at the top, its floor, and what it uses.
type Module = (&'static str, u8, &'static [&'static str]);

/// A floor may use the floors below it, and does use no more than what is named here.
/// Above them all is `main.rs`, the only place where adapters are chosen.
const MODULES: [Module; 28] = [
    // Words: values that cannot be wrong.
    ("model", 0, &[]),
    // Decisions: what follows from what happened, and what is told about it.
    ("update", 1, &["model"]),
    ("report", 1, &["model", "update"]),
    // Adapters: each a door to one part of the world. They do not know each other.
    ("boot", 2, &["durable", "model", "program"]),
    ("bundle", 2, &["model"]),
    ("durable", 2, &[]),
    ("health", 2, &["model", "program"]),
    ("hooks", 2, &["model", "program"]),
    ("host", 2, &["model"]),
    ("hub", 2, &["durable", "model", "proxy", "secret", "stamp", "tls", "wire"]),
    ("image", 2, &["bundle", "durable", "model", "proxy", "tls", "wire"]),
    ("keyring", 2, &["bundle", "program"]),
    ("program", 2, &[]),
    ("properties", 2, &["model", "program"]),
    ("proxy", 2, &["secret"]),
    ("secret", 2, &[]),
    ("slots", 2, &["model"]),
    ("store", 2, &["durable", "model", "update"]),
    ("stamp", 2, &[]),
    ("tls", 2, &["stamp"]),
    ("wire", 2, &["model"]),
    // The engine, and what it listens and speaks to.
    ("config", 3, &["host", "hub", "model", "proxy"]),
    ("control", 3, &["model"]),
    (
        "engine",
        3,
        &[
            "boot",
            "bundle",
            "control",
            "durable",
            "events",
            "health",
            "hooks",
            "host",
            "hub",
            "image",
            "model",
            "program",
            "properties",
            "report",
            "slots",
            "store",
            "update",
        ],
    ),
    ("events", 3, &["model"]),
    // The same for the process that has the network, if it is another one.
    ("net", 3, &["hub", "image", "wire"]),
    // Doors: what a person calls.
    ("cli", 4, &["config", "control", "model"]),
    ("lib", 4, &[]),
];

/// Modules that use a neighbour on their own floor, and why.
const NEIGHBOURS: [(&str, &str); 24] = [
    // A report is a projection of the state.
    ("report", "update"),
    // Both keep what must survive a power cut in two generations.
    ("image", "durable"),
    // What is in a bundle, and whether to trust it, is told without touching anything.
    ("image", "bundle"),
    ("store", "durable"),
    // The hub that a device was assigned to is remembered.
    ("hub", "durable"),
    // Both connect: through the same proxy, to those who are trusted as of now.
    ("hub", "proxy"),
    ("hub", "tls"),
    ("image", "proxy"),
    ("image", "tls"),
    // Both may leave it to another process.
    ("hub", "wire"),
    ("image", "wire"),
    // Keys, passwords and authorities are guarded files that are exchanged under a running daemon.
    ("hub", "secret"),
    ("hub", "stamp"),
    ("proxy", "secret"),
    ("tls", "stamp"),
    // A board's program knows its bootloader, and not what is on trial.
    ("boot", "durable"),
    ("boot", "program"),
    // Programs of the integrator are run in one way.
    ("health", "program"),
    ("hooks", "program"),
    ("properties", "program"),
    // Keys are what bundles are judged by, and their files are trusted as programs are.
    ("keyring", "bundle"),
    ("keyring", "program"),
    // It answers those who ask, and tells what it does.
    ("engine", "control"),
    ("engine", "events"),
];

/// The only dependencies of floors 0 and 1: they compute, and touch nothing.
const PURE_CRATES: [&str; 4] = ["serde", "serde_json", "sha2", "thiserror"];

/// What floors 0 and 1 have no business with: the world, the time, and order that differs from run to run.
const IMPURE: [&[&str]; 12] = [
    &["std", "collections", "HashMap"],
    &["std", "collections", "HashSet"],
    &["std", "collections", "hash_map"],
    &["std", "env"],
    &["std", "fs"],
    &["std", "io"],
    &["std", "net"],
    &["std", "os"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
];

/// The files with unsafe code.
const UNSAFE: [&str; 1] = ["src/boot/uboot/mtd.rs"];

/// The files that may create, overwrite or rename without `durable`, which is made to survive a power cut.
const WRITERS: [&str; 5] = [
    // The switch of the kernel that makes an eMMC boot partition writable: not a file of ours.
    "src/boot/uboot/device.rs",
    // Sockets and boot stamps below /run are gone after a power cut anyway.
    "src/control/socket.rs",
    "src/durable.rs",
    "src/durable/draft.rs",
    "src/host.rs",
];

/// Lines of a file that is not a test.
const CAP: usize = 400;

/// The tiers of tests/run that run what `cargo test` leaves out.
const TIERS: [&str; 2] = ["deep", "peers"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory: its path from the root, and its text.
fn files(below: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut directories: Vec<PathBuf> = vec![root().join(below)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// Tests may do what they like, at any length.
fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

/// The module that a file of `src/` is, from the top.
fn module(file: &str) -> Vec<&str> {
    let name = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    name.split('/').collect()
}

/// What is wrong with one file of `src/`, by itself.
fn faults(file: &str, text: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    if is_test(file) {
        return vec![];
    }
    let tokens = shipped(&tokens(text));
    let mut faults = edges(file, &tokens).1;
    let mut fault = |line: usize, what: &str| faults.push(format!("{file}:{line}: {what}"));
    if text.lines().count() > CAP {
        fault(text.lines().count(), &format!("more than {CAP} lines"));
    }
    let top = module(file)[0];
    for (at, token) in tokens.iter().enumerate() {
        if token.is("unsafe") && !UNSAFE.contains(&file) {
            fault(token.line, "unsafe code");
        }
        let is_print = ["dbg", "eprint", "eprintln", "print", "println"].iter().any(|it| token.is(it));
        let is_door = ["bin", "cli", "main"].contains(&top);
        if is_print && !is_door && tokens.get(at + 1).is_some_and(|it| it.is("!")) {
            fault(token.line, "prints: that is for cli, and for events");
        }
    }
    for path in paths(&module(file), &tokens) {
        let names: Vec<_> = path.segments.iter().map(String::as_str).collect();
        if writes(&names) && !WRITERS.contains(&file) {
            fault(path.line, &format!("{} does not survive a power cut: see `durable`", names.join("::")));
        }
    }
    if MODULES.iter().any(|(name, floor, _)| *name == top && *floor <= 1) {
        faults.extend(impurities(file, &tokens, dependencies));
    }
    faults
}

fn writes(path: &[&str]) -> bool {
    let [.., of, function] = path else { return false };
    match *of {
        "fs" => ["copy", "hard_link", "rename", "write"].contains(function),
        "File" => ["create", "create_buffered", "create_new"].contains(function),
        _ => false,
    }
}

/// What floors 0 and 1 must be free of.
fn impurities(file: &str, tokens: &[Token], dependencies: &BTreeSet<String>) -> Vec<String> {
    let mut faults = vec![];
    for token in tokens.iter().filter(|it| it.is("async") || it.is("await")) {
        faults.push(format!("{file}:{}: decisions do not wait: {}", token.line, token.text));
    }
    for path in paths(&module(file), tokens) {
        let names: Vec<_> = path.segments.iter().map(String::as_str).collect();
        let is_world = |it: &&[&str]| {
            names.starts_with(it) || it.starts_with(names.strip_suffix(&["*"]).unwrap_or(&names))
        };
        let is_dependency = dependencies.contains(names[0]) && !PURE_CRATES.contains(&names[0]);
        if IMPURE.iter().any(is_world) || is_dependency {
            faults.push(format!("{file}:{}: decisions are pure: {}", path.line, names.join("::")));
        }
    }
    faults
}

/// The modules that a file uses, and the uses that are not allowed.
fn edges(file: &str, tokens: &[Token]) -> (BTreeSet<String>, Vec<String>) {
    let top = module(file)[0];
    let (mut used, mut faults) = (BTreeSet::new(), vec![]);
    if ["main", "bin"].contains(&top) {
        return (used, faults);
    }
    let Some((_, _, allowed)) = MODULES.iter().find(|(name, ..)| *name == top) else {
        return (used, vec![format!("{file}: `{top}` has no row in MODULES")]);
    };
    for path in paths(&module(file), tokens).iter().filter(|it| it.segments[0] == "crate") {
        let to = path.segments.get(1).map_or("the whole crate", String::as_str);
        if to == top {
            continue;
        }
        if !allowed.contains(&to) {
            faults.push(format!("{file}:{}: `{top}` may not use `{to}`", path.line));
        }
        used.insert(to.to_owned());
    }
    (used, faults)
}

/// What is wrong with how tests are left out: each belongs to a tier that runs it, by its reason and its name.
fn ignored(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let (mut faults, mut attributes, mut at) = (vec![], vec![], 0);
    while let Some(token) = tokens.get(at) {
        let is_attribute = token.is("#") && tokens.get(at + 1).is_some_and(|it| it.is("["));
        if is_attribute {
            let end = (at..tokens.len()).find(|&it| tokens[it].is("]")).unwrap_or(tokens.len());
            attributes.push(&tokens[at + 2..end]);
            at = end;
        } else if token.is("fn") {
            let name = tokens.get(at + 1).map_or("", |it| &it.text);
            let fault = ignored_test(name, &attributes);
            faults.extend(fault.map(|it| format!("{file}:{}: {name}: {it}", token.line)));
        }
        if !is_attribute && !["async", "pub"].iter().any(|it| token.is(it)) {
            attributes.clear();
        }
        at += 1;
    }
    faults
}

fn ignored_test(name: &str, attributes: &[&[Token]]) -> Option<String> {
    let tier = TIERS.iter().find(|tier| name.starts_with(&format!("{tier}_")));
    let ignores: Vec<_> = attributes.iter().filter(|it| it.iter().any(|token| token.is("ignore"))).collect();
    let is_test =
        attributes.iter().any(|it| it.first().is_some_and(|word| word.is("test") || word.is("tokio")));
    match (ignores.as_slice(), tier) {
        ([], Some(tier)) if is_test => Some(format!("is named for the tier {tier}, but not ignored")),
        ([], _) => None,
        ([[word, equals, reason]], Some(tier)) if word.is("ignore") && equals.is("=") => {
            let told = reason.text.strip_prefix(&format!("{tier}: ")).is_some_and(|it| !it.is_empty());
            (!told).then(|| format!("its reason has to begin with \"{tier}: \", and say why"))
        }
        (_, Some(_)) => Some("is ignored without a reason, or only sometimes".to_owned()),
        (_, None) => Some(format!("is ignored, and its name begins with no tier of {TIERS:?}")),
    }
}

/// The names of our dependencies, as code writes them.
fn dependencies() -> BTreeSet<String> {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let sections = ["dependencies", "dev-dependencies"].map(|section| manifest[section].as_table().unwrap());
    sections.iter().flat_map(|it| it.keys()).map(|name| name.replace('-', "_")).collect()
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_file_keeps_to_its_floor_and_to_the_rules() {
    let dependencies = dependencies();
    let found: Vec<_> =
        files("src").iter().flat_map(|(file, text)| faults(file, text, &dependencies)).collect();
    assert_none(&found);
}

#[test]
fn every_row_is_needed() {
    let files = files("src");
    let mut used: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !is_test(file)) {
        used.entry(module(file)[0]).or_default().extend(edges(file, &shipped(&tokens(text))).0);
    }
    let mut faults = vec![];
    for (name, _, allowed) in MODULES {
        match used.get(name) {
            None => faults.push(format!("MODULES: there is no `{name}`")),
            Some(used) => {
                let unused = allowed.iter().filter(|to| !used.contains(**to));
                faults.extend(unused.map(|to| format!("MODULES: `{name}` does not use `{to}`")));
            }
        }
    }
    let uses = |file: &str, what: fn(&[Token]) -> bool| files.get(file).is_some_and(|it| what(&tokens(it)));
    let has_unsafe = |tokens: &[Token]| tokens.iter().any(|it| it.is("unsafe"));
    faults.extend(UNSAFE.iter().filter(|file| !uses(file, has_unsafe)).map(|it| format!("UNSAFE: {it}")));
    let has_write = |tokens: &[Token]| {
        let names = paths(&[], &shipped(tokens));
        names.iter().any(|it| writes(&it.segments.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    faults.extend(WRITERS.iter().filter(|file| !uses(file, has_write)).map(|it| format!("WRITERS: {it}")));
    assert_none(&faults);
}

/// The table itself keeps to the floors.
#[test]
fn no_row_leads_up_or_across() {
    let floor = |name: &str| MODULES.iter().find(|(module, ..)| *module == name).map(|(_, floor, _)| *floor);
    let mut neighbours = BTreeSet::from(NEIGHBOURS);
    for (from, own, allowed) in MODULES {
        for &to in allowed {
            let theirs =
                floor(to).unwrap_or_else(|| panic!("`{from}` is allowed `{to}`, which does not exist"));
            let is_neighbour = neighbours.remove(&(from, to));
            assert!(theirs < own || (theirs == own && is_neighbour), "`{from}` may not use `{to}`");
            let back = MODULES.iter().find(|(module, ..)| *module == to).unwrap();
            assert!(!back.2.contains(&from), "`{from}` and `{to}` use each other");
        }
    }
    assert!(neighbours.is_empty(), "not needed in NEIGHBOURS: {neighbours:?}");
}

#[test]
fn every_ignored_test_belongs_to_a_tier() {
    let mut all = files("src");
    all.extend(files("tests"));
    let faults: Vec<_> = all.iter().flat_map(|(file, text)| ignored(file, text)).collect();
    assert_none(&faults);
    let count = all.values().flat_map(|text| tokens(text)).filter(|it| it.is("ignore")).count();
    assert!(count > 0, "none was found: is the looking broken?");
}

/// The emulator knows nothing of us: a misreading of the protocol would cancel out.
#[test]
fn the_emulator_shares_no_code_with_the_daemon() {
    let manifest = fs::read_to_string(root().join("tests/hub-emulator/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    for section in manifest.values().filter_map(toml::Value::as_table) {
        assert!(!section.contains_key("twinboot"));
    }
    let files = files("tests/hub-emulator");
    assert!(!files.is_empty());
    for (file, text) in files {
        assert!(!tokens(&text).iter().any(|it| it.is("twinboot")), "{file}");
        assert!(!tokens(&text).iter().any(|it| it.is_text() && it.text.contains("../src/")), "{file}");
    }
}

/// What each rule must find; the file says which rules hold.
const BAD: [(&str, &str, &str); 27] = [
    ("src/model/slot.rs", "use crate::update::State;", "`model` may not use `update`"),
    ("src/model/mod.rs", "use super::hub::{self};", "`model` may not use `hub`"),
    ("src/boot/uboot/env.rs", "use super::super::super::slots::SlotMap;", "`boot` may not use `slots`"),
    ("src/boot/uboot/env.rs", "mod inner { use super::super::super::super::hub; }", "may not use `hub`"),
    ("src/image/mod.rs", "use crate::{durable::Generations, store::{self, Loaded}};", "may not use `store`"),
    ("src/hub/mqtt.rs", "fn f() -> crate::engine::Engine {}", "`hub` may not use `engine`"),
    ("src/hub/mqtt.rs", "macro_rules! m { () => { $crate::cli::run() } }", "`hub` may not use `cli`"),
    ("src/events.rs", "use crate::*;", "`events` may not use `*`"),
    ("src/events.rs", "use crate as all;", "may not use `the whole crate`"),
    ("src/gadget.rs", "", "`gadget` has no row"),
    ("src/update/step.rs", "use std::{fmt, fs::File};", "pure: std::fs::File"),
    ("src/update/step.rs", "use std::time;", "pure: std::time"),
    ("src/update/step.rs", "use std::time::*;", "pure: std::time::*"),
    ("src/update/step.rs", "let now = std::time::SystemTime::now();", "pure: std::time::SystemTime::now"),
    ("src/update/step.rs", "let x = ::std::process::id();", "pure: std::process::id"),
    ("src/report/flat.rs", "use core as sneaky;", "pure: std"),
    ("src/report/flat.rs", "use tokio::time::sleep;", "pure: tokio::time::sleep"),
    ("src/model/time.rs", "fn f() { getrandom::fill(&mut x) }", "pure: getrandom::fill"),
    ("src/model/time.rs", "use std::collections::HashMap;", "pure: std::collections::HashMap"),
    ("src/report/mod.rs", "async fn f() {}", "do not wait"),
    ("src/hub/mqtt.rs", "fn f() { unsafe { g() } }", "src/hub/mqtt.rs:1: unsafe code"),
    ("src/hub/mqtt.rs", "\n\n/* /* */ */ fn f() { println!() }", "src/hub/mqtt.rs:3: prints"),
    ("src/hub/mqtt.rs", "fn f() { eprintln!(\"x\") }", "prints"),
    ("src/hub/mqtt.rs", "fn f() { std::fs::write(a, b) }", "does not survive"),
    ("src/hub/mqtt.rs", "use std::fs::{self, rename};", "std::fs::rename does not survive"),
    ("src/hub/mqtt.rs", "fn f() { File::create(a) }", "does not survive"),
    ("src/hub/mqtt.rs", "#[cfg(test)] mod tests { fn f() {} }\nfn f() { print!() }", ":2: prints"),
];

/// What no rule may find.
const GOOD: [(&str, &str); 11] = [
    ("src/model/slot.rs", "//! See [`crate::update`] and std::fs.\n/* use crate::hub; */ // println!()"),
    (
        "src/model/slot.rs",
        r##"const A: &str = "unsafe { \" crate::hub"; const B: &str = r#"std::fs "x" "#;"##,
    ),
    ("src/model/slot.rs", "fn f<'a>(it: &'a str) -> bool { it.contains('\"') || it.contains('\\'') } // \" "),
    ("src/model/slot.rs", "#[cfg(test)]\nmod tests { use crate::update::State; fn f() { println!() } }"),
    ("src/update/tests.rs", "use std::fs; use crate::hub; fn f() { println!() }"),
    ("src/hub/dialogue/tests.rs", "use crate::engine;"),
    ("src/update/step.rs", "use super::job::Job; use super::super::model::Slot; use crate::update::State;"),
    ("src/update/step.rs", "use std::time::Duration; use std::collections::{BTreeMap, BTreeSet};"),
    ("src/boot/uboot/mtd.rs", "fn f() { unsafe { g() } }"),
    ("src/main.rs", "use twinboot::engine; fn f() { println!() }"),
    ("src/cli/status.rs", "fn f() { println!() }"),
];

#[test]
fn the_rules_find_what_they_are_for() {
    let dependencies = dependencies();
    for (file, text, wanted) in BAD {
        let found = faults(file, text, &dependencies);
        assert!(found.iter().any(|it| it.contains(wanted)), "{file}: {text}: {found:?}");
    }
    for (file, text) in GOOD {
        assert_none(&faults(file, text, &dependencies));
    }
    assert!(!faults("src/hub/mqtt.rs", &"\n".repeat(CAP + 1), &dependencies).is_empty());
    assert_none(&faults("src/hub/mqtt.rs", &"\n".repeat(CAP), &dependencies));
    assert_none(&faults("src/hub/mqtt/tests.rs", &"\n".repeat(CAP + 1), &dependencies));
}

#[test]
fn the_rule_about_ignored_tests_finds_what_it_is_for() {
    for bad in [
        "#[test] #[ignore] fn peers_x() {}",
        "#[test] #[ignore = \"slow\"] fn x() {}",
        "#[test] #[ignore = \"peers: needs a broker\"] fn x() {}",
        "#[test] #[ignore = \"peers: needs a broker\"] fn deep_x() {}",
        "#[test] #[ignore = \"deep: \"] fn deep_x() {}",
        "#[ignore = \"slow: \"] #[tokio::test(start_paused = true)] pub async fn x() {}",
        "#[test] #[cfg_attr(miri, ignore = \"deep: takes minutes\")] fn deep_x() {}",
        "#[test] fn deep_x() {}",
    ] {
        assert_eq!(ignored("tests/x.rs", bad).len(), 1, "{bad}");
    }
    for good in [
        "#[test] fn x() {}",
        "fn peers_of(x: u8) {}",
        "/// #[ignore]\n#[test] fn x() { assert!(\"#[ignore] fn\".is_empty()) }",
        "#[test]\n#[should_panic]\n#[ignore = \"peers: needs a broker\"]\nfn peers_x() {}",
    ] {
        assert_none(&ignored("tests/x.rs", good));
    }
}
