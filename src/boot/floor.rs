//! The lowest rollback index that is taken, as a variable of the loader's: in U-Boot's environment and in GRUB's block.
//!
//! No loader reads it. It is there because it outlives the state directory, and is written with the commit that raises
//! it, so that there is no moment in which one is true without the other.
//!
//! # Why going back does not lower it
//!
//! A loader may do a commit and say that it failed. Then the update is rolled back, and the floor here stays where the
//! commit put it. That locks nobody out: a floor is asked when a bundle is to be installed, and never of a system that is
//! there, so the old one boots, and may be gone back to. The same bundle may be tried again, being at the floor; so may all
//! that are newer, and one with the signed permission. It is the index of a system that had proved well. A verb that sets it
//! back would have to be told the old floor over a crash, and whoever could bring a commit to fail could have the floor
//! written by it. If the commit was one that lowers, the record's floor, which no commit moved, is the higher and counts.

/// The variable, a decimal number. Not there is as good as 0.
pub(super) const FLOOR: &str = "twinboot_floor";

/// What the variable says. The error is a sentence for the journal: then the record's floor holds, and the next commit of
/// a signed bundle writes it anew.
pub(super) fn read(value: Option<&[u8]>) -> Result<Option<u64>, String> {
    let Some(value) = value else { return Ok(None) };
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_plain).and_then(|text| text.parse().ok());
    let unreadable = || {
        let shown = String::from_utf8_lossy(value);
        format!("{FLOOR} is {shown:?}, which is no decimal number; the floor of twinboot's record holds")
    };
    number.map(Some).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_a_plain_number_or_nothing() {
        assert_eq!(read(None), Ok(None));
        for (value, number) in
            [("0", 0), ("7", 7), ("00000000000000000042", 42), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(read(Some(value.as_bytes())), Ok(Some(number)), "{value}");
        }
        for value in ["", "-1", "+1", "0x10", "18446744073709551616", "1 "] {
            assert!(read(Some(value.as_bytes())).is_err(), "{value:?}");
        }
        assert!(read(Some(b"\xff")).is_err());
    }
}
