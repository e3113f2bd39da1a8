//! Leaving secrets out of what people look at: the query of an address and what stands before its `@` (both can let
//! somebody in), and keys and tokens in the formats of Azure. Not the twin itself, which devices and services get whole.

use serde_json::Value;

const HIDDEN: &str = "…";

/// A document without the secrets in its texts.
pub(super) fn veil(value: &mut Value) {
    match value {
        Value::String(text) => *text = veiled(text),
        Value::Array(values) => values.iter_mut().for_each(veil),
        Value::Object(members) => members.values_mut().for_each(veil),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without secrets.
pub(super) fn veiled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "\"'<>\\".contains(c)).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let authority = address.find(['/', '?']).unwrap_or(address.len());
        let address = match address[..authority].rfind('@') {
            Some(at) => format!("{HIDDEN}{}", &address[at..]),
            None => address.to_owned(),
        };
        match address.split_once('?') {
            Some((path, _)) => out.push_str(&format!("{path}?{HIDDEN}")),
            None => out.push_str(&address),
        }
        rest = after;
    }
    out.push_str(rest);
    // `SharedAccessSignature sr=…&sig=…`, and connection strings.
    for name in ["sig=", "SharedAccessKey="] {
        let mut from = 0;
        while let Some(at) = out[from..].find(name).map(|at| from + at + name.len()) {
            let end = out[at..]
                .find(|c: char| c.is_whitespace() || "\"'&;\\".contains(c))
                .map_or(out.len(), |end| at + end);
            out.replace_range(at..end, HIDDEN);
            from = at + HIDDEN.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_lets_somebody_in_is_left_out_and_the_rest_stays() {
        let mut twin = json!({"a": ["https://blob.test/fw.img?sv=1&sig=abc", {"b": "https://me:pw@x.test:1/y and ftp://z/?q"}], "c": 1});
        veil(&mut twin);
        let expected = json!({"a": ["https://blob.test/fw.img?…", {"b": "https://…@x.test:1/y and ftp://z/?…"}], "c": 1});
        assert_eq!(twin, expected);
        for (text, shown) in [
            ("plain? yes", "plain? yes"),
            (
                "d reported {\"u\":\"https://h/p?sig=x\",\"v\":\"1\"}",
                "d reported {\"u\":\"https://h/p?…\",\"v\":\"1\"}",
            ),
            ("HostName=h;DeviceId=d;SharedAccessKey=a2V5", "HostName=h;DeviceId=d;SharedAccessKey=…"),
            ("SharedAccessSignature sr=h&sig=x%3D&se=1", "SharedAccessSignature sr=h&sig=…&se=1"),
            ("https://h/@me?x", "https://h/@me?…"),
        ] {
            assert_eq!(veiled(text), shown);
        }
    }
}
