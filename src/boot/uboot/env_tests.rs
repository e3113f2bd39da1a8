//! Tests of the codec: golden bytes, bounds, the meaning of odd entries, the rule of choice.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn env(entries: &[&str]) -> Env {
    Env { entries: entries.iter().map(|entry| entry.as_bytes().to_vec()).collect() }
}

#[test]
fn golden_bytes() {
    // Checksums by zlib over "bootcount=0\0slot=a\0\0" padded to 28 and 27 bytes.
    let variables = env(&["bootcount=0", "slot=a"]);
    let single = encode(Layout::Single, 32, 9, &variables).unwrap();
    assert_eq!(&single[4..], b"bootcount=0\0slot=a\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(single[..4], 0xe362_07b8_u32.to_ne_bytes());
    let redundant = encode(Layout::Redundant, 32, 9, &variables).unwrap();
    assert_eq!(&redundant[4..], b"\x09bootcount=0\0slot=a\0\0\0\0\0\0\0\0\0");
    assert_eq!(redundant[..4], 0x0e66_daae_u32.to_ne_bytes());
    assert_eq!(decode(Layout::Redundant, &redundant), Ok(Decoded { env: variables, flag: 9 }));
}

#[test]
fn the_flag_is_not_under_the_checksum() {
    let mut image = encode(Layout::Redundant, 64, 1, &env(&["a=1"])).unwrap();
    image[4] = 0;
    assert_eq!(decode(Layout::Redundant, &image).unwrap().flag, 0);
}

#[test]
fn every_other_bit_is() {
    let image = encode(Layout::Single, 64, 0, &env(&["a=1"])).unwrap();
    for bit in 0..image.len() * 8 {
        let mut bad = image.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(decode(Layout::Single, &bad), Err(Damage::Checksum { .. })), "bit {bit}");
    }
}

#[test]
fn too_short_to_be_one() {
    for layout in [Layout::Single, Layout::Redundant] {
        for len in 0..layout.header() + 2 {
            assert_eq!(decode(layout, &vec![0; len]), Err(Damage::TooShort(len)));
        }
    }
}

#[test]
fn the_last_byte_may_be_used_and_not_one_more() {
    for layout in [Layout::Single, Layout::Redundant] {
        let size = 32;
        let room = layout.capacity(size);
        let fits = env(&[&format!("a={}", "x".repeat(room - 4))]);
        let image = encode(layout, size, 0, &fits).unwrap();
        assert_eq!((image.len(), &image[size - 3..]), (size, &b"x\0\0"[..]));
        assert_eq!(decode(layout, &image).unwrap().env, fits);
        let over = env(&[&format!("a={}", "x".repeat(room - 3))]);
        assert_eq!(encode(layout, size, 0, &over), Err(TooLarge { needed: room + 1, capacity: room }));
    }
}

#[test]
fn an_empty_environment_is_two_nuls() {
    assert_eq!(Env::default().to_data(2).unwrap(), [0, 0]);
    assert!(Env::default().to_data(1).is_err());
    assert_eq!(Env::from_data(&[0, 0, b'a', b'=', b'1', 0]), Env::default());
}

#[test]
fn a_full_environment_without_its_end_is_read() {
    assert_eq!(Env::from_data(b"a=1\0b=2\0"), env(&["a=1", "b=2"]));
    assert_eq!(Env::from_data(b"a=1\0b=2"), env(&["a=1", "b=2"]));
}

#[test]
fn odd_entries_mean_what_u_boot_makes_of_them() {
    let odd = env(&["x=1", "x=2", "y=1", "y", "z=1", "z=", "  w=1", "#v=1", "u==1", "=", "t=a b"]);
    let values: Vec<_> = ["x", "y", "z", "w", "v", "u", "", "t"].map(|name| odd.get(name)).into();
    let wanted: [Option<&[u8]>; 8] =
        [Some(b"2"), None, None, Some(b"1"), None, Some(b"=1"), None, Some(b"a b")];
    assert_eq!(values, wanted);
    assert_eq!(odd.get("#v"), None, "a comment is no variable");
    assert!(!odd.is_refused_by_loader(), "a lone = is skipped");
    assert_eq!(odd.get("X"), None);
    assert_eq!(env(&["slot_b=1"]).get("slot"), None);
}

#[test]
fn a_value_without_a_name_is_noticed_and_removed() {
    let mut refused = env(&["a=1", "=x", "b=2"]);
    assert!(refused.is_refused_by_loader());
    refused.remove_nameless();
    assert_eq!(refused, env(&["a=1", "b=2"]));
}

