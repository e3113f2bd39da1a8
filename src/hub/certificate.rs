//! What we must know of our own certificate: from when to when it counts, and whose key it is (RFC 5280, 4.1).
//!
//! Not a check of anything: whether a certificate is good, who it is shown to decides. It is read by hand because
//! libraries that check certificates refuse those of version 1, which `openssl x509 -req` made for years and hubs take.

use crate::model::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which is left out in certificates of version 1.
const VERSION: u8 = 0xa0;

/// What a certificate says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Certificate<'a> {
    /// Its first and its last moment; `None` if they are written as they must not be.
    pub validity: Option<[Timestamp; 2]>,
    /// The public key, with what kind it is of (`SubjectPublicKeyInfo`).
    pub key: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads the certificate in `der`; `None` if it is none.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (certificate, _) = element(der, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest, VERSION)?.1;
        }
        // Serial number, signature algorithm, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            rest = element(rest, tag)?.1;
        }
        let (validity, rest) = element(rest, SEQUENCE)?;
        let (_subject, rest) = element(rest, SEQUENCE)?;
        let (_, after) = element(rest, SEQUENCE)?;
        Some(Self { validity: span(validity), key: &rest[..rest.len() - after.len()] })
    }
}

fn span(validity: &[u8]) -> Option<[Timestamp; 2]> {
    let (from, rest) = time(validity)?;
    let (to, _) = time(rest)?;
    Some([from, to])
}

/// The contents of an element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match length {
        short @ ..=0x7f => (usize::from(*short), rest),
        long @ 0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, the only forms that RFC 5280 allows.
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let tag = *der.first()?;
    let (text, rest) = element(der, tag)?;
    let digits = std::str::from_utf8(text.strip_suffix(b"Z")?).ok()?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, others) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, others) = digits.split_at(2);
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, others)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, others) = digits.split_at(4);
            (year.parse().ok()?, others)
        }
        _ => return None,
    };
    let part = |at: usize| others.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = (days(year, month, day)? * 24 + hour) * 3600 + minute * 60 + second;
    Some((Timestamp(seconds * 1000), rest))
}

/// Days from 1970-01-01 to a Gregorian date; `None` before.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years begin in March, so that the leap day is the last of its year and months follow a pattern of lengths.
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let since_0000 = year * 365 + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1;
    since_0000.checked_sub(719_468)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn certificate(from: &str, to: &str) -> Vec<u8> {
        let date = |text: &str| {
            let tag = if text.len() == 13 { UTC_TIME } else { GENERALIZED_TIME };
            [&[tag, text.len() as u8][..], text.as_bytes()].concat()
        };
        let sequence = |parts: &[&[u8]]| {
            let body = parts.concat();
            [&[SEQUENCE, 0x81, body.len() as u8][..], &body].concat()
        };
        let validity = sequence(&[&date(from), &date(to)]);
        let parts = [
            &b"\xa0\x03\x02\x01\x02"[..],
            b"\x02\x01\x07",
            b"\x30\x00",
            b"\x30\x00",
            &validity,
            b"\x30\x00",
            b"\x30\x02\x01\x05",
            b"\xa3\x00",
        ];
        sequence(&[&sequence(&parts), b"\x30\x00"])
    }

    #[test]
    fn both_forms_of_dates_are_read() {
        for (from, to, texts) in [
            ("700101000000Z", "19700101000001Z", ["1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.000Z"]),
            ("000229235959Z", "20380119031408Z", ["2000-02-29T23:59:59.000Z", "2038-01-19T03:14:08.000Z"]),
            ("490301000000Z", "99991231235959Z", ["2049-03-01T00:00:00.000Z", "9999-12-31T23:59:59.000Z"]),
        ] {
            let der = certificate(from, to);
            let read = Certificate::read(&der).unwrap();
            assert_eq!(read.validity.unwrap().map(|it| it.to_string()), texts);
            assert_eq!(read.key, b"\x30\x02\x01\x05");
        }
    }

    #[test]
    fn what_is_no_certificate_is_none_and_nothing_panics() {
        let whole = certificate("260101000000Z", "20560101000000Z");
        assert!(Certificate::read(&whole).is_some());
        for cut in 0..whole.len() - 2 {
            let mut bytes = whole[..cut].to_vec();
            let _ = Certificate::read(&bytes);
            bytes.resize(whole.len(), 0xff);
            let _ = Certificate::read(&bytes);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let _ = Certificate::read(&bytes);
            }
        }
        for (from, to) in [
            ("261301000000Z", "20560101000000Z"),
            ("260101250000Z", "20560101000000Z"),
            ("690101000000", "20560101000000Z"),
            ("260101000000Z", "205601010000"),
            ("2601010000+0Z", "20560101000000Z"),
        ] {
            assert_eq!(Certificate::read(&certificate(from, to)).unwrap().validity, None, "{from} {to}");
        }
    }
}
