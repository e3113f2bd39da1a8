//! Text to tokens. Called by `parse`.

use std::fmt;

use serde_json::{Value, json};

use crate::error::Error;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    /// `[[name]]`: a key that is no word, such as the id of a configuration.
    Quoted(String),
    Text(String),
    Number(Value),
    Sign(&'static str),
}

impl fmt::Display for Token {
    /// As it stands in the query, for people who look for it there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => f.write_str(word),
            Token::Quoted(key) => write!(f, "[[{key}]]"),
            Token::Text(text) => write!(f, "'{text}'"),
            Token::Number(value) => write!(f, "{value}"),
            Token::Sign(sign) => f.write_str(sign),
        }
    }
}

/// Longer signs first: `<=` must not be read as `<`.
const SIGNS: [&str; 18] =
    ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "*", "+", "-", "/", "%"];

/// Cuts a text into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if rest.starts_with("[[") {
            let end = rest.find("]]").ok_or_else(|| bad("a [[ is not closed"))?;
            (Token::Quoted(rest[2..end].to_owned()), end + 2)
        } else if first == '\'' || first == '"' {
            quoted(rest, first)?
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' || first == '$' {
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| bad(format!("the character {first:?} means nothing here")))?;
            (Token::Sign(sign), sign.len())
        };
        out.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(out)
}

/// A text in quotes. A quote inside is doubled or has a backslash before it; a backslash inside has one too.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), Error> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            let escaped = chars.next_if(|(_, next)| *next == quote || *next == '\\');
            text.push(escaped.map_or(c, |(_, next)| next));
        } else if c != quote {
            text.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return Ok((Token::Text(text), at + quote.len_utf8()));
        }
    }
    Err(bad("a text is not closed"))
}

/// Digits with a point and an exponent, each if it is there.
fn number(rest: &str) -> Result<(Token, usize), Error> {
    let mut end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    if let Some(power) = rest[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(power.starts_with(['+', '-']));
        let digits = power[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(power.len() - sign);
        if digits > 0 {
            end += 1 + sign + digits;
        }
    }
    let digits = &rest[..end];
    if rest[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        return Err(bad(format!(
            "{digits} is followed by a letter: a name that begins with a digit is [[quoted]]"
        )));
    }
    let value = match digits.parse::<i64>() {
        Ok(whole) => json!(whole),
        Err(_) => json!(digits.parse::<f64>().map_err(|_| bad(format!("{digits} is not a number")))?),
    };
    Ok((Token::Number(value), end))
}

/// The refusal of a query.
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::invalid(format!("the query cannot be understood: {}", message.into()))
}
