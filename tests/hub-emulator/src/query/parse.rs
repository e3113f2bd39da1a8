//! Text to syntax tree, by recursive descent. Not evaluation. Called through `query`.

use std::iter::Peekable;
use std::vec::IntoIter;

use serde_json::{Value, json};

use super::check::check;
use super::lex::{Token, bad, tokens};
use super::{Aggregate, Column, Columns, Expr, Function, Op, Path, Projection, Query, Source};
use crate::error::Error;

/// Nesting beyond this is refused, so that no query can exhaust the stack.
const DEPTH_LIMIT: usize = 64;

/// Parses a whole query.
pub(crate) fn query(text: &str) -> Result<Query, Error> {
    let mut parser = Parser::new(text)?;
    let mut query = parser.query()?;
    parser.end()?;
    query.text = text.to_owned();
    check(&query)?;
    Ok(query)
}

/// Parses a condition as it stands behind WHERE, such as a configuration's target condition. `FROM devices.modules`
/// may stand before it, with WHERE or without a condition at all.
pub(super) fn condition(text: &str) -> Result<(Source, Option<Expr>), Error> {
    let mut parser = Parser::new(text)?;
    let mut source = Source::Devices;
    let mut filter = None;
    if parser.word("FROM") {
        source = parser.source()?;
        if parser.word("WHERE") {
            filter = Some(parser.expr(0)?);
        }
    } else {
        filter = Some(parser.expr(0)?);
    }
    parser.end()?;
    if let Some(expr) = &mut filter {
        walk(expr, &|path| parser.strip(path, source));
    }
    Ok((source, filter))
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
    /// A name given to the source (`FROM devices AS d`), which paths may start with.
    prefixes: Vec<String>,
    depth: usize,
}

impl Parser {
    fn new(text: &str) -> Result<Parser, Error> {
        let tokens = tokens(text)?.into_iter().peekable();
        Ok(Parser { tokens, prefixes: vec!["devices".to_owned()], depth: 0 })
    }

    fn query(&mut self) -> Result<Query, Error> {
        self.need_word("SELECT")?;
        if self.next_is_word("DISTINCT") {
            return Err(bad("there is no DISTINCT in a hub's queries; GROUP BY does as much"));
        }
        let top = if self.word("TOP") { Some(self.count()?) } else { None };
        let columns = self.columns()?;
        self.need_word("FROM")?;
        let source = self.source()?;
        let filter = if self.word("WHERE") { Some(self.expr(0)?) } else { None };
        let mut group_by = Vec::new();
        if self.word("GROUP") {
            self.need_word("BY")?;
            group_by.push(self.path()?);
            while self.sign(",") {
                group_by.push(self.path()?);
            }
        }
        let mut query = Query { text: String::new(), columns, top, source, filter, group_by };
        self.strip_prefixes(&mut query);
        Ok(query)
    }

    fn columns(&mut self) -> Result<Columns, Error> {
        if self.sign("*") {
            return Ok(Columns::All);
        }
        let mut columns = vec![self.column()?];
        while self.sign(",") {
            columns.push(self.column()?);
        }
        Ok(Columns::Some(columns))
    }

    fn column(&mut self) -> Result<Column, Error> {
        let what = match self.aggregate() {
            Some(aggregate) => {
                self.need_sign("(")?;
                let argument = if matches!(self.tokens.peek(), Some(Token::Sign(")" | "*"))) {
                    self.sign("*");
                    None
                } else {
                    Some(self.expr(0)?)
                };
                self.need_sign(")")?;
                if argument.is_none() && aggregate != Aggregate::Count {
                    return Err(bad("only COUNT works without an argument"));
                }
                Projection::Aggregate(aggregate, argument)
            }
            None => Projection::Value(self.expr(0)?),
        };
        let alias = if self.word("AS") { Some(self.name()?) } else { None };
        Ok(Column { what, alias })
    }

    fn aggregate(&mut self) -> Option<Aggregate> {
        let known = [
            ("AVG", Aggregate::Avg),
            ("COUNT", Aggregate::Count),
            ("MAX", Aggregate::Max),
            ("MIN", Aggregate::Min),
            ("SUM", Aggregate::Sum),
        ];
        known.into_iter().find(|(name, _)| self.word(name)).map(|(_, aggregate)| aggregate)
    }

