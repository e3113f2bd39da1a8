//! GRUB's environment block against the tool that everybody else uses: `grub-editenv`.
//!
//! Both ways: what we write it reads, what it writes we read, and blocks that it refuses we refuse. The tests are of the
//! peers tier: they need the Debian packages `grub-common` and `strace`. Cases are random from a fixed seed; `SEED=n`
//! tries others.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use twinboot::boot::Bootloader as _;
use twinboot::boot::grub::block::{Block, Damage, SIZE};
use twinboot::boot::grub::{Grub, Settings};
use twinboot::model::{Image, PerSlot, Sha256, Slot, TargetSlot, VerifiedSlot};

type Variables = BTreeMap<String, String>;

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

    fn name(&mut self) -> String {
        const OURS: [&str; 7] =
            ["ORDER", "A_OK", "A_TRY", "B_OK", "B_TRY", "twinboot_trial", "twinboot_tries"];
        const LETTERS: &[u8] = b"abcxyzABC019_-.";
        match self.below(5) {
            0 => self.pick(&OURS).to_owned(),
            // Names that end or begin as ours do.
            1 => format!("x{}", self.pick(&OURS)),
            2 => format!("{}_2", self.pick(&OURS)),
            // A dash in front would be an option of the tool's.
            _ => std::iter::once('x')
                .chain((0..self.below(9)).map(|_| char::from(self.pick(LETTERS))))
                .collect(),
        }
    }

    /// Printable, with what the format treats specially more often than not.
    fn value(&mut self) -> String {
        let len = self.below(self.pick_length());
        (0..len)
            .map(|_| match self.below(6) {
                0 => self.pick(&['\\', '#', '=', ' ', '\'']),
                _ => char::from(u8::try_from(33 + self.below(90)).unwrap()),
            })
            .collect()
    }

    fn pick_length(&self) -> usize {
        if self.0.is_multiple_of(5) { 150 } else { 20 }
    }
}

/// A directory with a block.
struct Board(tempfile::TempDir);

impl Board {
    fn new() -> Self {
        let board = Self(tempfile::tempdir().unwrap());
        assert!(board.tool(&["create"]).status.success());
        board
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("grubenv")
    }

    fn tool(&self, words: &[&str]) -> Output {
        Command::new("grub-editenv").arg(self.path()).args(words).output().unwrap()
    }

    fn tool_sets(&self, variables: &[(&str, &str)]) -> bool {
        let words: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words: Vec<_> = std::iter::once("set").chain(words.iter().map(String::as_str)).collect();
        self.tool(&words).status.success()
    }

    /// `None` if it refuses.
    fn tool_lists(&self) -> Option<Variables> {
        let output = self.tool(&["list"]);
        output.status.success().then(|| {
            let text = String::from_utf8_lossy(&output.stdout);
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        })
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn loader(&self) -> Grub {
        let names = PerSlot { a: "A".to_owned(), b: "B".to_owned() };
        Grub::open(Settings { environment: self.path(), names, tries: 3, root: "/proc".into() }).unwrap()
    }

    fn factory() -> Self {
        let board = Self::new();
        let variables = [("ORDER", "A B"), ("A_OK", "1"), ("A_TRY", "0"), ("B_OK", "0"), ("B_TRY", "0")];
        assert!(board.tool_sets(&variables));
        board
    }
}

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

/// As the tool prints them: without what stands before backslashes.
fn plain(value: &[u8]) -> String {
    let mut bytes = value.iter();
    let mut plain = vec![];
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap() } else { *byte });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[test]
#[ignore = "peers: needs grub-editenv"]
fn peers_what_the_tool_writes_we_read() {
    const BLOCKS: usize = 60;
    let mut random = Random::new(1);
    let (mut cases, mut full) = (0, 0);
    for _ in 0..BLOCKS {
        let board = Board::new();
        for _ in 0..12 {
            let (name, value) = (random.name(), random.value());
            if random.below(5) == 0 {
                assert!(board.tool(&["unset", &name]).status.success());
            } else {
                full += usize::from(!board.tool_sets(&[(&name, &value)]));
            }
            let listed = board.tool_lists().unwrap();
            let block = Block::decode(&board.bytes()).unwrap();
            for (name, value) in &listed {
                assert_eq!(block.get(name).map(plain).as_ref(), Some(value), "{name}");
            }
            let name = random.name();
            assert_eq!(block.get(&name).map(plain), listed.get(&name).cloned(), "{name}");
            cases += 1;
        }
    }
    println!("{cases} blocks of grub-editenv read by us, which was full {full} times");
}

