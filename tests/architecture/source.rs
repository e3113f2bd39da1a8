//! Rust source as far as the rules need it: words, signs and texts without comments, and the paths in them.
//!
//! Not a parser: it knows comments, literals, attributes, inline modules and `use` trees, and nothing of types.

/// A piece of source.
#[derive(Clone, Debug)]
pub struct Token {
    kind: Kind,
    /// As written; of a literal text, what is between its quotes.
    pub text: String,
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A name, keyword or number.
    Word,
    /// `::`, or one other character.
    Sign,
    /// A text, with its quotes gone.
    Text,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }

    pub fn is_text(&self) -> bool {
        self.kind == Kind::Text
    }
}

/// Cuts source into tokens; comments, characters and lifetimes are left out.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut cutter = Cutter { chars: &chars, at: 0, line: 1, tokens: vec![] };
    while cutter.at < chars.len() {
        cutter.cut();
    }
    cutter.tokens
}

struct Cutter<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Cutter<'_> {
    fn cut(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.skip(self.distance(0, |c| c == '\n')),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.text(None),
            ('\'', _) => self.character_or_lifetime(),
            (':', ':') => self.push(Kind::Sign, 2),
            (c, _) if c.is_whitespace() => self.skip(1),
            (c, _) if is_of_word(c) => self.word(),
            _ => self.push(Kind::Sign, 1),
        }
    }

    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// How far ahead the first character is, `start` or more away, that `ends` something.
    fn distance(&self, start: usize, ends: impl Fn(char) -> bool) -> usize {
        let rest = self.chars.get(self.at + start..).unwrap_or_default();
        start + rest.iter().position(|&c| ends(c)).unwrap_or(rest.len())
    }

    fn take(&mut self, count: usize) -> String {
        let end = self.chars.len().min(self.at + count);
        let taken: String = self.chars[self.at..end].iter().collect();
        self.line += taken.matches('\n').count();
        self.at = end;
        taken
    }

    fn skip(&mut self, count: usize) {
        drop(self.take(count));
    }

    fn push(&mut self, kind: Kind, count: usize) {
        let line = self.line;
        let text = self.take(count);
        self.tokens.push(Token { kind, text, line });
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.skip(1);
                    continue;
                }
            }
            self.skip(2);
            if depth == 0 {
                return;
            }
        }
    }

    /// Begins at the opening quote. A raw text has no escapes, and ends with as many hashes as it began.
    fn text(&mut self, hashes: Option<usize>) {
        let line = self.line;
        self.skip(1);
        let closing = hashes.unwrap_or(0);
        let mut text = String::new();
        while self.at < self.chars.len()
            && (self.peek(0) != '"' || (1..=closing).any(|ahead| self.peek(ahead) != '#'))
        {
            let is_escape = hashes.is_none() && self.peek(0) == '\\';
            text += &self.take(if is_escape { 2 } else { 1 });
        }
        self.skip(1 + closing);
        self.tokens.push(Token { kind: Kind::Text, text, line });
    }

    fn character_or_lifetime(&mut self) {
        self.skip(match (self.peek(1), self.peek(2)) {
            ('\\', _) => self.distance(3, |c| c == '\'') + 1,
            (_, '\'') => 3,
            _ => self.distance(1, |c| !is_of_word(c)),
        });
    }

    fn word(&mut self) {
        let len = self.distance(0, |c| !is_of_word(c));
        let quote = self.distance(len, |c| c != '#');
        let word: String = self.chars[self.at..self.at + len].iter().collect();
        match (word.as_str(), self.peek(len), self.peek(quote)) {
            ("r" | "br" | "cr", _, '"') => {
                self.skip(quote);
                self.text(Some(quote - len));
            }
            ("b" | "c", '"', _) => {
                self.skip(len);
                self.text(None);
            }
            ("b", '\'', _) => {
                self.skip(len);
                self.character_or_lifetime();
            }
            ("r", '#', _) => self.skip(quote),
            _ => self.push(Kind::Word, len),
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Leaves out every item that is only there for `cfg(test)`.
pub fn shipped(tokens: &[Token]) -> Vec<Token> {
    const TEST_ONLY: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut left = vec![];
    let mut at = 0;
    while at < tokens.len() {
        if TEST_ONLY.iter().enumerate().all(|(n, text)| tokens.get(at + n).is_some_and(|it| it.is(text))) {
            at = end_of_item(tokens, at + TEST_ONLY.len());
        } else {
            left.push(tokens[at].clone());
            at += 1;
        }
    }
    left
}

/// Behind the semicolon or the closing brace that ends the item.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            _ if token.is_text() => {}
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// A path as it is used: its tree unfolded, `self` and `super` resolved.
#[derive(Debug)]
pub struct Path {
    /// Begins with `crate`, if it is of this crate. What other line brought the first name into scope is not known.
    pub segments: Vec<String>,
    pub line: usize,
}

/// Every path of a file that is the module `file`, in order.
pub fn paths(file: &[&str], tokens: &[Token]) -> Vec<Path> {
    let mut paths = vec![];
    // The inline modules that we are in, each with the depth of braces that it ends at.
    let (mut inline, mut depth): (Vec<(String, usize)>, usize) = (vec![], 0);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if token.is("mod") && tokens.get(at + 2).is_some_and(|it| it.is("{")) {
            inline.push((tokens[at + 1].text.clone(), depth));
        } else if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth = depth.saturating_sub(1);
            inline.pop_if(|(_, began)| *began == depth);
        } else if begins_path(tokens, at) {
            let mut found = vec![];
            at = unfold(tokens, at, &[], &mut found);
            let module: Vec<_> = file.iter().copied().chain(inline.iter().map(|(name, _)| &**name)).collect();
            paths.extend(
                found.into_iter().map(|it| Path { segments: resolved(&module, it), line: token.line }),
            );
            continue;
        }
        at += 1;
    }
    paths
}

