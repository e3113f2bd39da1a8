//! The hub's SQL-like query language: text to [`Query`], and a query over documents to rows. Not paging, which is
//! REST's. Called by `rest` for `/devices/query` and by `configurations` for target conditions and metrics.
//!
//! Source: "IoT Hub query language". Not here: user functions, geography, and sub-queries, which the hub has not
//! either.

mod check;
mod condition;
mod eval;
mod lex;
mod parse;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

pub(crate) use condition::Condition;
pub(crate) use eval::run;
pub(crate) use parse::query;

/// A whole `SELECT`. Written down as its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) columns: Columns,
    pub(crate) top: Option<usize>,
    pub(crate) source: Source,
    pub(crate) filter: Option<Expr>,
    pub(crate) group_by: Vec<Path>,
}

impl Query {
    /// Whether each row is one document's: nothing is counted together, and nothing is left out behind some number.
    pub(crate) fn is_of_single_rows(&self) -> bool {
        let single = match &self.columns {
            Columns::All => true,
            Columns::Some(columns) => {
                columns.iter().all(|column| matches!(column.what, Projection::Value(_)))
            }
        };
        single && self.group_by.is_empty() && self.top.is_none()
    }
}

impl TryFrom<String> for Query {
    type Error = Error;

    fn try_from(text: String) -> Result<Query, Error> {
        query(&text)
    }
}

impl From<Query> for String {
    fn from(query: Query) -> String {
        query.text
    }
}

/// The collection asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Device twins.
    Devices,
    /// Module twins.
    Modules,
    /// Children of scheduled jobs.
    Jobs,
}

#[derive(Clone, Debug)]
pub(crate) enum Columns {
    /// `*`: whole twins.
    All,
    Some(Vec<Column>),
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) what: Projection,
    /// The name in the row; none leaves a path its last segment.
    pub(crate) alias: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Projection {
    Value(Expr),
    /// `COUNT()` counts rows; the others need an argument.
    Aggregate(Aggregate, Option<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Avg,
    Count,
    Max,
    Min,
    Sum,
}

/// Keys from the root of a document downwards.
pub(crate) type Path = Vec<String>;

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Value),
    Path(Path),
    List(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Box<Expr>, Op, Box<Expr>),
    Call(Function, Vec<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Contains,
    EndsWith,
    IsArray,
    IsBool,
    IsDefined,
    IsNull,
    IsNumber,
    IsObject,
    IsPrimitive,
    IsString,
    StartsWith,
}

#[cfg(test)]
mod tests;
