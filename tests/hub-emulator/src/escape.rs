//! Percent-encoding and `key=value` lists as they occur in topics, user names, tokens and URLs. Not a URL parser.
//! Called by `sas`, `mqtt` and `rest`.

/// Decodes `%41` to `A`. What is not a valid escape stays as it is, as the hub's front ends do.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes everything but unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Splits `a=1&b=2`, decodes both sides, keeps the order. A key without `=` has an empty value.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// The value of the first pair with this key: the first one wins, as in Microsoft's edge gateway.
pub(crate) fn first<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_both_ways_and_bad_ones_are_left_alone() {
        assert_eq!(encode("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(decode("a%20b%2f%C3%BC"), "a b/ü");
        assert_eq!(decode("50%"), "50%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        // A multi-byte character where the two digits should be must not be cut in half.
        assert_eq!(decode("%ü1"), "%ü1");
    }

    #[test]
    fn the_first_of_equal_keys_wins() {
        let list = pairs("%24rid=7&x&$rid=8");
        assert_eq!(first(&list, "$rid"), Some("7"));
        assert_eq!(first(&list, "x"), Some(""));
        assert_eq!(first(&list, "y"), None);
    }
}
