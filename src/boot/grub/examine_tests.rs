//! Scripts as they are found, and the one variable that looking a device over may write.
#![allow(clippy::unwrap_used)]

use super::super::tests::{Memory, verified};
use super::*;
use crate::boot::{Bootloader as _, CANARY, Verdict};
use crate::model::Slot;

const SHIPPED: &str = include_str!("../../../packaging/boot/grub/grub.cfg");

/// The heart of RAUC's script.
const RAUC: &str = "load_env\nfor SLOT in $ORDER; do\n  if [ \"$A_OK\" -eq 1 -a \"$A_TRY\" -eq 0 ]; then A_TRY=1; fi\n\
                    done\nsave_env A_TRY A_OK ORDER\n";

fn verdicts(text: Option<&str>) -> Vec<(Aspect, Verdict)> {
    script(text, 3).into_iter().map(|it| (it.aspect, it.verdict)).collect()
}

#[test]
fn scripts_that_go_back_are_good() {
    use Verdict::{Bad, Doubtful, Good};
    assert_eq!(verdicts(Some(SHIPPED)), [(Aspect::Fallback, Good), (Aspect::Restart, Good)]);
    let raucs = [(Aspect::Fallback, Good), (Aspect::Counter, Doubtful), (Aspect::Restart, Doubtful)];
    assert_eq!(verdicts(Some(RAUC)), raucs);
    assert_eq!(verdicts(None), [(Aspect::Fallback, Doubtful)]);
    for word in ["load_env", "save_env", "ORDER", "_TRY"] {
        let without = RAUC.replace(word, "x");
        assert_eq!(verdicts(Some(&without))[0], (Aspect::Fallback, Bad), "{word}");
    }
    let commented = RAUC.replace("save_env", "# save_env");
    assert_eq!(verdicts(Some(&commented))[0].1, Bad, "a comment does nothing");
}

#[test]
fn the_shipped_script_hands_the_canary_on() {
    let hands_on = format!("set arguments=\"$arguments twinboot.canary=${CANARY}\"");
    assert!(SHIPPED.lines().any(|line| line.contains(&hands_on)));
    assert!(SHIPPED.lines().any(|line| line.contains("linux \"") && line.contains(" $arguments")));
    assert!(SHIPPED.lines().any(|line| line.starts_with("load_env ") && line.contains(CANARY)));
}

#[test]
fn the_canary_is_the_only_change() {
    let memory = Memory::holding("ORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\nother=1\n");
    let mut loader = memory.open();
    loader.commit(Slot::A, None).unwrap();
    let (before, view) = (memory.text(), loader.view().unwrap());
    let writes = memory.writes();
    assert_eq!(loader.canary().unwrap().read().unwrap(), None);
    loader.canary().unwrap().write("0123abcd").unwrap();
    assert_eq!(memory.writes(), writes + 1);
    loader.canary().unwrap().write("0123abcd").unwrap();
    assert_eq!(memory.writes(), writes + 1, "it is there already");
    assert_eq!(memory.open().canary().unwrap().read().unwrap().as_deref(), Some("0123abcd"));
    assert_eq!(memory.text().replace(&format!("{CANARY}=0123abcd\n"), ""), before);
    assert_eq!(loader.view().unwrap(), view);
    loader.arm(&verified(Slot::B)).unwrap();
    let armed = memory.text();
    let refused = loader.canary().unwrap().write("x").unwrap_err().to_string();
    assert!(refused.contains("on trial"), "{refused}");
    assert_eq!(memory.text(), armed);
}
