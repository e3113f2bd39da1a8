//! Plain text as roff: what people wrote in comments and help texts, so that nothing in it is taken for a request.

/// Where a text stands: only what is typed as it is shown keeps its hyphens as minus signs.
#[derive(Clone, Copy)]
enum Kind {
    Prose,
    Typed,
}

/// A paragraph, without its line ends. What is between backticks is typed as it is shown, and becomes bold; a NAME
/// between at signs is a field of the journal, and becomes italic.
pub(crate) fn paragraph(text: &str) -> String {
    let mut roff = String::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            roff.push_str(&bold(part));
        } else {
            roff.push_str(&fields(part));
        }
    }
    at_line_start(roff)
}

/// In bold, as it is typed.
pub(crate) fn bold(typed: &str) -> String {
    format!("\\fB{}\\fR", escape(typed, Kind::Typed))
}

/// A line of something that is typed as it is shown.
pub(crate) fn typed(line: &str) -> String {
    at_line_start(escape(line, Kind::Typed))
}

/// In italics: a word that stands for another one.
pub(crate) fn italic(word: &str) -> String {
    format!("\\fI{}\\fR", escape(word, Kind::Typed))
}

fn fields(text: &str) -> String {
    let is_field = |word: &str| !word.is_empty() && word.bytes().all(|b| b == b'_' || b.is_ascii_uppercase());
    let mut roff = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        roff.push_str(&escape(before, Kind::Prose));
        match after.split_once('@').filter(|(word, _)| is_field(word)) {
            Some((word, after)) => {
                roff.push_str(&italic(word));
                rest = after;
            }
            None => {
                roff.push('@');
                rest = after;
            }
        }
    }
    roff + &escape(rest, Kind::Prose)
}

fn escape(text: &str, kind: Kind) -> String {
    let mut roff = String::new();
    for c in text.chars() {
        match (c, kind) {
            ('\\', _) => roff.push_str("\\e"),
            // Left alone, typographic ones would be shown.
            ('\'', _) => roff.push_str("\\(aq"),
            ('^', _) => roff.push_str("\\(ha"),
            ('~', _) => roff.push_str("\\(ti"),
            ('…', _) => roff.push_str("..."),
            ('-', Kind::Typed) => roff.push_str("\\-"),
            _ => roff.push(c),
        }
    }
    roff
}

/// A line that begins with a dot would be a request.
fn at_line_start(roff: String) -> String {
    if roff.starts_with('.') { format!("\\&{roff}") } else { roff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_a_request() {
        assert_eq!(paragraph(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(paragraph("it's `a-b \\n`, A-B"), "it\\(aqs \\fBa\\-b \\en\\fR, A-B");
    }

    #[test]
    fn fields_are_told_from_other_signs() {
        assert_eq!(paragraph("slot @SLOT@ and @serial"), "slot \\fISLOT\\fR and @serial");
        assert_eq!(paragraph("a@b.example, @SLOT"), "a@b.example, @SLOT");
    }
}
