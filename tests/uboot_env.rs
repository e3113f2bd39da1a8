//! U-Boot's environment against the tools that everybody else uses: `fw_printenv` and `fw_setenv` of libubootenv.
//!
//! Both ways: what we write they read, what they write we read, and of any pair of copies both choose the same one or
//! both refuse. The tests are of the peers tier: they need the Debian package `libubootenv-tool`. Cases are random
//! from a fixed seed; `SEED=n` tries others.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use twinboot::boot::Bootloader as _;
use twinboot::boot::uboot::env::{Decoded, Env, Layout, Scheme, decode, encode};
use twinboot::boot::uboot::{Dialect, Settings, UBoot};
use twinboot::model::{Image, PerSlot, Sha256, Slot, TargetSlot, VerifiedSlot};

/// Names and values, both bytes: values need not be text.
type Variables = BTreeMap<String, Vec<u8>>;

/// A small generator (xorshift64*): the same cases on every machine.
struct Random(u64);

impl Random {
    fn new(salt: u64) -> Self {
        let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        println!("seed {seed}");
        Self((seed * 1000 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word % limit as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn flag(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 2, 127, 128, 253, 254, 255];
        if self.below(4) == 0 { u8::try_from(self.below(256)).unwrap() } else { self.pick(&EDGES) }
    }

    fn name(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/";
        // A dot in front is for .flags, which the tool keeps to itself.
        let first = char::from(self.pick(&LETTERS[..62]));
        let len = self.below(12);
        std::iter::once(first).chain((0..len).map(|_| char::from(self.pick(LETTERS)))).collect()
    }

    /// Any bytes but NUL and those that end a line.
    fn value(&mut self, longest: usize) -> Vec<u8> {
        let len = 1 + self.below(longest);
        let any = self.below(3) == 0;
        let mut byte = || match any {
            true => u8::try_from(14 + self.below(242)).unwrap(),
            false => u8::try_from(33 + self.below(90)).unwrap(),
        };
        (0..len).map(|_| byte()).collect()
    }

    /// Raw entries such as a long life leaves: some twice, some without a value or a name.
    fn data(&mut self, room: usize) -> Vec<u8> {
        let mut data: Vec<u8> = Vec::new();
        let mut names = vec![self.name()];
        for _ in 0..self.below(40) {
            let name = if self.below(8) == 0 { self.below(names.len()) } else { names.len() };
            if name == names.len() {
                names.push(self.name());
            }
            let mut entry = names[name].clone().into_bytes();
            match self.below(24) {
                0 => entry.push(b'='),
                1 => entry = format!("{}_alone", self.name()).into_bytes(),
                2 => entry = b"=nameless".to_vec(),
                _ => {
                    entry.push(b'=');
                    entry.extend(self.value(60));
                }
            }
            entry.push(0);
            if data.len() + entry.len() < room {
                data.extend(entry);
            }
        }
        // Now and then, not one byte is left over.
        let left = room - data.len();
        if self.below(4) == 0 && left > 8 {
            data.extend(b"full=");
            data.extend(self.value(1));
            data.resize(room - 2, b'x');
            data.push(0);
        }
        data
    }
}

/// A directory with an environment of one or two copies in one file.
struct Board {
    directory: tempfile::TempDir,
    layout: Layout,
    size: usize,
}

impl Board {
    fn new(layout: Layout, size: usize) -> Self {
        let board = Self { directory: tempfile::tempdir().unwrap(), layout, size };
        let env = board.path("env").display().to_string();
        let second = match layout {
            Layout::Single => String::new(),
            Layout::Redundant => format!("{env} {size:#x} {size:#x}\n"),
        };
        fs::write(board.path("fw_env.config"), format!("{env} 0x0 {size:#x}\n{second}")).unwrap();
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, copies: &[Vec<u8>]) {
        fs::write(self.path("env"), copies.concat()).unwrap();
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        fs::read(self.path("env")).unwrap().chunks(self.size).map(<[u8]>::to_vec).collect()
    }

    /// What the tool reads; `None` if it refuses.
    fn tool_reads(&self) -> Option<Variables> {
        let output = Command::new("fw_printenv").arg("-c").arg(self.path("fw_env.config")).output().unwrap();
        // Without a default environment beside it, the tool has nothing to print.
        output.status.success().then(|| {
            let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let variables = lines.map(|line| {
                let equals = line.iter().position(|byte| *byte == b'=').unwrap();
                (String::from_utf8(line[..equals].to_vec()).unwrap(), line[equals + 1..].to_vec())
            });
            // U-Boot knows no empty values and refuses empty names; libubootenv prints both, old versions at least.
            variables.filter(|(name, value)| !name.is_empty() && !value.is_empty()).collect()
        })
    }

    fn tool_writes(&self, variables: &Variables) {
        let mut tool = Command::new("fw_setenv");
        tool.arg("-c").arg(self.path("fw_env.config")).args(["-s", "-"]).stdin(Stdio::piped());
        let mut tool = tool.spawn().unwrap();
        let mut script = Vec::new();
        for (name, value) in variables {
            script.extend([name.as_bytes(), b"=", value, b"\n"].concat());
        }
        tool.stdin.take().unwrap().write_all(&script).unwrap();
        assert!(tool.wait().unwrap().success());
    }

    /// What we read, by the codec and the rule of choice alone.
    fn we_decode(&self) -> Option<(usize, Decoded)> {
        let copies: Vec<_> = self.copies().iter().map(|copy| decode(self.layout, copy).ok()).collect();
        let chosen = match &copies[..] {
            [Some(first), Some(second)] => Scheme::Incremental.choose([first.flag, second.flag]),
            copies => copies.iter().position(Option::is_some)?,
        };
        Some((chosen, copies[chosen].clone().unwrap()))
    }

    fn loader(&self) -> UBoot {
        let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
        UBoot::open(Settings {
            fw_env_config: self.path("fw_env.config"),
            dialect: Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values },
            tries: 3,
            lock_file: Some(self.path("lock")),
        })
        .unwrap()
    }
}

/// Says which variables differ, not all that there are.
fn assert_same(found: Option<Variables>, wanted: Option<Variables>, case: usize) {
    let (Some(found), Some(wanted)) = (&found, &wanted) else {
        if found.is_none() && wanted.is_none() {
            return;
        }
        panic!("case {case}: one reads {:?}, the other {:?}", found.is_some(), wanted.is_some());
    };
    let names = found.keys().chain(wanted.keys()).filter(|name| found.get(*name) != wanted.get(*name));
    let differing: Vec<_> = names.map(|name| (name, found.get(name), wanted.get(name))).collect();
    assert!(differing.is_empty(), "case {case}: {differing:x?}");
}

fn variables(env: &Env) -> Variables {
    let names = env.entries().map(|entry| entry.split(|byte| *byte == b'=').next().unwrap_or_default());
    let names = names.map(|name| String::from_utf8(name.to_vec()).unwrap());
    names.filter_map(|name| env.get(&name).map(|value| (name.clone(), value.to_vec()))).collect()
}

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

fn slot_env(slot: &str, filler: usize) -> Env {
    let mut env = Env::default();
    env.set("slot", slot);
    env.set("filler", &slot.repeat(filler));
    env
}

#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_what_we_write_the_tool_reads() {
    const CASES: usize = 9000;
    const SIZES: [usize; 5] = [256, 512, 1000, 2048, 4096];
    let mut random = Random::new(1);
    let boards = SIZES.map(|size| [Layout::Single, Layout::Redundant].map(|layout| Board::new(layout, size)));
    let boards = boards.as_flattened();
    for case in 0..CASES {
        let layout = random.pick(&[Layout::Single, Layout::Redundant]);
        let size = random.pick(&SIZES);
        let board = boards.iter().find(|board| (board.layout, board.size) == (layout, size)).unwrap();
        let env = Env::from_data(&random.data(layout.capacity(size) - 1));
        let mut copies = vec![encode(layout, size, random.flag(), &env).unwrap()];
        if layout == Layout::Redundant {
            copies.push(encode(layout, size, random.flag(), &env).unwrap());
        }
        board.put(&copies);
        assert_same(board.tool_reads(), Some(variables(&env)), case);
        assert!(board.we_decode().unwrap().1.env == env, "case {case}");
    }
    println!("{CASES} environments of ours read by fw_printenv");
}

