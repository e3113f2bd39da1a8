//! Looking a board over, and the one variable that this may write.
#![allow(clippy::unwrap_used)]

use super::tests::{Board, SIZE, verified};
use super::*;
use crate::boot::{Aspect, Verdict};

fn value(loader: &mut UBoot) -> Option<String> {
    loader.canary().unwrap().read().unwrap()
}

#[test]
fn looking_writes_nothing() {
    let board = Board::new();
    let before = board.bytes();
    let found = board.open().examine().unwrap();
    assert_eq!(value(&mut board.open()), None);
    assert_eq!(board.bytes(), before);
    let of = |aspect| found.iter().find(|it| it.aspect == aspect).map(|it| it.verdict);
    assert_eq!(of(Aspect::Copies), Some(Verdict::Good));
    assert_eq!(of(Aspect::Lock), Some(Verdict::Good));
    assert_eq!(of(Aspect::Fallback), Some(Verdict::Bad), "this board has no altbootcmd");
}

#[test]
fn a_lost_copy_and_a_lock_that_cannot_be_had_are_seen() {
    let board = Board::new();
    board.damage(SIZE + 100);
    let settings = Settings { lock_file: Some(board.path("none/lock")), ..board.settings() };
    let mut loader = UBoot::open(settings).unwrap();
    let found = loader.examine().unwrap();
    assert!(!found.iter().any(|it| it.aspect == Aspect::Copies), "its loss is a warning of view already");
    assert!(!loader.view().unwrap().warnings.is_empty());
    let lock = found.iter().find(|it| it.aspect == Aspect::Lock).unwrap();
    assert_eq!(lock.verdict, Verdict::Doubtful, "{lock:?}");
}

#[test]
fn the_canary_is_one_write_of_the_other_copy_and_changes_nothing_else() {
    let board = Board::new();
    let before = board.bytes();
    let mut loader = board.open();
    let view = loader.view().unwrap();
    loader.canary().unwrap().write("0123abcd").unwrap();
    assert_eq!(board.flags(), [4, 5]);
    assert_eq!(board.bytes()[..SIZE], before[..SIZE]);
    let decode = |bytes: &[u8]| env::decode(env::Layout::Redundant, bytes).unwrap().env;
    let (old, mut new) = (decode(&before[..SIZE]), decode(&board.bytes()[SIZE..]));
    assert_eq!(value(&mut loader).as_deref(), Some("0123abcd"));
    new.set(CANARY, "");
    assert_eq!(old, new);
    assert_eq!(loader.view().unwrap(), view);
    loader.canary().unwrap().write("0123abcd").unwrap();
    assert_eq!(board.flags(), [4, 5], "it is there already");
}

#[test]
fn no_canary_in_a_trial_nor_where_it_may_not_be_or_does_not_fit() {
    let board = Board::new();
    let mut loader = board.open();
    loader.arm(&verified(Slot::B)).unwrap();
    let before = board.bytes();
    let refused = loader.canary().unwrap().write("x").unwrap_err().to_string();
    assert!(refused.contains("slot B is on trial"), "{refused}");
    loader.revert(Slot::A).unwrap();
    let long = "x".repeat(SIZE - 120);
    let refused = loader.canary().unwrap().write(&long).unwrap_err().to_string();
    assert!(refused.contains("so full"), "{refused}");
    loader.writable = Some(vec!["slot".to_owned()]);
    let refused = loader.canary().unwrap().write("x").unwrap_err().to_string();
    assert!(refused.contains("writelist") && refused.contains(CANARY), "{refused}");
    assert_eq!(board.flags(), [6, 5], "only the revert was written");
    assert_eq!(board.bytes()[SIZE..], before[SIZE..]);
}