    fn source(&mut self) -> Result<Source, Error> {
        let name = self.path()?.join(".");
        let source = match name.to_ascii_lowercase().as_str() {
            "devices" => Source::Devices,
            "devices.modules" => Source::Modules,
            "devices.jobs" => Source::Jobs,
            _ => return Err(bad(format!("there is no collection {name}"))),
        };
        self.refuse_foreign_words()?;
        let keyword = ["WHERE", "GROUP"].iter().any(|word| self.next_is_word(word));
        let named = self.word("AS") || (!keyword && matches!(self.tokens.peek(), Some(Token::Word(_))));
        if named {
            let alias = self.name()?;
            self.prefixes.push(alias);
        }
        Ok(source)
    }

    /// Paths may begin with the collection's name, which is known only after the columns were read.
    fn strip_prefixes(&self, query: &mut Query) {
        let source = query.source;
        let strip = |path: &mut Path| self.strip(path, source);
        if let Columns::Some(columns) = &mut query.columns {
            for column in columns {
                match &mut column.what {
                    Projection::Value(expr) | Projection::Aggregate(_, Some(expr)) => walk(expr, &strip),
                    Projection::Aggregate(_, None) => {}
                }
            }
        }
        if let Some(filter) = &mut query.filter {
            walk(filter, &strip);
        }
        query.group_by.iter_mut().for_each(strip);
    }

    fn strip(&self, path: &mut Path, source: Source) {
        if path.len() > 1 && self.prefixes.contains(&path[0]) {
            path.remove(0);
            let inner = match source {
                Source::Devices => return,
                Source::Modules => "modules",
                Source::Jobs => "jobs",
            };
            if path.len() > 1 && path[0] == inner {
                path.remove(0);
            }
        }
    }