#[test]
fn setting_keeps_order_and_strangers() {
    let mut variables = env(&["x=1", "#note", "slot=a", "odd", "slot=b", "y=2"]);
    variables.set("slot", "c");
    assert_eq!(variables, env(&["x=1", "#note", "odd", "slot=c", "y=2"]));
    variables.set("new", "1");
    variables.set("x", "");
    assert_eq!(variables, env(&["#note", "odd", "slot=c", "y=2", "new=1"]));
}

#[test]
fn serial_numbers_wrap_and_ties_go_to_the_first() {
    let choose = |first, second| Scheme::Incremental.choose([first, second]);
    assert_eq!([choose(0, 0), choose(255, 255), choose(1, 0), choose(0, 1)], [0, 0, 0, 1]);
    assert_eq!([choose(255, 0), choose(0, 255), choose(254, 255), choose(255, 254)], [1, 0, 1, 0]);
    assert_eq!([choose(255, 1), choose(1, 255)], [0, 1], "only 255 and 0 are neighbours");
}

#[test]
fn boolean_flags_as_the_loader_reads_them() {
    let choose = |first, second| Scheme::Boolean.choose([first, second]);
    assert_eq!([choose(1, 0), choose(0, 1), choose(1, 1), choose(0, 0)], [0, 1, 0, 0]);
    assert_eq!([choose(0xff, 0xff), choose(0xff, 1), choose(1, 0xff), choose(0, 0xff)], [0, 0, 1, 1]);
}

#[test]
fn a_successor_is_always_chosen() {
    for flag in 0..=255 {
        let next = Scheme::Incremental.successor(flag);
        assert_eq!(Scheme::Incremental.choose([flag, next]), 1);
        assert_eq!(Scheme::Incremental.choose([next, flag]), 0);
    }
    assert_eq!(Scheme::Boolean.choose([0, Scheme::Boolean.successor(0)]), 1);
    assert_eq!(Scheme::Boolean.choose([Scheme::Boolean.successor(0), 0]), 0);
}

#[test]
fn the_loaders_own_saving_is_stricter_than_ours() {
    let variables = env(&["a=1", "b=2"]);
    assert!(variables.to_data(9).is_ok());
    assert!(!variables.can_be_saved_by_loader(12));
    assert!(variables.can_be_saved_by_loader(13));
}

prop_compose! {
    fn any_entry()(entry in prop::collection::vec(1_u8.., 1..40)) -> Vec<u8> { entry }
}

proptest! {
    #[test]
    fn whatever_was_there_comes_back(
        entries in prop::collection::vec(any_entry(), 0..20), flag: u8, redundant: bool, slack in 0_usize..50,
    ) {
        let layout = if redundant { Layout::Redundant } else { Layout::Single };
        let needed: usize = entries.iter().map(|entry| entry.len() + 1).sum::<usize>() + 1;
        let size = layout.header() + needed.max(2) + slack;
        let env = Env { entries };
        let image = encode(layout, size, flag, &env).unwrap();
        prop_assert_eq!(image.len(), size);
        let decoded = decode(layout, &image).unwrap();
        prop_assert_eq!(&decoded.env, &env);
        prop_assert_eq!(decoded.flag, if redundant { flag } else { 0 });
        if slack == 0 {
            prop_assert!(encode(layout, size - 1, flag, &env).is_err());
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let env = Env::from_data(&data);
        prop_assert!(env.to_data(data.len() + 2).unwrap().starts_with(
            &data[..env.entries().map(|entry| entry.len() + 1).sum::<usize>().min(data.len())]));
    }

    #[test]
    fn setting_touches_nothing_else(
        entries in prop::collection::vec("[a-d ]{0,2}=?[a-d#]{0,3}", 0..12), value in "[a-z]{0,3}",
    ) {
        let mut env = Env { entries: entries.iter().filter(|e| !e.is_empty()).map(|e| e.as_bytes().into()).collect() };
        let before = env.clone();
        env.set("a", &value);
        prop_assert_eq!(env.get("a"), (!value.is_empty()).then_some(value.as_bytes()));
        for name in ["b", "c", "d", "ab", "aa"] {
            prop_assert_eq!(env.get(name), before.get(name));
        }
        let once = env.clone();
        env.set("a", &value);
        prop_assert_eq!(env, once);
    }
}