fn begins_path(tokens: &[Token], at: usize) -> bool {
    let is = |at: Option<usize>, text| at.and_then(|at| tokens.get(at)).is_some_and(|it| it.is(text));
    let before = at.checked_sub(1);
    if tokens[at].kind != Kind::Word || is(before, ".") {
        return false;
    }
    if is(before, "::") {
        // Only what no name or type precedes: `::std::fs`, not the `fs` of `std::fs`.
        let further = at.checked_sub(2).map(|at| &tokens[at]);
        let is_root = |it: &Token| it.is("use") || (it.kind == Kind::Sign && !it.is(">") && !it.is("]"));
        return further.is_none_or(is_root) && is(Some(at + 1), "::");
    }
    is(Some(at + 1), "::") || is(before, "use")
}

/// Unfolds the tree that begins at `at`; returns where it ends.
fn unfold(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at) {
            Some(token) if token.is("{") => return unfold_group(tokens, at + 1, &path, found),
            Some(token) if token.kind == Kind::Word || token.is("*") => path.push(token.text.clone()),
            _ => break,
        }
        at += 1;
        if !tokens.get(at).is_some_and(|it| it.is("::")) {
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

fn unfold_group(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    while let Some(token) = tokens.get(at) {
        if token.is("}") {
            return at + 1;
        }
        if token.is(",") || token.is("::") {
            at += 1;
        } else if token.is("as") {
            at += 2;
        } else {
            at = unfold(tokens, at, before, found).max(at + 1);
        }
    }
    at
}

fn resolved(module: &[&str], mut path: Vec<String>) -> Vec<String> {
    path.pop_if(|last| last == "self");
    let up = path.iter().take_while(|it| *it == "super" || *it == "self").filter(|it| *it == "super").count();
    let is_relative = path.first().is_some_and(|it| it == "super" || it == "self");
    if path.first().is_some_and(|it| it == "core" || it == "alloc") {
        path[0] = "std".to_owned();
    }
    if !is_relative {
        return path;
    }
    let stay = module.len().saturating_sub(up);
    let rest = path.into_iter().skip_while(|it| it == "super" || it == "self");
    std::iter::once("crate".to_owned())
        .chain(module[..stay].iter().map(|&it| it.to_owned()))
        .chain(rest)
        .collect()
}