    /// Precedence climbing; `least` is the weakest binding that may be taken here.
    fn expr(&mut self, least: u8) -> Result<Expr, Error> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(bad("it is nested too deeply"));
        }
        let mut left = if self.word("NOT") {
            Expr::Not(Box::new(self.expr(3)?))
        } else if self.sign("-") {
            Expr::Negate(Box::new(self.expr(6)?))
        } else {
            self.atom()?
        };
        while let Some((op, strength)) = self.peek_op().filter(|(_, strength)| *strength >= least) {
            self.tokens.next();
            let right = match op {
                Op::In | Op::NotIn => self.list()?,
                Op::Or | Op::And | Op::Equal | Op::NotEqual | Op::Less | Op::LessOrEqual | Op::Greater => {
                    self.expr(strength + 1)?
                }
                Op::GreaterOrEqual | Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Modulo => {
                    self.expr(strength + 1)?
                }
            };
            left = Expr::Binary(Box::new(left), op, Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    // What may follow an operand.
    fn peek_op(&mut self) -> Option<(Op, u8)> {
        match self.tokens.peek()? {
            Token::Sign(sign) => Some(match *sign {
                "=" => (Op::Equal, 3),
                "!=" | "<>" => (Op::NotEqual, 3),
                "<" => (Op::Less, 3),
                "<=" => (Op::LessOrEqual, 3),
                ">" => (Op::Greater, 3),
                ">=" => (Op::GreaterOrEqual, 3),
                "+" => (Op::Add, 4),
                "-" => (Op::Subtract, 4),
                "*" => (Op::Multiply, 5),
                "/" => (Op::Divide, 5),
                "%" => (Op::Modulo, 5),
                _ => return None,
            }),
            Token::Word(word) => Some(match word.to_ascii_uppercase().as_str() {
                "OR" => (Op::Or, 1),
                "AND" => (Op::And, 2),
                "IN" => (Op::In, 3),
                "NIN" => (Op::NotIn, 3),
                _ => return None,
            }),
            Token::Quoted(_) | Token::Text(_) | Token::Number(_) => None,
        }
    }

    fn atom(&mut self) -> Result<Expr, Error> {
        if self.sign("(") {
            let inner = self.expr(0)?;
            self.need_sign(")")?;
            return Ok(inner);
        }
        if matches!(self.tokens.peek(), Some(Token::Sign("["))) {
            return self.list();
        }
        for (word, value) in [("true", json!(true)), ("false", json!(false)), ("null", Value::Null)] {
            if self.word(word) {
                return Ok(Expr::Literal(value));
            }
        }
        if let Some(Token::Text(text)) = self.tokens.next_if(|token| matches!(token, Token::Text(_))) {
            return Ok(Expr::Literal(json!(text)));
        }
        if let Some(Token::Number(value)) = self.tokens.next_if(|token| matches!(token, Token::Number(_))) {
            return Ok(Expr::Literal(value));
        }
        let path = self.path()?;
        if path.len() == 1 && self.sign("(") {
            return self.call(&path[0]);
        }
        Ok(Expr::Path(path))
    }

    fn call(&mut self, name: &str) -> Result<Expr, Error> {
        let function = match name.to_ascii_uppercase().as_str() {
            "CONTAINS" => Function::Contains,
            "ENDSWITH" | "ENDS_WITH" => Function::EndsWith,
            "IS_ARRAY" => Function::IsArray,
            "IS_BOOL" => Function::IsBool,
            "IS_DEFINED" => Function::IsDefined,
            "IS_NULL" => Function::IsNull,
            "IS_NUMBER" => Function::IsNumber,
            "IS_OBJECT" => Function::IsObject,
            "IS_PRIMITIVE" => Function::IsPrimitive,
            "IS_STRING" => Function::IsString,
            "STARTSWITH" | "STARTS_WITH" => Function::StartsWith,
            _ => return Err(bad(format!("there is no function {name}"))),
        };
        let mut arguments = vec![self.expr(0)?];
        while self.sign(",") {
            arguments.push(self.expr(0)?);
        }
        self.need_sign(")")?;
        let two = matches!(function, Function::Contains | Function::EndsWith | Function::StartsWith);
        if arguments.len() != if two { 2 } else { 1 } {
            return Err(bad(format!("{name} has {} arguments", arguments.len())));
        }
        Ok(Expr::Call(function, arguments))
    }

    fn list(&mut self) -> Result<Expr, Error> {
        self.need_sign("[")?;
        let mut items = Vec::new();
        while !self.sign("]") {
            if !items.is_empty() {
                self.need_sign(",")?;
            }
            items.push(self.expr(0)?);
        }
        Ok(Expr::List(items))
    }

    fn path(&mut self) -> Result<Path, Error> {
        let mut path = vec![self.name()?];
        loop {
            if self.sign(".") {
                path.push(self.name()?);
            } else if let Some(Token::Quoted(key)) =
                self.tokens.next_if(|token| matches!(token, Token::Quoted(_)))
            {
                path.push(key);
            } else {
                return Ok(path);
            }
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.tokens.next() {
            Some(Token::Word(name) | Token::Quoted(name)) => Ok(name),
            Some(found) => Err(bad(format!("a name is missing before {found}"))),
            None => Err(bad("a name or a value is missing at the end")),
        }
    }

    fn count(&mut self) -> Result<usize, Error> {
        let number = self.tokens.next_if(|token| matches!(token, Token::Number(_)));
        match number {
            Some(Token::Number(value)) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
            Some(_) | None => None,
        }
        .ok_or_else(|| bad("TOP wants a whole number"))
    }

    fn end(&mut self) -> Result<(), Error> {
        self.refuse_foreign_words()?;
        match self.tokens.next() {
            None => Ok(()),
            Some(found) => Err(bad(format!("it should have ended before {found}"))),
        }
    }

    /// What other languages of this kind have and the hub's has not.
    fn refuse_foreign_words(&mut self) -> Result<(), Error> {
        let words = ["BETWEEN", "HAVING", "JOIN", "LIKE", "LIMIT", "OFFSET", "ORDER", "UNION"];
        match words.iter().find(|word| self.next_is_word(word)) {
            Some(word) => Err(bad(format!("there is no {word} in a hub's queries"))),
            None => Ok(()),
        }
    }

    fn next_is_word(&mut self, word: &str) -> bool {
        matches!(self.tokens.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.next_is_word(word);
        if found {
            self.tokens.next();
        }
        found
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Sign(found) if *found == sign)).is_some()
    }

    fn need_word(&mut self, word: &str) -> Result<(), Error> {
        if self.word(word) { Ok(()) } else { Err(bad(format!("{word} is missing"))) }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), Error> {
        if self.sign(sign) { Ok(()) } else { Err(bad(format!("'{sign}' is missing"))) }
    }
}

fn walk(expr: &mut Expr, strip: &impl Fn(&mut Path)) {
    match expr {
        Expr::Path(path) => strip(path),
        Expr::Not(inner) | Expr::Negate(inner) => walk(inner, strip),
        Expr::Binary(left, _, right) => {
            walk(left, strip);
            walk(right, strip);
        }
        Expr::List(items) | Expr::Call(_, items) => items.iter_mut().for_each(|item| walk(item, strip)),
        Expr::Literal(_) => {}
    }
}
