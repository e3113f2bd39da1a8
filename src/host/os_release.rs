//! One value out of os-release(5): lines of `NAME=value`, the value plain or quoted as a shell would have it.

/// The value of `name`; the last line that sets it counts. `None` if none does, or it is not properly quoted.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let assigned = |line: &'_ str| -> Option<String> {
        let rest = line.trim().strip_prefix(name)?.strip_prefix('=')?;
        unquote(rest)
    };
    text.lines().filter_map(assigned).next_back()
}

fn unquote(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix('\'') {
        // Within single quotes nothing is special, and a quote cannot be in there.
        let inner = rest.strip_suffix('\'')?;
        return (!inner.contains('\'')).then(|| inner.to_owned());
    }
    let inner = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?),
            // An unescaped quote inside: pieces glued together, which os-release(5) does not allow.
            '"' | '\'' if !text.starts_with('"') || c == '"' => return None,
            c => value.push(c),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unquoted_as_a_shell_would() {
        for (line, wanted) in [
            ("IMAGE_VERSION=2.8.5", Some("2.8.5")),
            ("IMAGE_VERSION=\"2.8.5\"", Some("2.8.5")),
            ("  IMAGE_VERSION='2.8.5'\r", Some("2.8.5")),
            ("IMAGE_VERSION=\"a\\\"b\\$c's\"", Some("a\"b$c's")),
            ("IMAGE_VERSION=", Some("")),
            ("IMAGE_VERSION=\"", None),
            ("IMAGE_VERSION=\"2.8", None),
            ("IMAGE_VERSION=\"2\"\"8\"", None),
            ("IMAGE_VERSION='2'8'", None),
            ("IMAGE_VERSION=2\\", None),
            ("MY_IMAGE_VERSION=1", None),
            ("IMAGE_VERSION_2=1", None),
            ("#IMAGE_VERSION=1", None),
        ] {
            assert_eq!(value(line, "IMAGE_VERSION").as_deref(), wanted, "{line}");
        }
        assert_eq!(value("A=1\nB=2\nA=3\n", "A").as_deref(), Some("3"));
    }
}
