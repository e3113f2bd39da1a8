//! Queries that are well written and still not asked of a hub. Called by `parse`.

use super::lex::bad;
use super::{Columns, Expr, Projection, Query, Source};
use crate::error::Error;

/// Refuses what the hub refuses: columns of jobs, and columns that a group has many of.
pub(super) fn check(query: &Query) -> Result<(), Error> {
    let Columns::Some(columns) = &query.columns else {
        if query.group_by.is_empty() {
            return Ok(());
        }
        return Err(bad("SELECT * does not go with GROUP BY: name the grouped columns and aggregates"));
    };
    if query.source == Source::Jobs {
        return Err(bad("devices.jobs can only be asked for SELECT *, with conditions"));
    }
    let grouped = !query.group_by.is_empty();
    let aggregated = columns.iter().any(|column| matches!(column.what, Projection::Aggregate(_, _)));
    for column in columns {
        let Projection::Value(expr) = &column.what else { continue };
        let in_group = matches!(expr, Expr::Path(path) if query.group_by.contains(path));
        if (grouped || aggregated) && !in_group {
            return Err(bad("a column beside an aggregate or GROUP BY must itself be in GROUP BY"));
        }
    }
    Ok(())
}