#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_what_the_tool_writes_we_read() {
    const CASES: usize = 2000;
    let mut random = Random::new(2);
    for case in 0..CASES {
        let layout = random.pick(&[Layout::Single, Layout::Redundant]);
        let board = Board::new(layout, 4096);
        let before = Env::from_data(&random.data(1000));
        let flags = [random.flag(), random.flag()];
        let copies = flags.map(|flag| encode(layout, board.size, flag, &before).unwrap());
        board.put(if layout == Layout::Single { &copies[..1] } else { &copies });
        let current = if layout == Layout::Single { 0 } else { Scheme::Incremental.choose(flags) };

        let new: Variables = (0..1 + random.below(20)).map(|_| (random.name(), random.value(50))).collect();
        board.tool_writes(&new);
        let mut wanted = variables(&before);
        wanted.extend(new);
        let (chosen, found) = board.we_decode().unwrap();
        assert_same(Some(variables(&found.env)), Some(wanted), case);
        if layout == Layout::Redundant {
            assert_eq!((chosen, found.flag), (1 - current, Scheme::Incremental.successor(flags[current])));
        }
    }
    println!("{CASES} environments of fw_setenv read by us");
}

/// Every pair of flags that matters, each copy good, corrupt or torn at every sector.
#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_of_any_two_copies_both_choose_the_same() {
    const FLAGS: [u8; 8] = [0, 1, 2, 127, 128, 253, 254, 255];
    const SIZE: usize = 0x800;
    let board = Board::new(Layout::Redundant, SIZE);
    let mut cases = 0;
    let mut compare = |copies: [Vec<u8>; 2], what: &str| {
        board.put(&copies);
        let tool = board.tool_reads().map(|variables| String::from_utf8(variables["slot"].clone()).unwrap());
        let ours = board.loader().view().ok().map(|view| view.default.letter().to_owned());
        assert_eq!(ours, tool, "{what}");
        cases += 1;
    };
    let good = |slot, flag| encode(Layout::Redundant, SIZE, flag, &slot_env(slot, 1900)).unwrap();
    for first in FLAGS {
        for second in FLAGS {
            let pair = [good("a", first), good("b", second)];
            for bad in 0..4 {
                let mut copies = pair.clone();
                for (index, copy) in
                    copies.iter_mut().enumerate().filter(|(index, _)| bad & (1 << index) != 0)
                {
                    copy[100 + index] ^= 0x10;
                }
                compare(copies, &format!("{first} {second} bad {bad:b}"));
            }
            // A write of either copy, by a writer that chose the flag by the rule, torn at every sector.
            for target in [0, 1] {
                let next = Scheme::Incremental.successor([first, second][1 - target]);
                let new = good("b", next);
                for len in (0..=SIZE).step_by(512) {
                    let mut copies = pair.clone();
                    copies[target][..len].copy_from_slice(&new[..len]);
                    compare(copies, &format!("{first} {second} copy {target} torn at {len}"));
                }
            }
        }
    }
    println!("{cases} pairs of copies: the same choice as fw_printenv");
}

