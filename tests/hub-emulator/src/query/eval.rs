//! A query over documents. Not the reading of text. Called through `query`.
//!
//! What is not there is *undefined*: it compares with nothing, not even with "not equal", and a WHERE needs a clear
//! yes. So `tags.a != 'x'` leaves out devices without the tag, as the hub does.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{Aggregate, Column, Columns, Expr, Function, Op, Projection, Query};

/// Whether a condition is true of a document.
pub(crate) fn matches(condition: &Expr, document: &Value) -> bool {
    eval(condition, document) == Some(json!(true))
}

/// The rows of a query over these documents.
pub(crate) fn run(query: &Query, documents: Vec<Value>) -> Vec<Value> {
    let wanted = documents.into_iter().filter(|row| query.filter.as_ref().is_none_or(|f| matches(f, row)));
    let rows = match &query.columns {
        Columns::All => wanted.collect(),
        Columns::Some(columns) if grouped(query, columns) => groups(query, columns, wanted.collect()),
        Columns::Some(columns) => wanted.map(|row| project(columns, std::slice::from_ref(&row))).collect(),
    };
    let top = query.top.unwrap_or(usize::MAX);
    rows.into_iter().take(top).collect()
}

fn grouped(query: &Query, columns: &[Column]) -> bool {
    !query.group_by.is_empty()
        || columns.iter().any(|column| matches!(column.what, Projection::Aggregate(_, _)))
}

fn groups(query: &Query, columns: &[Column], rows: Vec<Value>) -> Vec<Value> {
    if query.group_by.is_empty() {
        return vec![project(columns, &rows)];
    }
    let mut groups: Vec<(Vec<Option<Value>>, Vec<Value>)> = Vec::new();
    for row in rows {
        let key: Vec<_> = query.group_by.iter().map(|path| lookup(path, &row)).collect();
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(row),
            None => groups.push((key, vec![row])),
        }
    }
    groups.iter().map(|(_, members)| project(columns, members)).collect()
}

/// One row of the answer from the documents that it stands for. Undefined columns are left out.
fn project(columns: &[Column], members: &[Value]) -> Value {
    let mut out = Map::new();
    for (index, column) in columns.iter().enumerate() {
        let value = match &column.what {
            Projection::Value(expr) => members.first().and_then(|first| eval(expr, first)),
            Projection::Aggregate(aggregate, argument) => fold(*aggregate, argument.as_ref(), members),
        };
        if let Some(value) = value {
            out.insert(name(column, index), value);
        }
    }
    Value::Object(out)
}

fn name(column: &Column, index: usize) -> String {
    let last = match &column.what {
        Projection::Value(Expr::Path(path)) => path.last().cloned(),
        Projection::Value(_) | Projection::Aggregate(_, _) => None,
    };
    column.alias.clone().or(last).unwrap_or_else(|| format!("${}", index + 1))
}

fn fold(aggregate: Aggregate, argument: Option<&Expr>, members: &[Value]) -> Option<Value> {
    let Some(argument) = argument else { return Some(json!(members.len())) };
    let values: Vec<Value> = members.iter().filter_map(|row| eval(argument, row)).collect();
    let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
    match aggregate {
        Aggregate::Count => Some(json!(values.len())),
        Aggregate::Sum => Some(number(numbers.iter().sum())),
        Aggregate::Avg if numbers.is_empty() => None,
        Aggregate::Avg => Some(number(numbers.iter().sum::<f64>() / numbers.len() as f64)),
        Aggregate::Min => numbers.iter().copied().reduce(f64::min).map(number),
        Aggregate::Max => numbers.iter().copied().reduce(f64::max).map(number),
    }
}

