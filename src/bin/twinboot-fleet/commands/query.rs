//! `query`: whatever the hub's own language can ask, a JSON object a line.

use crate::arguments;
use crate::failure::{Exit, Outcome};
use crate::hub::Hub;
use crate::show::{as_text, say};

/// Asks and prints.
pub(super) async fn ask(hub: &Hub, wanted: &arguments::Query) -> Outcome<Exit> {
    let mut rows = hub.query(&wanted.text, wanted.limit);
    while let Some(row) = rows.next().await? {
        say(&as_text(&row))?;
    }
    Ok(Exit::Done)
}
