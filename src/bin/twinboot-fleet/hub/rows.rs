//! A query's rows, as they come: one page is held and no more, however many devices there are.

use std::vec::IntoIter;

use serde_json::{Value, json};

use super::{Call, Hub, Kind, Method};
use crate::failure::{Failure, Outcome};

/// The most that the hub gives at once.
const PAGE: u64 = 100;
/// Pages without a row in a row: the hub may give such, but not for ever.
const EMPTY_PAGES: u32 = 1000;

/// The rows of one query, or of a list of jobs.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    hub: &'a Hub,
    call: Call,
    page: IntoIter<Value>,
    continuation: Option<String>,
    begun: bool,
    left: Option<u64>,
}

impl Hub {
    /// Asks a query; no more than `limit` rows of it if there is one.
    pub(crate) fn query(&self, text: &str, limit: Option<u64>) -> Rows<'_> {
        let call = Call::new(Method::POST, Kind::Query, "/devices/query").body(json!({"query": text}));
        self.rows(call.repeatable(), limit)
    }

    /// Pages of whatever `call` asks for.
    pub(super) fn rows(&self, call: Call, limit: Option<u64>) -> Rows<'_> {
        let page = Vec::new().into_iter();
        Rows { hub: self, call, page, continuation: None, begun: false, left: limit }
    }

    /// All rows of a query of which there cannot be many.
    ///
    /// # Errors
    /// As for [`Rows::next`].
    pub(crate) async fn few(&self, text: &str, limit: u64) -> Outcome<Vec<Value>> {
        let mut rows = self.query(text, Some(limit));
        let mut all = Vec::new();
        while let Some(row) = rows.next().await? {
            all.push(row);
        }
        Ok(all)
    }

    /// The number that a query counts: `FROM devices …`.
    ///
    /// # Errors
    /// As for [`Rows::next`].
    pub(crate) async fn count(&self, from: &str) -> Outcome<u64> {
        let rows = self.few(&format!("SELECT COUNT() AS number {from}"), 1).await?;
        Ok(rows.first().and_then(|row| row["number"].as_u64()).unwrap_or(0))
    }
}

impl Rows<'_> {
    /// The next row; none at the end.
    ///
    /// # Errors
    /// If the hub does not answer, or refuses the query.
    pub(crate) async fn next(&mut self) -> Outcome<Option<Value>> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let mut empty = 0;
        loop {
            if let Some(row) = self.page.next() {
                self.left = self.left.map(|left| left - 1);
                return Ok(Some(row));
            }
            if self.begun && self.continuation.is_none() {
                return Ok(None);
            }
            if empty > EMPTY_PAGES {
                return Err(Failure::failed("the hub goes on with pages that hold nothing"));
            }
            empty += 1;
            self.turn().await?;
        }
    }

    /// Whether all that was fetched so far has been given: the moment to print a page.
    pub(crate) fn is_page_end(&self) -> bool {
        self.page.len() == 0
    }

    async fn turn(&mut self) -> Outcome {
        let size = self.left.unwrap_or(PAGE).min(PAGE);
        let mut call = self.call.clone().header("x-ms-max-item-count", size.to_string());
        if let Some(continuation) = &self.continuation {
            call = call.header("x-ms-continuation", continuation.as_str());
        }
        let answer = self.hub.ask(&call).await?;
        let continuation =
            answer.header("x-ms-continuation").filter(|token| !token.is_empty()).map(str::to_owned);
        let Value::Array(rows) = answer.granted()? else {
            return Err(Failure::failed("the hub answers a query with something that is no list"));
        };
        (self.page, self.continuation, self.begun) = (rows.into_iter(), continuation, true);
        Ok(())
    }
}
