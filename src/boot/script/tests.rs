//! Tests with real programs, of either kind, that are cut short before and after each of their calls.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::model::{Image, Sha256, TargetSlot};

/// A loader that counts boots: what is primary boots as long as its count lasts, and `get-primary` names it at once.
const COUNTS: &str = r#"
case $1 in
get-primary) cat primary ;;
set-primary) echo 2 > left; echo "$2" > primary ;;
get-state) test -e "bad-$2" && echo bad || echo good ;;
set-state) if test "$3" = good; then rm -f "bad-$2"; test "$(cat primary)" != "$2" || echo always > left
    else touch "bad-$2"; fi ;;
*) exit 64 ;;
esac"#;

/// A loader with a flag for one boot: `get-primary` names the default until the trial is made one.
const ONCE: &str = r#"
case $1 in
get-primary) cat primary ;;
set-primary) if test "$(cat primary)" = "$2"; then rm -f once; else echo "$2" > once; fi ;;
get-state) test -e "bad-$2" && echo bad || echo good ;;
set-state) if test "$3" = good; then rm -f "bad-$2"; test "$(cat booted)" != "$2" || echo "$2" > primary
    else touch "bad-$2"; fi ;;
*) exit 64 ;;
esac"#;

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

/// A board in a directory: the script's files, and the state that both slots share.
struct Board {
    directory: tempfile::TempDir,
}

impl Board {
    fn new(kind: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let board = Self { directory };
        fs::create_dir(board.path("state")).unwrap();
        for (name, text) in [("primary", "A\n"), ("left", "always\n"), ("booted", "A\n"), ("calls", "")] {
            fs::write(board.path(name), text).unwrap();
        }
        let head =
            format!("#!/bin/sh\ncd '{}' || exit 1\necho \"$*\" >> calls\n", board.directory.path().display());
        let cut = "test ! -e cut-before || exit 1\n";
        let text = format!("{head}{cut}run() {{ {kind}\n}}\nrun \"$@\"\ntest ! -e cut-after || exit 1\n");
        board.install(&text);
        board
    }

