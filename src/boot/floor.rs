//! The lowest rollback index that is taken, as a variable of the loader's: in U-Boot's environment and in GRUB's block.
//!
//! No loader reads it. It is there because it outlives the state directory, and is written with the commit that raises
//! it, so that there is no moment in which one is true without the other.

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