#[test]
#[ignore = "peers: needs grub-editenv"]
fn peers_our_verbs_change_what_they_should_and_nothing_else() {
    const CASES: usize = 150;
    let mut random = Random::new(2);
    let (mut full, mut done) = (0, 0);
    for case in 0..CASES {
        let board = Board::new();
        let strangers = random.below(14);
        let factory = [("ORDER", "A B"), ("A_OK", "1"), ("A_TRY", "0"), ("B_OK", "1"), ("B_TRY", "0")];
        let at = random.below(strangers + 1);
        for index in 0..=strangers {
            if index == at {
                assert!(board.tool_sets(&factory));
            } else {
                let (name, value) = (format!("x{}", random.name()), random.value());
                board.tool_sets(&[(&name, &value)]);
            }
        }
        let mut wanted = board.tool_lists().unwrap();
        let mut set = |pairs: &[(&str, &str)]| {
            wanted.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        };
        let mut loader = board.loader();
        let before = board.bytes();
        set(&[("ORDER", "B A"), ("twinboot_trial", "-"), ("twinboot_tries", "3")]);
        let outcome = match random.below(3) {
            0 => {
                set(&[("twinboot_trial", "b")]);
                loader.arm(&verified(Slot::B))
            }
            1 => {
                let done = loader.commit(Slot::B, Some(7));
                // Where there is no room for it, the commit is what counts.
                if loader.view().is_ok_and(|view| view.floor == Some(7)) {
                    set(&[("twinboot_floor", "00000000000000000007")]);
                }
                done
            }
            _ => {
                set(&[("A_OK", "0")]);
                loader.revert(Slot::B)
            }
        };
        match outcome {
            Ok(()) => {
                assert_eq!(board.tool_lists().unwrap(), wanted, "case {case}");
                done += 1;
            }
            Err(error) => {
                // Temporary files may be in memory, where nothing is armed.
                let is_known =
                    ["is full", "tmpfs", "overlayfs"].iter().any(|it| error.to_string().contains(it));
                assert!(is_known, "case {case}: {error}");
                assert_eq!(board.bytes(), before);
                full += 1;
            }
        }
    }
    assert!(done > CASES / 2, "{done}");
    println!("{done} verbs of ours listed by grub-editenv, {full} refused");
}