#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_of_random_copies_both_choose_the_same() {
    const CASES: usize = 6000;
    const SIZE: usize = 0x800;
    let mut random = Random::new(3);
    let board = Board::new(Layout::Redundant, SIZE);
    let mut refused = 0;
    for case in 0..CASES {
        let copies = [0, 1].map(|_| {
            let slot = random.pick(&["a", "b"]);
            let filler = random.below(1900);
            let flag = random.flag();
            let mut copy = encode(Layout::Redundant, SIZE, flag, &slot_env(slot, filler)).unwrap();
            match random.below(6) {
                0 => {
                    let at = random.below(SIZE);
                    copy[at] ^= 1 << random.below(8);
                }
                1 => copy.truncate(0),
                2 => copy[random.below(4) * 512..].fill(0xff),
                _ => {}
            }
            copy.resize(SIZE, 0);
            copy
        });
        board.put(&copies);
        let tool = board.tool_reads();
        let ours = board.we_decode();
        refused += usize::from(tool.is_none());
        assert_same(ours.map(|(_, decoded)| variables(&decoded.env)), tool, case);
    }
    assert!((50..CASES / 2).contains(&refused), "{refused}");
    println!("{CASES} random pairs of copies: the same answer as fw_printenv, {refused} refused by both");
}

#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_our_verbs_change_what_they_should_and_nothing_else() {
    const CASES: usize = 3000;
    let mut random = Random::new(4);
    for case in 0..CASES {
        let layout = random.pick(&[Layout::Single, Layout::Redundant, Layout::Redundant]);
        let board = Board::new(layout, 4096);
        let mut before = Env::from_data(&random.data(3000));
        before.set("slot", "a");
        let copies = [0, 1].map(|_| encode(layout, board.size, random.flag(), &before).unwrap());
        board.put(if layout == Layout::Single { &copies[..1] } else { &copies });
        let mut loader = board.loader();
        let mut wanted = variables(&before);
        let mut set = |pairs: &[(&str, &str)]| {
            wanted.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())));
        };
        match random.below(3) {
            0 => {
                loader.arm(&verified(Slot::B)).unwrap();
                set(&[("slot", "b"), ("upgrade_available", "1"), ("bootcount", "0"), ("bootlimit", "3")]);
            }
            1 => {
                loader.commit(Slot::B, Some(7)).unwrap();
                set(&[
                    ("slot", "b"),
                    ("upgrade_available", "0"),
                    ("bootcount", "0"),
                    ("twinboot_floor", "7"),
                ]);
            }
            _ => {
                loader.revert(Slot::B).unwrap();
                set(&[("slot", "b"), ("upgrade_available", "0"), ("bootcount", "0")]);
            }
        }
        assert_same(board.tool_reads(), Some(wanted), case);
    }
    println!("{CASES} verbs of ours seen by fw_printenv");
}