/// None is undefined.
fn eval(expr: &Expr, row: &Value) -> Option<Value> {
    match expr {
        Expr::Literal(value) => Some(value.clone()),
        Expr::Path(path) => lookup(path, row),
        Expr::List(items) => {
            items.iter().map(|item| eval(item, row)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Expr::Not(inner) => eval(inner, row)?.as_bool().map(|yes| json!(!yes)),
        Expr::Negate(inner) => eval(inner, row)?.as_f64().map(|n| number(-n)),
        Expr::Binary(left, op, right) => binary(left, *op, right, row),
        Expr::Call(function, arguments) => call(*function, arguments, row),
    }
}

fn lookup(path: &[String], row: &Value) -> Option<Value> {
    path.iter().try_fold(row, |node, key| node.get(key)).cloned()
}

fn binary(left: &Expr, op: Op, right: &Expr, row: &Value) -> Option<Value> {
    let (left, right) = (eval(left, row), eval(right, row));
    let yes = |value: &Option<Value>| value.as_ref().and_then(Value::as_bool);
    match op {
        Op::And => match (yes(&left), yes(&right)) {
            (Some(false), _) | (_, Some(false)) => Some(json!(false)),
            (Some(true), Some(true)) => Some(json!(true)),
            (Some(true) | None, None) | (None, Some(true)) => None,
        },
        Op::Or => match (yes(&left), yes(&right)) {
            (Some(true), _) | (_, Some(true)) => Some(json!(true)),
            (Some(false), Some(false)) => Some(json!(false)),
            (Some(false) | None, None) | (None, Some(false)) => None,
        },
        Op::Equal => Some(json!(compare(&left?, &right?)? == Ordering::Equal)),
        Op::NotEqual => Some(json!(compare(&left?, &right?)? != Ordering::Equal)),
        Op::Less => Some(json!(compare(&left?, &right?)? == Ordering::Less)),
        Op::LessOrEqual => Some(json!(compare(&left?, &right?)? != Ordering::Greater)),
        Op::Greater => Some(json!(compare(&left?, &right?)? == Ordering::Greater)),
        Op::GreaterOrEqual => Some(json!(compare(&left?, &right?)? != Ordering::Less)),
        Op::In => Some(json!(contains(&right?, &left?)?)),
        Op::NotIn => Some(json!(!contains(&right?, &left?)?)),
        Op::Add => arithmetic(left?, right?, |a, b| a + b),
        Op::Subtract => arithmetic(left?, right?, |a, b| a - b),
        Op::Multiply => arithmetic(left?, right?, |a, b| a * b),
        Op::Divide => arithmetic(left?, right?, |a, b| a / b),
        Op::Modulo => arithmetic(left?, right?, |a, b| a % b),
    }
}

/// Order of two values of the same kind; different kinds do not compare.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        // Objects and arrays are equal or not; there is no more order to them than that.
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) if left == right => {
            Some(Ordering::Equal)
        }
        (_, _) => None,
    }
}

fn contains(list: &Value, wanted: &Value) -> Option<bool> {
    Some(list.as_array()?.iter().any(|item| compare(item, wanted) == Some(Ordering::Equal)))
}

fn arithmetic(left: Value, right: Value, operation: impl Fn(f64, f64) -> f64) -> Option<Value> {
    let result = operation(left.as_f64()?, right.as_f64()?);
    result.is_finite().then(|| number(result))
}

/// Whole numbers are shown without a decimal point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

fn call(function: Function, arguments: &[Expr], row: &Value) -> Option<Value> {
    let first = arguments.first().and_then(|expr| eval(expr, row));
    let is = |test: fn(&Value) -> bool| Some(json!(first.as_ref().is_some_and(test)));
    match function {
        Function::IsDefined => is(|_| true),
        Function::IsArray => is(Value::is_array),
        Function::IsBool => is(Value::is_boolean),
        Function::IsNull => is(Value::is_null),
        Function::IsNumber => is(Value::is_number),
        Function::IsObject => is(Value::is_object),
        Function::IsPrimitive => is(|value| !value.is_object() && !value.is_array()),
        Function::IsString => is(Value::is_string),
        Function::Contains => texts(first, arguments, row, |text, part| text.contains(part)),
        Function::EndsWith => texts(first, arguments, row, |text, part| text.ends_with(part)),
        Function::StartsWith => texts(first, arguments, row, |text, part| text.starts_with(part)),
    }
}

fn texts(
    first: Option<Value>,
    arguments: &[Expr],
    row: &Value,
    test: fn(&str, &str) -> bool,
) -> Option<Value> {
    let (text, part) = (first?, eval(arguments.get(1)?, row)?);
    Some(json!(test(text.as_str()?, part.as_str()?)))
}
