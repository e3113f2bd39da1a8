//! Tests of the codec: against the documentation's examples, and against rules written down a second time.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The example of Raspberry Pi's documentation.
const EXAMPLE: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";

fn parse(text: &str) -> Result<(u32, u32, bool), String> {
    Autoboot::parse(text.as_bytes()).map(|file| (file.default, file.tryboot, file.a_b))
}

/// What the firmware boots, by its documentation alone: reads from top to bottom, and what applies last counts.
pub(crate) fn firmware(bytes: &[u8], flag: bool) -> Option<(u32, bool)> {
    if bytes.len() > 512 {
        return None;
    }
    let (mut applies, mut partition, mut a_b) = (true, None, false);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.eq_ignore_ascii_case("[all]") {
            applies = true;
        } else if line.eq_ignore_ascii_case("[tryboot]") {
            applies = flag;
        } else if let (true, Some(value)) = (applies, line.strip_prefix("boot_partition=")) {
            partition = value.parse().ok();
        } else if let (true, Some(value)) = (applies, line.strip_prefix("tryboot_a_b=")) {
            a_b = value == "1";
        }
    }
    partition.map(|partition| (partition, a_b))
}

#[test]
fn what_the_documentation_shows_is_read() {
    assert_eq!(parse(EXAMPLE), Ok((2, 3, true)));
    assert_eq!(parse("boot_partition=2"), Ok((2, 2, false)));
    assert_eq!(parse("[ALL]\r\n boot_partition = 12 \r\n"), Ok((12, 12, false)));
    assert_eq!(parse("[tryboot]\nboot_partition=3\n[all]\nboot_partition=2\n"), Ok((2, 2, false)));
    assert_eq!(parse("boot_partition=2\n[tryboot]\ntryboot_a_b=1\nboot_partition=3"), Ok((2, 3, true)));
}

#[test]
fn what_is_not_understood_is_an_error_that_says_why() {
    for (text, wanted) in [
        ("", "no boot_partition below [all]"),
        ("[tryboot]\nboot_partition=3\n", "no boot_partition below [all]"),
        ("[all]\nboot_partition=two\n", "boot_partition=two, which is no partition"),
        ("[all]\nboot_partition=0\n", "boot_partition=0, which is no partition"),
        ("[pi4]\nboot_partition=2\n", "the filter [pi4]"),
        ("[none]\nboot_partition=2\n", "the filter [none]"),
        ("boot_partition=2\n\0\0", "no text"),
        (&format!("boot_partition=2\n{:505}\n", "#"), "longer than 512 bytes"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    assert!(Autoboot::parse(&[0xff; 512]).is_err());
}

#[test]
fn a_change_keeps_what_others_wrote_and_differs_in_one_byte() {
    let text = "# of the board\n[all]\nboot_partition=2\nx=1\n[tryboot]\n# below\nboot_partition=2\n";
    let file = Autoboot::parse(text.as_bytes()).unwrap();
    let settled = file.with(2, 2).encode().unwrap();
    let wanted =
        "[all]\ntryboot_a_b=1\nboot_partition=2\n# of the board\nx=1\n[tryboot]\nboot_partition=2\n# below\n";
    assert_eq!(String::from_utf8_lossy(&settled).trim_end(), wanted.trim_end());
    let mut last = settled;
    for (default, tryboot) in [(2, 3), (3, 3), (3, 2), (2, 2)] {
        let next = Autoboot::parse(&last).unwrap().with(default, tryboot).encode().unwrap();
        assert_eq!(next.len(), LEN);
        assert_eq!(last.iter().zip(&next).filter(|(old, new)| old != new).count(), 1);
        last = next;
    }
    let long = format!("boot_partition=2\n{:490}\n", "#");
    let long = Autoboot::parse(long.trim_end().as_bytes()).unwrap();
    assert!(long.with(2, 3).encode().is_ok());
    let long = format!("boot_partition=2\n{}\n", "#".repeat(490));
    let error = Autoboot::parse(long.as_bytes()).unwrap().encode().unwrap_err();
    assert!(error.contains("do not fit into 512 bytes"), "{error}");
}

proptest! {
    /// Whatever we understand, the firmware understands the same; and what we write says what was wanted to both.
    #[test]
    fn we_and_the_firmware_read_the_same(
        lines in prop::collection::vec(prop_oneof![
            Just("[all]".to_owned()), Just("[tryboot]".to_owned()), Just("tryboot_a_b=1".to_owned()),
            Just("tryboot_a_b=0".to_owned()), Just("# a comment".to_owned()), Just(String::new()),
            (1..40u32).prop_map(|number| format!("boot_partition={number}")),
        ], 0..12),
        default in 1..99u32,
        tryboot in 1..99u32,
    ) {
        let text = lines.join("\n");
        if let Ok(file) = Autoboot::parse(text.as_bytes()) {
            prop_assert_eq!(firmware(text.as_bytes(), false).map(|it| it.0), Some(file.default));
            prop_assert_eq!(firmware(text.as_bytes(), true), Some((file.tryboot, file.a_b)));
            let bytes = file.with(default, tryboot).encode().unwrap();
            prop_assert_eq!(firmware(&bytes, false), Some((default, true)));
            prop_assert_eq!(firmware(&bytes, true), Some((tryboot, true)));
            let again = Autoboot::parse(&bytes).unwrap();
            prop_assert_eq!(again.with(default, tryboot).encode().unwrap(), bytes);
        }
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(file) = Autoboot::parse(&bytes) {
            prop_assert!(file.default > 0 && file.tryboot > 0);
        }
    }
}