    fn install(&self, text: &str) {
        let path = self.path("loader");
        fs::write(self.path("new"), text).unwrap();
        fs::set_permissions(self.path("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path("new"), path).unwrap();
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn loader(&self) -> Script {
        let names = PerSlot { a: "A".to_owned(), b: "B".to_owned() };
        let (program, state) = (self.path("loader"), self.path("state"));
        let (timeout, runner) = (Duration::from_secs(30), Runner::Direct);
        Script::open(Settings { program, names, timeout, runner, state }).unwrap()
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default().trim().to_owned()
    }

    /// The calls that change something, since the last time.
    fn calls(&self) -> Vec<String> {
        let calls = self.said("calls");
        fs::write(self.path("calls"), "").unwrap();
        calls.lines().filter(|call| call.starts_with("set")).map(str::to_owned).collect()
    }

    /// Plays the loader. What does not come up is booted until its count, or its flag, is gone.
    fn boot(&self, comes_up: impl Fn(&str) -> bool) -> String {
        for _ in 0..5 {
            let once = self.said("once");
            let _ = fs::remove_file(self.path("once"));
            let slot = if once.is_empty() { self.said("primary") } else { once };
            match self.said("left").as_str() {
                "always" => {}
                "0" => {
                    let other = if slot == "A" { "B" } else { "A" };
                    fs::write(self.path("primary"), other).unwrap();
                    fs::write(self.path("left"), "always").unwrap();
                    continue;
                }
                left => fs::write(self.path("left"), (left.parse::<u32>().unwrap() - 1).to_string()).unwrap(),
            }
            if comes_up(&slot) {
                fs::write(self.path("booted"), &slot).unwrap();
                return slot;
            }
        }
        panic!("bricked");
    }
}

fn view(loader: &mut Script) -> (Slot, Option<Slot>) {
    let view = loader.view().unwrap();
    (view.default, view.trial)
}

#[test]
fn an_update_and_its_way_back_with_either_kind_of_script() {
    use Slot::{A, B};
    for kind in [COUNTS, ONCE] {
        let board = Board::new(kind);
        let mut loader = board.loader();
        assert_eq!(view(&mut loader), (A, None));
        loader.revert(A).unwrap();
        assert_eq!(board.calls(), ["set-state B bad"], "nobody's fallback while it is written");
        loader.revert(A).unwrap();
        assert_eq!(board.calls(), Vec::<String>::new());
        loader.arm(&verified(B)).unwrap();
        assert_eq!((board.calls(), view(&mut loader)), (vec!["set-primary B".to_owned()], (A, Some(B))));
        assert_eq!(board.boot(|_| true), "B");
        assert_eq!(view(&mut loader), (A, Some(B)));
        loader.commit(B, None).unwrap();
        assert_eq!((board.calls(), view(&mut loader)), (vec!["set-state B good".to_owned()], (B, None)));
        assert_eq!([board.boot(|_| true), board.boot(|_| true)], ["B", "B"]);
        // One that does not come up.
        loader.arm(&verified(A)).unwrap();
        assert_eq!(board.boot(|slot| slot == "B"), "B");
        assert_eq!(view(&mut loader), (B, Some(A)));
        loader.revert(B).unwrap();
        assert_eq!((view(&mut loader), board.boot(|_| true)), ((B, None), "B".to_owned()));
        // One that is not well.
        loader.arm(&verified(A)).unwrap();
        assert_eq!(board.boot(|_| true), "A");
        loader.revert(B).unwrap();
        assert_eq!((view(&mut loader), board.boot(|_| true)), ((B, None), "B".to_owned()));
    }
}

/// The power goes before or after what the program does, in any of a verb's calls: the verb can be repeated, and until
/// then what boots is one of the two systems.
#[test]
fn a_cut_at_any_call_leaves_what_can_be_repeated() {
    use Slot::{A, B};
    type Verb = fn(&mut Script) -> Result<(), Error>;
    let arm: Verb = |loader| loader.arm(&verified(B));
    // A verb; whether a trial is armed before it, and whether that has booted; the default and the trial afterwards.
    type Case = (&'static str, Option<bool>, Verb, (Slot, Option<Slot>));
    let verbs: [Case; 4] = [
        ("arm", None, arm, (A, Some(B))),
        ("commit", Some(true), |loader| loader.commit(B, None), (B, None)),
        ("revert", Some(true), |loader| loader.revert(A), (A, None)),
        ("revert before the reboot", Some(false), |loader| loader.revert(A), (A, None)),
    ];
    let mut cuts = 0;
    for kind in [COUNTS, ONCE] {
        for (name, armed, verb, wanted) in &verbs {
            for moment in ["cut-before", "cut-after"] {
                for call in 0.. {
                    let board = Board::new(kind);
                    if let Some(booted) = armed {
                        arm(&mut board.loader()).unwrap();
                        assert!(!booted || board.boot(|_| true) == "B");
                    }
                    // From the call of that number on, the program fails, and so would any other.
                    let text = board.said("loader").replace(
                        &format!("test ! -e {moment}"),
                        &format!("test \"$(wc -l < calls)\" -ne {}", call + 1),
                    );
                    fs::write(board.path("calls"), "").unwrap();
                    board.install(&text);
                    let done = verb(&mut board.loader());
                    let reached = board.said("calls").lines().count() > call;
                    assert!(done.is_err() || !reached, "{name}: {moment} call {call}");
                    if !reached {
                        break;
                    }
                    cuts += 1;
                    board.install(&text.replace("-ne", "-lt 0 || test 0 -ne"));
                    let (default, trial) = view(&mut board.loader());
                    assert!(trial.is_none_or(|slot| slot == !default));
                    // A commit is repeated in the same boot: the trial may be over after the next.
                    if *name != "commit" {
                        assert!(["A", "B"].contains(&board.boot(|_| true).as_str()));
                    }
                    verb(&mut board.loader()).unwrap();
                    assert_eq!(view(&mut board.loader()), *wanted, "{name}: {moment} call {call}");
                    assert!(["A", "B"].contains(&board.boot(|_| true).as_str()));
                }
            }
        }
    }
    assert!(cuts >= 30, "{cuts}");
}

#[test]
fn what_the_program_says_is_not_believed_blindly() {
    let board = Board::new(COUNTS);
    let error = |text: &str| {
        board.install(&format!("#!/bin/sh\n{text}\n"));
        board.loader().view().unwrap_err().to_string()
    };
    assert!(error("echo C").contains("get-primary says \"C\", and the slots are A and B"));
    assert!(error("true").contains("get-primary says \"\""));
    assert!(error("echo 'no such device' >&2; exit 3").contains("exit status: 3: no such device"));
    assert!(error("head -c 5000 /dev/zero").contains("no short text"));
    // It says that all is done, and does nothing.
    board.install("#!/bin/sh\ntest $1 != get-primary || echo A\ntest $1 != get-state || echo perhaps\n");
    let stuck = board.loader().commit(Slot::B, None).unwrap_err().to_string();
    assert!(stuck.contains("committing the slot: ") && stuck.contains("get-primary still says A"), "{stuck}");
    assert!(board.loader().revert(Slot::A).unwrap_err().to_string().contains("neither good nor bad"));
    assert!(board.loader().arm(&verified(Slot::A)).unwrap_err().to_string().contains("is the default"));
}

#[test]
fn a_program_that_hangs_is_ended() {
    let board = Board::new(COUNTS);
    board.install("#!/bin/sh\nsleep 1000\n");
    let mut loader = board.loader();
    loader.settings.timeout = Duration::from_millis(100);
    let error = loader.view().unwrap_err().to_string();
    assert!(error.contains("did not end within 100ms"), "{error}");
}

#[test]
fn another_user_s_program_is_not_run() {
    let board = Board::new(COUNTS);
    let mut loader = board.loader();
    fs::set_permissions(board.path("loader"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(loader.view().unwrap_err().to_string().contains("can be written by others"));
    assert_eq!(board.said("calls"), "");
    assert!(Script::open(loader.settings).is_err());
}

#[test]
fn a_damaged_mark_is_an_error_until_it_is_settled() {
    let board = Board::new(COUNTS);
    let mut loader = board.loader();
    loader.arm(&verified(Slot::B)).unwrap();
    let mark = board.path("state").join(MARK);
    fs::write(&mark, vec![0x55; 2 * CAPACITY]).unwrap();
    assert!(loader.view().is_err());
    loader.revert(Slot::A).unwrap();
    assert_eq!(view(&mut loader), (Slot::A, None));
    fs::remove_file(&mark).unwrap();
    assert_eq!(view(&mut loader), (Slot::A, None));
    assert!(!Path::exists(&mark), "looking makes nothing");
}

/// As it is asked while the daemon waits for its configuration: from within a runtime.
#[tokio::test]
async fn it_may_be_asked_from_anywhere() {
    let board = Board::new(ONCE);
    assert_eq!(view(&mut board.loader()), (Slot::A, None));
}