/// Both write, in turns; what the tool does to a variable of ours, we see.
#[test]
#[ignore = "peers: needs grub-editenv"]
fn peers_taking_turns_for_a_long_time() {
    const CASES: usize = 200;
    let mut random = Random::new(3);
    let board = Board::factory();
    let mut wanted = board.tool_lists().unwrap();
    for case in 0..CASES {
        let slot = random.pick(&Slot::BOTH);
        let (one, other) = if slot == Slot::A { ("A", "B") } else { ("B", "A") };
        let order = format!("{one} {other}");
        let (one_ok, other_ok) = (format!("{one}_OK"), format!("{other}_OK"));
        let mut new: Vec<(&str, &str)> = vec![("ORDER", &order), (&one_ok, "1"), (&other_ok, "0")];
        let note = random.value();
        if random.below(2) == 0 {
            board.loader().revert(slot).unwrap();
            new.extend([("A_TRY", "0"), ("B_TRY", "0"), ("twinboot_trial", "-"), ("twinboot_tries", "3")]);
        } else {
            new.extend([("A_TRY", random.pick(&["0", "1"])), ("note", note.as_str())]);
            assert!(board.tool_sets(&new));
        }
        wanted.extend(new.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        assert_eq!(board.tool_lists().unwrap(), wanted, "case {case}");
        assert_eq!(board.loader().view().unwrap().default, slot, "case {case}");
    }
    println!("{CASES} turns of us and grub-editenv, each read by both");
}

#[test]
#[ignore = "peers: needs grub-editenv"]
fn peers_p095_what_the_tool_refuses_we_refuse() {
    const CASES: usize = 500;
    let mut random = Random::new(4);
    let (mut refused, mut stricter) = (0, 0);
    for case in 0..CASES {
        let board = Board::factory();
        let mut bytes = board.bytes();
        match random.below(4) {
            0 => bytes[random.below(25)] ^= 1 << random.below(8),
            1 => bytes.truncate(random.below(SIZE)),
            2 => {
                let from = random.below(SIZE);
                bytes[from..].fill(random.pick(&[0, 0xff, b'x', b'#']));
            }
            _ => {
                let (at, bit) = (random.below(SIZE), 1 << random.below(8));
                // With these in it, or without these at its end, a name is no line of a list.
                let is_split =
                    [b'\n', b'\\'].contains(&(bytes[at] ^ bit)) || [b'#', b'='].contains(&bytes[at]);
                if !is_split {
                    bytes[at] ^= bit;
                }
            }
        }
        fs::write(board.path(), &bytes).unwrap();
        let listed = board.tool_lists();
        match (listed, Block::decode(&bytes)) {
            (Some(listed), Ok(block)) => {
                for (name, value) in listed {
                    if !name.contains(char::REPLACEMENT_CHARACTER) {
                        assert_eq!(block.get(&name).map(plain), Some(value), "case {case}: {name}");
                    }
                }
            }
            (None, Err(_)) => refused += 1,
            // It lists the half of what it could not save to.
            (Some(_), Err(Damage::Size(_) | Damage::Unfinished)) => {
                let saved = board.tool_sets(&[("new", "1")]);
                let is_short = bytes.len() < SIZE;
                assert!(!saved || is_short, "case {case}: GRUB saves to what we call damaged");
                stricter += 1;
            }
            (tool, ours) => panic!("case {case}: the tool {tool:?}, we {ours:?}"),
        }
    }
    assert!(refused > 50 && stricter > 50, "{refused} {stricter}");
    println!(
        "{CASES} damaged blocks: {refused} refused by both, {stricter} by us since GRUB could not save to them"
    );
}

/// What the kernel is asked to do in one verb: one write of the whole block, one flush, in this order; never a file that
/// is cut short, made or renamed.
#[test]
#[ignore = "peers: needs strace and grub-editenv"]
fn peers_p090_a_verb_is_one_write_and_one_flush() {
    const CHILD: &str = "TWINBOOT_TRACED_BLOCK";
    let verbs = |board: &mut Grub| {
        board.revert(Slot::B).unwrap();
        board.commit(Slot::A, None).unwrap();
        board.revert(Slot::A).unwrap();
    };
    if let Some(environment) = std::env::var_os(CHILD) {
        let names = PerSlot { a: "A".to_owned(), b: "B".to_owned() };
        return verbs(
            &mut Grub::open(Settings {
                environment: environment.into(),
                names,
                tries: 3,
                root: "/proc".into(),
            })
            .unwrap(),
        );
    }
    let board = Board::factory();
    // The first verb of a block's life moves things.
    verbs(&mut board.loader());
    let trace = board.0.path().join("trace");
    let mut strace = Command::new("strace");
    let calls = "trace=pwrite64,pwritev,write,fsync,fdatasync,openat,ftruncate,truncate,rename,renameat2";
    strace.args(["-f", "-y", "-e", calls, "-o"]).arg(&trace).arg(std::env::current_exe().unwrap());
    strace.args(["--exact", "peers_p090_a_verb_is_one_write_and_one_flush", "--ignored"]);
    assert!(strace.env(CHILD, board.path()).stdout(Stdio::null()).status().unwrap().success());
    let trace = fs::read_to_string(trace).unwrap();
    let name = board.path().display().to_string();
    let lines: Vec<_> = trace.lines().filter(|line| line.contains(&name)).collect();
    let names = lines.iter().map(|line| line.split_whitespace().nth(1).unwrap_or_default());
    let names: Vec<_> = names.map(|call| call.split('(').next().unwrap_or_default()).collect();
    let names: Vec<_> = names.into_iter().filter(|name| *name != "openat").collect();
    assert_eq!(names, ["pwrite64", "fdatasync"].repeat(3), "{trace}");
    assert_eq!(trace.matches(", 1024, 0) = 1024").count(), 3, "{trace}");
    assert!(!lines.iter().any(|line| line.contains("O_TRUNC") || line.contains("O_CREAT")), "{trace}");
    println!("3 verbs traced: each writes once, in place, and flushes once");
}