/// A long life in which both write, so that the serial number wraps several times.
#[test]
#[ignore = "peers: needs fw_printenv and fw_setenv"]
fn peers_taking_turns_for_a_long_time() {
    const CASES: usize = 1200;
    let mut random = Random::new(5);
    let board = Board::new(Layout::Redundant, 2048);
    let image = |flag| encode(Layout::Redundant, 2048, flag, &slot_env("a", 10)).unwrap();
    board.put(&[image(200), image(199)]);
    let mut wanted = variables(&slot_env("a", 10));
    let mut flag = 200_u8;
    for case in 0..CASES {
        let slot = if wanted["slot"] == b"a" { Slot::B } else { Slot::A };
        let new: Variables = if random.below(2) == 0 {
            board.loader().revert(slot).unwrap();
            let zeros = [("upgrade_available", "0"), ("bootcount", "0"), ("slot", slot.letter())];
            zeros.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into()
        } else {
            let new = [
                ("slot".to_owned(), slot.letter().as_bytes().to_vec()),
                ("note".to_owned(), random.value(30)),
            ];
            let new: Variables = new.into();
            board.tool_writes(&new);
            new
        };
        wanted.extend(new);
        flag = flag.wrapping_add(1);
        let (_, found) = board.we_decode().unwrap();
        assert_eq!(found.flag, flag, "case {case}");
        assert_same(Some(variables(&found.env)), Some(wanted.clone()), case);
        assert_same(board.tool_reads(), Some(wanted.clone()), case);
        assert_eq!(board.loader().view().unwrap().default, slot);
    }
    println!("{CASES} turns of us and fw_setenv, each read by both");
}

/// What the kernel is asked to do in one verb: one write of the whole copy, one flush, in this order.
#[test]
#[ignore = "peers: needs strace"]
fn peers_p090_a_verb_is_one_write_and_one_flush() {
    const CHILD: &str = "TWINBOOT_TRACED_BOARD";
    if let Some(config) = std::env::var_os(CHILD) {
        let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
        let dialect = Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values };
        let settings = Settings { fw_env_config: config.into(), dialect, tries: 3, lock_file: None };
        let mut loader = UBoot::open(settings).unwrap();
        loader.arm(&verified(Slot::B)).unwrap();
        loader.commit(Slot::B, Some(7)).unwrap();
        loader.revert(Slot::A).unwrap();
        return;
    }
    let board = Board::new(Layout::Redundant, 0x2000);
    board.put(&[1, 0].map(|flag| encode(Layout::Redundant, 0x2000, flag, &slot_env("a", 9)).unwrap()));
    let trace = board.path("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-e", "trace=pwrite64,pwritev,write,fsync,fdatasync,flock", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().unwrap());
    strace.args(["--exact", "peers_p090_a_verb_is_one_write_and_one_flush", "--ignored"]);
    let status = strace.env(CHILD, board.path("fw_env.config")).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    let trace = fs::read_to_string(trace).unwrap();
    let env = format!("<{}>", board.path("env").display());
    let calls = trace.lines().filter(|line| line.contains(&env) || line.contains("fw_printenv.lock"));
    let calls: Vec<_> = calls.map(|line| line.split_whitespace().nth(1).unwrap_or_default()).collect();
    let mut names: Vec<_> = calls.iter().map(|call| call.split('(').next().unwrap_or_default()).collect();
    // Another test's tool may hold the lock: then it is asked for again.
    names.dedup();
    assert_eq!(names, ["flock", "pwrite64", "fdatasync"].repeat(3), "{trace}");
    assert_eq!(trace.matches(", 8192, 8192) = 8192").count(), 2, "the second copy, whole: {trace}");
    assert_eq!(trace.matches(", 8192, 0) = 8192").count(), 1, "the first copy, whole: {trace}");
    println!("3 verbs traced: each takes the tools' lock, writes once, flushes once");
}
